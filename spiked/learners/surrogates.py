"""Surrogate derivatives of the spike, as functions of the membrane's distance to threshold, ``v = U - theta``.

The spike itself is the Heaviside step; these stand in for its derivative in the learning rules only (the paper's
section 4.2). All peak at 1 at threshold, so that the slope alone sets their width.

=============  =================================  ==============================
name           psi(v), k = slope                  half width at half height
=============  =================================  ==============================
fast_sigmoid   1 / (1 + k |v|)^2                  0.41 / k
sigmoid        4 e^(-k v) / (1 + e^(-k v))^2      1.76 / k
triangular     max(0, 1 - k |v|)                  0.5 / k
=============  =================================  ==============================
"""

from __future__ import annotations

import math

from spiked.learners.jit import kernel

SURROGATES = ("fast_sigmoid", "sigmoid", "triangular")


@kernel
def surrogate(kind, v, slope):  # type: ignore[no-untyped-def]
    """Derivative number `kind` of `SURROGATES` at distance `v` from threshold."""
    z = abs(v) * slope
    if kind == 0:
        return 1.0 / ((1.0 + z) * (1.0 + z))
    if kind == 1:
        e = math.exp(-z)
        return 4.0 * e / ((1.0 + e) * (1.0 + e))
    return max(0.0, 1.0 - z)
