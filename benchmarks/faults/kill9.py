"""Kill the daemon over and over, at any moment: does it go on where it was, bit for bit, and what does a kill cost?

    python benchmarks/faults/kill9.py [--kills 500] [--every-s 0.3] [--head discriminant] [--seed 0] [--json FILE]

A sender that keeps what it has sent, as one does that must not lose anything, streams labelled samples; the daemon
learns and checkpoints every `--every-s` seconds. After a time drawn at random (0 to 4 intervals) it gets SIGKILL, each
tenth time twice, the second while it starts. It is started again, and asked where it stands. What is held against it:

- every start finds a checkpoint that verifies, and nothing was set aside as damaged;
- its knowledge (a digest of all that was learnt) equals that of a run without interruption at the same message;
- what is lost lies within one interval and the time that a checkpoint takes.

The uninterrupted run is made in this process, message by message, with the daemon's own pipeline.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import zmq
from common import Frames, Live, endless, learns, looks, report

from spiked.service.configfile import parse_config
from spiked.service.pipeline import Pipeline
from spiked.service.progress import Progress

TWICE = 10
"""Each so many times it is killed once more, within its start."""


class Straight:
    """The same stream without interruption: messages on demand, and what is known after each."""

    def __init__(self, names: list[str], samples: list[Any], head: str) -> None:
        network = {"layers": [{"neurons": 64}], "classes": names, "head": head}
        stream = {"id": "cam0", "width": 34, "height": 34}
        self._stream = (pipeline := Pipeline(parse_config({"network": network, "stream": [stream]}))).streams["cam0"]
        self._pipeline, self._source = pipeline, endless(samples)
        self.messages: list[Frames] = []
        self.digests: list[str] = []

    def message(self, k: int) -> Frames:
        """Message number `k`."""
        while len(self.messages) <= k:
            self.messages.append(next(self._source))
        return self.messages[k]

    def digest(self, n: int) -> str:
        """Digest of what is known after `n` messages."""
        while len(self.digests) < n:
            self._pipeline.handle(self.message(len(self.digests)))
            self.digests.append(self._stream.weight_digest())
        return self.digests[n - 1]


def text(names: list[str], head: str, every_s: float) -> str:
    """The daemon's configuration."""
    return f"""
[checkpoint]
every_s = {every_s}
{learns(names, head)}"""


def send_until(live: Live, straight: Straight, first: int, end: float, per_s: float) -> list[float]:
    """Send messages from number `first` on until the clock says `end`; returns when each was sent."""
    sent: list[float] = []
    push = live.push(zmq.PUSH)
    push.setsockopt(zmq.LINGER, 0)
    began = time.monotonic()
    while (now := time.monotonic()) < end:
        if len(sent) < (now - began) * per_s:
            try:
                push.send_multipart(straight.message(first + len(sent)), zmq.NOBLOCK)
                sent.append(now)
            except zmq.Again:
                pass
        time.sleep(0.001)
    push.close()
    return sent


def run(folder: Path, kills: int, every_s: float, head: str = "discriminant", seed: int = 0) -> dict[str, Any]:
    """Kill and start again `kills` times; raises AssertionError with what went wrong."""
    rng, samples = random.Random(seed), looks(60)
    names = sorted({name for name, *_ in samples})
    straight = Straight(names, samples, head)
    live = Live(folder, text(names, head, every_s))
    assert live.spawn()
    position, lost_s, lost, before_ready, resumed = 0, [], [], 0, 0
    try:
        with Progress("kill -9", kills, "kills") as progress:
            for k in range(kills):
                live.wait_ready()
                sent = send_until(live, straight, position, time.monotonic() + rng.uniform(0, 4 * every_s), 300.0)
                killed = time.monotonic()
                assert live.stop(signal.SIGKILL) == -signal.SIGKILL
                live.spawn()
                if k % TWICE == TWICE - 1:  # and again while it starts and loads
                    time.sleep(rng.uniform(0, 1.2))
                    before_ready += live.get("/readyz")[0] != 200
                    assert live.stop(signal.SIGKILL) == -signal.SIGKILL
                    live.spawn()
                live.wait_ready()
                status = live.status()
                now = int(status["next_seq"])
                assert position <= now <= position + len(sent), f"kill {k}: at {now}, was at {position}"
                if now:
                    resumed += 1
                    assert status["weights_crc"] == straight.digest(now), f"kill {k}: other weights at {now}"
                if now - position < len(sent):  # the first message that is missing was sent so long before the kill
                    lost_s.append(killed - sent[now - position])
                    lost.append(len(sent) - (now - position))
                position = now
                progress.advance(note=f"at message {now}")
        set_aside = sum("damaged" in p.name for p in (live.state_dir / "checkpoints").iterdir())
    finally:
        live.__exit__()
    return {
        "kills": kills, "before_ready": before_ready, "resumed": resumed, "messages": position, "interval_s": every_s,
        "most_lost_s": max(lost_s, default=0.0), "most_lost_messages": max(lost, default=0), "weights_equal": resumed,
        "set_aside": set_aside,
    }  # fmt: skip


def main() -> None:
    """Kill, print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--every-s", type=float, default=0.3)
    parser.add_argument("--head", default="discriminant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), args.kills, args.every_s, args.head, args.seed)
    report(figures, args)


if __name__ == "__main__":
    main()
