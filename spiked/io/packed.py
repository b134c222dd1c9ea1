"""Events as a message brings them, still packed; compiled code takes them out a block at a time, and checks them.

Each codec has one form here and one decoder. `unpack` writes a whole payload out; the binner unpacks what it bins
itself, in its one pass (`binner_kernels`).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import as_dtype
from numpy.typing import NDArray

from spiked.io import evt
from spiked.io.events import EVENT_DTYPE, Events, Geometry
from spiked.learners.jit import inlined, kernel

TXYP13, REL8, EVT2, EVT3 = 1, 2, 3, 4
REL8_DTYPE = np.dtype([("dt", "<u4"), ("x", "<u2"), ("y", "<u2")])
ITEM_BYTES = {TXYP13: EVENT_DTYPE.itemsize, REL8: REL8_DTYPE.itemsize}
"""Bytes of an event, in the codecs that give all events as many."""
MANY = 1 << 20
"""A count above this is checked before memory is taken for so many events: it is the sender's word only."""
SPARE = 12
"""Events that one word of a camera may hold: without room for them it is not unpacked."""
_NOTHING = np.zeros(0, np.uint8)
_NOTHING.flags.writeable = False


class PackedError(ValueError):
    """Events that cannot be used.

    Attributes
    ----------
    reason : one of the wire's: ``size``, ``count``, ``range``.
    """

    def __init__(self, reason: Literal["size", "count", "range"], detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Packed(NamedTuple):
    """A payload, and what holds for its events.

    Attributes
    ----------
    payload : uint8[bytes], read only, where it was received.
    codec, count : as the header says.
    t_first : us; what REL8's times count from.
    lap_us : the times of EVT2 and EVT3 are the smallest that do not lie before this.
    earliest_us, latest_us : no event lies before the one or after the other.
    width, height : no event lies beyond.
    """

    payload: NDArray[np.uint8]
    codec: int
    count: int  # type: ignore[assignment]
    t_first: int
    lap_us: int
    earliest_us: int
    latest_us: int
    width: int
    height: int


def packed_events(events: Events, sensor: Geometry) -> Packed:
    """Events of an array, at whatever times."""
    payload = np.ascontiguousarray(events).view(np.uint8)
    payload.flags.writeable = False
    return Packed(payload, TXYP13, len(events), 0, 0, 0, (1 << 63) - 1, sensor.width, sensor.height)


def as_bytes(payload: bytes | memoryview, codec: int) -> NDArray[np.uint8]:
    """A payload as one array type for the kernels, whoever sent it; copied only if camera words lie across.

    Raises
    ------
    PackedError
        If camera words are cut, or do not begin with those that say when and where.
    """
    if codec in ITEM_BYTES or not len(payload):
        array = np.frombuffer(payload, np.uint8) if len(payload) else _NOTHING
        if array.flags.writeable:
            array.flags.writeable = False
        return array
    try:
        return evt.payload_words(codec, payload).view(np.uint8)
    except ValueError as error:
        raise PackedError("size" if "multiple" in str(error) else "count", str(error)) from None


def _held(packed: Packed) -> int:
    """Events that a payload holds, by a count alone."""
    if packed.codec == EVT2:
        return evt.count_evt2(packed.payload.view(np.uint32))
    if packed.codec == EVT3:
        return evt.count_evt3(packed.payload.view(np.uint16))
    return len(packed.payload) // ITEM_BYTES[packed.codec]


def check_count(packed: Packed) -> None:
    """Raise PackedError where a payload holds another number of events than a header says that asks for much memory.

    With any other it shows when they are unpacked.
    """
    if packed.count > MANY and _held(packed) != packed.count:
        raise miscounted(packed, 0)


def miscounted(packed: Packed, n: int) -> PackedError:
    """What is wrong with a payload that gave `n` events."""
    held = _held(packed)
    said = f"payload holds {held}" if held != packed.count else f"payload gives {n}"
    return PackedError("count", f"{said} events, the header says {packed.count}")


def outside(packed: Packed, at: int, event: np.void) -> PackedError:
    """What is wrong with the event at position `at`."""
    t, x, y, on = event.tolist()
    where = f"{packed.width}x{packed.height} or outside {packed.earliest_us} .. {packed.latest_us} us"
    return PackedError("range", f"event {at} (t {t}, x {x}, y {y}, on {on}) outside {where}")


@intrinsic
def read_as(_typing_context: Any, payload: Any, dtype: Any) -> Any:
    """Read a payload, which outlives the kernel, as items of `dtype`; ``view`` takes ten times as long to compile."""
    items = types.Array(dtype.dtype, 1, "C", readonly=True)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = context.make_array(signature.args[0])(context, builder, args[0])
        made = context.make_array(items)(context, builder)
        size = context.get_constant(types.intp, as_dtype(dtype.dtype).itemsize)
        data = builder.bitcast(given.data, made.data.type)
        populate_array(made, data, [builder.udiv(given.nitems, size)], [size], size, meminfo=None)
        return made._getvalue()

    return items(payload, dtype), generate


@inlined
def is_outside(t, x, y, on, packed):  # type: ignore[no-untyped-def]
    """Whether an event lies beyond the sensor or the message's time."""
    late = t < np.uint64(packed.earliest_us) or t > np.uint64(packed.latest_us)
    return x >= packed.width or y >= packed.height or on > 1 or late


@inlined
def begin_clock(clock, packed):  # type: ignore[no-untyped-def]
    """What `evt.new_state` does, in place."""
    for k in range(len(clock)):
        clock[k] = -1 if k <= evt.BASE_X else 0
    clock[evt.EARLIEST] = packed.lap_us


@kernel
def unpack_some(packed, at, clock, out):  # type: ignore[no-untyped-def]
    """Write the next events out, as many as have room (at least `SPARE`).

    Parameters
    ----------
    packed : all of them.
    at : where they begin: events before it, or words of a camera.
    clock : int64[evt.STATE_SIZE]; of `begin_clock` at the first.
    out : events.

    Returns
    -------
    How many were written, and where the next begin.
    """
    payload, n = packed.payload, 0
    if packed.codec == EVT3:
        n = evt.evt3_kernel(read_as(payload, np.uint16)[at:], out, clock)
        return n, at + clock[evt.CONSUMED]
    if packed.codec == EVT2:
        n = evt.evt2_kernel(read_as(payload, np.uint32)[at:], out, clock)
        return n, at + clock[evt.CONSUMED]
    if packed.codec == REL8:
        short, t_first = read_as(payload, REL8_DTYPE), np.uint64(packed.t_first)
        n = min(len(out), len(short) - at)
        for k in range(n):
            e, p = out[k], short[at + k]
            e.t, e.x, e.y, e.on = t_first + np.uint64(p.dt), p.x, p.y & np.uint16(0x7FFF), p.y >> np.uint16(15)
        return n, at + n
    full = read_as(payload, EVENT_DTYPE)
    n = min(len(out), len(full) - at)
    for k in range(n):
        out[k] = full[at + k]
    return n, at + n


@kernel
def unpack_all(packed, clock, out):  # type: ignore[no-untyped-def]
    """Write all events out.

    Parameters
    ----------
    packed : all of them.
    clock : int64[evt.STATE_SIZE]; its contents are lost.
    out : events; `SPARE` more than the header says, for a payload that holds more to show.

    Returns
    -------
    How many there were, and the position of the first that lies outside, or -1.
    """
    begin_clock(clock, packed)
    n, _ = unpack_some(packed, 0, clock, out)
    for k in range(n):
        e = out[k]
        if is_outside(e.t, e.x, e.y, e.on, packed):
            return n, k
    return n, -1


def unpack(packed: Packed) -> Events:
    """Write all events out, checked.

    Returns
    -------
    Events, read only, in the order of the payload.

    Raises
    ------
    PackedError
        ``count`` if there are not as many as the header says; ``range`` if one lies outside.
    """
    check_count(packed)
    events = np.empty(packed.count + SPARE, EVENT_DTYPE)
    n, bad = unpack_all(packed, evt.new_state(), events)
    if n != packed.count:
        raise miscounted(packed, n)
    if bad >= 0:
        raise outside(packed, bad, events[bad])
    events = events[:n]
    events.flags.writeable = False
    return events
