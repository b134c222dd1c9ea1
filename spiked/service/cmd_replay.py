"""``spiked replay``: any recording as a live camera."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from spiked.service.cli_text import add_keys, example

if TYPE_CHECKING:
    import zmq

    from spiked.io.events import Events
    from spiked.service.client import Patience

EXAMPLES = """\
  spiked replay hand.aedat4 --to tcp://127.0.0.1:5570 --stream cam0 --speed 1 --label wave
  spiked replay *.bin --to tcp://127.0.0.1:5570 --stream cam0 --speed max"""

PACKET_US = 10_000
"""Events are sent in pieces of so much stream time."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``replay`` to the command line."""
    parser = commands.add_parser(
        "replay", help="any recording as a live camera",
        description="Send recordings to a daemon as a live camera would; a reset follows each.", **example(EXAMPLES),
    )  # fmt: skip
    parser.add_argument("files", nargs="+", metavar="FILE", help="recordings, one after the other")
    parser.add_argument("--to", required=True, metavar="ENDPOINT", help="ingest.endpoint of the daemon")
    parser.add_argument("--stream", required=True, metavar="ID", help="stream to send as")
    parser.add_argument("--speed", default="1", metavar="X|max", help="times real time, or as fast as it goes (1)")
    parser.add_argument("--label", help="class that the recordings show, by name")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, until Ctrl-C")
    add_keys(parser)
    parser.add_argument("--codec", choices=("txyp13", "rel8", "evt2", "evt3"), default="rel8", help="payload (rel8)")


def _speed(text: str) -> float:
    from spiked.service.cli_errors import UsageError

    if text == "max":
        return float("inf")
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise UsageError(f"--speed: {text!r}; a number above 0, or max")
    return speed


def slices(packets: Iterator[Events], length_us: int) -> Iterator[tuple[Events, int]]:
    """Cut packets at multiples of `length_us` since the first event; yields events and the time they end before.

    Events of a packet stay in their order; one that steps back stays in the slice that is open.
    """
    import numpy as np

    start, latest = None, 0
    held: list[Events] = []  # of the slice that is open: a packet may end within it
    held_number = 0
    for packet in packets:
        if not len(packet):
            continue
        t = np.maximum(np.maximum.accumulate(packet["t"].astype(np.int64)), latest)
        latest = int(t[-1])
        if start is None:
            start = int(t[0])
        number = (t - start) // length_us
        edges = np.flatnonzero(np.diff(number)) + 1
        for part, k in zip(np.split(packet, edges), number[np.concatenate([[0], edges])].tolist()):
            if held and k != held_number:
                yield np.concatenate(held), start + (held_number + 1) * length_us
                held = []
            held.append(part)
            held_number = k
    if held and start is not None:
        yield np.concatenate(held), start + (held_number + 1) * length_us


def run(args: argparse.Namespace) -> int:
    """Send until the files end."""
    import numpy as np
    import zmq

    from spiked.io.recordings import RecordingError, open_recording
    from spiked.io.sender import Sender
    from spiked.io.wire import MAX_NAME_BYTES, TOPIC, EventCodec
    from spiked.service.cli_errors import UsageError
    from spiked.service.client import Patience, connect
    from spiked.service.progress import Progress

    speed = _speed(args.speed)
    if TOPIC.fullmatch(f"{args.stream}/".encode()) is None:
        raise UsageError(f"--stream: {args.stream!r}; 1-64 characters of A-Z a-z 0-9 . _ -")
    if args.label is not None and not 1 <= len(args.label.encode(errors="replace")) <= MAX_NAME_BYTES:
        raise UsageError(f"--label: {args.label!r}; 1-{MAX_NAME_BYTES} bytes")
    try:
        recordings = [open_recording(f) for f in args.files]
    except (RecordingError, OSError) as error:
        raise UsageError(str(error)) from None
    geometry = recordings[0].geometry
    for r in recordings:
        if r.geometry != geometry:
            raise UsageError(
                f"{r.path}: {r.geometry}, but {recordings[0].path}: {geometry}; one stream has one geometry"
            )
    # IMMEDIATE: nothing is sent before somebody listens, so that nothing is lost with the socket
    socket = connect(zmq.PUSH, args.to, args.keys, {zmq.LINGER: 60_000, zmq.SNDHWM: 100, zmq.IMMEDIATE: 1})
    patience = Patience("replay", args.to, socket, args.keys)
    sender = Sender(args.stream, geometry)
    codec = EventCodec[args.codec.upper()]
    stream_us, began, sent = 0, time.monotonic(), 0
    try:
        while True:
            for name in args.files:
                recording = open_recording(name)
                with Progress(f"{Path(name).name}", unit="events") as progress:
                    if args.label:
                        send(socket, sender.target(args.label, stream_us), patience)
                    first_us, base_us, watermark = None, stream_us, stream_us
                    for part, end_us in slices(recording.packets(), PACKET_US):
                        if first_us is None:
                            first_us = end_us - PACKET_US
                        moved = part.copy()
                        # a sensor may step back behind its own first event
                        moved["t"] = (
                            np.maximum(moved["t"], np.uint64(first_us)) - np.uint64(first_us) + np.uint64(base_us)
                        )
                        wait = began + (base_us + end_us - first_us) * 1e-6 / speed - time.monotonic()
                        if wait > 0:
                            time.sleep(wait)
                        watermark = base_us + end_us - first_us
                        send(socket, sender.events(moved, watermark, codec), patience)
                        sent += len(part)
                        progress.advance(len(part))
                    send(socket, sender.reset(watermark), patience)
                    if args.label:
                        send(socket, sender.target(-1, watermark), patience)
                    stream_us = watermark
                for warning in recording.warnings:
                    print(f"spiked replay: {warning}", file=sys.stderr)
            if not args.loop:
                break
    except KeyboardInterrupt:
        if not args.loop:
            socket.close(0)
            raise
    seconds = time.monotonic() - began
    print(f"{sent} events, {stream_us / 1e6:.3f} s of stream time in {seconds:.3f} s")
    socket.close(1000 if args.loop else 60_000)
    return 0


def send(socket: zmq.Socket[bytes], frames: list[bytes], patience: Patience | None = None) -> None:
    """Send a message; wait in short turns while the daemon is busy or away, so that Ctrl-C is heard."""
    import zmq

    while True:
        try:
            socket.send_multipart(frames, zmq.NOBLOCK)
            if patience is not None:
                patience.done()
            return
        except zmq.Again:
            socket.poll(200, zmq.POLLOUT)
            if patience is not None:
                patience.tick()
