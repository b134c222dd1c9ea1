"""Optimisers for an endless stream of one: a step along the sink of `influence`, touched rows only.

========  =============================================================================================
sgd       W += rate D
rms       v = rho v + (1 - rho) D^2;  W += rate D / (sqrt(v) + eps)
========  =============================================================================================

`rms` starts from v = 0 without a bias correction: the first windows of a stream must not count for more than later
ones. Rows without an event in the window neither move nor let their scale decay: cost follows events.
"""

from __future__ import annotations

import math

from spiked.learners.jit import kernel

OPTIMIZERS = ("sgd", "rms")
RHO = 0.99
EPS = 1e-4


@kernel
def apply_row(optimizer, weight, descent, factor, scale, square, rate):  # type: ignore[no-untyped-def]
    """Move one row of weights along `descent` (times a factor for each neuron), and clear it."""
    for j in range(len(weight)):
        d = descent[j] * factor[j] * scale
        if optimizer == 0:
            weight[j] += rate * d
        else:
            square[j] = RHO * square[j] + (1.0 - RHO) * d * d
            weight[j] += rate * d / (math.sqrt(square[j]) + EPS)
        descent[j] = 0.0
