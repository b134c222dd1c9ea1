"""Coverage-guided fuzzing of the wire: whatever the bytes, a message is taken or refused for a stated reason.

    python fuzz/wire.py [-max_total_time=60] [FOLDER ...]      libFuzzer's options; needs `pip install atheris`

The input is one message: a byte that says how it is cut and mended, then header and payload. Without mending hardly
any input would pass the magic, the sizes and the checksum, so half of them are given the right ones. Seeds are good
messages of every kind and codec.
"""

from __future__ import annotations

import itertools
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from types import FunctionType

import atheris
import numpy as np

from spiked.io import packed, wire
from spiked.io.binner import Binner, BinnerSpec
from spiked.io.events import Geometry, make_events
from spiked.io.packed import PackedError
from spiked.io.sender import Sender
from spiked.io.wire import EventCodec, Kind, WireError

GEOMETRIES = {"cam0": Geometry(34, 34, 2), "ear": Geometry(64, 1, 1)}
DT_US = 1000
BINNERS = {name: Binner(BinnerSpec(geometry, DT_US)) for name, geometry in GEOMETRIES.items()}
TOPICS = (b"cam0/", b"ear/", b"cam1/", b"cam0", b"\xff/", b"")
MENDS, CUTS = 1, 2


plain = [f for module in (wire, packed) for f in vars(module).values() if isinstance(f, FunctionType)]
for function in [f for f in plain if f.__module__ in (wire.__name__, packed.__name__)]:
    atheris.instrument_func(function)  # not whole modules: Numba cannot compile what is instrumented


def message(data: bytes) -> list[bytes]:
    """Frames of an input."""
    how, rest = (data[0], data[1:]) if data else (0, b"")
    at = 64 if not how & CUTS else how >> 3
    header, payload = rest[:at], rest[at:]
    if how & MENDS and len(header) == 64:
        flags = header[54] & 1
        header = b"SPK1" + header[4:6] + struct.pack("<H", 64) + header[8:54] + struct.pack("<H", flags)
        header += struct.pack("<II", len(payload), zlib.crc32(payload) if flags else 0)
    return [TOPICS[(how >> 2) % len(TOPICS) if how & CUTS else (how >> 2) % 2], header, payload]


def one_input(data: bytes) -> None:
    """Read one message as the daemon does, into steps."""
    try:
        read = wire.parse(message(data), GEOMETRIES)
        if read.kind is Kind.EVENTS:
            binner = BINNERS[read.stream]
            binner.start(read.header.t_first)
            try:
                steps = binner.push(wire.packed_events(read, 100), read.header.t_last // DT_US, at_most=1000)
            except PackedError as error:
                assert error.reason in wire.REASONS
            else:
                taken = wire.decode_events(read, 100)  # the other way in takes it, too
                assert len(taken) <= max(8 * len(read.payload), 1), "more events than the words can hold"
                assert len(steps.indices) + binner.waiting <= len(taken)
        elif read.kind is Kind.TARGET:
            wire.decode_target(read)
    except WireError as error:
        assert error.reason in wire.REASONS


def seeds(folder: Path) -> None:
    """Good messages, as inputs that are mended and as inputs that are not."""
    sender, rng = Sender("cam0", GEOMETRIES["cam0"], 1), np.random.default_rng(0)
    made = [sender.reset(5), sender.target(1, 0, 9), sender.target("wave", 0), sender.target(0.5, 0)]
    made.append(sender.target(np.ones(3, np.float32), 0))
    for codec, n in itertools.product(EventCodec, (0, 1, 40)):
        t = np.sort(rng.integers(0, 20_000, n))
        made.append(sender.events(make_events(t, *rng.integers(0, 34, (2, n)), rng.integers(0, 2, n)), 20_000, codec))
    for k, ((_, header, payload), how) in enumerate(itertools.product(made, (0, MENDS))):
        (folder / f"{k}").write_bytes(bytes([how]) + header + payload)


def main() -> None:
    """Fuzz until the options say that it is enough."""
    with tempfile.TemporaryDirectory() as folder:
        seeds(Path(folder))
        atheris.Setup([*sys.argv, folder], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
