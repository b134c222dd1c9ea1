"""Raw windows kept to be shown again: a class-balanced reservoir within a budget of bytes.

A window is kept as its events, little more than one byte each: for every step how many there are, and the gaps from
channel to channel, a byte each unless they are wide. Where not all counts are 1, they follow as float32.

Which windows stay (Chrysakis and Moens 2020): while there is room, all; then a class that is not the largest one
displaces a random window of the largest; a window of the largest displaces one of its own with the chance that each
window of it so far is as likely to be here. Draws are a counter's, so that the same stream keeps the same windows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import Steps
from spiked.learners.counter import make_key, word
from spiked.learners.jit import kernel

MANY = 0x80
WIDE = 0xFF
AT, LENGTH, LABEL, STEPS = range(4)
BYTES_A_WINDOW = 256
"""No window is thought to take less, which bounds their number."""


@kernel
def _put(out, at, value):  # type: ignore[no-untyped-def]
    """Write `value`, seven bits a byte, the lowest first; the place after it."""
    while value >= MANY:
        out[at] = (value & 0x7F) | MANY
        value >>= 7
        at += 1
    out[at] = value
    return at + 1


@kernel
def _take(source, at):  # type: ignore[no-untyped-def]
    """Read a number; it, and the place after it."""
    value, bits = np.int64(0), 0
    while source[at] & MANY:
        value |= np.int64(source[at] & 0x7F) << bits
        bits += 7
        at += 1
    return value | (np.int64(source[at]) << bits), at + 1


@kernel
def _put_gap(out, at, gap):  # type: ignore[no-untyped-def]
    """Write a gap: a byte, or `WIDE` and what is more than that."""
    if gap < WIDE:
        out[at] = gap
        return at + 1
    out[at] = WIDE
    return _put(out, at + 1, gap - WIDE)


@kernel
def _take_gap(source, at):  # type: ignore[no-untyped-def]
    """Read a gap; it, and the place after it."""
    gap = np.int64(source[at])
    if gap < WIDE:
        return gap, at + 1
    more, at = _take(source, at + 1)
    return gap + more, at


@kernel
def _encode(indptr, indices, counts, out):  # type: ignore[no-untyped-def]
    """Bytes of these steps, or -1 where they do not fit into `out`."""
    at = 0
    raw = counts.view(np.uint8)
    for t in range(len(indptr) - 1):
        a, b = indptr[t], indptr[t + 1]
        ones = True
        for k in range(a, b):
            ones = ones and counts[k] == 1.0
        if at + 10 + (b - a) * (6 + (0 if ones else 4)) > len(out):
            return -1
        at = _put(out, at, 2 * (b - a) + (0 if ones else 1))
        last = np.int64(-1)
        for k in range(a, b):
            at = _put_gap(out, at, np.int64(indices[k]) - last - 1)
            last = np.int64(indices[k])
        if not ones:
            for k in range(4 * a, 4 * b):
                out[at] = raw[k]
                at += 1
    return at


@kernel
def _count(source, n_steps):  # type: ignore[no-untyped-def]
    """Entries and bytes of `n_steps` steps."""
    at, total = 0, 0
    for _ in range(n_steps):
        head, at = _take(source, at)
        n = head >> 1
        total += n
        for _ in range(n):
            _, at = _take_gap(source, at)
        if head & 1:
            at += 4 * n
    return total, at


@kernel
def _decode(source, indptr, indices, counts):  # type: ignore[no-untyped-def]
    """Fill in the steps that `_encode` wrote."""
    at = 0
    raw = counts.view(np.uint8)
    for t in range(len(indptr) - 1):
        head, at = _take(source, at)
        a, n = indptr[t], head >> 1
        last = -1
        for k in range(a, a + n):
            gap, at = _take_gap(source, at)
            last += gap + 1
            indices[k] = last
            counts[k] = 1.0
        if head & 1:
            for k in range(4 * a, 4 * (a + n)):
                raw[k] = source[at]
                at += 1
        indptr[t + 1] = a + n


def pack_steps(steps: Steps, out: NDArray[np.uint8]) -> int:
    """Write steps into `out`; how many bytes they took, or -1 where they do not (surely) fit."""
    return int(_encode(steps.indptr, steps.indices, np.ascontiguousarray(steps.counts), out))


def unpack_steps(source: NDArray[np.uint8], n_steps: int) -> tuple[Steps, int]:
    """The first steps that `pack_steps` wrote there, numbered from 0, and the place after them."""
    n, end = (int(x) for x in _count(source, n_steps))
    steps = Steps(0, np.zeros(n_steps + 1, np.int64), np.zeros(n, np.int32), np.zeros(n, np.float32))
    _decode(source, steps.indptr, steps.indices, steps.counts)
    return steps, end


class Reservoir:
    """Windows with their labels.

    Parameters
    ----------
    budget_bytes : size of everything that is kept here.
    n_out : classes at present.
    seed : of which windows stay.
    """

    def __init__(self, budget_bytes: int, n_out: int, seed: int = 0) -> None:
        rows = max(1, budget_bytes // (BYTES_A_WINDOW + 32))
        self._bytes = np.zeros(max(0, budget_bytes - 32 * rows), np.uint8)
        self._table = np.zeros((rows, 4), np.int64)
        self._tally = np.zeros(4, np.int64)  # windows, bytes in use, draws, refused
        self._seen = np.zeros(n_out, np.int64)
        self._key = make_key(seed)[0]

    def __len__(self) -> int:
        return int(self._tally[0])

    @property
    def refused(self) -> int:
        """Windows that were too large to be kept at all: more than a sixteenth of the budget."""
        return int(self._tally[3])

    @property
    def labels(self) -> NDArray[np.int64]:
        """Label of each window that is kept (a copy)."""
        return self._table[: len(self), LABEL].copy()

    def _draw(self, n: int) -> int:
        """A number below `n`."""
        self._tally[2] += 1
        return int(word(self._key, np.uint64(self._tally[2]))) % n

    @property
    def largest(self) -> int:
        """Bytes of the largest window that may be kept."""
        return len(self._bytes) // 16

    def add(self, packed: NDArray[np.uint8], n_steps: int, label: int) -> bool:
        """Keep a window (`pack_steps`), perhaps in the place of others; whether it was kept."""
        if len(packed) > self.largest:
            self.refuse()
            return False
        self._seen[label] += 1
        if self._is_short_of(len(packed)):
            here = np.bincount(self.labels, minlength=len(self._seen))
            if here[label] == here.max() and self._draw(int(self._seen[label])) >= here[label]:
                return False
        while self._is_short_of(len(packed)):
            here = np.bincount(self.labels, minlength=len(self._seen))
            largest = np.flatnonzero(here == here.max())
            out = label if label in largest else int(largest[self._draw(len(largest))])
            mine = np.flatnonzero(self.labels == out)
            self._remove(int(mine[self._draw(len(mine))]))
        n, used = len(self), int(self._tally[1])
        self._bytes[used : used + len(packed)] = packed
        self._table[n] = used, len(packed), label, n_steps
        self._tally[:2] += 1, len(packed)
        return True

    def refuse(self) -> None:
        """Count a window that was too large."""
        self._tally[3] += 1

    def _is_short_of(self, n_bytes: int) -> bool:
        return len(self) == len(self._table) or self._tally[1] + n_bytes > len(self._bytes)

    def _remove(self, which: int) -> None:
        """Let one window go, and close the gap."""
        n, used = len(self), int(self._tally[1])
        at, length = int(self._table[which, AT]), int(self._table[which, LENGTH])
        self._bytes[at : used - length] = self._bytes[at + length : used].copy()
        self._bytes[used - length : used] = 0
        self._table[which : n - 1] = self._table[which + 1 : n].copy()
        self._table[n - 1] = 0
        self._table[which : n - 1, AT] -= length
        self._tally[:2] -= 1, length

    def pick(self) -> int:
        """A window at random, each class alike."""
        labels = self.labels
        classes = np.unique(labels)
        mine = np.flatnonzero(labels == classes[self._draw(len(classes))])
        return int(mine[self._draw(len(mine))])

    def get(self, which: int) -> tuple[NDArray[np.uint8], int, int]:
        """A window as it is packed (a view), its number of steps and its label."""
        at, length, label, n_steps = self._table[which].tolist()
        return self._bytes[at : at + length], n_steps, label

    def grow(self, n_out: int) -> None:
        """Make room for more classes."""
        self._seen = np.concatenate([self._seen, np.zeros(n_out - len(self._seen), np.int64)])

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return {"bytes": self._bytes, "table": self._table, "tally": self._tally, "seen": self._seen}
