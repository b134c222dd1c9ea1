"""The binner against a slow oracle, whatever the events, their order, and how the stream is cut into messages."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_binner import NaiveBinner
from numba.core.runtime import _nrt_python, rtsys

from spiked.io import binner as binner_module
from spiked.io.binner import Binner, BinnerSpec
from spiked.io.binner_parts import BLOCK
from spiked.io.events import EVENT_DTYPE, Geometry, make_events
from spiked.io.packed import PackedError
from spiked.io.sender import Sender
from spiked.io.wire import EventCodec, packed_events, parse

BASES = (0, 12_345, 1 << 61)
WIDTH, HEIGHT = 5, 3


def array_of(events):
    return np.array(events, EVENT_DTYPE) if events else np.empty(0, EVENT_DTYPE)


def steps_of(steps):
    return [
        dict(zip(steps.indices[a:b].tolist(), steps.counts[a:b].tolist()))
        for a, b in zip(steps.indptr[:-1], steps.indptr[1:])
    ]


@st.composite
def specs(draw):
    return BinnerSpec(
        geometry=Geometry(WIDTH, HEIGHT, draw(st.sampled_from([1, 2]))),
        dt_us=draw(st.sampled_from([1, 10, 1000])),
        downsample=draw(st.sampled_from([1, 2, 3, 5])),
        count=draw(st.sampled_from(["binary", "sum", "clip"])),
        threshold=draw(st.integers(1, 3)),
        clip_at=draw(st.integers(1, 3)),
        refractory_us=draw(st.sampled_from([0, 0, 3, 700])),
        hot_pixel_hz=draw(st.sampled_from([0.0, 0.0, 2.5])),
        late=draw(st.sampled_from(["drop", "clamp"])),
    )


@st.composite
def streams(draw):
    """A specification, a start, and messages of (events in any order, first step that may not run yet)."""
    spec = draw(specs())
    base = draw(st.sampled_from(BASES))
    span = 30 * spec.dt_us
    event = st.tuples(
        st.integers(0, span).map(lambda t: base + t),
        st.integers(0, WIDTH - 1),
        st.integers(0, HEIGHT - 1),
        st.integers(0, 1),
    )
    steps = st.integers(-3, 35).map(lambda k: base // spec.dt_us + k)
    return spec, base, draw(st.lists(st.tuples(st.lists(event, max_size=12), steps), max_size=8))


def both(spec, base):
    naive = NaiveBinner(
        WIDTH,
        HEIGHT,
        spec.geometry.planes,
        spec.dt_us,
        spec.downsample,
        spec.count,
        spec.threshold,
        spec.clip_at,
        spec.refractory_us,
        spec.hot_pixel_hz,
        spec.late,
    )
    binner = Binner(spec)
    for b in (naive, binner):
        b.start(base)
    return naive, binner


@settings(max_examples=300, deadline=None)
@given(streams())
def test_same_steps_as_the_oracle(stream):
    spec, base, messages = stream
    naive, binner = both(spec, base)
    for events, end_step in messages:
        first = binner.next_step
        given_events = array_of(events)
        untouched = given_events.copy()
        steps = binner.push(given_events, end_step)
        assert (given_events == untouched).all()
        assert steps.first == first
        assert steps_of(steps) == naive.push(events, end_step)
        assert (binner.next_step, binner.waiting) == (naive.next_step, len(naive.waiting))
        assert (binner.dropped, binner.clamped) == (naive.dropped, naive.clamped)
        for a, b in zip(steps.indptr[:-1], steps.indptr[1:]):
            assert (np.diff(steps.indices[a:b]) > 0).all()
        assert (steps.indices.dtype, steps.counts.dtype, steps.indptr.dtype) == (np.int32, np.float32, np.int64)


@settings(max_examples=150, deadline=None)
@given(specs(), st.sampled_from(BASES), st.data())
def test_cutting_does_not_matter(spec, base, data):
    """Events in time order, cut anywhere, with the watermark anywhere at or below the next event."""
    times = sorted(data.draw(st.lists(st.integers(0, 30 * spec.dt_us), max_size=40)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    events = array_of([(base + t, rng.integers(WIDTH), rng.integers(HEIGHT), rng.integers(2)) for t in times])
    end = base // spec.dt_us + 35
    whole = Binner(spec)
    whole.start(base)
    expected = steps_of(whole.push(events, end))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=6)))
    pieces = Binner(spec)
    pieces.start(base)
    got = []
    for a, b in zip([0, *cuts], [*cuts, len(events)]):
        mark = int(events["t"][b]) if b < len(events) else base
        got += steps_of(pieces.push(events[a:b], mark // spec.dt_us - data.draw(st.integers(0, 2))))
    got += steps_of(pieces.push(events[:0], end))
    assert got == expected
    assert pieces.dropped == whole.dropped


@settings(max_examples=100, deadline=None)
@given(streams(), st.integers(0, 7))
def test_state_continues_bit_for_bit(stream, cut):
    spec, base, messages = stream
    first = both(spec, base)[1]
    for events, end_step in messages[:cut]:
        first.push(array_of(events), end_step)
    second = Binner(spec)
    second.load_state(first.state())
    for events, end_step in messages[cut:]:
        a, b = (binner.push(array_of(events), end_step) for binner in (first, second))
        assert a.first == b.first
        assert all((x == y).all() for x, y in zip(a[1:], b[1:]))
    for name, array in first.state().items():
        assert (array == second.state()[name]).all(), name
        assert array.dtype == second.state()[name].dtype, name


def binner_of(**keys):
    binner = Binner(BinnerSpec(Geometry(WIDTH, HEIGHT, 2), **keys))
    binner.start(0)
    return binner


def test_silence_is_steps_too():
    steps = binner_of().push(array_of([]), 1000)
    assert steps.n == 1000 and len(steps.indices) == 0


def test_an_event_waits_for_the_end_of_its_step():
    binner = binner_of()
    assert binner.push(array_of([(999, 1, 1, 1)]), 0).n == 0
    assert binner.waiting == 1
    assert steps_of(binner.push(array_of([(0, 0, 0, 0)]), 1)) == [{0: 1.0, WIDTH * HEIGHT + WIDTH + 1: 1.0}]


def test_a_cut_step_takes_what_lies_before_the_cut_and_begins_anew():
    binner = binner_of()
    binner.push(array_of([(5400, 0, 0, 0), (5600, 1, 0, 0), (7000, 2, 0, 0)]), 5)
    part = binner.cut(5500)
    assert (part.first, steps_of(part)) == (5, [{0: 1.0}])
    assert binner.next_step == 5
    rest = binner.push(array_of([(5500, 3, 0, 0)]), 8)
    assert (rest.first, steps_of(rest)) == (5, [{1: 1.0, 3: 1.0}, {}, {2: 1.0}])
    assert binner.dropped["late"] == 0


def test_events_that_still_wait_at_a_new_start_are_counted():
    binner = binner_of()
    binner.push(array_of([(5400, 0, 0, 0)]), 5)
    binner.start(0)
    assert (binner.dropped["late"], binner.waiting) == (1, 0)


def test_a_copy_of_emitted_steps_is_the_callers_own():
    binner = binner_of()
    steps = binner.push(array_of([(0, 0, 0, 0)]), 2)
    kept = steps.copy()
    later = binner.push(array_of([(2000, 1, 1, 1)]), 4)
    assert steps_of(kept) == [{0: 1.0}, {}]
    assert np.shares_memory(later.indices, steps.indices) and not np.shares_memory(kept.indices, steps.indices)


@settings(max_examples=200, deadline=None)
@given(streams(), st.sampled_from(list(EventCodec)))
def test_a_message_of_any_codec_gives_what_its_events_give(stream, codec):
    spec, base, messages = stream
    by_array, by_message = both(spec, base)[1], both(spec, base)[1]
    sender = Sender("cam0", spec.geometry, 1)
    for events, end_step in messages:
        array = array_of(events)
        message = parse(sender.events(array, base + 40 * spec.dt_us, codec), {"cam0": spec.geometry})
        a, b = by_array.push(array, end_step).copy(), by_message.push(packed_events(message), end_step)
        assert steps_of(a) == steps_of(b)
    same_state(by_array, by_message)


def same_state(a, b):
    for name, array in a.state().items():
        assert (array == b.state()[name]).all(), name


def long_message(codec, n=3 * BLOCK + 7, swapped=0, seed=0):
    """More events than are unpacked at once, over 20 steps; the binner and the frames for it."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(1000, 21_000, n))
    for k in rng.integers(0, n - 1, swapped):
        t[[k, k + 1]] = t[[k + 1, k]]
    events = make_events(t, rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n), rng.integers(0, 2, n))
    return events, Sender("cam0", Geometry(WIDTH, HEIGHT), 1).events(events, 21_000, codec)


def packed_of(frames):
    return packed_events(parse(frames, {"cam0": Geometry(WIDTH, HEIGHT)}))


@pytest.mark.parametrize("keys", [{}, {"refractory_us": 700}, {"count": "sum", "threshold": 2}])
@pytest.mark.parametrize("swapped", [0, 5, 2000])
@pytest.mark.parametrize("codec", list(EventCodec))
def test_long_messages(codec, swapped, keys):
    """Blocks follow each other; and order, where it is lost, is made."""
    spec = BinnerSpec(Geometry(WIDTH, HEIGHT), **keys)
    naive, binner = both(spec, 1000)
    events, frames = long_message(codec, swapped=swapped)
    assert steps_of(binner.push(packed_of(frames), 15)) == naive.push(events.tolist(), 15)
    assert steps_of(binner.push(array_of([]), 21)) == naive.push([], 21)
    assert binner.dropped == naive.dropped and binner.waiting == 0


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(list(EventCodec)), st.integers(0, 3 * BLOCK + 6), st.integers(0, 2), st.integers(0, 25))
def test_one_bad_event_refuses_all_and_leaves_no_trace(codec, at, keys, end_step):
    keys = [{}, {"refractory_us": 700}, {"count": "sum"}][keys]
    events, _ = long_message(codec)
    good = events.copy()
    events["y"][at] = HEIGHT
    frames = Sender("cam0", Geometry(WIDTH, HEIGHT), 1).events(events, 21_000, codec)
    refused, spared = (both(BinnerSpec(Geometry(WIDTH, HEIGHT), **keys), 1000)[1] for _ in range(2))
    for binner in (refused, spared):
        binner.push(array_of([(1500, 0, 0, 0), (9000, 1, 1, 1)]), 2)
    with pytest.raises(PackedError, match=f"event {at} .* y {HEIGHT}, on .. outside 5x3") as error:
        refused.push(packed_of(frames), end_step)
    assert error.value.reason == "range"
    same_state(refused, spared)
    a, b = (binner.push(good, 30) for binner in (refused, spared))
    assert steps_of(a) == steps_of(b)


@pytest.mark.parametrize("said", [3, 5])
@pytest.mark.parametrize("codec", [EventCodec.EVT2, EventCodec.EVT3])
def test_a_count_that_is_wrong_refuses_all(codec, said):
    packed = packed_of(Sender("cam0", Geometry(WIDTH, HEIGHT), 1).events(array_of([(1, 1, 1, 1)] * 4), 10, codec))
    binner = binner_of()
    for events in (packed._replace(count=said), packed._replace(count=1 << 31)):
        with pytest.raises(PackedError, match=f"payload holds 4 events, the header says {events.count}"):
            binner.push(events, 1)
    assert (binner.next_step, binner.waiting) == (0, 0)
    assert steps_of(binner.push(packed, 1)) == [{WIDTH * HEIGHT + WIDTH + 1: 1.0}]


@pytest.mark.parametrize("order", ["in order", "swapped"])
def test_too_many_that_would_wait_are_refused(order, monkeypatch):
    monkeypatch.setattr(binner_module, "MAX_WAITING", 10)
    binner = binner_of()
    events = array_of([(5000 + k, 1, 1, 1) for k in range(11)])
    if order == "swapped":
        events[:2] = events[1::-1]
    with pytest.raises(PackedError, match="11 events would wait for their step; at most 10"):
        binner.push(events, 5)
    assert (binner.next_step, binner.waiting) == (0, 0)
    assert binner.push(events, 6, at_most=2).n == 2 and binner.waiting == 11  # they wait for the caller alone
    assert binner.push(events[:0], 6).n == 4 and binner.waiting == 0


@pytest.mark.parametrize("keys", [{}, {"refractory_us": 1}])
def test_what_a_large_message_needed_is_given_back(keys, monkeypatch):
    monkeypatch.setattr(binner_module, "KEPT", 10_000)
    spec = BinnerSpec(Geometry(64, 48), **keys)
    naive = NaiveBinner(64, 48, 2, 1000, 1, "binary", 1, 4, keys.get("refractory_us", 0), 0.0, "drop")
    binner, rng = Binner(spec), np.random.default_rng(0)
    for b in (naive, binner):
        b.start(0)
    t = rng.integers(0, 40_000, 20_000)  # in no order
    events = make_events(t, rng.integers(0, 64, 20_000), rng.integers(0, 48, 20_000), rng.integers(0, 2, 20_000))
    bad = events.copy()
    bad["x"][-1] = 64

    def held():
        return binner._space.room.nbytes + binner._space.stash.nbytes + binner._emitted.indices.nbytes

    before = held()
    gc.disable()  # nothing may wait for it
    tracemalloc.start()
    try:
        with pytest.raises(PackedError):
            binner.push(bad, 10)
        assert held() == before and tracemalloc.get_traced_memory()[0] < 2 * before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert steps_of(binner.push(events, 10)) == naive.push(events.tolist(), 10)
    assert binner.waiting > 10_000 and held() < 2 * events.nbytes  # they wait, and that is all
    assert steps_of(binner.push(events[:0], 40)) == naive.push([], 40)
    binner.push(events[:0], 40)
    assert held() == before


def test_no_memory_is_taken_per_message_once_it_was():
    """Whatever the rate: nothing that grows with the events of a message is allocated, by NumPy or by kernels."""
    binner, packed = binner_of(), []
    for codec in EventCodec:
        packed.append(packed_of(long_message(codec)[1]))
        packed.append(packed_of(long_message(codec, swapped=50)[1]))
    seen = []
    _nrt_python.memsys_enable_stats()
    for _ in range(3):
        tracemalloc.start()
        made = rtsys.get_allocation_stats().alloc
        for each in packed:
            binner.next_step = 1
            binner.push(each, 18)
            binner.push(array_of([]), 21)
        seen.append((tracemalloc.get_traced_memory()[1], rtsys.get_allocation_stats().alloc - made))
        tracemalloc.stop()
    calls = 2 * len(packed) + len(EventCodec)  # a swapped one takes two; each has a head of the payload made, 48 bytes
    assert seen[-1][0] < 8_000 and seen[-1][1] == calls


def test_a_state_of_another_sensor_is_refused():
    state = Binner(BinnerSpec(Geometry(4, 4, 2), refractory_us=5)).state()
    with pytest.raises(ValueError, match="seen_us"):
        Binner(BinnerSpec(Geometry(5, 5, 2), refractory_us=5)).load_state(state)
