"""Objectives that are known at a window's end, and rewards: against autograd of the loss as the paper writes it."""

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
    relative_error,
    step_taken,
)

from spiked.learners.contract import CLOSE, NO_VALUES, UNLABELLED, Cues, Steps, silent_cues
from spiked.learners.eligibility import BLOCK_STEPS
from spiked.learners.gradient import GradientLearner
from spiked.learners.trials import silent_steps

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

DTYPES = [np.float64, np.float32]
SUMMED = ["rate_ce", "rate_mse", "sum_membrane"]
TIMED = ["latency_ce", "spike_time_mse", "relative_time_mse"]
AT_END = [*SUMMED, "max_membrane", *TIMED]


def first_spikes(u: torch.Tensor, s: torch.Tensor, on: list[int], theta: float) -> tuple[torch.Tensor, np.ndarray]:
    """Time of each output's first spike among the steps `on`, from 1, with df/dU = -1/rise there; and those steps.

    A silent output fires at the last step (the paper's forced spike), as if it rose by a threshold in it.
    """
    times, at = [], []
    for k in range(u.shape[1]):
        fired = [i for i, t in enumerate(on) if s[t, k] > 0]
        i, t = (fired[0], on[fired[0]]) if fired else (len(on) - 1, len(u) - 1)
        before = u[t - 1, k].item() if t else 0.0
        rise = max(u[t, k].item() - before, 0.05 * theta) if fired else theta
        times.append(i + 1 - (u[t, k] - u[t, k].detach()) / rise)
        at.append(t)
    return torch.stack(times), np.array(at)


def window_of(
    learner: GradientLearner, steps: Steps, cues: Cues, since: int
) -> tuple[naive_gradient.Course, torch.Tensor, np.ndarray, list[int]]:
    """The course of the stack, what its outputs gathered since `since`, each one's step that counts, labelled steps."""
    s = learner.spec
    course = naive_gradient.simulate(layers_of(learner), dense_x(steps), s.surrogate, s.surrogate_slope)
    on = [t for t in range(since, steps.n) if cues.labels[t] >= 0]
    u, fired = course.membranes[-1], course.spikes[-1]
    if s.objective in TIMED:
        return course, *first_spikes(u, fired, on, float(learner.net.threshold[-1])), on
    if s.objective == "max_membrane":
        peaks = u[on].max(0)
        return course, peaks.values, np.array(on)[peaks.indices.numpy()], on
    return course, u[on].sum(0) if s.objective == "sum_membrane" else fired[on].sum(0), np.zeros(0, int), on


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("population", [1, 2])
@pytest.mark.parametrize("objective", AT_END)
def test_read_out_learns_the_gradient_of_its_loss(objective: str, population: int, dtype: Any) -> None:
    """In the third window, longer than a block; a wrong output is silent, and so would be the time of a first spike."""
    rng = np.random.default_rng(7)
    n, since = BLOCK_STEPS + 160, 90
    learner = build((), dtype, objective=objective, population=population, theta_out=1.0, spread=0.25)
    silent = -population  # the last class
    learner.net.weight.reshape(-1, N_OUT * population)[:, silent:] *= 0.05
    if objective in TIMED:
        n = since + 25
        learner.net.weight[:] *= 0.5
    steps, cues = busy(rng, n), labelled(n, rng, (40, since))
    cues.labels[since + 5 :] = 1
    learner.run(steps, cues)
    course, gathered, _, on = window_of(learner, steps, cues, since)
    assert course.spikes[-1][since:, :silent].sum() > 0
    assert course.spikes[-1][:, silent:].sum() == 0
    want = course.gradients(naive_gradient.window_loss(objective, gathered, 1, len(on), population))[0]
    got = step_taken(learner, lambda: learner.conclude(1))
    assert_close(got[0], want[0], TOLERANCE[dtype], f"{objective}, read-out", dtype)
    if objective in TIMED:  # it fired at T: late enough for the squared errors, but the softmax would have it later
        assert got[0][:, silent:].any() == (objective == "latency_ce")


@pytest.mark.parametrize("objective", TIMED)
def test_a_silent_right_output_is_told_to_fire(objective: str) -> None:
    """Nothing fires: the forced spike at the last step has a time, T, and credit that raises the right membrane."""
    rng = np.random.default_rng(8)
    learner = build((8,), objective=objective, theta_out=1.0, spread=0.05, mean=0.2)
    learner.net.weight[learner.net.w_at[-2] :] = 0.003
    steps, cues = busy(rng, 50), silent_cues(50)
    cues.labels[:] = 2
    learner.run(steps, cues)
    course, gathered, at, on = window_of(learner, steps, cues, 0)
    assert course.spikes[-1].sum() == 0
    assert gathered.tolist() == [50.0] * N_OUT and set(at) == {49}
    want = course.gradients(naive_gradient.window_loss(objective, gathered, 2, len(on)))[0]
    got = step_taken(learner, lambda: learner.conclude(2))
    assert_close(got[1], want[1], 1e-9, f"{objective}, forced")  # of a difference: eps / 1e-7 is lost
    assert (got[1][:, 2] <= 0).all() and got[1][:, 2].any()


def weights_as_stored(learner: GradientLearner) -> np.ndarray:
    return layers_of(learner)[-1].weight


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("feedback", ["symmetric", "random"])
@pytest.mark.parametrize("kind", ["plain", "recurrent-adaptive"])
@pytest.mark.parametrize("objective", AT_END)
def test_hidden_layer_learns_as_is_stated(objective: str, kind: str, feedback: str, dtype: Any) -> None:
    """Its eligibility of all labelled steps, or of the step that counts for the right class, times the end's error."""
    rng = np.random.default_rng(9)
    n, since = BLOCK_STEPS + 120, 90
    learner = build(dtype=dtype, kind=kind, objective=objective, theta_out=1.0, feedback=feedback, spread=0.3)
    if objective in TIMED:
        n = since + 30
    steps, cues = busy(rng, n), labelled(n, rng, (40, since))
    label = int(window_of(learner, steps, cues, since)[1].argmin())  # a softmax that is wrong has an error
    cues.labels[since + 5 :] = label
    learner.run(steps, cues)
    dense = dense_of(learner, rate=1.0)
    at_steps = []
    for x in dense_x(steps):
        dense.move(x)
        at_steps.append(dense.k[0].copy())
    _, gathered, at, on = window_of(learner, steps, cues, since)
    asked = gathered.detach().clone().requires_grad_()
    naive_gradient.window_loss(objective, asked, label, len(on)).backward()
    assert asked.grad is not None
    back = weights_as_stored(learner) if feedback == "symmetric" else dense.matrices[0]
    signal = back @ asked.grad.numpy()
    if objective in SUMMED:
        want = sum(at_steps[t] for t in on) * signal
    else:
        want = at_steps[at[label]] * signal
        if objective in TIMED:
            u, fired = (x[-1].detach().numpy() for x in _course(learner, steps))
            t = at[label]
            want = want * (-1 / max(u[t, label] - u[t - 1, label], 0.05) if fired[t, label] > 0 else -1.0)
    got = step_taken(learner, lambda: learner.conclude(label))
    assert_close(got[0], want, TOLERANCE[dtype], f"{objective}, hidden", dtype)


def _course(learner: GradientLearner, steps: Steps) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    course = naive_gradient.simulate(layers_of(learner), dense_x(steps), "fast_sigmoid", 2.0)
    return course.membranes, course.spikes


@pytest.mark.parametrize("objective", ["sum_membrane", "rate_ce", "rate_mse"])
def test_summed_objectives_are_exact_with_a_hidden_layer(objective: str) -> None:
    """By autograd through both layers; the output's spike counts as its membrane (its surrogate as 1) below it."""
    rng = np.random.default_rng(10)
    learner = build(kind="all", objective=objective, theta_out=1.0, spread=0.2)
    steps, cues = busy(rng, 150), labelled(150, rng)
    cues.labels[cues.labels >= 0] = 2
    learner.run(steps, cues)
    layers, on = layers_of(learner), np.flatnonzero(cues.labels >= 0)
    found = []
    for last in ("one", None):
        course = naive_gradient.simulate(layers, dense_x(steps), "fast_sigmoid", 2.0, last=last)
        of = course.membranes[-1] if objective == "sum_membrane" else course.spikes[-1]
        found.append(course.gradients(naive_gradient.window_loss(objective, of[on].sum(0), 2, len(on)))[0])
    got = step_taken(learner, lambda: learner.conclude(2))
    assert_close(got[0], found[0][0], 1e-10, f"{objective}, hidden by autograd")
    assert_close(got[1], found[1][1], 1e-10, f"{objective}, read-out")


@pytest.mark.parametrize("objective", AT_END)
def test_decays_follow_the_step_that_counts(objective: str) -> None:
    """The read-out's own, by autograd: of the last maximum alone, of first spikes, of forced ones."""
    rng = np.random.default_rng(11)
    n, since = (115, 90) if objective in TIMED else (BLOCK_STEPS + 160, 90)
    learner = build((), objective=objective, theta_out=1.0, spread=0.12, decays_rate=1.0)
    learner.net.weight.reshape(-1, N_OUT)[:, -1] *= 0.05
    steps, cues = busy(rng, n), labelled(n, rng, (40, since))
    cues.labels[since + 5 :] = 1
    learner.run(steps, cues)
    course, gathered, _, on = window_of(learner, steps, cues, since)
    want = course.gradients(naive_gradient.window_loss(objective, gathered, 1, len(on)))[1][0]
    before, average = learner.net.beta.copy(), learner._live.decays.average.copy()
    learner.rate = 1e-6
    learner.conclude(1)
    size = np.sqrt((learner._live.decays.average - 0.99 * average) / 0.01)
    assert_close(size * np.sign(before - learner.net.beta), want, 1e-5, "decays at the end")


@pytest.mark.parametrize("objective", ["membrane_ce", "rate_ce", "max_membrane", "latency_ce"])
def test_a_population_of_equals_is_one_neuron(objective: str) -> None:
    """Two outputs with the same weights get half of one's gradient each: a class is the mean of its own."""
    rng = np.random.default_rng(12)
    one = build((), objective=objective, theta_out=1.0)
    two = build((), objective=objective, theta_out=1.0, population=2)
    two.net.weight[:] = np.repeat(one.weights(0), 2, axis=1).ravel()
    steps, cues = busy(rng, 60), labelled(60, rng)
    cues.labels[cues.labels >= 0] = 2
    moved = []
    for learner in (one, two):
        learner.run(steps, cues)
        moved.append(step_taken(learner, lambda learner=learner: learner.conclude(2))[0])
    assert relative_error(2 * moved[1], np.repeat(moved[0], 2, axis=1)) < 1e-12


def test_the_last_maximum_replaces_the_one_before_it_in_an_earlier_block() -> None:
    """A rising drive makes each step a new maximum, through three blocks: the last alone is left."""
    n = 2 * BLOCK_STEPS + 50
    indptr = np.arange(n + 1, dtype=np.int64)
    steps = Steps(0, indptr, np.zeros(n, np.int32), np.linspace(0.1, 1, n).astype(np.float32))
    learner = build((), objective="max_membrane", spread=0.1)
    cues = silent_cues(n)
    cues.labels[:] = 0
    learner.run(steps, cues)
    course, gathered, at, on = window_of(learner, steps, cues, 0)
    assert (learner.weights(0)[0] > 0).any() and set(at[learner.weights(0)[0] > 0]) == {n - 1}
    want = course.gradients(naive_gradient.window_loss("max_membrane", gathered, 0, len(on)))[0]
    got = step_taken(learner, lambda: learner.conclude(0))
    assert_close(got[0], want[0], 1e-10, "max_membrane, read-out")


# What teaches and what does not.


@pytest.mark.parametrize("objective", ["membrane_ce", "membrane_mse", "rate_ce"])
def test_errors_below_the_threshold_teach_nothing(objective: str) -> None:
    """Error-triggered learning: the full rule at 0, the dense cut one above it, none far above."""
    rng = np.random.default_rng(13)
    moved = {}
    for least in (0.0, 0.2, 1e3):
        learner = build(kind="plain", objective=objective, theta_out=1.0, error_threshold=least, rate=0.01)
        dense = dense_of(learner)
        steps, cues = busy(rng, 60), labelled(60, rng, (30, 60))
        if objective == "rate_ce":
            dense.least_error = 0.0
        learner.run(steps, cues)
        follow(dense, steps, cues)
        if objective != "rate_ce":
            for i in range(2):
                assert relative_error(learner.weights(i), dense.layers[i].weight) < 1e-12
        moved[least] = np.abs(learner.weights(1) - build(kind="plain", objective=objective).weights(1)).max()
    assert moved[1e3] == 0 < moved[0.2] <= 10 * moved[0.0]


# Rewards.


@pytest.mark.parametrize("told", ["reward", "class"])
def test_a_reward_is_held_against_its_mean(told: str) -> None:
    """Twenty windows by the dense statement: (r - mean) times the gradient of saying again what was said."""
    rng = np.random.default_rng(14)
    learner = build(kind="decoupled", objective="reward", rate=0.05, decoder_tau_ms=20.0)
    dense = dense_of(learner)
    start = learner.weights(0)
    rewards = rng.normal(0.3, 1, 20).astype(np.float32)
    for reward in rewards:
        steps, cues = busy(rng, 25), silent_cues(25)
        cues.flags[-1] = CLOSE
        if told == "reward":
            cues = cues._replace(values=np.array([[reward]], np.float32))
            cues.labels[5:] = 0
        else:
            cues.labels[5:] = rng.integers(N_OUT)
        learner.run(steps, cues)
        follow(dense, steps, cues)
    for i in range(2):
        assert_close(learner.weights(i), dense.layers[i].weight, 1e-10, "reward, dense")
    assert np.abs(learner.weights(0) - start).max() > 1e-3
    assert learner._live.work.reward[0] == pytest.approx(dense.reward[0], rel=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_a_window_that_ends_without_a_reward_moves_nothing(optimizer: str) -> None:
    rng = np.random.default_rng(17)
    learner = build(objective="reward", optimizer=optimizer, rate=0.1)
    for label in (0, UNLABELLED):
        steps, cues = busy(rng, 40), labelled(40, rng)
        learner.run(steps, cues)
        before, mean = learner.weights(1), learner._live.work.reward.copy()
        learner.conclude(label, np.ones((1, 1), np.float32))
        assert np.array_equal(before, learner.weights(1)) == (label == UNLABELLED)
        assert np.array_equal(mean, learner._live.work.reward) == (label == UNLABELLED)


def test_the_mean_reward_is_that_of_the_last_hundred_or_so() -> None:
    learner = build((), objective="reward", rate=0.0)
    mean, rewards = 0.0, np.random.default_rng(15).normal(size=130).astype(np.float32)
    for k, r in enumerate(rewards):
        learner.run(silent_steps(1), silent_cues(1)._replace(labels=np.zeros(1, np.int32)))
        learner.conclude(0, np.array([[r]], np.float32))
        mean += (float(r) - mean) / min(k + 1, 100)
        assert learner._live.work.reward[0] == pytest.approx(mean, rel=1e-12)
    assert mean != pytest.approx(rewards.mean(), rel=1e-3)


def test_the_rewarded_action_is_learned() -> None:
    """A two-armed bandit with a cue: reward 1 for naming the cue's arm, 0 otherwise; nobody says which it is."""
    assert np.mean(_bandit(rate=0.0)) < 0.7
    assert np.mean(_bandit(rate=0.3)[-100:]) > 0.95


def _bandit(rate: float) -> list[bool]:
    rng = np.random.default_rng(16)
    learner = build((), n_out=2, n_in=8, objective="reward", rate=rate, decoder_tau_ms=10.0, spread=0.0)
    right = []
    for _ in range(300):
        cue = int(rng.integers(2))
        indptr = np.arange(0, 2 * 20 + 1, 2, dtype=np.int64)
        rows = [np.sort(rng.choice(4, 2, replace=False)) + 4 * cue for _ in range(20)]
        steps = Steps(0, indptr, np.concatenate(rows).astype(np.int32), np.ones(40, np.float32))
        learner.reset()
        cues = silent_cues(20)
        cues.labels[:] = 0  # row 0 of the values, which come at the end
        cues.flags[-1] = 1
        said = int(learner.run(steps, cues).scores[0].argmax())
        right.append(said == cue)
        learner.conclude(0, np.array([[float(said == cue)]], np.float32))
    return right


def test_what_does_not_go_together_is_refused() -> None:
    from spiked.learners.regularisers import Regularisers

    for spec, word in (
        ({"objective": "reward", "regularisers": Regularisers(l1=0.1)}, "regularisers"),
        ({"objective": "rate_ce", "feedback": "local"}, "local"),
        ({"objective": "reward", "feedback": "local"}, "local"),
    ):
        with pytest.raises(ValueError, match=word):
            build(**spec)
    assert NO_VALUES.shape == (0, 0)


def test_a_maximum_begins_to_move_from_weights_of_zero() -> None:
    """All membranes are equal then, at every step: the last one counts, which has seen its inputs."""
    rng = np.random.default_rng(3)
    learner = build(hidden=(), objective="max_membrane", optimizer="sgd", rate=1.0)
    learner.net.weight[:] = 0
    learner.run(busy(rng, 40), labelled(40, rng)._replace(labels=np.full(40, 2, np.int32)))
    learner.conclude(2)
    moved = learner.weights(0)
    assert (moved[:, 2] > 0).any() and (moved[:, 0] < 0).any()
