"""Optimisers for an endless stream of one: a step down the gradient, touched rows only.

========  =============================================================================================
sgd       W -= rate g
rms       v = rho v + (1 - rho) g^2;  W -= rate g / (sqrt(v) + eps)
momentum  v = mu v + (1 - mu) g;  W -= rate v
bounded   sgd, its rate cut so that the window's loss, linearised, is not overshot below zero:
          rate' = min(rate, loss / |g|^2), the step of Polyak as a limit
========  =============================================================================================

The paper warns (5.1) that Adam lets early data count for more than later data. What was measured to do so (a test
drives Adam and AdaGrad beside these through a change after a long rest) is a second moment that never forgets, that of
AdaGrad: its rate falls as the stream goes on. `rms` forgets within 1 / (1 - rho) = 100 windows. It starts from v = 0
without a correction, so that its first steps are up to 1 / sqrt(1 - rho) = 10 rates. Where no error is left it scales
what gradient remains up to full steps, and so is the slower to change the longer nothing was wrong; sgd's steps vanish.
Rows without an event in the window neither move nor let their averages decay: cost follows events.
"""

from __future__ import annotations

import numpy as np

from spiked.learners.jit import kernel

OPTIMIZERS = ("sgd", "rms", "momentum", "bounded")
BOUNDED = 3
RHO = 0.99
EPS = 1e-4
MU = 0.9


@kernel
def apply_row(optimizer, weight, descent, factor, scale, average, rate):  # type: ignore[no-untyped-def]
    """Move one row of weights along `descent` (times `scale` and a factor for each neuron), and clear it.

    `factor` is float[n] and `scale` and `rate` are float[1] in the type of the weights, so that a row is one pass in
    that type.
    """
    c, r = scale[0], rate[0]
    if optimizer == 1:
        add, eps = type(c)(1.0 - RHO), type(c)(EPS)
        for j in range(len(weight)):
            d = descent[j] * factor[j] * c
            v = average[j] + add * (d * d - average[j])
            average[j] = v
            weight[j] += r * d / (np.sqrt(v) + eps)
            descent[j] = 0
    elif optimizer == 2:
        add = type(c)(1.0 - MU)
        for j in range(len(weight)):
            v = average[j] + add * (descent[j] * factor[j] * c - average[j])
            average[j] = v
            weight[j] += r * v
            descent[j] = 0
    else:
        for j in range(len(weight)):
            weight[j] += r * (descent[j] * factor[j] * c)
            descent[j] = 0
