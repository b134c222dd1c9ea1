"""Analogue channels as events: sampled signals, encoded by rate, latency or delta modulation, sent like a camera's.

::

    channels = AnalogueChannels(DeltaEncoder(8, 0.1), 8, sample_rate_hz=1000.0)
    sender = Sender("ecg", channels.geometry)
    push.send_multipart(sender.events(channels.encode(samples), channels.t_us))   # samples: float[n, 8]

Channel `c` is the pixel (c, 0). By delta modulation `on` is the direction of the change, and the signal is taken to be
a straight line between two samples, so that crossings have microsecond times (as in `sim_dvs`). By rate a sample is a
step: the event comes at its time. By latency a sample is a presentation that lasts until the next: the event comes
when a passive membrane would have reached its threshold, if it does before the next sample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spiked.io.events import EVENT_DTYPE, Events, Geometry, make_events
from spiked.learners.encoders import DeltaEncoder, LatencyCode, RateEncoder

MAX_CHANNELS = 1 << 15
MAX_RATE_HZ = 1e6
"""Above it, two samples would share a microsecond."""


class AnalogueChannels:
    """One stream of sampled channels. Feeding it in parts gives the same events.

    Parameters
    ----------
    encoder : how samples become spikes; `AnalogueChannels` is to be its only user.
    n_channels : number of channels, at most 32768.
    sample_rate_hz : samples per second, at most 1e6.
    t0_us : time of the first sample.

    Attributes
    ----------
    geometry : the sensor that the receiver sees, ``n_channels x 1 x 2``.
    t_us : time before which all events have been given out: what `Sender.events` wants as `t_last`.

    Raises
    ------
    ValueError
        A parameter out of its range.
    """

    def __init__(
        self,
        encoder: RateEncoder | LatencyCode | DeltaEncoder,
        n_channels: int,
        sample_rate_hz: float,
        t0_us: int = 0,
    ) -> None:
        if not 1 <= n_channels <= MAX_CHANNELS:
            raise ValueError(f"{n_channels} channels; allowed: 1 to {MAX_CHANNELS}")
        if not isinstance(encoder, LatencyCode) and encoder.n_channels != n_channels:
            raise ValueError(f"an encoder of {encoder.n_channels} channels for {n_channels}")
        if not 0 < sample_rate_hz <= MAX_RATE_HZ:
            raise ValueError(f"sample_rate_hz is {sample_rate_hz}; allowed: above 0, at most {MAX_RATE_HZ:g}")
        if t0_us < 0:
            raise ValueError(f"t0_us is {t0_us}; allowed: 0 or more")
        self.geometry = Geometry(n_channels, 1, 2)
        self._encoder, self._rate_hz, self._t0_us = encoder, sample_rate_hz, t0_us
        self._n = 0
        self._last = np.zeros((0, n_channels))
        self.t_us = t0_us

    def encode(self, samples: ArrayLike) -> Events:
        """Events of the next samples, float[n, channels], sorted by time.

        With delta modulation they lie in ``time of the sample before <= t < time of the last sample``, else in
        ``time of the first sample <= t < time of the sample to come``. Of equal times the lower channel comes first.

        Raises
        ------
        ValueError
            Samples of another shape, NaN or infinity.
        """
        rows = np.asarray(samples, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.geometry.width:
            raise ValueError(f"samples have shape {rows.shape}; allowed: (n, {self.geometry.width})")
        if isinstance(self._encoder, DeltaEncoder):
            events = self._by_delta(self._encoder, rows)
        elif isinstance(self._encoder, LatencyCode):
            events = self._by_latency(self._encoder, rows)
        else:
            row, channel = np.nonzero(self._encoder.encode(rows))
            events = make_events(self._times_us(len(rows))[row], channel, 0, 1)
        self._n += len(rows)
        if len(rows):
            ahead = -1 if isinstance(self._encoder, DeltaEncoder) else 0
            self.t_us = int(self._time_us(np.array([self._n + ahead]))[0])
        return events

    def _time_us(self, number: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._t0_us + np.floor(number * (1e6 / self._rate_hz) + 0.5).astype(np.int64)

    def _times_us(self, n: int) -> NDArray[np.int64]:
        """Times of the next `n` samples, and of the one after."""
        return self._time_us(np.arange(self._n, self._n + n + 1))

    def _by_latency(self, code: LatencyCode, rows: NDArray[np.float64]) -> Events:
        times = self._times_us(len(rows))
        wait_us = np.floor(code.time_ms(rows) * 1000.0)
        row, channel = np.nonzero(wait_us < np.diff(times)[:, None])
        return _sorted(make_events(times[row] + wait_us[row, channel].astype(np.int64), channel, 0, 1))

    def _by_delta(self, encoder: DeltaEncoder, rows: NDArray[np.float64]) -> Events:
        counts = encoder.encode(rows)
        signal = np.concatenate([self._last if len(self._last) else rows[:1], rows])
        self._last = signal[-1:].copy()
        row, plane, channel = np.nonzero(counts)
        if not len(row):
            return np.zeros(0, EVENT_DTYPE)
        n_each = counts[row, plane, channel]
        step = np.where(plane == 1, encoder.on, -encoder.off)
        level = np.repeat(encoder.trail(counts)[row, channel], n_each)
        nth = np.arange(len(level)) - np.repeat(np.cumsum(n_each) - n_each, n_each) + 1
        row, plane, channel, step = (np.repeat(a, n_each) for a in (row, plane, channel, step))
        level = level + nth * step  # the levels crossed: 1, 2 .. thresholds from the reference before the sample
        before, change = signal[row, channel], signal[row + 1, channel] - signal[row, channel]
        waits = (level - before) * np.sign(step) <= 0  # left over from a sample that outran the encoder
        share = np.where(waits, 0.0, (level - before) / np.where(change == 0, 1.0, change))
        start, end = self._time_us(self._n + row - 1), self._time_us(self._n + row)
        t = start + np.floor(np.clip(share, 0.0, 1.0) * (end - start)).astype(np.int64)
        return _sorted(make_events(np.minimum(t, end - 1), channel, 0, plane))


def _sorted(events: Events) -> Events:
    return events[np.argsort(events["t"], kind="stable")]
