"""Penalties on moving what mattered: online elastic weight consolidation, and synaptic intelligence.

The paper names "penalizing weights that change excessively fast" (5.1). Both methods keep an importance `F` and an
anchor `a` for each weight, and add ``strength / 2 * sum F (w - a)^2`` to a window's loss::

    OnlineEwc              F is a running mean of d^2, where d is the descent of a window's loss (Kirkpatrick et al.
                           2017; the decay is that of Schwarz et al. 2018). A strength of N weighs as N windows do.
    SynapticIntelligence   path += d * dw at each window: what the weight's way took from the loss (Zenke et al. 2017).
                           Every `anchor_windows` it becomes importance, and the next path begins:
                           F = keep F + 2 max(path, 0) / ((w - a)^2 + damping),  a = w,  path = 0

Nobody says where a task ends. The anchor of OnlineEwc is therefore a running mean of the weights, or a copy of them
every so many windows; that of SynapticIntelligence is where its path began.

The learner takes its step first. Then the weight is pulled, by an implicit step in the optimiser's own measure, which
ends between `w` and `a` whatever the strength::

    m = rate (sgd), rate / (sqrt(v) + eps) (rms)        what a unit of descent moves this weight
    w -= (w - a) c / (1 + c),  c = m strength F         F of the windows before this one

The learner does not keep the descent: it is ``d = (w - w before) / m``. With "momentum" that is the mean of descents;
with "bounded" it is cut as the step was; with adaptive feedback the decay of the weights is in it.

Cost: a copy of the weights as a window closes, and a pass over weights and matrices after it, whatever the events:
with 595,000 weights 0.7 ms a window, 2 us for each of its 315 steps (of naive 8).
Memory: 3 arrays of the weights' size for OnlineEwc and 4 for SynapticIntelligence; one of them is not in the state.
`benchmarks/forgetting.py` measures both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.learners.gradient import GradientLearner
from spiked.learners.jit import kernel
from spiked.learners.methods import Method
from spiked.learners.optimizers import EPS, OPTIMIZERS
from spiked.learners.weightlike import grow_weightlike, layer_parts

RMS = OPTIMIZERS.index("rms")
MOST = 1e30
"""Largest `c`: more would overflow."""
ANCHORS = ("mean", "copy")


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
def _ewc(weight, before, average, rms, importance, anchor, how, share, approach, size, step):  # type: ignore[no-untyped-def]
    """One window of one layer: `how` is rate and strength; `share` and `approach`, those of F and a, are float[n]."""
    n = len(share)
    for at in range(0, len(weight), n):
        end = at + n
        w, f, a = weight[at:end], importance[at:end], anchor[at:end]
        _measure(w, before[at:end], average[at:end] if rms else average, rms, how[0], size, step)
        _pull(w, f, a, size, how[1])
        for j in range(n):
            d = step[j] / size[j]
            f[j] += share[j] * (d * d - f[j])
        for j in range(n):
            a[j] += approach[j] * (w[j] - a[j])


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

    def __init__(self, learner: GradientLearner, strength: float) -> None:
        if not 0 <= strength < np.inf:
            raise ValueError(f"a strength of {strength}; allowed: 0 or more")
        weight = learner.net.weight
        self.strength = strength
        self.importance, self.anchor = np.zeros_like(weight), weight.copy()
        self._make_room(learner)

    def _make_room(self, learner: GradientLearner) -> None:
        net = learner.net
        widest, dtype = int(net.sizes[1:].max()), net.weight.dtype
        self._before = np.zeros_like(net.weight)
        self._how = np.zeros(2, dtype)
        self._rows = np.zeros((4, widest), dtype)

    def closing(self, learner: GradientLearner, label: int, values: NDArray[np.float32]) -> None:
        """Remember the weights as they are before the step."""
        self._before[:] = learner.net.weight

    def grow(self, learner: GradientLearner) -> None:
        """Give new outputs no importance, and the anchor that they begin at."""
        self.importance = grow_weightlike(self.importance, learner.net)
        self.anchor = grow_weightlike(self.anchor, learner.net)
        self._make_room(learner)

    def _of(self, learner: GradientLearner, part: slice) -> tuple[NDArray, NDArray, NDArray, bool]:
        rms = learner.spec.optimizer == "rms"
        average = learner.average[part] if rms else learner.average
        return learner.net.weight[part], self._before[part], average, rms

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return {"importance": self.importance, "anchor": self.anchor}


class OnlineEwc(_Penalty):
    """Elastic weight consolidation without tasks.

    Parameters
    ----------
    learner : whose weights are held; its layout now.
    strength : how many windows the past weighs as; 0 holds nothing.
    windows : that the importance reaches back; the first so many are a plain mean.
    anchor_windows : that the anchor reaches back, or lies back at most.
    anchor : ``"mean"`` of the weights, or a ``"copy"`` every `anchor_windows`.

    Attributes
    ----------
    importance, anchor : float[weights].
    age : int64[n]; windows that have taught since each output neuron was there.
    """

    name = "ewc"

    def __init__(
        self, learner: GradientLearner, strength: float = 30.0, windows: float = 500.0, anchor_windows: int = 100,
        anchor: str = "copy",
    ) -> None:  # fmt: skip
        if not (windows >= 1 and anchor_windows >= 1):
            raise ValueError(f"means of {windows} and {anchor_windows} windows; allowed: 1 or more")
        if anchor not in ANCHORS:
            raise ValueError(f"anchor {anchor!r}; allowed: {', '.join(ANCHORS)}")
        super().__init__(learner, strength)
        self.windows, self.anchor_windows, self.copies = windows, anchor_windows, anchor == "copy"
        self.age = np.zeros(int(learner.net.sizes[-1]), np.int64)

    def taught(self, learner: GradientLearner) -> None:
        """Pull, and take the window in."""
        self.age += 1
        self._how[:] = learner.rate, self.strength
        for part, n, top in layer_parts(learner.net):
            share, approach, size, step = self._rows[:, :n]
            age = self.age if top else self.age[0]
            share[:] = np.maximum(1 / self.windows, 1 / age)
            if self.copies:
                approach[:] = age % self.anchor_windows == 0
            else:
                approach[:] = np.maximum(1 / self.anchor_windows, 1 / age)
            held = self.importance[part], self.anchor[part]
            _ewc(*self._of(learner, part), *held, self._how, share, approach, size, step)

    def grow(self, learner: GradientLearner) -> None:
        """Make room for new outputs, which nothing holds."""
        super().grow(learner)
        self.age = np.concatenate([self.age, np.zeros(int(learner.net.sizes[-1]) - len(self.age), np.int64)])

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return super().arrays() | {"age": self.age}


class SynapticIntelligence(_Penalty):
    """Synaptic intelligence without tasks.

    Parameters
    ----------
    learner : whose weights are held; its layout now.
    strength : of the penalty, Zenke's `c`; 0 holds nothing.
    anchor_windows : windows of a path.
    keep : share of the importance that outlives a path; 1: nothing is ever forgotten.
    damping : bounds the importance of what hardly moved, in squares of a weight; Zenke's xi.

    Attributes
    ----------
    importance, anchor, path : float[weights].
    age : int64[1]; windows of this path so far.
    """

    name = "si"

    def __init__(
        self, learner: GradientLearner, strength: float = 0.03, anchor_windows: int = 100, keep: float = 0.9,
        damping: float = 1e-3,
    ) -> None:  # fmt: skip
        if not (anchor_windows >= 1 and 0 <= keep <= 1 and damping > 0):
            raise ValueError(
                f"paths of {anchor_windows} windows, {keep} kept, damping {damping}; "
                "allowed: 1 or more, 0 to 1, above 0"
            )
        super().__init__(learner, strength)
        self.anchor_windows, self.keep, self.damping = anchor_windows, keep, damping
        self.path, self.age = np.zeros_like(learner.net.weight), np.zeros(1, np.int64)

    def taught(self, learner: GradientLearner) -> None:
        """Pull, and take the window in."""
        self._how[:] = learner.rate, self.strength
        for part, n, _ in layer_parts(learner.net):
            held = self.importance[part], self.anchor[part], self.path[part]
            _follow_path(*self._of(learner, part), *held, self._how, self._rows[2, :n], self._rows[3, :n])
        self.age += 1
        if self.age[0] == self.anchor_windows:
            self.age[:] = 0
            self._how[:] = self.damping, self.keep
            _consolidate(learner.net.weight, self.importance, self.anchor, self.path, self._how)

    def grow(self, learner: GradientLearner) -> None:
        """Make room for new outputs, which nothing holds."""
        super().grow(learner)
        self.path = grow_weightlike(self.path, learner.net)

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return super().arrays() | {"path": self.path, "age": self.age}
