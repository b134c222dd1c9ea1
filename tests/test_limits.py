"""What a hostile peer can take from a daemon, by really trying: memory, connections, time. A good sender goes on."""

from __future__ import annotations

import contextlib
import json
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import attacks
import pytest
from live import CAM0, CAM0_TEXT, Live, drain, wait_for
from prometheus_client import CollectorRegistry

from spiked.io.sender import Sender
from spiked.service import http
from spiked.service.config import ConfigError, Ingest
from spiked.service.configfile import parse_config
from spiked.service.security import ingest_gate, make_room, queue_length

TEXT = """
[ingest]
max_message_mb = 1.0
queue_mb = 4.0
max_connections = 6

[predictions]
max_connections = 6

[control]
max_connections = 6

[metrics]
max_connections = 8
"""
KINDS = {"ingest": b"PUSH", "predictions": b"SUB", "control": b"REQ"}
BIG = 900_000


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with Live(tmp_path_factory.mktemp("limits"), TEXT + CAM0_TEXT) as daemon:
        yield daemon


def proc(live: Live) -> Path:
    assert live.process is not None
    return Path(f"/proc/{live.process.pid}")


def resident_mb(live: Live) -> float:
    return int((proc(live) / "statm").read_text().split()[1]) * 4096e-6


def refused(live: Live, where: str, reason: str) -> float:
    return live.metric("spiked_connections_refused_total", socket=where, reason=reason)


def nobody_listens(live: Live) -> None:
    """Those before have gone: only then can a new subscriber be told by the number of them."""
    wait_for(lambda: live.ask(do="status")["subscribers"] == 0, "those before have gone")


def still_serves(live: Live, epoch: int) -> None:
    sender = Sender("cam0", CAM0, epoch)
    nobody_listens(live)
    with closing(live.subscribe("cam0/")) as subscriber, closing(live.push()) as push:
        push.send_multipart(sender.reset(0))
        push.send_multipart(sender.reset(50_000))
        wait_for(
            lambda: subscriber.poll(100) and json.loads(subscriber.recv_multipart()[1])["t_us"] == 50_000,
            "its prediction comes",
        )


class Peak:
    """The most memory that a daemon holds meanwhile, beyond what it held before."""

    def __init__(self, live: Live) -> None:
        self.live, self.before, self.most, self._over = live, resident_mb(live), 0.0, threading.Event()

    def __enter__(self) -> Peak:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._over.wait(0.01):
            self.most = max(self.most, resident_mb(self.live) - self.before)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


# 200 MB: what this attack brings in before it can be told from a sender (docs/security.md has the measurement)
@pytest.mark.parametrize(("where", "size"), [("ingest", 0), ("ingest", 60_000), ("predictions", 0), ("control", 0)])
def test_a_message_that_never_ends_is_cut_off(live: Live, where: str, size: int) -> None:
    before = refused(live, where, "flood")
    with Peak(live) as peak:
        attacks.endless_frames(getattr(live, where), KINDS[where], size, 20.0)
    assert refused(live, where, "flood") == before + 1
    assert peak.most < 400, "without an end to it, 20 s of it are several GB"
    still_serves(live, 1)


def test_a_frame_too_long_ends_the_connection_before_it_is_there(live: Live) -> None:
    with Peak(live) as peak, attacks.shake(live.ingest, b"PUSH") as s:
        s.sendall(b"\x02" + (1 << 40).to_bytes(8, "big"))
        wait_for(lambda: attacks.ended(s), "it is hung up on")
    assert peak.most < 50
    for where in ("predictions", "control"):
        with attacks.shake(getattr(live, where), KINDS[where]) as s:
            s.sendall(b"\x02" + (70_000).to_bytes(8, "big"))
            wait_for(lambda: attacks.ended(s), "it is hung up on")


def test_a_sender_faster_than_the_daemon_is_no_enemy(live: Live) -> None:
    def junk() -> float:
        return live.metric("spiked_messages_rejected_total", reason="magic")

    before, cut, n = junk(), refused(live, "ingest", "flood"), 150
    with closing(live.push()) as push, Peak(live) as peak:
        for _ in range(n):
            push.send_multipart([b"cam0/", bytes(64), bytes(BIG)])
        wait_for(lambda: junk() == before + n, "all have been taken, and none twice")
    assert refused(live, "ingest", "flood") == cut
    assert peak.most < 100, "no more than a queue of them waits"


def test_subscriptions_without_end_are_cut_off(live: Live) -> None:
    before = refused(live, "predictions", "flood")
    with Peak(live) as peak:
        attacks.subscribe_to_everything(live.predictions, 20.0)
    assert refused(live, "predictions", "flood") == before + 1 and peak.most < 60
    still_serves(live, 2)  # and what it asked for is forgotten


def test_requests_without_end_keep_no_message_waiting(live: Live) -> None:
    over, sender = threading.Event(), Sender("cam0", CAM0, 3)
    nobody_listens(live)
    asking = threading.Thread(target=attacks.ask_without_end, args=(live.control, 60.0, over))
    asking.start()
    try:
        with closing(live.push()) as push, closing(live.subscribe("cam0/")) as subscriber:
            for k in range(200):
                push.send_multipart(sender.reset(50_000 * k))
            assert len([p for p in drain(subscriber, 199) if p.get("final")]) == 199
            assert asking.is_alive(), "the requests still come"
    finally:
        over.set()
        asking.join()


def test_one_connection_too_many_is_refused_and_those_before_are_not(live: Live) -> None:
    def counted(reason: str) -> list[float]:
        return [refused(live, where, reason) for where in KINDS]

    def present() -> list[float]:
        return [live.metric("spiked_connections", socket=where) for where in KINDS]

    wait_for(lambda: present() == [0, 0, 0], f"nobody is there, and not {present()}", 20)
    full, unfinished = counted("full"), counted("unfinished")
    files = len(list((proc(live) / "fd").iterdir()))
    with contextlib.ExitStack() as stack:
        crowds = [stack.enter_context(attacks.crowd(getattr(live, w), 30)) for w in KINDS]
        wait_for(lambda: counted("full") == [n + 24 for n in full], "six are let in, and the others counted")
        assert [sum(not attacks.ended(s) for s in held) for held in crowds] == [6, 6, 6]
        assert len(list((proc(live) / "fd").iterdir())) < files + 30
        wait_for(lambda: all(attacks.ended(s) for held in crowds for s in held), "who does not shake hands must go", 20)
    wait_for(lambda: counted("unfinished") == [n + 6 for n in unfinished], "which is counted")
    still_serves(live, 4)


def test_http_takes_a_few_at_a_time(live: Live) -> None:
    before = refused(live, "http", "full")
    with attacks.crowd(live.http, 14, b"GET /metrics HTTP/1.1\r\n") as held:
        wait_for(lambda: sum(attacks.ended(s) for s in held) >= 6, "those too many are hung up on")
    wait_for(lambda: refused(live, "http", "full") >= before + 6, "and counted")


class Slow:
    """An HTTP server of little patience."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http, "PATIENCE_S", 0.5)
        self.refused: list[tuple[str, str]] = []
        yes: Callable[[], tuple[bool, str]] = lambda: (True, "yes")  # noqa: E731
        self.server = http.HttpServer(
            "127.0.0.1", 0, CollectorRegistry(), yes, yes, 4, lambda *what: self.refused.append(what)
        )
        self.endpoint = f"http://127.0.0.1:{self.server.port}"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    server = Slow(monkeypatch)
    yield server
    server.server.close()


def test_a_request_that_takes_its_time_is_ended(slow: Slow) -> None:
    with attacks.dial(slow.endpoint, b"GET /healthz HTTP/1.1\r\n") as s:

        def ended_though_it_goes_on() -> bool:
            try:
                s.sendall(b"X")
            except OSError:
                return True
            return attacks.ended(s)

        wait_for(ended_though_it_goes_on, "it is ended", 10)
    assert slow.refused == [("http", "unfinished")]


@pytest.mark.parametrize("rest", [b"X" * 70_000 + b"\r\n\r\n", b"X: y\r\n" * 200 + b"\r\n"], ids=["long", "many"])
def test_headers_are_bounded(slow: Slow, rest: bytes) -> None:
    with attacks.dial(slow.endpoint, b"GET /healthz HTTP/1.1\r\n") as s:
        s.sendall(rest)
        assert s.recv(100).startswith(b"HTTP/1.0 431")


def test_a_queue_is_bounded_by_bytes_whatever_its_messages() -> None:
    class Doors:
        def gate(self, name: str, most: int, quota: int) -> int:
            return quota

    for ingest in (
        Ingest(),
        Ingest(max_message_mb=1, queue_mb=64),
        Ingest(max_message_mb=500),
        Ingest(queue_messages=1),
    ):
        waiting = (queue_length(ingest) + 1) * ingest.max_message_mb * 1e6
        assert waiting <= ingest_gate(Doors(), ingest)  # type: ignore[arg-type]
    assert queue_length(Ingest(max_message_mb=1, queue_mb=64)) == 63
    assert queue_length(Ingest(max_message_mb=0.001, queue_mb=64, queue_messages=500)) == 500
    assert queue_length(Ingest(queue_messages=1)) == 2


@pytest.mark.parametrize(("hard", "raised"), [(4096, None), (100_000, (30_264, 100_000))])
def test_descriptors_are_there_for_all_connections(
    monkeypatch: pytest.MonkeyPatch, hard: int, raised: tuple[int, int] | None
) -> None:
    many = {"max_connections": 10_000}
    config = parse_config({
        "stream": [{"id": "a", "width": 8, "height": 8}], "ingest": many, "predictions": many, "control": many,
        "metrics": {"max_connections": 8},
    })  # fmt: skip
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda what: (1024, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: asked.append(limits))
    if raised:
        make_room(config)
        assert asked == [raised]
    else:
        with pytest.raises(
            ConfigError, match=r"with those of .* 30264 descriptors are needed; this system allows 4096"
        ):
            make_room(config)
