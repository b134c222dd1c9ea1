"""Encoders: an analogue sample becomes spikes by rate (Eq. 22), by latency (Eq. 24, 25) or by its change (3.1.3).

An event camera needs none of them. They are for other signals, given as ``float[n, channels]``, a row per moment.
Feeding a signal in parts gives what feeding it at once gives, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spiked.learners.counter import make_key, uniforms
from spiked.learners.jit import kernel

MOST_PER_SAMPLE = 1000


def _rows(samples: ArrayLike, n_channels: int) -> NDArray[np.float64]:
    """Samples as float64[n, channels]; raises ValueError for another shape, NaN or infinity."""
    rows = np.ascontiguousarray(samples, np.float64)
    if rows.ndim != 2 or rows.shape[1] != n_channels:
        raise ValueError(f"samples have shape {rows.shape}; allowed: (n, {n_channels})")
    if not np.isfinite(rows).all():
        raise ValueError("samples hold NaN or infinity")
    return rows


def _load(own: dict[str, NDArray], state: dict[str, NDArray]) -> None:
    for name, array in own.items():
        theirs = state.get(name)
        if theirs is None or theirs.shape != array.shape or theirs.dtype != array.dtype:
            raise ValueError(f"the state's {name} is not {array.dtype}{array.shape}")
    for name, array in own.items():
        array[...] = state[name]


class RateEncoder:
    """Bernoulli trials: at each step a channel spikes with the probability that is its normalised intensity (Eq. 22).

    Parameters
    ----------
    n_channels : number of channels.
    low, high : intensities that never spike, and that spike with probability `peak`; what lies outside is clipped.
    peak : largest probability of a spike per step.
    seed : of the random numbers, which are a function of seed, step and channel.
    """

    def __init__(self, n_channels: int, low: float = 0.0, high: float = 1.0, peak: float = 1.0, seed: int = 0) -> None:
        if not -np.inf < low < high < np.inf:
            raise ValueError(f"intensities from {low} to {high}; allowed: finite, low < high")
        if not 0 <= peak <= 1:
            raise ValueError(f"peak is {peak}; allowed: 0 to 1")
        self.n_channels, self.low, self.high, self.peak = n_channels, low, high, peak
        self._own: dict[str, NDArray] = {"key": make_key(seed), "step": np.zeros(1, np.int64)}

    def probability(self, samples: ArrayLike) -> NDArray[np.float64]:
        """Probability of a spike, float64 of the shape of `samples`."""
        scaled = (np.asarray(samples, np.float64) - self.low) / (self.high - self.low)
        return self.peak * np.clip(scaled, 0.0, 1.0)

    def encode(self, samples: ArrayLike) -> NDArray[np.uint8]:
        """Spikes, uint8[n, channels], 0 or 1; a row of `samples` is a step."""
        rows = _rows(samples, self.n_channels)
        first = int(self._own["step"][0])
        counters = np.arange(first * self.n_channels, (first + len(rows)) * self.n_channels, dtype=np.uint64)
        self._own["step"] += len(rows)
        return (uniforms(self._own["key"], counters).reshape(rows.shape) < self.probability(rows)).astype(np.uint8)

    def state(self) -> dict[str, NDArray]:
        """Copies of everything that the future depends on."""
        return {name: array.copy() for name, array in self._own.items()}

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`; raises ValueError naming the array that does not fit."""
        _load(self._own, state)


@dataclass(frozen=True)
class LatencyCode:
    """One spike a presentation, the sooner the brighter: ``t(x) = tau ln(x / (x - theta))`` (Eq. 24, 25).

    This is when a passive membrane with constant input `x` reaches `threshold` (Eq. 23). What does not exceed the
    threshold never spikes: its time is infinite.

    Parameters
    ----------
    tau_ms : time constant of the membrane.
    threshold : theta, above 0.
    window_ms : if given, times are moved and stretched, so that `high` spikes at 0 and `low` at the window's end;
        brighter is 0, dimmer never. (By numbers that are given, not by the data's: one sample must not move another's.)
    low, high : intensities of the window's two ends, ``threshold < low < high``.
    """

    tau_ms: float = 20.0
    threshold: float = 0.01
    window_ms: float | None = None
    low: float = 0.02
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.tau_ms < np.inf and 0 < self.threshold < np.inf):
            raise ValueError(f"tau_ms is {self.tau_ms}, threshold {self.threshold}; allowed: above 0, finite")
        if self.window_ms is not None:
            if not 0 < self.window_ms < np.inf:
                raise ValueError(f"window_ms is {self.window_ms}; allowed: above 0, finite")
            if not self.threshold < self.low < self.high < np.inf:
                raise ValueError(f"the window is from {self.low} to {self.high}; allowed: threshold < low < high")

    def _charge_ms(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Eq. 25. By the logarithm of 1 + y: x / (x - theta) is 1 to all digits where x is large."""
        above = x > self.threshold
        return np.where(above, -self.tau_ms * np.log1p(-self.threshold / np.where(above, x, np.inf)), np.inf)

    def _ends_ms(self) -> tuple[float, float]:
        soonest, latest = self._charge_ms(np.array([self.high, self.low]))
        return float(soonest), float(latest)

    def time_ms(self, samples: ArrayLike) -> NDArray[np.float64]:
        """When each spikes after its presentation began, float64 of the shape of `samples`; infinity: never."""
        x = np.asarray(samples, np.float64)
        if np.isnan(x).any():
            raise ValueError("samples hold NaN")
        t = self._charge_ms(x)
        if self.window_ms is None:
            return t
        soonest, latest = self._ends_ms()
        share = np.maximum(0.0, (t - soonest) / (latest - soonest))
        return np.where(x >= self.low, self.window_ms * np.minimum(share, 1.0), np.inf)

    def intensity(self, time_ms: ArrayLike) -> NDArray[np.float64]:
        """Intensity that spikes at a time: the inverse of `time_ms` (Eq. 23 with U = theta).

        A spike that never came says `threshold` at most, and that is what it gives; one at 0, infinity or `high`.
        """
        t = np.asarray(time_ms, np.float64)
        if self.window_ms is not None:
            soonest, latest = self._ends_ms()
            t = soonest + t / self.window_ms * (latest - soonest)
        with np.errstate(divide="ignore"):
            return self.threshold / -np.expm1(-t / self.tau_ms)


@kernel
def _modulate(samples, base, moves, on, off, most, counts):  # type: ignore[no-untyped-def]
    """Crossings of each sample into `counts`. The reference is made of whole moves, so it does not drift."""
    for i in range(samples.shape[0]):
        for c in range(samples.shape[1]):
            gap = samples[i, c] - (base[c] + moves[1, c] * on - moves[0, c] * off)
            if gap >= on:
                counts[i, 1, c] = int(min(np.floor(gap / on), most))
                moves[1, c] += counts[i, 1, c]
            elif gap <= -off:
                counts[i, 0, c] = int(min(np.floor(-gap / off), most))
                moves[0, c] += counts[i, 0, c]


class DeltaEncoder:
    """Delta modulation with ON and OFF: a spike for each threshold that the signal has moved from a reference (3.1.3).

    The reference follows by one threshold a spike, so it stays within a threshold of the signal, unless the signal
    outran `most`; then the rest comes with the samples that follow. The first sample sets it. The paper's difference
    of two samples forgets what is slower than a threshold a sample; a reference that follows does not.

    Parameters
    ----------
    n_channels : number of channels.
    on, off : thresholds upwards and downwards, in units of the signal; `off` is `on` if not given.
    most : spikes of a channel per sample.
    """

    def __init__(self, n_channels: int, on: float = 0.1, off: float | None = None, most: int = MOST_PER_SAMPLE) -> None:
        self.n_channels, self.on, self.off, self.most = n_channels, on, on if off is None else off, most
        for name, value in (("on", self.on), ("off", self.off)):
            if not 0 < value < np.inf:
                raise ValueError(f"threshold {name} is {value}; allowed: above 0, finite")
        if not 1 <= most < 1 << 31:
            raise ValueError(f"most is {most}; allowed: 1 to {(1 << 31) - 1}")
        self._own: dict[str, NDArray] = {
            "base": np.zeros(n_channels),
            "moves": np.zeros((2, n_channels), np.int64),
            "started": np.zeros(1, np.uint8),
        }

    def encode(self, samples: ArrayLike) -> NDArray[np.int32]:
        """Spikes of each sample, int32[n, 2, channels]: OFF then ON, the planes of a sensor (one of them is 0)."""
        rows = _rows(samples, self.n_channels)
        own = self._own
        counts = np.zeros((len(rows), 2, self.n_channels), np.int32)
        if len(rows) and not own["started"][0]:
            own["base"][:] = rows[0]
            own["started"][0] = 1
        _modulate(rows, own["base"], own["moves"], float(self.on), float(self.off), float(self.most), counts)
        return counts

    def trail(self, counts: NDArray[np.int32]) -> NDArray[np.float64]:
        """Reference before the first and after each of the last samples, which gave `counts`: float64[n + 1, channels].

        From the second row on it is the signal rebuilt from its spikes, within a threshold of the true one.
        """
        zero = np.zeros((1, 2, self.n_channels), np.int64)
        moves = np.concatenate([zero, np.cumsum(counts, 0, np.int64)])
        moves += self._own["moves"] - moves[-1]  # whole numbers: the same sum wherever a signal was cut
        return np.asarray(self._own["base"] + moves[:, 1] * self.on - moves[:, 0] * self.off)

    def reset(self) -> None:
        """Forget the signal: the next sample sets the reference."""
        for array in self._own.values():
            array[...] = 0

    def state(self) -> dict[str, NDArray]:
        """Copies of everything that the future depends on."""
        return {name: array.copy() for name, array in self._own.items()}

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`; raises ValueError naming the array that does not fit."""
        _load(self._own, state)
