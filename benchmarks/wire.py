"""From the wire to steps: receive, check, decode and bin, in events per second of one core.

    python benchmarks/wire.py [--rounds 7] [--events 500 5000 50000] [--quick] [--json FILE]

``memory`` takes messages that lie in memory; its reference is a copy of the same bytes. ``socket`` takes them from
another process over tcp; its reference receives them and looks no further. Form and reference take turns, round by
round. Figures are of the time of the processor that this process spends, ZeroMQ's thread included; the ratio is how
much longer the whole takes than its reference. Events are random over 346 x 260 pixels, 1,000 in a step of 1 ms: few
share a channel, which is the hardest case for the binner. Messages carry no checksum.

``objects`` is by how many the garbage collector's count grows over a thousand messages: what they leave behind.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing as mp
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from spiked.io import wire
from spiked.io.binner import Binner, BinnerSpec
from spiked.io.events import Geometry, make_events
from spiked.io.sender import Sender
from spiked.io.source import Source
from spiked.io.wire import EventCodec
from spiked.service.progress import Progress

SENSOR = Geometry(346, 260, 2)
STEP_US, EVENTS_A_STEP, EVENTS_A_ROUND = 1000, 1000, 500_000
CODECS = tuple(EventCodec)
Frames = list[bytes]


def messages(codec: EventCodec, size: int, n: int) -> list[Frames]:
    """`n` messages of `size` events each, back to back."""
    rng, sender, out, t0 = np.random.default_rng(size), Sender("cam0", SENSOR, 1, crc=False), [], 0
    length_us = max(1, size * STEP_US // EVENTS_A_STEP)
    for _ in range(n):
        t = np.sort(rng.integers(t0, t0 + length_us, size))
        xy = rng.integers(0, SENSOR.width, size), rng.integers(0, SENSOR.height, size)
        t0 += length_us
        out.append(sender.events(make_events(t, *xy, rng.integers(0, 2, size)), t0, codec))
    return out


class Steps:
    """The whole way of a message up to the learner."""

    def __init__(self) -> None:
        self.binner, self.streams, self.active = Binner(BinnerSpec(SENSOR)), {"cam0": SENSOR}, 0

    def begin(self) -> None:
        """Stream time begins anew."""
        self.binner.start(0)

    def take(self, frames: Any) -> None:
        """A message into steps."""
        message = wire.parse(frames, self.streams)
        events = wire.packed_events(message)
        self.active += len(self.binner.push(events, message.header.t_last // STEP_US).indices)


class Memory:
    """Messages that lie in memory."""

    def __init__(self, codec: EventCodec, size: int) -> None:
        self.sent = messages(codec, size, max(1, EVENTS_A_ROUND // size))
        self.room = np.empty(max(len(frames[2]) for frames in self.sent), np.uint8)

    def go(self, take: Callable[[Any], None]) -> float:
        """All of them; seconds of the processor."""
        began = time.process_time()
        for frames in self.sent:
            take(frames)
        return time.process_time() - began

    def reference(self, frames: Frames) -> None:
        """Copy the payload."""
        self.room[: len(frames[2])] = np.frombuffer(frames[2], np.uint8)


def _send(endpoint: str, codec: EventCodec, size: int, rounds: int, turn: Any) -> None:
    """The other process: a round's messages whenever it is its turn."""
    sent = messages(codec, size, max(1, EVENTS_A_ROUND // size))
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        for _ in range(rounds):
            turn.acquire()
            for frames in sent:
                socket.send_multipart(frames)


class Socket:
    """Messages of another process."""

    def __init__(self, codec: EventCodec, size: int, rounds: int) -> None:
        self.n = max(1, EVENTS_A_ROUND // size)
        self.context = zmq.Context()
        self.source = Source(self.context, "tcp://127.0.0.1:*", "pull", ["cam0"], 1 << 26, 1000)
        endpoint = self.source.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        spawn = mp.get_context("spawn")
        self.turn = spawn.Semaphore(0)
        self.sender = spawn.Process(target=_send, args=(endpoint, codec, size, rounds, self.turn), daemon=True)
        self.sender.start()

    def go(self, take: Callable[[Any], None]) -> float:
        """All messages of a round; seconds of the processor."""
        self.turn.release()
        while not self.source.socket.poll(1000):
            assert self.sender.is_alive(), "the sender is gone"
        began = time.process_time()
        for _ in range(self.n):
            while (frames := self.source.receive()) is None:
                self.source.socket.poll(1000)
            take(frames)
        return time.process_time() - began

    def reference(self, frames: Frames) -> None:
        """Look no further."""

    def close(self) -> None:
        """The sender is done."""
        self.sender.join(10)
        self.source.close()
        self.context.term()


def measure(way: Memory | Socket, rounds: int) -> dict[str, Any]:
    """Events per second of the whole, and how much longer it takes than the reference."""
    steps, whole, least = Steps(), [], []
    for _ in range(rounds + 1):  # the first compiles, and does not count
        steps.begin()
        whole.append(way.go(steps.take))
        least.append(way.go(way.reference))
    events = EVENTS_A_ROUND
    ratios = [a / b for a, b in zip(whole[1:], least[1:])]
    return {
        "mev_s": events / statistics.median(whole[1:]) / 1e6,
        "mev_s_range": [events / max(whole[1:]) / 1e6, events / min(whole[1:]) / 1e6],
        "reference_mev_s": events / statistics.median(least[1:]) / 1e6,
        "ratio": statistics.median(ratios), "ratio_range": [min(ratios), max(ratios)],
    }  # fmt: skip


def left_behind() -> int:
    """By how many tracked objects a thousand messages more than a thousand raise the collector's count."""
    sent, steps = messages(EventCodec.TXYP13, 1000, 1000), Steps()
    steps.begin()
    steps.take(sent[0])
    gc.collect()
    gc.disable()
    try:
        before = gc.get_count()[0]
        for frames in sent[1:]:
            steps.take(frames)
        return gc.get_count()[0] - before
    finally:
        gc.enable()


def main() -> int:
    """Measure, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, nargs="+", default=[500, 5000, 50000], help="events in a message")
    parser.add_argument("--quick", action="store_true", help="one round of one size")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rounds, sizes = (1, [5000]) if args.quick else (args.rounds, args.events)
    rows = []
    with Progress("wire", 2 * len(CODECS) * len(sizes), "rows") as progress:
        for codec in CODECS:
            for size in sizes:
                rows.append({"from": "memory", "codec": codec.name.lower(), "events": size})
                rows[-1] |= measure(Memory(codec, size), rounds)
                progress.advance()
                socket = Socket(codec, size, 2 * (rounds + 1))
                rows.append({"from": "socket", "codec": codec.name.lower(), "events": size, **measure(socket, rounds)})
                socket.close()
                progress.advance()
    print("| from | codec | events a message | Mev/s of one core | reference, Mev/s | times the reference |")
    print("|---|---|---|---|---|---|")
    for r in rows:
        low, high = r["mev_s_range"]
        print(
            f"| {r['from']} | {r['codec']} | {r['events']} | {r['mev_s']:.0f} ({low:.0f}-{high:.0f}) | "
            f"{r['reference_mev_s']:.0f} | {r['ratio']:.1f} ({r['ratio_range'][0]:.1f}-{r['ratio_range'][1]:.1f}) |"
        )
    objects = left_behind()
    print(f"\nobjects left behind by 1,000 messages: {objects}")
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "objects_per_1000_messages": objects}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
