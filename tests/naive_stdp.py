"""Slow, dense, readable oracles of STDP: NumPy float64, nothing of `spiked.learners`.

Spike trains are lists of steps, or ``x[t, channel]`` of 0 and 1. A step's inputs come before its spikes, so a pair in
one step is pre before post.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


def window(dt: np.ndarray, a_plus: float, a_minus: float, tau_plus: float, tau_minus: float) -> np.ndarray:
    """Eq. 50 over ``dt = t_pre - t_post`` (Eq. 49), with dt = 0 as pre before post."""
    return np.where(dt <= 0, a_plus * np.exp(-abs(dt) / tau_plus), a_minus * np.exp(-abs(dt) / tau_minus))


def pair_sum(pre: list[int], post: list[int], a_plus, a_minus, tau_plus, tau_minus, nearest=False) -> float:  # type: ignore[no-untyped-def]
    """Eq. 50 summed over all pairs; or each spike with the nearest earlier one of the other side."""
    if not nearest:
        dts = np.array([s - t for s in pre for t in post], float)
        return float(window(dts, a_plus, a_minus, tau_plus, tau_minus).sum()) if len(dts) else 0.0
    total = 0.0
    for t in post:
        before = [s for s in pre if s <= t]
        if before:
            total += a_plus * np.exp((max(before) - t) / tau_plus)
    for s in pre:
        before = [t for t in post if t < s]
        if before:
            total += a_minus * np.exp((max(before) - s) / tau_minus)
    return total


def triplet_sum(
    pre: list[int], post: list[int], a_plus, a_minus, tau_plus, tau_minus, a3, tau3, nearest=False
) -> float:  # type: ignore[no-untyped-def]
    """Pairs, where potentiation at a spike is times ``1 + a3 (sum over earlier spikes of exp(-age / tau3))``."""
    total = 0.0
    for t in post:
        earlier = [u for u in post if u < t]
        if nearest:
            earlier = earlier[-1:]
        o2 = sum(np.exp((u - t) / tau3) for u in earlier)
        partners = [s for s in pre if s <= t]
        if nearest and partners:
            partners = [max(partners)]
        total += sum(a_plus * (1 + a3 * o2) * np.exp((s - t) / tau_plus) for s in partners)
    return total + pair_sum(pre, post, 0.0, a_minus, tau_plus, tau_minus, nearest)


@dataclass
class DenseStdp:
    """One plastic layer, every weight at every step; keyword names are those of the specification, in steps.

    Methods are called by step: `step(x)` with the inputs' counts, then `close(modulator)` where a window ends.
    """

    weight: np.ndarray
    beta: float
    base: float
    to_zero: bool = False
    rule: str = "pair"
    nearest: bool = False
    a_plus: float = 1.0
    a_minus: float = -0.5
    tau_plus: float = 20.0
    tau_minus: float = 20.0
    a3: float = 0.0
    tau3: float = 100.0
    x_target: float = 0.3
    soft: bool = False
    w_min: float = 0.0
    w_max: float = 1.0
    mu: float = 1.0
    norm: str = "none"
    winners: int = 0
    group: int = 0
    inhibit: bool = False
    to_learn: bool = False
    theta_rise: float = 0.0
    target: float = 0.0
    theta_low: float = -0.9
    theta_high: float = 19.0
    waits: bool = False
    tau_wait: float = 500.0
    rate: float = 1.0
    spikes: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        n_in, n = self.weight.shape
        self.weight = self.weight.astype(float)
        self.there = self.weight != 0 if self.w_min > 0 else np.ones((n_in, n), bool)
        self.theta = np.zeros(n)
        self.held = self.size()
        self.wait = np.zeros((n_in, n))
        self.rest()

    def rest(self) -> None:
        n_in, n = self.weight.shape
        self.u, self.s = np.zeros(n), np.zeros(n)
        self.x, self.o, self.o2 = np.zeros(n_in), np.zeros(n), np.zeros(n)

    def size(self) -> np.ndarray:
        return np.sqrt((self.weight**2).sum(0)) if self.norm == "l2" else self.weight.sum(0)

    def move(self, change: np.ndarray) -> None:
        """Change weights within their bounds."""
        if self.soft:
            room = np.where(change > 0, self.w_max - self.weight, self.weight - self.w_min)
            change = change * np.maximum(room, 0) ** self.mu  # an absent synapse has none
        self.weight = np.where(self.there, np.clip(self.weight + change, self.w_min, self.w_max), self.weight)

    def change(self, change: np.ndarray) -> None:
        if self.waits:
            self.wait = self.wait + change
        else:
            self.move(change)

    def step(self, x: np.ndarray) -> np.ndarray:
        threshold = self.base + self.theta
        if self.to_zero:
            self.u = self.beta * self.u * (1 - self.s)
        else:
            self.u = self.beta * self.u - threshold * self.s
        self.wait = self.wait * np.exp(-1 / self.tau_wait)
        self.x = self.x * np.exp(-1 / self.tau_plus)
        self.o = self.o * np.exp(-1 / self.tau_minus)
        self.o2 = self.o2 * np.exp(-1 / self.tau3)
        event = x != 0
        self.u = self.u + x @ self.weight
        if self.rule != "prototype":
            self.change(self.rate * self.a_minus * np.outer(event, self.o))
        self.x = np.where(event, 1.0 if self.nearest else self.x + 1.0, self.x)
        self.s = self.fire(threshold)
        post = self.compete(threshold)
        if self.rule == "prototype":
            self.move(self.rate * self.a_plus * np.outer(self.x - self.x_target, post))
        else:
            a3 = self.a3 if self.rule == "triplet" else 0.0
            self.change(self.rate * self.a_plus * np.outer(self.x, post * (1 + a3 * self.o2)))
        self.o = np.where(post > 0, 1.0 if self.nearest else self.o + 1.0, self.o)
        self.o2 = np.where(post > 0, 1.0 if self.nearest else self.o2 + 1.0, self.o2)
        move = self.theta_rise * self.base * (self.s - self.target)
        if self.theta_rise:
            self.theta = np.clip(self.theta + move, self.theta_low * self.base, self.theta_high * self.base)
        self.spikes.append(self.s)
        return self.s

    def compete(self, threshold: np.ndarray) -> np.ndarray:
        """The spikes that count in pairs."""
        if not self.to_learn:
            return self.s
        n = len(threshold)
        post = np.zeros(n)
        for first in range(0, n, self.group or n):
            fired = [j for j in range(first, min(n, first + (self.group or n))) if self.s[j]]
            for j in sorted(fired, key=lambda j: threshold[j] - self.u[j])[: self.winners]:
                post[j] = 1
        return post

    def fire(self, threshold: np.ndarray) -> np.ndarray:
        n = len(threshold)
        s = np.zeros(n)
        group = self.group or n
        for first in range(0, n, group):
            mine = range(first, min(n, first + group))
            margin = {j: self.u[j] - threshold[j] for j in mine}
            above = sorted((j for j in mine if margin[j] > 0), key=lambda j: -margin[j])
            for j in above if self.to_learn else above[: self.winners or n]:
                s[j] = 1
            if self.inhibit and above:
                for j in mine:
                    self.u[j] *= s[j]
        return s

    def close(self, modulator: float | None = None) -> None:
        """A window ends; `modulator` None leaves what waits."""
        if self.waits and modulator is not None:
            self.move(modulator * self.wait)
            self.wait = np.zeros_like(self.wait)
        if self.norm != "none":
            size = self.size()
            scale = np.where(size > 0, self.held / np.where(size > 0, size, 1), 1)
            self.weight = np.where(self.there, np.clip(self.weight * scale, self.w_min, self.w_max), self.weight)


def assignment_scores(
    labels: list[int], responses: np.ndarray, x: np.ndarray, n_classes: int, soft: bool
) -> np.ndarray:
    """Scores of the classes seen, NaN for the others, from the list of all labelled responses."""
    seen = sorted(set(labels))
    mean = np.zeros((n_classes, len(x)))
    for k in seen:
        mean[k] = np.mean([r for label, r in zip(labels, responses) if label == k], axis=0)
    out = np.full(n_classes, np.nan)
    for k in seen:
        if soft:
            mine = [r for label, r in zip(labels, responses) if label == k]
            rate = (np.sum(mine, axis=0) + 0.5) / (len(mine) + 1)
            out[k] = np.sum(x * np.log(rate) - rate)
        else:
            mine = (mean.argmax(0) == k) & (mean.max(0) > 0)
            out[k] = x[mine].mean() if mine.any() else 0.0
    return out
