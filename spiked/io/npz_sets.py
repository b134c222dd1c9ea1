"""Labelled sets in a ``.npz`` file, in three layouts; every array is checked before it is used."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spiked.io.events import Geometry, make_events
from spiked.io.samples import Dataset, DatasetError, Sample, whole_ms

MAX_CLASSES = 4096
PIECE_STEPS = 100
"""Cochlea counts are cut into samples of so many steps; the last of each tone is for the test."""
_SIDE = 34
STEPS = ("t_ms", "addr", "offsets", "n_bins", "label", "split")
EVENTS = ("t_us", "x", "y", "on", "offsets", "label", "split")
COUNTS = ("counts", "tones_hz")


class Npz:
    """The arrays of a ``.npz`` file, checked as they are taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            found = np.load(path, allow_pickle=False)
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror or 'cannot be read'}") from None
        except (ValueError, EOFError, zipfile.BadZipFile):
            raise DatasetError(f"{path}: not a .npz file") from None
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise DatasetError(f"{path}: one array; a set is a .npz file of several")
        self._file = found
        self.names = set(found.files)

    def take(self, name: str, ndim: int = 1, kinds: str = "ui", length: int | None = None) -> NDArray:
        """One array, of `ndim` dimensions and a type of `kinds` ("u", "i" integers, "b" bool, "f" float, "U" text)."""
        try:
            array: NDArray = self._file[name]
        except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise DatasetError(f"{self.path}: {name} cannot be read: {str(error).splitlines()[0]}") from None
        if array.ndim != ndim or array.dtype.kind not in kinds:
            allowed = {"ui": "integers", "uib": "integers or booleans", "U": "text", "uif": "numbers"}.get(kinds, kinds)
            raise DatasetError(f"{self.path}: {name} is {array.dtype} of {array.ndim} dimensions; {allowed} of {ndim}")
        if length is not None and len(array) != length:
            raise DatasetError(f"{self.path}: {name} has {len(array)} entries; {length}")
        return array

    def number(self, name: str, default: int) -> int:
        """A single positive number, where there is one."""
        value = int(self.take(name, 0)) if name in self.names else default
        if not 1 <= value <= 32768:
            raise DatasetError(f"{self.path}: {name} is {value}; 1 to 32768")
        return value


class _Flat(Dataset):
    """What both layouts of one long list of events share: offsets, labels, split."""

    def __init__(self, npz: Npz, columns: list[NDArray]) -> None:
        path = npz.path
        labels, split = npz.take("label"), npz.take("split", kinds="uib", length=None)
        self._offsets = npz.take("offsets", length=len(labels) + 1).astype(np.int64)
        if len(split) != len(labels):
            raise DatasetError(f"{path}: split has {len(split)} entries; {len(labels)}, as label has")
        if self._offsets[0] != 0 or np.any(np.diff(self._offsets) < 0) or self._offsets[-1] != len(columns[0]):
            raise DatasetError(f"{path}: offsets do not rise from 0 to the number of events, {len(columns[0])}")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < MAX_CLASSES:
            raise DatasetError(f"{path}: label {labels.min()} .. {labels.max()}; 0 to {MAX_CLASSES - 1}")
        if not np.isin(split, (0, 1)).all():
            raise DatasetError(f"{path}: split holds {split.max()}; 0 (training) or 1 (test)")
        names = [str(k) for k in range(int(labels.max()) + 1)] if len(labels) else []
        if "class_names" in npz.names:
            given = [str(n) for n in npz.take("class_names", kinds="U")]
            if len(given) < len(names):
                raise DatasetError(
                    f"{path}: class_names has {len(given)} entries, but label goes up to {len(names) - 1}"
                )
            names = given
        self.columns = columns
        geometry = Geometry(npz.number("width", _SIDE), npz.number("height", _SIDE))
        super().__init__(path, geometry, names, labels.astype(np.int64), split.astype(bool))

    def _cut(self, i: int) -> list[NDArray]:
        span = slice(int(self._offsets[i]), int(self._offsets[i + 1]))
        return [column[span] for column in self.columns]

    def _check_inside(self, name: str, column: NDArray, below: int) -> None:
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < below:
            raise DatasetError(f"{self.path}: {name} {column.min()} .. {column.max()}; 0 to {below - 1}")


class StepSet(_Flat):
    """Active addresses per 1 ms step."""

    def __init__(self, npz: Npz) -> None:
        t_ms = npz.take("t_ms")
        super().__init__(npz, [t_ms, npz.take("addr", length=len(t_ms))])
        g = self.geometry
        self._check_inside("addr", self.columns[1], 2 * g.width * g.height)
        self._n_bins = npz.take("n_bins", length=len(self.labels))
        self._check_inside("n_bins", self._n_bins, 1 << 31)
        self._check_inside("t_ms", t_ms, max(int(self._n_bins.max()), 1))

    def sample(self, i: int) -> Sample:
        """Load sample `i`; every event stands at the start of its step."""
        t_ms, address = self._cut(i)
        g, a = self.geometry, address.astype(np.int64)
        plane = g.width * g.height
        events = make_events(t_ms.astype(np.int64) * 1000, a % g.width, a % plane // g.width, a // plane)
        last_ms = int(t_ms.max()) + 1 if len(t_ms) else 1
        return Sample(int(self.labels[i]), events, max(int(self._n_bins[i]), last_ms) * 1000)


class EventSet(_Flat):
    """Events in microseconds."""

    def __init__(self, npz: Npz) -> None:
        t_us = npz.take("t_us")
        n = len(t_us)
        super().__init__(
            npz, [t_us, *(npz.take(name, length=n) for name in "xy"), npz.take("on", kinds="uib", length=n)]
        )
        for name, column, below in zip(
            ("t_us", "x", "y", "on"), self.columns, (1 << 40, self.geometry.width, self.geometry.height, 2)
        ):
            self._check_inside(name, column, below)

    def sample(self, i: int) -> Sample:
        """Load sample `i`."""
        t, x, y, on = self._cut(i)
        return Sample(int(self.labels[i]), make_events(t, x, y, on), whole_ms(int(t.max()) + 1 if len(t) else 1))


class CountSet(Dataset):
    """Cochlea counts per 1 ms step; channel c is x = c >> 1, on = c & 1 (the FPGA cochlea's addresses)."""

    def __init__(self, npz: Npz) -> None:
        self._counts = npz.take("counts", ndim=4)
        conditions, tones, steps, channels = self._counts.shape
        tones_hz = npz.take("tones_hz", length=tones)
        self._pieces = steps // PIECE_STEPS
        if not self._pieces or channels < 2 or channels % 2:
            raise DatasetError(
                f"{npz.path}: counts of shape {self._counts.shape}; at least {PIECE_STEPS} steps, and channels in pairs"
            )
        if int(self._counts.min()) < 0 or int(self._counts.max()) > 1000:
            raise DatasetError(f"{npz.path}: counts {self._counts.min()} .. {self._counts.max()}; 0 to 1000 a step")
        number = np.arange(conditions * tones * self._pieces)
        labels, piece = number // self._pieces % tones, number % self._pieces
        names = [str(hz) for hz in tones_hz]
        super().__init__(npz.path, Geometry(channels // 2, 1), names, labels, (piece == self._pieces - 1) & (piece > 0))
        if "snr_db" in npz.names:
            self.snr_db = npz.take("snr_db", kinds="uif", length=conditions)[number // self._pieces // tones]
            if np.isnan(self.snr_db).any():
                raise DatasetError(f"{npz.path}: snr_db is not a number")

    def sample(self, i: int) -> Sample:
        """Load sample `i`; the events of a channel are spread evenly within their step."""
        tones = self._counts.shape[1]
        which, piece = divmod(i, self._pieces)
        counts = self._counts[which // tones, which % tones, piece * PIECE_STEPS : (piece + 1) * PIECE_STEPS]
        step, channel = np.nonzero(counts)
        n = counts[step, channel].astype(np.int64)
        rank = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        t = np.repeat(step, n) * 1000 + rank * 1000 // np.repeat(n, n)
        c = np.repeat(channel, n)
        events = make_events(t, c >> 1, 0, c & 1)
        return Sample(int(self.labels[i]), events[np.argsort(t, kind="stable")], PIECE_STEPS * 1000)
