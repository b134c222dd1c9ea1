"""Address-event files: AEDAT 1.0 and 2.0 (jAER), and bare big-endian address and time pairs.

A record is an address (16 bits in AEDAT 1.0, else 32) and a time in us (32 bits), big-endian. What an address means is
the chip's own business; `LAYOUTS` holds the chips known here. Order is the file's own, steps back included.

Sources: iniVation, "AEDAT 1.0" and "AEDAT 2.0" (docs.inivation.com, file formats). jAER's orientation: x mirrored,
y from below. Those pages say bit 0 set means ON for the DVS128; jAER and its recordings say OFF, and are followed.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spiked.io.chunks import Blocks, Opened, RecordingError, clock_state, record_blocks, text_header, unwrap
from spiked.io.events import Events, Geometry
from spiked.learners.jit import kernel


@dataclass(frozen=True)
class Bits:
    """Where an address keeps what; a mask of 0 is a field that the chip does not have."""

    x_shift: int
    x_mask: int
    mirror: int
    """Largest x where x counts from the right, else -1."""
    y_shift: int = 0
    y_mask: int = 0
    high_y_shift: int = 0
    high_y_mask: int = 0
    high_y_step: int = 0
    """Second field that counts in y, in steps of so many rows."""
    on_shift: int = 0
    on_mask: int = 0
    on_flip: int = 1
    other_mask: int = 0
    """Bits of addresses that are not pixels' events: triggers, frames, inertial samples."""


def _davis(width: int) -> Bits:
    return Bits(12, 0x3FF, width - 1, 22, 0x1FF, on_shift=11, on_mask=1, on_flip=0, other_mask=0x80000400)


LAYOUTS: dict[str, tuple[Geometry, Bits]] = {
    "dvs128": (Geometry(128, 128), Bits(1, 0x7F, 127, 8, 0x7F, on_mask=1, other_mask=0x8000)),
    "davis240": (Geometry(240, 180), _davis(240)),
    "davis346": (Geometry(346, 260), _davis(346)),
    # x: channel; y: ear * 4 + cell; every spike counts as on
    "cochlea": (Geometry(64, 8, 1), Bits(2, 63, -1, 8, 3, high_y_shift=1, high_y_mask=1, high_y_step=4)),
    # address = 2 * channel + on; a mask wider than the chip, so that foreign addresses fall outside the geometry
    "nas64": (Geometry(64, 1), Bits(1, 0xFFFF, -1, 17, 0x7FFF, on_mask=1, on_flip=0)),
}
"""Geometry and address of each chip: DVS128; DAVIS240 and 346; CochleaAMS (64 channels, 2 ears x 4 cells); the FPGA
cochlea NAS (64 channels, ON and OFF)."""

_CHIPS = {
    "dvs128": "dvs128",
    "tmpdiff128": "dvs128",
    "cochlea": "cochlea",
    "davis240": "davis240",
    "davis346": "davis346",
}


@kernel
def _decode_aer(
    raw: NDArray[np.uint8], size: int, bits: NDArray[np.int64], state: NDArray[np.int64], out: Events
) -> int:
    n = 0
    for start in range(0, raw.shape[0], size):
        address = np.int64(0)
        for k in range(start, start + size - 4):
            address = address << 8 | np.int64(raw[k])
        t = np.int64(0)
        for k in range(start + size - 4, start + size):
            t = t << 8 | np.int64(raw[k])
        t = unwrap(state, t)
        if address & bits[11] != 0:
            continue
        x = address >> bits[0] & bits[1]
        if bits[2] >= 0:
            x = bits[2] - x
        event = out[n]
        event.t = t
        event.x = x
        event.y = (address >> bits[3] & bits[4]) + (address >> bits[5] & bits[6]) * bits[7]
        event.on = (address >> bits[8] & bits[9]) ^ bits[10]
        n += 1
    return n


def _opened(path: Path, name: str, offset: int, size: int, layout: str) -> Opened:
    geometry, fields = LAYOUTS[layout]
    bits = np.array(astuple(fields), np.int64)

    def blocks(warnings: list[str]) -> Blocks:
        state = clock_state()
        return record_blocks(path, offset, size, lambda raw, out: _decode_aer(raw, size, bits, state, out), warnings)

    return Opened(name, geometry, blocks)


def _first_records(path: Path, offset: int) -> NDArray[np.uint32]:
    """Up to 65536 pairs of address and time."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(8 << 16)
    return np.frombuffer(data, ">u4", len(data) // 8 * 2).reshape(-1, 2)


def open_aedat1(path: Path, layout: str | None) -> Opened:
    """Open an AEDAT 1.0 file; `layout` is ``"dvs128"`` unless given."""
    _, offset = text_header(path, b"#")
    return _opened(path, "aedat1", offset, 6, layout or "dvs128")


def open_aedat2(path: Path, layout: str | None) -> Opened:
    """Open an AEDAT 2.0 file.

    Where `layout` is not given, the header's line ``AEChip`` decides, or, in files from before 2014 that have none,
    the addresses: all below 1024 are the cochlea's (a DVS128 would be silent but for its four lowest rows), others of
    16 bits the DVS128's.
    """
    lines, offset = text_header(path, b"#")
    chip = next((found[1] for line in lines if (found := re.search(r"AEChip: *(?:.*\.)?(\w+)", line))), None)
    if layout is None and chip is not None:
        layout = next((known for part, known in _CHIPS.items() if part in chip.lower()), None)
        if layout is None:
            raise RecordingError(f"{path}: chip {chip} is unknown; give a layout: {', '.join(LAYOUTS)}")
    if layout is None:
        addresses = _first_records(path, offset)[:, 0]
        if addresses.size and np.mean(addresses < 1024) > 0.99:
            layout = "cochlea"
        elif not addresses.size or np.mean(addresses < 65536) > 0.99:
            layout = "dvs128"
        else:
            raise RecordingError(
                f"{path}: no chip in the header, addresses up to {addresses.max():#x}; "
                f"give a layout: {', '.join(LAYOUTS)}"
            )
    return _opened(path, "aedat2", offset, 8, layout)


def open_aer(path: Path, layout: str | None) -> Opened:
    """Open a file of bare pairs; `layout` is ``"nas64"`` unless given."""
    return _opened(path, "aer", 0, 8, layout or "nas64")


def looks_like_aer(path: Path) -> bool:
    """Whether a file without header begins like a 64-channel NAS recording: addresses below 128, steady times."""
    records = _first_records(path, 0)[:4096].astype(np.int64)
    if records.shape[0] == 0 or np.mean(records[:, 0] < 128) < 0.99:
        return False
    steps = np.diff(records[:, 1])
    return bool(steps.size == 0 or np.mean((steps > -1_000) & (steps < 60_000_000)) > 0.99)
