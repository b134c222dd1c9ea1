"""Surrogate derivatives against a table and finite differences of the functions they derive."""

from __future__ import annotations

import naive
import numpy as np
import pytest

from spiked.learners.surrogates import SURROGATES, surrogate

SMOOTH = {  # a function whose derivative by v is psi / scale: k v / (1 + k |v|), the logistic, a piecewise parabola
    "fast_sigmoid": (lambda z: z / (1 + np.abs(z)), 1.0),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), 4.0),
    "triangular": (lambda z: np.where(np.abs(z) < 1, z - z * np.abs(z) / 2, np.sign(z) / 2), 1.0),
}
HALF = {"fast_sigmoid": np.sqrt(2) - 1, "sigmoid": np.log(3 + np.sqrt(8)), "triangular": 0.5}


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("slope", [0.5, 2.0, 25.0])
def test_is_the_derivative_of_its_function(kind: int, slope: float) -> None:
    name = SURROGATES[kind]
    smooth, scale = SMOOTH[name]
    v = np.linspace(-2, 2, 81) + 0.0017  # off the kinks
    h = 1e-6
    slope_there = (smooth(slope * (v + h)) - smooth(slope * (v - h))) / (2 * h)
    psi = np.array([surrogate(kind, x, slope) for x in v])
    np.testing.assert_allclose(psi * slope / scale, slope_there, atol=2e-8 * slope)
    np.testing.assert_allclose(psi, naive.surrogate(name, v, slope), atol=1e-15)


@pytest.mark.parametrize("kind", range(3))
def test_peaks_at_one_symmetric_with_the_stated_width(kind: int) -> None:
    assert surrogate(kind, 0.0, 3.0) == 1.0
    assert surrogate(kind, 0.4, 3.0) == surrogate(kind, -0.4, 3.0)
    assert surrogate(kind, HALF[SURROGATES[kind]] / 3.0, 3.0) == pytest.approx(0.5, abs=1e-14)


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("v", [1e30, -1e30, 1e8, np.float32(-3e38)])
def test_far_from_threshold_it_is_finite_and_vanishes(kind: int, v: float) -> None:
    assert 0 <= surrogate(kind, v, 25.0) < 1e-17
