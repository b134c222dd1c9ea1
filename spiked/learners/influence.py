"""Influence traces (Eq. 9-12) of a stack of layers, exact, at the cost of events.

In a layer with one decay, no explicit recurrence and the reset detached, the influence of ``W[i, j]`` on ``U[j]`` is
the input's own trace, ``m_i[t] = beta m_i[t-1] + x_i[t]`` (Eq. 11), and ``dL[t]/dW[i, j] = c_j[t] m_i[t]`` (Eq. 12).
Summed over time, row `i` of the gradient is

    sum_t c_j[t] m_i[t] = xhat_i G_j + D[i, j],    G_j = sum_t beta^r c_j[t],    xhat_i = sum_(events) x beta^-r

with ``r`` the steps since a common origin: between two events of input `i`, only ``G`` moves. An event adds
``d = x beta^-r`` to ``xhat_i`` and takes ``d G`` off ``D[i]``: one pass over one row.

Below the output layer a spike goes on acting through the membrane above it, so the eligibility of a hidden layer is
filtered by that membrane's decay ``kappa``: ``eps_ij[t] = kappa eps_ij[t-1] + psi_j[t] m_i[t]``, and the gradient is
``sum_t L_j[t] eps_ij[t]`` with the learning signal ``L``. With ``Q_j = sum psi_j (beta/kappa)^r``,
``K1_j = sum L_j kappa^r`` and ``K2_j = sum L_j kappa^r Q_j`` it is ``D + F K1 + xhat K2``, and an event takes
``d Q`` off ``F[i]`` and adds ``d (Q K1 - K2)`` to ``D[i]``. This is exact for the hidden layer next to the output;
below that, the filters of the layers further up are left out (they do not factor).

What collects the descent is the weights themselves: learning at every step is ``W = stored - xhat G``, exact without
ever touching a row whose input is silent. The powers of beta are kept in range by origins: every few time constants a
new one begins, with sums of its own. A row comes to the present origin with its next event; one that stays silent is
let go when its origin's turn comes again. So no step has to go through all rows.

Nor do the sums since an older origin have to be run on: with ``R`` the steps from it to the present one, and what was
summed up to there (``*``), they follow from the sums since the present one::

    Q = Q* + (beta/kappa)^R Q_now                G = G* + beta^R G_now
    K1 = K1* + kappa^R K1_now                    K2 = K2* + Q* kappa^R K1_now + beta^R K2_now

`see` writes them out where a row that refers to that origin asks, once a step at most. The running sums are float64.
This module has the layout; `influence_rows` is what a step does, `influence_origins` what happens to origins.
(`eligibility` has the form that gathers a window's gradient, for any neuron.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.lif import Lif

ORIGIN_TAUS = 4.0  # a new origin after so many time constants: e^4 eps is the error that a row's sum can gather
MOST_ORIGINS = 8  # at a time; time constants that differ much would ask for more: then silent rows are brought along
FORGET_TAUS = {4: 17.0, 8: 25.0}  # by bytes of a weight: a row silent for so long has e^-17 of its influence left


class Influence(NamedTuple):
    """Influence of a stack; rows are inputs, columns neurons. Row `i` of layer `l` is entry ``x_at[l] + i``.

    Attributes
    ----------
    x_at : int64[L + 1]; where each layer's inputs begin.
    xhat : float64[sum n_in]; traces, times beta^-r.
    live, n_live, is_live : the rows whose trace is not zero, as a list and as flags.
    last : int64[sum n_in]; clock at each row's last event.
    origin : int64[sum n_in]; which of the B origins each row refers to.
    now : int64[L]; the present origin of each layer.
    filtered : float[...]; F of the hidden layers.
    g : float64[B, sum n]; G of the output layer, Q of the others: since the present origin, and, of each other, from it
        to the present one.
    k1, k2 : float64[B, sum n]; K1, K2 of the hidden layers, in the same way.
    seen_g, seen_k1, seen_k2 : float[B, sum n]; the same since each origin to this step, as `see` wrote them out.
    seen_at : int64[L, B]; clock at which it did.
    scaled : float64[sum n]; room for it.
    pull_weight, pull_filtered : float[sum n]; what an event of size 1 takes off its row in this step.
    lazy_filtered, lazy_trace : float[sum n]; K1 and K2 (at the output: G) of this step, in the type of the weights.
    source : float64[B]; room for a sum for each origin.
    event : float[1]; size of the present event.
    ones : float32[sum n]; size of a spike, as that of an event.
    power : float64[L, 3]; beta^r, kappa^r, and r itself, since the present origin.
    span : float64[L, B, 2]; beta^R, kappa^R: from each origin to the present one.
    limits : int64[L, 2]; r at which a new origin is due, and steps after which a silent row is let go.
    clock : int64[1]; steps since the last reset.
    """

    x_at: NDArray[np.int64]
    xhat: NDArray[np.float64]
    live: NDArray[np.int64]
    n_live: NDArray[np.int64]
    is_live: NDArray[np.uint8]
    last: NDArray[np.int64]
    origin: NDArray[np.int64]
    now: NDArray[np.int64]
    filtered: NDArray[np.floating]
    g: NDArray[np.float64]
    k1: NDArray[np.float64]
    k2: NDArray[np.float64]
    seen_g: NDArray[np.floating]
    seen_k1: NDArray[np.floating]
    seen_k2: NDArray[np.floating]
    seen_at: NDArray[np.int64]
    scaled: NDArray[np.float64]
    pull_weight: NDArray[np.floating]
    pull_filtered: NDArray[np.floating]
    lazy_filtered: NDArray[np.floating]
    lazy_trace: NDArray[np.floating]
    source: NDArray[np.float64]
    event: NDArray[np.floating]
    ones: NDArray[np.float32]
    power: NDArray[np.float64]
    span: NDArray[np.float64]
    limits: NDArray[np.int64]
    clock: NDArray[np.int64]


def make_influence(net: Lif) -> Influence:
    """Influence at rest."""
    n_layers = len(net.threshold)
    x_at = np.concatenate([[0], np.cumsum(net.sizes[:-1])]).astype(np.int64)
    n_in, n = int(x_at[-1]), int(net.u_at[-1])
    limits = np.zeros((n_layers, 2), np.int64)
    forget_taus = FORGET_TAUS[net.weight.dtype.itemsize]
    for layer in range(n_layers):
        betas = net.beta[net.u_at[layer : min(layer + 2, n_layers)]]
        decays = np.minimum(betas.astype(np.float64), 1 - 1e-9)  # no leak: a tau of 1e9 steps
        taus = -1.0 / np.log(decays)
        limits[layer] = max(1, int(ORIGIN_TAUS * taus.min())), int(forget_taus * taus.max()) + 1
    n_origins = min(MOST_ORIGINS, int((-(-limits[:, 1] // limits[:, 0])).max()) + 2)
    power = np.ones((n_layers, 3))
    power[:, 2] = 0
    return Influence(
        x_at=x_at,
        xhat=np.zeros(n_in),
        live=np.zeros(n_in, np.int64),
        n_live=np.zeros(n_layers, np.int64),
        is_live=np.zeros(n_in, np.uint8),
        last=np.zeros(n_in, np.int64),
        origin=np.zeros(n_in, np.int64),
        now=np.zeros(n_layers, np.int64),
        filtered=np.zeros(max(1, int(net.w_at[n_layers - 1])), net.weight.dtype),
        g=np.zeros((n_origins, n)),
        k1=np.zeros((n_origins, n)),
        k2=np.zeros((n_origins, n)),
        seen_g=np.zeros((n_origins, n), net.weight.dtype),
        seen_k1=np.zeros((n_origins, n), net.weight.dtype),
        seen_k2=np.zeros((n_origins, n), net.weight.dtype),
        seen_at=np.full((n_layers, n_origins), -1),
        scaled=np.zeros(n),
        pull_weight=np.zeros(n, net.weight.dtype),
        pull_filtered=np.zeros(n, net.weight.dtype),
        lazy_filtered=np.zeros(n, net.weight.dtype),
        lazy_trace=np.zeros(n, net.weight.dtype),
        source=np.zeros(n_origins),
        event=np.zeros(1, net.weight.dtype),
        ones=np.ones(n, np.float32),
        power=power,
        span=np.ones((n_layers, n_origins, 2)),
        limits=limits,
        clock=np.zeros(1, np.int64),
    )
