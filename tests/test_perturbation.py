"""Learning by perturbation against a dense simulation, torch's gradient, and stated facts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import naive
import numpy as np
import pytest

from spiked.learners import checks
from spiked.learners.contract import CLOSE, UNLABELLED, Cues, Steps, silent_cues
from spiked.learners.lif import NEVER, LayerSpec, Lif, LifState, layer_weight, make_lif, make_lif_state
from spiked.learners.perturbation import MODES, PerturbationLearner, PerturbationSpec
from spiked.learners.perturbation_kernels import _branch
from spiked.learners.trials import random_steps

N_IN, N_OUT = 8, 3


def build(
    depth: int = 1,
    dtype: Any = np.float64,
    seed: int = 0,
    n_in: int = N_IN,
    theta_out: float = math.inf,
    recurrent: bool = False,
    **spec: Any,
) -> PerturbationLearner:
    population = spec.get("population", 1)
    layers = [LayerSpec(10, 20.0, 1.0, recurrent=recurrent)] * (depth - 1) + [
        LayerSpec(N_OUT * population, 30.0, theta_out)
    ]
    net = make_lif(n_in, layers, 1.0, dtype)
    net.weight[:] = np.random.default_rng(depth).normal(0.05, 0.4, net.weight.shape)
    return PerturbationLearner(net, PerturbationSpec(**({"decoder_tau_ms": 100.0} | spec)), seed=seed)


def labelled(n: int, label: int = 1) -> Cues:
    """A window of `n` steps, all labelled."""
    cues = silent_cues(n)
    cues.labels[:] = label
    cues.flags[-1] = CLOSE
    return cues


# the list of checks


@pytest.mark.parametrize("check", list(checks.CHECKS), ids=lambda c: c.__name__.removeprefix("check_"))
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_passes(mode: str, depth: int, check: Callable[..., None]) -> None:
    # its read-out fires, for one of the checks wants spikes
    check(lambda: build(depth, np.float32, n_in=20, theta_out=1.0, mode=mode, rate=0.1), 0)


@pytest.mark.parametrize("decoder", ["rate", "latency", "population"])
@pytest.mark.parametrize("mode", MODES)
def test_passes_with_other_decoders(mode: str, decoder: str) -> None:
    checks.check_learner(
        lambda: build(2, np.float32, n_in=20, theta_out=0.5, mode=mode, rate=0.3, decoder=decoder, population=2)
    )


def rich(mode: str, sigma: float = 0.02, dtype: Any = np.float32) -> PerturbationLearner:
    """Every part of a neuron switched on."""
    hidden = LayerSpec(
        12, np.linspace(10.0, 30.0, 12), 0.6, "zero", recurrent=True, tau_syn_ms=3.0, refractory_ms=2.0,
        tau_adapt_ms=40.0, delay_ms=np.arange(12.0) / 3,
    )  # fmt: skip
    net = make_lif(20, [hidden, LayerSpec(N_OUT, 30.0, 0.5)], 1.0, dtype)
    net.weight[:] = np.random.default_rng(1).normal(0.05, 0.3, net.weight.shape)
    own = layer_weight(net, 0)[20:]
    own[...] = -np.abs(own)  # inhibition: excitation would keep it firing in silence
    return PerturbationLearner(net, PerturbationSpec(mode=mode, sigma=sigma, rate=0.05))


@pytest.mark.parametrize("mode", MODES)
def test_passes_with_every_part_of_a_neuron(mode: str) -> None:
    checks.check_learner(lambda: rich(mode))


def test_copies_start_from_all_that_the_network_remembers() -> None:
    """Perturbed by next to nothing they lose what it loses, in mid-stream, whatever their neurons are made of."""
    rng = np.random.default_rng(2)
    learner = rich("accept", 1e-13, np.float64)
    spikes = np.zeros(2, np.int64)
    for _ in range(20):
        learner.run(random_steps(rng, 7, 20, 8), learn=False)  # the copies stay behind
        n = int(rng.integers(3, 12))  # short: a difference at the start would not fade
        spikes += learner.run(random_steps(rng, n, 20, 8), labelled(n, int(rng.integers(N_OUT)))).spikes[0]
        plus, own = learner.losses
        assert plus == pytest.approx(own, rel=1e-9)
    assert (spikes > 20).all()


def test_a_copy_takes_over_every_field_of_the_dynamics() -> None:
    """Whatever fields there will be: all but the two that only count."""
    state, copy = make_lif_state(rich("accept").net), make_lif_state(rich("accept").net)
    for array in (*state, *copy):
        array[...] = np.random.default_rng(array.size).integers(1, 9, array.shape)
    for array in copy:
        array[...] += 10
    _branch(state, copy)
    for name in LifState._fields:
        assert np.array_equal(getattr(copy, name), getattr(state, name)) == (name not in ("total", "quiet", "ones")), (
            name
        )


# against a dense simulation


class Dense:
    """One network of the comparison, step by step, in plain NumPy."""

    def __init__(self, net: Lif) -> None:
        self.net = net
        self.weights: list[np.ndarray] = []
        self.heard = [np.zeros(int(n)) for n in net.rows]
        self.u = [np.zeros(int(n)) for n in net.sizes[1:]]
        self.s = [np.zeros(int(n)) for n in net.sizes[1:]]

    def branch(self, weights: list[np.ndarray]) -> Dense:
        copy = Dense(self.net)
        copy.weights, copy.u, copy.s = weights, [u.copy() for u in self.u], [s.copy() for s in self.s]
        return copy

    def step(self, x: np.ndarray) -> None:
        below, net = x, self.net
        for i, w in enumerate(self.weights):
            theta, beta = float(net.threshold[i]), net.beta[net.u_at[i] : net.u_at[i + 1]]
            heard = self.heard[i] = np.concatenate([below, self.s[i]]) if net.recurrent[i] else below
            self.u[i] = beta * self.u[i] - np.where(self.s[i] > 0, theta, 0) + heard @ w
            self.s[i] = (self.u[i] > theta).astype(float)
            below = self.s[i]

    def loss(self, label: int, population: int) -> float:
        z = self.u[-1].reshape(-1, population).mean(1)
        return float(z.max() + np.log(np.exp(z - z.max()).sum()) - z[label])


def copies_of(learner: PerturbationLearner) -> list[list[np.ndarray]]:
    nets = learner._nets
    return [[layer_weight(n, i).copy() for i in range(len(n.rows))] for n in (nets.net, nets.plus, nets.minus)]


@pytest.mark.parametrize("population", [1, 2])
@pytest.mark.parametrize(("depth", "recurrent"), [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize("mode", MODES)
def test_a_step_is_what_the_formula_says(mode: str, depth: int, recurrent: bool, population: int) -> None:
    """Windows in mid-stream, partly labelled: losses, and the weights after, from a dense simulation of the copies."""
    rng = np.random.default_rng(3)
    sigma, rate = 0.1, 0.02
    learner = build(depth, recurrent=recurrent, mode=mode, sigma=sigma, rate=rate, population=population)
    live = Dense(learner.net)
    live.weights = copies_of(learner)[0]
    n_accepted = 0
    for _ in range(12):
        n, label = 25, int(rng.integers(N_OUT))
        steps, cues = random_steps(rng, n, N_IN, 4, (0.5, 1.5)), labelled(n, label)
        cues.labels[: int(rng.integers(n))] = UNLABELLED
        weight, plus, minus = copies_of(learner)
        runs = [live.branch(plus), live.branch(minus) if mode == "gradient" else live]
        losses: list[list[float]] = [[], []]
        used = [np.zeros(w.shape[0], bool) for w in weight]
        for t, x in enumerate(naive.densify(steps.indptr, steps.indices, steps.counts, N_IN)):
            for run in {id(run): run for run in [live, *runs]}.values():
                run.step(x)
            for run in runs:
                for i in range(depth):
                    used[i] |= run.heard[i] > 0
            if cues.labels[t] >= 0:
                for mine, run in zip(losses, runs):
                    mine.append(run.loss(label, population))
        learner.run(steps, cues)
        up, down = (float(np.mean(mine)) for mine in losses)
        assert learner.losses == pytest.approx((up, down), rel=1e-12)
        after = copies_of(learner)
        for i in range(depth):
            delta = (plus[i] - weight[i]) * used[i][:, None]
            np.testing.assert_allclose(np.abs(plus[i] - weight[i]), sigma, rtol=1e-12)
            if mode == "gradient":
                np.testing.assert_allclose(minus[i] - weight[i], weight[i] - plus[i], atol=1e-15)
                want = weight[i] - rate * (up - down) / (2 * sigma**2) * delta
            else:
                want = weight[i] + delta * (up < down)
            np.testing.assert_allclose(after[0][i], want, rtol=1e-11, atol=1e-14)
            fresh = np.sign(after[1][i] - after[0][i])[used[i]]
            assert (fresh != np.sign(plus[i] - weight[i])[used[i]]).any(), "drawn anew"
        n_accepted += up < down
        live.weights = after[0]
    assert 0 < n_accepted < 12


def mean_step(learner: PerturbationLearner, steps: Steps, cues: Cues, draws: int) -> np.ndarray:
    before = learner.weights(0)
    for _ in range(draws):
        learner.run(steps, cues)
        learner.reset()
    return np.asarray(learner.weights(0) - before) / draws


def test_the_mean_step_is_down_the_gradient() -> None:
    """A layer that integrates has a smooth loss: torch's gradient of it is the truth, direction and size."""
    rng = np.random.default_rng(5)
    rate, draws = 1e-9, 4000  # so small that the weights stand still
    learner = build(1, sigma=1e-3, rate=rate)
    steps, cues = random_steps(rng, 30, N_IN, 4, (0.5, 1.5)), labelled(30)
    x = naive.densify(steps.indptr, steps.indices, steps.counts, N_IN)
    stack = naive.Stack([learner.weights(0)], [float(learner.net.beta[0])], [NEVER], [False])
    gradient = naive.bptt(stack, x, "membrane_ce", cues.labels, "fast_sigmoid", 2.0)[0] / 30
    step = mean_step(learner, steps, cues, draws)
    assert np.abs(gradient).min() > 0
    cosine = -(step * gradient).sum() / np.linalg.norm(step) / np.linalg.norm(gradient)
    assert cosine > 0.98
    assert -(step * gradient).sum() / (gradient**2).sum() == pytest.approx(rate, rel=0.1)


def test_the_mean_step_through_spikes_is_that_of_all_signs() -> None:
    """No gradient exists before spikes; the mean over every possible delta does, and a tiny network lists them all."""
    rng = np.random.default_rng(6)
    sigma, rate, n_in = 0.2, 1e-9, 2
    net = make_lif(n_in, [LayerSpec(2, 20.0), LayerSpec(2, 30.0, math.inf)], 1.0, np.float64)
    net.weight[:] = rng.normal(0.3, 0.3, net.weight.shape)
    learner = PerturbationLearner(net, PerturbationSpec(sigma=sigma, rate=rate))
    steps, cues = random_steps(rng, 25, n_in, 2, (0.5, 1.5)), labelled(25)
    x = naive.densify(steps.indptr, steps.indices, steps.counts, n_in)
    before = net.weight.copy()

    def loss(signs: tuple[int, ...]) -> float:
        flat = before + sigma * np.array(signs)
        run = Dense(net).branch([flat[:4].reshape(2, 2), flat[4:].reshape(2, 2)])
        total = 0.0
        for row in x:
            run.step(row)
            total += run.loss(1, 1)
        return total / len(x)

    every = list(itertools.product((-1, 1), repeat=8))
    losses = {signs: loss(signs) for signs in every}
    assert len({round(v, 9) for signs, v in losses.items() if signs[4:] == (1, 1, 1, 1)}) > 4, "spikes move"
    want = np.mean([losses[s] * np.array(s) for s in every], 0) / sigma
    for _ in range(draws := 3000):
        learner.run(steps, cues)
        learner.reset()
    got = (before - net.weight) / rate / draws
    spread = np.std([losses[s] - losses[tuple(-k for k in s)] for s in every]) / (2 * sigma)
    assert np.abs(got - want).max() < 4 * spread / math.sqrt(draws)
    assert np.abs(want).max() > 20 * spread / math.sqrt(draws), "there is something to find"


@pytest.mark.parametrize("depth", [1, 2])
def test_accepting_never_raises_the_loss_of_the_window_it_judged(depth: int) -> None:
    """The same window again and again, from rest: what W loses never rises, and falls in the end."""
    rng = np.random.default_rng(7)
    learner = build(depth, mode="accept", sigma=0.05)
    steps, cues = random_steps(rng, 50, N_IN, 4), labelled(50)
    history = []
    for _ in range(300):
        learner.run(steps, cues)
        trial, own = learner.losses
        if history:
            assert own == min(history[-1]), "W is now the better of the two, to the bit"
        history.append((trial, own))
        learner.reset()
    assert history[-1][1] < 0.5 * history[0][1]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_it_learns_to_tell_three_patterns_apart(mode: str, depth: int) -> None:
    rng = np.random.default_rng(8)
    learner = build(depth, np.float32, mode=mode, sigma=0.05, rate=0.05)
    groups = [np.arange(8)[k::3] for k in range(N_OUT)]

    def sample(label: int) -> Steps:
        rows = [np.sort(rng.permutation(groups[label])[: int(rng.integers(1, 3))]) for _ in range(60)]
        indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
        return Steps(0, indptr, np.concatenate(rows).astype(np.int32), np.ones(indptr[-1], np.float32))

    def accuracy() -> float:
        right = 0
        for k in range(60):
            right += int(learner.run(sample(k % N_OUT), labelled(60, 0), learn=False).scores[0].argmax()) == k % N_OUT
            learner.reset()
        return right / 60

    for k in range(900):
        learner.run(sample(k % N_OUT), labelled(60, k % N_OUT))
        learner.reset()
    assert accuracy() >= 0.95


# facts


def test_weights_that_the_window_did_not_use_stay() -> None:
    learner = build(1)
    before, drawn = learner.weights(0), learner._draws.drawn.copy()
    steps = Steps(0, np.arange(21), np.tile(np.array([2, 5], np.int32), 10), np.ones(20, np.float32))
    learner.run(steps, labelled(20))
    moved = (learner.weights(0) != before).any(1)
    assert np.flatnonzero(moved).tolist() == [2, 5] == np.flatnonzero(learner._draws.drawn != drawn).tolist()


def test_growth_keeps_the_perturbations_of_old_weights() -> None:
    """Also where a row is longer than one random word."""
    for population in (1, 30):
        learner = build(2, population=population)
        rng = np.random.default_rng(9)
        learner.run(random_steps(rng, 30, N_IN, 4), labelled(30))
        before = copies_of(learner)
        learner.grow(N_OUT + 2)
        n = N_OUT * population
        for mine, old in zip(copies_of(learner), before):
            np.testing.assert_array_equal(mine[0], old[0])
            np.testing.assert_array_equal(mine[1][:, :n], old[1])
        assert not learner.weights(1)[:, n:].any()
        assert learner._nets.plus.weight.all()


def test_another_seed_draws_other_perturbations() -> None:
    a, b = build(2, seed=1), build(2, seed=2)
    agree = float((a._nets.plus.weight == b._nets.plus.weight).mean())
    assert 0.3 < agree < 0.7
    signs = np.sign(a._nets.plus.weight - a.net.weight)
    assert 0.3 < float((signs > 0).mean()) < 0.7


def test_a_recall_that_teaches_drops_the_live_window() -> None:
    rng = np.random.default_rng(10)
    learner, other = build(1), build(1)
    first, kept, second = (random_steps(rng, 20, N_IN, 4) for _ in range(3))
    cues = labelled(20)
    cues.flags[:] = 0
    for a in (learner, other):
        a.run(first, cues, learn=a is learner)  # the other never gathered it
        a.recall(kept, labelled(20, 2))
        a.run(second, labelled(20))
    np.testing.assert_array_equal(learner.weights(0), other.weights(0))


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ({"mode": "guess"}, "gradient, accept"),
        ({"sigma": 0.0}, "sigma"),
        ({"decoder": "vote"}, "vote"),
        ({"decoder": "population"}, "2 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(spec: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        build(1, **spec)


def test_outputs_must_be_whole_classes_and_cannot_be_taken_away() -> None:
    with pytest.raises(ValueError, match="3 outputs"):
        PerturbationLearner(make_lif(4, [LayerSpec(3)], 1.0), PerturbationSpec(population=2))
    with pytest.raises(ValueError, match="3 outputs cannot shrink"):
        build(1).grow(2)
    with pytest.raises(ValueError, match="label 3"):
        build(1).conclude(3)
