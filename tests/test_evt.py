"""Prophesee's words: against naive decoders, on words of any kind, cut anywhere; round trips; refused payloads."""

from __future__ import annotations

import hashlib

import naive_codecs as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiked.io import evt
from spiked.io.events import EVENT_DTYPE, make_events
from spiked.io.packed import Packed, as_bytes, unpack

CODECS = [3, 4]
WORD = {3: np.uint32, 4: np.uint16}
DECODE = {3: evt.decode_evt2, 4: evt.decode_evt3}
COUNT = {3: evt.count_evt2, 4: evt.count_evt3}
ENCODE = {3: evt.encode_evt2, 4: evt.encode_evt3}
NAIVE_DECODE = {3: naive.decode_evt2, 4: naive.decode_evt3}
NAIVE_ENCODE = {3: naive.encode_evt2, 4: naive.encode_evt3}
RANGE = {3: 1 << 34, 4: 1 << 24}


def as_array(tuples):
    return np.array(tuples, EVENT_DTYPE)


def as_words(codec, payload):
    return np.frombuffer(payload, WORD[codec])


@st.composite
def word_streams(draw, codec):
    """Words of all kinds; the times of TIME_HIGH near the ends of the clock, so that it passes them."""
    shift, kinds = (28, [0, 1, 8, 10, 14]) if codec == 3 else (12, [0, 2, 3, 4, 5, 6, 8, 10, 7, 15])
    top = (1 << shift) - 1
    rest = st.one_of(st.integers(0, top), st.sampled_from([0, 1, top // 2, top - 1, top, 2040, 2047]))
    return draw(st.lists(st.tuples(st.sampled_from(kinds), rest).map(lambda w: w[0] << shift | w[1]), max_size=60))


@st.composite
def event_lists(draw, codec, t_top=1 << 50):
    """Events whose times step back a little and ahead by up to a quarter of the clock."""
    n = draw(st.integers(1, 40))
    t = draw(st.integers(1000, t_top))
    events = []
    for _ in range(n):
        same = draw(st.booleans()) and events
        x = draw(st.integers(0, 2047))
        if same:  # runs in one row, where vectors pay
            events.append((t, min(2047, events[-1][1] + draw(st.integers(0, 4))), *events[-1][2:]))
            continue
        t += draw(st.one_of(st.integers(-20, 300), st.integers(0, RANGE[codec] // 4 - 1)))
        events.append((t, x, draw(st.integers(0, 2047)), draw(st.integers(0, 1))))
    return events


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_words_cut_anywhere_give_what_the_naive_decoder_gives(codec, data):
    words = np.array(data.draw(word_streams(codec)), WORD[codec])
    earliest = data.draw(st.sampled_from([0, 1, 1 << 24, (1 << 34) + 77, 1633953690975950]))
    capacity = data.draw(st.integers(12, 30))
    state, got, start = evt.new_state(earliest), [], 0
    canary = np.full(capacity + 20, 0xAB, np.uint8).repeat(EVENT_DTYPE.itemsize).view(EVENT_DTYPE)
    while start < len(words):
        end = start + data.draw(st.integers(1, len(words) - start))
        n = DECODE[codec](words[start:end], canary[:capacity], state)
        assert n <= COUNT[codec](words[start:end])
        got += canary[:n].tolist()
        start += int(state[evt.CONSUMED])
    assert got == NAIVE_DECODE[codec](words.tolist(), earliest)
    assert np.all(canary[capacity:].view(np.uint8) == 0xAB)


def decode_payload(codec, payload, t_first, count, width, height, jitter_us=evt.JITTER_US):
    """As a message on the wire is decoded, but for its watermark."""
    lap_us = max(0, t_first - jitter_us)
    return unpack(Packed(as_bytes(payload, codec), codec, count, t_first, lap_us, 0, (1 << 63) - 1, width, height))


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_encoded_payloads_give_back_the_events(codec, data):
    tuples = data.draw(event_lists(codec))
    events = as_array(tuples)
    payload = ENCODE[codec](events)
    t_first = int(events["t"].min())
    decoded = decode_payload(codec, payload, t_first, len(events), 2048, 2048)
    assert np.array_equal(decoded, events)
    assert NAIVE_DECODE[codec](as_words(codec, payload).tolist(), t_first) == tuples
    naive_payload = NAIVE_ENCODE[codec](tuples)
    assert np.array_equal(decode_payload(codec, naive_payload, t_first, len(events), 2048, 2048), events)
    assert len(payload) <= len(naive_payload)


def test_payloads_begin_with_the_state_words():
    events = make_events([5000, 5001], 3, 4, 1)
    assert [w >> 28 for w in as_words(3, evt.encode_evt2(events))][:1] == [8]
    assert [w >> 12 for w in as_words(4, evt.encode_evt3(events))][:4] == [8, 6, 0, 3]
    assert evt.encode_evt2(events[:0]) == evt.encode_evt3(events[:0]) == b""


def test_a_row_is_sent_as_vectors():
    events = make_events(np.full(120, 777), np.arange(120), 5, 1)
    assert len(evt.encode_evt3(events)) == 2 * (4 + 10)


@pytest.mark.parametrize("codec", CODECS)
def test_clock_is_followed_over_many_laps(codec):
    t = np.arange(40) * (RANGE[codec] // 5) + 12345
    events = make_events(t, 1, 2, 0)
    state = evt.new_state()
    out = np.empty(40, EVENT_DTYPE)
    assert DECODE[codec](as_words(codec, ENCODE[codec](events)), out, state) == 40
    assert np.array_equal(out["t"], t)


@pytest.mark.parametrize("codec", CODECS)
def test_t_first_places_the_time(codec):
    t = 7 * RANGE[codec] + 4242
    payload = ENCODE[codec](make_events([t], 1, 2, 0))

    def placed(t_first):
        return int(decode_payload(codec, payload, t_first, 1, 10, 10, jitter_us=100)["t"][0])

    assert placed(t) == t  # the event is the first
    assert placed(t + 11) == t  # it steps back by what real cameras do
    assert placed(t - RANGE[codec] + 101) == t  # it comes almost a lap after t_first
    assert placed(t + 101) == t + RANGE[codec]  # before t_first by more than the jitter: the next lap


def evt3_payload(*words):
    return np.array([8 << 12, 6 << 12, 7, 3 << 12 | 100, *words], "<u2").tobytes()


@pytest.mark.parametrize(
    ("codec", "payload", "count", "reason"),
    [
        (3, bytes(7), 1, "multiple"),
        (4, bytes(7), 1, "multiple"),
        (3, b"", 1, "holds 0 events"),
        (4, b"", 1, "holds 0 events"),
        (3, np.array([0, 8 << 28], "<u4").tobytes(), 1, "begin"),
        (4, evt3_payload(2 << 12)[2:], 1, "begin"),
        (4, evt3_payload(2 << 12)[:6], 0, "begin"),
        (3, np.array([8 << 28, 0], "<u4").tobytes(), 2, "1 events, the header says 2"),
        (3, np.array([8 << 28, 0, 0], "<u4").tobytes(), 1, "2 events, the header says 1"),
        (3, np.array([8 << 28], "<u4").tobytes(), 2**32 - 1, "header says 4294967295"),
        (4, evt3_payload(4 << 12 | 0xFFF), 2**32 - 1, "12 events, the header says 4294967295"),
        (4, evt3_payload(4 << 12 | 0xFFF, 2 << 12), 12, "13 events, the header says 12"),
        (3, np.array([8 << 28, 128 << 11], "<u4").tobytes(), 1, "outside"),
        (3, np.array([8 << 28, 100], "<u4").tobytes(), 1, "outside"),
        (4, evt3_payload(*[4 << 12] * 2, 5 << 12 | 0x1F), 5, "outside"),
        (4, evt3_payload(*[4 << 12 | 1] * 200), 200, "gives 163 events"),  # a vector far beyond any sensor
    ],
)
def test_bad_payloads_are_refused(codec, payload, count, reason):
    with pytest.raises(ValueError, match=reason):
        decode_payload(codec, payload, 0, count, 128, 100)


def test_coordinates_at_the_edge_are_taken():
    payload = evt3_payload(*[4 << 12] * 2, 5 << 12 | 0x0F)  # x = 124..127
    assert decode_payload(4, memoryview(payload), 0, 4, 128, 8)["x"].tolist() == [124, 125, 126, 127]


@pytest.mark.parametrize("codec", CODECS)
def test_heartbeats(codec):
    assert len(decode_payload(codec, b"", 5, 0, 8, 8)) == 0


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_bytes_are_refused_or_decoded(codec, data):
    words = np.array(data.draw(word_streams(codec)), WORD[codec])
    prefix = evt3_payload() if codec == 4 else np.array([8 << 28], "<u4").tobytes()
    payload = prefix + words.tobytes() + data.draw(st.binary(max_size=3))
    count = data.draw(st.one_of(st.just(COUNT[codec](words)), st.integers(0, 100)))
    t_first = data.draw(st.integers(0, 1 << 61))
    try:
        events = decode_payload(codec, payload, t_first, count, 640, 480)
    except ValueError:
        return
    assert len(events) == count
    assert events.tolist() == NAIVE_DECODE[codec](as_words(codec, payload).tolist(), max(0, t_first - evt.JITTER_US))
    assert count == 0 or (events["x"].max() < 640 and events["y"].max() < 480)


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [("x", [1, 2048], "x 2048"), ("y", [5000, 1], "y 5000"), ("t", [0, 1 << 40], "apart")],
)
@pytest.mark.parametrize("codec", CODECS)
def test_what_words_cannot_say_is_refused(codec, column, values, reason):
    events = make_events([10, 20], 1, 1, 1)
    events[column] = values
    with pytest.raises(ValueError, match=reason):
        ENCODE[codec](events)


def test_each_kernel_is_compiled_once_for_all_kinds_of_buffers():
    payload = evt.encode_evt3(make_events([1, 2, 3], 1, 2, 1))
    for buffer in (payload, bytearray(payload), memoryview(b"\0" + payload)[1:]):
        assert len(decode_payload(4, buffer, 0, 3, 8, 8)) == 3
    evt.decode_evt3(np.frombuffer(payload, "<u2").copy(), np.empty(12, EVENT_DTYPE), evt.new_state())
    assert len(getattr(evt.evt3_kernel, "signatures", [0])) == 1


def words_of_file(path, dtype):
    data = path.read_bytes()
    while data.startswith(b"% "):
        data = data[data.index(b"\n") + 1 :]
    return np.frombuffer(data, dtype, len(data) // np.dtype(dtype).itemsize)


def test_evt2_of_a_camera(data_dir):
    words = words_of_file(data_dir / "files" / "evt2.raw", "<u4")
    events = np.empty(evt.count_evt2(words), EVENT_DTYPE)
    assert evt.decode_evt2(words, events, evt.new_state()) == len(events) == 521_252
    digests = {name: hashlib.sha3_224(events[name].tobytes()).hexdigest() for name in EVENT_DTYPE.names}
    assert digests == {
        "t": "9855ba39c1baea316ae623b72466e420df60a7510248391856eb4eaf",
        "x": "93fc6cff19b483fd48ca53345c6c1cf05123681d7b7272a1717e9303",
        "y": "07cfaef58e5fa71ce9910ed5b88fb7e9fcf71e4a8654cc2c4666f1ae",
        "on": "d2b5e9c4047f4c431937b24cd46c8b504e055372b0ded1df77f0ffa1",
    }


def test_evt3_of_a_camera(data_dir):
    words = words_of_file(data_dir / "files" / "evt3_sample.raw", "<u2")
    events = np.empty(evt.count_evt3(words), EVENT_DTYPE)
    assert evt.decode_evt3(words, events, evt.new_state()) == len(events) == 219_596
    assert np.array_equal(events, as_array(naive.decode_evt3(words.tolist())))
    for part in np.array_split(events, 7):  # as a sender cuts it
        payload = evt.encode_evt3(part)
        assert np.array_equal(decode_payload(4, payload, int(part["t"].min()), len(part), 1280, 720), part)
