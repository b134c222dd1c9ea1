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
(`eligibility` has the form that gathers a window's gradient, for any neuron.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.jit import inlined, kernel
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


@inlined
def tick(net, inf, layer):  # type: ignore[no-untyped-def]
    """Begin a step of one layer: the powers move on, and a new origin is taken when one is due.

    What every event of the step takes off its row is the same up to the event's size: it is worked out here, once.
    """
    if inf.power[layer, 2] >= inf.limits[layer, 0]:
        new_origin(net, inf, layer)
    now = inf.now[layer]
    a, b = net.u_at[layer], net.u_at[layer + 1]
    inf.power[layer, 0] *= net.beta[a]
    if layer + 1 < len(net.threshold):
        inf.power[layer, 1] *= net.beta[b]
    inf.power[layer, 2] += 1
    g, pull, trace = inf.g[now, a:b], inf.pull_weight[a:b], inf.lazy_trace[a:b]
    if layer + 1 == len(net.threshold):
        for j in range(b - a):
            pull[j] = -g[j]
            trace[j] = g[j]
    else:
        k1, k2 = inf.k1[now, a:b], inf.k2[now, a:b]
        pull_filtered, filtered = inf.pull_filtered[a:b], inf.lazy_filtered[a:b]
        for j in range(b - a):
            pull[j] = g[j] * k1[j] - k2[j]
        for j in range(b - a):
            pull_filtered[j] = g[j]
        for j in range(b - a):
            filtered[j] = k1[j]
        for j in range(b - a):
            trace[j] = k2[j]


@inlined
def bring_rows(net, inf, layer, rows, n_rows):  # type: ignore[no-untyped-def]
    """Let `rows` (the first `n_rows`), which have events in this step, refer to the present origin; after `tick`."""
    x0, now = inf.x_at[layer], inf.now[layer]
    for k in range(n_rows):
        entry = x0 + rows[k]
        if inf.is_live[entry] == 0:
            inf.is_live[entry] = 1
            inf.live[x0 + inf.n_live[layer]] = rows[k]
            inf.n_live[layer] += 1
        elif inf.origin[entry] == now:
            continue
        else:
            if inf.seen_at[layer, inf.origin[entry]] != inf.clock[0]:
                see(net, inf, layer, inf.origin[entry])
            _bring_row(net, inf, layer, rows[k])
        inf.origin[entry] = now


@inlined
def _bring_row(net, inf, layer, i):  # type: ignore[no-untyped-def]
    """Write a row as seen from the present origin: the weight that it stands for, and its influence, stay."""
    n = net.sizes[layer + 1]
    a, entry, at = net.u_at[layer], inf.x_at[layer] + i, net.w_at[layer] + i * n
    old = inf.origin[entry]
    weight, g, k2_now = net.weight[at : at + n], inf.seen_g[old, a : a + n], inf.lazy_trace[a : a + n]
    inf.event[0] = inf.xhat[entry]
    xhat = inf.event[0]  # in the type of the weights, so that a row is one pass in that type
    inf.xhat[entry] *= inf.span[layer, old, 0]
    inf.event[0] = inf.xhat[entry]
    moved = inf.event[0]
    if layer + 1 == len(net.threshold):
        for j in range(n):
            weight[j] = (weight[j] - xhat * g[j]) + moved * k2_now[j]
    else:
        filtered, g_now = inf.filtered[at : at + n], inf.pull_filtered[a : a + n]
        k1, k2, k1_now = inf.seen_k1[old, a : a + n], inf.seen_k2[old, a : a + n], inf.lazy_filtered[a : a + n]
        inf.event[0] = inf.span[layer, old, 1]
        faded = inf.event[0]
        for j in range(n):
            weight[j] = (weight[j] - filtered[j] * k1[j]) - xhat * k2[j]
        for j in range(n):
            filtered[j] = faded * (filtered[j] + xhat * g[j]) - moved * g_now[j]
        for j in range(n):
            weight[j] = (weight[j] + filtered[j] * k1_now[j]) + moved * k2_now[j]


@inlined
def take_rows(net, inf, layer, rows, counts, n_rows, membrane):  # type: ignore[no-untyped-def]
    """Events of weight `counts` at inputs `rows` (the first `n_rows`); after `bring_rows`, before `accumulate`.

    Each row of the weights as they stand now, the lazy part included, goes to the membranes, times its count; then the
    event is taken off it. A row at a time, so that it comes from memory once.
    """
    n = net.sizes[layer + 1]
    a, x0, w0 = net.u_at[layer], inf.x_at[layer], net.w_at[layer]
    hidden = layer + 1 < len(net.threshold)
    power = inf.power[layer, 0]
    k1, k2 = inf.lazy_filtered[a : a + n], inf.lazy_trace[a : a + n]
    pull_weight, pull_filtered = inf.pull_weight[a : a + n], inf.pull_filtered[a : a + n]
    for k in range(n_rows):
        i, x = rows[k], counts[k]
        entry, at = x0 + i, w0 + i * n
        inf.event[0] = inf.xhat[entry]
        xhat = inf.event[0]  # in the type of the weights, so that a row is one pass in that type
        inf.event[0] = x / power
        d = inf.event[0]
        weight = net.weight[at : at + n]
        if hidden:
            filtered = inf.filtered[at : at + n]
            for j in range(n):
                membrane[j] += x * ((weight[j] - filtered[j] * k1[j]) - xhat * k2[j])
            for j in range(n):
                filtered[j] -= d * pull_filtered[j]
        else:
            for j in range(n):
                membrane[j] += x * (weight[j] - xhat * k2[j])
        for j in range(n):
            weight[j] -= d * pull_weight[j]
        inf.xhat[entry] += d
        inf.last[entry] = inf.clock[0]


@inlined
def accumulate(net, inf, layer, psi, signal):  # type: ignore[no-untyped-def]
    """Add this step: at the output ``G += signal beta^r``, below it Q, K1 and K2 from `psi` and `signal`."""
    n, a = net.sizes[layer + 1], net.u_at[layer]
    g = inf.g[inf.now[layer], a : a + n]
    beta_r, kappa_r = inf.power[layer, 0], inf.power[layer, 1]
    if layer + 1 == len(net.threshold):
        for j in range(n):
            g[j] += signal[j] * beta_r
    else:
        k1, k2 = inf.k1[inf.now[layer], a : a + n], inf.k2[inf.now[layer], a : a + n]
        ratio = beta_r / kappa_r
        for j in range(n):
            g[j] += psi[j] * ratio
        for j in range(n):
            k1[j] += signal[j] * kappa_r
        for j in range(n):
            k2[j] += signal[j] * kappa_r * g[j]


@kernel
def see(net, inf, layer, o):  # type: ignore[no-untyped-def]
    """Write out the sums from origin `o` to here."""
    n, a = net.sizes[layer + 1], net.u_at[layer]
    now = inf.now[layer]
    g, k1, k2 = inf.g[o, a : a + n], inf.k1[o, a : a + n], inf.k2[o, a : a + n]
    seen_g, seen_k1, seen_k2 = inf.seen_g[o, a : a + n], inf.seen_k1[o, a : a + n], inf.seen_k2[o, a : a + n]
    g_now, k1_now, k2_now = inf.g[now, a : a + n], inf.k1[now, a : a + n], inf.k2[now, a : a + n]
    scaled = inf.scaled[a : a + n]
    beta_r, kappa_r = inf.span[layer, o, 0], inf.span[layer, o, 1]
    top = layer + 1 == len(net.threshold)
    inf.seen_at[layer, o] = inf.clock[0]
    if o == now:
        for j in range(n):
            seen_g[j] = g[j]
        for j in range(n):
            seen_k1[j] = k1[j]
        for j in range(n):
            seen_k2[j] = k2[j]
        return
    ratio = beta_r if top else beta_r / kappa_r
    for j in range(n):
        seen_g[j] = g[j] + ratio * g_now[j]
    if not top:
        for j in range(n):
            scaled[j] = kappa_r * k1_now[j]
        for j in range(n):
            seen_k1[j] = k1[j] + scaled[j]
        for j in range(n):
            seen_k2[j] = (k2[j] + g[j] * scaled[j]) + beta_r * k2_now[j]


@kernel
def _settle_row(net, inf, layer, i):  # type: ignore[no-untyped-def]
    """Write the lazy part of a row into its weights; its origin has been seen."""
    n = net.sizes[layer + 1]
    a, entry, at = net.u_at[layer], inf.x_at[layer] + i, net.w_at[layer] + i * n
    o = inf.origin[entry]
    inf.event[0] = inf.xhat[entry]
    xhat, weight = inf.event[0], net.weight[at : at + n]
    if layer + 1 == len(net.threshold):
        g = inf.seen_g[o, a : a + n]
        for j in range(n):
            weight[j] -= xhat * g[j]
    else:
        filtered = inf.filtered[at : at + n]
        k1, k2 = inf.seen_k1[o, a : a + n], inf.seen_k2[o, a : a + n]
        for j in range(n):
            weight[j] = (weight[j] - filtered[j] * k1[j]) - xhat * k2[j]


@kernel
def settle(net, inf, layer):  # type: ignore[no-untyped-def]
    """Write the lazy part of every live row into the weights, and start collecting anew (the eligibility stays)."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    for o in range(len(inf.g)):
        see(net, inf, layer, o)
    for k in range(inf.n_live[layer]):
        _settle_row(net, inf, layer, inf.live[inf.x_at[layer] + k])
    if layer + 1 == len(net.threshold):
        inf.g[:, a:b] = 0.0
    inf.k1[:, a:b] = 0.0
    inf.k2[:, a:b] = 0.0
    inf.seen_at[layer, :] = -1


@kernel
def new_origin(net, inf, layer):  # type: ignore[no-untyped-def]
    """Begin the next origin, and let rows go that have been silent since it was last there."""
    n = net.sizes[layer + 1]
    a, x0 = net.u_at[layer], inf.x_at[layer]
    top = layer + 1 == len(net.threshold)
    before, o = inf.now[layer], (inf.now[layer] + 1) % len(inf.g)
    see(net, inf, layer, o)
    power = inf.power[layer]
    beta_r, kappa_r = inf.span[layer, o, 0] * power[0], inf.span[layer, o, 1] * power[1]
    kept = 0
    for k in range(inf.n_live[layer]):
        i = inf.live[x0 + k]
        entry = x0 + i
        if inf.origin[entry] == o:
            _settle_row(net, inf, layer, i)
            at = net.w_at[layer] + i * n
            gone = inf.clock[0] - inf.last[entry] > inf.limits[layer, 1]
            if not top:
                filtered, xhat = inf.filtered[at : at + n], inf.xhat[entry]
                if gone:
                    filtered[:] = 0.0
                else:
                    for j in range(n):
                        filtered[j] = kappa_r * (filtered[j] + xhat * inf.seen_g[o, a + j])
            if gone:
                inf.xhat[entry] = 0.0
                inf.is_live[entry] = 0
                continue
            inf.xhat[entry] *= beta_r
        inf.live[x0 + kept] = i
        kept += 1
    inf.n_live[layer] = kept
    for p in range(len(inf.g)):
        if p != o and p != before:
            _freeze(inf, layer, p, a, n, top)
            inf.span[layer, p, 0] *= power[0]
            inf.span[layer, p, 1] *= power[1]
    inf.span[layer, before, 0] = power[0]
    inf.span[layer, before, 1] = power[1]
    inf.span[layer, o, :] = 1.0
    inf.now[layer] = o
    for j in range(a, a + n):
        inf.g[o, j] = 0.0
        inf.k1[o, j] = 0.0
        inf.k2[o, j] = 0.0
    power[:2] = 1.0
    power[2] = 0.0
    inf.seen_at[layer, :] = -1


@kernel
def _freeze(inf, layer, o, a, n, top):  # type: ignore[no-untyped-def]
    """Add the sums since the present origin to those of an older one, which from here on refer to the next."""
    now = inf.now[layer]
    g, k1, k2 = inf.g[o, a : a + n], inf.k1[o, a : a + n], inf.k2[o, a : a + n]
    g_now, k1_now, k2_now = inf.g[now, a : a + n], inf.k1[now, a : a + n], inf.k2[now, a : a + n]
    scaled = inf.scaled[a : a + n]
    beta_r, kappa_r = inf.span[layer, o, 0], inf.span[layer, o, 1]
    if not top:
        for j in range(n):
            scaled[j] = kappa_r * k1_now[j]
        for j in range(n):
            k2[j] = (k2[j] + g[j] * scaled[j]) + beta_r * k2_now[j]
        for j in range(n):
            k1[j] += scaled[j]
    ratio = beta_r if top else beta_r / kappa_r
    for j in range(n):
        g[j] += ratio * g_now[j]


@kernel
def forget(net, inf):  # type: ignore[no-untyped-def]
    """Influence to rest; the weights stay."""
    for layer in range(len(net.threshold)):
        n = net.sizes[layer + 1]
        top = layer + 1 == len(net.threshold)
        for k in range(inf.n_live[layer]):
            i = inf.live[inf.x_at[layer] + k]
            inf.xhat[inf.x_at[layer] + i] = 0.0
            inf.is_live[inf.x_at[layer] + i] = 0
            if not top:
                at = net.w_at[layer] + i * n
                inf.filtered[at : at + n] = 0.0
        inf.n_live[layer] = 0
    inf.origin[:] = 0
    inf.now[:] = 0
    inf.g[:, :] = 0.0
    inf.k1[:, :] = 0.0
    inf.k2[:, :] = 0.0
    inf.seen_at[:, :] = -1
    inf.power[:, :2] = 1.0
    inf.power[:, 2] = 0.0
    inf.span[:, :, :] = 1.0
    inf.clock[0] = 0
