"""The wire, version 1: three frames (topic, header, payload), little-endian. DESIGN section 2 is the contract.

`parse` checks everything that can be checked without decoding; the binner unpacks and checks what `packed_events` gives
(or `decode_events` does, into an array). All raise `WireError` with a reason of the closed set `REASONS`, and never
anything else, whatever the bytes. `sender` makes messages.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from spiked.io import evt
from spiked.io.events import Events, Geometry
from spiked.io.packed import ITEM_BYTES, Packed, PackedError, as_bytes, unpack

MAGIC = b"SPK1"
HEADER = struct.Struct("<4sBBHQQQQIIHHHHII")
FLAG_CRC = 1
MAX_AHEAD_US = 10_000_000
"""An event may lie past its message's watermark by so much; more is a broken clock."""
MAX_NAME_BYTES = 64
TOPIC = re.compile(rb"([A-Za-z0-9._-]{1,64})/")
UNKNOWN = "unknown"

REASONS = (
    "frames", "topic", "unknown_stream", "magic", "kind", "codec", "flags", "size", "count", "geometry", "crc", "range",
    "time", "target", "epoch", "seq", "unauthorised", "internal",
)  # fmt: skip
"""Why a message can be refused; the label set of ``spiked_messages_rejected_total``."""


class Kind(IntEnum):
    """What a message is."""

    EVENTS = 1
    TARGET = 2
    RESET = 3


class EventCodec(IntEnum):
    """How the payload of an events message is laid out."""

    TXYP13 = 1
    REL8 = 2
    EVT2 = 3
    EVT3 = 4


class TargetCodec(IntEnum):
    """How the payload of a target message is laid out."""

    CLASS = 1
    VECTOR = 2
    REWARD = 3
    NAME = 4


_KINDS = {kind.value: kind for kind in Kind}
_CODECS = {Kind.EVENTS: (1, 2, 3, 4), Kind.TARGET: (1, 2, 3, 4), Kind.RESET: (0,)}


class WireError(ValueError):
    """A message that cannot be used.

    Attributes
    ----------
    reason : one of `REASONS`.
    stream : id of the stream that it was for, `UNKNOWN` where that cannot be told.
    """

    def __init__(self, reason: str, detail: str, stream: str = UNKNOWN) -> None:
        super().__init__(detail)
        self.reason = reason
        self.stream = stream


class Header(NamedTuple):
    """The 64 bytes of frame two."""

    magic: bytes
    kind: int
    codec: int
    header_size: int
    seq: int
    t_first: int
    t_last: int
    sent: int
    count: int  # type: ignore[assignment]
    epoch: int
    width: int
    height: int
    planes: int
    flags: int
    payload_bytes: int
    crc: int


class Message(NamedTuple):
    """A checked message: `payload` is still as it came."""

    stream: str
    kind: Kind
    header: Header
    payload: memoryview


Target = int | float | str | np.ndarray
"""What a target message says: a class number, a reward, a class name, or a vector float32[n_out]."""


def parse(frames: Sequence[bytes | memoryview], streams: Mapping[str, Geometry]) -> Message:
    """Check a message's frames and header.

    Parameters
    ----------
    frames : the frames of one multipart message.
    streams : geometry of each stream that may be spoken to.

    Raises
    ------
    WireError
        If anything is not as the contract says.
    """
    if len(frames) != 3:
        raise WireError("frames", f"{len(frames)} frames; a message has 3: topic, header, payload")
    stream = _stream_of(bytes(frames[0][:66]), streams)
    raw, payload = memoryview(frames[1]), memoryview(frames[2])
    if len(raw) < HEADER.size:
        raise WireError("size", f"header of {len(raw)} bytes; at least {HEADER.size}", stream)
    head = Header._make(HEADER.unpack_from(raw))
    if head.magic != MAGIC:
        raise WireError("magic", f"magic {head.magic!r}; {MAGIC!r}", stream)
    if head.header_size != len(raw):
        raise WireError("size", f"header_size {head.header_size}, but the frame has {len(raw)} bytes", stream)
    kind = _KINDS.get(head.kind)
    if kind is None:
        raise WireError("kind", f"kind {head.kind}; 1 events, 2 target, 3 reset", stream)
    codecs = _CODECS[kind]
    if head.codec not in codecs:
        raise WireError("codec", f"codec {head.codec} of {kind.name.lower()}; {codecs[0]}-{codecs[-1]}", stream)
    if head.flags & ~FLAG_CRC:
        raise WireError("flags", f"flags {head.flags:#x}; version 1 knows bit 0 (crc is set)", stream)
    geometry = streams[stream]
    if (head.width, head.height, head.planes) != (geometry.width, geometry.height, geometry.planes):
        said = Geometry(head.width, head.height, head.planes)
        raise WireError("geometry", f"geometry {said}; stream {stream!r} has {geometry}", stream)
    if head.payload_bytes != len(payload):
        raise WireError("size", f"payload_bytes {head.payload_bytes}, but the frame has {len(payload)} bytes", stream)
    _check_count(head, kind, stream)
    if head.flags & FLAG_CRC and zlib.crc32(payload) != head.crc:
        raise WireError("crc", f"crc {head.crc:#010x}; the payload's is {zlib.crc32(payload):#010x}", stream)
    if kind is Kind.EVENTS and head.t_last < head.t_first:
        raise WireError("time", f"t_last {head.t_last} before t_first {head.t_first}", stream)
    if kind is Kind.TARGET and 0 < head.t_last <= head.t_first:
        raise WireError("time", f"target until {head.t_last}, from {head.t_first}; t_last is later, or 0", stream)
    if max(head.t_first, head.t_last) >= 1 << 62:
        raise WireError("time", f"time {max(head.t_first, head.t_last)} us; below 2^62", stream)
    return Message(stream, kind, head, payload)


def _stream_of(topic: bytes, streams: Mapping[str, Geometry]) -> str:
    """The stream that a topic names."""
    match = TOPIC.fullmatch(topic)
    if match is None:
        raise WireError("topic", f"topic {topic!r}; 1-64 characters of [A-Za-z0-9._-] and a slash")
    stream = match[1].decode()
    if stream not in streams:
        raise WireError("unknown_stream", f"stream {stream!r} is not configured; streams: {', '.join(streams)}")
    return stream


def _check_count(head: Header, kind: Kind, stream: str) -> None:
    if kind is Kind.RESET:
        if head.payload_bytes:
            raise WireError("size", f"a reset with a payload of {head.payload_bytes} bytes; it has none", stream)
        if head.count:
            raise WireError("count", f"a reset with count {head.count}; 0", stream)
    elif kind is Kind.TARGET:
        if head.count != 1:
            raise WireError("count", f"a target with count {head.count}; 1", stream)
    else:
        size = ITEM_BYTES.get(head.codec)
        if size is not None and head.payload_bytes % size:
            raise WireError("size", f"payload of {head.payload_bytes} bytes is not a multiple of {size}", stream)
        if size is not None and head.payload_bytes != head.count * size:
            raise WireError("count", f"count {head.count}, but the payload holds {head.payload_bytes // size}", stream)


def packed_events(message: Message, jitter_us: int = 0) -> Packed:
    """The payload of an events message, for the binner; of its events nothing has been checked.

    `jitter_us` is how far an event may lie before `t_first`.

    Raises
    ------
    WireError
        ``size`` or ``count`` if camera words are cut, or do not say when and where.
    """
    head = message.header
    begin, lap = head.t_first - jitter_us, head.t_first - max(jitter_us, evt.JITTER_US)
    try:
        payload = as_bytes(message.payload, head.codec)
    except PackedError as error:
        raise WireError(error.reason, str(error), message.stream) from None
    return Packed(
        payload, head.codec, head.count, head.t_first, lap if lap > 0 else 0, begin if begin > 0 else 0,
        head.t_last + MAX_AHEAD_US, head.width, head.height,
    )  # fmt: skip


def decode_events(message: Message, jitter_us: int = 0) -> Events:
    """Decode the payload of an events message into an array of its own.

    All-or-nothing: one event outside refuses the message.

    Raises
    ------
    WireError
        As `packed_events` does; ``count`` if the payload does not hold as many events as it says, ``range`` if an
        event lies outside the sensor or outside the message's time.
    """
    try:
        return unpack(packed_events(message, jitter_us))
    except PackedError as error:
        raise WireError(error.reason, str(error), message.stream) from None


def decode_target(message: Message) -> Target:
    """Decode the payload of a target message: class number, vector, reward or class name."""
    payload, stream = message.payload, message.stream
    codec = TargetCodec(message.header.codec)
    if codec is TargetCodec.NAME:
        if not 1 <= len(payload) <= MAX_NAME_BYTES:
            raise WireError("size", f"class name of {len(payload)} bytes; 1-{MAX_NAME_BYTES}", stream)
        try:
            name = bytes(payload).decode()
        except UnicodeDecodeError:
            raise WireError("target", f"class name {bytes(payload)!r} is not UTF-8", stream) from None
        if not name.isprintable():
            raise WireError("target", f"class name {name!r} has characters that cannot be printed", stream)
        return name
    if len(payload) % 4 or not len(payload) or (codec is not TargetCodec.VECTOR and len(payload) != 4):
        raise WireError("size", f"target of {len(payload)} bytes does not fit codec {codec.name.lower()}", stream)
    if codec is TargetCodec.CLASS:
        return int(struct.unpack("<i", payload)[0])
    vector = np.frombuffer(payload, "<f4")
    if not np.isfinite(vector).all():
        raise WireError("target", "target holds NaN or infinity", stream)
    return vector if codec is TargetCodec.VECTOR else float(vector[0])
