"""Labelled sets: samples of events with a class each, and a split into training and test.

`open_dataset` knows four layouts:

- a ``.npz`` of 1 ms steps: ``t_ms, addr, offsets, n_bins, label, split``; addr = (on * height + y) * width + x;
- a ``.npz`` of events: ``t_us, x, y, on, offsets, label, split``;
- a ``.npz`` of cochlea counts: ``counts`` [conditions, tones, steps of 1 ms, channels] and ``tones_hz``; it may tell
  the signal-to-noise ratio of each condition, ``snr_db``;
- a folder with a subfolder of recordings for each class, as it is or below ``Train`` and ``Test`` (N-MNIST's layout).

The first two may also hold ``class_names``, ``width`` and ``height`` (34 x 34 where they do not).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spiked.io.events import EVENT_DTYPE, Geometry
from spiked.io.npz_sets import COUNTS, EVENTS, STEPS, CountSet, EventSet, Npz, StepSet
from spiked.io.recordings import RecordingError, open_recording
from spiked.io.samples import Dataset, DatasetError, Sample, whole_ms

__all__ = ["Dataset", "DatasetError", "Sample", "open_dataset"]


class _Folder(Dataset):
    """Recordings in a subfolder for each class."""

    def __init__(self, path: Path, geometry: Geometry | None) -> None:
        parts = {p.name.lower(): p for p in _listed(path) if p.is_dir()}
        split = {"train": False, "test": True}
        roots = [(parts[part], is_test) for part, is_test in split.items() if part in parts] or [(path, False)]
        found = [
            (folder.name, file, is_test)
            for root, is_test in roots
            for folder in _listed(root)
            if folder.is_dir()
            for file in _listed(folder)
            if file.is_file()
        ]
        if not found:
            raise DatasetError(f"{path}: no recordings; write CLASS/FILE, or Train/CLASS/FILE and Test/CLASS/FILE")
        names = sorted({name for name, _, _ in found}, key=_natural)
        self._files = [file for _, file, _ in found]
        labels = np.array([names.index(name) for name, _, _ in found])
        try:
            first = open_recording(self._files[0])
        except RecordingError as error:
            raise DatasetError(str(error)) from None
        # A CSV file does not tell its sensor's size, and the size of its events differs from one to the next
        self._given = (geometry or first.geometry) if first.format == "csv" else None
        super().__init__(path, self._given or first.geometry, names, labels, np.array([t for _, _, t in found]))

    def sample(self, i: int) -> Sample:
        """Load sample `i`; its time begins with the millisecond of the first event."""
        path = self._files[i]
        try:
            recording = open_recording(path, geometry=self._given)
            if recording.geometry != self.geometry:
                raise DatasetError(
                    f"{path}: {recording.geometry}, but {self._files[0]}: {self.geometry}; a set has one geometry"
                )
            packets = [p.copy() for p in recording.packets()]
        except RecordingError as error:
            raise DatasetError(str(error)) from None
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror or error}") from None
        self.warnings += recording.warnings
        events = np.concatenate(packets) if packets else np.empty(0, EVENT_DTYPE)
        if not len(events):
            return Sample(int(self.labels[i]), events, 1000)
        events["t"] -= events["t"].min() // 1000 * 1000
        return Sample(int(self.labels[i]), events, whole_ms(int(events["t"].max()) + 1))


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: _natural(p.name))
    except OSError as error:
        raise DatasetError(f"{folder}: {error.strerror}") from None


def _natural(name: str) -> tuple[int, str]:
    """Numbers in the order of their value, before all else."""
    return (int(name), name) if name.isdecimal() and len(name) < 19 else (1 << 62, name)


def open_dataset(path: str | Path, geometry: Geometry | None = None) -> Dataset:
    """Open a labelled set.

    Parameters
    ----------
    path : a ``.npz`` file or a folder.
    geometry : of the sensor, for files that do not tell (CSV).

    Raises
    ------
    DatasetError
        One line: no such file, a layout that is not known, or arrays that do not fit together.
    """
    path = Path(path)
    if path.is_dir():
        return _Folder(path, geometry)
    npz = Npz(path)
    for names, kind in ((STEPS, StepSet), (EVENTS, EventSet), (COUNTS, CountSet)):
        if npz.names.issuperset(names):
            return kind(npz)
    raise DatasetError(
        f"{path}: holds {', '.join(sorted(npz.names)) or 'nothing'}; a set holds {', '.join(STEPS)}, or "
        f"{', '.join(EVENTS)}, or {', '.join(COUNTS)}"
    )
