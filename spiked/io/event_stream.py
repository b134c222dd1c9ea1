"""Event Stream files (``.es``), version 2, DVS events: 1 byte time step and polarity, u16 x, u16 y.

The byte's upper 7 bits are the us since the last event; 255 stands alone and adds 127 us, 254 stands alone and is a
mark without meaning here. y counts from below in the file, from above in what is decoded.

Source: A. Marcireau, "Event Stream specification" (github.com/neuromorphicsystems/event_stream).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spiked.io.chunks import BLOCK, Blocks, Opened, RecordingError, read_full
from spiked.io.events import EVENT_DTYPE, Events, Geometry
from spiked.learners.jit import kernel

MAGIC = b"Event Stream"
HEADER_BYTES = 20
_KINDS = ("generic", "dvs", "atis", "asynchronous and rgb")
_TIME, _CONSUMED = 0, 1


@kernel
def _decode_es(raw: NDArray[np.uint8], height: int, state: NDArray[np.int64], out: Events) -> int:
    n, i, t = 0, 0, state[_TIME]
    while i < raw.shape[0]:
        step = np.int64(raw[i])
        if step >= 254:
            t += 127 if step == 255 else 0
            i += 1
            continue
        if i + 5 > raw.shape[0]:
            break
        t += step >> 1
        event = out[n]
        event.t = t
        event.x = np.int64(raw[i + 1]) | np.int64(raw[i + 2]) << 8
        event.y = height - 1 - (np.int64(raw[i + 3]) | np.int64(raw[i + 4]) << 8)
        event.on = step & 1
        n += 1
        i += 5
    state[_TIME], state[_CONSUMED] = t, i
    return n


def open_es(path: Path) -> Opened:
    """Open an Event Stream file.

    Raises
    ------
    RecordingError : cut off within the header, another version, or other events than DVS.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if len(head) > 15 and (head[12] != 2 or head[15] != 1):
        kind = _KINDS[head[15]] if head[15] < len(_KINDS) else str(head[15])
        raise RecordingError(f"{path}: version {head[12]}, {kind} events; known is version 2 with dvs events")
    if len(head) < HEADER_BYTES:
        raise RecordingError(f"{path}: header cut off at byte {len(head)}")
    width, height = int.from_bytes(head[16:18], "little"), int.from_bytes(head[18:20], "little")
    return Opened("es", Geometry(width, height), lambda warnings: _blocks(path, height, warnings))


def _blocks(path: Path, height: int, warnings: list[str]) -> Blocks:
    raw = np.empty(5 * BLOCK, np.uint8)
    state = np.zeros(2, np.int64)
    offset, kept = HEADER_BYTES, 0
    with path.open("rb") as file:
        file.seek(offset)
        while got := read_full(file, raw[kept:]):
            out = np.empty(BLOCK, EVENT_DTYPE)
            filled = kept + got
            yield offset, out[: _decode_es(raw[:filled], height, state, out)]
            used = int(state[_CONSUMED])
            kept = filled - used
            raw[:kept] = raw[used:filled].copy()
            offset += used
    if kept:
        warnings.append(f"{path}: cut off within an event at byte {offset} ({kept} of 5 bytes left out)")
