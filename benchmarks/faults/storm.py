"""A storm of events, ten times what the daemon can sustain: is memory bounded, is all counted, is it itself again?

    python benchmarks/faults/storm.py [--seconds 10] [--times 10] [--mode sub] [--json FILE]

First the rate that it sustains is measured: messages of `MESSAGE_MS` as fast as they are taken. Then, in time, so many
messages a second as a camera sends: a calm at a tenth of that rate, the storm at `--times` that rate, and calm again.
`ingest.max_lag_ms` is set, so learning waits and then events are shed. In mode ``sub`` the network between may lose
messages too, which the gaps in their numbers tell; in mode ``pull`` nothing is lost, and the sender has to wait.

Held against it: the highest resident memory; sent = taken + lost for messages; for the events of those that were taken,
received = seen + shed, and a step for each ms of the stream's time; and how soon after the storm predictions are as
prompt as before it (the median of a tenth of a second is no more than twice what was usual).
"""

from __future__ import annotations

import argparse
import json
import statistics
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from common import DVS128, Frames, Live, process_figures, random_events, report

from spiked.io.sender import Sender
from spiked.io.wire import EventCodec

MESSAGE_MS = 5
DENSE = 60_000
"""Events of a message when the sustained rate is measured: so dense that more of them hit the same pixels."""
CLASSES = ["a", "b", "c"]


def text(mode: str, neurons: int, max_lag_ms: float) -> str:
    """One stream that learns, all the time."""
    return f"""
[ingest]
mode = "{mode}"
max_lag_ms = {max_lag_ms}
queue_messages = 100
[predictions]
every_ms = {MESSAGE_MS}
[network]
layers = [{{ neurons = {neurons} }}]
classes = {json.dumps(CLASSES)}
trace_ms = [50.0]
[learning]
window_ms = 100.0
[[stream]]
id = "cam0"
width = 128
height = 128
"""


class Camera:
    """Sends one message each `MESSAGE_MS`, its payload made before: only the header is stamped anew."""

    def __init__(self, live: Live, mode: str, per_message: list[int]) -> None:
        self.socket = live.context.socket(zmq.PUB if mode == "sub" else zmq.PUSH)
        self.socket.setsockopt(zmq.SNDHWM, 100)
        self.socket.setsockopt(zmq.LINGER, 60_000)
        self.socket.connect(live.ingest)
        self.sender, self.sent_events, self.mode = Sender("cam0", DVS128, 1, crc=False), 0, mode
        rng, end = np.random.default_rng(0), MESSAGE_MS * 1000
        made = Sender("cam0", DVS128, 1, crc=False)
        self.made = {n: made.events(random_events(rng, n, 0, end, DVS128), end, EventCodec.REL8) for n in per_message}

    def stamped(self, n: int) -> Frames:
        """The next message of `n` events."""
        topic, header, payload = self.made[n]
        end = (self.sender.seq + 1) * MESSAGE_MS * 1000
        times = struct.pack("<QQQQ", self.sender.seq, end - MESSAGE_MS * 1000, end, time.time_ns())
        self.sender.seq += 1
        self.sent_events += n
        return [topic, header[:8] + times + header[40:], payload]

    def send(self, n: int, seconds: float, begin: float) -> float:
        """Send for `seconds` from `begin` on, in time as far as the daemon lets it; returns when that ended."""
        count = int(seconds * 1000 / MESSAGE_MS)
        for k in range(count):
            if (wait := begin + k * MESSAGE_MS * 1e-3 - time.monotonic()) > 0:
                time.sleep(wait)
            self.socket.send_multipart(self.stamped(n))
        return begin + seconds


class Listener(threading.Thread):
    """Takes predictions: when each came, its latency, and its stream time."""

    def __init__(self, live: Live) -> None:
        super().__init__(daemon=True)
        self.socket, self.said, self.over = live.subscribe("cam0/"), [], False  # type: ignore[var-annotated]
        self.most_mb, self.pid = 0.0, live.process.pid if live.process else 0

    def run(self) -> None:
        """Listen until told to stop, and look at the daemon's memory now and then."""
        looked = 0.0
        while not self.over:
            if self.socket.poll(50):
                said = json.loads(self.socket.recv_multipart()[1])
                self.said.append((time.monotonic(), said["latency_us"] * 1e-3, said["t_us"], said["learning"]))
            if time.monotonic() - looked > 0.1:
                looked, self.most_mb = time.monotonic(), max(self.most_mb, process_figures(self.pid)["resident_mb"])


def sustained(live: Live, n: int) -> float:
    """Events per second that the daemon takes when nobody waits for anything."""
    camera = Camera(live, "pull", [n])
    camera.socket.send_multipart(camera.sender.target(0, 0))
    began = time.monotonic()
    for _ in range(int(500 / MESSAGE_MS)):
        camera.socket.send_multipart(camera.stamped(n))
    live.wait_seq(camera.sender.seq - 1)
    took = time.monotonic() - began
    camera.socket.close()
    return camera.sent_events / took


def run(
    folder: Path, seconds: float = 10.0, times: float = 10.0, mode: str = "sub", neurons: int = 1024,
    max_lag_ms: float = 50.0, calm_s: float = 3.0,
) -> dict[str, Any]:  # fmt: skip
    """Calm, storm, calm; figures, and AssertionError where something is not accounted for."""
    with Live(folder / "rate", text("pull", neurons, 0.0)) as live:
        rate = sustained(live, DENSE)
    calm, storm = (max(1, int(rate * f * MESSAGE_MS * 1e-3)) for f in (0.1, times))
    with Live(folder / "storm", text(mode, neurons, max_lag_ms)) as live:
        camera = Camera(live, mode, [calm, storm])
        listener = Listener(live)
        if mode == "sub":  # wait until the subscription has come: one message after the other, until one is taken
            while live.status()["next_seq"] == 0:
                camera.socket.send_multipart(camera.stamped(calm))
                time.sleep(0.05)
        before = process_figures(listener.pid)["resident_mb"]
        target = camera.sender.target(0, camera.sender.seq * MESSAGE_MS * 1000)
        camera.socket.send_multipart(target)
        listener.start()
        began = time.monotonic()
        over = camera.send(calm, calm_s, began)
        over = stormed = camera.send(storm, seconds, over)
        late_s = time.monotonic() - over
        over = camera.send(calm, calm_s, max(over, time.monotonic()))
        live.wait_seq(camera.sender.seq - 1)
        listener.over = True
        listener.join()
        m = live.metric
        taken, lost = m("spiked_messages_total"), m("spiked_messages_lost_total")
        events, shed = m("spiked_events_total"), m("spiked_events_dropped_total", reason="shed")
        steps, log = m("spiked_steps_total"), live.log()
    assert taken + lost == camera.sender.seq, f"{taken} taken + {lost} lost of {camera.sender.seq}"
    if mode == "pull":
        assert not lost and events == camera.sent_events, "a socket that pulls loses nothing"
        assert steps == (camera.sender.seq - 1) * MESSAGE_MS, f"{steps} steps of {camera.sender.seq - 1} messages"
    usual = [ms for at, ms, *_ in listener.said if began + calm_s / 3 < at < began + calm_s]
    after = [(at - (stormed + late_s), ms) for at, ms, *_ in listener.said if at > stormed + late_s]
    slices: dict[int, list[float]] = {}
    for at, ms in after:
        slices.setdefault(int(10 * at), []).append(ms)
    slow = [0.1 * k + 0.1 for k, found in slices.items() if statistics.median(found) > 2 * statistics.median(usual)]
    stormy = [ms for at, ms, *_ in listener.said if began + calm_s < at < stormed]
    return {
        "sustained_mev_s": rate * 1e-6, "storm_mev_s": storm / MESSAGE_MS * 1e-3, "messages": camera.sender.seq,
        "taken": int(taken), "lost": int(lost), "events": int(events), "shed": int(shed),
        "shed_share": shed / max(1, events), "resident_mb_before": before, "resident_mb_most": listener.most_mb,
        "usual_ms": statistics.median(usual), "usual_most_ms": max(usual),
        "storm_median_ms": statistics.median(stormy or [0.0]),
        "sender_late_s": late_s, "normal_after_s": max(slow, default=0.0), "warned": "events are shed" in log,
    }  # fmt: skip


def main() -> None:
    """Storm, print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--mode", choices=("sub", "pull"), default="sub")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), args.seconds, args.times, args.mode)
    report(figures, args)


if __name__ == "__main__":
    main()
