"""The last moments of a stream, kept as steps, so that a label that comes late can still teach."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import Steps

MAX_ENTRIES = 4_000_000
"""Active channels kept at most (32 MB), whatever the stream does."""


def join(parts: list[Steps]) -> Steps:
    """Put consecutive runs of steps together."""
    indptr = [np.zeros(1, np.int64)]
    at = 0
    for part in parts:
        indptr.append(part.indptr[1:] + at)
        at += int(part.indptr[-1])
    return Steps(
        parts[0].first,
        np.concatenate(indptr),
        np.concatenate([p.indices for p in parts]),
        np.concatenate([p.counts for p in parts]),
    )


class Recall:
    """The last `memory_steps` steps of one stream.

    A reset is kept as a mark: the dynamics were at rest there. Parts are let go of whole, but nothing older than the
    memory is ever given out: how the stream was cut into parts does not show.
    """

    def __init__(self, memory_steps: int) -> None:
        self.memory_steps = memory_steps
        self._parts: deque[tuple[Steps, bool]] = deque()
        self._entries = 0
        self._at_rest = True

    def add(self, steps: Steps) -> None:
        """Keep a run of steps, and let go of what is older than the memory."""
        if not self.memory_steps or not steps.n:
            return
        if steps.n > self.memory_steps:
            steps = steps.slice(steps.n - self.memory_steps, steps.n)
        if len(steps.indices) > MAX_ENTRIES:
            self.clear()
            return
        kept = Steps(steps.first, steps.indptr.copy(), steps.indices.copy(), steps.counts.copy())
        self._parts.append((kept, self._at_rest))
        self._entries += len(steps.indices)
        self._at_rest = False
        horizon = steps.first + steps.n - self.memory_steps
        while self._entries > MAX_ENTRIES or self._parts[0][0].first + self._parts[0][0].n <= horizon:
            self._entries -= len(self._parts.popleft()[0].indices)

    def mark_reset(self) -> None:
        """The dynamics are at rest here."""
        self._at_rest = True

    def clear(self) -> None:
        """Forget everything: stream time has begun anew."""
        self._parts.clear()
        self._entries = 0
        self._at_rest = True

    def holds(self, end: int) -> bool:
        """Whether step `end` - 1 is kept."""
        return end > self._oldest and any(p.first < end <= p.first + p.n for p, _ in self._parts)

    def spans(self, first: int, end: int) -> list[Steps]:
        """Kept steps from the last rest at or before `first` (or the oldest kept) up to `end`, cut at each rest.

        Empty where step `end` - 1 is no longer, or not yet, kept.
        """
        if not self.holds(end):
            return []
        oldest = self._oldest
        runs: list[list[Steps]] = [[]]
        for part, at_rest in self._parts:
            if part.first >= end:
                break
            if part.first + part.n <= oldest:
                continue
            if at_rest and part.first >= oldest:
                runs = [*([] if part.first <= first else runs), []]
            kept = part.slice(max(0, oldest - part.first), min(part.n, end - part.first))
            runs[-1].append(kept)
        return [join(run) for run in runs if run]

    @property
    def _oldest(self) -> int:
        """Number of the oldest step within the memory."""
        if not self._parts:
            return 0
        last = self._parts[-1][0]
        return last.first + last.n - self.memory_steps

    def state(self) -> dict[str, NDArray]:
        """Arrays for a checkpoint."""
        parts = [p for p, _ in self._parts]
        none = np.zeros(0, np.int64)
        whole = (
            join(parts) if parts else Steps(0, np.zeros(1, np.int64), none.astype(np.int32), none.astype(np.float32))
        )
        marks = np.array([[p.first, p.n, rest] for p, rest in self._parts], np.int64).reshape(-1, 3)
        return {
            "marks": marks, "indptr": whole.indptr, "indices": whole.indices, "counts": whole.counts,
            "at_rest": np.array([self._at_rest]),
        }  # fmt: skip

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`."""
        self.clear()
        at = 0
        for first, n, rest in state["marks"].tolist():
            indptr = state["indptr"][at : at + n + 1]
            a, b = int(indptr[0]), int(indptr[-1])
            part = Steps(first, indptr - a, state["indices"][a:b].copy(), state["counts"][a:b].copy())
            self._parts.append((part, bool(rest)))
            self._entries += b - a
            at += n
        self._at_rest = bool(state["at_rest"][0])
