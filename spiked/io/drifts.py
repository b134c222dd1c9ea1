"""What may happen to a sensor in use: it is turned, mirrored, shifted, rewired, or begins to make events of its own.

A `Drift` changes samples one by one. Positions are those of the wire: x to the right, y down. The same seed and sample
number give the same events, in whatever order the samples come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spiked.io.events import Events, Geometry, make_events
from spiked.io.samples import Sample

SHIFT_PX = 4
NOISE_HZ = 5.0
"""Background activity of each pixel: a few events a second is what event cameras show in dim light."""
HOT_SHARE, HOT_HZ = 0.02, 200.0
"""So many of the pixels, and at least one, fire at this mean rate."""
KINDS = {
    "rotate": "turned by a quarter, clockwise",
    "mirror": "mirrored, left to right",
    "shift": f"shifted by {SHIFT_PX} px to the right; what leaves the sensor is lost",
    "polarity": "on and off exchanged",
    "noise": f"events at random places, times and polarities added, {NOISE_HZ:g} Hz per pixel",
    "hot-pixels": f"{HOT_SHARE:.0%} of the pixels, drawn once, fire at random times at {HOT_HZ:g} Hz, each with one "
    "polarity",
}
_NOISE, _HOT = 1, 2


class DriftError(ValueError):
    """A drift that the sensor cannot show: one line."""


def rotate(events: Events, geometry: Geometry) -> Events:
    """A quarter turn, clockwise as one looks at the picture; the sensor is square."""
    out = events.copy()
    out["x"], out["y"] = geometry.height - 1 - events["y"], events["x"]
    return out


def mirror(events: Events, geometry: Geometry) -> Events:
    """Left becomes right."""
    out = events.copy()
    out["x"] = geometry.width - 1 - events["x"]
    return out


def shift(events: Events, geometry: Geometry) -> Events:
    """`SHIFT_PX` to the right; what leaves the sensor is lost."""
    out = events[events["x"] < geometry.width - SHIFT_PX].copy()
    out["x"] += SHIFT_PX
    return out


def polarity(events: Events) -> Events:
    """On becomes off."""
    out = events.copy()
    out["on"] = 1 - events["on"]
    return out


def noise(events: Events, geometry: Geometry, duration_us: int, rng: np.random.Generator) -> Events:
    """Background activity: a Poisson process of `NOISE_HZ` in each pixel."""
    n = rng.poisson(NOISE_HZ * geometry.width * geometry.height * duration_us * 1e-6)
    t, x = rng.integers(0, duration_us, n), rng.integers(0, geometry.width, n)
    return _merged(events, make_events(t, x, rng.integers(0, geometry.height, n), rng.integers(0, geometry.planes, n)))


def hot_pixels(
    events: Events, geometry: Geometry, duration_us: int, seed: int, rng: np.random.Generator
) -> Events:  # fmt: skip
    """A few pixels, the same in every sample of a `seed`, fire by a Poisson process of `HOT_HZ` each."""
    pixels = geometry.width * geometry.height
    fixed = np.random.default_rng([seed, _HOT])
    hot = fixed.choice(pixels, max(1, round(HOT_SHARE * pixels)), replace=False)
    on = fixed.integers(0, geometry.planes, len(hot))
    which = np.repeat(np.arange(len(hot)), rng.poisson(HOT_HZ * duration_us * 1e-6, len(hot)))
    t = rng.integers(0, duration_us, len(which))
    return _merged(events, make_events(t, hot[which] % geometry.width, hot[which] // geometry.width, on[which]))


def _merged(events: Events, more: Events) -> Events:
    both = np.concatenate([events, more])
    return both[np.argsort(both["t"], kind="stable")]


@dataclass(frozen=True)
class Drift:
    """Changes, one after the other in this order, to the samples of a sensor.

    Raises
    ------
    DriftError : a kind that is not known, or that a sensor of this geometry cannot show.
    """

    kinds: Sequence[str]
    geometry: Geometry
    seed: int

    def __post_init__(self) -> None:
        g = self.geometry
        for kind in self.kinds:
            if kind not in KINDS:
                raise DriftError(f"{kind!r}; allowed: {', '.join(KINDS)}")
            if kind == "rotate" and g.width != g.height:
                raise DriftError(f"rotate: a quarter turn needs a square sensor, not {g}")
            if kind == "shift" and g.width <= SHIFT_PX:
                raise DriftError(f"shift: by {SHIFT_PX} px, but the sensor is {g}")
            if kind == "polarity" and g.planes == 1:
                raise DriftError(f"polarity: the sensor has none, it is {g}")
        if not self.kinds:
            raise DriftError(f"none named; allowed: {', '.join(KINDS)}")

    def __call__(self, sample: Sample, i: int) -> Sample:
        """Change sample number `i`; how long it lasts stays."""
        events, g = sample.events, self.geometry
        for kind in self.kinds:
            if kind == "rotate":
                events = rotate(events, g)
            elif kind == "mirror":
                events = mirror(events, g)
            elif kind == "shift":
                events = shift(events, g)
            elif kind == "polarity":
                events = polarity(events)
            elif kind == "noise":
                events = noise(events, g, sample.duration_us, np.random.default_rng([self.seed, _NOISE, i]))
            else:
                rng = np.random.default_rng([self.seed, _HOT, i])
                events = hot_pixels(events, g, sample.duration_us, self.seed, rng)
        return sample._replace(events=events)

    @property
    def told(self) -> str:
        """What is changed, exactly."""
        return "; then ".join(KINDS[kind] for kind in self.kinds)
