"""Chains of slower variables behind the weights: a dense float64 simulation, and how a memory fades."""

from __future__ import annotations

from typing import Any

import naive_cascade
import numpy as np
import pytest
from method_cases import NETWORKS, equals_naive, keeps_the_contract, learner, window

from spiked.learners.cascade import Cascade
from spiked.learners.gradient import GradientLearner
from spiked.learners.lif import layer_weight
from spiked.learners.memory import MemoryLearner

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile


@pytest.mark.parametrize("network", NETWORKS)
def test_keeps_the_contract(network: str) -> None:
    keeps_the_contract(network, lambda a: Cascade(a, 4, 0.3, True))


@pytest.mark.parametrize("network", NETWORKS)
def test_without_coupling_it_is_the_learner_alone(network: str) -> None:
    equals_naive(network, lambda a: Cascade(a, 4, 0.0, True))


def relaxed(a: GradientLearner, method: Cascade, change: np.ndarray) -> np.ndarray:
    """One window that changes the weights so; all variables after it."""
    a.net.weight[:] += change.astype(a.net.weight.dtype)
    method.taught(a)
    return np.concatenate([a.net.weight[None], method.slow])


@pytest.mark.parametrize(("levels", "coupling"), ((2, 0.1), (3, 5.0), (6, 0.25), (8, 1e6)))
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_variables_are_those_of_the_dense_simulation(levels: int, coupling: float, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a = learner(dtype, hidden=(40,))  # more weights than a block
    assert len(a.net.weight) > 1024
    method = Cascade(a, levels, coupling, True)
    u = np.repeat(a.net.weight.astype(float)[None], levels, axis=0)
    rates = naive_cascade.rates(levels, coupling)
    for _ in range(60):
        change = rng.normal(0, 0.1, len(a.net.weight)).astype(dtype).astype(float)
        u[0] += change
        u = naive_cascade.implicit(u, rates)
        got = relaxed(a, method, change)
        atol = {np.float32: 2e-5, np.float64: 2e-9}[dtype] * (50 if coupling > 10 else 1)
        np.testing.assert_allclose(got, u, rtol=0, atol=atol)


def test_a_chain_at_rest_stays_to_the_bit() -> None:
    a = learner(np.float32, hidden=(40,))
    method, before = Cascade(a, 6, 0.3, True), a.net.weight.copy()
    for _ in range(50):
        method.taught(a)
    assert np.array_equal(a.net.weight, before) and (method.slow == before).all()


def test_a_memory_fades_as_the_root_of_time() -> None:
    """The trace of one pattern under random updates, over the chain's range; then nothing more is lost."""
    levels, coupling, windows = 6, 0.3, 2000
    rng = np.random.default_rng(1)
    a = learner(hidden=(600,))  # 20,000 weights
    a.net.weight[:] = 0
    method = Cascade(a, levels, coupling, True)
    pattern = rng.choice([-1.0, 1.0], len(a.net.weight))
    trace = np.zeros(windows + 1)
    for t in range(windows + 1):
        change = pattern if t == 0 else 0.1 * rng.choice([-1.0, 1.0], len(pattern))
        trace[t] = relaxed(a, method, change)[0] @ pattern / len(pattern)
    t = np.arange(10, 400)  # from where the first pieces are filled, to where the last one is: 4^5 / 0.3 / 8
    kept = naive_cascade.impulse(levels, coupling, t + 1.0)
    noise = 0.1 * np.sqrt(1 / len(pattern) * (1 + np.log(windows)))
    np.testing.assert_allclose(trace[t], kept, rtol=0.03, atol=5 * noise)
    law = 1 / np.sqrt(np.pi * 1.5 * coupling * (t + 1))
    assert np.abs(trace[t] / law - 1).max() < 0.25
    slope = np.polyfit(np.log(t + 1), np.log(trace[t]), 1)[0]
    assert -0.58 < slope < -0.42
    assert trace[10] > 5 * 0.7**10  # an exponential that begins alike is gone


def test_nothing_leaks_from_the_end() -> None:
    a = learner()
    method = Cascade(a, 5, 0.4, True)
    capacity = 2.0 ** np.arange(5)
    before = capacity @ np.concatenate([a.net.weight[None], method.slow])
    change = np.random.default_rng(0).normal(0, 1, len(a.net.weight))
    u = relaxed(a, method, change)
    for _ in range(20_000):
        method.taught(a)
    np.testing.assert_allclose(capacity @ u, before + change, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(capacity.sum() * a.net.weight, before + change, rtol=1e-7, atol=1e-9)


def test_new_outputs_begin_at_rest() -> None:
    a = learner()
    method = Cascade(a, 4, 0.3, True)
    memory = MemoryLearner(a, (method,))
    for k in range(4):
        memory.run(*window(k, k))
    body, old = int(a.net.w_at[-2]), method.slow.copy()
    memory.grow(6)
    assert np.array_equal(method.slow[:, :body], old[:, :body])
    top = method.slow[:, body:].reshape(3, -1, 6)
    assert np.array_equal(top[..., :4], old[:, body:].reshape(3, -1, 4)) and not top[..., 4:].any()
    method.taught(a)
    assert not layer_weight(a.net, 1)[:, 4:].any()


def test_chains_begin_where_a_task_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    a, alone = learner(), learner()
    method = Cascade(a, 4, 0.3)
    memory = MemoryLearner(a, (method,))
    for k in range(6):
        monkeypatch.setattr(method.tasks, "taught", lambda k=k: k == 5)
        memory.run(*window(k, k % 4))
        alone.run(*window(k, k % 4))
    assert np.array_equal(a.net.weight, alone.net.weight)
    assert method.begun[0] and (method.slow == a.net.weight).all()
    begun = a.net.weight.copy()
    memory.run(*window(6, 1))
    assert not np.array_equal(method.slow[0], begun)


@pytest.mark.parametrize("bad", ({"levels": 1}, {"coupling": -0.1}, {"coupling": np.inf}))
def test_refuses(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        Cascade(learner(), **bad)
