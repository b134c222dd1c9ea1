"""Pseudo-replay: means and made-up windows against a slow oracle, and what is rehearsed when."""

from __future__ import annotations

from typing import Any

import naive
import naive_pseudo
import numpy as np
import pytest
from method_cases import NETWORKS, equals_naive, keeps_the_contract, learner, window

from spiked.learners.contract import CLOSE, Cues, Steps, silent_cues
from spiked.learners.counter import make_key
from spiked.learners.gradient import GradientLearner
from spiked.learners.memory import MemoryLearner
from spiked.learners.methods import Method
from spiked.learners.pseudo import PseudoReplay, draw_window
from spiked.learners.trials import random_cues, random_steps, run_in_parts

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile


def dense(steps: Steps, n_in: int) -> np.ndarray:
    return naive.densify(steps.indptr, steps.indices, steps.counts, n_in)


class Watch(Method):
    """Notes the order in which a method is called, and rehearses what it is given."""

    name = "watch"

    def __init__(self, kept: tuple[tuple[Steps, Cues], ...] = ()) -> None:
        self.said: list[str] = []
        self.kept = kept

    def heard(self, learner: GradientLearner, steps: Steps, cues: Cues) -> None:
        self.said.append(f"heard {steps.n}")

    def closing(self, learner: GradientLearner, label: int, values: np.ndarray) -> None:
        self.said.append(f"closing {label}")

    def taught(self, learner: GradientLearner) -> None:
        self.said.append("taught")

    def rehearsals(self, learner: GradientLearner) -> tuple[tuple[Steps, Cues], ...]:
        self.said.append("rehearsals")
        return self.kept

    def grow(self, learner: GradientLearner) -> None:
        self.said.append("grow")

    def arrays(self) -> dict[str, np.ndarray]:
        return {}


@pytest.mark.parametrize("network", NETWORKS)
def test_keeps_the_contract(network: str) -> None:
    keeps_the_contract(network, lambda a: PseudoReplay(a, 2, 3, 15.0, 10))


@pytest.mark.parametrize("network", NETWORKS)
def test_without_rehearsals_it_is_the_learner_alone(network: str) -> None:
    equals_naive(network, lambda a: PseudoReplay(a, 0))


def test_means_are_those_of_the_dense_calculation() -> None:
    a, rng = learner(), np.random.default_rng(3)
    method = PseudoReplay(a, 1, 3, 12.0, 8)
    memory = MemoryLearner(a, (method,))
    steps, cues = random_steps(rng, 400, a.n_in, 8, (0.5, 2.0)), random_cues(rng, 400, 4)
    run_in_parts(memory, steps, cues, [3, 77, 140, 399])
    ends = np.flatnonzero(cues.flags & CLOSE)
    sums, n = naive_pseudo.mean_activity(dense(steps, a.n_in), cues.labels, ends, 4, 3, 12, 1 - 1 / 8)
    np.testing.assert_allclose(method.sums, sums, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(method.steps, n, rtol=1e-12)
    taught = [m for m, e in zip(np.diff([-1, *ends]), ends) if cues.labels[e] >= 0]
    length, k = 0.0, 0
    for m in taught:
        k = min(k + 1, 8)
        length += (m - length) / k
    assert method.length.tolist() == pytest.approx([length, k])
    assert method.drawn[0] > 0


@pytest.mark.parametrize("n", (1, 25, 60))
def test_a_made_up_window_is_that_of_trials_one_by_one(n: int) -> None:
    rng = np.random.default_rng(n)
    sums = rng.uniform(0, 1, (3, 40)) ** 3 * 50
    sums[:, 5], sums[:, 6], sums[1, 7] = 0, 130, 50  # never, more than once a step, always
    steps = np.array([50.0, 40.0, 60.0])
    key = make_key(n)[0]
    made = draw_window(sums, steps, n, 20, key)
    assert np.array_equal(dense(made, 40), naive_pseudo.window(sums, steps, n, 20, int(key)).astype(np.float32))
    for t in range(made.n):  # ascending and unique
        assert (np.diff(made.indices[made.indptr[t] : made.indptr[t + 1]]) > 0).all()
    same = draw_window(sums, steps, n, 20, key, room=10_000)
    assert all(np.array_equal(x, y) for x, y in zip(made, same))


def test_made_up_windows_have_the_means_they_are_drawn_from() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(0, 0.6, (2, 10))
    chance[0, 0] = 2.5
    sums, steps = chance * 30, np.array([30.0, 30.0])
    key = make_key(7)
    x = np.stack([dense(draw_window(sums, steps, 40, 15, k), 10) for k in key + np.arange(2000, dtype=np.uint64)])
    for b, piece in enumerate((x[:, :15], x[:, 15:])):
        mean = piece.mean(axis=(0, 1))
        spread = np.sqrt(np.maximum(chance[b] * (1 - chance[b]), 0) / piece[..., 0].size)
        assert (np.abs(mean - chance[b]) <= 5 * spread + 1e-6).all()
    by_step = x.mean(axis=0)[:15, 1]  # no step of a stretch is favoured
    assert np.abs(by_step - chance[0, 1]).max() < 5 * np.sqrt(0.25 / 2000)


def test_a_stretch_that_was_never_heard_is_silent() -> None:
    sums, steps = np.ones((2, 4)), np.array([1.0, 0.0])
    assert dense(draw_window(sums, steps, 8, 5, make_key(0)[0]), 4)[5:].sum() == 0


def test_other_classes_are_rehearsed_and_each_counts_as_a_window() -> None:
    a = learner()
    method, watch = PseudoReplay(a, 3, 2, 10.0), Watch()
    memory = MemoryLearner(a, (watch, method))
    memory.run(*window(0, 1))
    assert a.updates == 1  # there is no other class yet
    memory.run(*window(1, 2))
    assert a.updates == 5 and method.drawn[0] == 3
    assert watch.said[-7:] == ["rehearsals", "closing 1", "taught", "closing 1", "taught", "closing 1", "taught"][-7:]
    heard = [s for s in watch.said if s.startswith("heard")]
    assert heard == ["heard 40", "heard 40"]


def test_a_rehearsal_is_what_recalling_teaches() -> None:
    """A method that rehearses a kept window does what a recall of it after the window does."""
    kept = window(9, 3)
    a, b = learner(), learner()
    rehearses, plain = MemoryLearner(a, (Watch((kept,)),)), MemoryLearner(b)
    for k in range(4):
        rehearses.run(*window(k, k))
        plain.run(*window(k, k))
        plain.recall(*kept)
    assert np.array_equal(a.net.weight, b.net.weight)
    assert np.array_equal(a._live.state.membrane, b._live.state.membrane)


def test_a_recall_of_many_windows_is_rehearsed_between_them() -> None:
    kept = window(9, 3)
    steps, cues = random_steps(np.random.default_rng(0), 90, 30, 8), silent_cues(90)
    cues.labels[:45], cues.labels[45:] = 0, 1
    cues.flags[[44, 89]] = CLOSE
    a, b = learner(), learner()
    MemoryLearner(a, (Watch((kept,)),)).recall(steps, cues)
    MemoryLearner(b, (Watch((kept,)),)).run(steps, cues)
    assert a.updates == b.updates == 4
    assert np.array_equal(a.net.weight, b.net.weight)
    assert not a._live.state.membrane.any()


def test_hooks_are_called_in_a_windows_order_and_not_at_rate_0() -> None:
    a, watch = learner(), Watch()
    memory = MemoryLearner(a, (watch,))
    steps, cues = window(0, 2)
    run_in_parts(memory, steps, cues, [10])
    memory.conclude(3)  # nothing was heard: no window to teach
    assert watch.said == ["heard 10", "heard 30", "closing 2", "taught", "rehearsals", "closing 3"]
    watch.said.clear()
    memory.rate = 0.0
    memory.run(steps, cues)
    memory.run(steps, cues, learn=False)
    assert not watch.said


def test_new_classes_begin_unheard() -> None:
    a = learner()
    method = PseudoReplay(a, 1)
    memory = MemoryLearner(a, (method,))
    memory.run(*window(0, 1))
    before = method.sums.copy()
    memory.grow(6)
    assert np.array_equal(method.sums[:4], before) and not method.sums[4:].any() and not method.steps[4:].any()


@pytest.mark.parametrize("bad", ({"rehearsals": -1}, {"stretches": 0}, {"stretch_ms": 0.5}, {"windows": 0.0}))
def test_refuses(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        PseudoReplay(learner(), **bad)


def test_refuses_what_has_no_classes() -> None:
    with pytest.raises(ValueError, match="no classes"):
        PseudoReplay(learner(objective="membrane_mse"))
