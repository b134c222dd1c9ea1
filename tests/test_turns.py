"""Whose turn it is: two senders on one stream, numbers that have gone by, senders that begin anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiked.io.events import Geometry, make_events
from spiked.io.sender import Sender
from spiked.service.configfile import parse_config
from spiked.service.knowledge import capture, restore
from spiked.service.pipeline import Pipeline
from spiked.service.position import REPLACED, WINDOW

CONFIG: dict[str, Any] = {
    "network": {"layers": [{"neurons": 10, "threshold": 0.6}], "classes": ["a", "b"]},
    "stream": [{"id": "cam0", "width": 8, "height": 8}],
}


def message(sender: Sender, k: int) -> list[bytes]:
    """Five events in the k-th 10 ms."""
    t = np.arange(5) * 2000 + k * 10_000
    return sender.events(make_events(t, np.arange(5), np.arange(5), np.ones(5, int)), (k + 1) * 10_000)


def sender(epoch: int) -> Sender:
    return Sender("cam0", Geometry(8, 8), epoch)


def refused(pipeline: Pipeline) -> dict[str, int]:
    return {reason: n for (_, reason), n in pipeline.wire.rejected.items()}


def test_of_two_senders_the_newest_is_heard_and_nobody_is_reset_by_the_other() -> None:
    pipeline, one, two = Pipeline(parse_config(CONFIG)), sender(1), sender(2)
    cam = pipeline.streams["cam0"]
    pipeline.handle(message(one, 0))
    for k in range(5):
        pipeline.handle(message(two, k))
        pipeline.handle(message(one, k + 1))
    assert refused(pipeline) == {"epoch": 5}
    assert (cam.position.epoch, cam.position.restarts, cam.binner.next_step) == (2, 1, 50)
    assert cam.stats.messages["events"] == 6 and cam.stats.lost == 0


def test_one_that_was_replaced_may_begin_anew() -> None:
    pipeline, one, two = Pipeline(parse_config(CONFIG)), sender(1), sender(2)
    for s in (one, two, sender(1)):
        pipeline.handle(message(s, 0))
    pipeline.handle(message(two, 1))  # now it is the other that was replaced
    assert refused(pipeline) == {"epoch": 1}
    assert pipeline.streams["cam0"].position.epoch == 1 and pipeline.streams["cam0"].position.restarts == 2


def test_only_so_many_are_remembered() -> None:
    pipeline = Pipeline(parse_config(CONFIG))
    for epoch in range(1000):
        pipeline.handle(message(sender(epoch), 0))
    assert list(pipeline.streams["cam0"].position.replaced) == list(range(999 - REPLACED, 999))


@given(st.lists(st.integers(0, 19), max_size=40))
def test_what_is_sent_again_counts_once(again: list[int]) -> None:
    """A sender that repeats what it is not sure of: the stream is that of one that does not."""
    one, other = Pipeline(parse_config(CONFIG)), Pipeline(parse_config(CONFIG))
    s = sender(1)
    messages = [message(s, k) for k in range(20)]
    repeats = 0
    for k, frames in enumerate(messages):
        one.handle(frames)
        other.handle(frames)
        for j in again:
            if 0 < j <= k and k % 7 == j % 7:
                other.handle(messages[j])
                repeats += 1
    cam, like = one.streams["cam0"], other.streams["cam0"]
    assert refused(other) == ({"seq": repeats} if repeats else {})
    assert like.stats.lost == 0 and like.stats.events == cam.stats.events == 100
    for name, array in cam.learner.state().items():
        assert np.array_equal(array, like.learner.state()[name]), name


@given(st.permutations(range(12)))
def test_numbers_in_any_order_are_taken_once(order: list[int]) -> None:
    """Heartbeats of one moment, so that only their numbers tell them apart."""
    pipeline, s = Pipeline(parse_config(CONFIG)), sender(1)
    messages = [s.events(make_events([], [], [], []), 10_000) for _ in range(12)]
    for k in order:
        pipeline.handle(messages[k])
    position = pipeline.streams["cam0"].position
    assert pipeline.wire.refused == 0 and position.restarts == 0 and position.next_seq == 12
    for k in order:
        if k:
            pipeline.handle(messages[k])
    assert refused(pipeline) == {"seq": 11}


def test_what_comes_too_late_is_refused() -> None:
    pipeline, s = Pipeline(parse_config(CONFIG)), sender(1)
    messages = [s.events(make_events([], [], [], []), 10_000) for _ in range(WINDOW + 3)]
    for k in (0, WINDOW + 1, 1, WINDOW + 2, 2, 3):  # of the last 64 at each moment: 1 is too late, 2 too
        pipeline.handle(messages[k])
    assert refused(pipeline) == {"seq": 2}
    assert pipeline.streams["cam0"].stats.lost == WINDOW


def test_losses_are_counted_as_before_while_others_repeat() -> None:
    pipeline, s = Pipeline(parse_config(CONFIG)), sender(1)
    messages = [message(s, k) for k in range(6)]
    for k in (0, 1, 1, 1, 2, 5):  # 3 and 4 are lost
        pipeline.handle(messages[k])
    assert refused(pipeline) == {"seq": 2} and pipeline.streams["cam0"].stats.lost == 2


@pytest.mark.parametrize("epoch", (1, 2))
def test_a_restart_of_the_daemon_remembers_whose_turn_it_is(epoch: int) -> None:
    pipeline, again, one, two = Pipeline(parse_config(CONFIG)), Pipeline(parse_config(CONFIG)), sender(1), sender(2)
    pipeline.handle(message(one, 0))
    pipeline.handle(message(two, 0))
    restore(again, *capture(pipeline))
    again.handle(message(one if epoch == 1 else two, 1))
    assert refused(again) == ({"epoch": 1} if epoch == 1 else {})
