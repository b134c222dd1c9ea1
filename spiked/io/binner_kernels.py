"""The compiled path of `binner`: a message's events are unpacked, checked and binned in one pass over its payload.

A block of them at a time is unpacked where the processor has it at hand (events that are not packed are read where they
were received), looked at once, and put into its step. The pass has changed nothing that lasts until it is through, so
it gives up at the first event that is out of order, late or outside, and takes back what it has put into the open step.
Then, and where filters would remember what they see, all is unpacked and checked first, sorted, and binned after that.
"""

from __future__ import annotations

import numpy as np

from spiked.io.binner_parts import BINARY, CLAMPED, CLIP, HOT, LATE, REFRACTORY, Bounds, Place, Stand
from spiked.io.channel_set import add_channel, take_channels
from spiked.io.events import EVENT_DTYPE
from spiked.io.packed import SPARE, TXYP13, Packed, begin_clock, read_as, unpack_all, unpack_some
from spiked.learners.jit import inlined, kernel

HOT_WINDOW_US = 1_000_000.0  # memory of the hot-pixel rate estimate
BINNED, GIVEN_UP, OUTSIDE, MISCOUNTED, FULL, NO_ROOM, NO_STASH = range(7)
"""What became of a message; but for the first, nothing has changed. With each goes a number: of events that wait now;
none; the position of the event; how many the payload gave; how many would wait; for how many there should be room."""


@inlined
def _run_end(events, begin, n):  # type: ignore[no-untyped-def]
    """Where the run of events in order that begins at `begin` ends."""
    end = min(begin + 1, n)
    while end < n and events[end].t >= events[end - 1].t:
        end += 1
    return end


@kernel
def _sort(events, n, other):  # type: ignore[no-untyped-def]
    """Sort the first `n` events by time, ties in order of arrival; what `other`, as long, holds is lost.

    Runs that are in order are merged in pairs: events that come nearly so take a pass or two.
    """
    runs = 2
    while runs > 1:
        runs, begin = 0, 0
        while begin < n:
            middle = _run_end(events, begin, n)
            end = _run_end(events, middle, n)
            i, j = begin, middle
            for k in range(begin, end):
                if j >= end or (i < middle and events[i].t <= events[j].t):
                    other[k] = events[i]
                    i += 1
                else:
                    other[k] = events[j]
                    j += 1
            runs, begin = runs + 1, end
        for k in range(n):
            events[k] = other[k]


@kernel
def _before(events, n, t_us):  # type: ignore[no-untyped-def]
    """How many of the first `n` events, which are in order, lie before `t_us`."""
    low, high = 0, n
    while low < high:
        middle = (low + high) >> 1
        if events[middle].t < np.uint64(t_us):
            low = middle + 1
        else:
            high = middle
    return low


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


@inlined
def _of_room(rules):  # type: ignore[no-untyped-def]
    """Bounds of events that have been checked."""
    return Bounds(np.uint64(1) << np.uint64(63), len(rules.column), len(rules.row))


@kernel
def _bin(block, stand, bounds, place, room, rules, memory, channels, emitted):  # type: ignore[no-untyped-def]
    """Put a block of events into their steps, and those that the call does not run behind what waits.

    Returns
    -------
    Whether all events lie inside and none before the one before it, and where the pass stands then.
    """
    before, step, entries, waiting, left = stand
    latest, width, height = bounds
    dt_us = np.uint64(rules.dt_us)
    stop_us, limit_us = np.uint64(place.stop) * dt_us, np.uint64(place.end) * dt_us
    end_us = np.uint64(step + 1) * dt_us
    counted, filtered = len(memory.tally) > 0, rules.refractory_us > 0 or rules.hot_pixel_hz > 0
    column, row, plane = rules.column, rules.row, rules.plane
    edge_us, k, n = min(end_us, stop_us), 0, len(block)
    while k < n:
        good = True
        while k < n:  # events of the open step: all that is rare stands outside, for the processor's few registers
            e = block[k]
            t, x, y, on = e.t, e.x, e.y, e.on
            good = (t >= before) & (t <= latest) & (x < width) & (y < height) & (on <= 1)
            if not good or t >= edge_us:
                break
            before = t
            k += 1
            if filtered and not _passes(x, y, np.int64(t), rules, memory):
                continue
            channel = np.int64(column[x]) + np.int64(row[y]) + np.int64(on) * plane
            add_channel(channels, channel)
            if counted:
                memory.tally[channel] += 1
        if not good:
            return False, Stand(before, step, entries, waiting, left)
        if k == n:
            break
        t = block[k].t
        if t >= stop_us:
            if waiting < len(room):
                room[waiting] = block[k]
            waiting += 1
            left += t >= limit_us
            before = t
            k += 1
            continue
        while t >= end_us:
            entries = _emit(channels, rules, memory, counted, emitted, entries)
            emitted.indptr[step - place.first + 1] = entries
            step += 1
            end_us += dt_us
        edge_us = min(end_us, stop_us)
    return True, Stand(before, step, entries, waiting, left)


@inlined
def _finish(stand, place, rules, memory, channels, emitted):  # type: ignore[no-untyped-def]
    """Emit the open step, and those without events up to where the call stops."""
    entries = stand.entries
    for step in range(stand.step, place.stop):
        entries = _emit(channels, rules, memory, len(memory.tally) > 0, emitted, entries)
        emitted.indptr[step - place.first + 1] = entries


@kernel
def bin_straight(  # type: ignore[no-untyped-def]
    bundle,
    payload,
    codec,
    count,
    t_first,
    lap_us,
    earliest_us,
    latest_us,
    width,
    height,
    n_waiting,
    first,
    stop,
    end,
    most_waiting,
):
    """Unpack, check and bin in one pass.

    Parameters
    ----------
    bundle : of `Space`, `Rules` without filters, `Memory`, the channels, and of `Emitted`, with room for all steps and
        events.
    payload, codec, ..., height : `packed.Packed`; plain, since a call takes a tuple apart in thrice the time.
    n_waiting : how many events wait.
    first, stop, end, most_waiting : `Place`.

    Returns
    -------
    What became of the message, and a number (`BINNED` and the others). What it gives up is for `bin_by_stash`.
    """
    space, rules, memory, channels, emitted = bundle.parts
    packed = Packed(payload, codec, count, t_first, lap_us, earliest_us, latest_us, width, height)
    place = Place(first, stop, end, most_waiting)
    emitted.indptr[0] = 0
    room, dt_us = space.room, np.uint64(rules.dt_us)
    begin_us = np.uint64(place.first) * dt_us
    runs = _before(room, n_waiting, np.uint64(place.stop) * dt_us)
    left = n_waiting - _before(room, n_waiting, np.uint64(place.end) * dt_us)
    stand = Stand(begin_us, place.first, 0, n_waiting, left)
    bounds = Bounds(np.uint64(packed.latest_us), packed.width, packed.height)
    good, stand = _bin(space.room_seen[:runs], stand, _of_room(rules), place, room, rules, memory, channels, emitted)
    since = max(begin_us, np.uint64(packed.earliest_us))
    if n_waiting > 0:
        since = max(since, room[n_waiting - 1].t)
    stand = Stand(since, stand.step, stand.entries, stand.waiting, stand.left)
    n, at = 0, 0
    if packed.codec == TXYP13:
        full = read_as(packed.payload, EVENT_DTYPE)
        n = len(full)
        if n == packed.count:
            good, stand = _bin(full, stand, bounds, place, room, rules, memory, channels, emitted)
    else:
        begin_clock(space.clock, packed)
        while good:
            m, then = unpack_some(packed, at, space.clock, space.block)
            n += m
            if then == at or n > packed.count:
                break
            at = then
            good, stand = _bin(space.block_seen[:m], stand, bounds, place, room, rules, memory, channels, emitted)
    status, number = BINNED, stand.waiting - runs
    if not good or n != packed.count:
        status = GIVEN_UP
    elif stand.left > place.most_waiting:
        status, number = FULL, stand.left
    elif stand.waiting > len(room):
        status, number = NO_ROOM, stand.waiting
    if status != BINNED:
        _emit(channels, rules, memory, len(memory.tally) > 0, emitted, stand.entries)  # the open step is empty again
        return status, number
    _finish(stand, place, rules, memory, channels, emitted)
    if runs > 0:
        for k in range(number):
            room[k] = room[runs + k]
    return BINNED, number


@kernel
def bin_by_stash(  # type: ignore[no-untyped-def]
    bundle,
    payload,
    codec,
    count,
    t_first,
    lap_us,
    earliest_us,
    latest_us,
    width,
    height,
    n_waiting,
    first,
    stop,
    end,
    most_waiting,
):
    """Unpack and check all, sort it, and bin it: whatever the order and the filters; see `bin_straight`."""
    space, rules, memory, channels, emitted = bundle.parts
    packed = Packed(payload, codec, count, t_first, lap_us, earliest_us, latest_us, width, height)
    place = Place(first, stop, end, most_waiting)
    emitted.indptr[0] = 0
    room, stash, dt_us = space.room, space.stash, np.uint64(rules.dt_us)
    begin_us = np.uint64(place.first) * dt_us
    if 2 * (n_waiting + packed.count) + SPARE > len(stash):
        return NO_STASH, 2 * (n_waiting + packed.count) + SPARE
    n, bad = unpack_all(packed, space.clock, stash[n_waiting:])
    if n != packed.count:
        return MISCOUNTED, n
    if bad >= 0:
        return OUTSIDE, bad
    for k in range(n_waiting):
        stash[k] = room[k]
    late, end = 0, n_waiting
    for k in range(n_waiting, n_waiting + n):
        t = stash[k].t
        late += t < begin_us
        if t >= begin_us or rules.clamp:
            stash[end] = stash[k]
            stash[end].t = max(t, begin_us)
            end += 1
    if _run_end(stash, 0, end) < end:
        _sort(stash, end, stash[end:])
    left = end - _before(stash, end, np.uint64(place.end) * dt_us)
    stays = end - _before(stash, end, np.uint64(place.stop) * dt_us)
    if left > place.most_waiting:
        return FULL, left
    if stays > len(room):
        return NO_ROOM, stays
    memory.dropped[CLAMPED if rules.clamp else LATE] += late
    stand = Stand(begin_us, place.first, 0, 0, 0)
    _, stand = _bin(space.stash_seen[:end], stand, _of_room(rules), place, room, rules, memory, channels, emitted)
    _finish(stand, place, rules, memory, channels, emitted)
    return BINNED, stays
