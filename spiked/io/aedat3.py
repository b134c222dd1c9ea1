"""AEDAT 3.1 files (cAER, jAER): a text header, then little-endian packets of events of one type from one source.

A packet is a header of 28 bytes (type, source i16; size, offset of the time, laps of the 31-bit clock, capacity,
number, valid i32) and ``capacity * size`` bytes of events. Polarity events (type 1) are 8 bytes: u32 with x in bits
17-31, y in bits 2-16, polarity in bit 1, validity in bit 0; then the time, i32 in us. y counts from above.

Source: iniVation, "AEDAT 3.1" (docs.inivation.com, file formats).
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spiked.io.chunks import BLOCK, Blocks, Opened, RecordingError, read_full, text_header
from spiked.io.events import EVENT_DTYPE, Events, Geometry
from spiked.learners.jit import kernel

_PACKET = struct.Struct("<hhiiiiii")
_POLARITY = 1
_LAST_TYPE = 1000  # the format defines some twenty types; far above all of them lies damage
_SOURCES = {
    "dvs128": Geometry(128, 128),
    "davis128": Geometry(128, 128),
    "davis208": Geometry(208, 192),
    "davis240": Geometry(240, 180),
    "davis346": Geometry(346, 260),
    "davis640": Geometry(640, 480),
}


@kernel
def _decode_polarity(words: NDArray[np.uint32], base_us: int, out: Events) -> int:
    n = 0
    for k in range(0, words.shape[0], 2):
        data = np.int64(words[k])
        if data & 1 == 0:
            continue
        event = out[n]
        event.t = base_us + np.int64(words[k + 1])
        event.x = data >> 17 & 0x7FFF
        event.y = data >> 2 & 0x7FFF
        event.on = data >> 1 & 1
        n += 1
    return n


def open_aedat3(path: Path) -> Opened:
    """Open an AEDAT 3.1 file: the polarity events of its first source that has any.

    Raises
    ------
    RecordingError : the header is cut off, of another version or of another encoding than raw.
    """
    lines, offset = text_header(path, b"#", b"#!END-HEADER")
    if not lines or not lines[0].startswith("#!AER-DAT3.1"):
        raise RecordingError(f"{path}: header {lines[0] if lines else ''!r}, known is #!AER-DAT3.1")
    if lines[-1] != "#!END-HEADER":
        raise RecordingError(f"{path}: header without its end, #!END-HEADER, at byte {offset}")
    encoding = next((line[8:].strip() for line in lines if line.startswith("#Format:")), "RAW")
    if encoding.upper() != "RAW":
        raise RecordingError(f"{path}: events are stored as {encoding}, known is RAW")
    geometry = None
    for line in lines:
        described = re.match(r"#Source \d+: *(\w+)", line)
        if described and geometry is None:
            geometry = next((g for name, g in _SOURCES.items() if described[1].lower().startswith(name)), None)
    return Opened("aedat3", geometry, lambda warnings: _blocks(path, offset, warnings))


def _blocks(path: Path, offset: int, warnings: list[str]) -> Blocks:
    raw = np.empty(8 * BLOCK, np.uint8)
    source_read: int | None = None
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        while offset < file_bytes:
            file.seek(offset)
            head = file.read(_PACKET.size)
            if len(head) < _PACKET.size:
                warnings.append(f"{path}: cut off within a packet's header at byte {offset}")
                return
            kind, source, size, _, laps, capacity, number, _ = _PACKET.unpack(head)
            sane = 0 <= kind < _LAST_TYPE and source >= 0 and 0 < size < 1 << 26 and laps >= 0
            if not sane or not 0 <= number <= capacity or (kind == _POLARITY and size != 8):
                warnings.append(f"{path}: damaged packet header at byte {offset}, the rest left out")
                return
            begin, offset = offset, offset + _PACKET.size + capacity * size
            if offset > file_bytes:
                warnings.append(f"{path}: cut off within the packet that begins at byte {begin}")
            if kind != _POLARITY or source != (source if source_read is None else source_read):
                continue
            source_read = source
            left, at = number * 8, begin + _PACKET.size
            while left > 0:
                got = read_full(file, raw[: min(left, raw.size)])
                if got < 8:
                    break
                out = np.empty(got // 8, EVENT_DTYPE)
                words = raw[: got - got % 8].view("<u4")
                yield at, out[: _decode_polarity(words, laps << 31, out)]
                left -= got
                at += got
