"""A simulated event camera: each pixel delta-modulates the logarithm of its light.

A pixel remembers a log intensity. When the light has risen by its ON threshold (fallen by its OFF threshold) it sends
an event and moves the memory by that threshold; between two frames the log intensity is taken to be a straight line,
so that crossings have microsecond times. Delta modulation: Eshraghian et al. 2023 (arXiv:2109.12894) section 3.1.3;
the pixel: Lichtsteiner, Posch and Delbruck, IEEE J. Solid-State Circuits 43(2), 2008; the noise (leak, shot noise,
hot pixels): Hu, Liu and Delbruck, "v2e", CVPRW 2021.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spiked.io.events import EVENT_DTYPE, Events, Geometry
from spiked.io.sim_scenes import Sample, scenes
from spiked.learners.jit import kernel

DARK, BRIGHT = 1e-3, 1e6
"""Intensities are clipped to this range; NaN counts as dark."""

NEVER = np.iinfo(np.int64).max

_GAMMA, _MIX1, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)


@kernel
def _uniform(state: NDArray[np.uint64], p: int) -> float:
    """Next number in [0, 1) of pixel `p`'s own generator (splitmix64; Steele, Lea and Flood, OOPSLA 2014)."""
    state[p] += _GAMMA
    z = state[p]
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return float((z ^ (z >> _S31)) >> _S11) / 9007199254740992.0


@kernel
def _wait_us(state: NDArray[np.uint64], p: int, per_us: float) -> int:
    """Whole microseconds, at least 1, to the next event of a Poisson process."""
    return max(1, int(-np.log(1.0 - _uniform(state, p)) / per_us))


@kernel
def _see(
    light: NDArray[np.float32],
    first: bool,
    t0: int,
    t1: int,
    last: NDArray[np.float64],
    memory: NDArray[np.float64],
    on_by: NDArray[np.float64],
    off_by: NDArray[np.float64],
    leak: float,
    ready: NDArray[np.int64],
    dead_us: int,
    noise: NDArray[np.float64],
    noise_on: NDArray[np.float64],
    due: NDArray[np.int64],
    state: NDArray[np.uint64],
    width: int,
    out: Events,
) -> int:
    """Write the events of [t0, t1) into `out`, pixel by pixel; returns how many there were, written or not.

    Per pixel: `last` log intensity at t0, `memory`, thresholds, time from which it is `ready` to fire, when its next
    noise is `due`, how much `noise` per us and which part of it is ON. `leak` is in thresholds per us.
    """
    n = 0
    dt = float(t1 - t0)
    for p in range(light.size):
        value = float(light[p])
        value = min(value, BRIGHT) if value > DARK else DARK
        log_now = np.log(value)
        if first:
            # Leaking pixels that have watched for long are at any phase of their drift
            memory[p] = log_now - (_uniform(state, p) * on_by[p] if leak > 0.0 else 0.0)
            due[p] = t1 + _wait_us(state, p, noise[p]) if noise[p] > 0.0 else NEVER
            ready[p] = t1
            last[p] = log_now
            continue
        start = last[p] - memory[p]  # the difference to the memory at t0; it grows by `slope` per us
        slope = (log_now - last[p]) / dt + leak * on_by[p]
        now = max(0.0, float(ready[p] - t0))  # earliest moment, in us after t0, at which the pixel can fire
        while True:
            difference = start + slope * now
            on = difference >= on_by[p] or (slope > 0.0 and difference > -off_by[p])
            crossing = now
            if difference < on_by[p] and difference > -off_by[p]:
                crossing = dt
                if slope != 0.0:
                    crossing = min(dt, max(now, ((on_by[p] if on else -off_by[p]) - start) / slope))
            t = t0 + int(crossing)
            is_noise = due[p] <= t and due[p] < t1
            if is_noise:
                t = due[p]
                on = _uniform(state, p) < noise_on[p]
                due[p] = t + _wait_us(state, p, noise[p])
                if t < ready[p]:
                    continue
            elif crossing >= dt:
                break
            elif on:
                start -= on_by[p]
                memory[p] += on_by[p]
            else:
                start += off_by[p]
                memory[p] -= off_by[p]
            if n < out.size:
                out[n]["t"] = t
                out[n]["x"] = p % width
                out[n]["y"] = p // width
                out[n]["on"] = on
            n += 1
            ready[p] = t + dead_us
            now = max(float(t - t0) if is_noise else crossing, float(ready[p] - t0))
        memory[p] -= leak * on_by[p] * dt
        last[p] = log_now
    return n


class DvsCamera:
    """An event camera of which every pixel is simulated.

    Parameters
    ----------
    geometry
        Size of the sensor.
    seed
        Draws the mismatch, the places of the hot pixels and all noise. Same seed and frames: same bytes.
    threshold_on, threshold_off
        Contrast that makes an event, in units of natural-log intensity, 0.001 or more.
    mismatch
        Standard deviation of the pixels' thresholds, relative to the threshold; no pixel falls below a tenth of it.
    refractory_us
        Time for which a pixel is silent after an event. A crossing meanwhile waits for its end; the memory moves
        only with events sent, so nothing is lost unless the light comes back.
    leak_rate_hz
        ON events per second that a pixel sends of constant light: its memory drifts down by this many thresholds.
    shot_noise_hz
        Poisson noise events per second and pixel, half of them ON. Noise leaves the memory alone.
    hot_pixels, hot_rate_hz
        How many pixels send ON events of their own, at this Poisson rate each.
    max_events
        Most events between two frames. Further ones are lost, as on a saturated bus, and counted in `dropped`.

    Raises
    ------
    ValueError
        A parameter out of its range.
    """

    def __init__(
        self,
        geometry: Geometry,
        seed: int,
        *,
        threshold_on: float = 0.2,
        threshold_off: float = 0.2,
        mismatch: float = 0.03,
        refractory_us: int = 500,
        leak_rate_hz: float = 0.1,
        shot_noise_hz: float = 0.5,
        hot_pixels: int = 0,
        hot_rate_hz: float = 200.0,
        max_events: int = 1 << 16,
    ) -> None:
        size = geometry.width * geometry.height
        for name, value in (("threshold_on", threshold_on), ("threshold_off", threshold_off)):
            if not 0.001 <= value < float("inf"):
                raise ValueError(f"{name} is {value}; allowed: 0.001 or more")
        rates = {"mismatch": mismatch, "leak_rate_hz": leak_rate_hz, "shot_noise_hz": shot_noise_hz}
        for name, value in {**rates, "hot_rate_hz": hot_rate_hz, "refractory_us": refractory_us}.items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value}; allowed: 0 or more")
        if not 0 <= hot_pixels <= size:
            raise ValueError(f"hot_pixels is {hot_pixels}; allowed: 0 to {size}")
        self.geometry = geometry
        self.dropped = 0
        rng = np.random.default_rng(seed)
        self.threshold_on = threshold_on * np.maximum(0.1, 1.0 + mismatch * rng.standard_normal(size))
        self.threshold_off = threshold_off * np.maximum(0.1, 1.0 + mismatch * rng.standard_normal(size))
        self.hot = np.sort(rng.choice(size, hot_pixels, replace=False))
        self._state = rng.integers(0, 1 << 64, size, np.uint64)
        noise_hz = np.full(size, float(shot_noise_hz))
        noise_hz[self.hot] += hot_rate_hz
        self._noise_on = np.full(size, 0.5)
        if hot_rate_hz > 0:
            self._noise_on[self.hot] = (0.5 * shot_noise_hz + hot_rate_hz) / noise_hz[self.hot]
        self._noise = noise_hz * 1e-6
        self._leak = leak_rate_hz * 1e-6
        self._refractory_us = int(refractory_us)
        self._last = np.zeros(size)
        self.memory = np.zeros(size)
        self._ready = np.zeros(size, np.int64)
        self._due = np.zeros(size, np.int64)
        self._out = np.zeros(max_events, EVENT_DTYPE)
        self._t_us: int | None = None

    def reset(self) -> None:
        """Forget what was seen, and its time; the next frame is a first one.

        The pixels (thresholds, hot places) stay, for it is the same camera; so does the random state, so that the
        noise of the next sample differs from that of the last; so does `dropped`.
        """
        self._t_us = None

    def see(self, intensity: NDArray[np.floating], t_us: int) -> Events:
        """Look at a frame; the first one only sets the memories.

        Parameters
        ----------
        intensity
            Linear light, float32 [height, width], clipped to ``DARK .. BRIGHT``.
        t_us
            Time of the frame, later than that of the last.

        Returns
        -------
        events
            Sorted by time; ``last frame's time <= t < t_us``.

        Raises
        ------
        ValueError
            A wrong shape, or a time that does not advance.
        """
        shape = self.geometry.height, self.geometry.width
        if np.shape(intensity) != shape:
            raise ValueError(f"frame at {t_us} us has shape {np.shape(intensity)}; allowed: {shape}")
        first = self._t_us is None
        t0 = int(t_us) if self._t_us is None else self._t_us
        if t_us < 0 or not (first or t_us > t0):
            raise ValueError(f"frame at {t_us} us; allowed: {'0 us or later' if first else f'later than {t0} us'}")
        light = np.ascontiguousarray(intensity, np.float32).reshape(-1)
        n = _see(
            light, first, t0, int(t_us), self._last, self.memory, self.threshold_on, self.threshold_off, self._leak,
            self._ready, self._refractory_us, self._noise, self._noise_on, self._due, self._state,
            self.geometry.width, self._out,
        )  # fmt: skip
        self._t_us = int(t_us)
        self.dropped += max(0, n - self._out.size)
        events = self._out[:n]
        return events[np.argsort(events["t"], kind="stable")]


def dvs_samples(
    seed: int,
    geometry: Geometry = Geometry(34, 34, 2),  # noqa: B008 - frozen
    *,
    split: str = "train",
    camera: DvsCamera | None = None,
    step_us: int = 2000,
) -> Iterator[Sample]:
    """Endless labelled samples: digits (shapes where scikit-learn is absent) seen through three saccades.

    Parameters
    ----------
    seed
        Draws the scenes and, unless given, the camera. The two splits of one seed share the camera.
    geometry
        Size of the sensor.
    split
        ``"train"`` or ``"test"``: scenes that never meet.
    camera
        The camera to look through; one with default noise if not given.
    step_us
        Time between two frames.
    """
    eye = camera or DvsCamera(geometry, seed)
    for label, name, frames in scenes(seed, geometry.width, geometry.height, split=split, step_us=step_us):
        eye.reset()
        t_us, parts = 0, []
        for t_us, intensity in frames:
            parts.append(eye.see(intensity, t_us))
        yield Sample(label, name, np.concatenate(parts), t_us)
