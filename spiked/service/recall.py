"""The last moments of a stream, kept as steps, so that a label that comes late can still teach."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import Steps
from spiked.service.block_queue import BlockQueue

MAX_ENTRIES = 4_000_000
"""Active channels kept at most (32 MB), whatever the stream does."""


class _Part(NamedTuple):
    """Consecutive steps: number of the first, where each begins in the part's entries, whether it begins at rest."""

    first: int
    indptr: NDArray[np.int64]
    at_rest: bool

    @property
    def end(self) -> int:
        """Number of the step after the last."""
        return self.first + len(self.indptr) - 1


class Recall:
    """The last `memory_steps` steps of one stream.

    A reset is kept as a mark: the dynamics were at rest there. Parts are let go of whole, but nothing older than the
    memory is ever given out: how the stream was cut into parts does not show. Their entries share one queue.
    """

    def __init__(self, memory_steps: int) -> None:
        self.memory_steps = memory_steps
        self._parts: deque[_Part] = deque()
        self._entries = BlockQueue()
        self._at_rest = True

    def clear(self) -> None:
        """Forget everything: stream time has begun anew."""
        self._parts.clear()
        self._entries.let_go(self._entries.n)
        self._at_rest = True

    def add(self, steps: Steps) -> None:
        """Keep a run of steps, and let go of what is older than the memory."""
        if not self.memory_steps or not steps.n:
            return
        if steps.n > self.memory_steps:
            steps = steps.slice(steps.n - self.memory_steps, steps.n)
            self._at_rest = False  # it was, before steps that are gone
        if len(steps.indices) > MAX_ENTRIES:
            self.clear()
            self._at_rest = False
            return
        parts, entries = self._parts, self._entries
        parts.append(_Part(steps.first, steps.indptr.copy(), self._at_rest))
        entries.put(steps.indices, steps.counts)
        self._at_rest = False
        horizon = self._oldest
        while entries.n > MAX_ENTRIES or parts[0].end <= horizon:
            entries.let_go(int(parts.popleft().indptr[-1]))

    def mark_reset(self) -> None:
        """The dynamics are at rest here."""
        self._at_rest = True

    def holds(self, end: int) -> bool:
        """Whether step `end` - 1 is kept."""
        return end > self._oldest and any(p.first < end <= p.end for p in self._parts)

    def spans(self, first: int, end: int) -> list[Steps]:
        """Kept steps from the last rest at or before `first` (or the oldest kept) up to `end`, cut at each rest.

        Empty where step `end` - 1 is no longer, or not yet, kept.
        """
        if not self.holds(end):
            return []
        oldest, at = self._oldest, 0
        runs: list[list[tuple[_Part, int]]] = [[]]  # parts, and where their entries begin
        for part in self._parts:
            if part.first >= end:
                break
            if part.at_rest and part.first >= oldest:
                runs = [*([] if part.first <= first else runs), []]
            if part.end > oldest:
                runs[-1].append((part, at))
            at += int(part.indptr[-1])
        return [self._joined(run, oldest, end) for run in runs if run]

    def _joined(self, run: list[tuple[_Part, int]], oldest: int, end: int) -> Steps:
        """A copy of the steps of these parts, but for those before number `oldest` and from `end` on."""
        (head, _), ends = run[0], []
        skip = max(0, oldest - head.first)
        for part, at in run:
            ends.append(part.indptr[1 : len(part.indptr) - max(0, part.end - end)] + at)
        a = run[0][1] + int(head.indptr[skip])
        indptr = np.concatenate([np.array([a]), np.concatenate(ends)[skip:]]) - a
        return Steps(head.first + skip, indptr, *self._entries.copy(a, a + int(indptr[-1])))

    @property
    def _oldest(self) -> int:
        """Number of the oldest step within the memory."""
        return self._parts[-1].end - self.memory_steps if self._parts else 0

    def state(self) -> dict[str, NDArray]:
        """Arrays for a checkpoint."""
        indices, counts = self._entries.copy(0, self._entries.n)
        indptr, at = [np.zeros(1, np.int64)], 0
        for part in self._parts:
            indptr.append(part.indptr[1:] + at)
            at += int(part.indptr[-1])
        marks = np.array([[p.first, p.end - p.first, p.at_rest] for p in self._parts], np.int64).reshape(-1, 3)
        return {
            "marks": marks, "indptr": np.concatenate(indptr), "indices": indices, "counts": counts,
            "at_rest": np.array([self._at_rest]),
        }  # fmt: skip

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`."""
        self.clear()
        at = 0
        for first, n, rest in state["marks"].tolist():
            indptr = state["indptr"][at : at + n + 1]
            self._parts.append(_Part(first, indptr - indptr[0], bool(rest)))
            at += n
        self._entries.put(state["indices"], state["counts"])
        self._at_rest = bool(state["at_rest"][0])
