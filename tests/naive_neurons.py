"""LIF neurons with every part, dense and slow, straight from the equations: the oracle of `lif` and `dynamics`.

Float64, one dense row a step, the whole history of spikes kept: a delay is a look into the past, a refractory period a
count of the steps since the last spike, the adaptation a sum over spikes. Nothing of `spiked.learners`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class Layer:
    """One layer: weights from below ``[n_in, n]``, from itself ``[n, n]`` or None; times in steps, decays per step."""

    w_in: np.ndarray
    w_rec: np.ndarray | None
    beta: np.ndarray
    theta: float = 1.0
    to_zero: bool = False
    alpha: float = 0.0
    refractory: int = 0
    rho: float = 0.0
    jump: float = 0.0
    delays: np.ndarray | None = None


@dataclass
class Course:
    """What a layer did, ``[t, n]``; `margin` is how near a membrane came to its threshold."""

    membrane: np.ndarray
    current: np.ndarray
    adaptation: np.ndarray
    spikes: np.ndarray
    margin: float

    def heard(self, delays: np.ndarray, t: int) -> np.ndarray:
        """The spikes that arrive at step `t` in the layer above."""
        return np.array([self.spikes[t - d, j] if t - d >= 0 else 0.0 for j, d in enumerate(delays)])


def simulate(layers: list[Layer], x: np.ndarray) -> list[Course]:
    """Run a stack on ``x[t, channel]``, a layer at a time over all steps."""
    courses: list[Course] = []
    below = x
    for layer in layers:
        course = _simulate_layer(layer, below)
        courses.append(course)
        delays = layer.delays if layer.delays is not None else np.zeros(len(layer.beta), int)
        below = np.array([course.heard(delays, t) for t in range(len(x))])
    return courses


def _simulate_layer(layer: Layer, x: np.ndarray) -> Course:
    steps, n = len(x), layer.w_in.shape[1]
    delays = layer.delays if layer.delays is not None else np.zeros(n, int)
    course = Course(*(np.zeros((steps, n)) for _ in range(4)), np.inf)
    for t in range(steps):
        u, i, s = (a[t - 1] if t else np.zeros(n) for a in (course.membrane, course.current, course.spikes))
        drive = x[t] @ layer.w_in
        if layer.w_rec is not None:
            drive = drive + course.heard(delays, t - 1) @ layer.w_rec
        i = layer.alpha * i + drive
        kept = layer.beta * u * (1 - s) if layer.to_zero else layer.beta * u - layer.theta * s
        u = kept + i
        if layer.refractory:
            resting = course.spikes[max(0, t - layer.refractory) : t].sum(0) > 0
            u = np.where(resting, 0.0, u)
        b = adaptation_sum(course.spikes[:t], layer.rho, layer.jump)
        above = u - (layer.theta + b)
        course.membrane[t], course.current[t], course.adaptation[t] = u, i, b
        course.spikes[t] = above > 0
        course.margin = min(course.margin, float(np.abs(above).min()))
    return course


def adaptation_sum(spikes: np.ndarray, rho: float, jump: float) -> np.ndarray:
    """Closed form of Eq. 52 one step after ``spikes[t, n]``: ``jump sum_s rho^(t-1-s) S[s]``."""
    t = len(spikes)
    return jump * (rho ** np.arange(t - 1, -1, -1.0)) @ spikes


def second_order_response(alpha: float, beta: float, t: np.ndarray) -> np.ndarray:
    """Membrane `t` steps after a unit spike through a synaptic current: a difference of exponentials.

    ``sum_k alpha^k beta^(t-k) = (alpha^(t+1) - beta^(t+1)) / (alpha - beta)``; in the limit of equal decays
    ``(t + 1) beta^t``, the alpha kernel of Eq. 43 but for its scale.
    """
    if alpha == beta:
        return (t + 1) * beta**t
    return (alpha ** (t + 1) - beta ** (t + 1)) / (alpha - beta)


def steps_to_threshold(drive: float, beta: float, theta: float) -> int:
    """Least n with ``drive (1 - beta^n) / (1 - beta) > theta``: steps from rest at which a constant drive fires."""
    u, n = 0.0, 0
    while u <= theta:
        n += 1
        u = drive * (1 - beta**n) / (1 - beta)
        if n > 10**6:
            raise ValueError(f"a drive of {drive} never reaches {theta}")
    return n


def continuous_interval(current: float, tau: float, theta: float, t_ref: float) -> float:
    """Interval between spikes under a constant current, from Eq. 2: ``t_ref + tau ln(I / (I - theta))``."""
    return t_ref + tau * math.log(current / (current - theta))
