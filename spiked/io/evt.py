"""Prophesee's event words, EVT2 (32 bits) and EVT3 (16 bits): compiled decoders, encoders, payloads of the wire.

A decoder keeps all that it knows in a small state array, so a stream may be cut between any two words. It writes
nothing beyond the end of `out`: it stops before the word whose events would not fit and reports how many words it took
(``state[CONSUMED]``). Times are those of the words, steps back included; nothing is sorted.

Sources: Prophesee, "EVT 2.0 Format" and "EVT 3.0 Format" (docs.prophesee.ai, data encoding formats).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiked.io.events import Events
from spiked.io.evt_encode import EVT2_RANGE_US, EVT3_RANGE_US, MAX_COORDINATE, encode_evt2, encode_evt3
from spiked.learners.jit import kernel

__all__ = [
    "CODEC_EVT2",
    "CODEC_EVT3",
    "STATE_SIZE",
    "count_evt2",
    "count_evt3",
    "decode_evt2",
    "decode_evt3",
    "encode_evt2",
    "encode_evt3",
    "evt2_kernel",
    "evt3_kernel",
    "new_state",
    "payload_words",
]

CODEC_EVT2, CODEC_EVT3 = 3, 4
"""Codec numbers of the wire (kind 1)."""

JITTER_US = 4096
"""How far the first event may lie before `t_first`; without it a step back of 1 us would become a lap ahead."""

# Cells of a decoder's state
HIGH, LOW, Y, BASE_X, BASE_ON, LAP, EARLIEST, PLACED, CONSUMED, OTHER, UNPLACED = range(11)
STATE_SIZE = 11


def new_state(earliest_us: int = 0) -> NDArray[np.int64]:
    """State of a decoder that has seen nothing.

    Parameters
    ----------
    earliest_us : the first event is placed at the smallest time not below this that its words allow.

    Returns
    -------
    int64 ``[STATE_SIZE]``: ``HIGH``, ``LOW``, ``Y``, ``BASE_X`` (-1: not seen yet) and ``BASE_ON`` are the last state
    words; ``LAP`` the us in full laps of the clock; ``PLACED`` 1 once the first event fixed the lap; ``CONSUMED`` words
    taken by the last call; ``OTHER`` words that are not camera events (triggers and the like), ``UNPLACED`` events left
    out because the words before them did not say when or where. The last two add up over calls.
    """
    state = np.zeros(STATE_SIZE, np.int64)
    state[: BASE_X + 1] = -1
    state[EARLIEST] = earliest_us
    return state


@kernel
def _turn(state: NDArray[np.int64], high: Any, bits: int, range_us: int) -> None:
    """Take in a TIME_HIGH of `bits` bits: a step of more than half the clock is a rollover, forward or back."""
    half = 1 << (bits - 1)
    step = high - state[HIGH]
    if state[HIGH] >= 0:
        if step < -half:
            state[LAP] += range_us
        elif step > half and state[LAP] >= range_us:
            state[LAP] -= range_us
    state[HIGH] = high


@kernel
def _place(state: NDArray[np.int64], t: Any, range_us: int) -> None:
    """Fix the lap: the first event, at `t` of the words' clock, lies at ``EARLIEST`` or as soon after as it can."""
    state[LAP] = max(0, -((t - state[EARLIEST]) // range_us)) * range_us
    state[PLACED] = 1


@kernel
def evt2_kernel(words: NDArray[np.uint32], out: Events, state: NDArray[np.int64]) -> int:
    """`decode_evt2`, for kernels."""
    n, i, capacity = 0, 0, out.shape[0]
    base = state[LAP] + (state[HIGH] << 6)
    while i < words.shape[0] and n < capacity:
        word = np.int64(words[i])
        kind = word >> 28
        if kind <= 1:
            if state[PLACED] == 0:
                if state[HIGH] < 0:
                    state[UNPLACED] += 1
                    i += 1
                    continue
                _place(state, state[HIGH] << 6 | (word >> 22 & 63), EVT2_RANGE_US)
                base = state[LAP] + (state[HIGH] << 6)
            event = out[n]
            event.t = base + (word >> 22 & 63)
            event.x = word >> 11 & 2047
            event.y = word & 2047
            event.on = kind
            n += 1
        elif kind == 8:
            _turn(state, word & 0xFFFFFFF, 28, EVT2_RANGE_US)
            base = state[LAP] + (state[HIGH] << 6)
        else:
            state[OTHER] += 1
        i += 1
    state[CONSUMED] = i
    return n


@kernel
def evt3_kernel(words: NDArray[np.uint16], out: Events, state: NDArray[np.int64]) -> int:
    """`decode_evt3`, for kernels."""
    n, i, capacity = 0, 0, out.shape[0]
    low, y, base_x, on = state[LOW], state[Y], state[BASE_X], state[BASE_ON]
    base = state[LAP] + (state[HIGH] << 12)
    placed = state[PLACED] != 0
    while i < words.shape[0] and n < capacity:
        word = np.int64(words[i])
        kind = word >> 12
        if not placed and (kind == 2 or kind == 4 or kind == 5):
            if state[HIGH] < 0 or low < 0 or y < 0:
                state[UNPLACED] += 1
                i += 1
                continue
            _place(state, state[HIGH] << 12 | low, EVT3_RANGE_US)
            base = state[LAP] + (state[HIGH] << 12)
            placed = True
        if kind == 4 or kind == 5:
            bits = word & (0xFFF if kind == 4 else 0xFF)
            if base_x < 0 or base_x > MAX_COORDINATE:  # past the widest sensor: damaged words
                state[UNPLACED] += 1
            else:
                if capacity - n < 12 and capacity - n < _ones(bits):
                    break
                x = base_x
                while bits != 0:
                    if bits & 1:
                        event = out[n]
                        event.t, event.x, event.y, event.on = base + low, x, y, on
                        n += 1
                    bits >>= 1
                    x += 1
                base_x += 12 if kind == 4 else 8
        elif kind == 8:
            high = word & 0xFFF
            if high != state[HIGH]:
                if state[HIGH] >= 0:
                    low = 0  # the old low bits would put what comes before the next TIME_LOW up to 4 ms ahead
                _turn(state, high, 12, EVT3_RANGE_US)
                base = state[LAP] + (high << 12)
        elif kind > 6 or kind == 1:
            state[OTHER] += 1
        else:  # masks, not branches: which of these words comes next cannot be predicted (a quarter faster)
            low ^= (low ^ (word & 0xFFF)) & -np.int64(kind == 6)
            y ^= (y ^ (word & 2047)) & -np.int64(kind == 0)
            is_base = -np.int64(kind == 3)
            base_x ^= (base_x ^ (word & 2047)) & is_base
            on ^= (on ^ (word >> 11 & 1)) & is_base
            event = out[n]
            event.t, event.x, event.y, event.on = base + low, word & 2047, y, word >> 11 & 1
            n += 1 if kind == 2 else 0
        i += 1
    state[LOW], state[Y], state[BASE_X], state[BASE_ON], state[CONSUMED] = low, y, base_x, on, i
    return n


@kernel
def _ones(bits: Any) -> int:
    bits -= bits >> 1 & 0x555  # sums of 2, of 4, of 12 bits: no branch for the processor to guess wrong
    bits = (bits & 0x333) + (bits >> 2 & 0x333)
    return (bits & 15) + (bits >> 4 & 15) + (bits >> 8)


@kernel
def _count_evt3(words: NDArray[np.uint16]) -> int:
    count = 0
    for k in range(words.shape[0]):
        word = np.int64(words[k])
        kind = word >> 12
        mask = 0xFFF if kind == 4 else 0xFF if kind == 5 else 0
        count += _ones(word & mask) + (1 if kind == 2 else 0)
    return count


def _read_only(words: NDArray[Any], dtype: type) -> NDArray[Any]:
    """One array type for every caller, so that each kernel is compiled once."""
    view = np.require(words, dtype, ("C", "A")).view()
    view.flags.writeable = False
    return view


def decode_evt2(words: NDArray[np.uint32], out: Events, state: NDArray[np.int64]) -> int:
    """Decode EVT2 words into `out` until words or room end; the number of events written.

    Parameters
    ----------
    words : ``[n]``, from anywhere in a stream; ``words[state[CONSUMED]:]`` were not taken, for want of room.
    out : ``[capacity]``.
    state : of `new_state` or an earlier call; changed in place.
    """
    return int(evt2_kernel(_read_only(words, np.uint32), out, state))


def decode_evt3(words: NDArray[np.uint16], out: Events, state: NDArray[np.int64]) -> int:
    """Decode EVT3 words into `out` (at least 12 long) until words or room end; see `decode_evt2`."""
    return int(evt3_kernel(_read_only(words, np.uint16), out, state))


def count_evt2(words: NDArray[np.uint32]) -> int:
    """Events in EVT2 words: what `decode_evt2` gives once the words before said when (else fewer)."""
    return int(np.count_nonzero(np.asarray(words, np.uint32) < 2 << 28))


def count_evt3(words: NDArray[np.uint16]) -> int:
    """Events in EVT3 words: what `decode_evt3` gives once the words before said when and where (else fewer)."""
    return int(_count_evt3(_read_only(words, np.uint16)))


def payload_words(codec: int, payload: bytes | memoryview) -> NDArray[Any]:
    """Words of a self-contained payload of the wire, which say when and where before the first event.

    Raises
    ------
    ValueError : one line; the length or the leading state words are wrong.
    """
    size = 4 if codec == CODEC_EVT2 else 2
    n_bytes = memoryview(payload).nbytes
    if n_bytes % size:
        raise ValueError(f"payload of {n_bytes} bytes is not a multiple of {size}-byte words")
    words = _read_only(np.frombuffer(payload, f"<u{size}"), np.uint32 if size == 4 else np.uint16)
    if codec == CODEC_EVT2 and words[0] >> 28 != 8:
        raise ValueError("evt2 payload does not begin with TIME_HIGH")
    if codec == CODEC_EVT3 and sorted(word >> 12 for word in words[:4].tolist()) != [0, 3, 6, 8]:
        raise ValueError("evt3 payload does not begin with TIME_HIGH, TIME_LOW, ADDR_Y, VECT_BASE_X")
    return words
