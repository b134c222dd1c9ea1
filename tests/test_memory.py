"""`MemoryLearner`: it keeps a learner's contract, and the mean of the weights is the mean that one computes by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradient_cases
import numpy as np
import pytest

from spiked.learners import checks
from spiked.learners.contract import CLOSE, Learner, silent_cues
from spiked.learners.gradient import GradientLearner
from spiked.learners.lif import layer_weight
from spiked.learners.memory import MemoryLearner
from spiked.learners.rehearsal import Rehearsal
from spiked.learners.reservoir import unpack_steps
from spiked.learners.trials import random_steps

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "recurrent": {"kind": "recurrent-adaptive", "objective": "rate_ce", "theta_out": 1.0, "feedback": "adaptive"},
    "times": {"hidden": (12, 10), "decoder": "latency", "theta_out": 1.0, "decays_rate": 0.1, "optimizer": "momentum"},
}


def learner(rate: float = 0.05, dtype: Any = np.float64, **case: Any) -> GradientLearner:
    return gradient_cases.build(dtype=dtype, rate=rate, spread=0.5, **case)


def rehearsing(inner: GradientLearner, per_window: int = 2, windows: float = 0, budget: int = 60_000) -> MemoryLearner:
    return MemoryLearner(inner, average_windows=windows, rehearsal=Rehearsal(inner, budget, per_window, seed=3))


def maker(case: dict[str, Any]) -> Callable[[], Learner]:
    return lambda: MemoryLearner(learner(0.005, np.float32, **case), average_windows=5)


def rehearsing_maker(case: dict[str, Any], windows: float) -> Callable[[], Learner]:
    return lambda: rehearsing(learner(0.001, np.float32, **case), windows=windows)


@pytest.mark.parametrize("name", CASES)
def test_keeps_the_contract(name: str) -> None:
    checks.check_learner(maker(CASES[name]))


@pytest.mark.parametrize("windows", [0, 5])
@pytest.mark.parametrize("name", CASES)
def test_keeps_the_contract_while_it_rehearses(name: str, windows: float) -> None:
    checks.check_learner(rehearsing_maker(CASES[name], windows))


def show(a: MemoryLearner | GradientLearner, label: int, seed: int, learn: bool = True) -> np.ndarray:
    """One window of 40 steps; its last scores."""
    steps = random_steps(np.random.default_rng(seed), 40, a.n_in, 8)
    cues = silent_cues(40)
    cues.labels[:] = label
    cues.flags[-1] = CLOSE
    return a.run(steps, cues, learn).scores[-1]


def test_mean_is_plain_at_first_and_then_forgets() -> None:
    a = MemoryLearner(learner(), average_windows=4)
    seen, forgetting = [], None
    for k in range(12):
        show(a, k % 4, k)
        seen.append(a.inner.net.weight.copy())
        if k < 4:
            want = forgetting = np.mean(seen, axis=0)
        else:
            want = forgetting = 0.75 * forgetting + 0.25 * seen[-1]
        np.testing.assert_allclose(a.net.weight, want, rtol=1e-12, atol=1e-14)
    assert np.abs(seen[-1] - a.net.weight).max() > 1e-3  # they do wander


def test_mean_of_one_window_is_the_learner_itself() -> None:
    a, b = MemoryLearner(learner(), average_windows=1), learner()
    for k in range(8):
        np.testing.assert_allclose(show(a, k % 4, k), show(b, k % 4, k), rtol=1e-6)


def test_a_new_output_has_no_past_to_be_the_mean_of() -> None:
    a = MemoryLearner(learner(), average_windows=100)
    for k in range(6):
        show(a, k % 4, k)
    hidden = layer_weight(a.net, 0).copy()
    a.grow(5)
    assert np.array_equal(layer_weight(a.net, 0), hidden)
    seen = []
    for k in range(3):
        show(a, 4, 100 + k)
        seen.append(layer_weight(a.inner.net, 1)[:, 4].copy())
    np.testing.assert_allclose(layer_weight(a.net, 1)[:, 4], np.mean(seen, axis=0), rtol=1e-12, atol=1e-15)


def test_learning_again_begins_where_the_mean_stands() -> None:
    a = MemoryLearner(learner(), average_windows=4)
    show(a, 1, 0)
    show(a, 2, 1, learn=False)
    assert a.mean is not None
    stood = a.mean.state.membrane.copy()
    assert not np.array_equal(a.inner._live.state.membrane, stood)
    a.run(random_steps(np.random.default_rng(2), 0, a.n_in, 1))
    assert np.array_equal(a.inner._live.state.membrane, stood)


def test_reward_is_refused() -> None:
    with pytest.raises(ValueError, match="for what was said"):
        MemoryLearner(learner(objective="reward"), average_windows=4)


def test_a_rehearsed_window_teaches_what_it_taught_live() -> None:
    """The learner after live and rehearsed windows is one that lived them all, in the order in which they ended."""
    a, b = rehearsing(learner(), per_window=1), learner()
    shown = []

    def show_again(packed: np.ndarray, n: int, label: int) -> tuple[np.ndarray, int, int]:
        shown.append((packed.copy(), n, label))
        return packed, n, label

    assert a.rehearsal is not None
    get = a.rehearsal.store.get
    a.rehearsal.store.get = lambda which: show_again(*get(which))  # type: ignore[method-assign]
    for k in range(6):
        before = len(shown)
        show(a, k % 4, k)
        a.inner.reset()
        a.settle()
        show(b, k % 4, k)
        b.reset()
        for packed, n, label in shown[before:]:
            steps, _ = unpack_steps(packed, n)
            cues = silent_cues(n)
            cues.labels[:], cues.flags[-1] = label, CLOSE
            b.run(steps, cues)
            b.reset()
        np.testing.assert_allclose(a.net.weight, b.net.weight, rtol=1e-9, atol=1e-12)
    assert len(shown) == 6


def test_rehearsal_of_none_is_no_rehearsal() -> None:
    a, b = rehearsing(learner(), per_window=0), learner()
    for k in range(8):
        assert np.array_equal(show(a, k % 4, k), show(b, k % 4, k))


def test_no_more_is_shown_between_live_steps_than_belongs_there() -> None:
    a = rehearsing(learner(), per_window=3)
    assert a.rehearsal is not None
    lengths: list[int] = []
    run = a.inner.run
    a.inner.run = lambda steps, *rest: (lengths.append(steps.n), run(steps, *rest))[1]  # type: ignore[method-assign]
    for k in range(6):
        show(a, k % 4, k)
    assert max(lengths) <= 20 * 4 and len(lengths) > 12


def test_a_late_label_is_rehearsed_too() -> None:
    a = rehearsing(learner(), per_window=2)
    assert a.rehearsal is not None
    steps, cues = random_steps(np.random.default_rng(0), 40, a.n_in, 8), silent_cues(40)
    cues.labels[:], cues.flags[-1] = 2, CLOSE
    a.run(random_steps(np.random.default_rng(1), 13, a.n_in, 8))  # an open window, which is left alone
    size = int(a.rehearsal.open.arrays()["at"][0])
    before = a.rehearsal.open.arrays()["bytes"][:size].copy()
    a.recall(steps, cues)
    assert a.rehearsal.store.labels.tolist() == [2]
    assert size > 0 and a.rehearsal.open.arrays()["at"].tolist() == [size, 13]
    assert np.array_equal(before, a.rehearsal.open.arrays()["bytes"][:size])
