"""Making messages: the sending side of the wire, version 1 (`wire` is the receiving one)."""

from __future__ import annotations

import secrets
import struct
import time
import zlib

import numpy as np

from spiked.io import evt
from spiked.io.events import EVENT_DTYPE, Events, Geometry
from spiked.io.packed import REL8_DTYPE
from spiked.io.wire import FLAG_CRC, HEADER, MAGIC, EventCodec, Kind, Target, TargetCodec


def encode_events(events: Events, codec: EventCodec, t_first: int) -> bytes:
    """Lay events out as the payload of an events message."""
    if codec is EventCodec.TXYP13:
        return events.astype(EVENT_DTYPE, copy=False).tobytes()
    if codec is EventCodec.EVT2:
        return evt.encode_evt2(events)
    if codec is EventCodec.EVT3:
        return evt.encode_evt3(events)
    packed = np.empty(len(events), REL8_DTYPE)
    dt = events["t"] - np.uint64(t_first)
    if len(dt) and int(dt.max()) >> 32:
        raise ValueError("rel8 reaches 4294 s past t_first; an event lies later")
    packed["dt"], packed["x"] = dt, events["x"]
    packed["y"] = events["y"] | (events["on"].astype(np.uint16) << 15)
    return packed.tobytes()


class Sender:
    """Makes the messages of one stream: counts them, and draws an epoch when it is made.

    Parameters
    ----------
    stream : id of the stream.
    geometry : of the sensor.
    epoch : drawn at random if None.
    crc : whether messages carry a checksum; it costs both sides a pass over the payload.
    """

    def __init__(self, stream: str, geometry: Geometry, epoch: int | None = None, crc: bool = True) -> None:
        self.topic = f"{stream}/".encode()
        self.geometry = geometry
        self.epoch = secrets.randbits(32) if epoch is None else epoch
        self.seq = 0
        self.crc = crc

    def _message(self, kind: Kind, codec: int, t_first: int, t_last: int, payload: bytes, count: int) -> list[bytes]:
        g = self.geometry
        header = HEADER.pack(
            MAGIC, kind, codec, HEADER.size, self.seq, t_first, t_last, time.time_ns(), count, self.epoch, g.width,
            g.height, g.planes, FLAG_CRC if self.crc else 0, len(payload), zlib.crc32(payload) if self.crc else 0,
        )  # fmt: skip
        self.seq += 1
        return [self.topic, header, payload]

    def events(self, events: Events, t_last: int, codec: EventCodec = EventCodec.TXYP13) -> list[bytes]:
        """Events, and the promise that none before `t_last` (us) will follow. No events: a heartbeat."""
        t_first = min(int(events["t"].min()), t_last) if len(events) else t_last
        payload = encode_events(events, codec, t_first) if len(events) else b""
        return self._message(Kind.EVENTS, codec, t_first, t_last, payload, len(events))

    def target(self, target: Target, t_first: int, t_last: int = 0) -> list[bytes]:
        """What the stream shows from `t_first` until `t_last` (us; 0: until the next target)."""
        if isinstance(target, str):
            codec, payload = TargetCodec.NAME, target.encode()
        elif isinstance(target, (int, np.integer)):
            codec, payload = TargetCodec.CLASS, struct.pack("<i", target)
        elif isinstance(target, float):
            codec, payload = TargetCodec.REWARD, struct.pack("<f", target)
        else:
            codec, payload = TargetCodec.VECTOR, np.asarray(target, "<f4").tobytes()
        return self._message(Kind.TARGET, codec, t_first, t_last, payload, 1)

    def reset(self, t_us: int) -> list[bytes]:
        """End of a sample: dynamics return to rest, weights stay."""
        return self._message(Kind.RESET, 0, t_us, t_us, b"", 0)
