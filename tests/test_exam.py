"""The exam: its figures counted by hand, and that no question moves anything, for every kind of learner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spiked.learners.aside import aside
from spiked.learners.contract import CLOSE, Cues, Readouts, Steps, silent_cues
from spiked.learners.trials import random_steps
from spiked.service.build import AnyLearner, build_learner
from spiked.service.configfile import parse_config
from spiked.service.exam import LEAST, MOST, QUARANTINE, RECENT, Exam, answer

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

GRADIENT = {"head": "gradient"}
RECURRENT = {"head": "gradient", "layers": [{"neurons": 10, "threshold": 0.6, "recurrent": True}]}
LEARNERS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "copies": {"memory": {"methods": ["copies"]}},
    "gradient": {"network": GRADIENT},
    "average": {"network": GRADIENT, "memory": {"methods": ["average"]}},
    "average and replay": {
        "network": GRADIENT,
        "memory": {"methods": ["average", "replay"], "budget_mb": 0.05, "replay_windows": 1},
    },
    "drift and copies": {"memory": {"methods": ["drift", "copies"]}},
    "penalties": {"network": GRADIENT, "memory": {"methods": ["ewc"]}},
    "made up": {"network": GRADIENT, "memory": {"methods": ["pseudo", "novelty", "cascade"]}},
    "by step": {"network": GRADIENT, "learning": {"update": "step", "optimizer": "sgd", "rate": 0.01}},
    "in full": {"network": RECURRENT, "learning": {"rule": "rtrl"}},
    "perturbation": {"network": GRADIENT, "learning": {"rule": "perturbation"}},
    "stdp": {"learning": {"rule": "stdp"}},
}


def build(raw: dict[str, Any]) -> AnyLearner:
    network = {"layers": [{"neurons": 10, "threshold": 0.6}], "classes": ["a", "b", "c"], **raw.get("network", {})}
    config = {**raw, "network": network, "stream": [{"id": "cam0", "width": 6, "height": 5}]}
    return build_learner(parse_config(config).stream[0])


def taught(rng: np.random.Generator, label: int, n: int = 30) -> tuple[Steps, Cues]:
    cues = silent_cues(n)
    cues.labels[:] = label
    cues.flags[-1] = CLOSE
    return random_steps(rng, n, 60, 12), cues


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_question_moves_nothing(name: str) -> None:
    asked, alone = build(LEARNERS[name]), build(LEARNERS[name])
    rng, questions = np.random.default_rng(5), np.random.default_rng(6)
    for k in range(12):
        steps, cues = taught(rng, k % 3)
        learn = k % 4 != 3  # while it only predicts, too: some learners leave part of themselves behind then
        for a, b in ((0, 11), (11, 30)):  # asked in mid-window
            part = Cues(cues.flags[a:b], cues.labels[a:b], cues.values)
            mine, its = (x.run(steps.slice(a, b), part, learn) for x in (asked, alone))
            assert np.array_equal(mine.scores, its.scores) and np.array_equal(mine.spikes, its.spikes)
            before = asked.state()
            answer(asked, random_steps(questions, 25, 60, 12))
            assert same(asked.state(), before)
        if k % 3 == 2:
            asked.reset()
            alone.reset()
    assert same(asked.state(), alone.state())


@pytest.mark.parametrize("name", [n for n in LEARNERS if "replay" not in n])
def test_a_question_is_put_to_what_is_known_now_from_rest(name: str) -> None:
    learner = build(LEARNERS[name])
    rng = np.random.default_rng(3)
    for k in range(9):
        learner.run(*taught(rng, k % 3))
        steps, cues = taught(rng, -1)
        fresh = build(LEARNERS[name])
        fresh.load_state(learner.state())
        fresh.reset()
        scores = fresh.run(steps, cues, False).scores[-1]
        with aside(learner):
            assert np.array_equal(learner.run(steps, cues, False).scores[-1], scores)
        assert answer(learner, steps) == np.argmax(scores)


class Says:
    """A learner that takes windows for what `knows` says of their number of events."""

    def __init__(self) -> None:
        self.knows: dict[int, int] = {}
        self.heard: list[int] = []

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield

    def run(self, steps: Steps, cues: Cues, learn: bool = True) -> Readouts:
        assert not learn and not (cues.labels >= 0).any()
        self.heard.append(len(steps.indices))
        return SimpleNamespace(scores=np.eye(8)[[self.knows[len(steps.indices)]]])  # type: ignore[return-value]


def window(k: int) -> Steps:
    """A window of `k` events, by which it is known again."""
    indptr = np.array([0, k, k], np.int64)
    return Steps(0, indptr, np.arange(k, dtype=np.int32), np.ones(k, np.float32))


def show(exam: Exam, says: Says, k: int, label: int, doubtful: bool = False) -> None:
    exam.note(window(k))
    exam.taught(label, says, doubtful)  # type: ignore[arg-type]


def test_figures_are_those_of_a_count_by_hand() -> None:
    exam, says = Exam(100_000, 2, 1), Says()
    n = 12  # of each class, of which the learner gets k % 3 wrong at first
    says.knows = {k: (k % 2 if k % 3 else 7) for k in range(1, 2 * n + 1)}
    for k in range(1, 2 * n + QUARANTINE + 1):
        show(exam, says, k if k <= 2 * n else 1, k % 2, doubtful=k > 2 * n + QUARANTINE)
    assert exam.samples == 2 * n and set(exam.store.labels) == {0, 1}
    while min(exam.store.right) < 0 or exam.asked % (2 * n):
        exam.ask(says)  # type: ignore[arg-type]
    share = {c: np.mean([says.knows[k] == c for k in range(1, 2 * n + 1) if k % 2 == c]) for c in (0, 1)}
    assert exam.class_accuracy == pytest.approx(share)
    assert exam.accuracy == pytest.approx(np.mean(list(share.values())))
    best = exam.best.copy()
    assert (best >= list(share.values())).all()
    says.heard.clear()
    says.knows = {k: 7 if k % 2 else v for k, v in says.knows.items()}  # class 1 is lost
    for _ in range(2 * n):
        exam.ask(says)  # type: ignore[arg-type]
    assert sorted(says.heard) == list(range(1, 2 * n + 1)), "each sample once"
    assert [k % 2 for k in says.heard[:6]] in ([0, 1] * 3, [1, 0] * 3), "classes take turns"
    assert exam.class_accuracy == pytest.approx({0: share[0], 1: 0.0})
    assert exam.forgetting == pytest.approx((best[0] - share[0] + best[1]) / 2)
    assert len(exam.recent) == RECENT


def test_a_best_needs_some_answers() -> None:
    exam, says = Exam(100_000, 1, 10**6), Says()
    says.knows = dict.fromkeys(range(1, 100), 0)
    for k in range(1, QUARANTINE + LEAST + 1):
        show(exam, says, k, 0)
    for k in range(1, LEAST + 1):
        assert exam.best[0] == -1 and exam.forgetting == 0
        exam.ask(says)  # type: ignore[arg-type]
        assert exam.samples >= k
    assert exam.best[0] == 1


def test_samples_wait_in_quarantine_and_a_doubt_lets_all_that_wait_go() -> None:
    exam, says = Exam(100_000, 2, 10**6), Says()
    for k in range(1, QUARANTINE + 1):
        show(exam, says, k, 0)
        assert exam.samples == 0
    show(exam, says, 30, 0)
    assert exam.samples == 1  # the first
    show(exam, says, 31, 0, doubtful=True)
    for k in range(32, 32 + QUARANTINE):
        show(exam, says, k, 1)
        assert exam.samples == 1
    show(exam, says, 60, 1)
    assert exam.samples == 2 and exam.store.labels.tolist() == [0, 1]


def test_it_is_asked_every_so_many_windows_and_holds_a_bounded_number() -> None:
    exam, says = Exam(1_000_000, 2, 3), Says()
    says.knows = dict.fromkeys(range(1, 2000), 0)
    for k in range(1, 2 * MOST + QUARANTINE):
        show(exam, says, k, k % 2)
    assert exam.samples == MOST and np.bincount(exam.store.labels).tolist() == [MOST // 2, MOST // 2]
    first = QUARANTINE + 3 - QUARANTINE % 3
    assert len(says.heard) == len(range(first, 2 * MOST + QUARANTINE, 3))
    rights = [exam.store.right[exam.store.labels == k] for k in (0, 1)]
    assert set(rights[0]) <= {1, -1} and set(rights[1]) <= {0, -1}, "answers stay with their samples"


def test_a_window_that_is_too_large_is_counted_and_not_kept() -> None:
    exam, says = Exam(10_000, 1, 1), Says()
    for _ in range(QUARANTINE + 5):
        show(exam, says, 2000, 0)
    assert exam.samples == 0 and exam.summary(["a"])["refused"] == QUARANTINE + 5


def test_its_state_goes_on_as_it_was() -> None:
    exam, says = Exam(50_000, 2, 2), Says()
    says.knows = {k: k % 2 for k in range(1, 2000)}
    for k in range(1, 150):
        show(exam, says, k, (k // 3) % 2)
    exam.note(window(7))
    twin = Exam(50_000, 2, 2)
    twin.load_state(exam.state())
    for k in range(150, 300):
        for each in (exam, twin):
            show(each, says, k, k % 3)
    assert same(exam.state(), twin.state()) and exam.summary(["a", "b", "c"]) == twin.summary(["a", "b", "c"])
    with pytest.raises(ValueError, match="an exam of"):
        Exam(20_000, 2, 2).load_state(exam.state())
