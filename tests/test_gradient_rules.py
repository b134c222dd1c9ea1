"""Feedback, regularisers, optimisers and surrogates of `GradientLearner` against dense statements of each."""

from __future__ import annotations

from typing import Any

import naive_gradient
import numpy as np
import pytest
import torch
from gradient_cases import (
    N_OUT,
    TOLERANCE,
    assert_close,
    build,
    busy,
    dense_of,
    dense_x,
    follow,
    labelled,
    layers_of,
    matrices_of,
    relative_error,
    step_taken,
)

from spiked.learners.contract import CLOSE, Steps, silent_cues
from spiked.learners.counter import make_key, word
from spiked.learners.gradient import GradientLearner
from spiked.learners.optimizers import OPTIMIZERS
from spiked.learners.regularisers import Regularisers
from spiked.learners.surrogates import SURROGATES, noise, surrogate

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

DTYPES = [np.float64, np.float32]


# Feedback.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("feedback", ["symmetric", "random", "direct", "adaptive", "local"])
def test_learning_by_window_equals_dense(feedback: str, optimizer: str, dtype: Any) -> None:
    """Sixteen windows, weights moving, traces living on; two hidden layers, labelled and unlabelled windows."""
    rng = np.random.default_rng(10)
    rate = {"sgd": 0.02, "momentum": 0.05, "rms": 1e-3, "bounded": 0.5}[optimizer]
    made = {"kind": "decoupled", "feedback": feedback, "optimizer": optimizer, "rate": rate}
    learner = build((16, 12), dtype, **made)
    dense, start = dense_of(learner), build((16, 12), dtype, **made)
    steps = busy(rng, 200, (70,))
    cues = labelled(steps.n, rng, tuple(range(29, steps.n, 29)))
    cues.labels[29:58] = -1
    learner.run(steps, cues)
    follow(dense, steps, cues)
    tolerance = 1e-9 if dtype is np.float64 else 1e-4
    for layer, want in enumerate(dense.layers):
        moved = start.weights(layer).astype(np.float64)
        assert_close(learner.weights(layer) - moved, want.weight - moved, tolerance, f"{feedback}, {optimizer}", dtype)
        assert np.abs(want.weight - moved).max() > 1e-3
    if feedback == "adaptive":
        for ours, theirs, first in zip(matrices_of(learner), dense.matrices, matrices_of(start)):
            assert_close(ours - first, theirs - first, tolerance, "adaptive, the matrices", dtype)


def test_feedback_by_the_transposed_weights_is_symmetric_feedback() -> None:
    rng = np.random.default_rng(11)
    steps, cues = busy(rng, 120), labelled(120, rng)
    exact, by_matrix = build((16, 12)), build((16, 12), feedback="random")
    f = by_matrix._feedback
    for layer in range(2):
        f.matrix[f.at[layer] : f.at[layer + 1]] = exact.weights(layer + 1).T.ravel()
    for learner in (exact, by_matrix):
        learner.run(steps, cues)
    for layer in range(3):
        np.testing.assert_array_equal(exact.descent(layer), by_matrix.descent(layer))


def test_adaptive_feedback_aligns_with_the_weights() -> None:
    """What a matrix and its weights differ by decays, in the rows of neurons that fire; it would stay for ever else."""
    rng = np.random.default_rng(12)
    learner = build(feedback="adaptive", rate=0.1, kind="plain")
    gap = np.median(np.abs(matrices_of(learner)[0] - learner.weights(1)))
    steps = busy(rng, 1500)
    learner.run(steps, labelled(1500, rng, tuple(range(15, 1501, 15))))  # 100 windows: 0.95^100 is left
    assert np.median(np.abs(matrices_of(learner)[0] - learner.weights(1))) < 0.02 * gap


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("objective", ["membrane_ce", "membrane_mse"])
@pytest.mark.parametrize("kind", ["plain", "recurrent-adaptive", "all"])
def test_local_losses_equal_autograd(kind: str, objective: str, dtype: Any) -> None:
    """Each layer's own fixed read-out, its membrane as slow as the next layer's; nothing passes between layers."""
    rng = np.random.default_rng(13)
    learner = build((16, 16), dtype, kind, feedback="local", objective=objective, spread=0.2)
    steps, cues = busy(rng, 150), labelled(150, rng, (60,))
    learner.run(steps, cues)
    layers, on = layers_of(learner), [t for t in range(60, 150) if cues.labels[t] >= 0]
    course = naive_gradient.simulate(layers, dense_x(steps), "fast_sigmoid", 2.0, apart=True)
    loss = sum(naive_gradient.step_loss(objective, course.membranes[-1][t], int(cues.labels[t])) for t in on)
    for spikes, matrix, above in zip(course.spikes, matrices_of(learner), layers[1:]):
        own = torch.zeros(N_OUT, dtype=torch.float64)
        for t in range(150):
            own = float(above.beta.mean()) * own + spikes[t] @ torch.tensor(matrix)
            if t in on:
                loss = loss + naive_gradient.step_loss(objective, own, int(cues.labels[t]))
    want = course.gradients(torch.as_tensor(loss))[0]
    for layer, gradient in enumerate(want):
        assert_close(-learner.descent(layer), gradient, TOLERANCE[dtype], f"local, {kind}", dtype)


@pytest.mark.parametrize("kind", ["plain", "recurrent-adaptive"])
def test_weights_align_with_random_feedback(kind: str) -> None:
    """Feedback alignment: a small task is learned through a random matrix, to which the read-out turns."""
    rng = np.random.default_rng(14)
    made: dict[str, Any] = {"mean": 0.1, "spread": 0.02, "n_out": 3, "decoder_tau_ms": 10.0}
    learner = build((24,), np.float32, kind, feedback="random", rate=0.2, **made)
    learner.net.weight[learner.net.w_at[1] :] = 0  # no angle yet
    right, angles = [], []
    for k in range(400):
        label = int(rng.integers(3))
        rows = [np.sort(rng.choice(10, 3, replace=False)) + 10 * label for _ in range(20)]
        steps = Steps(0, np.arange(0, 61, 3), np.concatenate(rows).astype(np.int32), np.ones(60, np.float32))
        cues = silent_cues(20)
        cues.labels[:], cues.flags[-1] = label, CLOSE
        learner.reset()
        right.append(int(learner.run(steps, cues).scores[0].argmax()) == label)
        if k % 100 == 99:
            angles.append(_angle(learner))
    assert np.mean(right[-100:]) > 0.9
    assert max(angles) < 75  # degrees; drawn independently they would be 90 +- 7


def _angle(learner: GradientLearner) -> float:
    a, b = matrices_of(learner)[0].ravel(), learner.weights(1).ravel()
    return float(np.degrees(np.arccos(a @ b / np.sqrt((a @ a) * (b @ b)))))


# Regularisers.

PENALTIES = {
    "l1": {"l1": 1.0},
    "upper": {"upper": 0.2, "upper_hz": 5.0},
    "upper, power 1": {"upper": 10.0, "upper_hz": 5.0, "upper_power": 1},
    "upper, power 3": {"upper": 0.01, "upper_hz": 5.0, "upper_power": 3},
    "lower": {"lower": 0.2, "lower_hz": 80.0},
    "all": {"l1": 0.2, "upper": 0.2, "upper_hz": 10.0, "lower": 0.1, "lower_hz": 30.0},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", PENALTIES)
def test_penalties_equal_autograd(which: str, dtype: Any) -> None:
    """At each labelled step, R_j S_j with R of the running rates beside the loss: each acts, and by the whole of it."""
    rng = np.random.default_rng(15)
    kind = "recurrent-adaptive"
    learner = build(dtype=dtype, kind=kind, regularisers=Regularisers(**PENALTIES[which]))
    bare = build(dtype=dtype, kind=kind)
    steps, cues = busy(rng, 200), labelled(200, rng, (80,))
    for a in (learner, bare):
        a.run(steps, cues)
    course = naive_gradient.simulate(layers_of(learner), dense_x(steps), "fast_sigmoid", 2.0)
    loss = naive_gradient.summed(
        course, cues.labels, 80, lambda u, label: naive_gradient.step_loss("membrane_ce", u, label)
    )
    rate, keep, least, most = np.zeros(16), np.exp(-1 / 500), np.inf, 0.0
    for t in range(200):
        rate = keep * rate + (1 - keep) * course.spikes[0][t].detach().numpy() * 1000
        if t >= 80 and cues.labels[t] >= 0:
            pull = naive_gradient.penalty_signal(rate, PENALTIES[which])
            least, most = min(least, np.abs(pull).max()), max(most, np.abs(pull).max())
            loss = loss + (torch.tensor(pull) * course.spikes[0][t]).sum()
    assert least > 0
    want = course.gradients(loss)[0]
    for layer, gradient in enumerate(want):
        assert_close(-learner.descent(layer), gradient, TOLERANCE[dtype], f"penalty {which}", dtype)
    assert relative_error(learner.descent(0), bare.descent(0)) > 0.03


@pytest.mark.parametrize("objective", ["rate_ce", "sum_membrane", "max_membrane", "latency_ce", "spike_time_mse"])
@pytest.mark.parametrize("which", ["l1", "lower"])
def test_penalties_pull_their_way_under_objectives_of_the_end(which: str, objective: str) -> None:
    """Whatever sign the error's path has: less where spikes cost, more where they lack, however long the window."""
    moved = []
    for n in (60, 240):
        rng = np.random.default_rng(16)
        made = {"objective": objective, "theta_out": 1.0, "kind": "plain", "mean": 0.02}
        bare = build(**made)
        learner = build(regularisers=Regularisers(**PENALTIES[which]), **made)
        steps, cues = busy(rng, n), silent_cues(n)
        cues.labels[:] = 1
        took = []
        for a in (bare, learner):
            a.run(steps, cues)
            took.append(step_taken(a, lambda a=a: a.conclude(1))[0])
        share = took[1] - took[0]  # taken off the weights
        assert (share >= -1e-12).all() if which == "l1" else (share <= 1e-12).all()
        moved.append(np.abs(share).sum())
    if objective in ("rate_ce", "sum_membrane"):
        assert 0.5 < moved[1] / moved[0] < 4  # traces that fill up, but not four times the steps as well


def test_rates_end_between_their_bounds() -> None:
    """A layer that fires too much, and one that hardly fires, under both bounds, labels drawn at random."""
    bounds = Regularisers(upper=0.2, upper_hz=40.0, lower=0.5, lower_hz=10.0)
    for mean in (0.1, -0.06):
        rng = np.random.default_rng(17)
        learner = build(dtype=np.float32, mean=mean, spread=0.1, rate=1e-3, optimizer="rms", regularisers=bounds)
        rates = []
        for _ in range(150):
            said = learner.run(busy(rng, 100), labelled(100, rng, (50, 100)))
            rates.append(float(said.spikes[:, 0].sum()) / 16 / 0.1)
        assert not 5 < np.mean(rates[:3]) < 100
        assert 10 < np.mean(rates[-30:]) < 40


@pytest.mark.parametrize("strength", [0.0, 0.2])
def test_a_dead_layer_revives(strength: float) -> None:
    """Weights so negative that no neuron of the layer fires: with a lower bound each does later, without one none."""
    rng = np.random.default_rng(18)
    learner = build(
        dtype=np.float32, mean=-0.05, spread=0.02, rate=1e-3 if strength else 1e-5, optimizer="rms",
        regularisers=Regularisers(lower=strength, lower_hz=10.0),
    )  # fmt: skip
    fired = []
    for _ in range(120):
        fired.append(int(learner.run(busy(rng, 50), labelled(50, rng, (50,))).spikes[0, 0]))
    assert fired[0] == 0
    assert (learner.layer_activity()[0][:16] < 2000).all() == (strength > 0)
    assert any(fired) == (strength > 0)


# Optimisers.


def test_bounded_never_overshoots_zero_loss() -> None:
    """However large the rate, the loss as its gradient tells it is not below 0 after the step; small rates are kept."""
    rng = np.random.default_rng(19)
    for rate, cut in ((1e-4, False), (1e6, True)):
        learner = build(optimizer="bounded", rate=rate, kind="decoupled")
        for _ in range(5):
            steps, cues = busy(rng, 40), labelled(40, rng)
            learner.run(steps, cues)
            n = np.count_nonzero(cues.labels >= 0)
            loss = learner._live.window.loss[0] / n
            gradient = [-learner.descent(i) / n for i in range(2)]
            before = [learner.weights(i) for i in range(2)]
            learner.conclude(0)
            change = [learner.weights(i) - b for i, b in enumerate(before)]
            told = sum(float((g * c).sum()) for g, c in zip(gradient, change))
            assert told < 0 and loss + told >= -1e-9 * loss
            assert (loss + told < 1e-9 * loss) == cut


def test_a_first_step_by_rms_is_ten_rates() -> None:
    """v starts at 0 and has a hundredth of the first square: 1 / sqrt(1 - rho) rates, then less (no correction)."""
    rng = np.random.default_rng(20)
    learner = build((), optimizer="rms", rate=1e-3)
    steps, cues = busy(rng, 100), labelled(100, rng, (100,))
    before = learner.weights(0)
    learner.run(steps, cues)
    assert np.abs(learner.weights(0) - before).max() == pytest.approx(1e-2, rel=0.05)


# Surrogates.


@pytest.mark.parametrize("kind", ["spike", "noisy_spike"])
@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_the_spike_itself_is_a_derivative(kind: str, leak: float) -> None:
    """Eq. 8: 1 where it fires, the leak below threshold and at it."""
    of = SURROGATES.index(kind)
    assert [surrogate(of, v, leak) for v in (1e-9, 0.5, 1e30)] == [1, 1, 1]
    assert [surrogate(of, v, leak) for v in (0.0, -1e-9, -1e30)] == [leak] * 3


def test_noise_is_uniform_of_mean_zero() -> None:
    key = make_key(3)[0]
    with np.errstate(over="ignore"):
        drawn = np.array([noise(key, np.uint64(k)) for k in range(20000)])
    assert -1 <= drawn.min() < -0.999 and 0.999 < drawn.max() < 1
    assert abs(drawn.mean()) < 3 / np.sqrt(3 * 20000)
    assert abs((drawn**2).mean() - 1 / 3) < 0.01
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.03


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_by_noisy_spikes_equals_its_dense_form(dtype: Any) -> None:
    """psi written out from the numbers of the key: of the window, the step since a reset, and the neuron."""
    rng = np.random.default_rng(21)
    learner = build(dtype=dtype, kind="decoupled", surrogate="noisy_spike", surrogate_slope=0.3, rate=1e-3)
    steps, cues = busy(rng, 100), labelled(100, rng, (50,))
    dense = dense_of(learner, kind="spike", slope=0.0)
    move, clock = dense.move, [0, 0]

    def noisy(x: np.ndarray) -> Any:
        clock[0] += 1
        window = np.uint64(word(make_key(0)[0], np.uint64(clock[1])))
        key = np.uint64(word(window, np.uint64(clock[0])))
        drawn = np.array([noise(key, np.uint64(j)) for j in range(20)])
        original = naive_gradient.surrogate
        naive_gradient.surrogate = (
            lambda kind, v, slope: np.where(  # type: ignore[assignment]
                v > 0, 1.0, 0.3 * (drawn[:16] if len(v) == 16 else drawn[16:])
            )
        )
        try:
            return move(x)
        finally:
            naive_gradient.surrogate = original

    dense.move = noisy  # type: ignore[method-assign]
    learner.run(steps.slice(0, 50), cues._replace(flags=cues.flags[:50], labels=cues.labels[:50]))
    learner.run(steps.slice(50, 100), cues._replace(flags=cues.flags[50:], labels=cues.labels[50:]))
    for t, x in enumerate(dense_x(steps)):
        dense.step(x, int(cues.labels[t]), bool(cues.flags[t] & CLOSE))
        clock[1] += bool(cues.flags[t] & CLOSE)
    for i in range(2):
        tolerance = TOLERANCE[dtype] * (10 if dtype is np.float32 else 1)
        assert_close(-learner.descent(i), dense.grad[i], tolerance, "noisy_spike, dense", dtype)


def test_noise_averages_out() -> None:
    """The gradient over many seeds tends to that without noise: the flag of a silent neuron has mean zero."""
    rng = np.random.default_rng(22)
    steps, cues = busy(rng, 60), labelled(60, rng)
    total, n = 0.0, 400
    spread = []
    for seed in range(n):
        learner = build(surrogate="noisy_spike", surrogate_slope=0.3)
        learner._key = make_key(seed)[0]
        learner.run(steps, cues)
        total = total + learner.descent(0) / n
        spread.append(learner.descent(0))
    plain = build(surrogate="spike", surrogate_slope=0.0)
    plain.run(steps, cues)
    deviation = np.std(spread, axis=0) / np.sqrt(n)
    assert np.abs(total - plain.descent(0)).max() < 5 * deviation.max()
    assert np.abs(spread[0] - plain.descent(0)).max() > 10 * deviation.max()


def test_the_pre_before_post_window_of_stdp_is_in_the_gradient() -> None:
    """With the spike for a surrogate, an input n steps before the post spike gets beta^n of the credit; after it, none.

    (The paper's 4.3, Fig. 9b.)
    """
    got = {}
    for n in range(-3, 30):
        learner = build((1,), n_in=2, n_out=1, surrogate="spike", surrogate_slope=0.0, objective="membrane_mse")
        learner.net.weight[:] = [1e-6, 2.0, 0.5]  # the probe, what makes the post spike, the read-out
        at, post = 40 - n, 40
        rows = [[0] * (t == at) + [1] * (t == post) for t in range(50)]
        indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
        steps = Steps(0, indptr, np.array([i for r in rows for i in r], np.int32), np.ones(int(indptr[-1]), np.float32))
        cues = silent_cues(50)
        cues.labels[post] = 0
        learner.run(steps, cues)
        assert learner._live.state.total[0] == 1
        got[n] = -learner.descent(0)[0, 0]
    want = {n: np.exp(-n / 20) if n >= 0 else 0.0 for n in got}
    assert got[0] != 0
    np.testing.assert_allclose([got[n] / got[0] for n in got], list(want.values()), rtol=1e-12, atol=1e-15)


def test_noise_does_not_know_of_growth() -> None:
    """More outputs leave the flags, and so the gradient, of the layers below as they were."""
    rng = np.random.default_rng(23)
    made = {"surrogate": "noisy_spike", "surrogate_slope": 0.3, "objective": "membrane_mse", "feedback": "random"}
    grown, other = build(**made), build(**made)
    grown.grow(N_OUT + 2)
    steps, cues = busy(rng, 60), silent_cues(60)
    cues.labels[:] = 0
    values = np.zeros((1, N_OUT + 2), np.float32)
    grown.run(steps, cues._replace(values=values))  # the new outputs stay at 0, their target
    other.run(steps, cues._replace(values=values[:, :N_OUT].copy()))
    assert other.descent(0).any()
    np.testing.assert_allclose(grown.descent(0), other.descent(0), rtol=1e-12, atol=1e-14)
