"""What works against forgetting, around a learner: what is done whenever a window has taught.

`MemoryLearner` is itself a learner (`contract.Learner`): it cuts a run where windows close, lets the learner inside run
each part, and where one has taught lets each of its methods have its turn. What predicts is the learner inside, or the
mean of its weights (`averaged`) where that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

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
from spiked.learners.methods import Method
from spiked.learners.rehearsal import PIECE, SIDE, Rehearsal
from spiked.learners.running import RunMixin
from spiked.learners.state import StateMixin
from spiked.learners.windows import join_readouts, windows


class MemoryLearner(RunMixin, StateMixin):
    """A learner with methods against forgetting.

    Parameters
    ----------
    inner : the learner; owned from here on.
    methods : in the order in which they have their turn.
    average_windows : windows that the mean of the weights reaches back, which then predicts; 0: the weights predict.
    rehearsal : shows again what was taught; None: nothing is.
    """

    def __init__(
        self,
        inner: GradientLearner,
        methods: tuple[Method, ...] = (),
        average_windows: float = 0,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        if average_windows and inner.spec.objective == "reward":
            raise ValueError("a reward is for what was said: the weights that learn from it must be those that predict")
        self.inner, self.methods, self.rehearsal = inner, methods, rehearsal
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

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps: in one compiled call, or, while learning, some for each window."""
        cues = silent_cues(steps.n) if cues is None else cues
        check_inputs(steps, cues, self.n_in, self.inner.n_labels(cues.values))
        if not learn:
            self._stop_learning()
            return self.mean.run(steps, cues) if self.mean else self.inner.run(steps, cues, False)
        self._catch_up()
        parts = []
        for a, b in self._parts(cues):
            part, its_cues = steps.slice(a, b), Cues(cues.flags[a:b], cues.labels[a:b], cues.values)
            shown = self.mean.run(part, its_cues) if self.mean else None  # before decays, which it shares, learn
            said = self._learn(part, its_cues)
            parts.append(shown or said)
            if self.rehearsal:
                self._rehearse(self.rehearsal.tick(part.n))
        return join_readouts(parts, cues, self.n_out, len(self.net.threshold))

    def _parts(self, cues: Cues) -> Iterator[tuple[int, int]]:
        """Cut a run where windows close, and where it is time for a rehearsal."""
        for start, stop in windows(cues):
            while start < stop:
                end = min(stop, start + self.rehearsal.until_piece) if self.rehearsal else stop
                yield start, end
                start = end

    def _learn(self, part: Steps, cues: Cues) -> Readouts:
        """Steps that are new, in which nothing closes but, perhaps, with the last."""
        before = self.inner.updates
        for method in self._acting():
            method.heard(self.inner, part, cues)
        if self.rehearsal:
            self.rehearsal.open.note(part)
        said = self._run(part, cues)
        if cues.flags[-1] & CLOSE:
            self._closed(int(cues.labels[-1]), before)
        return said

    def _closed(self, label: int, updates_before: int) -> None:
        """A window of new steps has closed: what is shown again for it."""
        taught = self.inner.updates > updates_before
        if self.rehearsal:
            self.rehearsal.close(label if taught else UNLABELLED)
        for made in [method.rehearsals(self.inner) for method in self._acting() if taught]:
            for steps, cues in made:
                with self.inner.aside(), self._again():
                    self._run(steps, cues)

    @contextmanager
    def _again(self) -> Iterator[None]:
        """Tell the methods that what happens inside is a rehearsal."""
        for method in self.methods:
            method.again = True
        try:
            yield
        finally:
            for method in self.methods:
                method.again = False

    def _acting(self) -> tuple[Method, ...]:
        """The methods; at a rate of 0 nothing may move, and none has its turn."""
        return self.methods if self.inner.rate else ()

    def _run(self, part: Steps, cues: Cues) -> Readouts:
        """Let the learner run a part that ends where its window does, or before."""
        if not self._acting() or not cues.flags[-1] & CLOSE:
            before = self.inner.updates
            said = self.inner.run(part, cues)
            self._after_window(before)
            return said
        flags = cues.flags.copy()
        flags[-1] = 0  # the window is left open, for the methods to see it before it closes
        said = self.inner.run(part, cues._replace(flags=flags))
        return join_readouts(
            [said, self._close(int(cues.labels[-1]), cues.values)], cues, self.n_out, said.spikes.shape[1]
        )

    def _close(self, label: int, values: NDArray[np.float32]) -> Readouts:
        """Close the window, and let the methods have their turns before and after."""
        before, rate = self.inner.updates, self.inner.rate
        for method in self._acting():
            method.closing(self.inner, label, values)
        try:
            said = self.inner.conclude(label, values)
            self._after_window(before)
        finally:
            self.inner.rate = rate
        return said

    def _rehearse(self, n_steps: int) -> int:
        """Show again what is due, up to so many steps; how many were left."""
        assert self.rehearsal is not None
        while n_steps > 0:
            again = self.rehearsal.next(n_steps)
            if again is None:
                break
            steps, cues, begins = again
            with self.inner.aside(SIDE, rest=begins), self._again():
                self._run(steps, cues)
            n_steps -= steps.n
        return n_steps

    def settle(self) -> None:
        """Do now what is due: nothing that was taught has effects that are still to come."""
        while self.rehearsal and not self._rehearse(PIECE):
            pass

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps."""
        if not learn:
            self._stop_learning()
            return self.mean.conclude(label) if self.mean else self.inner.conclude(label, values, False)
        check_range("label", np.array([label], np.int32), UNLABELLED, self.inner.n_labels(values))
        self._catch_up()
        before = self.inner.updates
        shown = self.mean.conclude(label) if self.mean else None
        said = self._close(label, values)
        self._closed(label, before)
        return shown or said

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Learn from kept steps on a side state, from rest; what they teach is rehearsed like the rest."""
        check_inputs(steps, cues, self.n_in, self.inner.n_labels(cues.values))
        with self.inner.aside(), self.rehearsal.open.aside() if self.rehearsal else nullcontext():
            for a, b in windows(cues):
                self._learn(steps.slice(a, b), Cues(cues.flags[a:b], cues.labels[a:b], cues.values))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let all that happens inside happen on a side state, from rest; the live dynamics stand still."""
        lags, self._lags = self._lags, np.zeros(1, np.uint8)
        try:
            with ExitStack() as asides:
                asides.enter_context(self.inner.aside())
                if self.mean:
                    asides.enter_context(self.mean.aside())
                if self.rehearsal:
                    asides.enter_context(self.rehearsal.open.aside())
                yield
        finally:
            self._lags = lags

    def _after_window(self, updates_before: int) -> None:
        """Let the methods have their turn, if a window has taught."""
        if self.inner.updates == updates_before or self.inner.rate == 0:
            return
        for method in self.methods:
            method.taught(self.inner)
        if self.mean:
            self.mean.follow(self.inner.net)

    def _stop_learning(self) -> None:
        self._lags[0] = self.mean is not None
        if self.rehearsal:
            self.rehearsal.open.drop()

    def _catch_up(self) -> None:
        """Begin to learn again: while only the mean ran, the learner's dynamics stood still."""
        if self._lags[0] and self.mean:
            self.inner.stand_at(self.mean.state)
            self._lags[0] = 0

    def reset(self) -> None:
        """Dynamics to rest; weights stay."""
        self.inner.reset()
        self._lags[0] = 0
        if self.rehearsal:
            self.rehearsal.open.drop()
            self._rehearse(self.rehearsal.tick(0, ends=True))
        if self.mean:
            self.mean.reset()

    def grow(self, n_out: int) -> None:
        """Add outputs with zero weights; nothing else moves."""
        self.inner.grow(n_out)
        for method in self.methods:
            method.grow(self.inner)
        if self.rehearsal:
            self.rehearsal.grow(self.inner)
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
        if self.rehearsal:
            arrays |= {f"replay.{k}": v for k, v in self.rehearsal.arrays().items()}
        if self.mean:
            arrays |= {f"mean.{k}": v for k, v in self.mean.arrays().items()} | {"mean.lags": self._lags}
        return arrays
