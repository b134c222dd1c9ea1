"""Naming neurons by what they answer to, against means over the list of all labelled responses."""

from __future__ import annotations

import naive_stdp
import numpy as np
import pytest

from spiked.learners.assignment import assign_example, assigned, assignment_score, grow_assignment, make_assignment


def taught(labels: list[int], responses: np.ndarray, n_classes: int):  # type: ignore[no-untyped-def]
    head = make_assignment(responses.shape[1], n_classes)
    for label, x in zip(labels, responses):
        assign_example(head, x, label)
    return head


def score(head, x: np.ndarray, soft: bool) -> np.ndarray:  # type: ignore[no-untyped-def]
    out = np.empty(len(head.examples))
    assignment_score(head, x, soft, out)
    return out


@pytest.mark.parametrize("soft", [False, True])
def test_scores_are_the_mean_responses_of_the_neurons_assigned(soft: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 3], 40).tolist()
    responses = rng.poisson(2.0, (40, 15)).astype(np.float32)
    responses[:, 4] = 0  # a neuron that never answers is nobody's
    x = rng.poisson(2.0, 15).astype(np.float32)
    got = score(taught(labels, responses, 5), x, soft)
    want = naive_stdp.assignment_scores(labels, responses.astype(float), x.astype(float), 5, soft)
    seen = ~np.isnan(want)
    np.testing.assert_allclose(got[seen], want[seen], rtol=1e-12)
    assert seen.tolist() == [True, True, False, True, False]
    assert (got[~seen] < got[seen].min()).all()


@pytest.mark.parametrize("soft", [False, True])
def test_neurons_that_answer_to_one_class_tell_classes_apart(soft: bool) -> None:
    own = np.repeat(np.eye(3), 4, axis=1)
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 60).tolist()
    responses = (own[labels] * 5 + rng.poisson(1.0, (60, 12))).astype(np.float32)
    head = taught(labels[:30], responses[:30], 3)
    assert assigned(head).tolist() == np.repeat([0, 1, 2], 4).tolist()
    said = [int(score(head, x, soft).argmax()) for x in responses[30:]]
    assert np.mean(np.array(said) == labels[30:]) > 0.9


def test_growth_leaves_the_scores_of_old_classes() -> None:
    rng = np.random.default_rng(2)
    responses = rng.poisson(2.0, (20, 6)).astype(np.float32)
    head = taught([0, 1] * 10, responses, 2)
    grown = grow_assignment(head, 4)
    for soft in (False, True):
        assert np.array_equal(score(head, responses[0], soft), score(grown, responses[0], soft)[:2])
    assign_example(grown, responses[0] * 50 + 50, 3)
    assert assigned(grown).tolist() == [3] * 6


def test_without_a_label_nothing_is_assigned() -> None:
    assert assigned(make_assignment(3, 2)).tolist() == [-1, -1, -1]
    assert score(make_assignment(3, 2), np.ones(3, np.float32), True).tolist() == [-1, -1]
