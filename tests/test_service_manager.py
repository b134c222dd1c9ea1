"""What systemd hears of a daemon, over real datagram sockets; and SIGHUP, which has it read its configuration again."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import pytest
from live import CAM0, SPIKED, Live, wait_for

from spiked.io.sender import Sender
from spiked.service import notify, reload
from spiked.service.checkpoints import CheckpointStore
from spiked.service.compiling import told_to_the_manager
from spiked.service.config import Config
from spiked.service.configfile import load_config, parse_config
from spiked.service.metrics import DaemonStats
from spiked.service.overload import FREE, SHEDS
from spiked.service.pipeline import Pipeline

TEXT = """
[network]
layers = [{ neurons = 64 }]
classes = ["left", "right"]

[[stream]]
id = "cam0"
width = 34
height = 34
"""
WATCHDOG_S = 0.4


class Manager:
    """Listens as a service manager does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}

    def hear(self, timeout_s: float = 60.0) -> dict[str, str]:
        self.socket.settimeout(timeout_s)
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().split("\n"))

    def hear_of(self, key: str) -> dict[str, str]:
        """The next datagram with this key."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if key in (said := self.hear()):
                return said
        raise AssertionError(f"never heard of {key}")

    def waiting(self) -> list[dict[str, str]]:
        """All that has come so far."""
        out = []
        with contextlib.suppress(OSError):
            while True:
                out.append(self.hear(0.001))
        return out


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@spiked-test-{os.getpid()}"
    said = Manager(address)
    with contextlib.closing(said.socket):
        yield said


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A manager of this very process."""
    manager = Manager(str(tmp_path / "notify"))
    for name, value in manager.env.items():
        monkeypatch.setenv(name, value)
    with contextlib.closing(manager.socket):
        yield manager


def test_a_whole_life_and_a_reload(manager: Manager, tmp_path: Path) -> None:
    """Ready when it serves and not before; alive; read again, well and badly; stopped within 2 s, with a checkpoint."""
    live = Live(tmp_path / "d", '[daemon]\nlog_format = "json"\n' + TEXT, env=manager.env)
    live.spawn()
    try:
        while "READY" not in (said := manager.hear()):
            assert "WATCHDOG" not in said
        assert live.get("/readyz") == (200, "ready\n") and live.metric("spiked_compile_seconds") > 0
        alive = manager.hear_of("WATCHDOG")
        assert alive["STATUS"] == "1 stream, 0 messages/s"

        good = live.config.read_text()
        changed = good.replace("[network]", '[network]\nhead = "prototype"').replace(
            "[daemon]\n", '[daemon]\nlog_level = "debug"\n'
        )
        changed += "\n[learning]\nrate = 0.125\nenabled = false\n\n[checkpoint]\nevery_s = 0.05\nkeep = 2\n"
        before = time.monotonic_ns() // 1000
        live.config.write_text(changed)
        assert live.process is not None
        live.process.send_signal(signal.SIGHUP)
        asked = manager.hear_of("RELOADING")
        assert asked["RELOADING"] == "1" and before <= int(asked["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        done = manager.hear_of("READY")
        # rule follows from head
        assert done == {"READY": "1", "STATUS": "reloaded: 5 changed, 1 need a restart, see the log"}
        status = live.status()
        assert status["rate"] == 0.125 and status["learning"] is False
        wait_for(lambda: live.metric("spiked_checkpoints_total", result="ok") > 3, "checkpoints come quickly")
        assert len(list((live.state_dir / "checkpoints").glob("*.json"))) <= 3  # one may be being replaced

        live.config.write_text(changed.replace("0.125", "-1"))
        live.process.send_signal(signal.SIGHUP)
        manager.hear_of("RELOADING")
        refused = manager.hear_of("READY")["STATUS"]
        assert refused.startswith("reload refused: ") and "learning.rate" in refused and "-1" in refused
        assert live.status()["rate"] == 0.125 and live.get("/readyz")[0] == 200
        counts = [live.metric("spiked_reloads_total", result=r) for r in reload.RESULTS]
        assert counts == [0, 1, 1]

        began = time.monotonic()
        names = live.ask(do="status")["checkpoints"]
        assert live.stop() == 0
        assert time.monotonic() - began < 2
        assert manager.hear_of("STOPPING") == {"STOPPING": "1"}
        assert [f for f in (live.state_dir / "checkpoints").glob("*.json") if f.stem > max(names)]
    finally:
        live.__exit__()
    lines = [json.loads(line) for line in live.log().splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    said = [line["message"] for line in lines]
    assert "reload: stream.cam0.network.head: 'prototype' (was 'discriminant'): needs a restart" in said
    assert "reload: stream.cam0.learning.rate: 0.125 (was 0.002)" in said
    assert any(line.startswith("reload refused, everything stays as it was: ") for line in said)
    assert any(line["level"] == "debug" for line in lines), "the level took effect"


FAULTY = """
import sys
from spiked.service import daemon
from spiked.service.cli import main
warm, daemon.warm_up = daemon.warm_up, lambda c: (warm(c), setattr(daemon.Pipeline, "handle", fault))
def fault(self, *_):
    raise RuntimeError("on purpose")
sys.exit(main(["run", sys.argv[1]]))
"""


def keep_sending(live: Live, over: threading.Event) -> None:
    """Messages, more of them before the loop could find that none waits."""
    sender = Sender("cam0", CAM0, 1)
    with live.push() as push:
        while not over.wait(0.002):
            push.send_multipart(sender.reset(0))


def test_the_watchdog_starves_while_messages_wait_and_none_is_settled(named: Manager, tmp_path: Path) -> None:
    live = Live(tmp_path / "d", TEXT, env=named.env)
    log = (live.folder / "log").open("ab")
    live.process = subprocess.Popen(
        [sys.executable, "-P", "-c", FAULTY, str(live.config)], stdout=log, stderr=log, env=live.env
    )
    try:
        named.hear_of("WATCHDOG")
        over = threading.Event()
        flood = threading.Thread(target=keep_sending, args=(live, over), daemon=True)
        flood.start()
        wait_for(lambda: live.metric("spiked_messages_rejected_total", reason="internal") > 2, "faults are counted")
        named.waiting()
        stalled = live.metric("spiked_progress_age_seconds")
        wait_for(lambda: live.metric("spiked_progress_age_seconds") > stalled + 4 * WATCHDOG_S, "it stands still")
        assert not [s for s in named.waiting() if "WATCHDOG" in s], "the loop comes round, but nothing is done"
        assert live.ask(do="status")["ok"]
        over.set()
        flood.join(20)
        assert named.hear_of("WATCHDOG"), "nothing waits any more"
    finally:
        live.__exit__()


def test_the_compiler_asks_for_more_time(named: Manager) -> None:
    @numba.njit
    def one(x: int) -> int:
        return x + 1

    with told_to_the_manager():
        assert one(1) == 2
    said = named.waiting()
    assert said[0] == {"STATUS": "loading the kernels"}
    assert {s["EXTEND_TIMEOUT_USEC"] for s in said[1:]} == {"180000000"}
    assert [s["STATUS"] for s in said[1:]] == ["compiling: 0 kernels so far", "compiling: 1 kernels so far"]


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.notify("READY=1")
    with told_to_the_manager():
        pass
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not notify.notify("READY=1")


@pytest.mark.parametrize(
    ("env", "interval"),
    [({}, None), ({"WATCHDOG_USEC": "4000000"}, 2.0), ({"WATCHDOG_USEC": "soon"}, None), ({"WATCHDOG_USEC": "0"}, None),
     ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, None)],
)  # fmt: skip
def test_the_interval_of_the_watchdog(
    env: dict[str, str], interval: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert notify.watchdog_interval_s() == interval


def config(**tables: object) -> Config:
    streams = tables.pop("stream", [{"id": "a", "width": 4, "height": 4}])
    return parse_config({"network": {"classes": ["x"]}, "stream": streams, **tables})


def test_differences_are_named_by_their_place() -> None:
    one, two = {"id": "a", "width": 4, "height": 4}, {"id": "b", "width": 4, "height": 4}
    assert reload.differences(config(), config()) == []
    assert reload.differences(config(), config(learning={"rate": 0.5})) == [("stream.a.learning.rate", 2e-3, 0.5)]
    assert reload.differences(config(), config(metrics={"port": 1})) == [("metrics.port", 9570, 1)]
    assert reload.differences(config(), config(stream=[{**one, "width": 5}])) == [("stream.a.width", 4, 5)]
    assert reload.differences(config(), config(stream=[two])) == [
        ("stream.a", "configured", None), ("stream.b", None, "configured"),
    ]  # fmt: skip


FILE = """
[ingest]
max_lag_ms = 100
[checkpoint]
keep = 9
[network]
classes = ["x"]
[[stream]]
id = "a.learning"
width = 4
height = 4
"""


def test_each_key_that_may_change_takes_effect(tmp_path: Path) -> None:
    """Where it is read, in a real pipeline; and the page names these keys and no others."""
    path = tmp_path / "a.toml"
    path.write_text(FILE)
    config = load_config(path)
    pipeline, store = Pipeline(config), CheckpointStore(tmp_path, config.checkpoint.keep)
    daemon: Any = SimpleNamespace(
        config=config, path=path, pipeline=pipeline, store=store, stats=DaemonStats(), next_checkpoint=float("inf")
    )
    stream = pipeline.streams["a.learning"]
    stream.overload.level = SHEDS
    before = logging.getLogger("spiked").handlers[:]
    assert reload.reload(daemon) == "ok" and stream.overload.level == SHEDS, "nothing has changed"
    path.write_text(
        """
        [daemon]
        log_level = "error"
        log_format = "json"
        [ingest]
        max_lag_ms = 0
        [predictions]
        every_ms = 70
        [checkpoint]
        every_s = 7
        keep = 3
        on_stop = false
        [learning]
        rate = 0.5
        enabled = false
        [memory]
        on_harm = "report"
        """
        + FILE.replace("[ingest]\nmax_lag_ms = 100\n[checkpoint]\nkeep = 9\n", "")
    )
    wanted = load_config(path)
    changed = {place.removeprefix("stream.a.learning.") for place, _, _ in reload.differences(config, wanted)}
    assert changed == set(reload.DAEMON_KEYS) | set(reload.STREAM_KEYS), "each of them, and no more"
    try:
        assert reload.reload(daemon) == "ok"
        assert logging.getLogger("spiked").level == logging.ERROR
        assert "_Json" in type(logging.getLogger("spiked").handlers[0].formatter).__name__
    finally:
        logging.getLogger("spiked").handlers[:] = before
        logging.getLogger("spiked").setLevel(logging.NOTSET)
    assert stream.overload.max_lag_s == 0 and stream.overload.level == FREE
    assert stream.schedule.every_steps == 70 and store.keep == 3
    assert daemon.next_checkpoint <= time.monotonic() + 7 and daemon.config.checkpoint.on_stop is False
    assert stream.learner.rate == 0.5 and not stream.learns
    assert stream.care is not None and stream.care.config.memory.on_harm == "report"
    assert reload.differences(daemon.config, wanted) == []
    page = (Path(__file__).resolve().parent.parent / "docs" / "deploy.md").read_text()
    rows = page.partition("| changes on a reload |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+\.\w+)`", rows)) == changed


def test_a_daemon_without_a_file_says_so() -> None:
    daemon: Any = SimpleNamespace(path=None, stats=DaemonStats())
    assert reload.reload(daemon) == "refused" and daemon.stats.reloads["refused"] == 1


def test_a_closed_terminal_ends_it_in_good_order(tmp_path: Path) -> None:
    """SIGHUP from a terminal that is gone is not a wish to read the configuration."""
    live = Live(tmp_path, TEXT)
    master, slave = pty.openpty()

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    command = [*SPIKED, "run", str(live.config)]
    live.process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=live.env, preexec_fn=own_terminal
    )
    os.close(slave)
    try:
        wait_for(lambda: live.get("/readyz")[0] == 200, "the daemon is ready")
        os.close(master)
        assert live.process.wait(10) == 0
        assert list((live.state_dir / "checkpoints").glob("*.json"))
    finally:
        live.__exit__()
