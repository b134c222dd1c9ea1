"""Objectives: what is wrong with the output layer (the paper's Table 2 and 3, App. B.4-B.10).

A window is the steps t = 1..T of a target. `y` is its class; c, m, f are of the output neurons: spikes counted, largest
membrane, time of the first spike (T where none came: the paper's forced spike at the last step).

=================  ==================================================================  ===========================
name               loss                                                                known
=================  ==================================================================  ===========================
membrane_ce        mean_t of -log softmax(U[t])_y (B.4's loss on the membrane)         at each step
membrane_mse       mean_t of sum_k (y_k[t] - U_k[t])^2 (B.7, Eq. 33)                   at each step
rate_ce            -log softmax(c)_y (B.4, Eq. 28-29)                                  at the end
rate_mse           sum_k (y_k - c_k)^2 (B.5, Eq. 30)                                   at the end
max_membrane       -log softmax(m)_y, m = max_t U[t] (B.6, Eq. 31)                     at the end
sum_membrane       -log softmax(s)_y, s = sum_t U[t] (B.6, Eq. 32)                     at the end
latency_ce         -log softmax(-f)_y (B.8, Eq. 34)                                    at the end
spike_time_mse     sum_k (y_k - f_k)^2 (B.9, Eq. 36)                                   at the end
relative_time_mse  the same with Eq. 38's targets (B.10)                               at the end
reward             (r - its mean) times membrane_ce of the class that is said          error at each step, r at the end
=================  ==================================================================  ===========================

What is known at the end cannot update at each step: a count, a maximum or a first time is of the whole window, and its
error follows from all of it. The eligibility is gathered meanwhile (at the step of the maximum or of the spike, where
that is what counts) and meets the error when the window closes.

Of equal maxima the last counts: a read-out that begins at 0 would else never see an input.

(Eq. 29 is printed without its minus sign; Eq. 26 sums T + 1 terms; Eq. 38 leaves the target of the right class, f0,
implicit: here f0 = 1 step.) For a class, `membrane_mse` asks for a membrane of 1 at the right output and 0 elsewhere,
`rate_mse` for spikes in `RATE_RIGHT` and `RATE_WRONG` of the steps, and the spike-time losses for a first spike at once
and at the last step. Times are in units of the window's length, so that a loss does not depend on it; in Eq. 34 in
units of `LATENCY_SCALE` of it.
"""

from __future__ import annotations

import math

from spiked.learners.jit import kernel

OBJECTIVES = (
    "membrane_ce", "membrane_mse", "rate_ce", "rate_mse", "max_membrane", "sum_membrane", "latency_ce",
    "spike_time_mse", "relative_time_mse", "reward",
)  # fmt: skip
(
    MEMBRANE_CE, MEMBRANE_MSE, RATE_CE, RATE_MSE, MAX_MEMBRANE, SUM_MEMBRANE, LATENCY_CE, SPIKE_TIME_MSE,
    RELATIVE_TIME_MSE, REWARD,
) = range(10)  # fmt: skip
PER_STEP = ("membrane_ce", "membrane_mse", "reward")
NEEDS_SPIKES = ("rate_ce", "rate_mse", "latency_ce", "spike_time_mse", "relative_time_mse")
LARGEST_ERROR = 1e4
"""Cap of the squared error's derivative: at a rate too large for its input, weights do not grow exponentially."""
RATE_RIGHT, RATE_WRONG = 0.8, 0.2  # shares of steps with a spike (Table 2's example)
LATENCY_SCALE = 0.1
RELATIVE_MARGIN = 0.1
"""gamma of Eq. 38, as a share of the window."""


@kernel
def softmax_error(logits, label, error):  # type: ignore[no-untyped-def]
    """``error = softmax(logits) - onehot(label)``: the derivative of the cross entropy by the logits; the loss."""
    top = logits[0]
    for k in range(1, len(error)):
        top = max(top, logits[k])
    total = 0.0
    for k in range(len(error)):
        error[k] = math.exp(logits[k] - top)
    for k in range(len(error)):  # on its own: see `jit.kernel`
        total += error[k]
    for k in range(len(error)):
        error[k] /= total
    error[label] -= 1.0
    return math.log(total) - (logits[label] - top)


@kernel
def class_error(values, label, population, logits, error):  # type: ignore[no-untyped-def]
    """`softmax_error` of classes, each the mean of a group of `population` outputs; `logits` is room to work in."""
    if population == 1:
        return softmax_error(values, label, error)
    n_classes = len(error) // population
    for c in range(n_classes):
        total = 0.0
        for k in range(c * population, (c + 1) * population):
            total += values[k]
        logits[c] = total / population
    loss = softmax_error(logits, label, error[:n_classes])
    for k in range(len(error) - 1, -1, -1):  # from the end: an entry is read before it is written
        error[k] = error[k // population] / population
    return loss


@kernel
def squared_error(value, wanted):  # type: ignore[no-untyped-def]
    """Derivative of ``(value - wanted)^2``, capped."""
    return min(max(2.0 * (value - wanted), -LARGEST_ERROR), LARGEST_ERROR)


@kernel
def membrane_error(objective, membrane, label, values, population, logits, error):  # type: ignore[no-untyped-def]
    """Derivative of one step's loss by the output membranes; `values` has a column a class; returns the loss."""
    if objective != MEMBRANE_MSE:
        return class_error(membrane, label, population, logits, error)
    loss = 0.0
    for k in range(len(error)):
        if len(values) > 0:
            wanted = float(values[label, k // population])
        else:
            wanted = 1.0 if k // population == label else 0.0
        error[k] = squared_error(membrane[k], wanted)
        loss += (membrane[k] - wanted) ** 2
    return loss


@kernel
def window_error(objective, window, label, population, error):  # type: ignore[no-untyped-def]
    """Derivative of a window's loss by what each output gathered (see `window.Window`); returns the loss."""
    steps = float(window.tally[0])
    if objective == RATE_CE:
        return class_error(window.counts, label, population, window.logits, error)
    if objective == SUM_MEMBRANE:
        return class_error(window.sums, label, population, window.logits, error)
    if objective == MAX_MEMBRANE:
        return class_error(window.peak, label, population, window.logits, error)
    loss = 0.0
    if objective == RATE_MSE:
        for k in range(len(error)):
            wanted = steps * (RATE_RIGHT if k // population == label else RATE_WRONG)
            error[k] = squared_error(window.counts[k], wanted)
            loss += (window.counts[k] - wanted) ** 2
        return loss
    if objective == LATENCY_CE:
        for k in range(len(error)):
            window.sums[k] = -window.first[k] / (steps * LATENCY_SCALE)
        loss = class_error(window.sums, label, population, window.logits, error)
        for k in range(len(error)):
            error[k] /= -(steps * LATENCY_SCALE)
        return loss
    for k in range(len(error)):
        time = window.first[k] / steps
        right = k // population == label
        wanted = 1.0 / steps if right else 1.0
        if objective == RELATIVE_TIME_MSE and not right:
            wanted = max(time, 1.0 / steps + RELATIVE_MARGIN)
        error[k] = squared_error(time, wanted) / steps
        loss += (time - wanted) ** 2
    return loss
