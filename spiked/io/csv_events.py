"""Events as text: one per line, ``t,x,y,on`` with t in us; a first line may name the columns in another order.

An OFF event may be written 0 or -1. Read line by line, about 0.5 million events a second: for small files.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from spiked.io.chunks import BLOCK, Blocks, Opened, RecordingError
from spiked.io.events import EVENT_DTYPE

_NAMES = {
    "t": {"t", "ts", "time", "timestamp", "t_us", "us"},
    "x": {"x"},
    "y": {"y"},
    "on": {"on", "p", "pol", "polarity"},
}
_MAX_LINE = 256
_LIMITS = {"t": 1 << 62, "x": 65535, "y": 65535, "on": 1}


def _columns(line: bytes) -> tuple[list[int], bool] | None:
    """Places of t, x, y, on in a file's first line, and whether the line names them; None if it does neither."""
    cells = [cell.strip().lower() for cell in line.decode("latin-1").lstrip("#").split(",")]
    if len(cells) >= 4 and all(cell.isdigit() and len(cell) < 20 for cell in cells[:4]):
        return [0, 1, 2, 3], False
    places = [next((k for k, cell in enumerate(cells) if cell in names), -1) for names in _NAMES.values()]
    return (places, True) if -1 not in places else None


def looks_like_csv(path: Path) -> bool:
    """Whether the first line is four numbers or names the four columns."""
    with path.open("rb") as file:
        return _columns(file.readline(_MAX_LINE)) is not None


def open_csv(path: Path) -> Opened:
    """Open a text file of events; its geometry is what holds all of them."""
    with path.open("rb") as file:
        first = file.readline(_MAX_LINE)
    found = _columns(first)
    if found is None:
        raise RecordingError(f"{path}: first line {first[:40]!r} is neither t,x,y,on nor names these columns")
    places, named = found
    return Opened("csv", None, lambda warnings: _blocks(path, places, len(first) if named else 0, warnings))


def _blocks(path: Path, places: list[int], offset: int, warnings: list[str]) -> Blocks:
    with path.open("rb") as file:
        file.seek(offset)
        while lines := list(islice(iter(lambda: file.readline(_MAX_LINE), b""), BLOCK // 4)):
            events = np.zeros(len(lines), EVENT_DTYPE)
            n, start = 0, offset
            for line in lines:
                cells = line.split(b",")
                values = [cells[k].strip() if k < len(cells) else b"" for k in places]
                values[3] = b"0" if values[3] == b"-1" else values[3]
                fits = all(value.isdigit() and int(value[:20]) <= top for value, top in zip(values, _LIMITS.values()))
                if fits and line.endswith(b"\n"):
                    events[n] = tuple(int(value) for value in values)
                    n += 1
                elif fits and file.tell() == offset + len(line):  # a last line without line end may be cut
                    events[n] = tuple(int(value) for value in values)
                    n += 1
                    warnings.append(f"{path}: no line end after the last event, at byte {offset}")
                elif line.strip():
                    warnings.append(f"{path}: no event in the line at byte {offset}: {line[:40]!r}, the rest left out")
                    yield start, events[:n]
                    return
                offset += len(line)
            yield start, events[:n]
