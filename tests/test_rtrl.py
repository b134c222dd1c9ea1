"""Learning at every step by influence traces against torch autograd, dense traces and stated facts."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest

from spiked.learners.contract import CLOSE, READ, UNLABELLED, Cues, Steps, silent_cues
from spiked.learners.lif import LayerSpec, layer_weight, make_lif
from spiked.learners.rtrl import EACH_STEP_OBJECTIVES, RtrlLearner, RtrlSpec
from spiked.learners.trials import random_steps, silent_steps

N_IN, N_OUT = 30, 4
SMALL = 1e-11
"""A rate at which the weights stand still, while what little moved them is the gradient (some hundreds)."""


def build(
    hidden: tuple[int, ...] = (16,),
    dtype: Any = np.float64,
    resets: tuple[str, ...] = (),
    theta_out: float = 1.0,
    seed: int = 0,
    taus: tuple[float, ...] = (),
    **spec: Any,
) -> RtrlLearner:
    sizes = [*hidden, N_OUT]
    taus = taus or (*([20.0] * len(hidden)), 50.0)
    resets = resets or ("subtract",) * len(sizes)
    layers = [LayerSpec(n, tau, 1.0, reset) for n, tau, reset in zip(sizes, taus, resets)]
    layers[-1] = LayerSpec(N_OUT, taus[-1], theta_out, resets[-1])
    net = make_lif(N_IN, layers, 1.0, dtype)
    net.weight[:] = np.random.default_rng(seed).normal(0, 0.35, net.weight.shape)
    return RtrlLearner(net, RtrlSpec(**({"rate": SMALL} | spec)), seed=seed)


def stack_of(learner: RtrlLearner) -> naive.Stack:
    """The stack in float64, before learning."""
    net = learner.net
    depth = len(net.threshold)
    return naive.Stack(
        [layer_weight(net, i).astype(np.float64) for i in range(depth)],
        [float(b) for b in net.beta[net.u_at[:-1]]],
        [float(t) for t in net.threshold],
        [bool(z) for z in net.to_zero],
    )


def dense_of(learner: RtrlLearner, **also: Any) -> naive.DenseRtrl:
    """The same learner with dense traces, and the feedback matrices that the learner drew."""
    s, f, sizes = learner.spec, learner._feedback, learner.net.sizes
    matrices = [f.matrix[a:b].reshape(-1, int(n)).T for a, b, n in zip(f.at, f.at[1:], sizes[1:])]
    given = {
        "objective": s.objective,
        "surrogate": s.surrogate,
        "slope": s.surrogate_slope,
        "update": "step",
        "rate": s.rate,
        "feedback": None if s.feedback == "symmetric" else matrices,
        "direct": s.feedback == "direct",
    }
    return naive.DenseRtrl(stack_of(learner), **(given | also))


def gappy_steps(rng: np.random.Generator, gaps: tuple[int, ...] = (), n: int = 60, active: int = 6) -> Steps:
    """Stretches of `n` busy steps with silences between, counts other than 1."""
    parts = [random_steps(rng, n, N_IN, active, (0.5, 2.5))]
    for gap in gaps:
        parts += [silent_steps(gap), random_steps(rng, n, N_IN, active, (0.5, 2.5))]
    rows = np.concatenate([np.diff(p.indptr) for p in parts])
    indptr = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    return Steps(0, indptr, np.concatenate([p.indices for p in parts]), np.concatenate([p.counts for p in parts]))


def dense_x(steps: Steps) -> np.ndarray:
    return naive.densify(steps.indptr, steps.indices, steps.counts, N_IN)


def labelled(n: int, rng: np.random.Generator, closes: tuple[int, ...] = ()) -> Cues:
    """Labels that change with the windows; nothing is known for a stretch of each."""
    cues = silent_cues(n)
    for start, stop in zip([0, *closes], [*closes, n]):
        cues.labels[start:stop] = rng.integers(N_OUT)
        cues.labels[start : start + 5] = UNLABELLED
    for stop in closes:
        cues.flags[stop - 1] = CLOSE
    return cues


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    assert np.abs(want).max() > 0
    return float(np.abs(got - want).max() / np.abs(want).max())


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def assert_gradient(learner: RtrlLearner, start: naive.Stack, want: list[np.ndarray], tolerance: float = 1e-5) -> None:
    for layer, gradient in enumerate(want):
        moved = start.weights[layer] - learner.weights(layer)
        assert relative_error(moved / learner.rate, gradient) < tolerance, f"layer {layer}"


@pytest.mark.parametrize("hidden", [(), (16,)])
@pytest.mark.parametrize("kind", ["fast_sigmoid", "sigmoid", "triangular"])
@pytest.mark.parametrize("objective", EACH_STEP_OBJECTIVES)
def test_gradient_equals_autograd(objective: str, kind: str, hidden: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    slope = 2.0 if kind == "fast_sigmoid" else 0.8  # wide enough that each neuron learns, and not everywhere
    learner = build(hidden, objective=objective, surrogate=kind, surrogate_slope=slope)
    stack, steps = stack_of(learner), gappy_steps(rng, (), 160)
    cues = labelled(160, rng, (40, 90))
    learner.run(steps, cues)
    assert_gradient(learner, stack, naive.bptt(stack, dense_x(steps), objective, cues.labels, kind, slope))


def test_gradient_through_silences() -> None:
    """Gaps beyond the origin (60 steps) and beyond forgetting (1250)."""
    rng = np.random.default_rng(3)
    learner = build((16,))
    stack, steps = stack_of(learner), gappy_steps(rng, (70, 200, 1600, 30), 40)
    cues = labelled(steps.n, rng)
    learner.run(steps, cues)
    assert_gradient(learner, stack, naive.bptt(stack, dense_x(steps), "membrane_ce", cues.labels, "fast_sigmoid", 2.0))


@pytest.mark.parametrize("taus", [(5.0, 100.0), (100.0, 5.0), (0.3, 20.0), (20.0, 0.3), (30.0, 30.0)])
def test_gradient_at_any_pair_of_time_constants(taus: tuple[float, float]) -> None:
    rng = np.random.default_rng(4)
    learner = build((16,), taus=taus)
    stack, steps = stack_of(learner), gappy_steps(rng, (25,), 120, 12)
    cues = labelled(steps.n, rng)
    learner.run(steps, cues)
    assert_gradient(learner, stack, naive.bptt(stack, dense_x(steps), "membrane_ce", cues.labels, "fast_sigmoid", 2.0))


@pytest.mark.parametrize("resets", [("zero", "subtract"), ("zero", "zero")])
def test_gradient_with_the_reset_to_zero_detached(resets: tuple[str, ...]) -> None:
    rng = np.random.default_rng(5)
    learner = build((16,), resets=resets)
    stack, steps = stack_of(learner), gappy_steps(rng, (), 120)
    cues = labelled(120, rng)
    learner.run(steps, cues)
    assert_gradient(learner, stack, naive.bptt(stack, dense_x(steps), "membrane_ce", cues.labels, "fast_sigmoid", 2.0))


def test_gradient_of_an_output_that_only_integrates() -> None:
    rng = np.random.default_rng(6)
    learner = build((16,), theta_out=np.inf)
    stack, steps = stack_of(learner), gappy_steps(rng, (), 120)
    cues = labelled(120, rng)
    learner.run(steps, cues)
    assert_gradient(learner, stack, naive.bptt(stack, dense_x(steps), "membrane_ce", cues.labels, "fast_sigmoid", 2.0))


def test_regression_moves_along_its_gradient() -> None:
    """Vector targets: the label is a row of the values."""
    rng = np.random.default_rng(8)
    learner = build((16,), objective="membrane_mse", rate=1e-3)
    dense, steps = dense_of(learner), gappy_steps(rng, (), 100)
    cues = silent_cues(100)._replace(values=rng.normal(size=(7, N_OUT)).astype(np.float32))
    cues.labels[:] = np.arange(100) % 8 - 1
    cues.flags[[49, 99]] = CLOSE
    learner.run(steps, cues)
    for x, label, flag in zip(dense_x(steps), cues.labels, cues.flags):
        dense.step(x, int(label), bool(flag & CLOSE), cues.values[label].astype(float))
    for layer, want in enumerate(dense.stack.weights):
        assert relative_error(learner.weights(layer), want) < 1e-12


def test_two_hidden_layers_are_exact_above_and_near_below() -> None:
    """The filters of the layers further up do not factor: below, the gradient is an approximation that points along."""
    near = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        learner = build((16, 16), seed=seed)
        stack, steps = stack_of(learner), gappy_steps(rng, (), 200)
        cues = labelled(200, rng)
        learner.run(steps, cues)
        want = naive.bptt(stack, dense_x(steps), "membrane_ce", cues.labels, "fast_sigmoid", 2.0)
        moved = [(start - learner.weights(i)) / SMALL for i, start in enumerate(stack.weights)]
        assert relative_error(moved[2], want[2]) < 1e-5
        assert relative_error(moved[1], want[1]) < 1e-5
        near.append(cosine(moved[0], want[0]))
    assert min(near) > 0.9


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-9)])
@pytest.mark.parametrize("feedback", ["symmetric", "random", "direct"])
@pytest.mark.parametrize("hidden", [(), (16,), (16, 12)])
def test_lazy_learning_at_every_step_equals_dense(
    hidden: tuple[int, ...], feedback: str, dtype: Any, tolerance: float
) -> None:
    if not hidden and feedback != "symmetric":
        pytest.skip("feedback reaches hidden layers only")
    """2200 steps with gaps beyond the origin and beyond forgetting.

    A larger rate would part float32 from float64 for good at the first spike that rounding decides.
    """
    rng = np.random.default_rng(33)
    learner = build(hidden, dtype, rate=1e-4 if dtype is np.float32 else 1e-3, feedback=feedback)
    dense, steps = dense_of(learner), gappy_steps(rng, (100, 1500), 200)
    start = [w.copy() for w in dense.stack.weights]
    cues = labelled(steps.n, rng, tuple(range(50, steps.n, 50)))
    cues.flags[:] |= READ
    said = learner.run(steps, cues)
    for x, label, flag in zip(dense_x(steps), cues.labels, cues.flags):
        dense.step(x, int(label), bool(flag & CLOSE))
    fired = np.array(dense.fired)
    layer_of = np.repeat(np.arange(len(hidden) + 1), [*hidden, N_OUT])
    want = np.array([fired[:, layer_of == i].sum(1) for i in range(len(hidden) + 1)]).T
    np.testing.assert_array_equal(said.spikes, want)
    for layer, weight in enumerate(dense.stack.weights):
        assert relative_error(learner.weights(layer), weight) < tolerance
        assert np.abs(weight - start[layer]).max() > 0.01  # 100 times the tolerance and more


def test_scores_are_an_exponential_trace() -> None:
    """Of the output's membrane, or of its spikes; a mean over `decoder_tau_ms`."""
    rng = np.random.default_rng(33)
    steps = gappy_steps(rng, (), 150)
    decay = np.exp(-1 / 40)
    for decoder in ("membrane", "rate"):
        learner = build((16,), decoder=decoder, decoder_tau_ms=40.0)
        membranes, spikes = naive.simulate(stack_of(learner), dense_x(steps))
        said = (membranes if decoder == "membrane" else spikes)[-1]
        want = (1 - decay) * (decay ** np.arange(149, -1, -1)) @ said
        learner.run(steps)
        np.testing.assert_allclose(learner.conclude().scores[0], want, rtol=2e-7, atol=1e-7)


# What goes on between windows: pauses, growth, recall, forgetting.


def test_a_pause_of_learning_voids_its_window_and_no_more() -> None:
    """What was gathered before a pause does not reach the windows after it."""
    rng = np.random.default_rng(33)
    a = build((16,), rate=0.01)
    b = build((16,), rate=0.01)
    first, second = gappy_steps(rng, (), 60), gappy_steps(rng, (), 60)
    cues = labelled(60, rng)
    closing = labelled(60, rng)
    closing.flags[-1] = CLOSE
    a.run(first, cues)  # open window
    a.run(silent_steps(10), learn=False)
    moved = [a.weights(i) for i in range(2)]
    a.reset()
    b.net.weight[:] = a.net.weight
    a.run(second, closing)
    b.run(second, closing)
    for i in range(2):
        np.testing.assert_array_equal(a.weights(i), b.weights(i))
        assert not np.array_equal(a.weights(i), moved[i])


def test_growth_in_mid_window_loses_no_influence() -> None:
    """Growing to outputs that nothing teaches equals never growing, for the squared error of the old outputs."""
    rng = np.random.default_rng(33)
    values = np.zeros((1, N_OUT + 2), np.float32)
    a, b = (build((16,), rate=0.01, objective="membrane_mse", feedback="random") for _ in range(2))
    first, second = gappy_steps(rng, (), 70), gappy_steps(rng, (), 70)
    cues = silent_cues(70)
    cues.labels[:] = 0
    closing = silent_cues(70)
    closing.labels[:] = 0
    closing.flags[-1] = CLOSE
    for learner in (a, b):
        learner.run(first, cues._replace(values=values[:, :N_OUT]))
    a.grow(N_OUT + 2)
    a.run(second, closing._replace(values=values))  # the new outputs stay at 0, their target
    b.run(second, closing._replace(values=values[:, :N_OUT].copy()))
    np.testing.assert_allclose(a.weights(0), b.weights(0), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(a.weights(1)[:, :N_OUT], b.weights(1), rtol=1e-13, atol=1e-15)
    assert not a.weights(1)[:, N_OUT:].any()


@pytest.mark.parametrize("feedback", ["random", "direct"])
def test_growth_keeps_the_feedback_of_old_outputs(feedback: str) -> None:
    learner = build((16, 12), feedback=feedback)
    learner._feedback.matrix[:] *= 1.5  # as if loaded from a learner of another seed

    def matrices() -> list[np.ndarray]:  # a row for each neuron that is heard
        f = learner._feedback
        return [f.matrix[a:b].reshape(-1, n).copy() for a, b, n in zip(f.at, f.at[1:], (16, 12))]

    old = matrices()
    learner.grow(N_OUT + 3)
    for new, want in zip(matrices(), old):
        np.testing.assert_array_equal(new[: len(want)], want)
        assert new[len(want) :].all()


def test_outputs_cannot_be_taken_away() -> None:
    with pytest.raises(ValueError, match="4 outputs"):
        build().grow(3)


def test_recall_in_mid_window_leaves_the_live_window_as_it_was() -> None:
    """A recall that teaches nothing (unlabelled) between two halves of a window: the window learns as if unbroken."""
    rng = np.random.default_rng(16)
    a, b = (build((16,), rate=0.01) for _ in range(2))
    first, kept, second = (gappy_steps(rng, (), 60) for _ in range(3))
    cues, closing = labelled(60, rng), labelled(60, rng)
    closing.flags[-1] = CLOSE
    for learner in (a, b):
        learner.run(first, cues)
        if learner is a:
            learner.recall(kept, silent_cues(60))
        learner.run(second, closing)
    for i in range(2):
        np.testing.assert_allclose(a.weights(i), b.weights(i), rtol=1e-11, atol=1e-13)


def test_recall_teaches_the_weights_that_living_it_teaches() -> None:
    rng = np.random.default_rng(17)
    for objective in EACH_STEP_OBJECTIVES:
        live, recalled = (build((16,), rate=0.01, objective=objective) for _ in range(2))
        for _ in range(3):
            steps, cues = gappy_steps(rng, (), 60), labelled(60, rng, (30,))
            cues.flags[-1] = CLOSE
            live.run(steps, cues)
            live.reset()
            recalled.recall(steps, cues)
        for i in range(2):
            np.testing.assert_array_equal(live.weights(i), recalled.weights(i))


def test_live_rows_stay_few_and_unique() -> None:
    """The list of live rows holds each once, empties in silence, and refills."""
    rng = np.random.default_rng(18)
    learner = build((16,), rate=0.01)
    inf = learner._live.inf
    for _ in range(3):
        learner.run(gappy_steps(rng, (3,) * 20, 30), None)
        for layer, n_in in enumerate((N_IN, 16)):
            rows = inf.live[inf.x_at[layer] : inf.x_at[layer] + inf.n_live[layer]]
            assert len(set(rows)) == len(rows) <= n_in
            flags = inf.is_live[inf.x_at[layer] : inf.x_at[layer + 1]]
            np.testing.assert_array_equal(np.flatnonzero(flags), np.sort(rows))
        learner.run(silent_steps(3000))
        assert not inf.n_live.any() and not inf.xhat.any() and not inf.filtered.any() and not inf.is_live.any()


@pytest.mark.parametrize("tau", [1e12, np.inf, 0.05, 1e-3])
def test_extreme_time_constants_stay_exact(tau: float) -> None:
    """No leak at all, and memory shorter than a step."""
    rng = np.random.default_rng(19)
    for taus in ((tau, 20.0), (20.0, tau)):
        learner = build((16,), taus=taus)
        learner.net.weight[:] *= 0.3
        stack, steps = stack_of(learner), gappy_steps(rng, (), 100, 12)
        cues = labelled(100, rng)
        learner.run(steps, cues)
        assert_gradient(
            learner, stack, naive.bptt(stack, dense_x(steps), "membrane_ce", cues.labels, "fast_sigmoid", 2.0)
        )


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_a_rate_too_large_for_its_input_diverges_no_faster_than_linearly(hidden: tuple[int, ...]) -> None:
    """Squared error far beyond a stable rate, float32: large, but finite."""
    learner = build(hidden, np.float32, objective="membrane_mse", rate=1e3)
    rng = np.random.default_rng(20)
    for _ in range(20):
        learner.run(gappy_steps(rng, (), 100), labelled(100, rng, tuple(range(10, 100, 10))))
    assert all(np.isfinite(learner.weights(i)).all() for i in range(len(hidden) + 1))
    assert np.abs(learner.weights(len(hidden))).max() > 1e3  # it did diverge


def test_traces_stay_exact_over_a_long_stream() -> None:
    """What 20 000 steps teach, some inputs rare enough to be forgotten and found again."""
    rng = np.random.default_rng(21)
    n = 20_000
    learner = build((16,))
    busy = random_steps(rng, n, N_IN - 6, 5, (0.5, 2.0))
    rare = random_steps(rng, 30, 6, 3)
    rows = [busy.indices[a:b] for a, b in zip(busy.indptr, busy.indptr[1:])]
    for k, at in enumerate(rng.integers(0, n, 30)):
        rows[at] = np.concatenate([rows[at], N_IN - 6 + rare.indices[rare.indptr[k] : rare.indptr[k + 1]]])
    indices = np.concatenate(rows).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    steps = Steps(0, indptr, indices, np.ones(len(indices), np.float32))
    cues = labelled(n, rng, tuple(range(700, n, 700)))
    dense, start = dense_of(learner), stack_of(learner)
    learner.run(steps, cues)
    for x, label, flag in zip(dense_x(steps), cues.labels, cues.flags):
        dense.step(x, int(label), bool(flag & CLOSE))
    taught = [(before - after) / SMALL for before, after in zip(start.weights, dense.stack.weights)]
    assert_gradient(learner, start, taught)


def test_target_vectors_must_fit() -> None:
    learner = build((16,), objective="membrane_mse")
    steps, cues = gappy_steps(np.random.default_rng(22), (), 10), silent_cues(10)
    with pytest.raises(ValueError, match="vectors of 7 for 4"):
        learner.run(steps, cues._replace(values=np.zeros((2, 7), np.float32)))
    cues.labels[3] = 2
    with pytest.raises(ValueError, match="label 2"):
        learner.run(steps, cues._replace(values=np.zeros((2, N_OUT), np.float32)))
