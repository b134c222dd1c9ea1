"""The simulated cochlea against a plain-Python oracle and the stated facts of a filter bank."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_sensors import naive_channel

from spiked.io.events import EVENT_DTYPE, Geometry
from spiked.io.sim_cochlea import Cochlea, cochlea_samples
from spiked.io.sim_scenes import VOWELS, vowel_sounds


def noise(seed: int, n: int, rms: float = 0.1):
    return (rms * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def tone(hz: float, n: int = 8000, rate_hz: int = 16000):
    return (0.1 * np.sin(2 * np.pi * hz * np.arange(n) / rate_hz)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [16000, 11025])
def test_equals_the_oracle_and_follows_the_level_within_a_threshold(rate_hz: int) -> None:
    options = {"envelope_hz": 150.0, "reference": 0.004}
    cochlea = Cochlea(12, rate_hz, 120.0, 4500.0, 3, mismatch=0.1, threshold_off=0.15, **options)
    samples = np.concatenate([noise(0, 1000), noise(1, 500, 0.001), tone(700, 500, rate_hz)])
    events = cochlea.listen(samples)
    assert events.dtype == EVENT_DTYPE and len(events) > 1000
    assert np.all(np.diff(events["t"].astype(np.int64)) >= 0)
    for c, centre_hz in enumerate(np.geomspace(120.0, 4500.0, 12)):
        on_by, off_by = cochlea.threshold_on[0, c], cochlea.threshold_off[0, c]
        expected, levels = naive_channel(samples, centre_hz, rate_hz, on_by, off_by, **options)
        mine = events[events["x"] == c]
        assert mine["on"].tolist() == [on for _, on in expected]
        np.testing.assert_allclose(mine["t"], [t for t, _ in expected], atol=1)  # a rounding may fall either way
        steps = np.concatenate([[0.0], np.cumsum(np.where(mine["on"] == 1, on_by, -off_by))])
        ends = np.arange(1, len(samples) + 1) * 1_000_000 // rate_hz
        error = levels - steps[np.searchsorted(mine["t"], ends)]
        assert np.all(error < on_by + 1e-9) and np.all(error > -off_by - 1e-9)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 1500), max_size=12), st.sampled_from([16000, 11025]), st.booleans())
def test_cutting_the_sound_anywhere_changes_nothing(cuts: list[int], rate_hz: int, timed: bool) -> None:
    samples, origin_us = noise(1, 1500), 123_457
    whole = Cochlea(20, rate_hz, 100.0, 5000.0, 1).listen(samples, origin_us)
    cochlea, parts = Cochlea(20, rate_hz, 100.0, 5000.0, 1), []
    bounds = [0, *sorted(cuts), 1500]
    for begin, end in itertools.pairwise(bounds):
        # Callers round to whole microseconds as they like
        t_us = origin_us + round(begin * 1e6 / rate_hz) if timed or begin == 0 else None
        parts.append(cochlea.listen(samples[begin:end], t_us))
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert cochlea.t_us == origin_us + 1500 * 1_000_000 // rate_hz


@pytest.mark.parametrize("hz", [150.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0])
def test_tone_excites_the_channel_of_its_frequency_most(hz: float) -> None:
    cochlea = Cochlea(mismatch=0.0, threshold_on=0.01, threshold_off=0.01)
    events = cochlea.listen(tone(hz))
    steps = np.where(events["on"] == 1, 1, -1)
    level = np.array([np.cumsum(steps[events["x"] == c]).max(initial=0) for c in range(64)])  # the highest reached
    nearest = np.argmin(np.abs(np.log(cochlea.centre_hz / hz)))
    assert abs(int(np.argmax(level)) - nearest) <= 1
    an_octave_off = np.abs(np.log2(cochlea.centre_hz / hz)) > 1
    assert level[an_octave_off].max() < 0.6 * level.max()


def test_same_seed_same_bytes() -> None:
    runs = [Cochlea(seed=seed).listen(noise(0, 2000)).tobytes() for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


def test_silence_gives_no_events() -> None:
    cochlea = Cochlea()
    assert not len(cochlea.listen(np.zeros(16000, np.float32)))
    assert cochlea.t_us == 1_000_000
    assert not len(cochlea.listen(np.array([np.nan, np.inf, -np.inf], np.float32)))
    assert not len(cochlea.listen(np.zeros(0, np.float32)))


def test_ears() -> None:
    one = Cochlea(16, seed=0, mismatch=0.0).listen(noise(0, 1000))
    both = Cochlea(16, seed=0, mismatch=0.0, ears=2).listen(noise(0, 1000))
    for ear in (0, 1):
        heard = both[both["y"] == ear]
        heard["y"] = 0
        assert heard.tobytes() == one.tobytes()
    right = Cochlea(16, ears=2).listen(np.stack([np.zeros(1000), noise(0, 1000)], axis=1))
    assert len(right) and np.all(right["y"] == 1)


def test_time_and_reset() -> None:
    cochlea = Cochlea(16)
    first = cochlea.listen(noise(0, 800), 0)
    assert first["t"][-1] < 50_000 == cochlea.t_us
    late = cochlea.listen(noise(0, 800), 70_000)
    assert late["t"][0] >= 70_000 and late["t"][-1] < 120_000 == cochlea.t_us
    with pytest.raises(ValueError, match="samples at 9 us; allowed: 120000 us or later"):
        cochlea.listen(noise(0, 10), 9)
    cochlea.reset()
    assert cochlea.listen(noise(0, 800), 0).tobytes() == first.tobytes()


def test_what_exceeds_the_cap_is_counted() -> None:
    whole, small = Cochlea(16), Cochlea(16, max_events=50)
    n_whole = len(whole.listen(noise(0, 1000)))
    assert len(small.listen(noise(0, 1000))) == 50
    assert whole.dropped == 0 and small.dropped == n_whole - 50


def test_absurd_loudness_ends_and_heals() -> None:
    cochlea = Cochlea(8)
    loud = cochlea.listen(np.full(100, 3e38, np.float32) * np.resize([1, -1], 100).astype(np.float32))
    quiet = cochlea.listen(np.zeros(32000, np.float32))
    assert len(loud) and len(quiet)
    assert not len(cochlea.listen(np.zeros(16000, np.float32)))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"shape \(5, 2\); allowed: \(n,\) or \(n, 1\)"):
        Cochlea().listen(np.zeros((5, 2), np.float32))
    with pytest.raises(ValueError, match="f_max_hz 8000"):
        Cochlea(f_max_hz=8000.0)
    with pytest.raises(ValueError, match="0 channels"):
        Cochlea(0)
    for name in ("threshold_on", "threshold_off", "envelope_hz", "reference"):
        with pytest.raises(ValueError, match=f"{name} is 0.0; allowed"):
            Cochlea(**{name: 0.0})


def test_vowels() -> None:
    runs = [list(itertools.islice(vowel_sounds(3), 10)) for _ in range(2)]
    assert sorted(name for _, name, _ in runs[0][:5]) == sorted(VOWELS)
    for (label, name, samples), (_, _, again) in zip(*runs, strict=True):
        assert name == list(VOWELS)[label]
        assert samples.dtype == np.float32 and samples.shape == (4800,) and np.abs(samples).max() <= 1
        assert samples.tobytes() == again.tobytes()
    assert next(vowel_sounds(3, split="test"))[2].tobytes() != runs[0][0][2].tobytes()
    with pytest.raises(ValueError, match="duration_ms is 10"):
        next(vowel_sounds(0, duration_ms=10))


def test_vowels_show_their_formants() -> None:
    """Means over many speakers: power near the first two formants stands above that in the valley between."""
    power = {name: np.zeros(2401) for name in VOWELS}
    for _, name, samples in itertools.islice(vowel_sounds(1), 200):
        power[name] += np.abs(np.fft.rfft(samples)) ** 2
    hz = np.fft.rfftfreq(4800, 1 / 16000)
    for name in ("e", "i"):  # the vowels with formants far apart
        f1, f2 = (1.07 * f for f in VOWELS[name][:2])  # the mean speaker is shorter than a tall man
        first, valley, second = (
            power[name][(hz > 0.85 * f) & (hz < 1.15 * f)].mean() for f in (f1, np.sqrt(f1 * f2) * 1.1, f2)
        )
        assert first > 10 * valley and second > 1.5 * valley


def counts_and_labels(samples, n: int):
    counts, labels = [], []
    for sample in itertools.islice(samples, n):
        assert sample.events["t"][-1] < sample.duration_us == 300_000
        counts.append(np.sqrt(np.bincount(sample.events["x"], minlength=64)))
        labels.append(sample.label)
    return np.array(counts), np.array(labels)


def test_vowels_are_separable() -> None:
    counts, labels = counts_and_labels(cochlea_samples(5), 200)
    tested, truth = counts_and_labels(cochlea_samples(5, split="test"), 100)
    assert 2000 < np.mean(np.sum(counts**2, axis=1)) < 8000
    centroids = np.array([counts[labels == k].mean(axis=0) for k in range(5)])
    guess = np.argmin(((tested[:, None] - centroids) ** 2).sum(axis=2), axis=1)
    assert np.mean(guess == truth) > 0.8  # chance: 0.2


def test_samples_take_a_geometry_and_a_cochlea() -> None:
    runs = [next(cochlea_samples(2, Geometry(32, 2))) for _ in range(2)]
    assert runs[0].events.tobytes() == runs[1].events.tobytes()
    assert runs[0].events["x"].max() < 32 and set(runs[0].events["y"].tolist()) == {0, 1}
    deaf = Cochlea(8, 8000, 100.0, 3000.0, threshold_on=50.0, threshold_off=50.0)
    sample = next(cochlea_samples(2, cochlea=deaf, duration_ms=100))
    assert not len(sample.events) and sample.duration_us == 100_000
