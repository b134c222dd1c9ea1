"""Surrogate derivatives of the spike, as functions of the membrane's distance to threshold, ``v = U - theta``.

The spike itself is the Heaviside step; these stand in for its derivative in the learning rules only (the paper's
section 4.2). All are 1 at threshold. For the first three the slope alone sets the width; for the last two it is what a
neuron below threshold has for a derivative.

=============  =====================================================  ==============================
name           psi(v), k = slope                                      half width at half height
=============  =====================================================  ==============================
fast_sigmoid   1 / (1 + k |v|)^2                                      0.41 / k
sigmoid        4 e^(-k v) / (1 + e^(-k v))^2                          1.76 / k
triangular     max(0, 1 - k |v|)                                      0.5 / k
spike          1 above, k below: Eq. 8 with k = 0, and for a small    -
               k a ReLU shifted to the threshold, with its leak
noisy_spike    1 above, below it k times noise that is uniform in     -
               [-1, 1]: the missing derivative is a flag for random
               feedback, whose mean of zero integrates out (4.3)
=============  =====================================================  ==============================
"""

from __future__ import annotations

import math

import numpy as np

from spiked.learners.counter import word
from spiked.learners.jit import inlined, kernel

SURROGATES = ("fast_sigmoid", "sigmoid", "triangular", "spike", "noisy_spike")
NOISY_SPIKE = 4
_DROPPED = np.uint64(11)


@kernel
def surrogate(kind, v, slope):  # type: ignore[no-untyped-def]
    """Derivative number `kind` of `SURROGATES` at distance `v` from threshold; without the noise of the last."""
    z = abs(v) * slope
    if kind == 0:
        return 1.0 / ((1.0 + z) * (1.0 + z))
    if kind == 1:
        e = math.exp(-z)
        return 4.0 * e / ((1.0 + e) * (1.0 + e))
    if kind == 2:
        return max(0.0, 1.0 - z)
    return 1.0 if v > 0 else slope


@inlined
def surrogate_row(kind, v, slope, psi):  # type: ignore[no-untyped-def]
    """`surrogate` of many: ``psi = surrogate(kind, v, slope)``, in the type of `v`; `slope` is float[1] of that type.

    A loop for each kind, and no choice within one, so that each is vectorised.
    """
    k, one = slope[0], type(slope[0])(1)
    if kind == 0:
        for j in range(len(v)):
            z = one + abs(v[j]) * k
            psi[j] = one / (z * z)
    elif kind == 2:
        for j in range(len(v)):
            psi[j] = max(one - abs(v[j]) * k, one - one)
    else:
        for j in range(len(v)):
            psi[j] = surrogate(kind, v[j], k)


@kernel
def noise(key, counter):  # type: ignore[no-untyped-def]
    """Number `counter` of `key` (both uint64) in [-1, 1): the flag of a neuron below threshold."""
    return float(word(key, counter) >> _DROPPED) * 2.0**-52 - 1.0
