"""What a labelled set is: samples of events with a class each, and a split into training and test."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.io.events import Events, Geometry


class DatasetError(ValueError):
    """A set that cannot be used: one line with the place, the value and what is allowed."""


class Sample(NamedTuple):
    """One sample: its class, its events from time 0, and how long it lasts (us, whole milliseconds)."""

    label: int
    events: Events
    duration_us: int


class Dataset:
    """A labelled set. Subclasses load a sample when it is asked for.

    Attributes
    ----------
    name : what to call it.
    geometry : of the sensor.
    class_names : what labels mean.
    labels : int64[samples].
    train, test : int64 arrays of sample numbers.
    snr_db : float64[samples], signal-to-noise ratio of each sample, where the set tells.
    warnings : what was wrong with the samples loaded so far, one line each.
    """

    def __init__(
        self,
        path: Path,
        geometry: Geometry,
        class_names: list[str],
        labels: NDArray[np.int64],
        is_test: NDArray[np.bool_],
    ) -> None:
        self.path, self.name = path, path.name
        self.geometry, self.class_names, self.labels = geometry, class_names, labels
        self.train, self.test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        self.snr_db: NDArray[np.float64] | None = None
        self.warnings: list[str] = []
        if not len(labels):
            raise DatasetError(f"{path}: no samples")

    def sample(self, i: int) -> Sample:
        """Load sample `i`."""
        raise NotImplementedError


def whole_ms(t_us: int) -> int:
    """Round up to whole milliseconds."""
    return -(-t_us // 1000) * 1000
