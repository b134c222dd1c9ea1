"""Slow, readable oracles of the file and wire codecs, in plain Python; nothing here comes from spiked's decoders.

An event is a tuple ``(t_us, x, y, on)``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from fractions import Fraction

Event = tuple[int, int, int, int]


class Clock:
    """A clock of so many us that starts again; the lap of the first event is the least that reaches `earliest`."""

    def __init__(self, range_us: int, earliest: int) -> None:
        self.range_us, self.earliest = range_us, earliest
        self.laps: int | None = None

    def turned(self, old: int, new: int, steps: int) -> None:
        if self.laps is not None:
            if old - new > steps // 2:
                self.laps += 1
            elif new - old > steps // 2 and self.laps > 0:
                self.laps -= 1

    def place(self, t: int) -> int:
        if self.laps is None:
            self.laps = max(0, math.ceil(Fraction(self.earliest - t, self.range_us)))
        return self.laps * self.range_us + t


def decode_evt2(words: Sequence[int], earliest: int = 0) -> list[Event]:
    events: list[Event] = []
    clock, high = Clock(1 << 34, earliest), None
    for word in words:
        kind = word >> 28
        if kind == 8:
            new = word & 0xFFFFFFF
            if high is not None:
                clock.turned(high, new, 1 << 28)
            high = new
        elif kind in (0, 1) and high is not None:
            t = clock.place(high * 64 + (word >> 22) % 64)
            events.append((t, (word >> 11) % 2048, word % 2048, kind))
    return events


def decode_evt3(words: Sequence[int], earliest: int = 0) -> list[Event]:
    events: list[Event] = []
    clock = Clock(1 << 24, earliest)
    high = low = y = base = None
    base_on = 0
    for word in words:
        kind, rest = word >> 12, word & 0xFFF
        if kind == 0x8:
            if high is not None and rest != high:
                clock.turned(high, rest, 1 << 12)
                low = 0
            high = rest
        elif kind == 0x6:
            low = rest
        elif kind == 0x0:
            y = rest % 2048
        elif kind == 0x3:
            base, base_on = rest % 2048, rest >> 11
        elif kind in (0x2, 0x4, 0x5):
            if high is None or low is None or y is None:
                continue
            t = clock.place(high * 4096 + low)
            if kind == 0x2:
                events.append((t, rest % 2048, y, rest >> 11))
            elif base is not None and base < 2048:
                length = 12 if kind == 0x4 else 8
                events += [(t, base + k, y, base_on) for k in range(length) if rest >> k & 1]
                base += length
    return events


def encode_evt2(events: Sequence[Event]) -> bytes:
    words, high = [], None
    for t, x, y, on in events:
        if (t >> 6) % (1 << 28) != high:
            high = (t >> 6) % (1 << 28)
            words.append(8 << 28 | high)
        words.append(on << 28 | t % 64 << 22 | x << 11 | y)
    return struct.pack(f"<{len(words)}I", *words)


def encode_evt3(events: Sequence[Event]) -> bytes:
    """Every event says all about itself: six words each, the last two a vector base and a vector of 8 with one bit."""
    words = []
    for t, x, y, on in events:
        words += [8 << 12 | (t >> 12) % 4096, 6 << 12 | t % 4096, y, 3 << 12 | on << 11 | x, 5 << 12 | 1]
    return struct.pack(f"<{len(words)}H", *words)


def encode_aedat3(events: Sequence[Event], per_packet: int = 10, source: str = "DVS128", number: int = 1) -> bytes:
    """Packets of at most `per_packet` events with one lap count, a packet of another type (special) before each."""
    data = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source %d: %s\r\n" % (number, source.encode())
    data += b"#Start-Time: 2020-01-01 00:00:00 (TZ+0000)\r\n#!END-HEADER\r\n"
    start = 0
    while start < len(events):
        lap = events[start][0] >> 31
        packet = []
        for event in events[start : start + per_packet]:
            if event[0] >> 31 != lap:
                break
            packet.append(event)
        start += len(packet)
        data += struct.pack("<hhiiiiii", 0, number, 8, 4, lap, 1, 1, 1) + struct.pack("<Ii", 1, 0)
        data += struct.pack("<hhiiiiii", 1, number, 8, 4, lap, len(packet) + 1, len(packet) + 1, len(packet))
        for t, x, y, on in packet:
            data += struct.pack("<Ii", x << 17 | y << 2 | on << 1 | 1, t & 0x7FFFFFFF)
        data += struct.pack("<Ii", 5 << 17 | 5 << 2, 0)  # not valid: to be skipped
    return data


def encode_dvs128(events: Sequence[Event], version: int = 2) -> bytes:
    """AEDAT 1.0 or 2.0; ON is a 0 in bit 0, x counts from the right."""
    data = b"#!AER-DAT%d.0\r\n# This is a raw AE data file - do not edit\r\n" % version
    layout = ">HI" if version == 1 else ">II"
    for t, x, y, on in events:
        data += struct.pack(layout, y << 8 | 127 - x << 1 | 1 - on, t % (1 << 32))
    return data


def encode_dat(events: Sequence[Event], header: bytes = b"% Version 2\n% Width 304\n% Height 240\n") -> bytes:
    data = b"% Data file containing CD events.\n" + header + b"\x0c\x08"
    for t, x, y, on in events:
        data += struct.pack("<II", t % (1 << 32), on << 28 | y << 14 | x)
    return data


def encode_nmnist(events: Sequence[Event]) -> bytes:
    data = b""
    for t, x, y, on in events:
        data += bytes([x, y, on << 7 | t >> 16, t >> 8 & 255, t & 255])
    return data


def encode_nas(events: Sequence[Event]) -> bytes:
    return b"".join(struct.pack(">II", 2 * x + on, t) for t, x, _, on in events)


def encode_es(events: Sequence[Event], width: int, height: int) -> bytes:
    """Times must not step back."""
    data = b"Event Stream" + bytes([2, 0, 0, 1]) + struct.pack("<HH", width, height)
    last = 0
    for t, x, y, on in events:
        step, last = t - last, t
        while step >= 127:
            data += b"\xff"
            step -= 127
        data += struct.pack("<BHH", step << 1 | on, x, height - 1 - y)
    return data


def encode_csv(events: Sequence[Event]) -> bytes:
    return b"t,x,y,on\n" + b"".join(b"%d,%d,%d,%d\n" % event for event in events)
