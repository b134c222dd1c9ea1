"""Faults that are really caused, in short: the programs of `benchmarks/faults` run them for long."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import pytest
import zmq
from live import Live, drain, wait_for

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks" / "faults"))
import hostile  # noqa: E402
import kill9  # noqa: E402
import soak  # noqa: E402
import storm  # noqa: E402
from common import endless, looks  # noqa: E402

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("head", ("discriminant", "gradient"))
def test_killed_at_random_moments_it_goes_on_bit_for_bit(tmp_path: Path, head: str) -> None:
    figures = kill9.run(tmp_path, 4, 0.2, head, seed=1)
    assert figures["resumed"] > 0 and figures["messages"] > 0 and figures["set_aside"] == 0
    assert figures["most_lost_s"] < 1.0, "an interval is 0.2 s"


def test_hostile_messages_are_all_counted_and_change_nothing(tmp_path: Path) -> None:
    figures = hostile.run(tmp_path, 6000, 100, seed=2)
    assert figures["equal"] and figures["good"] == 60 and figures["predictions"] > 0
    assert figures["rejected"] > 5000 and figures["reasons"] > 12


@pytest.mark.parametrize("mode", ("sub", "pull"))
def test_a_storm_is_shed_counted_and_over(tmp_path: Path, mode: str) -> None:
    figures = storm.run(tmp_path, seconds=1.0, times=20.0, mode=mode, max_lag_ms=5.0, calm_s=1.0)
    assert figures["taken"] + figures["lost"] == figures["messages"]
    assert figures["warned"] and figures["shed"] > 0


def test_hours_pass_and_nothing_grows(tmp_path: Path) -> None:
    figures = soak.run(tmp_path, 0.05)
    assert figures["lost"] == 0 and figures["updates"] > 100
    assert figures["threads_grown"] == 0 and figures["descriptors_grown"] <= 4  # a scrape that is on its way
    assert figures["resident_mb_last"] - figures["resident_mb_first"] < 20


def test_watchers_without_manners_do_not_disturb(tmp_path: Path) -> None:
    """Ten that scrape, half-open connections on every port, and subscribers that go without a word."""
    samples = looks(20)
    names = sorted({name for name, *_ in samples})
    with Live(tmp_path, hostile.text(names)) as live:
        ports = [int(e.rsplit(":", 1)[1]) for e in (live.ingest, live.predictions, live.control, live.http)]
        half_open = [socket.create_connection(("127.0.0.1", port)) for port in ports * 10]
        for k, s in enumerate(half_open):
            s.sendall((b"\xff\0\0\0\0\0\0\0\1\x7f", b"GET /metr")[k % 2])  # a greeting, a request: begun, and no more
        over, answers = threading.Event(), []

        def scrape() -> None:
            while not over.is_set():
                answers.append(live.get("/metrics")[0])

        scrapers = [threading.Thread(target=scrape, daemon=True) for _ in range(10)]
        for thread in scrapers:
            thread.start()
        listener, push, source = live.subscribe("cam0/"), live.push(), endless(samples)
        for _ in range(30):
            with live.context.socket(zmq.SUB) as passing:
                passing.subscribe(b"")
                passing.connect(live.predictions)
                for _ in range(4):
                    push.send_multipart(next(source))
        assert len([p for p in drain(listener, 30) if p.get("final")]) == 30
        over.set()
        for thread in scrapers:
            thread.join()
        assert set(answers) == {200} and len(answers) >= 10
        for s in half_open:
            s.close()
        wait_for(lambda: live.ask(do="status")["subscribers"] == 1, "those that went are not counted any more")
        assert live.status()["lost"] == 0 and live.metric("spiked_messages_rejected_total") == 0
