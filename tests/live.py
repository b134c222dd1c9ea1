"""A real daemon for tests: a real process, real sockets, real signals. Waits for conditions, never for time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from spiked.io.events import Events, Geometry
from spiked.io.keys import Keys
from spiked.io.sender import Sender
from spiked.io.wire import EventCodec

WAIT_S = 90.0
SPIKED = [sys.executable, "-P", "-m", "spiked"]  # -P: what is installed, not what lies in the working directory


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on, each another: all are held until the last is found."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]


def free_ports_in_a_row(n: int) -> int:
    """First of `n` ports in a row that nobody listens on."""
    while True:
        (first,) = free_ports(1)
        try:
            with contextlib.ExitStack() as stack:
                for port in range(first, first + n):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
        except (OSError, OverflowError):
            continue


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """Wait until `condition` says something true, and return it."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if said := condition():
            return said
        time.sleep(0.02)
    raise AssertionError(f"never happened: {what}")


class Live:
    """One ``spiked run`` with ports and a state directory of its own.

    `text` is the configuration without its endpoints; `keys` are what its own sockets go in with.
    """

    def __init__(
        self,
        folder: Path,
        text: str,
        *,
        state_dir: Path | None = None,
        env: dict[str, str] | None = None,
        keys: Keys | None = None,
    ) -> None:
        self.keys = keys
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.state_dir = state_dir or folder / "state"
        ports = free_ports(4)
        self.ingest, self.predictions, self.control = (f"tcp://127.0.0.1:{p}" for p in ports[:3])
        self.http = f"http://127.0.0.1:{ports[3]}"
        self.config = folder / "config.toml"
        own = {
            "daemon": {"state_dir": str(self.state_dir)}, "ingest": {"endpoint": self.ingest},
            "predictions": {"endpoint": self.predictions}, "control": {"endpoint": self.control},
            "metrics": {"port": ports[3]},
        }  # fmt: skip
        for name, keys in own.items():
            lines = "".join(f"{k} = {json.dumps(v)}\n" for k, v in keys.items())
            text = (
                text.replace(f"[{name}]\n", f"[{name}]\n{lines}")
                if f"[{name}]\n" in text
                else f"[{name}]\n{lines}\n{text}"
            )
        self.config.write_text(text)
        self.env = {**os.environ, **(env or {})}
        self.context = zmq.Context()
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> subprocess.Popen[bytes]:
        assert self.process is None or self.process.poll() is not None, "the one before still runs, and would be lost"
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([*SPIKED, "run", str(self.config)], stdout=log, stderr=log, env=self.env)
        return self.process

    def start(self) -> Live:
        self.spawn()
        return self.wait_ready()

    def wait_ready(self) -> Live:
        assert (process := self.process) is not None

        def ready() -> bool:
            assert process.poll() is None, f"exited {process.returncode}: {self.log()[-2000:]}"
            return self.get("/readyz")[0] == 200

        wait_for(ready, "the daemon is ready")
        return self

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.http + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metrics(self) -> dict[str, float]:
        lines = self.get("/metrics")[1].splitlines()
        return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}

    def metric(self, name: str, **labels: str) -> float:
        wanted = [f'{k}="{v}"' for k, v in labels.items()]
        return sum(v for k, v in self.metrics().items() if k.split("{")[0] == name and all(w in k for w in wanted))

    def socket(self, kind: int, keys: Keys | None = None) -> zmq.Socket[bytes]:
        """A client's socket, encrypted where there are keys."""
        s: zmq.Socket[bytes] = self.context.socket(kind)
        s.setsockopt(zmq.LINGER, 0)
        if keys := keys or self.keys:
            s.curve_publickey, s.curve_secretkey, s.curve_serverkey = keys.public, keys.secret, keys.server
        return s

    def ask(self, **request: Any) -> dict[str, Any]:
        return dict(json.loads(self.ask_raw(json.dumps(request).encode())))

    def ask_raw(self, *frames: bytes) -> bytes:
        with self.socket(zmq.REQ) as s:
            s.connect(self.control)
            s.send_multipart(frames)
            assert s.poll(20_000), "no answer from the control socket"
            return bytes(s.recv())

    def status(self, stream: str = "cam0") -> dict[str, Any]:
        return dict(self.ask(do="status")["streams"][stream])

    def push(self, kind: int = zmq.PUSH) -> zmq.Socket[bytes]:
        s = self.socket(kind)
        s.setsockopt(zmq.LINGER, 5000)
        s.connect(self.ingest)
        return s

    def subscribe(self, topic: str = "") -> zmq.Socket[bytes]:
        """A subscriber that the daemon knows of by the time this returns."""
        before = self.ask(do="status")["subscribers"]
        s = self.socket(zmq.SUB)
        s.setsockopt(zmq.RCVHWM, 0)
        s.setsockopt_string(zmq.SUBSCRIBE, topic)
        s.connect(self.predictions)
        wait_for(lambda: self.ask(do="status")["subscribers"] > before, "the subscription has arrived")
        return s

    def wait_seq(self, seq: int, stream: str = "cam0") -> dict[str, Any]:
        """Wait until message number `seq` has been taken in."""
        return dict(
            wait_for(lambda: (s := self.status(stream))["next_seq"] > seq and s, f"message {seq} has been taken")
        )

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 20.0) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def __enter__(self) -> Live:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.context.destroy(0)


def drain(subscriber: zmq.Socket[bytes], n_final: int, timeout_s: float = 30.0) -> list[dict[str, Any]]:
    """Predictions until `n_final` of them are final."""
    out: list[dict[str, Any]] = []
    end = time.monotonic() + timeout_s
    while sum(p.get("final", False) for p in out) < n_final:
        assert time.monotonic() < end, f"{sum(p.get('final', False) for p in out)} of {n_final} final predictions came"
        if subscriber.poll(100):
            out.append(json.loads(subscriber.recv_multipart()[1]))
    return out


def sample_messages(
    sender: Sender,
    events: Events,
    t0: int,
    duration_us: int,
    label: int | str | None,
    codec: EventCodec = EventCodec.TXYP13,
) -> list[list[bytes]]:
    """A sample as a sensor sends it: its label if it has one, its events, and the reset that ends it."""
    moved = events.copy()
    moved["t"] += t0
    end = t0 + duration_us
    target = [] if label is None else [sender.target(label, t0, end)]
    return [*target, sender.events(moved, end, codec), sender.reset(end)]


CAM0 = Geometry(34, 34, 2)
CAM0_TEXT = """
[network]
layers = [{ neurons = 64 }]
classes = ["a", "b"]
[[stream]]
id = "cam0"
width = 34
height = 34
"""
