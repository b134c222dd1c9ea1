"""Slow oracles for gradients over a window: a stack of any LIF neurons in torch, and dense traces in NumPy.

Float64, dense, one entry a layer, nothing of `spiked.learners`. A layer is, at each step ::

    I[t] = alpha I[t-1] + W below[t] + V S[t-1]     (the current; without one, alpha is 0)
    U[t] = beta U[t-1] + I[t] - theta S[t-1]        or - beta U[t-1] S[t-1]; 0 while refractory
    b[t] = rho b[t-1] + jump S[t-1];  S[t] = U[t] > theta + b[t]

What a reset, a refractory period and a recurrent weight carry is detached; what the adaptation carries is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import naive
import numpy as np
import torch


@dataclass
class Layer:
    """`weight` is ``[rows, n]``: the rows from below, then those of the layer's own neurons; `beta` is ``[n]``."""

    weight: np.ndarray
    beta: np.ndarray
    theta: float = 1.0
    to_zero: bool = False
    alpha: float = 0.0
    hold: int = 0
    rho: float = 0.0
    jump: float = 0.0
    recurrent: bool = False

    @property
    def n(self) -> int:
        return int(self.weight.shape[1])


def surrogate(kind: str, v: np.ndarray, slope: float) -> np.ndarray:
    """As `naive.surrogate`, and the spike's own (Eq. 8) with a leak of `slope`."""
    return np.where(v > 0, 1.0, slope) if kind == "spike" else naive.surrogate(kind, v, slope)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, able, kind, slope):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(v, able)
        ctx.kind, ctx.slope = kind, slope
        return (v > 0).to(v.dtype) * able

    @staticmethod
    def backward(ctx, up):  # type: ignore[no-untyped-def]
        v, able = ctx.saved_tensors
        psi = able if ctx.kind == "one" else able * torch.as_tensor(surrogate(ctx.kind, v.numpy(), ctx.slope))
        return up * psi, None, None, None


@dataclass
class Course:
    """What a stack did, and what can be derived by: membranes and spikes ``[t, n]`` of each layer, as tensors."""

    weights: list[torch.Tensor]
    betas: list[torch.Tensor]
    membranes: list[torch.Tensor]
    spikes: list[torch.Tensor]

    def gradients(self, loss: torch.Tensor) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Derivatives of `loss` by the weights and by the decays, 0 where there is no path."""
        leaves = [*self.weights, *self.betas]
        found = torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
        arrays = [np.zeros(tuple(x.shape)) if g is None else g.numpy() for x, g in zip(leaves, found)]
        return arrays[: len(self.weights)], arrays[len(self.weights) :]


def simulate(
    layers: list[Layer], x: np.ndarray, kind: str, slope: float, last: str | None = None, apart: bool = False
) -> Course:
    """Run from rest. `last` is the surrogate of the last layer; `apart` detaches each layer from the next."""
    weights = [torch.tensor(a.weight, dtype=torch.float64, requires_grad=True) for a in layers]
    betas = [torch.tensor(a.beta, dtype=torch.float64, requires_grad=True) for a in layers]
    u, s, b, current = ([torch.zeros(a.n, dtype=torch.float64) for a in layers] for _ in range(4))
    held = [np.zeros(a.n, int) for a in layers]
    membranes: list[list[torch.Tensor]] = [[] for _ in layers]
    spikes: list[list[torch.Tensor]] = [[] for _ in layers]
    for row in torch.tensor(x, dtype=torch.float64):
        below = row
        for i, a in enumerate(layers):
            heard = torch.cat([below.detach() if apart else below, s[i].detach()]) if a.recurrent else below
            if apart:
                heard = heard.detach()
            current[i] = a.alpha * current[i] + heard @ weights[i]
            reset = (betas[i] * u[i] if a.to_zero else a.theta) * s[i]
            b[i] = a.rho * b[i] + a.jump * s[i]
            u[i] = betas[i] * u[i] - (reset.detach() if a.theta < 1e20 else 0.0) + current[i]
            able = torch.tensor((held[i] == 0).astype(float))
            u[i] = u[i] - (u[i] * (1 - able)).detach()
            s[i] = _Spike.apply(u[i] - a.theta - b[i], able, last if last and i + 1 == len(layers) else kind, slope)
            held[i] = np.where(s[i].detach().numpy() > 0, a.hold, np.maximum(held[i] - 1, 0))
            membranes[i].append(u[i])
            spikes[i].append(s[i])
            below = s[i]
    return Course(weights, betas, [torch.stack(m) for m in membranes], [torch.stack(m) for m in spikes])


def grouped(values: torch.Tensor, population: int) -> torch.Tensor:
    """Mean of the outputs of each class."""
    return values.reshape(*values.shape[:-1], -1, population).mean(-1)


def step_loss(
    objective: str, membrane: torch.Tensor, label: int, values: np.ndarray | None = None, population: int = 1
) -> torch.Tensor:
    """Loss of one step: `membrane` is ``[n_out]``."""
    if objective == "membrane_ce":
        return -torch.log_softmax(grouped(membrane, population), -1)[label]
    wanted = np.repeat(np.eye(len(membrane) // population)[label] if values is None else values[label], population)
    return ((torch.tensor(wanted, dtype=torch.float64) - membrane) ** 2).sum()


def window_loss(objective: str, gathered: torch.Tensor, label: int, steps: int, population: int = 1) -> torch.Tensor:
    """Loss of a window by the counts, maxima, sums or first times (in steps, from 1) of its outputs, ``[n_out]``."""
    right = torch.tensor(np.repeat(np.eye(len(gathered) // population)[label], population) > 0)
    if objective == "rate_mse":
        wanted = torch.where(right, torch.full_like(gathered, 0.8), torch.full_like(gathered, 0.2))
        return ((wanted * steps - gathered) ** 2).sum()
    if objective == "latency_ce":
        return -torch.log_softmax(grouped(-gathered / (0.1 * steps), population), -1)[label]
    if objective in ("spike_time_mse", "relative_time_mse"):
        f = gathered / steps
        late = torch.maximum(f, torch.full_like(f, 1 / steps + 0.1)).detach()
        wrong = late if objective == "relative_time_mse" else torch.ones_like(f)
        return ((torch.where(right, torch.full_like(f, 1 / steps), wrong) - f) ** 2).sum()
    return -torch.log_softmax(grouped(gathered, population), -1)[label]  # counts, maxima or sums


def penalty_signal(rate_hz: np.ndarray, strengths: dict[str, float]) -> np.ndarray:
    """Derivative of one layer's penalty (Eq. 39-41) by its running rates; that of L1 is by the spike itself."""
    r = torch.tensor(rate_hz, requires_grad=True)
    s = {"l1": 0.0, "upper": 0.0, "upper_hz": 50.0, "upper_power": 2, "lower": 0.0, "lower_hz": 1.0} | strengths
    above = torch.clamp(r.mean() - s["upper_hz"], min=0)
    loss = s["upper"] * above ** s["upper_power"] + s["lower"] * (torch.clamp(s["lower_hz"] - r, min=0) ** 2).mean()
    loss.backward()
    assert r.grad is not None
    return s["l1"] + r.grad.numpy()


@dataclass
class DenseGradient:
    """The learner with dense traces and every row moved at each close.

    `matrices` are those of the feedback, one a hidden layer (``local``: of each layer's own read-out).
    """

    layers: list[Layer]
    objective: str = "membrane_ce"
    kind: str = "fast_sigmoid"
    slope: float = 2.0
    feedback: str = "symmetric"
    matrices: list[np.ndarray] = field(default_factory=list)
    optimizer: str = "sgd"
    rate: float = 0.0
    population: int = 1
    least_error: float = 0.0
    penalties: dict[str, float] = field(default_factory=dict)
    step_ms: float = 1.0
    score_decay: float = 0.0

    def __post_init__(self) -> None:
        def like() -> list[np.ndarray]:
            return [np.zeros(a.weight.shape) for a in self.layers]

        def flat() -> list[np.ndarray]:
            return [np.zeros(a.n) for a in self.layers]

        self.u, self.s, self.b, self.current, self.rates = flat(), flat(), flat(), flat(), flat()
        self.held = [np.zeros(a.n, int) for a in self.layers]
        self.y = [np.zeros(len(a.weight)) for a in self.layers]
        self.m, self.q, self.k, self.average = like(), like(), like(), like()
        self.kappa = [float(a.beta.mean()) for a in self.layers[1:]]
        self.own = [np.zeros(self.layers[-1].n) for _ in self.layers[1:]]  # local read-outs
        self.reward = [0.0, 0]
        self.score = np.zeros(self.layers[-1].n)
        self.spikes: list[np.ndarray] = []
        self.margin = np.inf
        self.begin()

    def begin(self) -> None:
        self.grad = [np.zeros(a.weight.shape) for a in self.layers]
        self.labelled, self.loss = 0, 0.0
        self.counts, self.sums = np.zeros(self.layers[-1].n), np.zeros(self.layers[-1].n)

    def move(self, x: np.ndarray) -> list[np.ndarray]:
        """Dynamics and traces; returns psi of each layer."""
        below, psis = x, []
        for i, a in enumerate(self.layers):
            heard = np.concatenate([below, self.s[i]]) if a.recurrent else below
            self.current[i] = a.alpha * self.current[i] + heard @ a.weight
            reset = (a.beta * self.u[i] if a.to_zero else a.theta) * self.s[i]
            self.b[i] = a.rho * self.b[i] + a.jump * self.s[i]
            able = self.held[i] == 0
            self.u[i] = able * (a.beta * self.u[i] - np.where(self.s[i] > 0, reset, 0) + self.current[i])
            v = self.u[i] - a.theta - self.b[i]
            self.margin = min(self.margin, float(np.abs(v[able]).min(initial=np.inf)))
            self.s[i] = (v > 0) * able * 1.0
            self.held[i] = np.where(self.s[i] > 0, a.hold, np.maximum(self.held[i] - 1, 0))
            psi = able * surrogate(self.kind, v, self.slope)
            self.y[i] = a.alpha * self.y[i] + heard
            self.m[i] = a.beta * self.m[i] + self.y[i][:, None]
            self.e = getattr(self, "e", [np.zeros(0)] * len(self.layers))
            if i + 1 < len(self.layers):
                self.e[i] = psi * (self.m[i] - self.q[i])
                self.q[i] = a.rho * self.q[i] + a.jump * self.e[i]
                self.k[i] = self.kappa[i] * self.k[i] + self.e[i]
            psis.append(psi)
            below = self.s[i]
        self.spikes.append(np.concatenate(self.s))
        return psis

    def carry_down(self, error: np.ndarray, psi: list[np.ndarray]) -> list[np.ndarray]:
        """Learning signal of each hidden layer."""
        depth = len(self.layers)
        signal, credit = [error] * depth, [error] * depth
        for i in range(depth - 2, -1, -1):
            back = self.layers[i + 1].weight[: self.layers[i].n] if self.feedback == "symmetric" else self.matrices[i]
            signal[i] = back @ (error if self.feedback == "direct" else credit[i + 1])
            credit[i] = signal[i] * psi[i]
        return signal

    def error_of(self, u: np.ndarray, label: int, values: np.ndarray | None) -> np.ndarray:
        at = torch.tensor(u, requires_grad=True)
        objective = "membrane_mse" if self.objective == "membrane_mse" else "membrane_ce"
        loss = step_loss(objective, at, label, values, self.population)
        loss.backward()
        assert at.grad is not None
        self.loss += float(loss.detach())
        return at.grad.numpy()

    def step(self, x: np.ndarray, label: int = -1, close: bool = False, values: np.ndarray | None = None) -> None:
        psi, top = self.move(x), len(self.layers) - 1
        self.score = self.score_decay * self.score + (1 - self.score_decay) * self.u[top]
        keep = np.exp(-self.step_ms / 500)
        for i in range(top):
            self.rates[i] = keep * self.rates[i] + (1 - keep) * self.s[i] * 1000 / self.step_ms
            if self.feedback == "local":
                self.own[i] = self.kappa[i] * self.own[i] + self.s[i] @ self.matrices[i]
        if label >= 0:
            self.labelled += 1
            self.counts += self.s[top]
            self.sums += self.u[top]
            if self.objective in ("membrane_ce", "membrane_mse", "reward"):
                about = int(self.score.argmax()) if self.objective == "reward" else label
                error = self.error_of(self.u[top], about, values)
                error[np.abs(error) < self.least_error] = 0
                if self.feedback == "local":
                    own = [self.error_of(o, label, values) for o in self.own]
                    signal = [b @ e for b, e in zip(self.matrices, own)]
                else:
                    signal = self.carry_down(error, psi)
                for i in range(top):
                    self.grad[i] += signal[i] * self.k[i]
                    if self.penalties:
                        self.grad[i] += penalty_signal(self.rates[i], self.penalties) * self.e[i]
                self.grad[top] += self.m[top] * error
            else:  # unit signals: the error comes when the window closes
                for i in range(top):
                    self.grad[i] += self.k[i]
                self.grad[top] += self.m[top] * (1.0 if self.objective == "sum_membrane" else psi[top])
        if close:
            self.close(label, values)

    def close(self, label: int, values: np.ndarray | None = None) -> None:
        at_end = self.objective not in ("membrane_ce", "membrane_mse", "reward")
        if self.labelled and (label >= 0 or not at_end):
            gradient, loss = [g / self.labelled for g in self.grad], self.loss / self.labelled
            if at_end:
                gathered = torch.tensor(self.sums if self.objective == "sum_membrane" else self.counts)
                gathered.requires_grad_()
                total = window_loss(self.objective, gathered, label, self.labelled, self.population)
                total.backward()
                assert gathered.grad is not None
                loss = float(total.detach())
                error = gathered.grad.numpy()
                signal = self.carry_down(error, [np.ones(a.n) for a in self.layers])
                gradient = [g * s for g, s in zip(self.grad, signal)]
            if self.objective == "reward":
                got = float(values[label, 0]) if values is not None else float(self.score.argmax() == label)
                gradient = [g * (got - self.reward[0]) for g in gradient]
                self.reward[1] = min(self.reward[1] + 1, 100)
                self.reward[0] += (got - self.reward[0]) / self.reward[1]
            self.descend(gradient, loss)
        self.begin()

    def descend(self, gradient: list[np.ndarray], loss: float) -> None:
        rate = self.rate
        if self.optimizer == "bounded":
            square = sum(float((g**2).sum()) for g in gradient)
            rate = min(rate, loss / square) if square > 0 else 0.0
        for i, (a, g, v) in enumerate(zip(self.layers, gradient, self.average)):
            heard = g.any(axis=1)  # rows without an event stay as they are, averages too
            g, w, before = g[heard], a.weight[heard], a.weight[heard]
            if self.optimizer == "rms":
                v[heard] = 0.99 * v[heard] + 0.01 * g**2
                w = w - rate * g / (np.sqrt(v[heard]) + 1e-4)
            elif self.optimizer == "momentum":
                v[heard] = 0.9 * v[heard] + 0.1 * g
                w = w - rate * v[heard]
            else:
                w = w - rate * g
            if self.feedback == "adaptive" and i > 0:  # Kolen and Pollack (1994): same update, both decay
                back = self.matrices[i - 1]
                back[heard[: len(back)]] += (w - before - 0.5 * rate * back[heard[: len(back)]])[: len(back)]
                w = w - 0.5 * rate * before
            a.weight[heard] = w


def follow(dense: DenseGradient, x: np.ndarray, labels: np.ndarray, closes: np.ndarray, values=None) -> None:  # type: ignore[no-untyped-def]
    """Run a dense learner along a stream."""
    for row, label, close in zip(x, labels, closes):
        dense.step(row, int(label), bool(close), values)


def summed(course: Course, labels: np.ndarray, since: int, loss_of: Callable[[torch.Tensor, int], torch.Tensor]):  # type: ignore[no-untyped-def]
    """Sum of the losses of the labelled steps from `since` on."""
    total = torch.zeros((), dtype=torch.float64)
    for t in range(since, len(labels)):
        if labels[t] >= 0:
            total = total + loss_of(course.membranes[-1][t], int(labels[t]))
    return total
