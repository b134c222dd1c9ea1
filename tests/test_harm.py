"""Harm that learning did: noticed, undone, waited out; what is honest is left alone. Through the real pipeline."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from spiked.io.events import Events, Geometry, make_events
from spiked.io.sender import Sender
from spiked.learners.contract import Steps
from spiked.service.checkpoints import CheckpointStore
from spiked.service.config import Memory
from spiked.service.configfile import learner_digest, parse_config
from spiked.service.control import _let_learn, _stream_status
from spiked.service.guard import (
    KNOWN,
    LATELY,
    LONG,
    SETTLED,
    Guard,
    at_least,
    at_most,
    by_chance,
    has_fallen,
    known_after,
)  # fmt: skip
from spiked.service.knowledge import capture, restore, roll_back
from spiked.service.metrics import DaemonStats, SpikedCollector
from spiked.service.pipeline import Pipeline, Stream
from spiked.service.probe import ANEW, Probe
from spiked.service.vitals import Vitals, trouble

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

GEOMETRY = Geometry(8, 8, 2)
READY = 2 * KNOWN + SETTLED + LATELY + 10
"""Windows after which it is known what is usual, and a good state is kept."""


def pipeline(network: Any = None, learning: Any = None, **memory: Any) -> Pipeline:
    return Pipeline(
        parse_config(
            {
                "predictions": {"every_ms": 30.0},
                "network": {"layers": [{"neurons": 10, "threshold": 0.6}], "classes": ["a", "b"], **(network or {})},
                "learning": {"window_ms": 30.0, "memory_ms": 300.0, **(learning or {})},
                "memory": {"exam_mb": 0.2, "exam_every": 1, **memory},
                "stream": [{"id": "cam0", "width": 8, "height": 8}],
            }
        )
    )


def cam(p: Pipeline) -> Stream:
    return p.streams["cam0"]


class Sensor:
    """Shows class 0 on the left and class 1 on the right for 30 ms at a time, and says what it is, or something else.

    `late`: the label comes after the sample.
    """

    def __init__(self, late: bool = False) -> None:
        self.sender, self.now, self.k, self.late = Sender("cam0", GEOMETRY, 1), 0, 0, late
        self.rng = np.random.default_rng(4)

    def events(self, label: int, n: int = 90) -> Events:
        t = np.sort(self.rng.integers(self.now, self.now + 30_000, n))
        x = self.rng.integers(0, 4, n) + 4 * label
        return make_events(t, x, self.rng.integers(0, 8, n), self.rng.integers(0, 2, n))

    def frames(self, say: str = "truth", label: int | None = None, n: int = 90) -> list[list[bytes]]:
        label = int(self.rng.integers(2)) if label is None else label
        said = {"truth": label, "anything": int(self.rng.integers(2)), "nothing": -1}[say]
        events, a, b = self.events(label, n), self.now, self.now + 30_000
        self.now, self.k = b, self.k + 1
        target = [] if say == "nothing" else [(said, a, b)]
        before = [self.sender.target(*t) for t in target] if not self.late else []
        shown = [self.sender.events(events, b), self.sender.reset(b)]
        return [*before, *shown, *([self.sender.target(*t) for t in target] if self.late else [])]

    def show(self, p: Pipeline, windows: int, say: str = "truth", **how: Any) -> list[Any]:
        out = [q for _ in range(windows) for f in self.frames(say, **how) for q in p.handle(f)]
        assert not p.wire.refused, p.wire.last_refusal
        return out

    def until(self, p: Pipeline, state: str, say: str, most: int) -> int:
        """Show until the caretaker is in a state; how many windows it took."""
        for k in range(1, most + 1):
            self.show(p, 1, say)
            if (cam(p).care.held or "well") == state:  # type: ignore[union-attr]
                return k
        raise AssertionError(f"not {state} after {most} windows")


HEADS: dict[str, dict[str, Any]] = {"discriminant": {}, "gradient": {"network": {"head": "gradient"}}}
MORE: dict[str, dict[str, Any]] = {
    **HEADS,
    "copies": {"methods": ["copies"]},
    "average and replay": {
        "network": {"head": "gradient"}, "methods": ["average", "replay"], "average_windows": 20.0, "budget_mb": 0.05,
        "replay_windows": 1,
    },
    "stdp": {"learning": {"rule": "stdp"}},
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("late", [False, True])
def test_wrong_labels_are_undone_and_learning_waits_until_they_are_right_again(
    head: str, late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    p, sensor = pipeline(**HEADS[head]), Sensor(late)
    stream = cam(p)
    care = stream.care
    assert care is not None and care.exam is not None
    digests = {}
    for k in range(READY):
        sensor.show(p, 1)
        digests[k + 1] = stream.weight_digest()
    assert not care.held and care.good and care.guard.settled and care.summary(["a", "b"])["rollbacks"] == {}
    kept = care.exam.samples
    caplog.set_level(logging.INFO, "spiked.caretaker")
    took = sensor.until(p, "frozen", "anything", 3 * LONG)
    assert took <= LONG + LATELY
    assert stream.weight_digest() == digests[care.last_good.at] and care.last_good.at <= READY + 5
    assert care.exam.samples <= kept + 25 and care.guard.usual > 0.9
    assert not stream.learning and sum(care.rollbacks.values()) == 1 and not care.good
    frozen = stream.weight_digest()
    said = sensor.show(p, 2 * LONG, "anything")
    assert care.held == "frozen" and stream.weight_digest() == frozen and sum(care.rollbacks.values()) == 1
    assert all(not q.learning for q in said) and said, "it predicts on"
    back = sensor.until(p, "well", "truth", 3 * LATELY)
    assert LATELY / 2 <= back <= LATELY + 5 and stream.learning
    sensor.show(p, 30)
    assert stream.weight_digest() != frozen and care.good and sum(care.rollbacks.values()) == 1
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"], "said once, and once that it is over"
    assert "back to the state of" in caplog.text and "agree" in caplog.text


@pytest.mark.parametrize("head", HEADS)
def test_honest_streams_are_left_alone(head: str) -> None:
    p, sensor = pipeline(**HEADS[head]), Sensor()
    sensor.show(p, 60)
    sensor.show(p, 60, label=0)  # one class alone for a while, then the other
    sensor.show(p, 60, label=1)
    sensor.show(p, 30, "nothing")
    sensor.show(p, 30)
    assert cam(p).care.rollbacks == {} and cam(p).learning  # type: ignore[union-attr]


def test_nobody_is_asked_and_nothing_undone_where_it_is_off() -> None:
    p, sensor = pipeline(exam_mb=0), Sensor()
    sensor.show(p, READY)
    sensor.show(p, 2 * LONG, "anything")
    assert cam(p).care is None and cam(p).learning and _stream_status(cam(p))["care"] is None


def test_the_digest_of_the_learner_does_not_depend_on_it() -> None:
    assert len({learner_digest(cam(pipeline(exam_mb=mb)).config) for mb in (0.0, 0.2, 3.0)}) == 1


def test_the_exam_does_not_show_in_what_is_said() -> None:
    one, other, sensor = pipeline(), pipeline(exam_mb=0), Sensor()
    for _ in range(40):
        for frames in sensor.frames():
            a, b = one.handle(frames), other.handle(frames)
            assert [(q.scores, q.spikes, q.updates) for q in a] == [(q.scores, q.spikes, q.updates) for q in b]
    assert cam(one).weight_digest() == cam(other).weight_digest() and cam(one).care.exam.asked > 10  # type: ignore


@pytest.mark.parametrize("head", MORE)
def test_it_does_not_matter_how_the_stream_is_cut(head: str) -> None:
    whole, cut = pipeline(**MORE[head]), pipeline(**MORE[head])
    rng, now = np.random.default_rng(9), 0
    many, few = Sender("cam0", GEOMETRY, 1), Sender("cam0", GEOMETRY, 1)
    for part in range(8):  # 20 windows in one message, or in many
        sensor = Sensor()
        sensor.rng, sensor.now = np.random.default_rng(part), now
        events = []
        for _ in range(20):
            label = int(rng.integers(2))
            said = label if part < 5 else int(rng.integers(2))
            events.append(sensor.events(label))
            for p, sender in ((whole, few), (cut, many)):
                assert p.handle(sender.target(said, sensor.now, sensor.now + 30_000)) == []
            sensor.now += 30_000
        joined = np.concatenate(events)
        a = whole.handle(few.events(joined, sensor.now))
        b = []
        for t in range(now, sensor.now, 17_000):
            end = min(t + 17_000, sensor.now)
            b += cut.handle(many.events(joined[(joined["t"] >= t) & (joined["t"] < end)], end))
        assert [(q.t_us, q.scores, q.learning) for q in a] == [(q.t_us, q.scores, q.learning) for q in b]
        now = sensor.now
    assert cam(whole).care.record() == cam(cut).care.record() and cam(whole).care.rollbacks  # type: ignore[union-attr]
    assert cam(whole).weight_digest() == cam(cut).weight_digest()


@pytest.mark.parametrize("head", ["discriminant", "average and replay"])
@pytest.mark.parametrize("at", [15, READY + 1, READY + 20, READY + LONG + 20, READY + 2 * LONG + 5])
def test_a_checkpoint_goes_on_bit_for_bit(at: int, head: str) -> None:
    p, sensor = pipeline(**MORE[head]), Sensor()
    story = ["truth"] * READY + ["anything"] * 2 * LONG + ["truth"] * 60
    for say in story[:at]:
        sensor.show(p, 1, say)
    frames = sensor.frames(story[at])  # in the midst of a window
    [p.handle(f) for f in frames[:1]]
    arrays, record = capture(p)
    twin = pipeline(**MORE[head])
    restore(twin, arrays, record)
    assert record["good"] == cam(p).care.good  # type: ignore[union-attr]
    for say in story[at:]:
        for f in frames[1:]:
            mine, its = p.handle(f), twin.handle(f)
            assert [(q.scores, q.learning) for q in mine] == [(q.scores, q.learning) for q in its]
        frames = sensor.frames(say)
        assert p.handle(frames[0]) == twin.handle(frames[0]) == []
    (a, ra), (b, rb) = capture(p), capture(twin)
    assert ra == rb and a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
    assert sum(cam(p).care.rollbacks.values()) == 1  # type: ignore[union-attr]


def test_a_checkpoint_of_before_the_exam_and_one_of_another_size_are_taken() -> None:
    p, sensor = pipeline(), Sensor()
    sensor.show(p, 50)
    arrays, record = capture(p)
    bigger = pipeline(exam_mb=0.01)
    restore(bigger, arrays, record)
    assert cam(bigger).care.exam.samples == 0 and cam(bigger).weight_digest() == cam(p).weight_digest()  # type: ignore
    old = {k: v for k, v in arrays.items() if "/care." not in k}
    del record["good"], record["streams"]["cam0"]["care"]
    restore(bigger, old, record)
    sensor.show(bigger, 30)


# The network itself


def break_(stream: Stream, how: str) -> None:
    learner = stream.learner
    if how == "weights":
        learner.net.weight[3] = np.nan
    elif how == "head":
        learner.head.weight[:] = np.inf  # type: ignore[union-attr]
    elif how == "grown":
        learner.head.weight[:] *= 1e4  # type: ignore[union-attr]
    else:
        learner.net.weight[:] = -1


@pytest.mark.parametrize(
    ("how", "reason"), [("weights", "non_finite"), ("head", "non_finite"), ("grown", "norm"), ("silent", "silent")]
)
def test_a_broken_network_is_put_back(how: str, reason: str) -> None:
    p, sensor = pipeline(exam_every=10_000), Sensor()  # else the exam might be the first to notice
    stream = cam(p)
    sensor.show(p, 100)
    good = stream.weight_digest()
    break_(stream, how)
    assert stream.care is not None
    for _ in range(30):
        sensor.show(p, 1)
        if stream.care.rollbacks:
            break
    assert stream.care.rollbacks == {reason: 1} and stream.weight_digest() == good
    sensor.until(p, "well", "truth", 2 * LATELY)
    sensor.show(p, 60)
    assert stream.care.good and stream.care.rollbacks == {reason: 1} and np.isfinite(stream.learner.net.weight).all()


def test_vitals() -> None:
    good = Vitals([1.0, 5.0], [0.1, 0.0], 20.0)
    assert trouble(good, None) == trouble(good, good) == ""
    assert trouble(good._replace(norms=[9.9, 49.0]), good) == "" and trouble(good._replace(norms=[10.1, 5.0]), good)
    assert trouble(good._replace(norms=[1.0, float("inf")]), None) == "non_finite"
    assert trouble(good._replace(rates=[0.95, 0.0]), good) == "saturated"
    assert trouble(good._replace(rates=[0.0, 0.0]), good) == "silent"
    assert trouble(good._replace(rates=[0.0, 0.0], events=1.0), good) == "", "it hears nothing"
    assert trouble(good._replace(rates=[0.95, 0.0]), good._replace(rates=[0.9, 0.0])) == "", "it always did"


def test_silence_is_no_harm() -> None:
    p, sensor = pipeline(), Sensor()
    sensor.show(p, 100)
    said = sensor.show(p, 60, "anything", n=0)
    sensor.show(p, 60, "anything", n=2)  # a little noise
    assert cam(p).care.rollbacks == {} and not cam(p).care.guard.in_doubt and len(said) == 60  # type: ignore[union-attr]


def test_a_stream_of_vectors_is_guarded_and_waits_to_be_told() -> None:
    p, sensor = pipeline({"head": "gradient", "outputs": 2, "classes": []}, {"objective": "membrane_mse"}), Sensor()
    stream, care = cam(p), cam(p).care
    assert care is not None and care.exam is None

    def show(windows: int) -> None:
        for _ in range(windows):
            value = np.array([0.5, -0.5], np.float32)
            target, end = sensor.sender.target(value, sensor.now, sensor.now + 30_000), sensor.now + 30_000
            for f in (target, sensor.sender.events(sensor.events(0), end), sensor.sender.reset(end)):
                p.handle(f)
            sensor.now = end

    show(50)
    good = stream.weight_digest()
    stream.learner.net.weight[:] = np.nan
    show(25)
    assert care.rollbacks == {"non_finite": 1} and not stream.learning and stream.weight_digest() == good
    show(50)
    assert care.held == "frozen"
    _let_learn(stream, True)
    show(50)
    assert care.rollbacks == {"non_finite": 1} and care.good and stream.weight_digest() != good


# What is done about it


def test_slow_goes_on_at_a_tenth_of_the_rate() -> None:
    p, sensor = pipeline(**HEADS["gradient"], on_harm="slow"), Sensor()
    stream = cam(p)
    rate = stream.learner.rate
    sensor.show(p, READY)
    sensor.until(p, "slowed", "anything", 2 * LONG)
    assert stream.learning and stream.learner.rate == rate / 10
    sensor.show(p, 60, "anything")
    assert stream.care.held == "slowed" and sum(stream.care.rollbacks.values()) == 1  # type: ignore[union-attr]
    sensor.until(p, "well", "truth", 6 * LATELY)
    assert stream.learner.rate == rate


def test_a_head_without_a_rate_is_frozen() -> None:
    p, sensor = pipeline(on_harm="slow"), Sensor()
    sensor.show(p, READY)
    sensor.until(p, "frozen", "anything", 2 * LONG)


def test_report_only_says_so(caplog: pytest.LogCaptureFixture) -> None:
    p, sensor = pipeline(on_harm="report"), Sensor()
    stream = cam(p)
    sensor.show(p, READY)
    caplog.set_level(logging.INFO, "spiked.caretaker")
    sensor.show(p, 3 * LONG, "anything")
    assert stream.learning and stream.care is not None and stream.care.rollbacks == {}
    assert [r.levelname for r in caplog.records] == ["WARNING"] and "nothing is done about it" in caplog.text
    assert not stream.care.good
    assert _stream_status(stream)["care"]["harm"] in ("labels", "exam")
    sensor.show(p, 4 * LONG)
    assert stream.care.good and "is over" in caplog.text


def test_unfreezing_takes_things_as_they_are() -> None:
    p, sensor = pipeline(), Sensor()
    stream = cam(p)
    sensor.show(p, READY)
    sensor.until(p, "frozen", "anything", 2 * LONG)
    _let_learn(stream, True)
    before = stream.weight_digest()
    sensor.show(p, LONG + 10, "anything")
    assert stream.learning and stream.weight_digest() != before and stream.care.held == ""  # type: ignore[union-attr]
    sensor.show(p, 5)
    _let_learn(stream, False)
    before = stream.weight_digest()
    sensor.show(p, 3 * LATELY)
    assert stream.weight_digest() == before, "frozen by hand, it does not thaw by itself"


def test_a_class_that_came_since_is_known_by_name() -> None:
    p, sensor = pipeline(), Sensor()
    stream = cam(p)
    sensor.show(p, READY)
    p.handle(sensor.sender.target("new", sensor.now, sensor.now + 30_000))
    p.handle(sensor.sender.events(sensor.events(1), sensor.now + 30_000))
    sensor.now += 30_000
    sensor.until(p, "frozen", "anything", 2 * LONG)
    assert stream.classes == ["a", "b", "new"] and stream.learner.n_out == 3
    assert sensor.show(p, 1, "nothing")[-1].label in ("a", "b")


def test_learning_goes_on_where_only_classes_come_that_the_frozen_learner_cannot_know() -> None:
    p, sensor = pipeline(), Sensor()
    stream, care = cam(p), cam(p).care
    assert care is not None
    sensor.show(p, READY)
    sensor.until(p, "frozen", "anything", 2 * LONG)

    def show_new() -> Any:
        end = sensor.now + 30_000
        events = sensor.events(0)
        events["x"] = 3 + events["x"] % 2  # in the middle
        frames = [sensor.sender.target("new", sensor.now, end), sensor.sender.events(events, end)]
        sensor.now = end
        return [q for f in [*frames, sensor.sender.reset(end)] for q in p.handle(f)][-1]

    took = 0
    while care.held:
        assert show_new().label != "new"
        took += 1
    assert KNOWN + LATELY / 2 < took < KNOWN + LONG and stream.learning and care.still.probe is None
    said = [show_new().label for _ in range(20)]
    assert said.count("new") > 12 and sum(care.rollbacks.values()) == 1


def test_status_and_metrics_tell() -> None:
    p, sensor = pipeline(), Sensor()
    stream = cam(p)
    registry = CollectorRegistry()
    registry.register(SpikedCollector(p, DaemonStats()))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"spiked_{name}", {"stream": "cam0", **labels})

    sensor.show(p, READY)
    assert stream.care is not None and stream.care.exam is not None
    exam, status = stream.care.exam, _stream_status(stream)
    assert value("class_accuracy", **{"class": "a"}) == exam.class_accuracy[0]
    assert value("forgetting") == exam.forgetting == pytest.approx(status["forgetting"], abs=1e-4)
    assert status["care"]["state"] == "well" and status["care"]["exam"]["samples"] == exam.samples > 0
    assert value("rollbacks_total", reason="labels") == 0
    sensor.until(p, "frozen", "anything", 2 * LONG)
    (reason,) = stream.care.rollbacks
    assert value("rollbacks_total", reason=reason) == 1 and value("learning_enabled") == 0
    told = _stream_status(stream)["care"]
    assert (told["state"], told["harm"], told["rollbacks"]) == ("frozen", reason, {reason: 1})


def test_a_rollback_by_request_takes_the_newest_good_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for good in (True, True, False, False, False):
        store.save({"a": np.zeros(1)}, {"good": good, "streams": {}})
    names = store.names()
    assert len(names) == 3 and [int(n[:6]) for n in names] == [2, 4, 5], "the newest good one stays beside the newest"
    loaded = store.load_good()
    assert loaded is not None and loaded.name == names[0] and store.load().name == names[-1]  # type: ignore[union-attr]
    store.save({"a": np.zeros(1)}, {"streams": {}})  # of before there were labels
    assert [int(n[:6]) for n in store.names()] == [5, 6] and store.load_good().name == store.names()[-1]  # type: ignore
    (tmp_path / f"{store.names()[-1]}.safetensors").write_bytes(b"")
    assert store.load_good().name == store.names()[0], "none is good, and the newest is damaged"  # type: ignore


def test_after_a_rollback_by_request_nothing_of_before_holds() -> None:
    p, sensor = pipeline(), Sensor()
    sensor.show(p, READY)
    arrays, record = capture(p)
    sensor.show(p, 5)
    roll_back(p, "cam0", arrays, record)
    care = cam(p).care
    assert care is not None and not care.last_good and care.good
    sensor.show(p, 30)
    assert care.last_good


# Chance


def test_chances() -> None:
    rng = np.random.default_rng(0)
    for n, p, k in ((20, 0.9, 15), (40, 0.3, 12), (10, 0.5, 0)):
        assert at_most(k, n, p) == pytest.approx(np.mean(rng.binomial(n, p, 400_000) <= k), abs=4e-3)
    assert at_most(-1, 5, 0.5) == 0 and at_most(5, 5, 0.5) == 1
    assert at_least(3, 10, 0.2) == pytest.approx(1 - at_most(2, 10, 0.2)) and at_least(0, 9, 0.3) == 1
    pairs = [(0, 0), (0, 1), (1, 1), (2, 1)]  # 2/4 * 1/4 + 1/4 * 3/4
    assert by_chance(pairs) == pytest.approx(5 / 16)
    assert has_fallen(12, 20, 0.95, 100) and not has_fallen(18, 20, 0.95, 100) and not has_fallen(0, 0, 0.95, 100)


def guard_after(rng: np.random.Generator, n: int, right: float, classes: int = 10) -> Guard:
    guard = Guard()
    judge(guard, rng, n, right, classes)
    return guard


def judge(guard: Guard, rng: np.random.Generator, n: int, right: float, classes: int = 10) -> list[bool]:
    harm = []
    for _ in range(n):
        label = int(rng.integers(classes))
        said = label if rng.random() < right else int(rng.integers(classes))
        guard.judge(label, said, True)
        harm.append(guard.unrelated)
    return harm


def test_a_harder_scene_is_doubt_and_no_harm_and_in_the_end_how_things_are() -> None:
    doubts = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        guard = guard_after(rng, 300, 0.9)
        assert guard.settled and guard.usual == pytest.approx(0.91, abs=0.1)
        assert not any(judge(guard, rng, 100, 0.4))
        doubts += guard.in_doubt
        judge(guard, rng, 300, 0.4)
        assert not guard.in_doubt
    assert doubts >= 18


def test_labels_without_relation_are_harm_and_those_as_ever_are_not() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        guard = Guard()
        assert not any(judge(guard, rng, 600, 0.85))
        assert any(judge(guard, rng, 2 * LONG, 0.0))
        guard.look_anew()
        assert not guard.agrees_again
        judge(guard, rng, LATELY, 0.0)
        assert not guard.agrees_again
        judge(guard, rng, LATELY + 20, 0.85)


def test_new_classes_do_not_count_at_first() -> None:
    guard = guard_after(np.random.default_rng(0), 300, 0.95, classes=3)
    for _ in range(KNOWN):
        guard.judge(3, 0, True)
    assert not guard.in_doubt and guard.settled


def test_a_mean_of_many_windows_gives_a_new_class_time() -> None:
    assert known_after(Memory()) == KNOWN
    assert known_after(Memory(methods=["average"], average_windows=30.5)) == 31
    assert known_after(Memory(methods=["average"], average_windows=2)) == KNOWN
    slow, quick = Guard(30), Guard(KNOWN)
    for guard in (slow, quick):
        for k in range(200):
            guard.judge(k % 2, k % 2, True)
        for k in range(29):  # of two new classes nothing is known yet
            guard.judge(2 + k % 2, k % 2, True)
            guard.judge(2 + k % 2, k % 2, True)
    assert quick.in_doubt and not slow.in_doubt


def test_a_class_that_a_slow_mean_has_found_once_counts_from_there_on() -> None:
    slow = Guard(1000)
    for k in range(100):
        slow.judge(k % 2, k % 2, True)  # class 0 and 1 are found,
        slow.judge(2, 0, True)  # class 2 is not
    assert slow.settled and not slow.in_doubt
    again = Guard(1000)
    again.load_state(slow.state())
    for guard in (slow, again):
        for k in range(LONG):
            guard.judge(k % 2, k // 2 % 2, True)
        assert guard.in_doubt and guard.unrelated


def test_a_probe_is_given_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = pipeline().streams["cam0"]
    began: list[int] = []
    probe = Probe(stream.config, stream.learner.state(), {})
    begin = probe._begin
    monkeypatch.setattr(probe, "_begin", lambda state: (began.append(probe._shown), begin(state))[1])
    empty = Steps(0, np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    for _ in range(8 * ANEW):
        probe.show(empty, 0)
    assert began == [ANEW, 3 * ANEW, 7 * ANEW]
