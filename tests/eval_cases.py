"""A tiny labelled set, and a configuration for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spiked.io.datasets import Dataset, Sample
from spiked.io.events import Geometry, make_events
from spiked.service.config import Config
from spiked.service.configfile import parse_config

SIDE = 8
CLASSES = ["left", "middle", "right"]


class Bars(Dataset):
    """A class is a third of the sensor in which most events lie."""

    names = CLASSES
    apart = 3

    def __init__(self, n: int = 40, n_test: int = 15, seed: int = 0) -> None:
        labels = np.random.default_rng(seed).integers(0, len(self.names), n + n_test)
        super().__init__(Path("bars.npz"), Geometry(SIDE, SIDE), list(self.names), labels, np.arange(n + n_test) >= n)

    def sample(self, i: int) -> Sample:
        rng = np.random.default_rng(1000 + i)
        n, duration_us = 150, int(rng.integers(20, 40)) * 1000
        where = np.where(rng.random(n) < 0.7, self.labels[i] * self.apart, rng.integers(0, SIDE, n))
        x = np.clip(where + rng.integers(0, 2, n), 0, SIDE - 1)
        t = np.sort(rng.integers(0, duration_us, n))
        return Sample(
            int(self.labels[i]), make_events(t, x, rng.integers(0, SIDE, n), rng.integers(0, 2, n)), duration_us
        )


class Strips(Bars):
    """Four classes: a quarter of the sensor each."""

    names = ["a", "b", "c", "d"]
    apart = 2


def config(**stream: Any) -> Config:
    network = {"layers": [{"neurons": 32}], "classes": CLASSES, **stream.pop("network", {})}
    return parse_config({"stream": [{"id": "cam0", "width": SIDE, "height": SIDE, **stream}], "network": network})


def write_set(path: Path, bars: Bars | None = None) -> Path:
    """The 55 samples as a file."""
    bars = bars or Bars()
    samples = [bars.sample(i) for i in range(55)]
    events = np.concatenate([s.events for s in samples])
    arrays = {
        "t_us": events["t"], "x": events["x"], "y": events["y"], "on": events["on"], "label": bars.labels,
        "split": np.arange(55) >= 40, "offsets": np.cumsum([0] + [len(s.events) for s in samples]),
        "width": np.int64(SIDE), "height": np.int64(SIDE), "class_names": np.array(bars.names),
    }  # fmt: skip
    np.savez(path, **arrays)
    return path
