"""AEDAT4 files (DV) through the package `aedat`, with the checks that it leaves out.

A file is a line, a header with its size, then frames: stream and size (i32 each), then so many bytes. The frames are
walked here beside the package, so that damage has a byte offset and a wild size is never handed on; the package
decompresses and decodes one frame at a time, so memory stays bounded by the largest frame.

Source: iniVation, "AEDAT 4.0" (docs.inivation.com, file formats).
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from spiked.io.chunks import Blocks, Opened, RecordingError
from spiked.io.events import EVENT_DTYPE, Geometry

MAGIC = b"#!AER-DAT4.0\r\n"
_MAX_HEADER = 16 << 20
_MAX_JUMP_US = 86_400_000_000  # a day between neighbouring packets is a damaged clock, not a pause


class _FaultError(ValueError):
    """What the package makes of damaged bytes."""


@contextmanager
def _faults() -> Iterator[None]:
    """Turn the package's errors into one; its panics too, which are no `Exception` and have no importable class."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise _FaultError(" ".join(str(error).split())) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise _FaultError("the package aedat gave up") from None


def _decoder(path: Path) -> Any:
    try:
        aedat = importlib.import_module("aedat")
    except ImportError:
        raise RecordingError(f"{path}: AEDAT4 needs the package aedat: pip install 'spiked[files]'") from None
    try:
        _header(path).decode()  # the package panics at text that is not UTF-8
        with _faults():
            return aedat.Decoder(str(path))
    except ValueError as error:
        raise RecordingError(f"{path}: AEDAT4 header is cut off or damaged ({error})") from None


def _header(path: Path) -> bytes:
    """The XML within the header."""
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        header = file.read(min(int.from_bytes(file.read(4), "little"), _MAX_HEADER))
    return header[max(0, header.find(b"<dv")) :] if b"<dv" in header else b""


def _end_of_frames(header: bytes) -> int | None:
    """Byte at which the table behind the frames begins (a field of the header's flatbuffer); None if not told."""
    try:
        (root,) = struct.unpack_from("<I", header, 0)
        (back,) = struct.unpack_from("<i", header, root)
        (field,) = struct.unpack_from("<H", header, root - back + 6)
        (table,) = struct.unpack_from("<q", header, root + field)
    except struct.error:
        return None
    return int(table) if field and table > 0 else None


def _frames(path: Path, warnings: list[str]) -> Iterator[int]:
    """Byte offsets of the frames, as far as they are whole."""
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<I", file.read(len(MAGIC) + 4)[len(MAGIC) :])
        end = _end_of_frames(file.read(min(header_bytes, _MAX_HEADER)))
        at = len(MAGIC) + 4 + header_bytes
        stop = file_bytes if end is None else end
        while at < min(stop, file_bytes):
            file.seek(at)
            head = file.read(8)
            stream, size = struct.unpack("<ii", head) if len(head) == 8 else (0, -1)
            if len(head) == 8 and (size < 0 or stream < 0):
                warnings.append(f"{path}: damaged packet header at byte {at}, the rest left out")
                return
            if len(head) < 8 or at + 8 + size > file_bytes:
                warnings.append(f"{path}: cut off within the packet that begins at byte {at}")
                return
            yield at
            at += 8 + size
        if at < stop:
            warnings.append(f"{path}: cut off at byte {at}, {stop - at} bytes of packets are missing")


def open_aedat4(path: Path) -> Opened:
    """Open an AEDAT4 file: the events of its first event stream.

    Raises
    ------
    RecordingError : the package `aedat` is absent, the header is damaged, or there is no event stream.
    """
    streams = _decoder(path).id_to_stream()
    ids = sorted(k for k, stream in streams.items() if stream.get("type") == "events")
    if not ids:
        kinds = ", ".join(sorted({str(stream.get("type")) for stream in streams.values()})) or "none"
        raise RecordingError(f"{path}: no event stream, only {kinds}")
    stream = streams[ids[0]]
    return Opened(
        "aedat4", Geometry(stream["width"], stream["height"]), lambda warnings: _blocks(path, ids[0], warnings)
    )


def _blocks(path: Path, stream_id: int, warnings: list[str]) -> Blocks:
    decoder = iter(_decoder(path))
    last_t: int | None = None
    for at in _frames(path, warnings):
        try:
            with _faults():
                packet = next(decoder, None)
        except _FaultError as error:
            warnings.append(f"{path}: damaged packet at byte {at}, the rest left out ({error})")
            return
        if packet is None:
            return
        found = packet.get("events")
        if packet["stream_id"] != stream_id or found is None or len(found) == 0:
            continue
        t = found["t"]
        low, high = int(t.min()), int(t.max())
        if high >= 1 << 62 or high - low > _MAX_JUMP_US or (last_t is not None and abs(low - last_t) > _MAX_JUMP_US):
            warnings.append(f"{path}: packet at byte {at} left out, its times {low}..{high} us do not follow {last_t}")
            continue
        if np.any(t[1:] < t[:-1]):
            warnings.append(f"{path}: times step back within the packet at byte {at}")
        last_t = high
        events = np.empty(len(found), EVENT_DTYPE)
        for name in ("t", "x", "y", "on"):
            events[name] = found[name]
        yield at, events
