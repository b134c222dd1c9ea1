"""What a step does to influence traces: powers move on, rows with events are read and moved, sums grow."""

from __future__ import annotations

from spiked.learners.influence_origins import new_origin, see
from spiked.learners.jit import inlined


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
def take_rows(net, inf, layer, rows, counts, n_rows, membrane):  # type: ignore[no-untyped-def]
    """Events of weight `counts` at inputs `rows` (the first `n_rows`); after `tick`, before `accumulate`.

    Each row of the weights as they stand now, the lazy part included, goes to the membranes, times its count; the row
    comes to the present origin, and the event is taken off it. One pass over a row, so that it comes from memory once.
    """
    x0, now = inf.x_at[layer], inf.now[layer]
    power = inf.power[layer, 0]
    for k in range(n_rows):
        i, x = rows[k], counts[k]
        entry = x0 + i
        old = inf.origin[entry]
        inf.event[0] = x / power
        d = inf.event[0]  # in the type of the weights, so that a row is one pass in that type
        if inf.is_live[entry] == 0:
            inf.is_live[entry] = 1
            inf.live[x0 + inf.n_live[layer]] = i
            inf.n_live[layer] += 1
            _take_row(net, inf, layer, i, x, d, membrane)
        elif old == now:
            _take_row(net, inf, layer, i, x, d, membrane)
        else:
            if inf.seen_at[layer, old] != inf.clock[0]:
                see(net, inf, layer, old)
            _take_old_row(net, inf, layer, i, x, d, membrane)
        inf.origin[entry] = now
        inf.xhat[entry] += d
        inf.last[entry] = inf.clock[0]


@inlined
def _take_row(net, inf, layer, i, x, d, membrane):  # type: ignore[no-untyped-def]
    """An event at a row that refers to the present origin."""
    n = net.sizes[layer + 1]
    a, at = net.u_at[layer], net.w_at[layer] + i * n
    inf.event[0] = inf.xhat[inf.x_at[layer] + i]
    xhat = inf.event[0]
    weight, pull, k2 = net.weight[at : at + n], inf.pull_weight[a : a + n], inf.lazy_trace[a : a + n]
    if layer + 1 == len(net.threshold):
        for j in range(n):
            membrane[j] += x * (weight[j] - xhat * k2[j])
            weight[j] -= d * pull[j]
        return
    filtered, k1 = inf.filtered[at : at + n], inf.lazy_filtered[a : a + n]
    pull_filtered = inf.pull_filtered[a : a + n]
    for j in range(n):
        membrane[j] += x * ((weight[j] - filtered[j] * k1[j]) - xhat * k2[j])
        filtered[j] -= d * pull_filtered[j]
        weight[j] -= d * pull[j]


@inlined
def _take_old_row(net, inf, layer, i, x, d, membrane):  # type: ignore[no-untyped-def]
    """An event at a row that refers to a past origin: as seen from the present one, weight and influence stay."""
    n = net.sizes[layer + 1]
    a, entry, at = net.u_at[layer], inf.x_at[layer] + i, net.w_at[layer] + i * n
    old = inf.origin[entry]
    beta_r, kappa_r = inf.span[layer, old, 0], inf.span[layer, old, 1]
    inf.event[0] = inf.xhat[entry]
    xhat = inf.event[0]
    inf.xhat[entry] *= beta_r
    inf.event[0] = inf.xhat[entry]
    moved = inf.event[0]
    weight, pull, k2_now = net.weight[at : at + n], inf.pull_weight[a : a + n], inf.lazy_trace[a : a + n]
    g = inf.seen_g[old, a : a + n]
    if layer + 1 == len(net.threshold):
        for j in range(n):
            stands = weight[j] - xhat * g[j]
            membrane[j] += x * stands
            weight[j] = (stands + moved * k2_now[j]) - d * pull[j]
        return
    filtered, g_now = inf.filtered[at : at + n], inf.pull_filtered[a : a + n]
    k1, k2, k1_now = inf.seen_k1[old, a : a + n], inf.seen_k2[old, a : a + n], inf.lazy_filtered[a : a + n]
    inf.event[0] = kappa_r
    faded = inf.event[0]
    inf.event[0] = inf.xhat[entry] / kappa_r
    unfaded = inf.event[0]  # `moved` before it fades, so that an element is one chain and no sum of two products
    for j in range(n):
        stands = (weight[j] - filtered[j] * k1[j]) - xhat * k2[j]
        membrane[j] += x * stands
        kept = faded * ((filtered[j] + xhat * g[j]) - unfaded * g_now[j])
        weight[j] = ((stands + kept * k1_now[j]) + moved * k2_now[j]) - d * pull[j]
        filtered[j] = kept - d * g_now[j]


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
