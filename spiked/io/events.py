"""What an event is, everywhere in spiked: 13 packed bytes, time in integer microseconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EVENT_DTYPE = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "u1")])
"""One event: `t` stream time in us; `x`, `y` pixel (cochlea: channel, ear or cell); `on` polarity 0 or 1."""

Events = NDArray[np.void]
"""A one-dimensional array of `EVENT_DTYPE`."""


@dataclass(frozen=True)
class Geometry:
    """Size of a sensor: `width` x `height` pixels, `planes` polarities (2, or 1 where polarity has no meaning)."""

    width: int
    height: int
    planes: int = 2

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.planes}"


def make_events(t: object, x: object, y: object, on: object) -> Events:
    """Build an event array from four columns of equal length (a scalar is repeated)."""
    t_us = np.atleast_1d(np.asarray(t))
    events = np.zeros(t_us.shape[0], EVENT_DTYPE)
    events["t"], events["x"], events["y"], events["on"] = t_us, x, y, on
    return events
