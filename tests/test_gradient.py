"""Gradients gathered in blocks against torch autograd through time, for every kind of neuron."""

from __future__ import annotations

from typing import Any

import naive_gradient
import numpy as np
import pytest
from gradient_cases import KINDS, N_IN, N_OUT, TOLERANCE, assert_close, build, busy, dense_x, labelled, layers_of

from spiked.learners.contract import CLOSE, UNLABELLED, Cues, Steps, silent_cues
from spiked.learners.eligibility import BLOCK_STEPS
from spiked.learners.gradient import GradientLearner
from spiked.learners.plasticity import LEAST, MOST
from spiked.learners.surrogates import SURROGATES
from spiked.learners.trials import random_steps

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

DTYPES = [np.float64, np.float32]


def autograd(
    learner: GradientLearner, steps: Steps, cues: Cues, since: int = 0, n_in: int = N_IN
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Gradients by weights and decays of the loss of the window that opened at `since`."""
    s = learner.spec
    values = cues.values.astype(np.float64) if len(cues.values) else None
    course = naive_gradient.simulate(layers_of(learner), dense_x(steps, n_in), s.surrogate, s.surrogate_slope)

    def loss_of(u: Any, label: int) -> Any:
        return naive_gradient.step_loss(s.objective, u, label, values, s.population)

    return course.gradients(naive_gradient.summed(course, cues.labels, since, loss_of))


def assert_gradient(learner: GradientLearner, want: list[np.ndarray], rule: str, dtype: Any = np.float64) -> None:
    for layer, gradient in enumerate(want):
        assert_close(-learner.descent(layer), gradient, TOLERANCE[dtype], rule, dtype)


def weak(kind: str) -> dict[str, Any]:
    """Weights under which each kind of neuron fires now and then."""
    return {"spread": {"current": 0.12, "all": 0.18}.get(kind, 0.35), "mean": 0.02}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("objective", ["membrane_ce", "membrane_mse"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_equals_autograd(kind: str, objective: str, dtype: Any) -> None:
    """In the third window at rate 0, after unlabelled and closed ones, over more steps than a block."""
    rng = np.random.default_rng(9)
    n = BLOCK_STEPS + 160
    learner = build(dtype=dtype, kind=kind, objective=objective, **weak(kind))
    steps, cues = busy(rng, n), labelled(n, rng, (40, 90))
    learner.run(steps, cues)
    fired = learner._live.state.total[0] / (16 * n)
    assert 0.005 < fired < 0.4
    assert_gradient(learner, autograd(learner, steps, cues, 90)[0], f"{objective}, {kind}", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "gaps"), [("plain", (70, 300, 1700, 30)), ("all", (70, 3000, 30))])
def test_gradient_through_silences(kind: str, gaps: tuple[int, ...], dtype: Any) -> None:
    """Gaps longer than a block, and longer than a row without events is kept."""
    rng = np.random.default_rng(3)
    learner = build(dtype=dtype, kind=kind, **weak(kind))
    assert learner._live.eli.forget.max() < max(gaps)
    steps = busy(rng, 40, gaps)
    cues = labelled(steps.n, rng)
    learner.run(steps, cues)
    assert_gradient(learner, autograd(learner, steps, cues)[0], f"silences, {kind}", dtype)


@pytest.mark.parametrize("kind", ["plain", "recurrent-adaptive", "all"])
def test_gradient_where_the_events_of_a_block_overflow(kind: str) -> None:
    rng = np.random.default_rng(2)
    n, n_in = 90, 300
    indptr = np.arange(n + 1, dtype=np.int64) * n_in
    steps = Steps(0, indptr, np.tile(np.arange(n_in, dtype=np.int32), n), rng.uniform(0, 2, n * n_in).astype("f4"))
    learner = build(kind=kind, n_in=n_in, spread=0.03, mean=0.0)
    cues = labelled(n, rng)
    learner.run(steps, cues)
    assert n_in * n > np.diff(learner._live.eli.event_at)[0]  # more than there is room for
    assert learner._live.eli.filled[0] < n < BLOCK_STEPS  # so that a block ended early
    assert_gradient(learner, autograd(learner, steps, cues, n_in=n_in)[0], f"overflow, {kind}")


@pytest.mark.parametrize("surrogate", [s for s in SURROGATES if s != "noisy_spike"])
def test_gradient_by_each_surrogate(surrogate: str) -> None:
    rng = np.random.default_rng(4)
    slope = {"fast_sigmoid": 5.0, "spike": 0.1}.get(surrogate, 0.8)
    learner = build(kind="recurrent-adaptive", surrogate=surrogate, surrogate_slope=slope)
    steps, cues = busy(rng, 120), labelled(120, rng)
    learner.run(steps, cues)
    assert_gradient(learner, autograd(learner, steps, cues)[0], f"surrogate {surrogate}")


@pytest.mark.parametrize(
    "shape",
    [
        {"hidden": ()}, {"theta_out": 1.0}, {"theta_out": 1.0, "reset_out": "zero"}, {"tau_out": 1e12},
        {"tau_out": 0.05}, {"kind": {"tau_mem_ms": np.inf}}, {"kind": {"tau_mem_ms": 0.05}},
    ],
)  # fmt: skip
def test_gradient_of_any_read_out_and_any_time_constant(shape: dict[str, Any]) -> None:
    rng = np.random.default_rng(6)
    learner = build(**({"spread": 0.1} | shape))
    steps, cues = busy(rng, 150), labelled(150, rng, (50,))
    learner.run(steps, cues)
    assert_gradient(learner, autograd(learner, steps, cues, 50)[0], "read-outs")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("population", [1, 2])
def test_gradient_towards_vectors(population: int, dtype: Any) -> None:
    """The label is a row of the values, which has an entry a class."""
    rng = np.random.default_rng(8)
    learner = build(objective="membrane_mse", population=population, dtype=dtype)
    steps = busy(rng, 100)
    cues = silent_cues(100)._replace(values=rng.normal(size=(7, N_OUT)).astype(np.float32))
    cues.labels[:] = np.arange(100) % 8 - 1
    learner.run(steps, cues)
    assert_gradient(learner, autograd(learner, steps, cues)[0], "membrane_mse, vectors", dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_traces_that_wait_for_a_rest_are_no_others(kind: str) -> None:
    """Where a rest followed a window, the next one's traces move with the step after it, to the same bits.

    The gradient of the window after that is still the right one, also from a copy of the state that was taken between.
    """
    rng = np.random.default_rng(15)
    waits, moves, copied = (build(kind=kind, **weak(kind)) for _ in range(3))
    n = BLOCK_STEPS + 90
    steps, cues = busy(rng, n), labelled(n, rng, (BLOCK_STEPS + 20,))
    first, last = (steps.slice(a, b) for a, b in ((0, BLOCK_STEPS + 20), (BLOCK_STEPS + 20, n)))
    for learner in (waits, moves):
        learner.run(busy(rng, 30), labelled(30, rng, (30,)))
        learner.reset()
        assert learner._live.eli.rests[0] == 1
    moves._live.eli.rests[0] = 0
    for learner in (waits, moves):
        learner.run(first, Cues(cues.flags[: first.n], cues.labels[: first.n], cues.values))
    assert (waits._live.eli.waits[0], moves._live.eli.waits[0]) == (1, 0)
    copied.load_state(waits.state())
    for learner in (waits, moves, copied):
        learner.run(last, Cues(cues.flags[first.n :], cues.labels[first.n :], cues.values))
    assert waits._live.eli.rests[0] == 0
    for i in range(2):
        np.testing.assert_array_equal(waits.descent(i), moves.descent(i))
        np.testing.assert_array_equal(waits.descent(i), copied.descent(i))
    assert_gradient(waits, autograd(waits, steps, cues, first.n)[0], f"traces that wait, {kind}")


def test_two_hidden_layers_are_exact_above_and_near_below() -> None:
    near = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        learner = build((16, 12), kind="decoupled", seed=seed)
        steps, cues = busy(rng, 200), labelled(200, rng)
        learner.run(steps, cues)
        want = autograd(learner, steps, cues)[0]
        assert_close(-learner.descent(2), want[2], 1e-10, "depth 2, upper two")
        assert_close(-learner.descent(1), want[1], 1e-10, "depth 2, upper two")
        a, b = -learner.descent(0), want[0]
        near.append(float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())))
    assert min(near) > 0.9


def test_looking_at_the_gradient_changes_nothing() -> None:
    rng = np.random.default_rng(9)
    looked, other = build(kind="all", rate=0.1, spread=0.2), build(kind="all", rate=0.1, spread=0.2)
    steps, cues = busy(rng, 200), labelled(200, rng, (60, 200))
    for learner in (looked, other):
        learner.run(steps.slice(0, 100), Cues(cues.flags[:100], cues.labels[:100], cues.values))
        if learner is looked:
            assert learner.descent(0).any()
        learner.run(steps.slice(100, 200), Cues(cues.flags[100:], cues.labels[100:], cues.values))
    for i in range(2):
        np.testing.assert_allclose(looked.weights(i), other.weights(i), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_traces_stay_exact_over_a_long_stream(dtype: Any) -> None:
    """The gradient of the last window of 6000 steps; some inputs are rare enough to be forgotten and found again."""
    rng = np.random.default_rng(21)
    n = 6000
    learner = build(dtype=dtype, kind="recurrent-adaptive")
    often, rare = random_steps(rng, n, N_IN - 6, 5), random_steps(rng, 12, 6, 3)
    rows = [often.indices[a:b] for a, b in zip(often.indptr, often.indptr[1:])]
    for k, at in enumerate(rng.integers(0, n, 12)):
        rows[at] = np.concatenate([rows[at], N_IN - 6 + rare.indices[rare.indptr[k] : rare.indptr[k + 1]]])
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    steps = Steps(0, indptr, np.concatenate(rows).astype(np.int32), np.ones(int(indptr[-1]), np.float32))
    cues = labelled(n, rng, tuple(range(700, n, 700)))
    learner.run(steps, cues)
    assert_gradient(learner, autograd(learner, steps, cues, 5600)[0], "a long stream", dtype)


# Decays that learn.

LEARNING_DECAYS = ["plain", "zero", "decays", "current", "decoupled", "refractory", "recurrent-adaptive", "all"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("objective", ["membrane_ce", "membrane_mse"])
@pytest.mark.parametrize("kind", LEARNING_DECAYS)
def test_gradient_of_decays_equals_autograd(kind: str, objective: str, dtype: Any) -> None:
    """Of the hidden layer's and the read-out's, and of the weights beside them, in the second window."""
    rng = np.random.default_rng(11)
    n = BLOCK_STEPS + 80
    learner = build(dtype=dtype, kind=kind, objective=objective, decays_rate=1.0, reset_out="zero", **weak(kind))
    steps, cues = busy(rng, n), labelled(n, rng, (50,))
    learner.run(steps, cues)
    weights, decays = autograd(learner, steps, cues, 50)
    assert_gradient(learner, weights, f"{objective}, {kind}", dtype)
    gathered = learner._live.decays.gradient
    assert_close(gathered[:16], decays[0], TOLERANCE[dtype], f"decays, {kind}", dtype)
    assert_close(gathered[16:], decays[1], TOLERANCE[dtype], f"decays, {kind}", dtype)


def test_a_decay_steps_as_rms_does_and_stays_between_its_bounds() -> None:
    rng = np.random.default_rng(12)
    learner = build(decays_rate=0.5, rate=0.0)
    steps, cues = busy(rng, 100), labelled(100, rng)
    learner.run(steps, cues)
    g = learner._live.decays.gradient / np.count_nonzero(cues.labels >= 0)
    beta = learner.net.beta.copy()
    learner.rate = 0.002
    learner.conclude(0)
    np.testing.assert_allclose(learner.net.beta, beta - 0.001 * g / (0.1 * np.abs(g) + 1e-4), rtol=1e-12)
    learner.rate = 1e3
    learner.run(steps, cues)
    learner.conclude(0)
    assert set(learner.net.beta) == {LEAST, MOST}  # far beyond both
    assert_kappa(learner)


def assert_kappa(learner: GradientLearner) -> None:
    np.testing.assert_allclose(learner._live.eli.kappa[0], learner.net.beta[16:].mean(), rtol=1e-12)


def test_a_decay_beyond_the_bounds_stays_where_it_was_made() -> None:
    learner = build(kind={"tau_mem_ms": 1e5}, decays_rate=1.0, tau_out=1e5)
    rng = np.random.default_rng(13)
    before = learner.net.beta.copy()
    learner.run(busy(rng, 60), labelled(60, rng, (30, 60)))
    np.testing.assert_array_equal(learner.net.beta, before)


def test_a_decay_that_has_slowed_remembers_as_long_as_it_lasts() -> None:
    """Silence longer than the first decays are remembered for, shorter than the slowed ones."""
    rng = np.random.default_rng(14)
    learner = build(kind={"tau_mem_ms": 5.0}, tau_out=5.0, decays_rate=1.0, objective="membrane_mse", theta_out=1.0)
    learner.net.beta[:] = MOST  # as if learned
    learner._live.eli.kappa[:-1] = MOST
    steps = busy(rng, 30, (1000,))
    cues = silent_cues(steps.n)
    cues.labels[-30:] = 1
    learner.run(steps, cues)
    assert_gradient(learner, autograd(learner, steps, cues)[0], "slowed decays")


def test_growth_and_a_fresh_learner_agree_on_what_follows_from_the_first_decays() -> None:
    """What hangs on the decays as made, not as learned: the local read-outs' leak, and how long rows are kept."""
    rng = np.random.default_rng(15)
    a = build((16, 12), decays_rate=1.0, feedback="local", rate=0.05)
    steps, cues = busy(rng, 100), labelled(100, rng, (30, 60, 100))
    a.run(steps, cues)
    leak, forget = a._feedback.decay.copy(), a._live.eli.forget.copy()
    a.grow(N_OUT + 2)
    np.testing.assert_array_equal(a._feedback.decay, leak)
    np.testing.assert_array_equal(a._live.eli.forget, forget)


def test_recall_and_life_share_what_scales_a_decays_step() -> None:
    rng = np.random.default_rng(16)
    kept = [(busy(rng, 60), labelled(60, rng, (30, 60))) for _ in range(4)]
    recalled, moved = build(decays_rate=1.0, rate=0.01), build(decays_rate=1.0, rate=0.01)
    for steps, cues in kept[:2]:
        recalled.recall(steps, cues)
    moved.load_state(recalled.state())
    for steps, cues in kept[2:]:
        recalled.recall(steps, cues)
        moved.recall(steps, cues)
    np.testing.assert_array_equal(recalled.net.beta, moved.net.beta)
    np.testing.assert_array_equal(recalled.weights(0), moved.weights(0))


@pytest.mark.parametrize("feedback", ["symmetric", "local"])
def test_after_a_pause_learning_begins_where_the_dynamics_stand(feedback: str) -> None:
    """What is followed while learning alone (membranes a step before, local read-outs) holds nothing from before."""
    rng = np.random.default_rng(17)
    paused, fresh = (build(kind="decays", decays_rate=1.0, feedback=feedback) for _ in range(2))
    first, between, after = busy(rng, 60), busy(rng, 60), busy(rng, 60)
    cues = labelled(60, rng)
    paused.run(first, cues)
    fresh.run(first, learn=False)
    for learner in (paused, fresh):
        learner.run(between, learn=False)
        learner.run(after, cues)
    for name in ("gradient", "before", "m", "q", "k"):
        np.testing.assert_array_equal(getattr(paused._live.decays, name), getattr(fresh._live.decays, name))
    for layer in range(2):
        np.testing.assert_array_equal(paused.descent(layer), fresh.descent(layer))


def test_target_vectors_must_fit() -> None:
    learner = build(objective="membrane_mse", population=2)
    steps, cues = busy(np.random.default_rng(22), 10), silent_cues(10)
    with pytest.raises(ValueError, match="vectors of 7 for 4"):
        learner.run(steps, cues._replace(values=np.zeros((2, 7), np.float32)))
    cues.labels[3] = 2
    with pytest.raises(ValueError, match="label 2"):
        learner.run(steps, cues._replace(values=np.zeros((2, N_OUT), np.float32)))


def test_a_pause_of_learning_voids_its_window_and_no_more() -> None:
    rng = np.random.default_rng(13)
    a, b = (build(kind="all", rate=0.01, spread=0.2) for _ in range(2))
    first, second = busy(rng, 60), busy(rng, 60)
    cues, closing = labelled(60, rng), labelled(60, rng, (60,))
    a.run(first, cues)
    a.run(first.slice(0, 10), learn=False)
    assert not a.descent(0).any()
    a.reset()
    a.run(second, closing)
    b.run(second, closing)
    for i in range(2):
        np.testing.assert_array_equal(a.weights(i), b.weights(i))


@pytest.mark.parametrize("objective", ["membrane_mse", "rate_mse"])
def test_growth_in_mid_window_loses_no_influence(objective: str) -> None:
    """Growing to outputs that nothing asks for equals never growing."""
    rng = np.random.default_rng(15)
    values = np.zeros((1, N_OUT + 2), np.float32)
    made = {"objective": objective, "feedback": "random", "rate": 0.01, "theta_out": 1.0, "kind": "all"}
    a, b = build(spread=0.2, **made), build(spread=0.2, **made)
    first, second = busy(rng, 70), busy(rng, 70)
    cues, closing = silent_cues(70), silent_cues(70)
    cues.labels[:], closing.labels[:] = 0, 0
    closing.flags[-1] = CLOSE
    for learner in (a, b):
        learner.run(first, cues._replace(values=values[:, :N_OUT].copy()))
    a.grow(N_OUT + 2)
    if objective == "rate_mse":
        a._feedback.matrix.reshape(-1, 16)[N_OUT:] = 0  # or the new outputs' error would come down
    a.run(second, closing._replace(values=values))
    b.run(second, closing._replace(values=values[:, :N_OUT].copy()))
    np.testing.assert_allclose(a.weights(0), b.weights(0), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(a.weights(1)[:, :N_OUT], b.weights(1), rtol=1e-13, atol=1e-15)
    assert not np.allclose(a.weights(0), build(spread=0.2, **made).weights(0))


def test_an_unlabelled_close_lets_go_of_nothing_that_was_taught() -> None:
    """Per-step objectives have had their labels; those of the end need one."""
    rng = np.random.default_rng(18)
    steps, cues = busy(rng, 60), labelled(60, rng)
    for objective, learns in (("membrane_ce", True), ("rate_ce", False)):
        learner = build(objective=objective, rate=0.1, theta_out=1.0)
        before = learner.weights(1)
        learner.run(steps, cues)
        learner.conclude(UNLABELLED)
        assert np.array_equal(before, learner.weights(1)) != learns
        assert not learner.descent(1).any()
