"""The reservoir: what goes in comes out, classes are balanced, every window of a class is as likely to stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiked.learners.contract import Steps
from spiked.learners.reservoir import Reservoir, pack_steps, unpack_steps
from spiked.learners.trials import random_steps

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile


@given(st.integers(0, 30), st.integers(1, 100_000), st.integers(0, 40), st.booleans(), st.integers(0, 1 << 30))
@settings(deadline=None)
def test_steps_come_back_as_they_were(n: int, n_in: int, active: int, counted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = random_steps(rng, n, n_in, min(active, n_in), (0.0, 9.0) if counted else (1.0, 1.0))
    out = np.zeros(n * 10 + 11 * len(steps.indices) + 1, np.uint8)
    size = pack_steps(steps, out)
    assert size >= 0
    out[size:] = 0xFF  # nothing is read beyond
    back, end = unpack_steps(out, n)
    assert end == size
    for mine, theirs in zip(back[1:], steps[1:]):
        assert np.array_equal(mine, theirs) and mine.dtype == theirs.dtype
    first, at = unpack_steps(out, n // 2)  # in two halves
    rest, _ = unpack_steps(out[at:], n - n // 2)
    assert np.array_equal(np.concatenate([first.indices, rest.indices]), steps.indices)


def test_binary_events_take_little_more_than_a_byte() -> None:
    steps = random_steps(np.random.default_rng(0), 300, 2312, 30)
    size = pack_steps(steps, np.zeros(1 << 17, np.uint8))
    assert size < 1.25 * len(steps.indices) + 2 * 300


def test_what_does_not_fit_is_said() -> None:
    steps = random_steps(np.random.default_rng(0), 50, 1000, 30)
    assert pack_steps(steps, np.zeros(100, np.uint8)) == -1


def window(k: int, label: int) -> tuple[np.ndarray, int, int]:
    """A window that can be told from all others: `k` in its bytes."""
    return np.frombuffer(int(k).to_bytes(8, "little") * 10, np.uint8), 3, label


def number(store: Reservoir, which: int) -> int:
    return int.from_bytes(store.get(which)[0][:8].tobytes(), "little")


def test_classes_are_balanced_whatever_the_order() -> None:
    store = Reservoir(18_000, 4)
    labels = [0] * 400 + [1] * 30 + [2] * 200 + [3] * 10
    for k, label in enumerate(labels):
        store.add(*window(k, label))
    here = np.bincount(store.labels, minlength=4)
    assert here[3] == 10 and here[:3].max() - here[:3].min() <= 1 and here.sum() > 20
    for which in range(len(store)):
        assert labels[number(store, which)] == store.get(which)[2]


def test_every_window_of_a_class_is_as_likely_to_stay() -> None:
    stays = np.zeros(60)
    for seed in range(300):
        store = Reservoir(6000, 1, seed)
        for k in range(60):
            store.add(*window(k, 0))
        for which in range(len(store)):
            stays[number(store, which)] += 1
    share = len(store) / 60
    expected, sd = 300 * share, np.sqrt(300 * share * (1 - share))
    assert np.abs(stays - expected).max() < 4.5 * sd


def test_budget_holds_and_is_used() -> None:
    rng = np.random.default_rng(1)
    store = Reservoir(20_000, 3)
    kept = 0
    for k in range(400):
        n = int(rng.integers(1, 1300))
        kept += store.add(rng.integers(0, 256, n).astype(np.uint8), 1, k % 3)
        assert sum(a.nbytes for name, a in store.arrays().items() if name in ("bytes", "table")) <= 20_000
    used = sum(len(store.get(w)[0]) for w in range(len(store)))
    assert 10_000 < used <= 20_000 and kept > 100
    assert store.refused > 0  # some are larger than a sixteenth
    assert not store.add(np.zeros(5000, np.uint8), 1, 0)


def test_what_is_too_large_is_counted() -> None:
    store = Reservoir(16_000, 1)
    assert not store.add(np.zeros(store.largest + 1, np.uint8), 1, 0)
    assert store.refused == 1 and len(store) == 0


def test_picks_are_the_same_for_each_class() -> None:
    store = Reservoir(60_000, 3)
    for k in range(60):
        store.add(*window(k, 0 if k < 50 else 1 if k < 58 else 2))
    picked = np.bincount([store.get(store.pick())[2] for _ in range(3000)], minlength=3)
    assert np.abs(picked - 1000).max() < 5 * np.sqrt(3000 * 2 / 9)


def test_removing_keeps_the_others_whole() -> None:
    store = Reservoir(6000, 5)
    rng = np.random.default_rng(2)
    sent: dict[bytes, int] = {}
    for _ in range(500):
        packed, label = rng.integers(0, 256, int(rng.integers(10, 200))).astype(np.uint8), int(rng.integers(5))
        sent[packed.tobytes()] = label
        store.add(packed, 1, label)
        for which in range(len(store)):
            kept, _, its_label = store.get(which)
            assert sent[kept.tobytes()] == its_label


def test_empty_steps() -> None:
    steps = Steps(0, np.zeros(4, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    out = np.zeros(64, np.uint8)
    assert pack_steps(steps, out) == 3
    assert unpack_steps(out, 3)[0].n == 3
