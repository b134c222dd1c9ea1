"""The matrix against trainings from the start, its measures against examples worked out by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from eval_cases import Bars, Strips, config

from spiked.io.datasets import Sample
from spiked.service.continual import (
    average_accuracy,
    backward_transfer,
    forgetting,
    labels_until,
    task_forgetting,
    windows,
)  # fmt: skip
from spiked.service.evaluate import evaluate, evaluate_tasks
from spiked.service.prediction import Prediction
from spiked.service.splits import Splits

BY_HAND = [[0.9, 0.1, 0.0], [0.6, 0.8, 0.2], [0.3, 0.7, 1.0]]
"""Average (.3 + .7 + 1) / 3; backward ((.3 - .9) + (.7 - .8)) / 2; forgotten .9 - .3 and .8 - .7."""


def test_measures_by_hand() -> None:
    assert average_accuracy(BY_HAND) == pytest.approx(2 / 3)
    assert backward_transfer(BY_HAND) == pytest.approx(-0.35)
    assert task_forgetting(BY_HAND) == pytest.approx([0.6, 0.1])
    assert forgetting(BY_HAND) == pytest.approx(0.35)


def test_forgetting_counts_from_the_best_and_may_be_negative() -> None:
    best_in_between = [[0.5, 0.0, 0.0], [0.9, 0.6, 0.0], [0.4, 0.8, 1.0]]
    assert task_forgetting(best_in_between) == pytest.approx([0.5, -0.2])  # .9 - .4, and .6 - .8
    assert backward_transfer(best_in_between) == pytest.approx((-0.1 + 0.2) / 2)


def test_labels_until_by_hand() -> None:
    right = np.array([0, 0, 1, 0, 1, 1, 1, 1, 0, 1], bool)
    assert labels_until(right, 0.75, 4) == 6  # 1 0 1 1 are samples 3 to 6
    assert labels_until(right, 1.0, 4) == 8
    assert labels_until(right, 1.0, 5) is None
    assert labels_until(right[:3], 0.0, 4) is None, "fewer samples than are judged together"
    assert labels_until(np.ones(60, bool)) == 50
    assert labels_until(np.array([False] * 5 + [True] * 45)) == 50, "45 of 50 are 90 %"
    assert labels_until(np.array([False] * 6 + [True] * 50)) == 51


def test_windows_by_hand() -> None:
    right = np.zeros(1000, bool)
    right[400:500] = True  # all before
    right[550:600] = True  # half of the first hundred
    right[600:900:2] = True
    right[900:] = True
    found = [(w.name, w.first, w.end, w.accuracy) for w in windows(right, 500)]
    assert found == [
        ("last 100 before", 400, 500, 1.0), ("first 100 after", 500, 600, 0.5),
        ("100 to 400 after", 600, 900, 0.5), ("last quarter", 750, 1000, (75 + 100) / 250),
    ]  # fmt: skip
    short = windows(np.array([True, False, True, True]), 2)
    assert [(w.name, w.first, w.end) for w in short] == [
        ("last 100 before", 0, 2), ("first 100 after", 2, 4), ("last quarter", 3, 4),
    ]  # fmt: skip


def four(**network: Any) -> Any:
    return config(network={"classes": Strips.names, **network})


NETWORKS = [{}, {"head": "gradient", "decoder": "membrane"}, {"classes": []}]


@pytest.mark.parametrize("network", NETWORKS, ids=["discriminant", "gradient", "classes by name"])
@pytest.mark.parametrize("scenario", ["class-incremental", "task-incremental"])
def test_a_row_is_what_training_so_far_and_then_testing_gives(network: dict[str, Any], scenario: str) -> None:
    """Each row anew: train from the start on the tasks up to it, then test; scores are read from the predictions."""
    dataset, conf = Strips(), four(**network)
    report = evaluate_tasks(conf, dataset, scenario, seed=2)
    order = np.random.default_rng(2).permutation(40)
    groups = [order[np.isin(dataset.labels[order], pair)] for pair in ([0, 1], [2, 3])]
    assert report.train.index == np.concatenate(groups).tolist() and np.shape(report.matrix) == (2, 2)
    for k in (0, 1):
        heard: list[Prediction] = []
        part = Strips()
        part.train = np.concatenate(groups[: k + 1])
        anew = evaluate(conf, part, shuffle=False, quick=True, heard=heard.append)
        said = [p for p in heard if p.final][-15:]
        if k == 1:
            assert anew.weights_digest == report.weights_digest, "the tests in between taught something"
            assert anew.train.said == report.train.said
        for j, pair in enumerate(([0, 1], [2, 3])):
            right = []
            for i, p in zip(dataset.test, said):
                if dataset.labels[i] in pair:
                    names = Strips.names if network.get("classes") != [] else [Strips.names[c] for c in _order(part)]
                    scores = dict(zip(names, p.scores))
                    if scenario == "task-incremental":
                        scores = {n: s for n, s in scores.items() if Strips.names.index(n) in pair}
                    best = max(scores, key=lambda n: scores[n]) if scores else ""
                    right.append(best == Strips.names[dataset.labels[i]])
            assert report.matrix[k][j] == sum(right) / len(right)
    assert report.measures["average_accuracy"] == pytest.approx(np.mean(report.matrix[1]))
    taught_us = sum(dataset.sample(int(i)).duration_us for i in order)
    assert report.steps * 1000 == taught_us, "tests do not run on the stream that learns, nor in its time"


def _order(dataset: Strips) -> list[int]:
    """Classes in the order in which a stream that knew none got to know them."""
    return list(dict.fromkeys(dataset.labels[dataset.train].tolist()))


def test_a_task_that_is_known_is_never_harder() -> None:
    blind, told = (evaluate_tasks(four(), Strips(), f"{kind}-incremental") for kind in ("class", "task"))
    assert np.all(np.array(told.matrix) >= np.array(blind.matrix)) and blind.matrix[0][1] == 0
    assert told.train == blind.train and told.weights_digest == blind.weights_digest


def test_no_label_is_seen_early_and_no_test_label_ever() -> None:
    order = [i for t in (0, 1) for i in range(40) if Strips().labels[i] // 2 == t]
    changed = order[25]

    class OneMoved(Strips):
        moved = (changed,)

        def sample(self, i: int) -> Sample:
            sample = super().sample(i)
            return sample._replace(label=(sample.label + 1) % 4) if i in self.moved else sample

    class TestsMoved(OneMoved):
        moved = tuple(range(40, 55))

    heard: dict[type[Strips], list[Prediction]] = {Strips: [], OneMoved: [], TestsMoved: []}
    digests = {}
    for kind, predictions in heard.items():
        report = evaluate_tasks(four(), kind(), "class-incremental", shuffle=False, heard=predictions.append)
        assert report.train.index == order
        digests[kind] = report.weights_digest
    scores = {kind: [p.scores for p in h] for kind, h in heard.items()}
    end = np.cumsum([Strips().sample(i).duration_us for i in order])[25]
    before = sum(p.t_us <= end for p in heard[Strips])
    assert scores[Strips][:before] == scores[OneMoved][:before] and scores[Strips][before:] != scores[OneMoved][before:]
    assert scores[Strips] == scores[TestsMoved] and digests[Strips] == digests[TestsMoved] != digests[OneMoved]


def test_a_learner_that_forgets_is_seen_to_forget_and_one_that_does_not_is_not() -> None:
    conf = four(head="gradient", decoder="membrane")
    conf.stream[0].learning.rate = 0.05
    naive = evaluate_tasks(conf, Strips(80, 40), "class-incremental")
    assert (naive.measures["forgetting"] or 0) > 0.5 and (naive.measures["backward_transfer"] or 0) < -0.5
    kept = evaluate_tasks(four(), Strips(80, 40), "class-incremental")
    shuffled = evaluate(four(), Strips(80, 40), quick=True)
    assert (kept.measures["forgetting"] or 0) < 0.3
    assert kept.test.accuracy() == pytest.approx(shuffled.test.accuracy() or 0, abs=0.06), "statistics know no order"


def test_drift_changes_what_is_shown_after_the_middle_only() -> None:
    """The same run on a set whose samples were mirrored beforehand."""

    class Mirrored(Bars):
        def sample(self, i: int) -> Sample:
            sample = super().sample(i)
            if i >= 20:  # the second half of training, and the tests
                sample.events["x"] = 7 - sample.events["x"]
            return sample

    report = evaluate_tasks(config(), Bars(), "drift", drift=["mirror"], shuffle=False)
    by_hand = evaluate(config(), Mirrored(), shuffle=False, quick=True)
    assert report.train == by_hand.train and report.weights_digest == by_hand.weights_digest
    assert report.matrix[1][1] == by_hand.test.accuracy()
    plain = Bars()
    plain.train = plain.train[:20]
    assert report.matrix[0][0] == evaluate(config(), plain, shuffle=False, quick=True).test.accuracy()
    assert report.change == 20 and report.matrix[0][1] < 0.5 < report.matrix[0][0]


def test_memory_without_weights_that_never_learn() -> None:
    fixed, moving = (evaluate_tasks(four(**n), Strips(), "class-incremental") for n in NETWORKS[:2])
    weights = 2 * 8 * 8 * 32 * 4
    assert fixed.state_bytes - fixed.learnt_bytes == weights
    assert moving.state_bytes == moving.learnt_bytes


def test_figures_that_saw_a_label_are_named() -> None:
    short = config()
    short.stream[0].learning.window_ms = 10.0
    (line,) = evaluate(short, Bars(), quick=True).warnings
    assert line.startswith("40 training samples last for several windows of 10 ms")
    assert evaluate(config(), Bars(), quick=True).warnings == []


def test_summary_says_where_figures_come_from_and_is_plain_data() -> None:
    told = evaluate_tasks(config(), Bars(), "drift", seed=5).summary()
    back = msgspec.json.decode(msgspec.json.encode(told))
    assert back["scenario"] == "drift" and back["seed"] == 5 and back["split"] == "the set's own"
    assert [t["name"] for t in back["tasks"]] == ["before", "after"] and np.shape(back["matrix"]) == (2, 2)
    assert [w["name"] for w in back["windows"]] == ["last 100 before", "first 100 after", "last quarter"]
    assert back["labels_until_90"] is None and "shifted by 4 px" in back["told"]
    assert back["task_forgetting"] == pytest.approx([back["forgetting"]])


def test_spread_over_splits_by_hand() -> None:
    reports = [evaluate_tasks(four(), Strips(), "class-incremental", seed=s) for s in (0, 1)]
    reports[0].matrix, reports[1].matrix = [[1.0, 0.0], [0.5, 1.0]], [[1.0, 0.0], [0.9, 0.8]]
    splits = Splits(reports)
    spread = splits.spreads["average_accuracy"]
    assert (spread.mean, spread.n) == (pytest.approx(0.8), 2)
    assert spread.sd == pytest.approx(0.1 / np.sqrt(2))  # .75 and .85
    assert splits.matrix is not None and splits.matrix.tolist() == pytest.approx(np.array([[1, 0], [0.7, 0.9]]))
    told = splits.summary()
    assert told["splits"] == 2 and [r["seed"] for r in told["reports"]] == [0, 1]
    assert Splits(reports[:1]).summary() == reports[0].summary()
