"""What works against forgetting, around a learner: what is done whenever a window has taught.

`MemoryLearner` is itself a learner (`contract.Learner`): it cuts a run where windows close, lets the learner inside run
each part, and where one has taught lets each of its methods have its turn. What predicts is the learner inside, or the
mean of its weights (`averaged`) where that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spiked.learners.averaged import AveragedCopy
from spiked.learners.contract import (
    CLOSE,
    NO_VALUES,
    UNLABELLED,
    Cues,
    Readouts,
    Steps,
    check_inputs,
    check_range,
    silent_cues,
)
from spiked.learners.gradient import GradientLearner
from spiked.learners.lif import Lif, layer_weight
from spiked.learners.state import StateMixin


class Method(Protocol):
    """A countermeasure that acts on the weights whenever a window has taught.

    In a window's order: `heard` for each part of it, `closing`, the learner's own step, `taught` if it took one, and,
    for a window that was not itself a rehearsal, `rehearsals`. While the learner's rate is 0 none of them is called.
    """

    name: str

    def heard(self, learner: GradientLearner, steps: Steps, cues: Cues) -> None:
        """See a part of a window before the learner runs it; not called for a rehearsal."""

    def closing(self, learner: GradientLearner, label: int, values: NDArray[np.float32]) -> None:
        """See a window that is about to close, and its label; may set the rate of this step, which is put back."""

    def rehearsals(self, learner: GradientLearner) -> Iterable[tuple[Steps, Cues]]:
        """Windows to recall now, each from rest; the cues close each at its last step."""
        return ()

    def taught(self, learner: GradientLearner) -> None:
        """Take in, or change, the weights that the window left behind."""
        ...

    def grow(self, learner: GradientLearner) -> None:
        """Make room for the outputs that the learner has now."""
        ...

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        ...


class MemoryLearner(StateMixin):
    """A learner with methods against forgetting.

    Parameters
    ----------
    inner : the learner; owned from here on.
    methods : in the order in which they have their turn.
    average_windows : windows that the mean of the weights reaches back, which then predicts; 0: the weights predict.
    """

    def __init__(self, inner: GradientLearner, methods: tuple[Method, ...] = (), average_windows: float = 0) -> None:
        if average_windows and inner.spec.objective == "reward":
            raise ValueError("a reward is for what was said: the weights that learn from it must be those that predict")
        self.inner, self.methods = inner, methods
        self.mean = AveragedCopy(inner.net, inner.decoder, average_windows) if average_windows else None
        self._lags = np.zeros(1, np.uint8)  # 1: only the mean has run since the learner last did

    @property
    def net(self) -> Lif:
        """Layout and weights of the network that predicts."""
        return self.mean.net if self.mean else self.inner.net

    @property
    def n_in(self) -> int:
        """Channels."""
        return self.inner.n_in

    @property
    def n_out(self) -> int:  # type: ignore[override]
        """Classes."""
        return self.inner.n_out

    @property
    def rate(self) -> float:
        """Size of a step along the gradient; may be set while running."""
        return self.inner.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self.inner.rate = rate

    def step(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by exactly one step."""
        if steps.n != 1:
            raise ValueError(f"step() takes 1 step, not {steps.n}")
        return self.run(steps, cues, learn)

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps: in one compiled call, or, while learning, one for each window."""
        cues = silent_cues(steps.n) if cues is None else cues
        check_inputs(steps, cues, self.n_in, self.inner.n_labels(cues.values))
        if not learn:
            self._lags[0] = self.mean is not None
            return self.mean.run(steps, cues) if self.mean else self.inner.run(steps, cues, False)
        self._catch_up()
        parts = []
        for first, part, its_cues in _windows(steps, cues):
            shown = self.mean.run(part, its_cues) if self.mean else None  # before decays, which it shares, learn
            said = self._live(part, its_cues)
            said = shown or said
            parts.append(said._replace(at=said.at + first))
        return Readouts(*(np.concatenate(columns) for columns in zip(*parts)))

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps."""
        if not learn and self.mean:
            self._lags[0] = 1
            return self.mean.conclude(label)
        if learn:
            self._catch_up()
            if self.methods:
                check_range("label", np.array([label], np.int32), UNLABELLED, self.inner.n_labels(values))
        shown = self.mean.conclude(label) if self.mean else None
        said = self._close(label, values) if learn else self.inner.conclude(label, values, learn)
        return shown or said

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Learn from kept steps on a side state, from rest."""
        check_inputs(steps, cues, self.n_in, self.inner.n_labels(cues.values))
        with self.inner.aside():
            for _, part, its_cues in _windows(steps, cues):
                self._live(part, its_cues)

    def _live(self, steps: Steps, cues: Cues, rehearsed: bool = False) -> Readouts:
        """Let the learner run a part that ends where its window does, or before."""
        if not self.methods or self.inner.rate == 0:
            before = self.inner.updates
            said = self.inner.run(steps, cues)
            self._after_window(before)
            return said
        if not rehearsed:
            for method in self.methods:
                method.heard(self.inner, steps, cues)
        if not (steps.n and cues.flags[-1] & CLOSE):
            return self.inner.run(steps, cues)
        flags = cues.flags.copy()
        flags[-1] = 0  # the window is left open, for the methods to see it before it closes
        said = self.inner.run(steps, cues._replace(flags=flags))
        last = self._close(int(cues.labels[-1]), cues.values, rehearsed)
        last = last._replace(at=last.at + steps.n, flags=cues.flags[-1:].copy())
        parts = [said, last]
        return Readouts(*(np.concatenate(columns) for columns in zip(*parts)))

    def _close(self, label: int, values: NDArray[np.float32], rehearsed: bool = False) -> Readouts:
        """Close the window, and let the methods have their turns before and after."""
        before, rate = self.inner.updates, self.inner.rate
        for method in self.methods if rate else ():
            method.closing(self.inner, label, values)
        try:
            said = self.inner.conclude(label, values)
            taught = self._after_window(before)
        finally:
            self.inner.rate = rate
        due = [method.rehearsals(self.inner) for method in self.methods if taught and not rehearsed]
        for made in due:
            for steps, cues in made:
                with self.inner.aside():
                    self._live(steps, cues, rehearsed=True)
        return said

    def _after_window(self, updates_before: int) -> bool:
        """Let the methods have their turn, if a window has taught; at a rate of 0 nothing may move."""
        if self.inner.updates == updates_before or self.inner.rate == 0:
            return False
        for method in self.methods:
            method.taught(self.inner)
        if self.mean:
            self.mean.follow(self.inner.net)
        return True

    def _catch_up(self) -> None:
        """Begin to learn again: while only the mean ran, the learner's dynamics stood still."""
        if self._lags[0] and self.mean:
            self.inner.stand_at(self.mean.state)
            self._lags[0] = 0

    def reset(self) -> None:
        """Dynamics to rest; weights stay."""
        self.inner.reset()
        self._lags[0] = 0
        if self.mean:
            self.mean.reset()

    def grow(self, n_out: int) -> None:
        """Add outputs with zero weights; nothing else moves."""
        self.inner.grow(n_out)
        for method in self.methods:
            method.grow(self.inner)
        if self.mean:
            self.mean.grow(self.inner.net)

    def weights(self, layer: int) -> NDArray:
        """The weights of a layer that predict (a copy), float[rows, n]."""
        return layer_weight(self.net, layer).copy()

    def layer_activity(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps since each neuron last fired, and where each layer begins."""
        return (self.mean.state.quiet, self.net.u_at) if self.mean else self.inner.layer_activity()

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on, by name."""
        arrays = self.inner.arrays()
        for method in self.methods:
            arrays |= {f"{method.name}.{k}": v for k, v in method.arrays().items()}
        if self.mean:
            arrays |= {f"mean.{k}": v for k, v in self.mean.arrays().items()} | {"mean.lags": self._lags}
        return arrays


def _windows(steps: Steps, cues: Cues) -> Iterator[tuple[int, Steps, Cues]]:
    """Cut a run after each step at which a window closes: where a part begins, its steps, its cues."""
    ends = [*(np.flatnonzero(cues.flags & CLOSE) + 1).tolist(), steps.n]
    first = 0
    for end in ends:
        if end > first or steps.n == 0:
            yield first, steps.slice(first, end), Cues(cues.flags[first:end], cues.labels[first:end], cues.values)
        first = end
