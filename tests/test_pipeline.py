"""One message, start to end, without sockets: what a stream says and learns, held to the contract."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiked.io import binner
from spiked.io.events import Geometry, make_events
from spiked.io.sender import Sender
from spiked.io.wire import HEADER, EventCodec, Header
from spiked.service.configfile import parse_config
from spiked.service.knowledge import load_stream, roll_back_stream, stream_arrays, stream_record
from spiked.service.pipeline import Pipeline
from spiked.service.position import MAX_LEAP_STEPS, MAX_LEAP_US
from spiked.service.targets import MAX_PENDING

GEOMETRY = Geometry(8, 8, 2)
STEP_UPDATES = {"update": "step", "optimizer": "sgd", "rate": 0.01}
HEADS = {
    "discriminant": {"network": {}},
    "gradient": {"network": {"head": "gradient"}},
    "gradient by step": {"network": {"head": "gradient"}, "learning": STEP_UPDATES},
    "vectors": {
        "network": {"head": "gradient", "outputs": 2, "classes": []},
        "learning": {"objective": "membrane_mse"},
    },
    "copies": {"network": {}, "memory": {"methods": ["copies", "drift"]}},
    "votes": {"network": {}, "memory": {"methods": ["copies"], "copies_drawn": 2, "copies_vote": True}},
    "rehearsing": {
        "network": {"head": "gradient"},
        "memory": {
            "methods": ["average", "cascade", "ewc", "novelty", "pseudo", "replay", "si"], "replay_windows": 2,
            "budget_mb": 0.05, "pseudo_windows": 1, "average_windows": 4,
        },
    },
}  # fmt: skip


def pipeline(network=None, learning=None, every_ms=10.0, memory=None, **stream):
    return Pipeline(
        parse_config(
            {
                "predictions": {"every_ms": every_ms},
                "network": {"layers": [{"neurons": 10, "threshold": 0.6}], "classes": ["a", "b"], **(network or {})},
                "learning": {"window_ms": 50.0, "memory_ms": 500.0, **(learning or {})},
                "memory": memory or {},
                "stream": [{"id": "cam0", "width": 8, "height": 8, **stream}],
            }
        )
    )


def sender(epoch=1, stream="cam0"):
    return Sender(stream, GEOMETRY, epoch)


def shown(label, begin_ms, end_ms, seed=0, per_ms=4):
    """Events of a thing seen: class 0 on the left, class 1 on the right, a little of everything else."""
    rng = np.random.default_rng([seed, label, begin_ms])
    n = (end_ms - begin_ms) * per_ms
    t = np.sort(rng.integers(begin_ms * 1000, end_ms * 1000, n))
    x = np.where(rng.random(n) < 0.9, rng.integers(0, 4, n) + 4 * label, rng.integers(0, 8, n))
    return make_events(t, x, rng.integers(0, 8, n), rng.integers(0, 2, n))


def in_order(messages):
    """The same messages, numbered as they are sent."""
    return [[f[0], f[1][:8] + struct.pack("<Q", k) + f[1][16:], f[2]] for k, f in enumerate(messages)]


def feed(p, messages):
    return [said for frames in messages for said in p.handle(frames)]


def heard(predictions):
    """All that a prediction says but for its number and when its message came."""
    return [
        (s.t_us, s.step, s.class_, s.label, s.confidence, s.scores, s.spikes, s.final, s.learning, s.updates, s.target)
        for s in predictions
    ]


def rejected(p):
    return {reason: n for (_, reason), n in p.wire.rejected.items()}


def cam(p):
    return p.streams["cam0"]


def sample(s, label, begin, end, say=True, reset=True, value=None):
    """Messages of one labelled sample, its target first."""
    out = [s.target(label if value is None else value, begin * 1000, end * 1000)] if say else []
    out.append(s.events(shown(label, begin, end), end * 1000))
    return [*out, s.reset(end * 1000)] if reset else out


def finals(predictions):
    return [s for s in predictions if s.final]


# What is said, and when


def test_a_prediction_every_10_ms_of_stream_time():
    p, s = pipeline(), sender()
    said = feed(p, [s.events(shown(0, 3, 57), 57_400), s.events(shown(0, 58, 90), 90_000)])
    assert [q.t_us for q in said] == [10_000 * k for k in range(1, 10)]
    assert [q.step for q in said] == [10 * k for k in range(1, 10)]
    assert [q.seq for q in said] == list(range(9))
    assert not any(q.final for q in said) and all(len(q.scores) == 2 and len(q.spikes) == 1 for q in said)


def test_a_prediction_as_json():
    p, s = pipeline(), sender()
    frames = sample(s, 1, 0, 100)
    said = [q for f in frames for q in p.handle(f, arrived_s=5.0)]
    json = msgspec.json.decode(said[-1].to_json(5.25))
    assert list(json) == ["v", "stream", "seq", "t_us", "class", "label", "confidence", "scores", "spikes", "step",
                          "latency_us", "learning", "updates", "final"]  # fmt: skip
    assert (json["v"], json["stream"], json["t_us"], json["step"], json["latency_us"]) == (
        1,
        "cam0",
        100_000,
        100,
        250_000,
    )
    assert json["final"] is True and json["updates"] == 2 and json["learning"] is True


@pytest.mark.parametrize("target", [(0, 100), (0, 0), (20, 60), None])
@pytest.mark.parametrize("end_us", [100_000, 100_500, 96_000])
def test_one_final_prediction_at_a_reset_or_end_of_target(target, end_us):
    p, s = pipeline(), sender()
    messages = [] if target is None else [s.target("b", target[0] * 1000, target[1] * 1000)]
    events = shown(1, 0, 105)
    messages += [s.events(events[events["t"] < end_us], end_us), s.reset(end_us)]
    messages += [s.events(shown(1, 120, 150), 150_000), s.reset(150_000), s.reset(150_000)]
    expected = [end_us // 1000 * 1000, 150_000]
    if target == (20, 60):
        expected.insert(0, 60_000)
    if target == (0, 100) and end_us == 96_000:  # the target holds on into what follows
        expected.insert(1, 100_000)
    assert [q.t_us for q in finals(feed(p, messages))] == expected


def test_windows_within_a_target_teach_but_are_not_final():
    p, s = pipeline(), sender()
    said = feed(p, sample(s, 0, 0, 200))
    assert [q.t_us for q in finals(said)] == [200_000]
    assert cam(p).stats.updates == 4 and cam(p).stats.judged == 4
    assert [q.updates for q in said if q.t_us % 50_000 == 0] == [1, 2, 3, 4]


def test_a_window_that_ends_with_the_reset_teaches_once():
    for last in (0, 50_000, 100_000):
        p, s = pipeline(), sender()
        said = feed(p, [s.target("a", 0, last), s.events(shown(0, 0, 50), 50_000), s.reset(50_000)])
        assert cam(p).stats.updates == 1 and cam(p).learner.head.examples.tolist() == [1, 0]
        assert [q.t_us for q in finals(said)] == [50_000]


def test_an_open_target_ends_with_the_next_one_also_when_that_comes_in_time():
    """A target that begins exactly where the stream stands closes the one before as if it had been known."""
    digests, lines = [], []
    for known in (True, False):
        p, s = pipeline(), sender()
        first = [s.target("a", 0), s.events(shown(0, 0, 30), 30_000)]
        messages = [first[0], s.target("b", 30_000), first[1]] if known else [*first, s.target("b", 30_000)]
        said = feed(p, in_order([*messages, s.events(shown(1, 30, 60), 60_000), s.reset(60_000)]))
        lines.append([(q.t_us, q.scores, q.updates, q.target) for q in finals(said)])
        digests.append(cam(p).weight_digest())
        assert cam(p).learner.head.examples.tolist() == [1, 1]
    assert lines[0] == lines[1] and digests[0] == digests[1]


@pytest.mark.parametrize("head", ["discriminant", "gradient"])
def test_predict_then_learn(head):
    """A label never shows in the predictions of its own first window, its closing one included."""
    said = []
    for say in (True, False):
        p, s = pipeline(**HEADS[head]), sender()
        feed(p, [*sample(s, 0, 0, 100), *sample(s, 1, 100, 200)])
        said.append(feed(p, sample(s, 1, 200, 250, say, reset=False)))
    assert [(q.t_us, q.scores, q.class_, q.spikes) for q in said[0]] == [
        (q.t_us, q.scores, q.class_, q.spikes) for q in said[1]
    ]
    assert len(said[0]) == 5 and said[0][-1].target == 1 and said[1][-1].target == -1


def test_it_learns():
    p, s = pipeline(), sender()
    for k in range(20):
        said = feed(p, sample(s, k % 2, k * 50, k * 50 + 50))
        if k >= 10:
            assert finals(said)[0].class_ == k % 2
    assert cam(p).stats.accuracy > 0.8


@pytest.mark.parametrize("head", ["gradient", "gradient by step", "vectors"])
def test_weights_stay_while_learning_is_off(head):
    p, s = pipeline(**HEADS[head]), sender()
    value = np.array([1, 0], np.float32) if head == "vectors" else "a"
    feed(p, sample(s, 0, 0, 100, value=value))
    cam(p).learning = False
    feed(p, [s.events(shown(0, 100, 130), 130_000)])
    learnt = cam(p).weight_digest()
    feed(
        p,
        [
            s.target(value, 130_000),
            s.events(shown(0, 130, 220), 220_000),
            s.target(value, 100_000, 150_000),
            s.reset(220_000),
        ],
    )
    assert cam(p).weight_digest() == learnt and rejected(p) == {}
    cam(p).learning = True
    feed(p, sample(s, 1, 220, 320, value=value))
    assert cam(p).weight_digest() != learnt


def test_nothing_is_learnt_while_learning_is_off():
    p, s = pipeline(learning={"enabled": False}), sender()
    feed(p, sample(s, 0, 0, 100))
    p.handle(s.target("a", 0, 50_000))
    assert cam(p).learner.head.examples.tolist() == [0, 0] and cam(p).stats.updates == 0
    assert rejected(p) == {}
    assert not any(q.learning for q in feed(p, sample(s, 0, 100, 200)))


# However the stream is cut


def cut_script(cuts_of, late_target, codec=EventCodec.TXYP13):
    """Messages of four samples, one target late, one reset within a step, with each sample's events cut up."""
    s = sender()
    out = []
    for k, (begin, end_us) in enumerate([(0, 100_000), (100, 180_400), (181, 300_000), (300, 420_000)]):
        label = k % 2
        end = -(-end_us // 1000)
        events = shown(label, begin, end, per_ms=2)
        events = events[events["t"] < end_us]
        if k != 2:
            out.append(s.target(label, begin * 1000, end_us // 1000 * 1000))
        at = 0
        for cut in [*cuts_of(k, len(events)), len(events)]:
            mark = int(events["t"][cut]) if cut < len(events) else end_us
            out.append(s.events(events[at:cut], mark, codec))
            at = cut
        if k != 3:
            out.append(s.reset(end_us))
        if k == 3 and late_target:
            out.append(s.target(0, 181_000, 300_000))
    return out


@pytest.mark.parametrize("head", [h for h in HEADS if h != "vectors"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_how_a_stream_is_cut_does_not_show(head, data):
    late = data.draw(st.booleans())
    extra = {
        "refractory_us": data.draw(st.sampled_from([0, 900])),
        "hot_pixel_hz": data.draw(st.sampled_from([0.0, 20.5])),
    }
    one, many = (pipeline(**HEADS[head], **extra) for _ in range(2))
    cuts = st.lists(st.integers(0, 150), max_size=6)
    a = feed(one, cut_script(lambda k, n: [], late))
    chosen = [sorted(data.draw(cuts)) for _ in range(4)]
    b = feed(
        many,
        cut_script(lambda k, n: [c for c in chosen[k] if c < n], late, data.draw(st.sampled_from(list(EventCodec)))),
    )
    assert heard(a) == heard(b)
    assert cam(one).weight_digest() == cam(many).weight_digest()
    assert rejected(one) == rejected(many) == {} and cam(many).stats.lost == 0


def test_events_of_an_open_step_may_come_in_any_order():
    events = shown(0, 0, 100)
    said = []
    for mix in (False, True):
        p, s = pipeline(jitter_us=1000), sender()
        messages = []
        for ms in range(0, 100, 5):
            part = events[(events["t"] >= ms * 1000) & (events["t"] < ms * 1000 + 5000)]
            messages.append(s.events(part[::-1] if mix else part, ms * 1000 + 5000))
        said.append(heard(feed(p, messages)))
        assert rejected(p) == {} and cam(p).binner.dropped["late"] == 0
    assert said[0] == said[1]


# Late targets


@pytest.mark.parametrize("head", [h for h in HEADS if h not in ("gradient by step", "rehearsing")])
@pytest.mark.parametrize("length", [50, 100, 130])
def test_a_late_target_teaches_as_a_prompt_one(head, length):
    """After its events, and after the reset too: the same bits. (With the gradient, as no learning came between.)"""
    digests = []
    for late in (False, True):
        p, s = pipeline(**HEADS[head]), sender()
        value = np.array([1, 0], np.float32) if head == "vectors" else "a"
        before, messages = sample(s, 1, 0, 30, say=False), sample(s, 0, 30, 30 + length, value=value)
        feed(p, in_order([*before, *([*messages[1:], messages[0]] if late else messages)]))
        assert cam(p).stats.updates == max(1, round(length / 50))
        digests.append(cam(p).weight_digest())
        assert rejected(p) == {}
    assert digests[0] == digests[1]


def test_a_late_target_of_an_earlier_sample():
    """The samples' order in time does not matter to the discriminant's statistics, and neither do steps in between."""
    counts = []
    for late in (False, True):
        p, s = pipeline(), sender()
        messages = [sample(s, k % 2, 50 * k, 50 * k + 50) for k in range(4)]
        order = [m for group in messages for m in (group[1:] if late else group)]
        feed(p, in_order(order + ([group[0] for group in messages] if late else [])))
        head = cam(p).learner.head
        counts.append((head.examples.tolist(), head.mean.tolist(), head.weight.tolist()))
    assert counts[0] == counts[1]


def test_a_late_target_over_a_reset_teaches_each_part_as_it_would_have():
    digests = []
    for late in (False, True):
        p, s = pipeline(), sender()
        t = s.target("a", 0, 60_000)
        rest = [s.events(shown(0, 0, 30), 30_400), s.reset(30_400), s.events(shown(0, 31, 60), 60_000), s.reset(60_000)]
        feed(p, in_order([*rest, t] if late else [t, *rest]))
        digests.append((cam(p).learner.head.examples.tolist(), cam(p).weight_digest()))
    assert digests[0] == digests[1] and digests[0][0] == [2, 0]


def test_a_target_beyond_the_memory_is_refused_and_changes_nothing():
    p, s = pipeline(), sender()
    feed(p, [s.events(shown(0, 0, 100), 100_000), s.events(shown(0, 100, 2000, per_ms=1), 2_000_000)])
    before = state_of(p)
    p.handle(s.target("new", 0, 50_000))
    assert rejected(p) == {"time": 1}
    assert cam(p).classes == ["a", "b"] and cam(p).learner.n_out == 2
    assert same_state(before, state_of(p), but=("rejected",))
    p.handle(s.target("a", 1_450_000, 1_500_000))
    assert rejected(p) == {"time": 1} and cam(p).learner.head.examples.tolist() == [1, 0]


def test_a_target_before_the_stream_began_is_not_on():
    p, s = pipeline(), sender()
    said = feed(p, [s.target("a", 0, 5000), s.events(shown(0, 10, 60), 60_000), s.reset(60_000)])
    assert cam(p).stats.updates == 0 and {q.target for q in said} == {-1}


def test_unlabelled_from_a_moment_that_has_passed():
    p, s = pipeline(), sender()
    feed(p, [s.target("a", 0), s.events(shown(0, 0, 30), 30_000)])
    said = feed(p, [s.target(-1, 25_000), s.events(shown(0, 30, 60), 60_000)])
    assert [(q.t_us, q.final, q.target) for q in said] == [
        (30_000, True, 0), (40_000, False, -1), (50_000, False, -1), (60_000, False, -1),
    ]  # fmt: skip


# Classes and vectors


def test_a_new_name_is_a_new_class():
    p, s = pipeline(network={"classes": []}), sender()
    said = feed(p, [s.events(shown(0, 0, 20), 20_000)])
    assert said == []  # nothing is known yet: nothing to say
    feed(p, sample(s, 0, 20, 60, value="left"))
    said = feed(p, sample(s, 1, 60, 100, value="right"))
    assert cam(p).classes == ["left", "right"] and {len(q.scores) for q in said} == {2}
    assert finals(feed(p, sample(s, 0, 100, 150, say=False)))[0].label == "left"
    assert finals(feed(p, sample(s, 1, 150, 200, say=False)))[0].label == "right"


def test_no_more_classes_than_max_classes():
    p, s = pipeline(network={"max_classes": 3}), sender()
    feed(p, [s.target("c", 0), s.target("d", 10_000), s.target(3, 20_000), s.target("a", 30_000)])
    assert cam(p).classes == ["a", "b", "c"] and rejected(p) == {"target": 2} and len(cam(p).schedule) == 2


def test_targets_that_a_stream_cannot_take():
    p, s = pipeline(), sender()
    for value in (2, -2, 0.5, np.array([1, 2], np.float32)):
        p.handle(s.target(value, 0))
    assert rejected(p) == {"target": 4} and cam(p).stats.messages["target"] == 0
    p, s = pipeline(**HEADS["vectors"]), sender()
    for value in (0, "a", 0.5, np.array([1, 2, 3], np.float32)):
        p.handle(s.target(value, 0))
    assert rejected(p) == {"target": 4} and cam(p).classes == []


def test_a_vector_may_open_an_epoch():
    p, s = pipeline(**HEADS["vectors"]), sender(1)
    vector = np.array([1, -1], np.float32)
    feed(p, [s.target(vector, 0, 50_000), s.events(shown(0, 0, 50), 50_000)])
    assert cam(p).stats.updates == 1 and np.isfinite(cam(p).stats.loss)
    s = sender(2)
    said = feed(p, [s.target(vector, 0, 50_000), s.events(shown(0, 0, 50), 50_000)])
    assert cam(p).stats.updates == 2 and finals(said)[-1].target == 0 and finals(said)[-1].class_ == -1


def test_vectors_are_learnt():
    p, s = (
        pipeline(network=HEADS["vectors"]["network"], learning={"objective": "membrane_mse", "rate": 0.002}),
        sender(),
    )
    wanted = np.array([[0.5, -0.5], [-0.5, 0.5]], np.float32)
    for k in range(80):
        said = feed(p, sample(s, k % 2, 50 * k, 50 * k + 50, value=wanted[k % 2]))
        if k >= 70:
            assert np.sign(finals(said)[0].scores).tolist() == np.sign(wanted[k % 2]).tolist()


def test_open_vectors_without_end_never_fill_the_table():
    p, s = pipeline(**HEADS["vectors"]), sender()
    for k in range(3 * MAX_PENDING):
        p.handle(s.target(np.array([k, k], np.float32), k * 1000))
        p.handle(s.events(shown(0, 0, 0), (k + 1) * 1000))
    assert rejected(p) == {} and len(cam(p).teaching.vectors) < 100
    interval = cam(p).schedule.intervals[-1]
    assert cam(p).teaching.vectors[interval.label].tolist() == [k, k]


def test_a_flood_of_targets_is_refused():
    p, s = pipeline(), sender()
    for k in range(MAX_PENDING + 5):
        p.handle(s.target(k % 2, 1_000_000 + k * 1000))
    assert rejected(p) == {"target": 5} and len(cam(p).schedule) == MAX_PENDING


# The place in the stream


def test_gaps_are_losses_and_refused_messages_are_not():
    p, s = pipeline(), sender()
    messages = [s.events(shown(0, 5 * k, 5 * k + 5), 5000 * k + 5000) for k in range(20)]
    feed(p, messages[:3])
    feed(p, messages[5:8])
    assert cam(p).stats.lost == 2
    feed(p, [[messages[8][0], messages[8][1], messages[8][2] + b"x"], *messages[9:12]])
    assert (cam(p).stats.lost, rejected(p)) == (2, {"size": 1})
    feed(p, [s.target("zz" * 40, 0), *messages[13:15]])
    assert (cam(p).stats.lost, rejected(p)) == (2, {"size": 2})
    assert cam(p).stats.messages == {"events": 11, "target": 0, "reset": 0}


def test_a_refused_late_target_is_no_loss_and_hides_none():
    p, s = pipeline(), sender()
    feed(p, [s.events(shown(0, 0, 100), 100_000), s.events(shown(0, 100, 2000, per_ms=1), 2_000_000)])
    p.handle(s.target("a", 0, 50_000))  # refused
    s.reset(2_000_000)  # lost
    p.handle(s.events(shown(0, 2000, 2010), 2_010_000))
    assert rejected(p) == {"time": 1} and cam(p).stats.lost == 1


@pytest.mark.parametrize("late", ["drop", "clamp"])
def test_time_that_runs_backwards(late):
    p, s = pipeline(jitter_us=1000, late=late), sender()
    feed(p, [s.events(shown(0, 0, 50), 50_000)])
    behind = make_events([48_999, 50_500], 0, 0, 0)
    before = state_of(p)
    p.handle(s.events(behind, 50_900))
    if late == "drop":
        assert rejected(p) == {"time": 1} and same_state(before, state_of(p), but=("rejected",))
        p.handle(s.events(make_events([49_000, 50_500], 0, 0, 0), 50_900))
        assert rejected(p) == {"time": 1} and cam(p).binner.dropped["late"] == 1
    else:
        assert rejected(p) == {} and (cam(p).binner.clamped, cam(p).binner.waiting) == (1, 2)
    p.handle(s.reset(1000))
    assert rejected(p) == ({"time": 2} if late == "drop" else {})
    assert cam(p).binner.next_step == 50 and cam(p).position.watermark_us == 50_900


def test_a_reset_a_little_behind_the_watermark_does_not_turn_time_back():
    p, s = pipeline(), sender()
    feed(p, [s.events(make_events([10_000, 50_500], 0, 0, 0), 50_200), s.reset(49_500)])
    assert rejected(p) == {} and cam(p).binner.next_step == 50
    said = feed(p, [s.events(make_events([51_000], 0, 0, 0), 70_000)])
    assert [q.t_us for q in said] == [60_000, 70_000]


def test_a_reset_within_a_step_parts_its_events():
    p, s = pipeline(), sender()
    feed(p, [s.events(shown(0, 0, 50), 50_000), s.events(make_events([50_100, 50_600], [0, 7], 0, 0), 50_000)])
    feed(p, [s.reset(50_500)])
    assert (cam(p).binner.next_step, cam(p).binner.waiting) == (50, 1)
    assert cam(p).learner.state()["trace"].max() == 0


def test_a_new_epoch_is_a_reset_and_a_new_beginning():
    p, one, two = pipeline(), sender(1), sender(2)
    feed(p, [one.target("a", 0), one.events(shown(0, 0, 100), 100_000), one.target("b", 400_000)])
    said = feed(p, [two.events(shown(0, 0, 100), 100_000)])
    assert [q.t_us for q in finals(said)] == [100_000]
    fresh = feed(pipeline(), [sender(2).events(shown(0, 0, 100), 100_000)])
    assert [(q.t_us, q.spikes) for q in said[1:]] == [(q.t_us, q.spikes) for q in fresh]
    assert {q.target for q in said[1:]} == {-1} and len(cam(p).schedule) == 0
    assert cam(p).stats.lost == 0 and cam(p).binner.next_step == 100


def test_the_same_moment_of_a_new_epoch_has_its_own_final():
    p = pipeline()
    for epoch in (1, 2, 3):
        s = sender(epoch)
        said = feed(p, [s.target("a", 0), s.events(shown(0, 0, 40), 40_000), s.reset(40_000)])
        assert [(q.t_us, q.target) for q in finals(said)][-1] == (40_000, 0)
    assert cam(p).stats.updates == 3


def test_a_sender_that_begins_again_at_0_is_a_new_epoch():
    p = pipeline()
    feed(p, [sender(1).events(shown(0, 0, 100), 100_000)])
    feed(p, [sender(1).events(shown(0, 0, 20), 20_000)])
    assert rejected(p) == {} and cam(p).binner.next_step == 20 and cam(p).stats.lost == 0


def test_an_hour_of_silence():
    """Sender says nothing for an hour: a leap, after which stream time begins anew."""
    p, s = pipeline(), sender()
    feed(p, [s.target("a", 0), s.events(shown(0, 0, 40), 40_000)])
    said = feed(p, [s.target("b", 3_600_000_000), s.events(shown(0, 0, 0), 3_600_000_000)])
    assert [q.t_us for q in finals(said)] == [40_000] and cam(p).stats.updates == 1
    assert cam(p).binner.next_step == 3_600_000 and cam(p).stats.steps == 40
    said = feed(p, [s.events(shown(0, 3_600_000, 3_600_010), 3_600_010_000)])
    assert [(q.t_us, q.target) for q in said] == [(3_600_010_000, 1)]


def test_ten_minutes_of_silence_are_steps():
    p, s = pipeline(every_ms=10_000.0), sender()
    said = feed(p, [s.events(shown(0, 0, 40), 40_000), s.events(shown(0, 0, 0), MAX_LEAP_US)])
    assert cam(p).stats.steps == MAX_LEAP_US // 1000 == cam(p).binner.next_step
    assert len(said) == 60


def test_a_watermark_that_runs_away_is_refused():
    p, s = pipeline(), sender()
    events = shown(0, 0, 40)
    feed(p, [s.events(events, MAX_LEAP_US + 10_000_000)])
    assert rejected(p) == {"time": 1} and cam(p).stats.steps == 0
    feed(p, [s.events(events, 40_000)])
    assert cam(p).stats.steps == 40 and cam(p).stats.lost == 0


def test_short_steps_make_a_leap_shorter():
    """The bound is in steps too, for events that reach ahead and for a silence between messages."""
    p, s = pipeline(dt_ms=0.01, every_ms=1000.0), sender()
    far = MAX_LEAP_STEPS * 10
    feed(p, [s.events(shown(0, 0, 0), 0), s.events(shown(0, 0, 40), 40_000)])
    before = state_of(p)
    feed(p, [s.events(make_events([41_000], 0, 0, 0), 41_000 + far + 10)])
    assert rejected(p) == {"time": 1} and same_state(before, state_of(p), but=("rejected",))
    said = feed(p, [s.events(shown(0, 0, 0), 40_000 + far + 10)])
    assert rejected(p) == {"time": 1} and cam(p).stats.steps == 4000
    assert [q.t_us for q in finals(said)] == [40_000] and cam(p).binner.next_step == 4000 + MAX_LEAP_STEPS + 1


@pytest.mark.parametrize("late", ["drop", "clamp"])
def test_a_watermark_that_stands_still_does_not_fill_the_memory(late, monkeypatch):
    monkeypatch.setattr(binner, "MAX_WAITING", 300)
    p, s = pipeline(late=late, jitter_us=1000), sender()
    ahead = shown(0, 20, 45)  # 100 events
    feed(p, [s.events(shown(0, 0, 0), 20_000), *(s.events(ahead, 20_000) for _ in range(3))])
    assert rejected(p) == {} and cam(p).binner.waiting == 300
    before = state_of(p)
    p.handle(s.events(ahead[:1], 20_000))
    assert rejected(p) == {"count": 1} and same_state(before, state_of(p), but=("rejected",))
    p.handle(s.events(make_events([19_500], 0, 0, 0), 20_000))  # late: dropped, or moved to the step that waits
    refused = 2 if late == "clamp" else 1
    assert rejected(p) == {"count": refused} and cam(p).binner.dropped["late"] == 2 - refused
    p.handle(s.events(shown(0, 20, 21)[:1], 21_000))  # room again, for the steps that it runs itself
    assert rejected(p) == {"count": refused} and cam(p).binner.next_step == 21 and cam(p).binner.waiting < 300
    p.handle(s.events(np.concatenate([ahead] * 4), 45_000))
    assert rejected(p) == {"count": refused} and cam(p).binner.waiting == 0 and cam(p).stats.lost == 0
    many = np.concatenate([ahead] * 4)
    p.handle(sender(2).events(many, 20_000))
    assert rejected(p) == {"count": refused + 1} and cam(p).position.epoch == 1
    p.handle(sender(2).events(many, 45_000))
    assert rejected(p) == {"count": refused + 1} and cam(p).binner.next_step == 45


@pytest.mark.parametrize("codec", list(EventCodec))
def test_a_message_takes_no_more_memory_the_more_it_brings(codec):
    """Once as much has been there: what is allocated for a message is the same at 40 and at 4,000 events."""

    def peak(per_ms):
        p, s = pipeline(), sender()
        p.handle(s.target("a", 0))
        messages = [s.events(shown(0, k, k + 10, per_ms=per_ms), 1000 * (k + 10), codec) for k in range(0, 1200, 10)]
        feed(p, in_order(messages)[:100])
        last = in_order(messages)[100:]
        tracemalloc.start()
        try:
            feed(p, last)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(4), peak(400)
    assert many < few + 8_000  # 4,000 events are 16 KB at the least as they come, and 52 in full


def test_the_age_of_a_message_by_its_senders_clock():
    def sent(frames, ns):
        return [frames[0], frames[1][:32] + struct.pack("<Q", ns) + frames[1][40:], frames[2]]

    p, s = pipeline(), sender()
    feed(p, [sent(s.events(shown(0, 0, 20), 20_000), 0), sent(s.target("a", 0), 0)])
    assert cam(p).stats.lag_s == 0.0
    p.handle(sent(s.target("zz" * 40, 0), 1))  # refused
    assert cam(p).stats.lag_s == 0.0
    p.handle(sent(s.events(shown(0, 20, 40), 40_000), 1_000_000_000))
    assert cam(p).stats.lag_s > 1e9  # sent in 1970
    p.handle(s.reset(40_000))
    assert 0.0 <= cam(p).stats.lag_s < 1000.0


def test_big_times():
    base_ms = (1 << 61) // 1000
    p, s = pipeline(refractory_us=10, hot_pixel_hz=1000.0), sender()
    events = shown(0, 0, 40)
    events["t"] += base_ms * 1000
    said = feed(p, [s.events(events, (base_ms + 40) * 1000), s.reset((base_ms + 40) * 1000)])
    assert finals(said)[0].t_us == (base_ms + 40) * 1000
    assert cam(p).stats.spikes.sum() > 0


# Checkpoints


def state_of(p):
    """Arrays and record, the record as it comes back from JSON."""
    stream = cam(p)
    arrays = {k: v.copy() for k, v in stream_arrays(stream).items()}
    return arrays, msgspec.json.decode(msgspec.json.encode(stream_record(stream)))


def same_state(one, two, but=()):
    arrays = one[0].keys() == two[0].keys() and all(
        v.dtype == two[0][k].dtype and v.shape == two[0][k].shape and v.tobytes() == two[0][k].tobytes()
        for k, v in one[0].items()
    )
    return arrays and {k: v for k, v in one[1].items() if k not in but} == {
        k: v for k, v in two[1].items() if k not in but
    }


def checkpoint_script(head):
    """Samples with targets early, late, open, nested and by a new name; a reset within a step; another epoch."""
    s, t = sender(5), sender(6)

    def value(label):
        return np.array([label, 1 - label], np.float32) if head == "vectors" else label

    out = [s.target(value(0), 0), s.events(shown(0, 0, 30), 30_200), s.events(shown(0, 31, 60), 60_000)]
    out += [s.target(value(1), 60_000, 140_000), s.target(value(0), 90_000, 100_000), s.target(value(1), 300_000)]
    out += [s.events(shown(1, 60 + k, 67 + k), (67 + k) * 1000) for k in range(0, 84, 7)]
    out += [s.reset(144_400), s.target(value(0), 0, 60_000), s.events(shown(0, 145, 200), 200_300)]
    if head != "vectors":
        out.append(s.target("new", 190_000, 230_000))
    out += [s.events(shown(1, 201, 330), 330_000), s.reset(330_000)]
    out += [
        t.events(shown(1, 0, 20), 20_500),
        t.target(value(1), 0),
        t.events(shown(1, 21, 60), 60_000),
        t.reset(61_000),
    ]
    return out


@pytest.mark.parametrize("head", HEADS)
def test_a_loaded_checkpoint_goes_on_with_the_same_bits(head):
    extra = {"refractory_us": 700, "hot_pixel_hz": 30.0}
    messages = checkpoint_script(head)
    straight = pipeline(**HEADS[head], **extra)
    states, said = [state_of(straight)], []
    for frames in messages:
        said.append(heard(straight.handle(frames)))
        states.append(state_of(straight))
    assert rejected(straight) == {} and cam(straight).stats.updates > 5
    for cut in range(len(messages) + 1):
        resumed = pipeline(**HEADS[head], **extra)
        arrays = {k: v.copy() for k, v in states[cut][0].items()}
        load_stream(cam(resumed), arrays, states[cut][1])
        assert same_state(states[cut], state_of(resumed))
        assert [heard(resumed.handle(frames)) for frames in messages[cut:]] == said[cut:]
        assert same_state(states[-1], state_of(resumed)), cut
        assert cam(resumed).weight_digest() == cam(straight).weight_digest()


def test_a_checkpoint_is_a_copy():
    p, s = pipeline(), sender()
    feed(p, sample(s, 0, 0, 100))
    taken = stream_arrays(cam(p)), stream_record(cam(p))
    kept = state_of(p)
    feed(p, sample(s, 1, 100, 200, value="new"))
    assert same_state(kept, (taken[0], msgspec.json.decode(msgspec.json.encode(taken[1]))))


@pytest.mark.parametrize("head", ["discriminant", "gradient"])
def test_a_checkpoint_of_fewer_classes_and_of_more(head):
    """Classes came since, by the configuration or by name: the old ones keep their numbers, the new ones get room."""
    old, s = pipeline(**HEADS[head]), sender()
    feed(old, sample(s, 0, 0, 50) + sample(s, 1, 50, 100))
    saved = state_of(old)
    wider = pipeline(network={**HEADS[head]["network"], "classes": ["z", "a", "b"]})
    load_stream(cam(wider), *saved)
    assert cam(wider).classes == ["a", "b", "z"] and cam(wider).learner.n_out == 3
    feed(wider, sample(s, 0, 100, 150, value="z"))
    assert rejected(wider) == {}
    grown = state_of(wider)
    narrow = pipeline(**HEADS[head])
    load_stream(cam(narrow), *grown)
    assert cam(narrow).classes == ["a", "b", "z"]
    load_stream(cam(narrow), *saved)  # back to fewer, in a running pipeline
    assert cam(narrow).classes == ["a", "b"] and cam(narrow).weight_digest() == cam(old).weight_digest()


def test_rolling_back_keeps_later_classes_by_name():
    p, s = pipeline(), sender()
    feed(p, sample(s, 0, 0, 50))
    saved = state_of(p)
    feed(p, sample(s, 1, 50, 100, value="new"))
    roll_back_stream(cam(p), *saved)
    assert cam(p).classes == ["a", "b", "new"] and cam(p).learner.head.examples.tolist() == [1, 0, 0]
    assert cam(p).binner.next_step == 100
    feed(p, sample(s, 1, 100, 150, value="new"))
    assert cam(p).learner.head.examples.tolist() == [1, 0, 1] and rejected(p) == {}


def test_a_state_of_another_network_changes_nothing():
    p, other = pipeline(), pipeline(network={"layers": [{"neurons": 11}]})
    feed(p, sample(sender(), 0, 0, 50))
    before = state_of(p)
    with pytest.raises(ValueError, match=r"net\.weight"):
        load_stream(cam(p), *state_of(other))
    assert same_state(before, state_of(p))


# Whatever comes in


FIELDS = {"kind": 8, "codec": 8, "header_size": 16, "seq": 64, "t_first": 64, "t_last": 64, "count": 32, "epoch": 32,
          "planes": 16, "flags": 16, "payload_bytes": 32}  # fmt: skip


@st.composite
def damaged(draw):
    """A message of a fresh sender with damage to its header or its payload; most such headers have a right checksum."""
    s = sender(draw(st.integers(1, 2)))
    s.seq = draw(st.integers(0, 3))
    at = draw(st.integers(0, 100))
    value = draw(st.sampled_from([0, 1, -1, "a", "new", 0.5, np.zeros(2, np.float32)]))
    frames = draw(st.sampled_from([
        s.events(shown(0, at, at + 10), (at + 10) * 1000, EventCodec(draw(st.integers(1, 4)))),
        s.target(value, at * 1000, draw(st.sampled_from([0, (at + 10) * 1000]))), s.reset(at * 1000 + 500),
    ]))  # fmt: skip
    header = dict(zip(Header._fields, HEADER.unpack(frames[1])))
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=2)):
        top = (1 << FIELDS[name]) - 1
        near = st.integers(-2, 2).map(lambda d, n=name, m=top: max(0, min(m, header[n] + d)))
        header[name] = draw(
            st.one_of(near, st.integers(0, min(top, 2_000_000)), st.sampled_from([top, min(top, 1 << 61)]))
        )
    if draw(st.booleans()):
        frames[2] = frames[2][: draw(st.integers(0, len(frames[2])))] + draw(st.binary(max_size=16))
        header["payload_bytes"], header["crc"] = len(frames[2]), zlib.crc32(frames[2])
    return [frames[0], struct.pack(HEADER.format, *header.values()), frames[2]]


@pytest.mark.parametrize("head", ["discriminant", "vectors"])
@settings(max_examples=120, deadline=None)
@given(junk=st.lists(damaged(), max_size=6))
def test_nothing_stops_the_pipeline(head, junk):
    p = pipeline(**HEADS[head], dt_ms=10.0, every_ms=10_000.0)
    for frames in junk:
        before, refused = state_of(p), p.wire.refused
        p.handle(frames)
        if p.wire.refused > refused:  # dropped whole: nothing but the count of refusals has changed
            assert same_state(before, state_of(p), but=("rejected",))
    s = sender(77)
    said = feed(p, [s.events(shown(0, 0, 50), 50_000), s.reset(50_000)])
    if said or cam(p).classes or head == "vectors":
        assert finals(said)[-1].t_us == 50_000
    assert cam(p).binner.next_step == 5
    assert all(np.isfinite(v).all() for k, v in stream_arrays(cam(p)).items() if v.dtype.kind == "f")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=100), st.just(b"cam0/")), max_size=4))
def test_random_frames_are_refused(frames):
    p = pipeline()
    assert p.handle(frames) == [] and sum(p.wire.rejected.values()) == 1
