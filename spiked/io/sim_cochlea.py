"""A simulated silicon cochlea: a filter bank whose rectified, compressed outputs are delta-modulated.

Per channel: band-pass of two equal second-order sections -> half-wave rectifier -> low-pass (the hair cell) -> log
compression -> delta modulation into ON and OFF events, as the pixels of an event camera do (Eshraghian et al. 2023,
arXiv:2109.12894, section 3.1.3). The chain follows silicon cochleas: Liu, van Schaik, Minch and Delbruck, IEEE Trans.
Biomed. Circuits Syst. 8(4), 2014; bandwidths are those of the ear: Glasberg and Moore, Hear. Res. 47, 1990.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spiked.io.events import EVENT_DTYPE, Events, Geometry
from spiked.io.sim_scenes import Sample, vowel_sounds
from spiked.learners.jit import kernel

LOUDEST = 1000.0


@kernel
def _listen(
    samples: NDArray[np.float64],
    filters: NDArray[np.float64],
    smooth: float,
    sensitivity: NDArray[np.float64],
    on_by: NDArray[np.float64],
    off_by: NDArray[np.float64],
    state: NDArray[np.float64],
    origin_us: int,
    start: int,
    rate_hz: int,
    out: Events,
) -> int:
    """Write the events of `samples` [n, ears] into `out`; returns how many there were, written or not.

    Sample i (counted from `origin_us`) spans the whole microseconds from i / rate to (i + 1) / rate; its level is
    reached at the end of the span. Spans do not overlap, so the order of events does not depend on where calls cut.
    """
    n = 0
    for ear in range(samples.shape[1]):
        for c in range(filters.shape[0]):
            gain, a1, a2 = filters[c, 0], filters[c, 1], filters[c, 2]
            now = state[ear, c]
            s1, s2, s3, s4, envelope, level, memory = now[0], now[1], now[2], now[3], now[4], now[5], now[6]
            for i in range(samples.shape[0]):
                u = gain * samples[i, ear]
                v = u + s1
                s1 = s2 - a1 * v
                s2 = -u - a2 * v
                u = gain * v
                v = u + s3
                s3 = s4 - a1 * v
                s4 = -u - a2 * v
                envelope += smooth * (max(v, 0.0) - envelope)
                before = level
                level = np.log(1.0 + sensitivity[c] * envelope)
                while level - memory >= on_by[ear, c] or memory - level >= off_by[ear, c]:
                    on = level > memory
                    memory += on_by[ear, c] if on else -off_by[ear, c]
                    if n < out.size:
                        t0 = (start + i) * 1_000_000 // rate_hz
                        span = (start + i + 1) * 1_000_000 // rate_hz - t0
                        after = min(max(int((memory - before) / (level - before) * span), 0), span - 1)
                        out[n]["t"] = origin_us + t0 + after
                        out[n]["x"] = c
                        out[n]["y"] = ear
                        out[n]["on"] = on
                    n += 1
            now[0], now[1], now[2], now[3], now[4], now[5], now[6] = s1, s2, s3, s4, envelope, level, memory
    return n


class Cochlea:
    """A silicon cochlea: events with `x` the channel, 0 the lowest; `y` the ear; `on` whether its level rose.

    Parameters
    ----------
    channels, sample_rate_hz, f_min_hz, f_max_hz
        Number of channels, their centres logarithmically from `f_min_hz` to `f_max_hz`, below half the sample rate.
    seed
        Draws the mismatch of the thresholds.
    ears
        Number of ears.
    threshold_on, threshold_off
        Change of a channel's level that makes an event; the level is ``log(1 + sensitivity * envelope)``.
    mismatch
        Standard deviation of the thresholds, relative; none falls below a tenth.
    envelope_hz
        Corner of the low-pass behind the rectifier: lower than the pitch it hides the single glottal pulses.
    reference
        Envelope around which the level at 1 kHz turns from linear to logarithmic. The sensitivity, 1 / `reference`
        there, rises by 6 dB per octave, as speech falls off.
    max_events
        Most events of one call. Further ones are lost and counted in `dropped`.

    Raises
    ------
    ValueError
        A parameter out of its range.
    """

    def __init__(
        self,
        channels: int = 64,
        sample_rate_hz: int = 16000,
        f_min_hz: float = 100.0,
        f_max_hz: float = 6000.0,
        seed: int = 0,
        *,
        ears: int = 1,
        threshold_on: float = 0.2,
        threshold_off: float = 0.2,
        mismatch: float = 0.03,
        envelope_hz: float = 100.0,
        reference: float = 0.006,
        max_events: int = 1 << 18,
    ) -> None:
        if channels < 1 or ears < 1:
            raise ValueError(f"{channels} channels, {ears} ears; allowed: 1 or more of each")
        if not 0 < f_min_hz <= f_max_hz < sample_rate_hz / 2 <= 500_000:
            raise ValueError(
                f"f_min_hz {f_min_hz}, f_max_hz {f_max_hz}; allowed: 0 < min <= max < {sample_rate_hz / 2}"
            )
        values = {"threshold_on": threshold_on, "threshold_off": threshold_off, "reference": reference}
        for name, value in {**values, "envelope_hz": envelope_hz}.items():
            least = 0.001 if name in ("threshold_on", "threshold_off") else 1e-9
            if not least <= value < float("inf"):
                raise ValueError(f"{name} is {value}; allowed: {least} or more")
        self.geometry = Geometry(channels, ears, 2)
        self.sample_rate_hz = int(sample_rate_hz)
        self.centre_hz = np.geomspace(f_min_hz, f_max_hz, channels)
        # Two sections in a row are narrower than one by sqrt(sqrt(2) - 1)
        quality = self.centre_hz / (24.7 + 0.108 * self.centre_hz) * np.sqrt(np.sqrt(2.0) - 1.0)
        angle = 2 * np.pi * self.centre_hz / sample_rate_hz
        alpha = np.sin(angle) / (2 * quality)  # band-pass of unit peak gain, Bristow-Johnson's cookbook
        self._filters = np.stack([alpha, -2 * np.cos(angle), 1 - alpha], axis=1) / (1 + alpha)[:, None]
        self._smooth = 1.0 - float(np.exp(-2 * np.pi * envelope_hz / sample_rate_hz))
        self._sensitivity = self.centre_hz / 1000.0 / reference
        rng = np.random.default_rng(seed)
        self.threshold_on = threshold_on * np.maximum(0.1, 1 + mismatch * rng.standard_normal((ears, channels)))
        self.threshold_off = threshold_off * np.maximum(0.1, 1 + mismatch * rng.standard_normal((ears, channels)))
        self.dropped = 0
        self._out = np.zeros(max_events, EVENT_DTYPE)
        self._state = np.zeros((ears, channels, 7))
        self.reset()

    def reset(self) -> None:
        """Return to silence and to time 0; thresholds and `dropped` stay."""
        self._state[:] = 0.0
        self._origin_us, self._heard = 0, 0

    @property
    def t_us(self) -> int:
        """Time at which the next sample begins."""
        return self._origin_us + self._heard * 1_000_000 // self.sample_rate_hz

    def listen(self, samples: NDArray[np.floating], t_us: int | None = None) -> Events:
        """Hear samples; the filters carry on from the last call, so that cutting a sound changes nothing.

        Parameters
        ----------
        samples
            float32 [n], heard by every ear, or [n, ears]; full scale is 1, clipped at 1000. Not finite counts as 0.
        t_us
            Time of the first sample. None, or within 1 us of `t_us`, carries on without a gap; later leaves a gap.

        Returns
        -------
        events
            Sorted by time, from the first sample's time to before the end of the last.

        Raises
        ------
        ValueError
            A wrong shape, or a time before the end of what was heard.
        """
        ears = self.geometry.height
        sound = np.asarray(samples, np.float64)
        if sound.ndim == 1:
            sound = np.broadcast_to(sound[:, None], (len(sound), ears))
        if sound.ndim != 2 or sound.shape[1] != ears:
            raise ValueError(f"samples have shape {np.shape(samples)}; allowed: (n,) or (n, {ears})")
        if t_us is not None and abs(t_us - self.t_us) > 1:
            if t_us < self.t_us:
                raise ValueError(f"samples at {t_us} us; allowed: {self.t_us} us or later")
            self._origin_us, self._heard = int(t_us), 0
        sound = np.ascontiguousarray(np.clip(np.nan_to_num(sound, posinf=0.0, neginf=0.0), -LOUDEST, LOUDEST))
        n = _listen(sound, self._filters, self._smooth, self._sensitivity, self.threshold_on, self.threshold_off,
                    self._state, self._origin_us, self._heard, self.sample_rate_hz, self._out)  # fmt: skip
        self._state[np.abs(self._state) < 1e-100] = 0.0  # subnormal numbers would slow down long silences
        self._heard += len(sound)
        self.dropped += max(0, n - self._out.size)
        events = self._out[:n]
        return events[np.argsort(events["t"], kind="stable")]


def cochlea_samples(
    seed: int,
    geometry: Geometry = Geometry(64, 1, 2),  # noqa: B008 - frozen
    *,
    split: str = "train",
    cochlea: Cochlea | None = None,
    duration_ms: float = 300.0,
) -> Iterator[Sample]:
    """Endless labelled samples: vowels of ever new speakers, heard from silence.

    Parameters
    ----------
    seed
        Draws the vowels and, unless given, the cochlea. The two splits of one seed share the cochlea.
    geometry
        Channels by ears.
    split
        ``"train"`` or ``"test"``: sounds that never meet.
    cochlea
        The ear to listen with; one with the defaults if not given.
    duration_ms
        Length of each sample.
    """
    ear = cochlea or Cochlea(geometry.width, seed=seed, ears=geometry.height)
    rate_hz = ear.sample_rate_hz
    for label, name, samples in vowel_sounds(seed, split=split, duration_ms=duration_ms, sample_rate_hz=rate_hz):
        ear.reset()
        events = ear.listen(samples, 0)
        yield Sample(label, name, events, ear.t_us)
