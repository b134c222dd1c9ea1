"""Encoders against the binomial law, the charging membrane, and signals rebuilt from spikes; events of channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spiked.io.analogue import AnalogueChannels
from spiked.io.events import Geometry
from spiked.learners.counter import make_key, uniforms, word, words
from spiked.learners.encoders import DeltaEncoder, LatencyCode, RateEncoder

CHANNELS = 3
values = st.floats(-3, 3, allow_nan=False, width=32)
signals = hnp.arrays(np.float64, st.tuples(st.integers(0, 25), st.just(CHANNELS)), elements=values)
cuts = st.lists(st.integers(0, 25), max_size=4).map(sorted)


def parts_of(signal: np.ndarray, at: list[int]) -> list[np.ndarray]:
    return np.split(signal, [min(c, len(signal)) for c in at])


# counter


def test_the_counter_is_splitmix64() -> None:
    """The reference implementation's numbers, in plain integers."""

    def splitmix(state: int, n: int) -> list[int]:
        mask, out = (1 << 64) - 1, []
        for _ in range(n):
            state = (state + 0x9E3779B97F4A7C15) & mask
            z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            out.append(z ^ (z >> 31))
        return out

    assert splitmix(1234567, 2) == [6457827717110365317, 3203168211198807973]  # published with the algorithm
    key = 0xFEDCBA9876543210
    want = splitmix(key, 50)
    counters = np.arange(50, dtype=np.uint64)
    assert words(np.array([key], np.uint64), counters).tolist() == want
    assert [int(word(np.uint64(key), c)) for c in counters] == want


def test_uniforms_are_uniform() -> None:
    u = uniforms(make_key(5), np.arange(100_000, dtype=np.uint64))
    assert u.min() >= 0 and u.max() < 1
    counts = np.histogram(u, 100, (0, 1))[0]
    assert abs(((counts - 1000) ** 2 / 1000).sum() - 99) < 6 * math.sqrt(2 * 99)  # chi-square
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.02
    other = uniforms(make_key(6), np.arange(100_000, dtype=np.uint64))
    assert abs(np.corrcoef(u, other)[0, 1]) < 0.02


# rate


def test_rates_lie_in_the_binomial_interval() -> None:
    p = np.array([0.0, 0.02, 0.3, 0.5, 0.97, 1.0])
    n = 40_000
    spikes = RateEncoder(len(p), seed=3).encode(np.tile(p, (n, 1)))
    assert set(np.unique(spikes)) == {0, 1}
    bound = 4.5 * np.sqrt(n * p * (1 - p))
    assert (np.abs(spikes.sum(0) - n * p) <= bound).all()
    assert np.abs(np.corrcoef(spikes[:, 1:5].T) - np.eye(4)).max() < 4.5 / math.sqrt(n)
    late = spikes[1:, 3].astype(float)
    assert abs(np.corrcoef(late, spikes[:-1, 3])[0, 1]) < 4.5 / math.sqrt(n)


def test_intensities_are_normalised_and_clipped() -> None:
    encoder = RateEncoder(1, low=-2.0, high=6.0, peak=0.5)
    assert encoder.probability([-9.0, -2.0, 2.0, 6.0, 99.0]).tolist() == [0.0, 0.0, 0.25, 0.5, 0.5]


@settings(deadline=None)
@given(signals, cuts, st.integers(0, 1 << 70))
def test_rate_in_parts_is_rate_at_once(signal: np.ndarray, at: list[int], seed: int) -> None:
    whole, chunked = (RateEncoder(CHANNELS, -3.0, 3.0, seed=seed) for _ in range(2))
    np.testing.assert_array_equal(
        whole.encode(signal), np.concatenate([chunked.encode(p) for p in parts_of(signal, at)])
    )
    late = RateEncoder(CHANNELS, -3.0, 3.0)
    late.load_state(whole.state())
    np.testing.assert_array_equal(whole.encode(signal), late.encode(signal))


# latency


@given(st.floats(0.1, 500.0), st.floats(1e-3, 10.0), st.floats(1.001, 1e4))
def test_a_latency_is_when_the_membrane_reaches_the_threshold(tau: float, theta: float, factor: float) -> None:
    """Eq. 23 at the time of Eq. 25 is the threshold, and the inverse gives the input back."""
    x = theta * factor
    code = LatencyCode(tau, theta)
    t = float(code.time_ms(x))
    assert x * -math.expm1(-t / tau) == pytest.approx(theta, rel=1e-9)
    assert t == pytest.approx(tau * math.log(x / (x - theta)), rel=1e-6)
    assert float(code.intensity(t)) == pytest.approx(x, rel=1e-9)


def test_what_does_not_exceed_the_threshold_never_spikes() -> None:
    code = LatencyCode(20.0, 0.5)
    assert np.isinf(code.time_ms([0.5, 0.4999, 0.0, -1.0])).all()
    assert np.isfinite(code.time_ms([0.5000001, 1e300])).all()
    assert float(code.time_ms(np.inf)) == 0.0
    assert code.intensity([np.inf, 0.0]).tolist() == [0.5, np.inf]
    with pytest.raises(ValueError, match="NaN"):
        code.time_ms([np.nan])


def test_brighter_is_sooner() -> None:
    x = np.sort(np.random.default_rng(0).uniform(0.02, 5.0, 500))
    for code in (LatencyCode(20.0, 0.01), LatencyCode(20.0, 0.01, 50.0, 0.02, 5.0)):
        assert (np.diff(code.time_ms(x)) < 0).all()


def test_a_window_reaches_from_high_to_low() -> None:
    code = LatencyCode(20.0, 0.1, window_ms=80.0, low=0.2, high=0.9)
    assert code.time_ms([0.9, 0.2, 1.5, 0.19]).tolist() == [0.0, 80.0, 0.0, np.inf]
    x = np.linspace(0.2, 0.9, 30)
    np.testing.assert_allclose(code.intensity(code.time_ms(x)), x, rtol=1e-9)
    t = LatencyCode(20.0, 0.1).time_ms(x)
    np.testing.assert_allclose(code.time_ms(x), 80.0 * (t - t.min()) / (t.max() - t.min()), atol=1e-9)


# delta


def naive_delta(signal: list[float], on: float, off: float) -> list[tuple[int, int]]:
    """Spikes one by one: as long as the signal is a threshold away, one spike, and the reference moves by it."""
    reference, out = signal[0], []
    for x in signal:
        ups = downs = 0
        while x - reference >= on:
            reference += on
            ups += 1
        while reference - x >= off:
            reference -= off
            downs += 1
        out.append((downs, ups))
    return out


# thresholds and signals in 1/64: the sums of both implementations are exact, so they must agree exactly
exact_signals = st.lists(st.integers(-300, 300).map(lambda k: k / 64), min_size=1, max_size=30)
exact_thresholds = st.integers(1, 80).map(lambda k: k / 64)


@settings(deadline=None)
@given(exact_signals, exact_thresholds, exact_thresholds)
def test_delta_sends_one_spike_for_each_threshold_crossed(signal: list[float], on: float, off: float) -> None:
    got = DeltaEncoder(1, on, off).encode(np.array(signal)[:, None])[:, :, 0].tolist()
    want = naive_delta(signal, on, off)
    assert [tuple(x) for x in got] == want


@settings(deadline=None)
@given(signals, st.floats(0.01, 2.0), st.floats(0.01, 2.0))
def test_the_signal_rebuilt_is_within_a_threshold(signal: np.ndarray, on: float, off: float) -> None:
    encoder = DeltaEncoder(CHANNELS, on, off)
    counts = encoder.encode(signal)
    error = signal - encoder.trail(counts)[1:]
    assert (error <= on + 1e-9).all() and (error >= -off - 1e-9).all()
    assert not (counts[:, 0] * counts[:, 1]).any(), "a sample is above or below, not both"
    # by hand, from the spikes alone
    if len(signal):
        ups, downs = np.cumsum(counts[:, 1], 0), np.cumsum(counts[:, 0], 0)
        np.testing.assert_allclose(encoder.trail(counts)[1:], signal[0] + ups * on - downs * off, atol=1e-9)


@settings(deadline=None)
@given(signals, cuts)
def test_delta_in_parts_is_delta_at_once(signal: np.ndarray, at: list[int]) -> None:
    whole, chunked, loaded = (DeltaEncoder(CHANNELS, 0.3, 0.2, most=4) for _ in range(3))
    want, got = whole.encode(signal), []
    for part in parts_of(signal, at):
        loaded.load_state(chunked.state())
        counts = chunked.encode(part)
        np.testing.assert_array_equal(counts, loaded.encode(part))
        got.append(counts)
    np.testing.assert_array_equal(want, np.concatenate(got))
    for name, array in whole.state().items():
        assert array.tobytes() == chunked.state()[name].tobytes(), name


def test_a_signal_that_outruns_the_encoder_is_caught_up_with() -> None:
    signal = np.array([0.0, 10.0, 10.0, 10.0, 10.0])[:, None]
    counts = DeltaEncoder(1, 1.0, most=4).encode(signal)[:, 1, 0]
    assert counts.tolist() == [0, 4, 4, 2, 0]
    assert DeltaEncoder(1, 1e-9, most=7).encode(np.array([[0.0], [1e300]]))[1, 1, 0] == 7


def test_the_reference_does_not_drift() -> None:
    """Ten thousand swings by a threshold that binary fractions do not hold."""
    signal = np.tile([0.0, 0.7], 10_000)[:, None]
    encoder = DeltaEncoder(1, 0.1)
    error = signal - encoder.trail(encoder.encode(signal))[1:]
    assert np.abs(error).max() < 0.1 + 1e-9
    encoder.reset()
    assert not encoder.encode([[5.0]]).any(), "after a reset the first sample sets the reference"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: RateEncoder(1, 1.0, 1.0), "low < high"),
        (lambda: RateEncoder(1, peak=1.1), "peak"),
        (lambda: LatencyCode(tau_ms=0.0), "tau_ms"),
        (lambda: LatencyCode(threshold=0.0), "threshold"),
        (lambda: LatencyCode(threshold=0.5, window_ms=10.0, low=0.4), "threshold < low"),
        (lambda: LatencyCode(window_ms=-1.0), "window_ms"),
        (lambda: DeltaEncoder(1, 0.0), "on is 0"),
        (lambda: DeltaEncoder(1, 1.0, np.inf), "off is inf"),
        (lambda: DeltaEncoder(1, most=0), "most"),
        (lambda: DeltaEncoder(2).encode(np.zeros((3, 1))), r"\(3, 1\)"),
        (lambda: RateEncoder(1).encode(np.zeros(3)), r"\(3,\)"),
        (lambda: DeltaEncoder(1).encode([[np.nan]]), "NaN"),
        (lambda: DeltaEncoder(1).load_state(DeltaEncoder(2).state()), "base"),
        (lambda: RateEncoder(1).load_state({}), "key"),
        (lambda: AnalogueChannels(DeltaEncoder(2), 3, 100.0), "encoder of 2"),
        (lambda: AnalogueChannels(DeltaEncoder(2), 2, 2e6), "sample_rate_hz"),
        (lambda: AnalogueChannels(DeltaEncoder(2), 2, 100.0, -1), "t0_us"),
        (lambda: AnalogueChannels(LatencyCode(), 0, 100.0), "0 channels"),
        (lambda: AnalogueChannels(LatencyCode(), 2, 100.0).encode(np.zeros((1, 3))), "allowed"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


# events of channels

MAKERS = {
    "rate": lambda: RateEncoder(CHANNELS, -3.0, 3.0, seed=1),
    "latency": lambda: LatencyCode(2.0, 0.05),
    "delta": lambda: DeltaEncoder(CHANNELS, 0.3, 0.2, most=4),
}


@pytest.mark.parametrize("kind", MAKERS)
@given(signal=signals, at=cuts, rate_hz=st.sampled_from([1.0, 333.3, 1000.0, 44_100.0, 1e6]))
@settings(max_examples=60, deadline=None)
def test_events_come_in_order_and_are_the_same_in_parts(
    kind: str, signal: np.ndarray, at: list[int], rate_hz: float
) -> None:
    whole, chunked = (AnalogueChannels(MAKERS[kind](), CHANNELS, rate_hz, 7) for _ in range(2))
    want, got = whole.encode(signal), []
    for part in parts_of(signal, at):
        since = chunked.t_us
        events = chunked.encode(part)
        assert (events["t"] >= since).all() and (events["t"] < chunked.t_us).all(), "the promise of t_last is kept"
        got.append(events)
    assert (np.diff(want["t"].astype(np.int64)) >= 0).all()
    assert np.concatenate(got).tobytes() == want.tobytes()
    assert chunked.t_us == whole.t_us
    assert (want["x"] < CHANNELS).all() and not want["y"].any() and (want["on"] <= 1).all()


def test_crossings_have_the_times_of_the_straight_line() -> None:
    channels = AnalogueChannels(DeltaEncoder(2, 0.25), 2, 1000.0, t0_us=5000)
    assert channels.geometry == Geometry(2, 1, 2)
    events = channels.encode([[0.0, 9.0], [1.0, 9.0], [0.0, 9.1]])
    # up: 1/4, 1/2, 3/4 of the first ms, and the whole of it, which is the ms's last us; then down the same way
    assert events["t"].tolist() == [5250, 5500, 5750, 5999, 6250, 6500, 6750, 6999]
    assert events["on"].tolist() == [1] * 4 + [0] * 4
    assert not events["x"].any()
    assert channels.t_us == 7000


def test_a_latency_is_counted_from_its_sample() -> None:
    code = LatencyCode(2.0, 0.5)
    channels = AnalogueChannels(code, 3, 100.0)
    events = channels.encode([[0.6, 0.1, 50.0], [0.0, 0.5001, 0.0]])
    want = [int(code.time_ms(50.0) * 1000), int(code.time_ms(0.6) * 1000)]
    assert events["t"].tolist() == want and events["x"].tolist() == [2, 0]
    assert float(code.time_ms(0.5001)) > 10.0, "the one that would have come after its frame is lost"
