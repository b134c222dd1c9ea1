"""Prophesee RAW files: a text header (``% key value``), then EVT2 or EVT3 words as the camera sent them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from spiked.io import evt
from spiked.io.chunks import BLOCK, Blocks, Opened, RecordingError, read_full, text_header
from spiked.io.events import EVENT_DTYPE, Geometry

_SENSORS = {
    "gen31": Geometry(640, 480),
    "gen3": Geometry(640, 480),
    "gen4": Geometry(1280, 720),
    "imx636": Geometry(1280, 720),
    "genx320": Geometry(320, 320),
}
"""By a part of the header's ``plugin_name``; older headers tell the size in no other way."""


def version(lines: list[str]) -> str | None:
    """The words of a header's file, such as ``"3.0"``; None where the header does not tell."""
    for line in lines:
        if found := re.fullmatch(r"% (?:evt |format EVT)([0-9.]+).*", line, re.IGNORECASE):
            return found[1] if "." in found[1] else {"2": "2.0", "3": "3.0", "21": "2.1"}.get(found[1], found[1])
    return None


def _geometry(lines: list[str]) -> Geometry | None:
    text = "\n".join(lines)
    if found := re.search(r"^% geometry (\d{1,4})x(\d{1,4})", text, re.MULTILINE):
        return Geometry(int(found[1]), int(found[2]))
    width, height = re.search(r"[; ]width=(\d{1,4})", text), re.search(r"[; ]height=(\d{1,4})", text)
    if width and height:
        return Geometry(int(width[1]), int(height[1]))
    plugin = re.search(r"^% plugin_name (.*)", text, re.MULTILINE)
    for name, geometry in _SENSORS.items():
        if plugin and name in plugin[1].lower():
            return geometry
    return None


def open_evt(path: Path, wanted: str) -> Opened:
    """Open a RAW file as `wanted`, ``"evt2"`` or ``"evt3"``.

    Raises
    ------
    RecordingError : the header is cut off, tells other words than those, or tells that they are big-endian.
    """
    lines, offset = text_header(path, b"% ", b"% end")
    told = version(lines)
    if told is not None and told != {"evt2": "2.0", "evt3": "3.0"}[wanted]:
        raise RecordingError(f"{path}: EVT {told} words, known are 2.0 and 3.0")
    if any(line.lower().startswith("% endianness big") for line in lines):
        raise RecordingError(f"{path}: big-endian words, known are little-endian ones")
    return Opened(wanted, _geometry(lines), lambda warnings: _blocks(path, offset, wanted, warnings))


def _blocks(path: Path, offset: int, wanted: str, warnings: list[str]) -> Blocks:
    size, decode = (4, evt.decode_evt2) if wanted == "evt2" else (2, evt.decode_evt3)
    raw = np.empty(BLOCK * size, np.uint8)
    state = evt.new_state()
    with path.open("rb") as file:
        file.seek(offset)
        while got := read_full(file, raw):
            words = raw[: got - got % size].view(f"<u{size}")
            start = offset
            while words.shape[0]:
                out = np.empty(BLOCK, EVENT_DTYPE)
                n = decode(words, out, state)
                yield start, out[:n]
                words = words[state[evt.CONSUMED] :]
                start += size * int(state[evt.CONSUMED])
            if got % size:
                cut = offset + got - got % size
                warnings.append(f"{path}: cut off within a word at byte {cut} ({got % size} of {size} bytes left out)")
            offset += got
    if state[evt.UNPLACED]:
        warnings.append(f"{path}: {state[evt.UNPLACED]} event words left out: no words before them said when and where")
