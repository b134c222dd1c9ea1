"""What gives way under overload, level by level, and in a real daemon: counted, and back again."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from live import Live, wait_for

from spiked.io.events import Geometry, make_events
from spiked.io.sender import Sender
from spiked.service.configfile import parse_config
from spiked.service.overload import FREE, SHEDS, WAITS, Overload
from spiked.service.pipeline import Pipeline

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile


def test_levels_rise_one_after_the_other_and_fall_at_half() -> None:
    load = Overload("cam0", 0.1)
    # (seconds behind, level): the sender's clock is an hour ahead of ours
    for k, (behind, level) in enumerate(
        [(0.0, FREE), (0.099, FREE), (0.11, WAITS), (0.199, WAITS), (0.21, SHEDS), (0.11, SHEDS), (0.09, WAITS),
         (0.06, WAITS), (0.049, FREE), (0.3, SHEDS), (0.0, FREE)]
    ):  # fmt: skip
        now = 1e6 + 1e-3 * k
        load.follow(int((now + 3600 - behind) * 1e9), now)
        assert load.level == level, (k, behind)
        assert load.behind_s == pytest.approx(behind, abs=1e-5)


def test_clocks_that_drift_apart_are_no_overload() -> None:
    """A day in which the sender's clock loses 50 us a second: 4.3 s in the end."""
    load = Overload("cam0", 0.1)
    for second in range(86_400):
        load.follow(int(second * (1 - 5e-5) * 1e9) + 10**18, second + 1e9)
        assert load.level == FREE


def test_a_clock_that_was_set_is_no_overload_for_long() -> None:
    load = Overload("cam0", 0.1)
    back, levels = 0.0, []
    for second in range(3000):
        back = 3600.0 if second >= 1500 else 1.0 if second >= 100 else 0.0  # by a second, then by an hour
        load.follow(int((second + 1e9 - back) * 1e9), second + 1e9)
        levels.append(load.level)
    assert not any(levels[:100]) and levels[100] == SHEDS  # a second: who can tell?
    assert not any(levels[100 + 601 :])


def test_nothing_gives_way_where_nobody_asked_or_nobody_says_when() -> None:
    for load, sent in ((Overload("a", 0.0), [10**9, 1]), (Overload("a", 0.1), [0, 0])):
        for ns in sent:
            load.follow(ns, 100.0)
            assert load.level == FREE


def frames(sender: Sender, k: int, behind_s: float, now_s: float = 1e6) -> list[bytes]:
    """Message k: 20 events within 10 ms, sent so long ago."""
    rng = np.random.default_rng(k)
    t = np.sort(rng.integers(k * 10_000, (k + 1) * 10_000, 20))
    with mock.patch("spiked.io.sender.time.time_ns", return_value=int((now_s - behind_s) * 1e9)):
        return sender.events(make_events(t, *rng.integers(0, 8, (2, 20)), rng.integers(0, 2, 20)), (k + 1) * 10_000)


CONFIG = {
    "ingest": {"max_lag_ms": 100.0},
    "network": {"layers": [{"neurons": 10, "threshold": 0.6}], "classes": ["a", "b"]},
    "learning": {"window_ms": 10.0},
    "stream": [{"id": "cam0", "width": 8, "height": 8}],
}


def test_learning_waits_then_events_are_shed_while_time_and_predictions_go_on() -> None:
    pipeline, sender = Pipeline(parse_config(CONFIG)), Sender("cam0", Geometry(8, 8), 1)
    cam = pipeline.streams["cam0"]
    with mock.patch("spiked.service.pipeline.time.time", return_value=1e6):
        with mock.patch("spiked.io.sender.time.time_ns", return_value=int(1e15)):
            pipeline.handle(sender.target(0, 0))
        for k in range(3):
            pipeline.handle(frames(sender, k, 0.0))
        learnt, known = cam.stats.updates, cam.weight_digest()
        assert learnt == 3 and cam.overload.level == FREE
        for k in range(3, 6):
            said = pipeline.handle(frames(sender, k, 0.15))
            assert len(said) == 1 and not said[0].learning
        assert cam.overload.level == WAITS and cam.overload.windows == 3 and cam.overload.events == 0
        assert (cam.stats.updates, cam.weight_digest()) == (learnt, known)
        for k in range(6, 10):
            assert len(pipeline.handle(frames(sender, k, 0.25))) == 1
        assert (cam.overload.level, cam.overload.events, cam.overload.steps) == (SHEDS, 80, 40)
        assert cam.binner.next_step == 100 and cam.stats.steps == 100 and cam.stats.events == 200
        assert (cam.stats.updates, cam.weight_digest()) == (learnt, known)
        pipeline.handle(frames(sender, 10, 0.0))
        assert cam.overload.level == FREE and cam.stats.updates == learnt + 1 and cam.weight_digest() != known


def test_a_sender_that_begins_anew_sheds_its_own_steps_alone() -> None:
    pipeline = Pipeline(parse_config(CONFIG))
    cam, first, second = pipeline.streams["cam0"], *(Sender("cam0", Geometry(8, 8), epoch) for epoch in (1, 2))
    with mock.patch("spiked.service.pipeline.time.time", return_value=1e6):
        pipeline.handle(frames(first, 0, 0.0))
        pipeline.handle(frames(first, 1, 0.25))
        assert (cam.overload.level, cam.overload.steps) == (SHEDS, 10)
        pipeline.handle(frames(second, 1_000_000, 0.25))
    assert (cam.overload.level, cam.overload.steps, cam.overload.events) == (SHEDS, 20, 40)


def test_late_labels_that_do_not_teach_under_overload_are_counted_and_a_request_teaches_all_the_same() -> None:
    pipeline, sender = Pipeline(parse_config(CONFIG)), Sender("cam0", Geometry(8, 8), 1)
    cam = pipeline.streams["cam0"]
    with (
        mock.patch("spiked.service.pipeline.time.time", return_value=1e6),
        mock.patch("spiked.io.sender.time.time_ns", side_effect=lambda: int((1e6 - behind) * 1e9)),
    ):
        behind = 0.0
        for k in range(3):
            pipeline.handle(frames(sender, k, 0.0))
        behind = 0.15
        pipeline.handle(sender.target(1, 0, 20_000))
        assert cam.overload.level == WAITS and (cam.overload.windows, cam.stats.updates) == (2, 0)
        cam.teach_late(1, 0, 20)
        assert cam.stats.updates == 2
        behind = 0.0
        pipeline.handle(sender.target(1, 0, 20_000))
        assert cam.overload.level == FREE and (cam.overload.windows, cam.stats.updates) == (2, 4)


def test_a_real_daemon_sheds_counts_and_recovers(tmp_path: Path) -> None:
    text = """
[ingest]
max_lag_ms = 200
[network]
layers = [{ neurons = 10 }]
classes = ["a", "b"]
[[stream]]
id = "cam0"
width = 8
height = 8
"""
    import time

    with Live(tmp_path, text) as live:
        push, sender = live.push(), Sender("cam0", Geometry(8, 8), 1)
        for k in range(3):
            push.send_multipart(frames(sender, k, 0.0, time.time()))
        for k in range(3, 6):
            push.send_multipart(frames(sender, k, 5.0, time.time()))
        live.wait_seq(5)
        assert live.status()["overload"] == "events are shed"
        assert live.metric("spiked_overload", stream="cam0") == 2
        assert live.metric("spiked_events_dropped_total", stream="cam0", reason="shed") == 60
        assert live.metric("spiked_steps_shed_total", stream="cam0") == 30
        push.send_multipart(frames(sender, 6, 0.0, time.time()))
        live.wait_seq(6)
        wait_for(lambda: live.status()["overload"] == "none", "nothing gives way any more")
        assert "events are shed" in live.log()
        assert live.metric("spiked_messages_lost_total", stream="cam0") == 0
