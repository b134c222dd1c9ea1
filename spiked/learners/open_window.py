"""The steps of the window that is open, packed as they come: what is taught at its end can then be kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import Steps
from spiked.learners.reservoir import Reservoir, pack_steps

TOO_LARGE = -1


class OpenWindow:
    """A window that grows with the steps that are noted; one that passes `size_bytes` is too large to be kept."""

    def __init__(self, size_bytes: int) -> None:
        self._bytes = np.zeros(size_bytes, np.uint8)
        self._at = np.zeros(2, np.int64)  # bytes, or TOO_LARGE; steps

    def note(self, steps: Steps) -> None:
        """Take in steps that have run."""
        if self._at[0] != TOO_LARGE:
            size = pack_steps(steps, self._bytes[self._at[0] :])
            self._at[0] = self._at[0] + size if size >= 0 else TOO_LARGE
        self._at[1] += steps.n

    def keep(self, store: Reservoir, label: int) -> bool:
        """Hand the window, of class `label`, to a reservoir, and begin the next; whether there was one."""
        size, n = self._at.tolist()
        self.drop()
        if n and size == TOO_LARGE:
            store.refuse()
        elif n:
            store.add(self._bytes[:size], n, label)
        return bool(n)

    def take(self, store: Reservoir) -> tuple[NDArray[np.uint8], int] | None:
        """Give the window away as it is packed, with its number of steps, and begin the next.

        None where there is none; one that is too large counts with `store`, which would not have it.
        """
        size, n = self._at.tolist()
        self.drop()
        if n and size == TOO_LARGE:
            store.refuse()
            return None
        return (self._bytes[:size].copy(), n) if n else None

    def drop(self) -> None:
        """Let the window go."""
        self._at[:] = 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let other steps than these make up a window; this one goes on after it."""
        at = self._at.copy()
        kept = self._bytes[: max(0, int(at[0]))].copy()
        self.drop()
        try:
            yield
        finally:
            self._at[:] = at
            self._bytes[: len(kept)] = kept

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return {"bytes": self._bytes, "at": self._at}
