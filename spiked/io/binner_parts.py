"""What the kernels of `binner_kernels` are handed: rules and memory, and where events lie and steps go."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.io.events import EVENT_DTYPE, Events
from spiked.io.evt import new_state

LATE, REFRACTORY, HOT, CLAMPED = range(4)
BINARY, SUM, CLIP = range(3)
BLOCK = 512
"""Events that are unpacked at once: 7 KB."""


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
    """Where steps go: `indptr` int64[steps + 1], `indices` int32[n], `counts` float32[n], with room for all."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    counts: NDArray[np.float32]


class Space(NamedTuple):
    """Where events lie, each array beside a read-only view of it: one type for all that is binned.

    Attributes
    ----------
    room, room_seen : events that wait, in order of time.
    stash, stash_seen : a message unpacked in whole, behind what waits, and as much again to sort it.
    block, block_seen : a few events, just unpacked.
    clock : int64[evt.STATE_SIZE].
    """

    room: Events
    room_seen: Events
    stash: Events
    stash_seen: Events
    block: Events
    block_seen: Events
    clock: NDArray[np.int64]


def make_space(room: int, stash: int) -> Space:
    """Room for so many events that wait, and so many in the stash."""
    arrays = [np.zeros(n, EVENT_DTYPE) for n in (room, stash, BLOCK)]
    seen = [array.view() for array in arrays]
    for view in seen:
        view.flags.writeable = False
    return Space(arrays[0], seen[0], arrays[1], seen[1], arrays[2], seen[2], new_state())


def make_emitted(steps: int, events: int) -> Emitted:
    """Room for so many steps with so many events."""
    return Emitted(np.empty(steps + 1, np.int64), np.empty(events, np.int32), np.empty(events, np.float32))


class Place(NamedTuple):
    """Of a call.

    Attributes
    ----------
    first, stop : the step that runs first, and the one that it stops before.
    end : the one that cannot run yet; what lies before it does not wait for the watermark.
    most_waiting : events that may wait for it.
    """

    first: int
    stop: int
    end: int
    most_waiting: int


class Stand(NamedTuple):
    """How far a pass has come.

    Attributes
    ----------
    before : time of the event before.
    step, entries : the open step, and entries of those that are emitted.
    waiting : events in the room; where it is full, those that should be.
    left : of these, events that the watermark has not passed.
    """

    before: np.uint64
    step: int
    entries: int
    waiting: int
    left: int


class Bounds(NamedTuple):
    """No event lies after `latest`, us, or beyond `width` and `height`."""

    latest: np.uint64
    width: int
    height: int
