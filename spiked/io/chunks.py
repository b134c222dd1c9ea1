"""What the readers of recordings share: chunks of bounded size, text headers, 32-bit clocks that start again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.io.events import EVENT_DTYPE, Events, Geometry
from spiked.learners.jit import kernel

BLOCK = 65536
"""Events (or words) that a reader decodes at a time: what bounds its memory, whatever the file's size."""
MAX_HEADER_BYTES = 16 << 20
"""jAER writes all its preferences into a header."""

Blocks = Iterator[tuple[int, Events]]
"""Events block by block, each with the byte of the file where it begins."""

LAST, LAP = 0, 1
"""Cells of a 32-bit clock's state (int64): the last time, and the us in full laps."""


class RecordingError(ValueError):
    """A file that cannot be read at all: one line with the path, what was found and what is known."""


class Opened(NamedTuple):
    """A recognised file.

    `geometry` is None where the file does not tell it; ``blocks(warnings)`` decodes from the start and appends one
    line per damage to `warnings`.
    """

    format: str
    geometry: Geometry | None
    blocks: Callable[[list[str]], Blocks]


def read_full(file: BinaryIO, buffer: NDArray[np.uint8]) -> int:
    """Fill `buffer` from `file` as far as the file goes; the bytes read."""
    view, got = buffer.data, 0
    while got < len(view):
        n = file.readinto(view[got:])  # type: ignore[attr-defined]
        if not n:
            break
        got += n
    return got


def text_header(path: Path, mark: bytes, end: bytes | None = None) -> tuple[list[str], int]:
    """Lines at the start of a file that begin with `mark`, up to and including the line `end`; the bytes they take.

    A line is printable text and ends as the first line does, so that an event that happens to begin with `mark` is
    not taken for one.

    Raises
    ------
    RecordingError : the file stops within the header, a line is damaged, or the header exceeds 16 MiB.
    """
    lines: list[str] = []
    size, line_end = 0, b""
    with path.open("rb") as file:
        while True:
            line = file.readline(MAX_HEADER_BYTES)
            text = line.rstrip(b"\r\n")
            strange = sum(byte < 32 and byte != 9 for byte in text)
            if line.startswith(mark) and 0 < strange < 0.1 * len(text):  # too much text to be events
                raise RecordingError(f"{path}: damaged header line at byte {size}")
            if not line.startswith(mark) or strange:
                return lines, size
            if not line.endswith(b"\n"):
                raise RecordingError(f"{path}: header cut off at byte {size + len(line)}")
            line_end = line_end or (b"\r\n" if line.endswith(b"\r\n") else b"\n")
            if not line.endswith(line_end):
                return lines, size
            size += len(line)
            if size > MAX_HEADER_BYTES:
                raise RecordingError(f"{path}: header of more than {MAX_HEADER_BYTES} bytes")
            lines.append(text.decode("latin-1"))
            if end is not None and text == end:
                return lines, size


def clock_state() -> NDArray[np.int64]:
    """State of a 32-bit clock that has shown nothing."""
    return np.array([-1, 0], np.int64)


@kernel
def unwrap(state: NDArray[np.int64], t: Any) -> Any:
    """Time of a 32-bit clock in us: a step of more than half its range is a rollover, forward or back."""
    if state[LAST] >= 0:
        step = t - state[LAST]
        if step < -(1 << 31):
            state[LAP] += 1 << 32
        elif step > 1 << 31 and state[LAP] > 0:
            state[LAP] -= 1 << 32
    state[LAST] = t
    return state[LAP] + t


def record_blocks(
    path: Path,
    offset: int,
    size: int,
    decode: Callable[[NDArray[np.uint8], Events], int],
    warnings: list[str],
) -> Blocks:
    """Decode a file of records of `size` bytes, from byte `offset` on, each of which is one event or none."""
    raw = np.empty(BLOCK * size, np.uint8)
    with path.open("rb") as file:
        file.seek(offset)
        while got := read_full(file, raw):
            whole = got // size
            out = np.empty(whole, EVENT_DTYPE)
            yield offset, out[: decode(raw[: whole * size], out)]
            if got % size:
                cut = offset + whole * size
                warnings.append(
                    f"{path}: cut off within an event at byte {cut} ({got % size} of {size} bytes left out)"
                )
            offset += got
