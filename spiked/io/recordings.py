"""Recordings of event cameras and cochleas: one way to open them all, and to read them in bounded memory.

The format is told by the content, not by the name: ``.dat`` and ``.aedat`` mean several things. A file that is damaged
or cut off gives what is good, and a line in `Recording.warnings` with the byte where it stops being so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from spiked.io import aedat3, aedat4, aer, csv_events, dat, event_stream, evt_file, nmnist
from spiked.io.chunks import BLOCK, Opened, RecordingError, text_header
from spiked.io.events import Events, Geometry

__all__ = ["FORMATS", "Recording", "RecordingError", "open_recording", "summary"]

_OPENERS: dict[str, Callable[[Path, str | None], Opened]] = {
    "evt2": lambda path, _: evt_file.open_evt(path, "evt2"),
    "evt3": lambda path, _: evt_file.open_evt(path, "evt3"),
    "dat": lambda path, _: dat.open_dat(path),
    "aedat1": aer.open_aedat1,
    "aedat2": aer.open_aedat2,
    "aedat3": lambda path, _: aedat3.open_aedat3(path),
    "aedat4": lambda path, _: aedat4.open_aedat4(path),
    "nmnist": lambda path, _: nmnist.open_nmnist(path),
    "aer": aer.open_aer,
    "es": lambda path, _: event_stream.open_es(path),
    "csv": lambda path, _: csv_events.open_csv(path),
}
FORMATS = tuple(_OPENERS)
"""Names of the formats that are known."""

_SENSORS = (Geometry(304, 240), Geometry(640, 480), Geometry(1280, 720), Geometry(2048, 2048))
"""Sizes to choose from where a file does not tell its own: the smallest that holds all events (CSV: the very size)."""


class Recording:
    """A file of events, opened but not read.

    Attributes
    ----------
    path : the file.
    format : one of `FORMATS`.
    geometry : of the sensor; what lies outside is left out, with a warning.
    warnings : one line per damage, in the order in which reading met them; complete once `packets` has run out.
    """

    def __init__(self, path: Path, opened: Opened, geometry: Geometry) -> None:
        self.path = path
        self.format = opened.format
        self.geometry = geometry
        self.warnings: list[str] = []
        self._blocks = opened.blocks

    def packets(self, max_events: int = BLOCK) -> Iterator[Events]:
        """Read the events from the start, in the file's order, at most `max_events` at a time."""
        if max_events < 1:
            raise ValueError(f"max_events {max_events}: at least 1")
        self.warnings.clear()
        width, height = self.geometry.width, self.geometry.height
        outside, first_outside, total = 0, 0, 0
        for offset, block in self._blocks(self.warnings):
            events = block
            if events.shape[0] and (int(events["x"].max()) >= width or int(events["y"].max()) >= height):
                inside = (events["x"] < width) & (events["y"] < height)
                first_outside = first_outside if outside else offset
                outside += int(np.count_nonzero(~inside))
                events = events[inside]
            total += events.shape[0]
            for start in range(0, events.shape[0], max_events):
                yield events[start : start + max_events]
        if outside:
            self.warnings.append(
                f"{self.path}: {outside} events outside {width}x{height} left out, the first past byte {first_outside}"
            )
        if not total:
            self.warnings.append(f"{self.path}: no events, {self.path.stat().st_size} bytes")


def _detect(path: Path) -> str:
    """The format of a file, by its content."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise RecordingError(f"{path}: empty file; known formats are {', '.join(FORMATS)}")
    for mark, name in (
        (b"#!AER-DAT1.", "aedat1"),
        (b"#!AER-DAT2.", "aedat2"),
        (b"#!AER-DAT3.", "aedat3"),
        (aedat4.MAGIC, "aedat4"),
        (event_stream.MAGIC, "es"),
    ):
        if head.startswith(mark):
            return name
    if head.startswith(b"% "):
        lines, _ = text_header(path, b"% ", b"% end")
        words = evt_file.version(lines)
        if words is not None:
            return "evt3" if words.startswith("3") else "evt2"
        if any(line.lower().startswith(("% data file containing", "% version")) for line in lines):
            return "dat"
    elif csv_events.looks_like_csv(path):
        return "csv"
    elif path.suffix.lower() == ".bin" and nmnist.looks_like_nmnist(path):
        return "nmnist"
    elif aer.looks_like_aer(path):
        return "aer"
    elif nmnist.looks_like_nmnist(path):
        return "nmnist"
    raise RecordingError(f"{path}: begins with {head[:12]!r}, known formats are {', '.join(FORMATS)}")


def _fit(opened: Opened) -> Geometry:
    """Geometry that holds all events of a file: one pass over it."""
    width = height = 0
    for _, events in opened.blocks([]):
        if events.shape[0]:
            width = max(width, int(events["x"].max()) + 1)
            height = max(height, int(events["y"].max()) + 1)
    if opened.format == "csv":
        return Geometry(max(width, 1), max(height, 1))
    return next((g for g in _SENSORS if width <= g.width and height <= g.height), Geometry(width, height))


def open_recording(
    path: str | Path, format: str | None = None, layout: str | None = None, geometry: Geometry | None = None
) -> Recording:
    """Open a recording.

    Parameters
    ----------
    path : the file.
    format : one of `FORMATS`; told by the content unless given.
    layout : what the addresses of ``aedat1``, ``aedat2`` and ``aer`` mean, one of `aer.LAYOUTS`; told by the header
        or the addresses unless given.
    geometry : of the sensor, where it is known better than the file tells. A DAT or RAW file whose header is silent
        gets the smallest known sensor that holds its events, a CSV file the size that holds them: one pass over it.

    Raises
    ------
    RecordingError : one line; no such file, an empty or unrecognised file, or a header that cannot be used.
    """
    path = Path(path)
    if format is not None and format not in _OPENERS:
        raise RecordingError(f"{path}: format {format!r} is unknown; known are {', '.join(FORMATS)}")
    if layout is not None and layout not in aer.LAYOUTS:
        raise RecordingError(f"{path}: layout {layout!r} is unknown; known are {', '.join(aer.LAYOUTS)}")
    try:
        if not path.is_file():
            raise RecordingError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
        found = format if format is not None else _detect(path)
        if layout is not None and found not in ("aedat1", "aedat2", "aer"):
            raise RecordingError(f"{path}: a {found} file has no layout to choose; aedat1, aedat2 and aer have")
        opened = _OPENERS[found](path, layout)
        size = geometry or opened.geometry or _fit(opened)
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from None
    if size.width < 1 or size.height < 1:
        raise RecordingError(f"{path}: geometry {size}, width and height are at least 1")
    return Recording(path, opened, size)


def summary(recording: Recording) -> dict[str, str | int]:
    """Read a recording to its end: format, width, height, events, on (how many), t_first_us and t_last_us.

    The times are the earliest and the latest (0 where there are no events).
    """
    events = on = 0
    first: int | None = None
    last = 0
    for packet in recording.packets():
        events += packet.shape[0]
        on += int(np.count_nonzero(packet["on"]))
        low = int(packet["t"].min())
        first = low if first is None else min(first, low)
        last = max(last, int(packet["t"].max()))
    return {
        "format": recording.format,
        "width": recording.geometry.width,
        "height": recording.geometry.height,
        "events": events,
        "on": on,
        "t_first_us": first or 0,
        "t_last_us": last,
    }
