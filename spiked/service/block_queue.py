"""A queue of entries in blocks of memory that are used again: more is taken only when more are kept than before."""

from __future__ import annotations

from collections import deque
from itertools import islice

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 14
"""Entries in a block, 128 KB."""


class BlockQueue:
    """Active channels and their counts are put in at the end and let go at the beginning; none is moved for that.

    Attributes
    ----------
    n : entries in it.
    """

    def __init__(self) -> None:
        self._blocks: deque[tuple[NDArray[np.int32], NDArray[np.float32]]] = deque()
        self._free: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
        self._begin = self.n = 0

    def put(self, indices: NDArray[np.int32], counts: NDArray[np.float32]) -> None:
        """Take entries in, copied."""
        done, n = 0, len(indices)
        while done < n:
            end = self._begin + self.n
            at, room = end % BLOCK, len(self._blocks) * BLOCK - end
            if not room:
                block = (np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)) if not self._free else self._free.pop()
                self._blocks.append(block)
                room = BLOCK
            some = min(room, n - done)
            mine, its = self._blocks[-1]
            mine[at : at + some] = indices[done : done + some]
            its[at : at + some] = counts[done : done + some]
            self.n += some
            done += some

    def let_go(self, n: int) -> None:
        """Forget the `n` entries that were put in first."""
        self._begin, self.n = self._begin + n, self.n - n
        while self._begin >= BLOCK:
            self._free.append(self._blocks.popleft())
            self._begin -= BLOCK

    def copy(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The entries at `start` up to, not including, `stop`, counted from the oldest."""
        a, b = self._begin + start, self._begin + stop
        first = a // BLOCK
        indices, counts = [np.empty(0, np.int32)], [np.empty(0, np.float32)]
        for k, (its_indices, its_counts) in enumerate(islice(self._blocks, first, -(-b // BLOCK)), first):
            piece = slice(max(0, a - k * BLOCK), b - k * BLOCK)
            indices.append(its_indices[piece])
            counts.append(its_counts[piece])
        return np.concatenate(indices), np.concatenate(counts)
