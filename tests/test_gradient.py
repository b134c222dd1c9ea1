"""Gradients gathered in blocks against torch autograd through time, for every kind of neuron."""

from __future__ import annotations

from typing import Any

import naive_gradient
import numpy as np
import pytest
from gradient_cases import (
    KINDS,
    TOLERANCE,
    assert_close,
    build,
    busy,
    dense_x,
    labelled,
    layers_of,
)

from spiked.learners.contract import Cues, Steps
from spiked.learners.eligibility import BLOCK_STEPS
from spiked.learners.gradient import GradientLearner

DTYPES = [np.float64, np.float32]


def autograd(
    learner: GradientLearner, steps: Steps, cues: Cues, since: int = 0, n_in: int = 30
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Gradients by weights and decays of the loss of the window that opened at `since`."""
    s = learner.spec
    values = cues.values.astype(np.float64) if len(cues.values) else None
    course = naive_gradient.simulate(layers_of(learner), dense_x(steps, n_in), s.surrogate, s.surrogate_slope)

    def loss_of(u: Any, label: int) -> Any:
        return naive_gradient.step_loss(s.objective, u, label, values, s.population)

    return course.gradients(naive_gradient.summed(course, cues.labels, since, loss_of))


def assert_gradient(learner: GradientLearner, want: list[np.ndarray], rule: str, dtype: Any) -> None:
    for layer, gradient in enumerate(want):
        assert_close(-learner.descent(layer), gradient, TOLERANCE[dtype], rule, dtype)


def weak(kind: str) -> dict[str, Any]:
    """Weights under which each kind of neuron fires now and then."""
    return {"spread": 0.2 if kind in ("current", "all") else 0.35, "mean": 0.02}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("objective", ["membrane_ce", "membrane_mse"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_equals_autograd(kind: str, objective: str, dtype: Any) -> None:
    """In the third window at rate 0, after unlabelled and closed ones, over more steps than a block."""
    rng = np.random.default_rng(7)
    n = 2 * BLOCK_STEPS + 30
    learner = build(dtype=dtype, kind=kind, objective=objective, **weak(kind))
    steps, cues = busy(rng, n), labelled(n, rng, (40, 90))
    learner.run(steps, cues)
    spikes = learner.conclude(learn=False).spikes[0]
    assert 100 < spikes[0] < 0.4 * 16 * n
    again = build(dtype=dtype, kind=kind, objective=objective, **weak(kind))
    again.run(steps, cues)
    assert_gradient(again, autograd(again, steps, cues, 90)[0], f"{objective} {kind}", dtype)
