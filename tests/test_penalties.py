"""Online EWC and synaptic intelligence: what they do to the weights is what a dense float64 calculation does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from method_cases import NETWORKS, equals_naive, keeps_the_contract, learner, window

from spiked.learners.gradient import GradientLearner
from spiked.learners.lif import layer_weight
from spiked.learners.memory import MemoryLearner
from spiked.learners.penalties import OnlineEwc, SynapticIntelligence

WEIGHTLIKE = ("importance", "anchor", "fresh", "path")
pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

METHODS = {
    "ewc": lambda a: OnlineEwc(a, 200.0, 20, 0.8, 4),
    "si": lambda a: SynapticIntelligence(a, 5.0, 0.8, 0.01, 3),
}
STRENGTHLESS = {"ewc": lambda a: OnlineEwc(a, 0.0, every=5), "si": lambda a: SynapticIntelligence(a, 0.0, every=5)}


@dataclass
class Dense:
    """The same in NumPy: told how far the optimiser went from each weight, and how far a unit of descent goes."""

    w: np.ndarray
    strength: float
    n: int = 0
    importance: Any = 0.0
    anchor: Any = None
    path: Any = 0.0
    fresh: Any = 0.0
    log: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.anchor = self.w.copy()

    def step(self, move: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Return the descent; `w` is pulled to the minimum of its distance to the step's end and the penalty."""
        stepped = self.w + move
        # argmin over w of (w - stepped)^2 / (2 size) + strength / 2 F (w - a)^2, whose derivative is 0
        stiff = self.strength * self.importance
        pulled = (stepped / size + stiff * self.anchor) / (1 / size + stiff)
        descent = move / size
        self.path = self.path + descent * (pulled - self.w)
        self.w = pulled
        self.n += 1
        self.log.append(self.w)
        return descent

    def ewc(self, move: np.ndarray, size: np.ndarray, windows: int, keep: float, every: int) -> None:
        self.fresh = (1 - 1 / windows) * self.fresh + self.step(move, size) ** 2 / windows
        if self.n % every == 0:
            self.importance = keep * self.importance + self.fresh
            self.anchor, self.fresh = self.w.copy(), 0.0

    def si(self, move: np.ndarray, size: np.ndarray, keep: float, damping: float, every: int) -> None:
        self.step(move, size)
        if self.n % every == 0:
            far = (self.w - self.anchor) ** 2 + damping
            self.importance = keep * self.importance + 2 * np.maximum(self.path, 0) / far
            self.anchor, self.path = self.w.copy(), 0.0


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", METHODS)
def test_keeps_the_contract(name: str, network: str) -> None:
    keeps_the_contract(network, METHODS[name])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", STRENGTHLESS)
def test_without_strength_it_is_the_learner_alone(name: str, network: str) -> None:
    equals_naive(network, STRENGTHLESS[name])


@pytest.mark.parametrize("optimizer", ("sgd", "rms"))
@pytest.mark.parametrize("name", METHODS)
def test_weights_are_those_of_the_dense_calculation(name: str, optimizer: str) -> None:
    case: dict[str, Any] = {"optimizer": optimizer, "rate": 0.05 if optimizer == "sgd" else 0.002}
    a, shadow = learner(**case), learner(**case)  # the shadow takes the steps that the optimiser alone would
    method = METHODS[name](a)
    memory, dense = MemoryLearner(a, (method,)), Dense(a.net.weight.copy(), method.strength)
    for k in range(14):
        shadow.load_state({n: v for n, v in memory.state().items() if n in shadow.state()})
        before = shadow.net.weight.copy()
        shadow.run(*window(k, k % 4))
        memory.run(*window(k, k % 4))
        move = shadow.net.weight - before
        size = np.full_like(move, a.rate) if optimizer == "sgd" else a.rate / (np.sqrt(shadow.average) + 1e-4)
        if name == "si":
            dense.si(move, size, 0.8, 0.01, 3)
        else:
            dense.ewc(move, size, 20, 0.8, 4)
        np.testing.assert_allclose(a.net.weight, dense.w, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(method.importance, dense.importance, rtol=1e-9, atol=1e-12)
    assert np.abs(dense.w - shadow.net.weight).max() > 1e-4  # it does pull


@pytest.mark.parametrize("name", STRENGTHLESS)
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_no_strength_overshoots(name: str, dtype: Any) -> None:
    a = learner(dtype, optimizer="sgd", rate=0.2)
    method = OnlineEwc(a, 1e25, 10, every=3) if name == "ewc" else SynapticIntelligence(a, 1e25, every=3)
    memory = MemoryLearner(a, (method,))
    for k in range(3):
        memory.run(*window(k, k % 4))
    held = method.importance > 1e-20
    assert held.any()
    for k in range(3, 5):  # the anchor is of the third window, and the sixth
        anchor = method.anchor.copy()
        memory.run(*window(k, k % 4))
        np.testing.assert_allclose(a.net.weight[held], anchor[held], rtol=1e-5, atol=1e-6)
    assert np.isfinite(a.net.weight).all()


def test_importance_is_the_mean_square_of_the_gradient() -> None:
    """At a vanishing rate the weights stay, and what is recovered is the gradient that a window gathers."""
    a, other = learner(rate=1e-9), learner(rate=1.0)
    method = OnlineEwc(a, 0.0, 1e9, every=5)
    memory, squares = MemoryLearner(a, (method,)), []
    start = other.state()
    for k in range(5):
        memory.run(*window(k, k % 4))
        a.reset()
        other.run(*window(k, k % 4))
        squares.append((other.net.weight - start["net.weight"]) ** 2)
        other.load_state(start)
    np.testing.assert_allclose(method.importance * 1e9, np.sum(squares, axis=0), rtol=1e-3, atol=1e-8)


def test_path_adds_up_to_what_the_loss_lost() -> None:
    """Along small steps, the sum over the weights of a path is the fall of the loss (to first order)."""
    a = learner(rate=1e-4, optimizer="sgd")
    method = SynapticIntelligence(a, 0.0, every=1000)
    memory, losses = MemoryLearner(a, (method,)), []

    def loss() -> float:
        """Mean cross-entropy over the window's steps: the objective, from the membranes of the read-out."""
        steps = window(0, 1)[0]
        probe = learner(rate=0.0)
        probe.net.weight[:] = a.net.weight
        total = 0.0
        for t in range(steps.n):
            probe.run(steps.slice(t, t + 1), learn=False)
            u = probe._live.state.membrane[-4:]
            total += np.log(np.exp(u - u.max()).sum()) + u.max() - u[1]
        return total / steps.n

    losses.append(loss())
    top = slice(int(a.net.w_at[-2]), None)
    hidden = a.net.weight[: int(a.net.w_at[-2])].copy()
    for _ in range(50):
        a.net.weight[: len(hidden)] = hidden  # the read-out's gradient is exact; spikes do not change
        a.reset()
        memory.run(*window(0, 1))
    a.net.weight[: len(hidden)] = hidden
    losses.append(loss())
    assert losses[0] - losses[1] > 1e-5
    np.testing.assert_allclose(method.path[top].sum(), losses[0] - losses[1], rtol=0.02)


@pytest.mark.parametrize("name", METHODS)
def test_new_outputs_are_not_held(name: str) -> None:
    a = learner()
    method = METHODS[name](a)
    memory = MemoryLearner(a, (method,))
    for k in range(6):
        memory.run(*window(k, k % 4))
    old = {n: v.copy() for n, v in method.arrays().items() if n in WEIGHTLIKE}
    weight = a.net.weight.copy()
    memory.grow(6)
    for n, v in method.arrays().items():
        if n not in WEIGHTLIKE:
            continue
        body = int(a.net.w_at[-2])
        assert np.array_equal(v[:body], old[n][:body])
        assert np.array_equal(v[body:].reshape(-1, 6)[:, :4], old[n][body:].reshape(-1, 4))
        assert not v[body:].reshape(-1, 6)[:, 4:].any()
    assert np.array_equal(layer_weight(a.net, 1)[:, :4], weight[body:].reshape(-1, 4))
    plain = _same_without(a)
    for each in (memory, plain):
        each.run(*window(100, 5))
    new = layer_weight(a.net, 1)[:, 4:]
    assert np.array_equal(new, layer_weight(plain.net, 1)[:, 4:]) and new.any()


def _same_without(a: GradientLearner) -> GradientLearner:
    other = learner()
    other.load_state(a.state())
    return other


@pytest.mark.parametrize("kind", (OnlineEwc, SynapticIntelligence))
def test_what_a_task_gathered_holds_from_its_end_on(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a, alone = learner(), learner()
    method = kind(a, 1e3)
    memory = MemoryLearner(a, (method,))
    for k in range(6):
        monkeypatch.setattr(method.tasks, "taught", lambda k=k: k == 5)
        memory.run(*window(k, k % 4))
        alone.run(*window(k, k % 4))
    assert np.array_equal(a.net.weight, alone.net.weight)
    assert method.importance.any() and np.array_equal(method.anchor, a.net.weight)
    assert not (method.fresh if kind is OnlineEwc else method.path).any()
    for each in (memory, alone):
        each.run(*window(6, 2))
    assert not np.array_equal(a.net.weight, alone.net.weight)


def test_a_rehearsal_is_known_for_one() -> None:
    a = learner()
    method = OnlineEwc(a)
    memory, seen = MemoryLearner(a, (method,)), []
    method.closing = lambda *_: seen.append(method.again)  # type: ignore[method-assign]
    method.rehearsals = lambda _: [window(1, 1)]  # type: ignore[method-assign]
    memory.run(*window(0, 0))
    memory.run(*window(2, 2))
    assert seen == [False, True, False, True]


@pytest.mark.parametrize("bad", ({"strength": -1.0}, {"windows": 0.5}, {"every": -1}, {"keep": -0.1}))
def test_ewc_refuses(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        OnlineEwc(learner(), **bad)


@pytest.mark.parametrize("bad", ({"strength": np.inf}, {"keep": 1.5}, {"every": -1}, {"damping": 0.0}))
def test_si_refuses(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        SynapticIntelligence(learner(), **bad)
