"""Spatial credit: how the output's error becomes each hidden layer's learning signal (the paper's 3.3.3 and Fig. 7).

=============  ==========================================================================================
symmetric      through the transposed weights, layer by layer: the gradient's own path
random         the same path through fixed random matrices (feedback alignment)
direct         from the output straight to each layer, through fixed random matrices
adaptive       the path of `random`; each matrix gets the updates of the weights that it stands for, and both
               decay, so that they align (Kolen and Pollack 1994)
local          each layer has a fixed random read-out of its own, and that one's error (DECOLLE)
=============  ==========================================================================================

A hidden neuron's signal is dLoss/dS as far as the path tells, its credit dLoss/dU; credit goes on down.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.dynamics import copy
from spiked.learners.jit import inlined, kernel
from spiked.learners.lif import Lif
from spiked.learners.objectives import membrane_error

FEEDBACKS = ("symmetric", "random", "direct", "adaptive", "local")
SYMMETRIC, RANDOM, DIRECT, ADAPTIVE, LOCAL = range(5)


class Feedback(NamedTuple):
    """Feedback matrices, and what the local read-outs need; one part for each hidden layer.

    Attributes
    ----------
    kind : position in `FEEDBACKS`.
    matrix : float[sum heard * n]; from what a layer hears to its neurons, a row for each that is heard. If symmetric,
        the transposed weights, kept beside them because so they are read: `mirror` brings them up to date.
    at : int64[L]; where each hidden layer's matrix begins.
    local : float64[L - 1, n_out]; membranes of the local read-outs.
    decay : float64[L - 1]; their decay per step.
    """

    kind: int
    matrix: NDArray[np.floating]
    at: NDArray[np.int64]
    local: NDArray[np.float64]
    decay: NDArray[np.float64]


def make_feedback(kind: str, net: Lif, kappa: NDArray[np.float64], seed: int) -> Feedback:
    """Draw the matrices: Gaussian, of standard deviation ``1 / sqrt(n)`` for a layer of n neurons."""
    n_out, hidden = int(net.sizes[-1]), net.sizes[1:-1]
    heard = [n_out if kind in ("direct", "local") else int(m) for m in net.sizes[2:]]
    sizes = [int(n) * m for n, m in zip(hidden, heard)]
    rng = np.random.default_rng([seed, 0xFEEDBAC])
    scale = [np.full(size, 1 / np.sqrt(n)) for size, n in zip(sizes, hidden)]
    at = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    matrix = (rng.standard_normal(int(at[-1])) * np.concatenate([*scale, []])).astype(net.weight.dtype)
    n_local = len(hidden) if kind == "local" else 0
    made = Feedback(FEEDBACKS.index(kind), matrix, at, np.zeros((n_local, n_out)), kappa[:-1].copy())
    if kind == "symmetric":
        mirror(net, made)
    return made


def grow_feedback(old: Feedback, new: Feedback, net: Lif) -> None:
    """Copy what a grown network's feedback had before: a new output's rows are new, the others stay."""
    for layer in range(len(old.at) - 1):
        size = int(old.at[layer + 1] - old.at[layer])
        new.matrix[new.at[layer] : new.at[layer] + size] = old.matrix[old.at[layer] : old.at[layer + 1]]
    new.local[:, : old.local.shape[1]] = old.local


@kernel
def mirror(net, feedback):  # type: ignore[no-untyped-def]
    """Copy the weights between layers, transposed: what symmetric feedback goes through."""
    for layer in range(len(feedback.at) - 1):
        n, m = net.sizes[layer + 1], net.sizes[layer + 2]
        for j in range(n):
            for k in range(m):
                feedback.matrix[feedback.at[layer] + k * n + j] = net.weight[net.w_at[layer + 1] + j * m + k]


@inlined
def _through(matrix, at, source, into):  # type: ignore[no-untyped-def]
    """``into[j] = sum_k matrix[k, j] source[k]``, the matrix's rows from `at` on; four a pass."""
    n, m = len(into), len(source)
    into[:] = 0
    for k in range(0, m - 3, 4):
        a, b = matrix[at + k * n : at + (k + 1) * n], matrix[at + (k + 1) * n : at + (k + 2) * n]
        c, d = matrix[at + (k + 2) * n : at + (k + 3) * n], matrix[at + (k + 3) * n : at + (k + 4) * n]
        x, y, z, w = source[k], source[k + 1], source[k + 2], source[k + 3]
        for j in range(n):
            into[j] = (((into[j] + x * a[j]) + y * b[j]) + z * c[j]) + w * d[j]
    for k in range(m - m % 4, m):
        a, x = matrix[at + k * n : at + (k + 1) * n], source[k]
        for j in range(n):
            into[j] += x * a[j]


@inlined
def send_down(net, feedback, psi, error, signal, credit):  # type: ignore[no-untyped-def]
    """Carry the outputs' `error` to every hidden layer; `psi` is what a signal is multiplied by to be credit."""
    top = len(net.threshold) - 1
    copy(credit[net.u_at[top] :], error)
    for layer in range(top - 1, -1, -1):
        a, b = net.u_at[layer], net.u_at[layer + 1]
        above, own, heard, slope = credit[b : net.u_at[layer + 2]], credit[a:b], signal[a:b], psi[a:b]
        if feedback.kind == DIRECT:
            _through(feedback.matrix, feedback.at[layer], error, heard)
        else:
            _through(feedback.matrix, feedback.at[layer], above, heard)
        for j in range(b - a):
            own[j] = heard[j] * slope[j]


@inlined
def follow_local(net, state, feedback):  # type: ignore[no-untyped-def]
    """Let the local read-outs leak, and take in the spikes that their layers send."""
    n_out = feedback.local.shape[1]
    for layer in range(len(feedback.local)):
        u, kappa = feedback.local[layer], feedback.decay[layer]
        a, n = net.u_at[layer], net.sizes[layer + 1]
        for k in range(n_out):
            u[k] *= kappa
        for r in range(state.n_spiked[layer]):
            at = feedback.at[layer] + state.spiked[a + r]
            for k in range(n_out):
                u[k] += feedback.matrix[at + k * n]


@kernel
def local_signals(net, feedback, objective, label, values, population, logits, error, signal):  # type: ignore[no-untyped-def]
    """Signal of each hidden layer from its own read-out's error; returns the summed loss."""
    loss = 0.0
    for layer in range(len(feedback.local)):
        a, b = net.u_at[layer], net.u_at[layer + 1]
        loss += membrane_error(objective, feedback.local[layer], label, values, population, logits, error)
        _through(feedback.matrix, feedback.at[layer], error, signal[a:b])
    return loss
