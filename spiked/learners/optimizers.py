"""Optimisers for an endless stream of one: a step down the gradient, touched rows only.

========  =============================================================================================
sgd       W -= rate g
rms       v = rho v + (1 - rho) g^2;  W -= rate g / (sqrt(v) + eps)
momentum  v = mu v + g;  W -= rate (1 - mu) v
bounded   sgd, its rate cut so that the window's loss, linearised, is not overshot below zero:
          rate' = min(rate, loss / |g|^2), the step of Polyak as a limit
========  =============================================================================================

The paper warns (5.1) that Adam lets early data count for more than later data. Two things do so: the correction for
bias, which makes the first steps full ones whatever they say, and a second moment with a memory so long that the rate
falls as the stream goes on and is low when it changes. `rms` therefore starts from v = 0 without a correction and
forgets within 1 / (1 - rho) = 100 windows; a test drives it, and Adam and AdaGrad beside it, through a change after a
long rest. Rows without an event in the window neither move nor let their averages decay: cost follows events.
"""

from __future__ import annotations

import math

from spiked.learners.jit import kernel

OPTIMIZERS = ("sgd", "rms", "momentum", "bounded")
BOUNDED = 3
RHO = 0.99
EPS = 1e-4
MU = 0.9


@kernel
def apply_row(optimizer, weight, descent, factor, scale, average, rate):  # type: ignore[no-untyped-def]
    """Move one row of weights along `descent` (times a factor for each neuron, and `scale`), and clear it."""
    if optimizer == 1:
        for j in range(len(weight)):
            d = descent[j] * factor[j] * scale
            average[j] = RHO * average[j] + (1.0 - RHO) * d * d
            weight[j] += rate * d / (math.sqrt(average[j]) + EPS)
            descent[j] = 0.0
    elif optimizer == 2:
        for j in range(len(weight)):
            average[j] = MU * average[j] + descent[j] * factor[j] * scale
            weight[j] += rate * (1.0 - MU) * average[j]
            descent[j] = 0.0
    else:
        for j in range(len(weight)):
            weight[j] += rate * (descent[j] * factor[j] * scale)
            descent[j] = 0.0
