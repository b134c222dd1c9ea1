"""Full RTRL and its sparse form against torch autograd, a dense recursion, and the lazy learner."""

from __future__ import annotations

import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from naive import densify
from naive_recurrent import Gradients, recurrent_course, recurrent_gradients
from naive_rtrl_full import DenseFullRtrl, reached

from spiked.learners import checks, rtrl_full_pattern
from spiked.learners.contract import CLOSE, READ, UNLABELLED, Cues, Steps, silent_cues
from spiked.learners.gradient import GradientLearner
from spiked.learners.gradient_spec import GradientSpec
from spiked.learners.lif import LayerSpec, Lif, decay, layer_weight, make_lif
from spiked.learners.rtrl_full import FullRtrlLearner, FullRtrlSpec
from spiked.learners.surrogates import SURROGATES
from spiked.learners.trials import random_steps, silent_steps

N_IN, N_OUT = 10, 3
TAU, TAU_OUT = 12.0, 30.0
TOLERANCE: dict[Any, float] = {np.float32: 1e-4, np.float64: 1e-9}
PARTS: dict[str, dict[str, Any]] = {
    "lif": {},
    "coupled": {"tau_adapt_ms": 40.0},
    "decoupled": {"tau_adapt_ms": 60.0, "jump": 0.3},
    "current": {"tau_syn_ms": 5.0},
    "zero": {"reset": "zero"},
    "refractory": {"refractory_ms": 3.0},
    "everything": {
        "tau_mem_ms": np.linspace(4.0, 40.0, 7),
        "tau_adapt_ms": 60.0,
        "jump": 0.2,
        "tau_syn_ms": 4.0,
        "refractory_ms": 2.0,
    },
}


def network(n: int = 7, dtype: Any = np.float64, seed: int = 0, density: float = 1.0, **parts: Any) -> Lif:
    spec = LayerSpec(n, **({"tau_mem_ms": TAU, "recurrent": True} | parts))
    net = make_lif(N_IN, [spec, LayerSpec(N_OUT, TAU_OUT, np.inf)], 1.0, dtype)
    rng = np.random.default_rng(seed)
    weight = layer_weight(net, 0)
    weight[:] = rng.normal(0.05, 0.4, weight.shape)
    weight[N_IN:] *= rng.random(weight[N_IN:].shape) < density
    layer_weight(net, 1)[:] = rng.normal(0, 0.3, (n, N_OUT))
    return net


def build(net: Lif, **spec: Any) -> FullRtrlLearner:
    return FullRtrlLearner(net, FullRtrlSpec(**({"optimizer": "sgd", "rate": 0.0} | spec)))


def parts_of(net: Lif) -> dict[str, Any]:
    """What the oracles need to know of a network but its weights."""
    n = int(net.sizes[1])
    return {
        "beta": net.beta[:n].astype(float),
        "kappa": float(net.beta[n]),
        "rho": float(net.rho[0]),
        "jump": float(net.jump[0]),
        "theta": float(net.threshold[0]),
        "alpha": float(net.alpha[0]),
    }


def matrices(net: Lif) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hidden = layer_weight(net, 0).astype(float)
    return hidden[:N_IN], hidden[N_IN:], layer_weight(net, 1).astype(float)


def stream(seed: int, n: int, closes: tuple[int, ...] = ()) -> tuple[Steps, Cues]:
    """Steps, and labels that change with the windows and are off at the start of each."""
    rng = np.random.default_rng(seed)
    cues = silent_cues(n)
    for start, stop in zip([0, *closes], [*closes, n]):
        cues.labels[start:stop] = rng.integers(0, N_OUT, stop - start)
        cues.labels[start : start + 4] = UNLABELLED
    for stop in closes:
        cues.flags[stop - 1] = CLOSE
    return random_steps(rng, n, N_IN, 5, (0.5, 2.0)), cues


def dense_x(steps: Steps) -> np.ndarray:
    return densify(steps.indptr, steps.indices, steps.counts, N_IN)


def autograd(net: Lif, steps: Steps, cues: Cues, **how: Any) -> Gradients:
    also = {"refractory": int(net.hold[0]), "to_zero": bool(net.to_zero[0])}
    return recurrent_gradients(*matrices(net), dense_x(steps), cues.labels, **(parts_of(net) | also | how))


def gradients(learner: FullRtrlLearner) -> Gradients:
    hidden = -learner.descent(0)
    return Gradients(hidden[:N_IN], hidden[N_IN:], -learner.descent(1))


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    assert np.abs(want).max() > 0
    return float(np.abs(got - want).max() / np.abs(want).max())


def assert_gradient(got: Gradients, want: Gradients, tolerance: float) -> None:
    for name in Gradients._fields:
        assert relative_error(getattr(got, name), getattr(want, name)) < tolerance, name


# The whole matrix.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("objective", ["membrane_ce", "membrane_mse"])
@pytest.mark.parametrize("parts", PARTS)
def test_gradient_equals_autograd(parts: str, objective: str, dtype: Any) -> None:
    """In the third window at rate 0: the influence outlives windows, and recurrence is not detached."""
    net = network(7, dtype, **PARTS[parts])
    steps, cues = stream(1, 90, (25, 50))
    learner = build(net, objective=objective)
    learner.run(steps, cues)
    want = autograd(net, steps, cues, objective=objective, since=50)
    assert_gradient(gradients(learner), want, TOLERANCE[dtype])
    local = autograd(net, steps, cues, objective=objective, since=50, detach_recurrent=True)
    assert relative_error(local.w_rec, want.w_rec) > 0.05  # what e-prop leaves out is much here


@pytest.mark.parametrize("kind", SURROGATES[:3])
@pytest.mark.parametrize("n", [1, 2, 12])
def test_gradient_at_any_size_and_surrogate(n: int, kind: str) -> None:
    net = network(n, seed=n, tau_adapt_ms=30.0)
    steps, cues = stream(2, 70)
    slope = {"fast_sigmoid": 1.0, "sigmoid": 3.0, "triangular": 1.0}[kind]  # narrow: a wide one amplifies without end
    learner = build(net, surrogate=kind, surrogate_slope=slope)
    learner.run(steps, cues)
    want = autograd(net, steps, cues, surrogate_name=kind, slope=slope)
    assert_gradient(gradients(learner), want, 1e-9)
    assert np.abs(want.w_rec).max() < 1e6  # far from the cap


def test_gradient_through_silence() -> None:
    """The read-out's leak carries the influence on while nothing happens."""
    net = network()
    first, _ = stream(3, 40)
    gap, later = silent_steps(60), stream(4, 30)
    indptr = np.concatenate([first.indptr, first.indptr[-1] + gap.indptr[1:]])
    indptr = np.concatenate([indptr, indptr[-1] + later[0].indptr[1:]])
    steps = Steps(
        0,
        indptr,
        np.concatenate([first.indices, later[0].indices]),
        np.concatenate([first.counts, later[0].counts]),
    )
    all_cues = silent_cues(steps.n)
    all_cues.labels[:] = np.arange(steps.n) % N_OUT
    learner = build(net)
    learner.run(steps, all_cues)
    assert_gradient(gradients(learner), autograd(net, steps, all_cues), 1e-9)


def test_vector_targets() -> None:
    net = network()
    steps, cues = stream(5, 60)
    targets = np.random.default_rng(5).normal(size=(4, N_OUT)).astype(np.float32)
    cues = cues._replace(values=targets, labels=(np.arange(60) % 5 - 1).astype(np.int32))
    learner = build(net, objective="membrane_mse")
    learner.run(steps, cues)
    want = autograd(net, steps, cues, objective="membrane_mse", targets=targets.astype(float))
    assert_gradient(gradients(learner), want, 1e-9)


def test_without_recurrence_it_is_the_factored_learner() -> None:
    """Two derivations of one gradient: the factored traces of `gradient`, and the whole matrix."""
    net = network(recurrent=False)
    steps, cues = stream(6, 80, (30,))
    full = build(net)
    factored = GradientLearner(network(recurrent=False), GradientSpec(optimizer="sgd", rate=0.0))
    a, b = full.run(steps, cues), factored.run(steps, cues)
    np.testing.assert_array_equal(a.scores, b.scores)
    for layer in range(2):
        assert relative_error(full.descent(layer), factored.descent(layer)) < 1e-10


def test_scores_are_an_exponential_trace_of_the_read_out() -> None:
    net = network()
    steps, _ = stream(7, 50)
    learner = build(net, decoder_tau_ms=40.0)
    d = decay(40.0, 1.0)
    output = recurrent_course(*matrices(net), dense_x(steps), **parts_of(net)).output
    learner.run(steps)
    np.testing.assert_allclose(learner.conclude().scores[0], (1 - d) * d ** np.arange(49, -1, -1) @ output, rtol=1e-6)


# Learning by windows, and the sparse form.


def dense_of(learner: FullRtrlLearner) -> DenseFullRtrl:
    s = learner.spec
    return DenseFullRtrl(
        *(m.copy() for m in matrices(learner.net)),
        **parts_of(learner.net),
        surrogate=s.surrogate,
        slope=s.surrogate_slope,
        objective=s.objective,
        optimizer=s.optimizer,
        rate=learner.rate,
        sparse_steps=s.sparse_steps or 0,
    )


def run_dense(dense: DenseFullRtrl, steps: Steps, cues: Cues) -> DenseFullRtrl:
    for x, label, flag in zip(dense_x(steps), cues.labels, cues.flags):
        dense.step(x, int(label), bool(flag & CLOSE))
    return dense


@pytest.mark.parametrize("parts", ["lif", "decoupled", "current"])
@pytest.mark.parametrize("optimizer", ["sgd", "rms"])
@pytest.mark.parametrize("sparse_steps", [None, 1, 2])
def test_learning_by_window_equals_dense(sparse_steps: int | None, optimizer: str, parts: str) -> None:
    """Eight windows in which the weights move, one of them unlabelled."""
    rate = 0.02 if optimizer == "sgd" else 2e-3
    net = network(8, density=0.4, **PARTS[parts])
    start = [m.copy() for m in matrices(net)]
    learner = build(net, optimizer=optimizer, rate=rate, sparse_steps=sparse_steps)
    steps, cues = stream(8, 200, tuple(range(25, 201, 25)))
    cues.labels[50:75] = UNLABELLED
    dense = dense_of(learner)
    learner.run(steps, cues)
    run_dense(dense, steps, cues)
    for got, want, before in zip(matrices(learner.net), (dense.w_in, dense.w_rec, dense.w_out), start):
        assert relative_error(got, want) < 1e-9
        assert np.abs(want - before).max() > 1e-3
    if sparse_steps:
        np.testing.assert_array_equal(learner.weights(0)[N_IN:][start[1] == 0], 0)  # no synapse, none made


@pytest.mark.parametrize("parts", ["lif", "coupled", "current"])
def test_one_step_is_autograd_with_only_the_loop_to_itself(parts: str) -> None:
    net = network(**PARTS[parts])
    steps, cues = stream(9, 80, (30,))
    learner = build(net, sparse_steps=1)
    learner.run(steps, cues)
    want = autograd(net, steps, cues, since=30, detach_recurrent=True, keep_self=True)
    assert_gradient(gradients(learner), want, 1e-9)


@pytest.mark.parametrize("parts", ["lif", "decoupled"])
def test_many_steps_are_the_whole_matrix(parts: str) -> None:
    """Where synapses are few, and where they are all there: then two steps are enough."""
    steps, cues = stream(10, 80)
    for density, sparse_steps in ((0.35, 8), (1.0, 2)):
        net = network(8, seed=3, density=density, **PARTS[parts])
        learner = build(net, sparse_steps=sparse_steps)
        learner.run(steps, cues)
        want = autograd(net, steps, cues)
        synapse = layer_weight(net, 0)[N_IN:] != 0
        assert_gradient(gradients(learner), want._replace(w_rec=want.w_rec * synapse), 1e-9)


def test_two_steps_of_a_sparse_layer_lie_between() -> None:
    """They differ from one step and from all, and come nearer to the whole gradient than one step does."""
    steps, cues = stream(11, 80)
    found = {}
    for sparse_steps in (1, 2, 3, 0):
        learner = build(network(10, seed=4, density=0.2), sparse_steps=sparse_steps)
        learner.run(steps, cues)
        found[sparse_steps] = gradients(learner).w_in
        kept = len(learner._live.inf.membrane)
        assert kept == (10 * 10 * (N_IN + 10) if sparse_steps == 0 else _kept(learner.net, sparse_steps))
    errors = [relative_error(found[k], found[0]) for k in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2] > 1e-3
    for k in (1, 2, 3):
        dense = run_dense(dense_of(build(network(10, seed=4, density=0.2), sparse_steps=k)), steps, cues)
        assert relative_error(found[k], dense.grad[0][:N_IN]) < 1e-9


def _kept(net: Lif, sparse_steps: int) -> int:
    """Entries that the pattern holds: for each neuron, its synapses times those that it reaches."""
    w_rec = matrices(net)[1]
    return int(((N_IN + (w_rec != 0).sum(0)) * reached(w_rec, sparse_steps).sum(0)).sum())


# Limits.


def test_a_matrix_too_large_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(60)  # 60 * 60 * 70 entries and 3 * 60 * 70, 8 bytes each
    needed = (60 * 60 * 70 + 3 * 60 * 70) * 8
    monkeypatch.setattr(rtrl_full_pattern, "MAX_BYTES", needed)
    learner = build(net)
    assert learner._live.inf.membrane.nbytes + learner._live.inf.output.nbytes == needed
    del learner
    monkeypatch.setattr(rtrl_full_pattern, "MAX_BYTES", needed - 1)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=re.escape(f"60 neurons takes {needed} bytes; the limit is {needed - 1}")):
            build(net)
        assert tracemalloc.get_traced_memory()[1] < needed / 10
    finally:
        tracemalloc.stop()
    build(net, sparse_steps=1)  # fits


def test_an_adaptive_layer_needs_two_numbers_for_each_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtrl_full_pattern, "MAX_BYTES", (60 * 60 * 70 + 3 * 60 * 70) * 8)
    with pytest.raises(ValueError, match="sparse_steps"):
        build(network(60, tau_adapt_ms=50.0))


@pytest.mark.parametrize(
    ("layers", "spec", "says"),
    [
        ([LayerSpec(5)], {}, "1 layers"),
        ([LayerSpec(5), LayerSpec(3)], {}, "only integrates"),
        ([LayerSpec(5), LayerSpec(3, threshold=np.inf, recurrent=True)], {}, "only integrates"),
        ([LayerSpec(5), LayerSpec(3, threshold=np.inf, tau_syn_ms=5.0)], {}, "only integrates"),
        ([LayerSpec(5, delay_ms=2.0), LayerSpec(3, threshold=np.inf)], {}, "delays"),
        ([LayerSpec(5), LayerSpec(3, threshold=np.inf)], {"objective": "rate_ce"}, "rate_ce"),
        ([LayerSpec(5), LayerSpec(3, threshold=np.inf)], {"sparse_steps": -1}, "sparse_steps is -1"),
    ],
)
def test_other_networks_are_refused(layers: list[LayerSpec], spec: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build(make_lif(4, layers, 1.0, np.float64), **spec)


def test_an_influence_that_recurrence_amplifies_stays_finite() -> None:
    """Every neuron near threshold for ever, and weights that multiply: exact gradients would overflow."""
    net = network(6, np.float32, tau_adapt_ms=50.0, jump=3.0)
    layer_weight(net, 0)[N_IN:] = 4.0
    learner = build(net, surrogate="triangular", surrogate_slope=1e-6, optimizer="rms", rate=1e-3)
    steps, cues = stream(12, 1500, tuple(range(50, 1501, 50)))
    learner.run(steps, cues)
    for name, array in learner.state().items():
        assert np.isfinite(array).all(), name


def test_a_pause_of_learning_voids_its_window() -> None:
    steps, cues = stream(13, 60)
    a, b = (build(network(), rate=0.01) for _ in range(2))
    a.run(steps, cues)
    assert np.abs(a.descent(0)).max() > 0
    a.run(silent_steps(5), learn=False)
    assert np.abs(a.descent(0)).max() == 0 and np.abs(a.descent(1)).max() == 0
    a.reset()
    closing = cues._replace(flags=np.where(np.arange(60) == 59, CLOSE, 0).astype(np.uint8))
    a.run(steps, closing)
    b.run(steps, closing)
    np.testing.assert_array_equal(a.weights(0), b.weights(0))
    np.testing.assert_array_equal(a.weights(1), b.weights(1))


def test_growth_keeps_the_gradient_of_an_open_window() -> None:
    net = network()
    steps, cues = stream(14, 60)
    learner = build(net, objective="membrane_mse")
    learner.run(steps.slice(0, 30), Cues(cues.flags[:30], cues.labels[:30], cues.values))
    learner.grow(N_OUT + 2)
    learner.run(steps.slice(30, 60), Cues(cues.flags[30:], cues.labels[30:], cues.values))
    want = autograd(net, steps, cues, objective="membrane_mse")  # outputs of weight 0 add nothing to the rest
    got = gradients(learner)
    assert_gradient(got._replace(w_out=got.w_out[:, :N_OUT]), want, 1e-9)


LEARNERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lif": ({}, {"optimizer": "sgd", "rate": 1e-3}),
    "adaptive": ({"tau_adapt_ms": 60.0}, {}),
    "mse": ({"tau_adapt_ms": 30.0, "jump": 0.2}, {"objective": "membrane_mse", "optimizer": "sgd", "rate": 1e-4}),
    "current": ({"tau_syn_ms": 5.0, "refractory_ms": 2.0}, {"surrogate": "triangular", "surrogate_slope": 0.7}),
    "snap-1": ({"density": 0.3}, {"sparse_steps": 1}),
    "snap-2": ({"density": 0.3, "tau_adapt_ms": 60.0, "tau_syn_ms": 5.0}, {"sparse_steps": 2}),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_learner_keeps_its_contract(name: str) -> None:
    parts, spec = LEARNERS[name]
    spec = {"decoder_tau_ms": 60.0, "optimizer": "rms", "rate": 1e-3} | spec

    def make() -> FullRtrlLearner:
        net = network(8, np.float32, **parts)
        layer_weight(net, 0)[N_IN:] *= 0.06 if "tau_syn_ms" in parts else 0.4  # weak: silence puts it to rest
        return build(net, **spec)

    checks.check_learner(make)


def test_the_pattern_is_part_of_a_sparse_state() -> None:
    """A learner whose weights begin with other zeros takes over the pattern with the weights, or refuses."""
    ring = network(6, seed=1, density=0.0)
    other = network(6, seed=1, density=0.0)
    for net, shift in ((ring, 1), (other, 2)):
        layer_weight(net, 0)[N_IN:] = 0.5 * np.roll(np.eye(6), shift, 1)
    a, b = build(ring, sparse_steps=2, rate=0.01), build(other, sparse_steps=2, rate=0.01)
    steps, cues = stream(15, 100, (50, 100))
    cues.flags[::10] |= READ
    a.run(steps, cues)
    b.load_state(a.state())
    np.testing.assert_array_equal(a.run(steps, cues).scores, b.run(steps, cues).scores)
    assert all(x.tobytes() == y.tobytes() for x, y in zip(a.state().values(), b.state().values()))
    with pytest.raises(ValueError, match=r"pattern\."):
        build(network(6, density=0.3), sparse_steps=2).load_state(a.state())
