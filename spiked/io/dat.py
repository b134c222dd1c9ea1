"""Prophesee DAT files, version 2: 8-byte events, u32 time in us, then x (14 bits), y (14 bits), polarity (4 bits).

Source: Prophesee, "DAT Format" (docs.prophesee.ai, file formats).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spiked.io.chunks import Blocks, Opened, RecordingError, clock_state, record_blocks, text_header, unwrap
from spiked.io.events import Events, Geometry
from spiked.learners.jit import kernel

_CAMERA_EVENTS = (0x00, 0x0C)  # of the first Prophesee cameras, and of all later ones


@kernel
def _decode_dat(words: NDArray[np.uint32], state: NDArray[np.int64], out: Events) -> int:
    for k in range(out.shape[0]):
        pixel = np.int64(words[2 * k + 1])
        event = out[k]
        event.t = unwrap(state, np.int64(words[2 * k]))
        event.x = pixel & 0x3FFF
        event.y = pixel >> 14 & 0x3FFF
        event.on = 1 if pixel >> 28 else 0
    return out.shape[0]


def open_dat(path: Path) -> Opened:
    """Open a DAT file.

    Raises
    ------
    RecordingError : cut off before the first event, another version, or events of another kind or size.
    """
    lines, offset = text_header(path, b"%")
    text = "\n".join(lines)
    told = re.search(r"^% *Version (\d+)", text, re.MULTILINE | re.IGNORECASE)
    if told and told[1] != "2":
        raise RecordingError(f"{path}: DAT version {told[1]}, known is 2")
    with path.open("rb") as file:
        file.seek(offset)
        kind = file.read(2)
    if len(kind) < 2:
        raise RecordingError(f"{path}: header cut off at byte {offset + len(kind)}")
    if kind[0] not in _CAMERA_EVENTS or kind[1] != 8:
        raise RecordingError(f"{path}: events of kind {kind[0]} and {kind[1]} bytes, known are 0 and 12 of 8 bytes")
    width = re.search(r"^% *Width (\d{1,5})", text, re.MULTILINE | re.IGNORECASE)
    height = re.search(r"^% *Height (\d{1,5})", text, re.MULTILINE | re.IGNORECASE)

    def blocks(warnings: list[str]) -> Blocks:
        state = clock_state()
        return record_blocks(
            path, offset + 2, 8, lambda raw, out: int(_decode_dat(raw.view("<u4"), state, out)), warnings
        )

    return Opened("dat", Geometry(int(width[1]), int(height[1])) if width and height else None, blocks)
