"""Every example several times: the head also learns what it would have seen, had the sensor stood a little aside.

Copies of the feature layers run beside the live ones on the same steps, each with all events shifted by a pixel or so
(events that leave the sensor are gone). Where a window closes with a label, the head takes the features of the live
network, then those of each copy. Predictions are the live network's alone. What the head knows of a class so covers
more than it was shown; statistics that do not depend on the order of the data still do not.

A step costs an inference more for each copy while the stream learns, and nothing while it does not; a window costs the
head one example more for each; the memory is the dynamics of the copies (the weights are shared).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, NO_VALUES, UNLABELLED, Cues, Readouts, Steps, check_inputs, silent_cues
from spiked.learners.discriminant import Discriminant
from spiked.learners.fixed import FixedLearner
from spiked.learners.lif import Lif
from spiked.learners.state import StateMixin
from spiked.learners.windows import join_readouts, windows

Shift = tuple[int, int]
"""Pixels to the right and down."""


def neighbours(width: int, height: int, distance: int) -> list[Shift]:
    """The shifts by `distance` to all sides, corners included; a sensor of one row moves along that row."""
    rows = (-distance, 0, distance) if height > 1 else (0,)
    columns = (-distance, 0, distance) if width > 1 else (0,)
    return [(dx, dy) for dy in rows for dx in columns if dx or dy]


def shift_table(width: int, height: int, planes: int, shift: Shift) -> NDArray[np.int32]:
    """For each channel the channel that its events go to, int32[planes * height * width]; -1 where they leave."""
    plane, y, x = np.meshgrid(np.arange(planes), np.arange(height), np.arange(width), indexing="ij")
    x, y = x + shift[0], y + shift[1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.where(inside, (plane * height + y) * width + x, -1).astype(np.int32).reshape(-1)


def shift_steps(steps: Steps, table: NDArray[np.int32]) -> Steps:
    """Send each event where `table` says; channels stay ascending, since all of a plane move alike."""
    moved = table[steps.indices]
    kept = moved >= 0
    before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    return Steps(steps.first, before[steps.indptr], moved[kept], steps.counts[kept])


class CopiesLearner(StateMixin):
    """Fixed features and a streaming head, which also learns from shifted copies.

    Parameters
    ----------
    live : the learner; owned from here on.
    size : width, height and planes of the sensor's grid.
    shifts : of the copies.
    """

    rate = 0.0

    def __init__(self, live: FixedLearner, size: tuple[int, int, int], shifts: Sequence[Shift]) -> None:
        if size[0] * size[1] * size[2] != live.n_in:
            raise ValueError(f"a grid of {size} has not {live.n_in} channels")
        self.live = live
        self.copies = [live.twin() for _ in shifts]
        self._tables = [shift_table(*size, shift) for shift in shifts]
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

    def step(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by exactly one step."""
        if steps.n != 1:
            raise ValueError(f"step() takes 1 step, not {steps.n}")
        return self.run(steps, cues, learn)

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps: in one compiled call, or, while learning, some for each window."""
        cues = silent_cues(steps.n) if cues is None else cues
        if not learn:
            self._lags[0] = 1
            return self.live.run(steps, cues, False)
        check_inputs(steps, cues, self.n_in, self.n_out)
        self._catch_up()
        shifted = [shift_steps(steps, table) for table in self._tables]
        said = []
        for a, b in windows(cues):
            part = Cues(cues.flags[a:b], cues.labels[a:b], cues.values)
            said.append(self.live.run(steps.slice(a, b), part))
            closing = part._replace(flags=part.flags & np.uint8(CLOSE))  # what else is read out, nobody hears
            for copy, its_steps in zip(self.copies, shifted):
                copy.run(its_steps.slice(a, b), closing)
        return join_readouts(said, cues, self.n_out, len(self.net.threshold))

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps."""
        said = self.live.conclude(label, values, learn)
        if learn:
            self._catch_up()
            for copy in self.copies:
                copy.conclude(label, values)
        return said

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
        for k, copy in enumerate(self.copies):
            arrays |= {f"copies.{k}.{name}": array for name, array in copy.dynamics().items()}
        return arrays
