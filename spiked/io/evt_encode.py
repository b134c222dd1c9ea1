"""Encoders of Prophesee's words: self-contained payloads for the wire, EVT2 and EVT3 (with vectors where they pay)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.io.events import Events
from spiked.learners.jit import kernel

EVT2_RANGE_US = 1 << 34
EVT3_RANGE_US = 1 << 24
"""The words' clocks start again after so many us (4.8 h and 16.8 s)."""
MAX_COORDINATE = 2047


def _check_encodable(events: Events, range_us: int) -> None:
    if events.shape[0] == 0:
        return
    for name in ("x", "y"):
        if int(events[name].max()) > MAX_COORDINATE:
            raise ValueError(f"{name} {events[name].max()} does not fit the 11 bits of evt words, 0..{MAX_COORDINATE}")
    steps = np.diff(events["t"].astype(np.int64))
    if steps.shape[0] and int(np.abs(steps).max()) >= range_us // 4:
        raise ValueError(
            f"events {int(np.abs(steps).max())} us apart: evt words tell times less than {range_us // 4} us apart, "
            "send them in two payloads"
        )


def encode_evt2(events: Events) -> bytes:
    """Encode events, in their order, as a self-contained EVT2 payload (empty for no events).

    Raises
    ------
    ValueError : a coordinate above 2047; neighbours a quarter of the clock (1.2 h) or more apart.
    """
    _check_encodable(events, EVT2_RANGE_US)
    t = events["t"]
    high = t >> np.uint64(6) & np.uint64(0xFFFFFFF)
    fresh = np.ones(events.shape[0], bool)
    fresh[1:] = high[1:] != high[:-1]
    at = np.arange(events.shape[0]) + np.cumsum(fresh)
    words = np.empty(events.shape[0] + int(fresh.sum()), "<u4")
    words[at[fresh] - 1] = 8 << 28 | high[fresh].astype(np.uint32)
    x, y, on = (events[name].astype(np.uint32) for name in ("x", "y", "on"))
    words[at] = (on != 0).astype(np.uint32) << 28 | (t & np.uint64(63)).astype(np.uint32) << 22 | x << 11 | y
    return words.tobytes()


@kernel
def _encode_evt3(events: Events, words: NDArray[np.uint16]) -> int:
    first = events[0]
    on = 1 if first.on else 0
    high, low, y = (first.t >> 12) & 0xFFF, first.t & 0xFFF, np.int64(first.y)
    words[0], words[1], words[2], words[3] = 8 << 12 | high, 6 << 12 | low, y, 3 << 12 | on << 11 | first.x
    n, i, base_x, base_on = 4, 0, np.int64(first.x), on
    while i < events.shape[0]:
        event = events[i]
        x, on = np.int64(event.x), 1 if event.on else 0
        if (event.t >> 12) & 0xFFF != high:
            high, low = (event.t >> 12) & 0xFFF, event.t & 0xFFF
            words[n], words[n + 1] = 8 << 12 | high, 6 << 12 | low
            n += 2
        if event.t & 0xFFF != low:
            low = event.t & 0xFFF
            words[n] = 6 << 12 | low
            n += 1
        if event.y != y:
            y = np.int64(event.y)
            words[n] = y
            n += 1
        bits, end = np.int64(0), i
        while end < events.shape[0]:
            other = events[end]
            dx = np.int64(other.x) - x
            if dx < 0 or dx > 11 or bits >> dx != 0 or other.t != event.t or other.y != event.y:
                break
            if (1 if other.on else 0) != on:
                break
            bits |= 1 << dx
            end += 1
        moved = base_x != x or base_on != on
        if end - i > (2 if moved else 1):  # a vector pays
            if moved:
                words[n] = 3 << 12 | on << 11 | x
                n += 1
            words[n] = 4 << 12 | bits
            base_x, base_on, i = x + 12, on, end
        else:
            words[n] = 2 << 12 | on << 11 | x
            i += 1
        n += 1
    return n


def encode_evt3(events: Events) -> bytes:
    """Encode events, in their order, as a self-contained EVT3 payload, vectors where they pay (empty for no events).

    Raises
    ------
    ValueError : a coordinate above 2047; neighbours a quarter of the clock (4.2 s) or more apart.
    """
    _check_encodable(events, EVT3_RANGE_US)
    if events.shape[0] == 0:
        return b""
    words = np.empty(4 + 4 * events.shape[0], "<u2")
    return words[: _encode_evt3(np.ascontiguousarray(events), words)].tobytes()
