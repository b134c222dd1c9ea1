"""Penalties on moving what mattered: online elastic weight consolidation, and synaptic intelligence.

The paper names "penalizing weights that change excessively fast" (5.1). Both methods keep an importance `F` and an
anchor `a` for each weight, and add ``strength / 2 * sum F (w - a)^2`` to a window's loss. What a task has gathered is
consolidated where it ends, which the errors tell (`boundaries`); before the first end nothing is held::

    OnlineEwc              fresh += (d^2 - fresh) / windows, where d is the descent of a window's loss (Kirkpatrick et
                           al. 2017). A task's end:  F = keep F + fresh (Schwarz et al. 2018),  a = w,  fresh = 0.
                           A strength of N weighs as N windows do.
    SynapticIntelligence   path += d * dw at each window: what the weight's way took from the loss (Zenke et al. 2017).
                           A task's end:  F = keep F + 2 max(path, 0) / ((w - a)^2 + damping),  a = w,  path = 0

The learner takes its step first. Then the weight is pulled, by an implicit step in the optimiser's own measure, which
ends between `w` and `a` whatever the strength::

    m = rate (sgd), rate / (sqrt(v) + eps) (rms)        what a unit of descent moves this weight
    w -= (w - a) c / (1 + c),  c = m strength F         F of the windows before this one

The learner does not keep the descent: it is ``d = (w - w before) / m``. With "momentum" that is the mean of descents;
with "bounded" it is cut as the step was; with adaptive feedback the decay of the weights is in it; of two penalties
around one learner, the second takes the pull of the first for descent.

Cost: a copy of the weights as a window closes, and a pass over weights and matrices after it, whatever the events:
with 595,000 weights 0.8 ms a window, 2.5 us for each of its 315 steps, of which learning alone takes 8.5.
Memory: 4 arrays of the weights' size, one of which is not in the state.
What they are good for, `benchmarks/forgetting.py` says: changes of the sensor after which all weights are in use again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.learners.boundaries import Boundaries
from spiked.learners.gradient import GradientLearner
from spiked.learners.jit import kernel
from spiked.learners.methods import Method
from spiked.learners.optimizers import EPS
from spiked.learners.weightlike import grow_weightlike, layer_parts

MOST = 1e30  # largest c: more would overflow


@kernel
def _measure(weight, before, average, rms, rate, size, step):  # type: ignore[no-untyped-def]
    """Find what a unit of descent moved each weight of a row, and what the window moved it."""
    if rms:
        eps = type(rate)(EPS)
        for j in range(len(size)):
            size[j] = rate / (np.sqrt(average[j]) + eps)
    else:
        size[:] = rate
    for j in range(len(size)):
        step[j] = weight[j] - before[j]


@kernel
def _pull(weight, importance, anchor, size, strength):  # type: ignore[no-untyped-def]
    """Take an implicit step down the penalty of a row."""
    if strength > 0:
        one, most = type(strength)(1.0), type(strength)(MOST)
        for j in range(len(weight)):
            c = min(size[j] * strength * importance[j], most)
            weight[j] -= (weight[j] - anchor[j]) * (c / (one + c))


@kernel
def _ewc(weight, before, average, rms, importance, anchor, fresh, how, size, step):  # type: ignore[no-untyped-def]
    """One window of one layer; `how` is rate, strength, and the share of a window in `fresh`."""
    n = len(size)
    for at in range(0, len(weight), n):
        end = at + n
        w, f = weight[at:end], fresh[at:end]
        _measure(w, before[at:end], average[at:end] if rms else average, rms, how[0], size, step)
        _pull(w, importance[at:end], anchor[at:end], size, how[1])
        for j in range(n):
            d = step[j] / size[j]
            f[j] += how[2] * (d * d - f[j])


@kernel
def _follow_path(weight, before, average, rms, importance, anchor, path, how, size, step):  # type: ignore[no-untyped-def]
    """One window of one layer; `how` is rate and strength."""
    n = len(size)
    for at in range(0, len(weight), n):
        end = at + n
        w, b, p = weight[at:end], before[at:end], path[at:end]
        _measure(w, b, average[at:end] if rms else average, rms, how[0], size, step)
        _pull(w, importance[at:end], anchor[at:end], size, how[1])
        for j in range(n):
            p[j] += step[j] / size[j] * (w[j] - b[j])


@kernel
def _consolidate(weight, importance, anchor, path, how):  # type: ignore[no-untyped-def]
    """Turn paths into importance and begin the next here; `how` is the damping and the share that is kept."""
    two, none = type(how[0])(2.0), type(how[0])(0.0)
    for j in range(len(weight)):
        away = weight[j] - anchor[j]
        importance[j] = how[1] * importance[j] + two * max(path[j], none) / (away * away + how[0])
        anchor[j] = weight[j]
        path[j] = none


class _Penalty(Method):
    """What both keep: importance, anchor, and the weights before a window's step."""

    def __init__(self, learner: GradientLearner, strength: float, keep: float, every: int) -> None:
        if not (0 <= strength < np.inf and 0 <= keep <= 1):
            raise ValueError(f"a strength of {strength}, keep {keep}; allowed: 0 or more, 0 to 1")
        weight = learner.net.weight
        self.strength, self.keep, self.tasks = strength, keep, Boundaries(every)
        self.importance, self.anchor = np.zeros_like(weight), weight.copy()
        self._make_room(learner)

    def _make_room(self, learner: GradientLearner) -> None:
        net = learner.net
        widest, dtype = int(net.sizes[1:].max()), net.weight.dtype
        self._before = np.zeros_like(net.weight)
        self._how = np.zeros(3, dtype)
        self._rows = np.zeros((2, widest), dtype)

    def closing(self, learner: GradientLearner, label: int, values: NDArray[np.float32]) -> None:
        """Remember the weights as they are before the step, and whether the window was said right."""
        self.tasks.closing(learner, label, values, self.again)
        self._before[:] = learner.net.weight

    def grow(self, learner: GradientLearner) -> None:
        """Give new outputs no importance, and the anchor that they begin at."""
        self.importance = grow_weightlike(self.importance, learner.net)
        self.anchor = grow_weightlike(self.anchor, learner.net)
        self._make_room(learner)

    def _of(self, learner: GradientLearner, part: slice) -> tuple[NDArray, NDArray, NDArray, bool, NDArray, NDArray]:
        rms = learner.spec.optimizer == "rms"
        average = learner.average[part] if rms else learner.average
        held = self.importance[part], self.anchor[part]
        return learner.net.weight[part], self._before[part], average, rms, *held

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return {"importance": self.importance, "anchor": self.anchor} | self.tasks.arrays()


class OnlineEwc(_Penalty):
    """Elastic weight consolidation of tasks that nobody names.

    Parameters
    ----------
    learner : whose weights are held; its layout now.
    strength : how many windows the past weighs as; 0 holds nothing.
    windows : that the importance of a task reaches back; a task of fewer weighs less.
    keep : share of the importance that outlives the next task; 1: nothing is ever let go.
    every : windows of a task; 0: it ends where errors rise.

    Attributes
    ----------
    importance, anchor, fresh : float[weights].
    """

    name = "ewc"

    def __init__(
        self, learner: GradientLearner, strength: float = 50.0, windows: float = 500.0, keep: float = 0.9,
        every: int = 0,
    ) -> None:  # fmt: skip
        if not windows >= 1:
            raise ValueError(f"a mean of {windows} windows; allowed: 1 or more")
        super().__init__(learner, strength, keep, every)
        self.windows, self.fresh = windows, np.zeros_like(learner.net.weight)

    def taught(self, learner: GradientLearner) -> None:
        """Pull, take the window in, and consolidate if a task has ended."""
        self._how[:] = learner.rate, self.strength, 1 / self.windows
        for part, n, _ in layer_parts(learner.net):
            _ewc(*self._of(learner, part), self.fresh[part], self._how, self._rows[0, :n], self._rows[1, :n])
        if self.tasks.taught():
            self.importance *= self.keep
            self.importance += self.fresh
            self.anchor[:], self.fresh[:] = learner.net.weight, 0

    def grow(self, learner: GradientLearner) -> None:
        """Make room for new outputs, which nothing holds."""
        super().grow(learner)
        self.fresh = grow_weightlike(self.fresh, learner.net)

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return super().arrays() | {"fresh": self.fresh}


class SynapticIntelligence(_Penalty):
    """Synaptic intelligence of tasks that nobody names.

    Parameters
    ----------
    learner : whose weights are held; its layout now.
    strength : of the penalty, Zenke's `c`; 0 holds nothing.
    keep : share of the importance that outlives the next task; 1: nothing is ever let go.
    damping : bounds the importance of what hardly moved, in squares of a weight; Zenke's xi.
    every : windows of a task; 0: it ends where errors rise.

    Attributes
    ----------
    importance, anchor, path : float[weights].
    """

    name = "si"

    def __init__(
        self, learner: GradientLearner, strength: float = 0.003, keep: float = 0.9, damping: float = 1e-3,
        every: int = 0,
    ) -> None:  # fmt: skip
        if not damping > 0:
            raise ValueError(f"damping {damping}; allowed: more than 0")
        super().__init__(learner, strength, keep, every)
        self.damping, self.path = damping, np.zeros_like(learner.net.weight)

    def taught(self, learner: GradientLearner) -> None:
        """Pull, take the window in, and consolidate if a task has ended."""
        self._how[:] = learner.rate, self.strength, 0
        for part, n, _ in layer_parts(learner.net):
            _follow_path(*self._of(learner, part), self.path[part], self._how, self._rows[0, :n], self._rows[1, :n])
        if self.tasks.taught():
            self._how[:] = self.damping, self.keep, 0
            _consolidate(learner.net.weight, self.importance, self.anchor, self.path, self._how)

    def grow(self, learner: GradientLearner) -> None:
        """Make room for new outputs, which nothing holds."""
        super().grow(learner)
        self.path = grow_weightlike(self.path, learner.net)

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return super().arrays() | {"path": self.path}
