"""A rate that follows novelty: the gate is the one that one computes by hand, and is 1 again after a while."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from method_cases import NETWORKS, equals_naive, keeps_the_contract, learner, window

from spiked.learners.contract import Cues
from spiked.learners.memory import MemoryLearner
from spiked.learners.novelty import LATELY, WARM, Novelty, surprise

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile


@pytest.mark.parametrize("network", NETWORKS)
def test_keeps_the_contract(network: str) -> None:
    keeps_the_contract(network, lambda a: Novelty(a, 1.0, 4.0, 5))


@pytest.mark.parametrize("network", NETWORKS)
def test_without_sensitivity_it_is_the_learner_alone(network: str) -> None:
    equals_naive(network, lambda a: Novelty(a, 0.0))


def test_gate_and_step_are_those_of_the_formula() -> None:
    a, shadow = learner(optimizer="sgd", rate=0.2), learner(optimizer="sgd", rate=0.2)
    method = Novelty(a, 2.0, 1.5, 15)
    memory = MemoryLearner(a, (method,))
    losses: list[float] = []
    gates, mean = [], 0.0
    for k in range(30):
        label = 0 if k < 15 else 1 + k % 3  # what was right is wrong from there on
        shadow.load_state({name: v for name, v in memory.state().items() if name in shadow.state()})
        said = memory.run(*window(k, label)).scores[-1].astype(float)
        p = np.exp(said - said.max())
        loss = -np.log(p[label] / p.sum())
        losses.append(loss)
        gate = min(1.5, max(1.0, (running(losses, LATELY) / mean) ** 2.0)) if k >= WARM else 1.0
        assert method.gate == pytest.approx(gate, rel=1e-4)
        mean = running(losses, 15)
        assert method.mean.tolist() == pytest.approx([mean, min(k + 1, 15), running(losses, LATELY)], rel=1e-5)
        assert memory.rate == 0.2  # put back
        shadow.rate = 0.2 * method.gate
        assert np.array_equal(shadow.run(*window(k, label)).scores[-1], said.astype(np.float32))
        assert np.array_equal(shadow.net.weight, a.net.weight)
        gates.append(gate)
    assert min(gates) == 1.0 and max(gates) == 1.5 and len(set(gates)) > 3  # both bounds, and between


def running(losses: list[float], reach: int) -> float:
    """Mean in which each weighs as much as a running mean over `reach` gives it, written as a sum."""
    n = len(losses)
    shares = [1 / min(k + 1, reach) for k in range(n)]
    return sum(x * shares[k] * np.prod([1 - s for s in shares[k + 1 :]]) for k, x in enumerate(losses))


def test_vectors_surprise_by_their_square_error() -> None:
    scores, values = np.array([1.0, 2.0]), np.array([[0, 0], [1, 4]], np.float32)
    assert surprise(scores, 1, values) == 2.0
    a = learner(objective="membrane_mse", rate=0.01)
    method = Novelty(a)
    targets = np.random.default_rng(0).normal(0, 1, (3, 4)).astype(np.float32)
    steps, cues = window(0, 2)
    said = MemoryLearner(a, (method,)).run(steps, Cues(cues.flags, cues.labels, targets)).scores[-1]
    assert method.mean[0] == pytest.approx(np.mean((said - targets[2]) ** 2), rel=1e-5)


def test_after_a_change_the_gate_goes_back_to_one() -> None:
    a = learner(rate=1e-12)  # nothing is learnt: what surprises once would go on to
    method = Novelty(a, 4.0, 10.0, 20)
    memory = MemoryLearner(a, (method,))
    scores = memory.run(*window(0, 0)).scores[-1]
    known, odd = int(np.argmax(scores)), int(np.argmin(scores))
    gates = []
    for k in range(160):
        a.reset()
        memory.run(*window(0, known if k < 60 else odd))
        gates.append(method.gate)
    assert gates[59] == pytest.approx(1, abs=1e-6)
    assert gates[60] > 1 and max(gates) > 2 and max(gates) in gates[60 : 60 + LATELY]
    assert gates[-1] == pytest.approx(1, abs=0.05)
    assert all(x >= y - 1e-9 for x, y in itertools.pairwise(gates[60 + LATELY :]))


def test_what_does_not_teach_does_not_count() -> None:
    a = learner()
    method = Novelty(a)
    memory = MemoryLearner(a, (method,))
    memory.run(*window(0, -1))
    memory.conclude(1)  # a label, and not one step that it was on
    assert method.mean.tolist() == [0, 0, 0]
    memory.run(*window(1, 1))
    assert method.mean[1] == 1


@pytest.mark.parametrize("bad", ({"sensitivity": -0.1}, {"most": 0.5}, {"windows": 0.0}, {"most": np.inf}))
def test_refuses(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        Novelty(learner(), **bad)


def test_refuses_a_reward() -> None:
    with pytest.raises(ValueError, match="no surprise"):
        Novelty(learner(objective="reward"))
