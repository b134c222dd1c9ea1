"""``spiked demo``: everything in one process, on simulated sensors: it learns while you watch.

The daemon runs as it always does, with its sockets on loopback. A second thread plays the outside: a simulated event
camera that looks at handwritten digits and a simulated cochlea that hears vowels, sent over ZeroMQ with their labels.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

from spiked.service.cli_text import example

if TYPE_CHECKING:
    from spiked.service.config import Config
    from spiked.service.daemon import Daemon

EXAMPLES = """\
  spiked demo
  spiked demo --seconds 60 --port 9570     then look at http://127.0.0.1:9570/metrics"""

AHEAD = 4
"""Samples that may be on their way: enough to keep the daemon busy, few enough that it shows what it knows now."""
LAST = 50
FIRST_SHOW_S, SHOW_FACTOR, SHOW_EVERY_S = 0.3, 1.7, 5.0
"""Lines come quickly while accuracy climbs, and slower after."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``demo`` to the command line."""
    parser = commands.add_parser(
        "demo", help="watch it learn, on simulated sensors",
        description="Run everything in one process on simulated sensors; no files are needed.", **example(EXAMPLES),
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to learn (30)")
    parser.add_argument(
        "--port", type=int, default=0, help="HTTP there; events, predictions, control on the next three"
    )
    parser.add_argument("--seed", type=int, default=0, help="of sensors and network (0)")


def run(args: argparse.Namespace) -> int:
    """Learn for a while, and sum up."""
    began = time.monotonic()
    from spiked.service.cli_errors import RunError, UsageError

    if not 0 < args.seconds < 1e7:
        raise UsageError(f"--seconds: {args.seconds:g}; more than 0")
    if not 0 <= args.port <= 65532:
        raise UsageError(f"--port: {args.port}; 0 to 65532")
    from spiked.io.endpoint import EndpointError
    from spiked.learners.jit import cache_is_cold
    from spiked.service.daemon import Daemon
    from spiked.service.log import set_up

    with tempfile.TemporaryDirectory(prefix="spiked-demo-") as state_dir:
        config = demo_config(state_dir, args.port, args.seed)
        set_up("warning", "text")
        print(f"events to {config.ingest.endpoint}, predictions from {config.predictions.endpoint},")
        print(f"control at {config.control.endpoint}, http://{config.metrics.host}:{config.metrics.port}/metrics")
        print(f"watch along: spiked watch {config.predictions.endpoint}", flush=True)
        if cache_is_cold():
            print("compiling the kernels: some 10 s, at the first start only", flush=True)
        daemon = Daemon(config)
        outside = Outside(config, daemon, args.seconds, args.seed, began)
        outside.start()
        try:
            code = daemon.run()
        except (EndpointError, OSError) as error:
            daemon.stopping = "failed"
            raise RunError(str(error)) from None
        finally:
            outside.join(5)
        outside.sum_up()
        if outside.fault:
            raise RunError(outside.fault)
        return code


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in found:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in found]


def demo_config(state_dir: str, port: int, seed: int) -> Config:
    """The demo's configuration: two sensors, everything else as it comes."""
    from spiked.io.sim_scenes import SHAPES, VOWELS, digits_available
    from spiked.service.configfile import parse_config

    ports = list(range(port, port + 4)) if port else free_ports(4)
    looks_at = [str(d) for d in range(10)] if digits_available() else list(SHAPES)
    endpoint = "tcp://127.0.0.1:{}"
    return parse_config(
        {
            "daemon": {"state_dir": state_dir},
            "metrics": {"port": ports[0]},
            "ingest": {"endpoint": endpoint.format(ports[1])},
            "predictions": {"endpoint": endpoint.format(ports[2])},
            "control": {"endpoint": endpoint.format(ports[3])},
            "network": {"seed": seed},
            "stream": [
                {"id": "camera", "width": 34, "height": 34, "network": {"classes": looks_at}},
                {
                    "id": "cochlea", "width": 64, "height": 1,
                    "network": {"classes": list(VOWELS), "layers": [{"neurons": 128}]},
                },
            ],
        }
    )  # fmt: skip


class Outside(threading.Thread):
    """The sensors, the teacher and the audience, on the far side of the sockets."""

    def __init__(self, config: Config, daemon: Daemon, seconds: float, seed: int, began: float) -> None:
        super().__init__(daemon=True, name="outside")
        self.config, self.daemon_, self.seconds, self.seed, self.began = config, daemon, seconds, seed, began
        self.right: dict[str, list[bool]] = {s.id: [] for s in config.stream}
        self.first_prediction_s = 0.0
        self.learning_s = 0.0
        self.fault = ""
        self._labels: dict[str, list[str]] = {s.id: [] for s in config.stream}

    def run(self) -> None:
        """Show samples until the time is up."""
        try:
            self._show_samples()
        except Exception as error:  # a thread's fault would go unseen, and the demo on for ever
            self.fault = f"{type(error).__name__}: {error}"
        finally:
            self.daemon_.stopping = self.daemon_.stopping or "the demo is over"

    def _show_samples(self) -> None:
        import zmq

        from spiked.io.events import Geometry
        from spiked.io.sender import Sender
        from spiked.io.sim_cochlea import cochlea_samples
        from spiked.io.sim_dvs import dvs_samples
        from spiked.service.client import connect
        from spiked.service.cmd_replay import send

        samples = {"camera": dvs_samples(self.seed), "cochlea": cochlea_samples(self.seed)}
        senders = {s.id: Sender(s.id, Geometry(s.width, s.height, s.planes)) for s in self.config.stream}
        now_us = dict.fromkeys(samples, 0)
        upcoming = {name: next(it) for name, it in samples.items()}  # compiles the sensors while the daemon starts
        push, sub = connect(zmq.PUSH, self.config.ingest.endpoint), connect(zmq.SUB, self.config.predictions.endpoint)
        sub.setsockopt_string(zmq.SUBSCRIBE, "")
        while not self.daemon_.stopping and not (self.daemon_.ready and self.daemon_.sink.subscribers):
            time.sleep(0.01)
        ready = time.monotonic()
        next_show, wait = ready + FIRST_SHOW_S, FIRST_SHOW_S
        try:
            while not self.daemon_.stopping and time.monotonic() - ready < self.seconds:
                for name, it in samples.items():
                    sample, t0 = upcoming[name], now_us[name]
                    end = t0 + sample.duration_us
                    events = sample.events.copy()
                    events["t"] += t0
                    self._labels[name].append(sample.name)
                    sender = senders[name]
                    for frames in (sender.target(sample.name, t0, end), sender.events(events, end), sender.reset(end)):
                        send(push, frames)
                    now_us[name], upcoming[name] = end, next(it)
                while sum(map(len, self._labels.values())) > AHEAD and not self.daemon_.stopping:
                    self._listen(sub, 50)
                self._listen(sub, 0)
                if time.monotonic() >= next_show:
                    wait = min(wait * SHOW_FACTOR, SHOW_EVERY_S)
                    next_show = time.monotonic() + wait
                    self._show(time.monotonic() - ready)
            deadline = time.monotonic() + 2
            while any(self._labels.values()) and time.monotonic() < deadline and not self.daemon_.stopping:
                self._listen(sub, 50)
            self.learning_s = time.monotonic() - ready
        finally:
            push.close(0)
            sub.close(0)

    def _listen(self, sub: Any, wait_ms: int) -> None:
        """Take predictions in; the final one of a sample is compared with what was shown."""
        import msgspec

        while sub.poll(wait_ms):
            wait_ms = 0
            said = msgspec.json.decode(sub.recv_multipart()[1])
            if not self.first_prediction_s:
                self.first_prediction_s = time.monotonic() - self.began
                print(f"first prediction after {self.first_prediction_s:.1f} s", flush=True)
            if said.get("final"):
                name = said["stream"]
                self.right[name].append(said["label"] == self._labels[name].pop(0))

    def _show(self, seconds: float) -> None:
        parts = [f"{seconds:5.1f} s"]
        for name, right in self.right.items():
            last = right[-LAST:]
            share = sum(last) / max(1, len(last))
            parts.append(f"{name}: {len(right):>4} samples, last {LAST} {share:4.0%} {'#' * round(20 * share):<20}")
        print("  ".join(parts), flush=True)

    def sum_up(self) -> None:
        """The closing summary."""
        if not self.first_prediction_s:
            print("nothing was predicted", file=sys.stderr)
            return
        print()
        for name, right in self.right.items():
            stream = self.daemon_.pipeline.streams[name]
            s = stream.stats
            fifth = max(1, len(right) // 5)
            stream_s = s.steps * stream.dt_us * 1e-6
            us = s.step_seconds.sum / max(1, s.steps) * 1e6
            print(f"{name}: {s.events} events in {s.steps} steps of {stream.dt_us / 1000:g} ms, {len(right)} samples")
            print(
                f"  predicted before it was told: right {sum(right[:fifth]) / fifth:.0%} of the first fifth, "
                f"{sum(right[-fifth:]) / fifth:.0%} of the last"
            )
            print(
                f"  {us:.1f} us per step, learning included: {stream.dt_us / max(us, 1e-9):.0f} times real time; "
                f"{stream_s:.0f} s of stream in {self.learning_s:.0f} s"
            )
