"""A million messages that are wrong, in every way, between those of a good stream: does the daemon hold, and count?

    python benchmarks/faults/hostile.py [--messages 1000000] [--every 500] [--seed 0] [--json FILE]

Three senders' worth of harm on the ingest socket: messages for the good stream itself that are surely malformed (bad
magic, kind, codec, sizes, counts, checksums, geometry, time, frames); good messages of another stream, mutated in any
byte, of which some still pass; and frames of noise. After each `--every` of them one message of the good stream. Held
against it:

- the process that answered first is alive, and answers;
- every message is counted: accepted and rejected add up to what was sent;
- the good stream's predictions are those of a daemon that got the good stream alone, to the last digit.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import zmq
from common import Frames, Live, endless, looks, process_figures, report

from spiked.service.progress import Progress

PASSING = ("latency_us",)
"""Keys of a prediction that tell of this run's clock alone."""


def put(at: int, form: str, value: int) -> Callable[[bytes], bytes]:
    """A header with another value in one field."""
    n = struct.calcsize(form)
    return lambda header: header[:at] + struct.pack(form, value) + header[at + n :]


HEADERS = (
    put(0, "<I", 0x314B5053 ^ 1), put(4, "<B", 0), put(4, "<B", 9), put(5, "<B", 0), put(5, "<B", 77),
    put(6, "<H", 0), put(6, "<H", 65535), put(48, "<H", 35), put(50, "<H", 0), put(52, "<H", 7),
    put(54, "<H", 0xFFFF), put(56, "<I", 0xFFFFFFFF), put(56, "<I", 1), put(60, "<I", 0),
    put(40, "<I", 0xFFFFFFFF), put(16, "<Q", 1 << 63), put(24, "<Q", 0xFFFFFFFFFFFFFFFF),
)  # fmt: skip
"""What makes a header of the good stream surely wrong."""


def malformed(good: Frames, rng: random.Random) -> Frames:
    """A message for the good stream that no reading of the contract accepts."""
    topic, header, payload = good
    way = rng.randrange(len(HEADERS) + 5)
    if way < len(HEADERS):
        return [topic, HEADERS[way](header), payload]
    cut = rng.randrange(64)
    return [
        [topic, header], [topic, header, payload, b"more"], [topic, header[:cut], payload],
        [topic, header, payload[:-1]], [topic[:-1], header, payload],
    ][way - len(HEADERS)]  # fmt: skip


def mutated(good: Frames, rng: random.Random) -> Frames:
    """A message with some of its bytes changed, cut, or doubled; for another stream than the one that is watched."""
    frames = [bytearray(frame) for frame in good]
    for _ in range(rng.randrange(1, 6)):
        frame = frames[rng.choice((1, 1, 2))]
        if frame:
            at, what = rng.randrange(len(frame)), rng.randrange(4)
            if what < 2:
                frame[at] = rng.randrange(256)
            elif what == 2:
                del frame[at : at + rng.randrange(1, 9)]
            else:
                frame[at:at] = frame[at : at + rng.randrange(1, 9)]
    return [bytes(frame) for frame in frames]


def noise(rng: random.Random) -> Frames:
    """Frames of chance, some under a known topic."""
    frames = [rng.randbytes(rng.choice((0, 1, 5, 64, 200))) for _ in range(rng.randrange(1, 6))]
    if rng.random() < 0.5:
        frames[0] = b"cam1/"
    return frames


def hostile(samples: list[Any], seed: int) -> Iterator[Frames]:
    """Messages without end that are wrong, or may be."""
    rng = random.Random(seed)
    mine = [m for m in islice(endless(samples, 7), 200) if m[1][4] == 1 and m[2]]
    other = list(islice(endless(samples, 8, "cam1", crc=False), 200))  # so that some pass
    while True:
        way = rng.random()
        if way < 0.9:
            yield malformed(rng.choice(mine), rng) if way < 0.4 else mutated(rng.choice(other), rng)
        else:
            yield noise(rng)


def text(names: list[str]) -> str:
    """Two streams, one of them watched."""
    streams = "".join(f'[[stream]]\nid = "cam{k}"\nwidth = 34\nheight = 34\n' for k in range(2))
    return f"[network]\nlayers = [{{ neurons = 64 }}]\nclasses = {json.dumps(names)}\n{streams}"


def serve(folder: Path, samples: list[Any], n_good: int, every: int, seed: int) -> tuple[list[Any], dict[str, Any]]:
    """Send the good stream, with `every` hostile messages before each of its own; its predictions, and figures."""
    names = sorted({name for name, *_ in samples})
    with Live(folder, text(names)) as live:
        pid = live.process.pid if live.process else 0
        before = process_figures(pid)
        said: list[dict[str, Any]] = []
        subscriber, push, wrong = live.subscribe("cam0/"), live.push(), hostile(samples, seed)
        push.setsockopt(zmq.SNDHWM, 1000)
        sent, began = 0, time.monotonic()
        with Progress("hostile" if every else "alone", n_good * max(1, every), "messages") as progress:
            for good in islice(endless(samples), n_good):
                for frames in islice(wrong, every):
                    push.send_multipart(frames)
                push.send_multipart(good)
                sent += every + 1
                progress.advance(max(1, every))
                while subscriber.poll(0):
                    said.append(json.loads(subscriber.recv_multipart()[1]))
        last = live.wait_seq(n_good - 1)
        while subscriber.poll(500):
            said.append(json.loads(subscriber.recv_multipart()[1]))
        metrics = live.metrics()
        taken = sum(v for k, v in metrics.items() if k.startswith("spiked_messages_total"))
        refused = {k: v for k, v in metrics.items() if k.startswith("spiked_messages_rejected_total") and v}
        assert live.process is not None and live.process.poll() is None and live.process.pid == pid
        assert taken + sum(refused.values()) == sent, f"{taken:.0f} + {sum(refused.values()):.0f} of {sent} are counted"
        assert last["lost"] == 0, "no good message was lost"
        internal = sum(v for k, v in refused.items() if 'reason="internal"' in k)
        assert not internal, f"{internal} faults of the daemon: {live.log()[-3000:]}"
        figures = {
            "sent": sent, "accepted": int(taken), "rejected": int(sum(refused.values())), "reasons": len(refused),
            "seconds": time.monotonic() - began, "crc": last["weights_crc"],
            "resident_mb_before": before["resident_mb"], "resident_mb": process_figures(pid)["resident_mb"],
        }  # fmt: skip
    return [{k: v for k, v in p.items() if k not in PASSING} for p in said], figures


def run(folder: Path, messages: int, every: int, seed: int = 0) -> dict[str, Any]:
    """The good stream among hostile messages, and alone; raises AssertionError where something differs."""
    samples, n_good = looks(20), max(1, messages // every)
    among, figures = serve(folder / "among", samples, n_good, every, seed)
    alone, clean = serve(folder / "alone", samples, n_good, 0, seed)
    assert alone == among, "the good stream's predictions differ"
    assert clean["crc"] == figures["crc"], "what was learnt differs"
    return {**figures, "good": n_good, "predictions": len(among), "equal": True}


def main() -> None:
    """Send, print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), args.messages, args.every, args.seed)
    report(figures, args)


if __name__ == "__main__":
    main()
