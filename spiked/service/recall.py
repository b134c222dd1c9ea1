"""The last moments of a stream, kept as steps, so that a label that comes late can still teach."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import Steps
from spiked.service.ring import Ring

MAX_ENTRIES = 4_000_000
"""Active channels kept at most (32 MB), whatever the stream does."""


@dataclass
class _Part:
    """Consecutive steps: the number of the first, how many, and whether the dynamics were at rest before them."""

    first: int
    n: int
    at_rest: bool


class Recall:
    """The last `memory_steps` steps of one stream.

    A reset is kept as a mark: the dynamics were at rest there. How the stream was cut into runs does not show.
    """

    def __init__(self, memory_steps: int) -> None:
        self.memory_steps = memory_steps
        self.clear()

    def clear(self) -> None:
        """Forget everything: stream time has begun anew."""
        self._parts: deque[_Part] = deque()
        self._sizes = Ring(np.int32, max(1, self.memory_steps))
        self._indices, self._counts = Ring(np.int32, MAX_ENTRIES), Ring(np.float32, MAX_ENTRIES)
        self._at_rest = True

    def add(self, steps: Steps) -> None:
        """Keep a run of steps, and let go of what is older than the memory."""
        if not self.memory_steps or not steps.n:
            return
        if steps.n > self.memory_steps:
            steps = steps.slice(steps.n - self.memory_steps, steps.n)
            self._at_rest = False  # it was before what is let go
        if len(steps.indices) > MAX_ENTRIES:
            self.clear()
            return
        self._let_go(steps.first + steps.n - self.memory_steps, MAX_ENTRIES - len(steps.indices))
        self._put(_Part(steps.first, steps.n, self._at_rest), np.diff(steps.indptr), steps.indices, steps.counts)
        self._at_rest = False

    def _put(self, part: _Part, sizes: NDArray, indices: NDArray, counts: NDArray) -> None:
        last = self._parts[-1] if self._parts else None
        if last and not part.at_rest and part.first == last.first + last.n:
            last.n += part.n
        else:
            self._parts.append(part)
        self._sizes.put(sizes)
        self._indices.put(indices)
        self._counts.put(counts)

    def _let_go(self, oldest: int, most: int) -> None:
        """Forget steps before number `oldest`, and more where more than `most` entries are left."""
        while self._parts and (self._parts[0].first < oldest or self._indices.n > most):
            part = self._parts[0]
            n = min(part.n, max(oldest - part.first, 1))
            entries = self._sizes.sum(0, n)
            self._sizes.let_go(n)
            self._indices.let_go(entries)
            self._counts.let_go(entries)
            part.first, part.n, part.at_rest = part.first + n, part.n - n, False
            if not part.n:
                self._parts.popleft()

    def mark_reset(self) -> None:
        """The dynamics are at rest here."""
        self._at_rest = True

    def holds(self, end: int) -> bool:
        """Whether step `end` - 1 is kept."""
        return any(p.first < end <= p.first + p.n for p in self._parts)

    def spans(self, first: int, end: int) -> list[Steps]:
        """Kept steps from the last rest at or before `first` (or the oldest kept) up to `end`, cut at each rest.

        Empty where step `end` - 1 is no longer, or not yet, kept.
        """
        if not self.holds(end):
            return []
        runs: list[tuple[int, int, int]] = []  # number of the first step, and where it lies from, and to
        at = 0
        for part in self._parts:
            if part.first >= end:
                break
            stop = at + min(part.n, end - part.first)
            if not runs or part.at_rest:
                runs = [*([] if part.at_rest and part.first <= first else runs), (part.first, at, stop)]
            else:
                runs[-1] = (*runs[-1][:2], stop)
            at += part.n
        return [self._steps(*run) for run in runs]

    def _steps(self, first: int, start: int, stop: int) -> Steps:
        """A copy of the kept steps from place `start` to `stop`."""
        indptr = np.zeros(stop - start + 1, np.int64)
        np.cumsum(self._sizes.copy(start, stop), out=indptr[1:])
        a = self._sizes.sum(0, start)
        b = a + int(indptr[-1])
        return Steps(first, indptr, self._indices.copy(a, b), self._counts.copy(a, b))

    def state(self) -> dict[str, NDArray]:
        """Arrays for a checkpoint."""
        whole = self._steps(0, 0, self._sizes.n)
        marks = np.array([[p.first, p.n, p.at_rest] for p in self._parts], np.int64).reshape(-1, 3)
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
            self._put(_Part(first, n, bool(rest)), np.diff(indptr), state["indices"][a:b], state["counts"][a:b])
            at += n
        self._at_rest = bool(state["at_rest"][0])
