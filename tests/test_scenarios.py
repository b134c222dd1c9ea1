"""Orders of teaching: what comes in which task, counted from the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from eval_cases import Bars, Strips
from hypothesis import given, settings
from hypothesis import strategies as st

from spiked.io.datasets import open_dataset
from spiked.service.configfile import ConfigError
from spiked.service.scenarios import class_plan, drift_plan
from spiked.service.splits import TEST_SHARE, stratified


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 1000), st.permutations(Strips.names), st.integers(1, 3),
)  # fmt: skip
def test_each_sample_once_and_a_task_holds_its_classes_only(seed: int, names: list[str], per_task: int) -> None:
    dataset = Strips(60, 40, seed)
    train = np.random.default_rng(seed).permutation(dataset.train)
    plan = class_plan(dataset, names, train, dataset.test, per_task)
    assert [t.classes for t in plan.tasks] == [names[k : k + per_task] for k in range(0, 4, per_task)]
    taught = np.concatenate([t.train for t in plan.tasks])
    assert sorted(taught.tolist()) == sorted(train.tolist())
    assert sorted(np.concatenate([t.test for t in plan.tasks]).tolist()) == sorted(dataset.test.tolist())
    place = {i: k for k, i in enumerate(train.tolist())}
    for task in plan.tasks:
        for of in (task.train, task.test):
            assert {Strips.names[k] for k in dataset.labels[of]} <= set(task.classes)
        assert [place[i] for i in task.train.tolist()] == sorted(place[i] for i in task.train.tolist())
        assert task.change is None
    assert not plan.identified and class_plan(dataset, names, train, dataset.test, 2, True).identified


def test_drift_begins_in_the_middle_and_is_of_both_tests() -> None:
    dataset = Bars(41, 15)
    plan = drift_plan(dataset, dataset.class_names, dataset.train[::-1], dataset.test, ["mirror"], 0)
    before, after = plan.tasks
    assert before.train.tolist() == list(range(40, 20, -1)) and after.train.tolist() == list(range(20, -1, -1))
    assert before.test.tolist() == after.test.tolist() == dataset.test.tolist()
    assert before.change is None and after.change is not None
    sample = dataset.sample(5)
    assert np.array_equal(after.change(sample, 5).events["x"], 7 - sample.events["x"])
    assert "after 20 training samples" in plan.told and "mirrored" in plan.told


def test_levels_fall(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    counts, snr = rng.poisson(0.5, (3, 2, 300, 8)).astype(np.uint16), np.array([3.0, np.inf, -6.0])
    np.savez(tmp_path / "c.npz", counts=counts, tones_hz=np.array([130, 349]), snr_db=snr)
    dataset = open_dataset(tmp_path / "c.npz")
    assert dataset.snr_db is not None and len(dataset.snr_db) == 18
    plan = drift_plan(dataset, dataset.class_names, dataset.train, dataset.test, ["snr"])
    assert [t.name for t in plan.tasks] == ["no noise", "3.0 dB", "-6.0 dB"]
    for task, condition in zip(plan.tasks, (1, 0, 2)):
        for of in (task.train, task.test):
            assert {i // 6 for i in of.tolist()} == {condition}  # 2 tones of 3 pieces each
        assert len(task.train) == 4 and len(task.test) == 2


@pytest.mark.parametrize("levels", [[1.0, 2.0], [np.nan, 1.0, 2.0]], ids=["too few", "nan"])
def test_levels_that_do_not_fit_are_refused(tmp_path: Path, levels: list[float]) -> None:
    np.savez(
        tmp_path / "c.npz", counts=np.zeros((3, 2, 300, 8), np.uint16), tones_hz=np.array([1, 2]), snr_db=levels
    )  # fmt: skip
    with pytest.raises(ValueError, match="snr_db") as caught:
        open_dataset(tmp_path / "c.npz")
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_the_set_is_refused() -> None:
    bars, four = Bars(), Strips()
    names, train, test = bars.class_names, bars.train, bars.test
    nothing = np.empty(0, np.int64)
    cases = [
        (lambda: class_plan(bars, names, train, test, 0), "--classes-per-task: 0; at least 1"),
        (lambda: class_plan(bars, names, train, test, 3), "3 classes are one task of 3; two tasks at least"),
        (lambda: class_plan(bars, names, train, test, 2, True), "'right' would be alone in its task"),
        (lambda: class_plan(four, four.names, four.train, nothing, 2), "no test samples of a, b"),
        (lambda: drift_plan(bars, names, train, nothing, ["mirror"]), "bars.npz has no test samples"),
        (lambda: drift_plan(bars, names, train[:1], test, ["mirror"]), "1 training samples; at least 2"),
        (lambda: drift_plan(bars, names, train, test, ["snr"]), "bars.npz has no levels of noise"),
        (lambda: drift_plan(bars, names, train, test, ["snr", "mirror"]), "snr orders the samples, and stands alone"),
        (lambda: drift_plan(bars, names, train, test, ["up"]), "'up'; allowed: rotate, .*hot-pixels, snr"),
    ]
    for act, message in cases:
        with pytest.raises(ConfigError, match=message) as caught:
            act()
        assert str(caught.value).startswith("--") and "\n" not in str(caught.value)


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_split_takes_the_same_share_of_each_class(seed: int) -> None:
    whole = Strips(60, 40)
    part = stratified(whole, seed)
    assert sorted([*part.train.tolist(), *part.test.tolist()]) == list(range(100))
    for label in range(4):
        n = int((whole.labels == label).sum())
        assert int((part.labels[part.test] == label).sum()) == round(TEST_SHARE * n)
    assert np.array_equal(part.test, stratified(whole, seed).test)
    assert whole.test.tolist() == list(range(60, 100)), "the set itself is left alone"


def test_splits_differ() -> None:
    assert stratified(Strips(), 0).test.tolist() != stratified(Strips(), 1).test.tolist()
