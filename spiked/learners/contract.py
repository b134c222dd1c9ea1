"""What a learner is: what goes in, what comes out, and the protocol that `checks.check_learner` holds it to."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from spiked.learners.jit import kernel

READ = 1
"""Cue flag: after this step, read the scores out."""
CLOSE = 2
"""Cue flag: after this step the window closes; if a label is on, learn from the window (after the read-out)."""
UNLABELLED = -1


class Steps(NamedTuple):
    """A run of consecutive time steps as sparse rows (CSR); an empty step is an empty row.

    Attributes
    ----------
    first : number of the first step: stream time // dt.
    indptr : int64[n + 1]; step `k` holds entries ``indptr[k]:indptr[k + 1]``.
    indices : int32[nnz]; active channels, ascending and unique within a step.
    counts : float32[nnz]; how active each is (1 in binary mode).
    """

    first: int
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    counts: NDArray[np.float32]

    @property
    def n(self) -> int:
        """Number of steps."""
        return len(self.indptr) - 1

    def slice(self, start: int, stop: int) -> Steps:
        """Steps `start` up to, not including, `stop` (positions in this run); shares the entries' memory."""
        if start == 0 and stop == self.n:
            return self
        a, b = int(self.indptr[start]), int(self.indptr[stop])
        return Steps(self.first + start, self.indptr[start : stop + 1] - a, self.indices[a:b], self.counts[a:b])

    def copy(self) -> Steps:
        """The same steps in memory of their own."""
        return Steps(self.first, self.indptr.copy(), self.indices.copy(), self.counts.copy())


class Cues(NamedTuple):
    """What the outside says about each step of a run.

    Attributes
    ----------
    flags : uint8[n]; `READ` and `CLOSE` bits.
    labels : int32[n]; the class that is on during the step, `UNLABELLED` where none is. For a learner of vectors it
        is the row of `values`.
    values : float32[rows, n_out]; target vectors; (0, 0) for classes.
    """

    flags: NDArray[np.uint8]
    labels: NDArray[np.int32]
    values: NDArray[np.float32]


NO_VALUES: NDArray[np.float32] = np.zeros((0, 0), np.float32)


def silent_cues(n: int) -> Cues:
    """Cues for `n` steps of which nothing is known or asked."""
    return Cues(np.zeros(n, np.uint8), np.full(n, UNLABELLED, np.int32), NO_VALUES)


def check_inputs(steps: Steps, cues: Cues, n_in: int, n_labels: int) -> None:
    """Raise ValueError for what compiled code would follow out of its arrays."""
    if len(cues.flags) != steps.n or len(cues.labels) != steps.n:
        raise ValueError(f"{len(cues.flags)} flags and {len(cues.labels)} labels for {steps.n} steps")
    if _any_outside(cues.labels, n_labels, steps.indices, n_in):
        check_range("label", cues.labels, UNLABELLED, n_labels)
        check_range("channel", steps.indices, 0, n_in)


@kernel
def _any_outside(labels, n_labels, indices, n_in):  # type: ignore[no-untyped-def]
    """Whether a label or a channel is out of range: both in one call, as each call costs."""
    outside = False
    for k in range(len(labels)):
        outside |= (labels[k] < UNLABELLED) | (labels[k] >= n_labels)
    for k in range(len(indices)):
        outside |= (indices[k] < 0) | (indices[k] >= n_in)
    return outside


@kernel
def _outside(numbers, least, end):  # type: ignore[no-untyped-def]
    """Position of the first number below `least` or not below `end`, or -1."""
    for k in range(len(numbers)):
        if numbers[k] < least or numbers[k] >= end:
            return k
    return -1


def check_range(name: str, numbers: NDArray[np.int32], least: int, end: int) -> None:
    """Raise ValueError for a number below `least` or not below `end`."""
    at = _outside(numbers, least, end)
    if at >= 0:
        raise ValueError(f"{name} {numbers[at]} is not in {least}..{end - 1}")


class Readouts(NamedTuple):
    """What a run said, a row for each step that was flagged.

    Attributes
    ----------
    at : int64[r]; position of the step in its run.
    flags : uint8[r]; the step's cue flags.
    labels : int32[r]; the step's label.
    scores : float32[r, n_out]; one score per class (larger is likelier) or the predicted vector; taken *before* the
        learning that a `CLOSE` brings.
    spikes : int64[r, layers]; spikes of each layer since the row before.
    """

    at: NDArray[np.int64]
    flags: NDArray[np.uint8]
    labels: NDArray[np.int32]
    scores: NDArray[np.float32]
    spikes: NDArray[np.int64]


class Learner(Protocol):
    """A network that predicts and learns, one step at a time, batch size one.

    All methods leave their inputs untouched. `run` gives the same bits as `step` called for each step.
    """

    n_in: int
    n_out: int

    def step(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by exactly one step."""
        ...

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps in one compiled call."""
        ...

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps (a sample ended before its time)."""
        ...

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Learn from kept steps: run them from rest on a side state; the live dynamics do not move."""
        ...

    def grow(self, n_out: int) -> None:
        """Make room for new classes; nothing else moves."""
        ...

    def reset(self) -> None:
        """Dynamics to rest; weights stay."""
        ...

    def state(self) -> dict[str, NDArray]:
        """Copies of everything that the future depends on."""
        ...

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`, bit for bit; raises ValueError naming the array that does not fit."""
        ...
