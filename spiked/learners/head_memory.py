"""Around a streaming head on fixed features: every example several times, and letting the past go when all changes.

Copies: networks beside the live one run on the same steps, each with all events shifted, turned or scaled a little
(`copies`). Where a window closes with a label, the head takes the features of the live network, then those of each
copy. What the head knows of a class so covers more than it was shown; statistics that do not depend on the order of the
data still do not. Predictions are the live network's alone, or (`vote`) the mean of what the head makes of all of them.
A step costs an inference more for each copy while the stream learns, and nothing while it does not, unless they vote; a
window costs the head one example more for each; the memory is the dynamics of the copies (the weights are shared).

Drift: how far each example lies from all classes is watched (`distance_alarm`). When that rises beyond chance, the
statistics count for `FADE` of what they did (`discriminant.fade`): predictions stay as they are, and what comes now
weighs the more. That costs nothing to speak of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, NO_VALUES, UNLABELLED, Cues, Readouts, Steps, check_inputs, silent_cues
from spiked.learners.copies import Warp, warp_steps, warp_table
from spiked.learners.discriminant import Discriminant, fade
from spiked.learners.distance_alarm import DistanceAlarm
from spiked.learners.fixed import FixedLearner
from spiked.learners.lif import Lif
from spiked.learners.running import RunMixin
from spiked.learners.state import StateMixin
from spiked.learners.windows import join_readouts, windows

FADE = 0.3
"""What the past counts for after an alarm."""
LEAST_EXAMPLES = 20
"""Answers to a class count once it has been shown so often."""


class HeadMemoryLearner(RunMixin, StateMixin):
    """Fixed features and a streaming head that learns from warped copies too, and lets the past go when all changes.

    Parameters
    ----------
    live : the learner; owned from here on.
    size : width, height and planes of the sensor's grid.
    warps : of the copies; none: no copies.
    vote : the copies predict too.
    drift : watches distances; None: nobody does.
    """

    rate = 0.0

    def __init__(
        self,
        live: FixedLearner,
        size: tuple[int, int, int],
        warps: Sequence[Warp] = (),
        drift: DistanceAlarm | None = None,
        vote: bool = False,
    ) -> None:
        if size[0] * size[1] * size[2] != live.n_in:
            raise ValueError(f"a grid of {size} has not {live.n_in} channels")
        self.live, self.drift, self.vote = live, drift, vote
        self.copies = [live.twin() for _ in warps]
        self._tables = [warp_table(*size, warp) for warp in warps]
        self._room = np.zeros(live.n_in, np.float32)
        self._lags = np.zeros(1, np.uint8)  # 1: the copies stood still while the live network ran

    @property
    def net(self) -> Lif:
        """Layout and weights, which the copies share."""
        return self.live.net

    @property
    def head(self) -> Discriminant:
        """Statistics of the head, which the copies share."""
        return self.live.head

    @property
    def n_in(self) -> int:
        """Channels."""
        return self.live.n_in

    @property
    def n_out(self) -> int:  # type: ignore[override]
        """Classes."""
        return self.live.n_out

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps: in one compiled call, or, while learning, some for each window."""
        cues = silent_cues(steps.n) if cues is None else cues
        if not (learn or self.vote):
            self._lags[0] = 1
            return self.live.run(steps, cues, False)
        check_inputs(steps, cues, self.n_in, self.n_out)
        self._catch_up()
        warped = [warp_steps(steps, table, self._room) for table in self._tables]
        said = []
        for a, b in windows(cues):
            part = Cues(cues.flags[a:b], cues.labels[a:b], cues.values)
            heard = part if self.vote else part._replace(flags=part.flags & np.uint8(CLOSE))
            live = self.live.run(steps.slice(a, b), part, False)
            others = [copy.run(its.slice(a, b), heard, False) for copy, its in zip(self.copies, warped)]
            said.append(self._count_votes(live, others))
            if learn and part.flags[-1] & CLOSE:
                self._teach(said[-1])
        return join_readouts(said, cues, self.n_out, len(self.net.threshold))

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps."""
        said = self.live.conclude(label, values, False)
        if learn or self.vote:
            self._catch_up()
            said = self._count_votes(said, [copy.conclude(label, values, False) for copy in self.copies])
        if learn:
            self._teach(said)
        return said

    def _count_votes(self, live: Readouts, others: Sequence[Readouts]) -> Readouts:
        """What the live network says, or all together."""
        if not self.vote:
            return live
        votes = np.stack([live.scores, *(other.scores for other in others)])
        return live._replace(scores=np.asarray(votes.mean(axis=0, dtype=np.float64), np.float32))

    def _teach(self, said: Readouts) -> None:
        """Let the head learn what all networks have just read out, if there is a label; predictions came before."""
        label = int(said.labels[-1])
        if label == UNLABELLED:
            return
        known = float(self.head.examples[label])
        self.live.teach(label)
        self._judge(known)
        for copy in self.copies:
            copy.teach(label)

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Learn from kept steps on a side state, from rest."""
        with self.aside():
            self.run(steps, cues)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let all that happens inside happen on a side state, from rest; the live dynamics stand still."""
        lags, self._lags = self._lags, np.zeros(1, np.uint8)
        try:
            with ExitStack() as asides:
                for each in (self.live, *self.copies):
                    asides.enter_context(each.aside())
                yield
        finally:
            self._lags = lags

    def _judge(self, known: float) -> None:
        """Look how odd the example was that the head has just taken in, of a class of which it had `known` so many."""
        if self.drift is None:
            return
        if not known:
            self.drift.begin_anew()  # with a class more all is nearer to one
        if known < LEAST_EXAMPLES * (1 + len(self.copies)):
            return  # of a new class little is known: that is no drift
        if self.drift.judge(float(self.head.nearest[0])):
            fade(self.head, FADE)

    def _catch_up(self) -> None:
        """Begin to learn again: the copies were left behind, and begin at rest."""
        if self._lags[0]:
            for copy in self.copies:
                copy.reset()
            self._lags[0] = 0

    def reset(self) -> None:
        """Dynamics to rest; weights and statistics stay."""
        for each in (self.live, *self.copies):
            each.reset()
        self._lags[0] = 0

    def grow(self, n_out: int) -> None:
        """Add classes that nothing is known of yet."""
        self.live.grow(n_out)
        for copy in self.copies:
            copy.share(self.live)

    def weights(self, layer: int) -> NDArray:
        """The weights of a layer, or (after the last) those of the head."""
        return self.live.weights(layer)

    def layer_activity(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps since each neuron last fired, and where each layer begins."""
        return self.live.layer_activity()

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on, by name."""
        arrays = self.live.arrays() | {"copies.lags": self._lags}
        if self.drift:
            arrays |= {f"drift.{name}": array for name, array in self.drift.arrays().items()}
        for k, copy in enumerate(self.copies):
            arrays |= {f"copies.{k}.{name}": array for name, array in copy.dynamics().items()}
        return arrays
