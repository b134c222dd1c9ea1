"""The streaming head against batch solutions, and the fixed learner's features against their closed form."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from spiked.learners.contract import READ, silent_cues
from spiked.learners.discriminant import Discriminant, grow_discriminant, learn_example, make_discriminant, score
from spiked.learners.fixed import FixedLearner, FixedSpec
from spiked.learners.lif import LayerSpec, layer_weight, make_lif
from spiked.learners.trials import random_steps

D, K = 60, 5


def examples(n: int, seed: int = 0, d: int = D, k: int = K) -> tuple[np.ndarray, np.ndarray]:
    """Classes with correlated, non-negative features, as square roots of traces are."""
    rng = np.random.default_rng(seed)
    mixing, centre = rng.normal(size=(d, d)), rng.normal(size=(k, d))
    y = rng.integers(k, size=n)
    return np.abs(2 + centre[y] + rng.normal(size=(n, d)) @ mixing * 0.3), y


def learn(head: Discriminant, x: np.ndarray, y: np.ndarray) -> Discriminant:
    for row, label in zip(x, y):
        learn_example(head, row.copy(), label)  # works in place of its argument
    return head


def scores(head: Discriminant, at: np.ndarray) -> np.ndarray:
    out = np.zeros((len(at), len(head.examples)))
    for row, said in zip(at, out):
        score(head, row, said)
    return out


def error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize("ridge", [1e-2, 1.0, 100.0])
def test_equals_the_batch_solution_after_each_of_500_examples(ridge: float) -> None:
    x, y = examples(520)
    head = make_discriminant(D, K, ridge)
    for n in (1, 2, 7, 60, 500):
        learn(head, x[int(head.examples.sum()) : n], y[int(head.examples.sum()) : n])
        seen = np.unique(y[:n])
        got, want = scores(head, x[500:]), naive.batch_lda(x[:n], y[:n], K, ridge, x[500:])
        assert error(got[:, seen], want[:, seen]) < 1e-8
    np.testing.assert_array_equal(head.examples, np.bincount(y[:500], minlength=K))
    np.testing.assert_allclose(head.mean, [x[:500][y[:500] == k].mean(0) for k in range(K)], rtol=1e-12)


def test_agrees_with_scikit_learn() -> None:
    """With next to no ridge, and their priors taken off; what rounding leaves grows as 1 / ridge."""
    x, y = examples(1500, seed=3)
    head = learn(make_discriminant(D, K, 1e-6), x[:1000], y[:1000])
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(x[:1000], y[:1000])
    want = x[1000:] @ theirs.coef_.T + theirs.intercept_ - np.log(theirs.priors_)
    assert error(scores(head, x[1000:]), want) < 1e-6


@pytest.mark.parametrize("whiten", [True, False])
def test_the_order_of_the_data_does_not_matter(whiten: bool) -> None:
    """Class after class ends where shuffled ends, and where growing class by class ends."""
    x, y = examples(520)
    order = np.argsort(y[:500], kind="stable")
    shuffled = learn(make_discriminant(D, K, 1.0, whiten), x[:500], y[:500])
    incremental = learn(make_discriminant(D, K, 1.0, whiten), x[:500][order], y[:500][order])
    growing = make_discriminant(D, 0, 1.0, whiten)
    for k in range(K):
        growing = learn(grow_discriminant(growing, k + 1), x[:500][y[:500] == k], y[:500][y[:500] == k])
    for other in (incremental, growing):
        assert error(scores(other, x[500:]), scores(shuffled, x[500:])) < 1e-8
        assert error(other.weight, shuffled.weight) < 1e-8


def test_growth_leaves_the_scores_of_old_classes() -> None:
    x, y = examples(200)
    head = learn(make_discriminant(D, K, 1.0), x, y)
    before = scores(head, x[:20])
    grown = grow_discriminant(head, K + 4)
    np.testing.assert_array_equal(scores(grown, x[:20])[:, :K], before)


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_a_class_never_seen_is_never_predicted(whiten: bool, scale: float) -> None:
    """Also in float32, as scores leave, and however negative the rest is."""
    x, y = examples(300, seed=1)
    head = make_discriminant(D, K + 2, 1.0, whiten)  # classes 0 and K + 1 are never seen
    learn(head, x * scale, y + 1)
    for at in (x[:50] * scale, -x[:50] * scale, x[:50] * scale * 1e6, np.zeros((1, D))):
        said = scores(head, at).astype(np.float32)
        assert np.isfinite(said).all()
        assert (said[:, [0, K + 1]].max(1) < said[:, 1 : K + 1].min(1)).all()


def test_a_single_seen_class_is_predicted() -> None:
    head = learn(make_discriminant(3, 4, 1.0), np.ones((1, 3)), np.array([2]))
    assert scores(head, np.array([[1.0, 1, 1], [-9, 0, 4], [0, 0, 0]])).argmax(1).tolist() == [2, 2, 2]


def test_prototype_is_the_nearest_mean() -> None:
    x, y = examples(520)
    head = learn(make_discriminant(D, K, 1.0, whiten=False), x[:500], y[:500])
    np.testing.assert_array_equal(scores(head, x[500:]).argmax(1), naive.nearest_mean(x[:500], y[:500], K, x[500:]))


def test_a_repeated_example_and_dead_features_stay_finite() -> None:
    """No variance anywhere: the ridge alone holds."""
    head = make_discriminant(D, 2, 1.0)
    one, other = np.zeros(D), np.zeros(D)
    one[0], other[1] = 4.0, 4.0
    learn(head, np.array([one, other] * 5000), np.array([0, 1] * 5000))
    said = scores(head, np.array([one, other]))
    assert np.isfinite(said).all() and said.argmax(1).tolist() == [0, 1]


def test_drift_over_a_long_stream_is_small() -> None:
    """20 000 examples, features that differ a hundredfold in scale: rounding does not pile up."""
    x, y = examples(20_020, d=20)
    x *= np.logspace(-1, 1, 20)
    head = learn(make_discriminant(20, K, 1e-2), x[:-20], y[:-20])
    assert error(scores(head, x[-20:]), naive.batch_lda(x[:-20], y[:-20], K, 1e-2, x[-20:])) < 1e-8


@pytest.mark.parametrize("depth", [1, 2])
def test_traces_are_sums_over_spikes(depth: int) -> None:
    rng = np.random.default_rng(5)
    taus = (20.0, 100.0, 400.0)
    net = make_lif(30, [LayerSpec(20)] * (depth - 1) + [LayerSpec(12)], 1.0)
    net.weight[:] = rng.normal(0, 0.4, net.weight.shape)
    weights = [layer_weight(net, i).copy() for i in range(depth)]
    stack = naive.Stack(weights, [float(b) for b in net.beta[net.u_at[:-1]]], [1.0] * depth, [False] * depth)
    learner = FixedLearner(net, 3, FixedSpec(trace_ms=taus))
    steps = random_steps(rng, 1000, 30, 8)
    learner.run(steps)
    x = naive.densify(steps.indptr, steps.indices, steps.counts, 30).astype(np.float32)
    spikes = naive.simulate(stack, x)[1][-1]
    assert spikes.sum() > 100
    np.testing.assert_allclose(
        learner._traces.trace, naive.spike_traces(spikes, list(taus), 1.0), rtol=1e-4, atol=1e-12
    )
    for layer, weight in enumerate(weights):
        np.testing.assert_array_equal(learner.weights(layer), weight)


@pytest.mark.parametrize("head", ["discriminant", "prototype"])
def test_the_fixed_learner_learns_the_square_roots_of_its_traces(head: str) -> None:
    """Each concluded window is one example of the batch solution; under the root a quarter is added."""
    rng = np.random.default_rng(6)
    net = make_lif(30, [LayerSpec(8)], 1.0)
    net.weight[:] = rng.normal(0.05, 0.4, net.weight.shape)
    learner = FixedLearner(net, 3, FixedSpec(head=head, trace_ms=(20.0, 100.0), ridge=1.0))
    features, labels = [], []
    for k in range(40):
        learner.run(random_steps(rng, 50, 30, 4 + 4 * (k % 3)))
        features.append(np.sqrt(learner._traces.trace.astype(float) + 0.25).ravel())
        labels.append(k % 3)
        if k < 39:
            learner.conclude(k % 3)
    cues = silent_cues(1)
    cues.flags[0] = READ
    x, y = np.array(features[:-1]), np.array(labels[:-1])
    said = learner.conclude().scores[0]
    if head == "prototype":
        assert said.argmax() == naive.nearest_mean(x, y, 3, np.array(features[-1:]))[0]
    else:
        np.testing.assert_allclose(said, naive.batch_lda(x, y, 3, 1.0, np.array(features[-1:]))[0], rtol=1e-5)
