"""The compiled path of `binner`: one look at the order of a message's events, one pass over them.

Events that wait come first, then the message's own, straight from its payload; only what the watermark has not passed
is copied. Where events are out of order, or late, they are all put into the waiting room and sorted there: the same
pass follows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.io.channel_set import add_channel, take_channels
from spiked.learners.jit import inlined, kernel

HOT_WINDOW_US = 1_000_000.0  # memory of the hot-pixel rate estimate
LATE, REFRACTORY, HOT, CLAMPED = range(4)
BINARY, SUM, CLIP = range(3)


class Rules(NamedTuple):
    """What becomes of an event; the fields of `BinnerSpec`.

    Attributes
    ----------
    column, row : int32[sensor width], int32[sensor height]; a pixel's channel is the sum of both.
    plane : channels between the polarities; 0 where they share theirs.
    dt_us, count_mode, threshold, clip_at, refractory_us, clamp : numbers.
    hot_pixel_hz : float.
    """

    column: NDArray[np.int32]
    row: NDArray[np.int32]
    plane: int
    dt_us: int
    count_mode: int
    threshold: int
    clip_at: int
    refractory_us: int
    clamp: bool
    hot_pixel_hz: float


class Memory(NamedTuple):
    """What filters remember of each pixel, and what is counted within a step.

    Attributes
    ----------
    seen_us, rate_us : int64[pixels], or [1] where no filter asks.
    rate : float64[pixels], or [1].
    tally : int64[channels], zero between steps; [0] where it is enough to know which channels are active.
    dropped : int64[4]; events by `LATE`, `REFRACTORY`, `HOT`, `CLAMPED`.
    """

    seen_us: NDArray[np.int64]
    rate: NDArray[np.float64]
    rate_us: NDArray[np.int64]
    tally: NDArray[np.int64]
    dropped: NDArray[np.int64]


class Emitted(NamedTuple):
    """Where steps go: `indptr` int64[steps + 1], `indices` int32[n], `counts` float32[n]; n: at least all events."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    counts: NDArray[np.float32]


@kernel
def _sort(events, n):  # type: ignore[no-untyped-def]
    """Sort the first `n` events by time, ties in order of arrival."""
    order = np.argsort(events.t[:n], kind="mergesort")
    copy = events[:n].copy()
    for k in range(n):
        events[k] = copy[order[k]]


@kernel
def _in_order(events, since):  # type: ignore[no-untyped-def]
    """Whether no event is earlier than the one before it, nor the first than `since`."""
    before = np.uint64(since)
    for k in range(len(events)):
        t = events[k].t
        if t < before:
            return False
        before = t
    return True


@inlined
def _passes(x, y, t, rules, memory):  # type: ignore[no-untyped-def]
    """Whether the filters let an event through; they see all events in time order."""
    pixel = np.int64(y) * len(rules.column) + np.int64(x)
    if rules.refractory_us > 0:
        if t - memory.seen_us[pixel] < rules.refractory_us:
            memory.dropped[REFRACTORY] += 1
            return False
        memory.seen_us[pixel] = t
    if rules.hot_pixel_hz > 0:
        r = memory.rate[pixel] * np.exp(-(t - memory.rate_us[pixel]) / HOT_WINDOW_US) + 1.0
        memory.rate[pixel], memory.rate_us[pixel] = r, t
        if r > rules.hot_pixel_hz * (HOT_WINDOW_US * 1e-6):
            memory.dropped[HOT] += 1
            return False
    return True


@inlined
def _emit(channels, rules, memory, counted, emitted, at):  # type: ignore[no-untyped-def]
    """Write a step's active channels from `at` on; returns the position after them."""
    end = take_channels(channels, emitted.indices, at)
    if not counted:
        for k in range(at, end):
            emitted.counts[k] = np.float32(1.0)
        return end
    active = at
    for k in range(at, end):
        channel = emitted.indices[k]
        c = memory.tally[channel]
        memory.tally[channel] = 0
        if c >= rules.threshold:
            emitted.indices[active] = channel
            if rules.count_mode == BINARY:
                c = 1
            elif rules.count_mode == CLIP:
                c = min(c, rules.clip_at)
            emitted.counts[active] = c
            active += 1
    return active


@kernel
def _take(events, n, step, nnz, place, rules, memory, channels, emitted):  # type: ignore[no-untyped-def]
    """Sort the first `n` events, which are in order, into steps; returns what it took, the open step, and entries.

    `place` is (first step of the call, step that cannot run yet).
    """
    first_step, end_step = place
    dt_us = np.uint64(rules.dt_us)
    limit_us = np.uint64(end_step) * dt_us
    end_us = np.uint64(step + 1) * dt_us
    counted = len(memory.tally) > 0
    filtered = rules.refractory_us > 0 or rules.hot_pixel_hz > 0
    column, row = rules.column, rules.row
    k = 0
    while k < n:
        e = events[k]
        t = e.t
        if t >= limit_us:
            break
        k += 1
        while t >= end_us:
            nnz = _emit(channels, rules, memory, counted, emitted, nnz)
            emitted.indptr[step - first_step + 1] = nnz
            step += 1
            end_us += dt_us
        if filtered and not _passes(e.x, e.y, np.int64(t), rules, memory):
            continue
        channel = np.int64(column[e.x]) + np.int64(row[e.y]) + np.int64(e.on) * rules.plane
        add_channel(channels, channel)
        if counted:
            memory.tally[channel] += 1
    return k, step, nnz


@kernel
def bin_events(bundle, n_waiting, events, first_step, end_step, indptr, indices, counts):  # type: ignore[no-untyped-def]
    """Emit the steps of `place` from the events that wait and from `events`; returns how many wait then.

    Parameters
    ----------
    bundle : of the events that wait, in order of time, with space for all of `events` behind them; of the rules, the
        memory and the channels.
    n_waiting : how many wait.
    events : of a message, read only, in any order.
    first_step, end_step : the first step of the call, and the one that cannot run yet.
    indptr, indices, counts : where steps go (`Emitted`).
    """
    room, rules, memory, channels = bundle.parts
    place, emitted = (first_step, end_step), Emitted(indptr, indices, counts)
    begin_us = np.uint64(first_step) * np.uint64(rules.dt_us)
    n = len(events)
    if not _in_order(events, room[n_waiting - 1].t if n_waiting > 0 else begin_us):
        for k in range(n):
            if events[k].t < begin_us and not rules.clamp:
                memory.dropped[LATE] += 1
                continue
            room[n_waiting] = events[k]
            if events[k].t < begin_us:
                room[n_waiting].t = begin_us
                memory.dropped[CLAMPED] += 1
            n_waiting += 1
        _sort(room, n_waiting)
        n = 0
    step, nnz = first_step, 0
    emitted.indptr[0] = 0
    taken, step, nnz = _take(room, n_waiting, step, nnz, place, rules, memory, channels, emitted)
    for k in range(taken, n_waiting):
        room[k - taken] = room[k]
    n_waiting -= taken
    taken = 0
    if n > 0 and n_waiting == 0:  # else all of `events` come after what still waits
        taken, step, nnz = _take(events, n, step, nnz, place, rules, memory, channels, emitted)
    for k in range(taken, n):
        room[n_waiting] = events[k]
        n_waiting += 1
    counted = len(memory.tally) > 0
    while step < end_step:
        nnz = _emit(channels, rules, memory, counted, emitted, nnz)
        emitted.indptr[step - first_step + 1] = nnz
        step += 1
    return n_waiting
