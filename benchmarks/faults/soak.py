"""Hours of stream time at top speed: does anything grow, and does it stay as prompt as it was?

    python benchmarks/faults/soak.py [--hours 8] [--head discriminant] [--json FILE] [--plot FILE.png]

Labelled samples of moving things, over and over, with the exam, harm control, and checkpoints on; subscribers come and
go, metrics are scraped, control is asked. The sender keeps a fixed number of messages on their way, so that the latency
is the daemon's and not that of a queue. After each hundredth of the stream the process is looked at. Held against it:
resident memory by the hour after warm-up (a tenth of the run), descriptors and threads, and the 99th percentile of
latency in the last tenth against the first after warm-up.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from common import Live, endless, learns, looks, process_figures, report

from spiked.service.progress import Progress

ON_THEIR_WAY = 8
"""Messages sent and not yet answered for."""
LOOKS = 100


def text(names: list[str], head: str) -> str:
    """A stream that learns, examines itself and checkpoints often."""
    return f"""
[checkpoint]
every_s = 2
[predictions]
every_ms = 1000000
{learns(names, head)}"""


def run(folder: Path, hours: float, head: str = "discriminant") -> dict[str, Any]:
    """Stream so many hours; what was seen at each look, and what follows from it."""
    samples = looks(60)
    names = sorted({name for name, *_ in samples})
    seen: list[dict[str, float]] = []
    latency: list[float] = []
    with Live(folder, text(names, head)) as live:
        pid = live.process.pid if live.process else 0
        subscriber, push = live.subscribe("cam0/"), live.push()
        source, total_us = endless(samples), int(hours * 3600e6)
        answered = finals_sent = stream_us = 0
        began, next_look = time.monotonic(), 0
        with Progress("soak", LOOKS, "looks") as progress:
            while stream_us < total_us:
                for _ in range(4):  # a sample
                    push.send_multipart(frames := next(source))
                finals_sent += 1
                stream_us = int.from_bytes(frames[1][16:24], "little")
                while answered < finals_sent - ON_THEIR_WAY // 4:
                    assert subscriber.poll(60_000), f"no answer; {live.log()[-1000:]}"
                    said = json.loads(subscriber.recv_multipart()[1])
                    answered += said.get("final", False)
                    latency.append(said["latency_us"])
                if stream_us >= next_look * total_us / LOOKS:
                    next_look += 1
                    seen.append({"hours": stream_us / 3600e6, "answers": len(latency), **at_rest(pid, seen)})
                    ask_around(live)
                    progress.advance(note=f"{seen[-1]['resident_mb']:.1f} MB")
        took = time.monotonic() - began
        status = live.status()
        checkpoints = live.metric("spiked_checkpoints_total", result="ok")
    return {
        **verdict(seen, np.array(latency)), "hours": hours, "seconds": took, "times_real_time": hours * 3600 / took,
        "lost": status["lost"], "updates": status["updates"], "checkpoints": int(checkpoints), "seen": seen,
    }  # fmt: skip


def at_rest(pid: int, seen: list[dict[str, float]]) -> dict[str, float]:
    """Figures of the process when requests have ended: each has a thread for as long as it lasts.

    Threads beyond the fewest so far are given a second to end; one that stays is reported.
    """
    end, fewest = time.monotonic() + 1.0, min((look["threads"] for look in seen), default=0)
    while (look := process_figures(pid))["threads"] > fewest and seen and time.monotonic() < end:
        time.sleep(0.005)
    return look


def ask_around(live: Live) -> None:
    """What happens to a daemon in its life: scrapes, questions, subscribers that go without a word, bad requests."""
    assert live.get("/metrics")[0] == live.get("/healthz")[0] == 200
    live.ask(do="status")
    passing = live.context.socket(zmq.SUB)
    passing.subscribe(b"")
    passing.connect(live.predictions)
    passing.close(0)
    live.ask_raw(b"{not json")


def verdict(seen: list[dict[str, float]], latency: Any) -> dict[str, float]:
    """Slope of memory, growth of descriptors and threads, and latency of the last tenth against the first."""
    settled = seen[len(seen) // 10 :]
    hours, mb = (np.array([s[k] for s in settled]) for k in ("hours", "resident_mb"))
    tenth = len(latency) // 10
    first, last = latency[tenth : 2 * tenth], latency[-tenth:]
    return {
        "resident_mb_first": float(mb[0]), "resident_mb_last": float(mb[-1]),
        "mb_per_hour": float(np.polyfit(hours, mb, 1)[0]),
        "descriptors_grown": settled[-1]["descriptors"] - settled[0]["descriptors"],
        "threads_grown": settled[-1]["threads"] - settled[0]["threads"],
        "p50_us": float(np.median(first)), "p50_last_us": float(np.median(last)),
        "p99_us": float(np.percentile(first, 99)), "p99_last_us": float(np.percentile(last, 99)),
    }  # fmt: skip


def draw(seen: list[dict[str, float]], path: Path) -> None:
    """Memory over hours of the stream."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot([s["hours"] for s in seen], [s["resident_mb"] for s in seen])
    most = max(s["resident_mb"] for s in seen)
    axis.set(xlabel="hours of the stream", ylabel="resident memory (MB)", ylim=(0, 1.25 * most))
    figure.savefig(path, dpi=100)


def main() -> None:
    """Soak, print, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--head", default="discriminant")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), args.hours, args.head)
    report(figures, args)
    if args.plot:
        draw(figures["seen"], args.plot)


if __name__ == "__main__":
    main()
