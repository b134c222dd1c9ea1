"""How a network does: norms, rates, what it hears; and what is wrong with it, compared with when all was good.

Weights that are not finite are wrong at any time. Weights that have grown by a factor, a layer that fires nearly all
the time, or one that has fallen silent while events come, are wrong where it was otherwise before. A network that hears
nothing may be silent.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import Steps
from spiked.service.build import AnyLearner

GROWN = 10.0
"""Growth of a layer's norm that is harm."""
SATURATED = 0.9
"""Spikes of a neuron in a step, as the mean of a layer, that are harm where they were less than half of that."""
LEAST_EVENTS = 0.1
"""Share of the usual events per step below which silence is no harm, and a window says nothing."""


class Vitals(NamedTuple):
    """How the network does, as the mean since the last look.

    Attributes
    ----------
    norms : of each layer's weights, a head of statistics last.
    rates : spikes of a neuron in a step, of each layer.
    events : active channels per step.
    """

    norms: list[float]
    rates: list[float]
    events: float


def trouble(now: Vitals, good: Vitals | None) -> str:
    """What is wrong with the network, as a reason; empty where nothing is."""
    if not all(map(math.isfinite, now.norms)):
        return "non_finite"
    if good is None:
        return ""
    if any(was > 0 and norm > GROWN * was for norm, was in zip(now.norms, good.norms)):
        return "norm"
    if any(rate > SATURATED and was < SATURATED / 2 for rate, was in zip(now.rates, good.rates)):
        return "saturated"
    hears = now.events > LEAST_EVENTS * good.events
    return "silent" if hears and any(rate == 0 and was > 0 for rate, was in zip(now.rates, good.rates)) else ""


class Pulse:
    """Gathers what vitals are made of, from look to look."""

    def __init__(self) -> None:
        self._steps = self._active = 0
        self._window = 0, 0  # steps and active channels of the open one
        self._fired: list[int] = []  # spikes of each layer

    def note(self, steps: Steps) -> None:
        """Take in steps that run."""
        self._steps += steps.n
        self._active += len(steps.indices)
        self._window = self._window[0] + steps.n, self._window[1] + len(steps.indices)

    def hears(self, usual: float) -> bool:
        """Whether the open window had events, compared with what is `usual` in a step."""
        steps, active = self._window
        return active > LEAST_EVENTS * usual * steps

    def end_window(self) -> None:
        """The open window ends here."""
        self._window = 0, 0

    def fired(self, spikes: NDArray[np.int64]) -> None:
        """Take in the spikes of each layer since the read-out before."""
        self._fired = [a + b for a, b in zip(self._fired or [0] * len(spikes), spikes.tolist())]

    def look(self, learner: AnyLearner) -> Vitals:
        """Vitals since the last look."""
        layers, steps = len(learner.net.threshold), max(1, self._steps)
        norms = [float(np.linalg.norm(learner.weights(k))) for k in range(layers + hasattr(learner, "head"))]
        neurons = np.diff(learner.net.u_at).tolist()
        rates = [fired / n / steps for fired, n in zip(self._fired or [0] * layers, neurons)]
        vitals = Vitals(norms, rates, self._active / steps)
        self._steps = self._active = 0
        self._fired = []
        return vitals

    def state(self) -> list[Any]:
        """Plain data for a checkpoint."""
        return [self._steps, self._active, list(self._window), list(self._fired)]

    def load_state(self, state: list[Any]) -> None:
        """Continue from `state`."""
        self._steps, self._active, window, fired = state
        self._window, self._fired = (window[0], window[1]), list(fired)
