"""The origins of influence traces: sums written out as seen from each, rows settled, a new one begun (`influence`)."""

from __future__ import annotations

from spiked.learners.jit import inlined, kernel


@inlined
def see(net, inf, layer, o):  # type: ignore[no-untyped-def]
    """Write out the sums from origin `o` to here."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    inf.seen_at[layer, o] = inf.clock[0]
    _compose(
        inf.g[o, a:b], inf.k1[o, a:b], inf.k2[o, a:b], inf.g[inf.now[layer], a:b], inf.k1[inf.now[layer], a:b],
        inf.k2[inf.now[layer], a:b], inf.span[layer, o], o == inf.now[layer], layer + 1 == len(net.threshold),
        inf.seen_g[o, a:b], inf.seen_k1[o, a:b], inf.seen_k2[o, a:b],
    )  # fmt: skip


@kernel
def _compose(g, k1, k2, g_now, k1_now, k2_now, span, present, top, seen_g, seen_k1, seen_k2):  # type: ignore[no-untyped-def]
    """Sums up to an origin's end, and those since, as one (`influence` has the algebra)."""
    beta_r, kappa_r = span[0], span[1]
    if present:
        beta_r = kappa_r = 0.0
    if top:
        for j in range(len(g)):
            seen_g[j] = g[j] + beta_r * g_now[j]
        return
    ratio = 0.0 if present else beta_r / kappa_r
    for j in range(len(g)):
        seen_g[j] = g[j] + ratio * g_now[j]
        seen_k1[j] = k1[j] + kappa_r * k1_now[j]
        seen_k2[j] = k2[j] + (g[j] * kappa_r) * k1_now[j] + beta_r * k2_now[j]


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
