"""What hostile peers cost a daemon: memory, descriptors, and how late a good sender's predictions come meanwhile.

    python benchmarks/hostile.py [--seconds 5] [--only NAME ...] [--json FILE]

The daemon is a plain one with the limits that are the default; each attack comes from a process of its own, while a
good sender sends a message each 5 ms and a subscriber waits for its prediction. ``memory`` is by how much the daemon's
resident memory grew at most, ``files`` the most descriptors that it held, ``late`` the median and the longest time from
a message to its prediction, ``refused`` what was counted. On a machine of two cores the attacker takes one of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing as mp
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import zmq

from spiked.io.sender import Sender

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import attacks  # noqa: E402
from live import CAM0, CAM0_TEXT, Live  # noqa: E402

TEXT = "[predictions]\nevery_ms = 1\n" + CAM0_TEXT


def hold(endpoint: str, n: int, first: bytes, seconds: float) -> int:
    """Connections that come again where they are cut off."""
    end, came = time.monotonic() + seconds, 0
    held: list[Any] = []
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if len(held) < n:
                held.append(attacks.dial(endpoint, first))
                came += 1
                continue
        held = [s for s in held[-200:] if not attacks.ended(s)]
    return came


def loris(endpoint: str, n: int, seconds: float) -> int:
    """HTTP requests that never end."""
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError), attacks.crowd(endpoint, n, b"GET /metrics HTTP/1.1\r\n") as held:
        while time.monotonic() < end:
            for s in held:
                with contextlib.suppress(OSError):
                    s.sendall(b"X")
            time.sleep(0.5)
    return n


def many(endpoint: str, seconds: float) -> int:
    """Endless frames on eight connections at a time, again where they are cut off."""
    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(lambda _: attacks.endless_frames(endpoint, b"PUSH", 0, seconds), range(32)))


def big(endpoint: str, seconds: float) -> int:
    """Messages of 7 MB that are none, as fast as they are taken."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as s:
        s.setsockopt(zmq.LINGER, 0)
        s.setsockopt(zmq.SNDHWM, 4)
        s.connect(endpoint)
        end, n, payload = time.monotonic() + seconds, 0, bytes(7_000_000)
        while time.monotonic() < end:
            if s.poll(100, zmq.POLLOUT):
                s.send_multipart([b"cam0/", bytes(64), payload], zmq.NOBLOCK, copy=False)
                n += 1
        return n


ATTACKS: dict[str, Callable[[Live, float], Any]] = {
    "nothing": lambda live, s: (time.sleep, s),
    "messages of 7 MB, ingest": lambda live, s: (big, live.ingest, s),
    "endless small frames, ingest": lambda live, s: (attacks.endless_frames, live.ingest, b"PUSH", 0, s),
    "endless frames of 60 kB, ingest": lambda live, s: (attacks.endless_frames, live.ingest, b"PUSH", 60_000, s),
    "endless small frames by 8, ingest": lambda live, s: (many, live.ingest, s),
    "endless small frames, control": lambda live, s: (attacks.endless_frames, live.control, b"REQ", 0, s),
    "endless small frames, predictions": lambda live, s: (attacks.endless_frames, live.predictions, b"SUB", 0, s),
    "subscriptions": lambda live, s: (attacks.subscribe_to_everything, live.predictions, s),
    "requests": lambda live, s: (attacks.ask_without_end, live.control, s),
    "500 half-open connections": lambda live, s: (hold, live.ingest, 500, b"", s),
    "connect and hang up": lambda live, s: (attacks.come_and_go, live.ingest, s),
    "slow HTTP": lambda live, s: (loris, live.http, 100, s),
}


class Watch:
    """A good sender and its subscriber, and the daemon's memory."""

    def __init__(self, live: Live) -> None:
        assert live.process is not None
        self.proc = Path(f"/proc/{live.process.pid}")
        self.sender, self.push, self.subscriber = Sender("cam0", CAM0, 1), live.push(), live.subscribe("cam0/")
        self.t_us = 0
        self.push.send_multipart(self.sender.reset(0))

    def rss(self) -> float:
        """Resident memory, in MB."""
        return int((self.proc / "statm").read_text().split()[1]) * 4096e-6

    def follow(self, seconds: float) -> dict[str, Any]:
        """Send and listen; what was seen."""
        end, late, most, files, before = time.monotonic() + seconds, [], 0.0, 0, self.rss()
        while time.monotonic() < end:
            self.t_us += 1000
            began = time.monotonic()
            self.push.send_multipart(self.sender.reset(self.t_us))
            if not self.subscriber.poll(30_000):
                return {"late_ms": None}
            while self.subscriber.poll(0):
                self.subscriber.recv_multipart()
            late.append((time.monotonic() - began) * 1e3)
            most, files = max(most, self.rss()), max(files, len(list((self.proc / "fd").iterdir())))
            time.sleep(max(0.0, 0.005 - (time.monotonic() - began)))
        return {
            "memory_mb": round(most - before, 1), "files": files,
            "late_ms": [round(statistics.median(late), 2), round(max(late), 1)],
        }  # fmt: skip


def main() -> None:
    """Run each attack against a daemon of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), metavar="NAME")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder, Live(Path(folder), TEXT) as live:
            watch = Watch(live)
            watch.follow(0.5)
            what, *how = ATTACKS[name](live, args.seconds)
            with mp.get_context("spawn").Pool(1) as pool:
                pool.apply(time.sleep, (0,))  # it has started
                attack = pool.apply_async(what, how)
                found[name] = {**watch.follow(args.seconds + 1.0), "attack": attack.get(30)}
            time.sleep(0.5)
            rows = live.metrics().items()
            found[name]["refused"] = {
                k.partition("{")[2][:-1]: int(v) for k, v in rows if k.startswith("spiked_connections_refused") and v
            }
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
