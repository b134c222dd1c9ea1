"""Objectives: what is wrong with the output layer, as the derivative of the loss by each output's membrane.

============  ==============================================================  ==========
name          loss over a window of labelled steps t = 1..T                   form
============  ==============================================================  ==========
membrane_ce   mean_t of -log softmax(U[t])[y] (B.4's loss on the membrane)    per step
membrane_mse  mean_t of sum_k (y_k - U_k[t])^2 (B.7, Eq. 33)                  per step
rate_ce       -log softmax(c)[y], c_k = sum_t S_k[t] (B.4, Eq. 28-29)         at the end
============  ==============================================================  ==========

(Eq. 29 is printed without its minus sign.) A per-step objective has its error at once; a rate's error exists only when
the window's spikes have been counted, so it cannot update at each step. For a class, `membrane_mse` asks for a
membrane of 1 at the right output and 0 elsewhere.
"""

from __future__ import annotations

import math

from spiked.learners.jit import kernel

OBJECTIVES = ("membrane_ce", "membrane_mse", "rate_ce")
MEMBRANE_CE, MEMBRANE_MSE, RATE_CE = range(3)
LARGEST_ERROR = 1e4
"""Cap of the squared error's derivative: at a rate too large for its input, weights do not grow exponentially."""


@kernel
def softmax_error(logits, label, error):  # type: ignore[no-untyped-def]
    """``error = softmax(logits) - onehot(label)``: the derivative of the cross entropy by the logits."""
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


@kernel
def membrane_error(objective, membrane, label, values, error):  # type: ignore[no-untyped-def]
    """Derivative of one step's loss by the output membranes."""
    if objective == 0:
        softmax_error(membrane, label, error)
        return
    for k in range(len(error)):
        if len(values) > 0:
            wanted = float(values[label, k])
        else:
            wanted = 1.0 if k == label else 0.0
        error[k] = min(max(2.0 * (membrane[k] - wanted), -LARGEST_ERROR), LARGEST_ERROR)
