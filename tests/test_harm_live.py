"""Harm undone in a running daemon: what the log, the metrics, the control socket and the checkpoints say of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from live import Live, wait_for
from test_harm import READY, Sensor

from spiked.service.guard import LONG

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

CONFIG = """
[predictions]
every_ms = 30.0
[network]
layers = [{ neurons = 10, threshold = 0.6 }]
classes = ["a", "b"]
[learning]
window_ms = 30.0
memory_ms = 300.0
[memory]
exam_mb = 0.2
exam_every = 1
[[stream]]
id = "cam0"
width = 8
height = 8
"""


def test_a_daemon_goes_back_says_so_and_resumes_when_it_is_told(tmp_path: Path) -> None:
    sensor = Sensor()
    with Live(tmp_path, CONFIG) as live:
        push = live.push()

        def show(windows: int, say: str) -> None:
            frames = [f for _ in range(windows) for f in sensor.frames(say)]
            for f in frames:
                push.send_multipart(f)
            live.wait_seq(sensor.sender.seq - 1)

        show(READY, "truth")
        good = live.ask(do="checkpoint")["name"]
        assert live.status()["care"]["state"] == "well" and live.status()["care"]["exam"]["samples"] > 10
        show(2 * LONG, "anything")
        care = live.status()["care"]
        (reason,) = care["rollbacks"]
        assert care["state"] == "frozen" and care["harm"] == reason and live.status()["learning"] is False
        assert live.metric("spiked_rollbacks_total", stream="cam0", reason=reason) == 1
        assert live.metric("spiked_learning_enabled", stream="cam0") == 0
        wait_for(lambda: "learning did harm" in live.log(), "the log says so")
        assert live.log().count("learning did harm") == 1
        doubtful = live.ask(do="checkpoint")["name"]
        assert live.ask(do="rollback", name=doubtful) == {"ok": True, "name": doubtful, "good": False}
        answer = live.ask(do="rollback")
        assert answer["name"] == good and answer["good"]
        assert live.ask(do="unfreeze")["learning"] and live.status()["care"]["state"] == "well"
        assert "told to" in live.log()
        push.close()
