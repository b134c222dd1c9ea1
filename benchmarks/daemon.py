"""The real daemon: how soon it answers, how much it takes, how fast it starts.

    python benchmarks/daemon.py [--only latency w1 w2 nmnist burst streams split start] [--seconds 5] [--quick]
                                [--json FILE]

========== ============================================================================================================
latency    messages of 1 ms with 50 events each, a thousand a second, learning on: message in to prediction out
floor      the same messages, and in the daemon's place ten lines that answer each at once: what ZeroMQ and this machine
           take without us
w1, w2     2312-512-8, 50 active channels a step; inference, and exact learning at every step: microseconds a step
nmnist     W5: 200 samples of N-MNIST, learning on, as fast as it takes them: times real time
burst      W6: a real recording of 1280 x 720 pixels, 24.9 Mev/s, looped, learning on: times real time
streams    W7: 32 streams of 346 x 260 pixels at 1 Mev/s each, learning on: times real time
split      the same streams, half of them in each of two daemons
start      from the command to ready, with an empty and a full cache of kernels; resident memory then and at the end
========== ============================================================================================================

All but latency, floor, split and start are run in this process as well, without sockets: the same messages, bytes in
and predictions as bytes out. The sender is this process, so on a machine of two cores it takes one of them. Times are
of the clock: other load shows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zmq

from spiked.io.events import Geometry, make_events
from spiked.io.recordings import open_recording
from spiked.io.sender import Sender
from spiked.io.wire import EventCodec
from spiked.service.configfile import parse_config
from spiked.service.pipeline import Pipeline
from spiked.service.progress import Progress
from spiked.service.warmup import warm_up

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from live import Live, free_ports  # noqa: E402 -- the daemon as the tests start it

DATA = Path(os.environ.get("SPIKED_DATA") or ROOT.parent / "shared" / "data")
Frames = list[bytes]
CLASSES = [f"{k}" for k in range(8)]


def stream(name: str, width: int, height: int, neurons: int, downsample: int = 1, threshold: float = 1.0) -> str:
    """A stream of a configuration file, and a network of its own."""
    return f"""
[[stream]]
id = "{name}"
width = {width}
height = {height}
downsample = {downsample}
[stream.network]
layers = [{{ neurons = {neurons}, threshold = {threshold} }}]
trace_ms = [30.0, 100.0]
classes = {json.dumps(CLASSES)}
"""


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    fields = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return next(int(f[1]) * 1024e-6 for f in fields if f and f[0] == "VmRSS:")


class Talk:
    """Sockets to a daemon that is ready, with somebody listening."""

    def __init__(self, live: Live | Echo) -> None:
        self.live, self.context = live, zmq.Context()
        self.push, self.sub = self.context.socket(zmq.PUSH), self.context.socket(zmq.SUB)
        self.push.setsockopt(zmq.SNDHWM, 100)
        self.push.connect(live.ingest)
        self.sub.setsockopt(zmq.RCVHWM, 0)
        self.sub.setsockopt(zmq.SUBSCRIBE, b"")
        self.sub.connect(live.predictions)
        while not live.ask(do="status")["subscribers"]:
            time.sleep(0.01)

    def finals(self, n: int) -> None:
        """Wait for `n` final predictions."""
        while n:
            if not self.sub.poll(60_000):
                raise SystemExit("the daemon says nothing")
            n -= bool(json.loads(self.sub.recv_multipart()[1]).get("final", False))

    def close(self) -> None:
        """Let go of the sockets."""
        self.context.destroy(0)


ECHO = """
import json, struct, sys, zmq
context = zmq.Context()
pull, pub = context.socket(zmq.PULL), context.socket(zmq.XPUB)
pull.bind(sys.argv[1]), pub.bind(sys.argv[2])
pub.recv()
print("ready", flush=True)
while True:
    topic, header, payload = pull.recv_multipart()
    if header[4] == 1:
        pub.send_multipart([topic, json.dumps({"t_us": struct.unpack_from("<Q", header, 24)[0]}).encode()])
"""


class Echo:
    """Ten lines in the daemon's place; as much of `Live` as `latency` asks for."""

    def __init__(self) -> None:
        self.ingest, self.predictions = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
        command = [sys.executable, "-c", ECHO, self.ingest, self.predictions]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def ask(self, **_: Any) -> dict[str, Any]:
        """Wait until somebody listens."""
        assert self.process.stdout is not None and self.process.stdout.readline() == b"ready\n"
        return {"subscribers": 1}


def floor(seconds: float) -> dict[str, Any]:
    """Microseconds from a message to its echo."""
    echo = Echo()
    try:
        return latency(echo, seconds)
    finally:
        echo.process.kill()
        echo.process.wait()


def latency(live: Live | Echo, seconds: float) -> dict[str, Any]:
    """Microseconds from a message to its prediction."""
    talk, sender, rng = Talk(live), Sender("cam0", Geometry(34, 34), crc=False), np.random.default_rng(0)
    n, every = int(seconds * 1000), 300
    took, sent = [], {}
    began = time.monotonic() + 0.05
    for k in range(n):
        t = np.sort(rng.integers(k * 1000, k * 1000 + 1000, 50))
        frames = sender.events(make_events(t, *rng.integers(0, 34, (2, 50)), rng.integers(0, 2, 50)), (k + 1) * 1000)
        if k % every == 0:
            talk.push.send_multipart(sender.target(k // every % 8, k * 1000, (k + every) * 1000))
        while (wait := began + k * 1e-3 - time.monotonic()) > 0:
            while talk.sub.poll(min(int(wait * 1000), 1)):
                said = json.loads(talk.sub.recv_multipart()[1])
                took.append((time.monotonic() - sent[said["t_us"]]) * 1e6)
        sent[(k + 1) * 1000] = time.monotonic()
        talk.push.send_multipart(frames)
        if talk.sub.poll(1):  # its answer, most of the time within the same millisecond
            said = json.loads(talk.sub.recv_multipart()[1])
            took.append((time.monotonic() - sent[said["t_us"]]) * 1e6)
    talk.close()
    counted = np.sort(took[n // 5 :])  # after a warm-up
    return {
        "messages": n, "answers": len(took), "median_us": float(np.median(counted)),
        "p99_us": float(counted[int(0.99 * len(counted))]), "most_us": float(counted[-1]),
    }  # fmt: skip


class Feed(NamedTuple):
    """Messages of each stream, and what they hold."""

    streams: list[list[Frames]]
    stream_s: float
    events: int


def pumped(lives: list[Live], feed: Feed) -> dict[str, Any]:
    """Send messages as fast as they are taken, streams in turn; until the last stream's end of sample is answered.

    Of several daemons each has its share of the streams, in turn.
    """
    feeds, stream_s, events = feed
    talks = [Talk(live) for live in lives]
    began = time.monotonic()
    for turn in zip(*feeds):
        for k, frames in enumerate(turn):
            talks[k % len(talks)].push.send_multipart(frames)
    for talk in talks:
        talk.finals(len(feeds) // len(talks) * sum(is_reset(frames) for frames in feeds[0]))
    took = time.monotonic() - began
    for talk in talks:
        talk.close()
    told = [pair for live in lives for pair in live.metrics().items()]
    refused = sum(v for k, v in told if k.startswith(("spiked_messages_rejected", "spiked_events_dropped")))
    return {
        "events": events, "seconds": took, "mev_s": events / took / 1e6, "times_real_time": stream_s / took,
        "refused_or_dropped": refused,
    }  # fmt: skip


def inside(text: str, feed: Feed) -> dict[str, Any]:
    """The same messages in this process, without sockets: bytes in, predictions as bytes out."""
    config = parse_config(tomllib.loads(text))
    warm_up(config)
    pipeline = Pipeline(config)
    began = time.monotonic()
    for turn in zip(*feed.streams):
        for frames in turn:
            for prediction in pipeline.handle(frames):
                prediction.to_json(0.0)
    took = time.monotonic() - began
    return {
        "in_process_mev_s": feed.events / took / 1e6, "in_process_times_real_time": feed.stream_s / took,
        "in_process_us_a_step": 1e6 * took / (1000 * feed.stream_s * len(feed.streams)),
    }  # fmt: skip


def is_reset(frames: Frames) -> bool:
    """Whether a message ends a sample; each end is answered by one final prediction."""
    return frames[1][4] == 3


def nmnist(seconds: float) -> Feed:
    """W5."""
    from spiked.io.datasets import open_dataset

    dataset, sender, feed, t0, events = (
        open_dataset(DATA / "nmnist8" / "nmnist8.npz"), Sender("cam0", Geometry(34, 34), crc=False), [], 0, 0,
    )  # fmt: skip
    for k in np.random.default_rng(0).permutation(len(dataset.labels))[: int(40 * seconds)].tolist():
        sample = dataset.sample(k)
        moved = sample.events.copy()
        moved["t"] += np.uint64(t0)
        end = t0 + sample.duration_us
        feed += [sender.target(int(sample.label), t0, end), sender.events(moved, end), sender.reset(end)]
        t0, events = end, events + len(moved)
    return Feed([feed], t0 * 1e-6, events)


def burst(seconds: float) -> Feed:
    """W6: in messages of 1 ms, EVT3 as the sensor sends it."""
    events = np.concatenate(list(open_recording(DATA / "files" / "evt3_sample.raw").packets()))
    events["t"] -= events["t"].min()
    length_us = -(-int(events["t"].max() + 1) // 1000) * 1000
    cuts = np.searchsorted(events["t"], np.arange(0, length_us + 1, 1000, dtype=np.uint64))
    sender, feed, t0, n = Sender("cam0", Geometry(1280, 720), crc=False), [], 0, 0
    loops = max(1, int(seconds * 1e6 / length_us))
    feed.append(sender.target(0, 0, loops * length_us))
    for _ in range(loops):
        for k, (a, b) in enumerate(pairwise(cuts)):
            part = events[a:b].copy()
            part["t"] += np.uint64(t0)
            feed.append(sender.events(part, t0 + (k + 1) * 1000, EventCodec.EVT3))
            n += len(part)
        t0 += length_us
    feed.append(sender.reset(t0))
    return Feed([feed], t0 * 1e-6, n)


def streams(seconds: float) -> Feed:
    """W7: in messages of 5 ms, a thousand events a millisecond."""
    rng, feeds, n_ms, n = np.random.default_rng(0), [], max(5, int(seconds * 100)), 0
    for k in range(32):
        sender = Sender(f"cam{k}", Geometry(346, 260), crc=False)
        feed = [sender.target(k % 8, 0, n_ms // 5 * 5000)]
        for t0 in range(0, n_ms // 5 * 5000, 5000):
            t = np.sort(rng.integers(t0, t0 + 5000, 5000))
            xy = rng.integers(0, 346, 5000), rng.integers(0, 260, 5000)
            feed.append(sender.events(make_events(t, *xy, rng.integers(0, 2, 5000)), t0 + 5000, EventCodec.REL8))
            n += 5000
        feeds.append([*feed, sender.reset(n_ms // 5 * 5000)])
    return Feed(feeds, n_ms // 5 * 5e-3, n)


def fifty(seconds: float) -> Feed:
    """W1 and W2: 50 of 2,312 channels a step, in messages of 10 ms; some four neurons fire, as in `speed.py`."""
    rng, sender, feed = np.random.default_rng(0), Sender("cam0", Geometry(34, 34), crc=False), []
    n_ms = int(seconds * 2000) // 10 * 10
    feed.append(sender.target(0, 0, n_ms * 1000))
    for t0 in range(0, n_ms, 10):
        channels = np.concatenate([rng.choice(2312, 50, replace=False) for _ in range(10)])
        on, pixel = channels // 1156, channels % 1156
        events = make_events(np.repeat(np.arange(t0, t0 + 10) * 1000, 50), pixel % 34, pixel // 34, on)
        feed.append(sender.events(events, (t0 + 10) * 1000))
    return Feed([[*feed, sender.reset(n_ms * 1000)]], n_ms * 1e-3, 50 * n_ms)


STEPWISE = """head = "gradient"
[stream.learning]
update = "step"
optimizer = "sgd"
enabled = {}
"""
WORKLOADS: dict[str, tuple[Callable[[float], Feed], str]] = {
    "w1": (fifty, stream("cam0", 34, 34, 512, threshold=4.0) + STEPWISE.format("false")),
    "w2": (fifty, stream("cam0", 34, 34, 512, threshold=4.0) + STEPWISE.format("true")),
    "nmnist": (nmnist, stream("cam0", 34, 34, 512)),
    "burst": (burst, stream("cam0", 1280, 720, 256, 20)),
    "streams": (streams, "".join(stream(f"cam{k}", 346, 260, 128, 8) for k in range(32))),
}
LATENCY = "[predictions]\nevery_ms = 1\n" + stream("cam0", 34, 34, 512)


def split(seconds: float) -> dict[str, Any]:
    """W7 in two daemons."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        lives = []
        for half in (0, 1):
            text = "".join(stream(f"cam{k}", 346, 260, 128, 8) for k in range(half, 32, 2))
            lives.append(Live(Path(folder) / f"{half}", text))
            stack.callback(lives[-1].stop)
            lives[-1].start()
        figures = pumped(lives, streams(seconds))
        pids = [live.process.pid for live in lives if live.process is not None]
        return {**figures, "resident_mb": sum(map(resident_mb, pids))}


def run(name: str, seconds: float) -> dict[str, Any]:
    """One workload on a daemon of its own, its kernels compiled before; and, as messages, in this process."""
    work, text = WORKLOADS.get(name, (None, LATENCY))
    with tempfile.TemporaryDirectory() as folder:
        live = Live(Path(folder), text).start()
        try:
            assert live.process is not None
            if work is None:
                return {**latency(live, seconds), "resident_mb": resident_mb(live.process.pid)}
            feed = work(seconds)
            figures = pumped([live], feed)
            figures["us_a_step"] = 1e6 * figures["seconds"] / (1000 * feed.stream_s * len(feed.streams))
            figures["resident_mb"] = resident_mb(live.process.pid)
        finally:
            live.stop()
    return figures | inside(text, feed)


def start(_seconds: float) -> dict[str, Any]:
    """Seconds from the command to ready: first with nothing compiled, then five times with everything."""
    took, memory = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for k in range(6):
            live = Live(Path(folder) / f"{k}", WORKLOADS["nmnist"][1], env={"SPIKED_CACHE_DIR": f"{folder}/cache"})
            began = time.monotonic()
            live.start()
            took.append(time.monotonic() - began)
            assert live.process is not None
            memory = resident_mb(live.process.pid)
            live.stop()
    return {"cold_s": took[0], "warm_s": statistics.median(took[1:]), "warm_range_s": [min(took[1:]), max(took[1:])],
            "resident_mb": memory}  # fmt: skip


def main() -> int:
    """Measure, print, write the file."""
    own = {"floor": floor, "split": split, "start": start}
    names = ["latency", *WORKLOADS, *own]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a workload, about")
    parser.add_argument("--quick", action="store_true", help="half a second of each")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = {}
    with Progress("daemon", len(args.only), "workloads") as progress:
        for name in args.only:
            seconds = 0.5 if args.quick else args.seconds
            results[name] = own[name](seconds) if name in own else run(name, seconds)
            progress.advance(note=name)
    print("| workload | figure | measured |\n|---|---|---|")
    for name, figures in results.items():
        for key, value in figures.items():
            print(f"| {name} | {key} | {f'{value:.2f}' if isinstance(value, float) else value} |")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
