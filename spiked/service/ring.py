"""A queue of numbers that lie in one piece of memory, taken anew only when more are kept than ever before."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Ring:
    """A queue: numbers are put in at its end and let go at its beginning, and none is moved for that.

    Parameters
    ----------
    dtype : of the numbers.
    most : numbers to have room for at most, unless there are more.

    Attributes
    ----------
    n : numbers in it.
    """

    def __init__(self, dtype: DTypeLike, most: int) -> None:
        self._room: NDArray = np.zeros(min(1024, most), dtype)
        self._most = most
        self._begin = self.n = 0

    def put(self, numbers: NDArray) -> None:
        """Take `numbers` in, copied."""
        n = len(numbers)
        if self.n + n > len(self._room):
            size = max(self.n + n, min(3 * len(self._room) // 2, self._most))
            grown = np.zeros(size, self._room.dtype)
            grown[: self.n] = self.copy(0, self.n)
            self._room, self._begin = grown, 0
        at = (self._begin + self.n) % len(self._room)
        before = min(n, len(self._room) - at)
        self._room[at : at + before] = numbers[:before]
        self._room[: n - before] = numbers[before:]
        self.n += n

    def let_go(self, n: int) -> None:
        """Forget the `n` numbers that were put in first."""
        self._begin, self.n = (self._begin + n) % len(self._room), self.n - n

    def copy(self, start: int, stop: int) -> NDArray:
        """The numbers at `start` up to, not including, `stop`, counted from the oldest."""
        a, size = (self._begin + start) % len(self._room), len(self._room)
        n = stop - start
        return np.concatenate([self._room[a : a + n], self._room[: max(0, a + n - size)]])

    def sum(self, start: int, stop: int) -> int:
        """What the numbers at `start` up to, not including, `stop` add up to."""
        a, size = (self._begin + start) % len(self._room), len(self._room)
        n = stop - start
        return int(self._room[a : a + n].sum() + self._room[: max(0, a + n - size)].sum())
