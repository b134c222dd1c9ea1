"""The compiled side of `eligibility`: noting events, the backward sweep over a block, and the pass over the rows."""

from __future__ import annotations

from spiked.learners.jit import kernel

GRADIENT, FILTERED, ADAPTED, OWN = range(4)
"""What a sweep finds the weights of events in."""


@kernel
def note_events(net, eli, layer, rows, counts, n_rows, first_row):  # type: ignore[no-untyped-def]
    """Note the events of the present step at inputs ``first_row + rows`` (the first `n_rows`)."""
    x0, at = net.x_at[layer], eli.event_at[layer]
    k = eli.n_events[layer]
    now = eli.filled[0]
    for r in range(n_rows):
        i = first_row + rows[r]
        e = at + k
        eli.step[e] = now
        eli.row[e] = i
        eli.size[e] = counts[r]
        eli.next[e] = eli.head[x0 + i]
        eli.head[x0 + i] = k
        k += 1
    eli.n_events[layer] = k


@kernel
def is_full(net, eli):  # type: ignore[no-untyped-def]
    """Whether the block has no room for one more step, whatever comes in it."""
    if eli.filled[0] == len(eli.psi):
        return True
    for layer in range(len(net.threshold)):
        room = eli.event_at[layer + 1] - eli.event_at[layer] - eli.n_events[layer]
        if room < net.rows[layer]:
            return True
    return False


@kernel
def _sweep(net, eli, layer, what):  # type: ignore[no-untyped-def]
    """Weights of each step's events, and of the traces at the beginning, in one of the four; backwards."""
    a = net.u_at[layer]
    n = net.sizes[layer + 1]
    hidden = layer + 1 < len(net.threshold)
    alpha, rho, jump, kappa = net.alpha[layer], net.rho[layer], net.jump[layer], eli.kappa[layer]
    beta = net.beta[a : a + n]
    py, pm, aq, pk = eli.sweep[0, :n], eli.sweep[1, :n], eli.sweep[2, :n], eli.sweep[3, :n]
    py[:] = 0.0
    pm[:] = 1.0 if what == OWN else 0.0
    aq[:] = 1.0 if what == ADAPTED else 0.0
    pk[:] = 1.0 if what == FILTERED else 0.0
    sources = 1.0 if what == GRADIENT else 0.0
    for s in range(eli.filled[0] - 1, -1, -1):
        coefficient = eli.coefficient[what, s]
        psi, signal, direct = eli.psi[s, a : a + n], eli.signal[s, a : a + n], eli.direct[s, a : a + n]
        if hidden:
            for j in range(n):
                ak = pk[j] + sources * signal[j]
                ae = psi[j] * ((ak + jump * aq[j]) + sources * direct[j])
                am = ae + pm[j]
                ay = am + py[j]
                aq[j] = rho * aq[j] - ae
                coefficient[j] = ay
                pk[j] = kappa * ak
                pm[j] = beta[j] * am
                py[j] = alpha * ay
        else:
            for j in range(n):
                am = pm[j] + sources * direct[j]
                ay = am + py[j]
                coefficient[j] = ay
                pm[j] = beta[j] * am
                py[j] = alpha * ay
    for trace in range(4):
        eli.start[what, trace, :n] = eli.sweep[trace, :n]


@kernel
def _sweep_shared(net, eli, layer):  # type: ignore[no-untyped-def]
    """Weights of each step's events in y and m at the block's end; returns those of m in m, y in m, and y in y."""
    alpha, beta = float(net.alpha[layer]), float(net.beta[net.u_at[layer]])
    pm, py, pyy = 1.0, 0.0, 1.0
    for s in range(eli.filled[0] - 1, -1, -1):
        ay = pm + py
        eli.shared[0, s] = pyy
        eli.shared[1, s] = ay
        pm, py, pyy = beta * pm, alpha * ay, alpha * pyy
    return pm, py, pyy


@kernel
def _add(into, x, vector):  # type: ignore[no-untyped-def]
    """``into += x vector``: few arrays a loop, so that it is vectorised."""
    for j in range(len(into)):
        into[j] += x * vector[j]


@kernel
def _add_product(into, trace, vector):  # type: ignore[no-untyped-def]
    """``into += trace * vector``."""
    for j in range(len(into)):
        into[j] += trace[j] * vector[j]


@kernel
def _multiply(into, vector):  # type: ignore[no-untyped-def]
    """``into *= vector``."""
    for j in range(len(into)):
        into[j] *= vector[j]


@kernel
def _add_pair(into, x, first, z, second):  # type: ignore[no-untyped-def]
    """``into += x first + z second``: fewer passes over the row than one at a time."""
    for j in range(len(into)):
        into[j] = (into[j] + x * first[j]) + z * second[j]


@kernel
def _carry(start, what, into, g_k, g_q, own, y, m, current, private):  # type: ignore[no-untyped-def]
    """Add what a row's traces at the block's beginning bring into `into` to it."""
    if private:
        _add_product(into, own, start[what, 1])
    else:
        _add(into, m, start[what, 1])
    if current:
        _add(into, y, start[what, 0])
    if len(g_q) > 0:
        _add_product(into, g_q, start[what, 2])
    if len(g_k) > 0:
        _add_product(into, g_k, start[what, 3])


@kernel
def flush_layer(net, eli, layer):  # type: ignore[no-untyped-def]
    """End a layer's block: gradient and traces take in its events, and the next block begins where they stand."""
    n, x0, e0 = net.sizes[layer + 1], net.x_at[layer], eli.event_at[layer]
    hidden, asks = layer + 1 < len(net.threshold), eli.asks[0] > 0
    private, adaptive = eli.private[layer] > 0, hidden and eli.adaptive[layer] > 0
    current = net.alpha[layer] > 0
    if asks:
        _sweep(net, eli, layer, GRADIENT)
    if hidden:
        _sweep(net, eli, layer, FILTERED)
    if adaptive:
        _sweep(net, eli, layer, ADAPTED)
    if private:
        _sweep(net, eli, layer, OWN)
    mm, ym, yy = _sweep_shared(net, eli, layer)
    start = eli.start
    in_g, in_k, in_q = eli.coefficient[GRADIENT], eli.coefficient[FILTERED], eli.coefficient[ADAPTED]
    in_m = eli.coefficient[OWN]
    for i in range(net.rows[layer]):
        entry = x0 + i
        e = eli.head[entry]
        if e < 0 and not eli.live[entry]:
            continue
        at = i * n
        g = eli.gradient[net.w_at[layer] + at : net.w_at[layer] + at + n]
        k = eli.filtered[eli.filtered_at[layer] + at : eli.filtered_at[layer] + at + n] if hidden else g[:0]
        q = eli.adapted[eli.adapted_at[layer] + at : eli.adapted_at[layer] + at + n] if adaptive else g[:0]
        own = eli.own[eli.own_at[layer] + at : eli.own_at[layer] + at + n] if private else g[:0]
        if asks and not eli.touched[entry]:
            g[:] = 0.0
            eli.touched[entry] = 1
        if not eli.live[entry]:
            k[:] = 0.0
            q[:] = 0.0
            own[:] = 0.0
            eli.y[entry] = 0.0
            eli.m[entry] = 0.0
        else:  # from the values at the block's beginning: the gradient first, m last
            y, m = eli.y[entry], eli.m[entry]
            if asks:
                _carry(start, GRADIENT, g, k, q, own, y, m, current, private)
            if hidden:
                _multiply(k, start[FILTERED, 3])
                _carry(start, FILTERED, k, g[:0], q, own, y, m, current, private)
            if adaptive:
                _multiply(q, start[ADAPTED, 2])
                _carry(start, ADAPTED, q, g[:0], g[:0], own, y, m, current, private)
            if private:
                _multiply(own, start[OWN, 1])
                _add(own, y, start[OWN, 0])
        m_end, y_end = mm * eli.m[entry] + ym * eli.y[entry], yy * eli.y[entry]
        if e >= 0:
            eli.last[entry] = eli.clock[0] - eli.filled[0] + 1 + eli.step[e0 + e]
        while e >= 0:
            s, x, e = eli.step[e0 + e], eli.size[e0 + e], eli.next[e0 + e]
            m_end += x * eli.shared[1, s]
            y_end += x * eli.shared[0, s]
            r, z = s, x - x
            if e >= 0:
                r, z, e = eli.step[e0 + e], eli.size[e0 + e], eli.next[e0 + e]
                m_end += z * eli.shared[1, r]
                y_end += z * eli.shared[0, r]
            if asks:
                _add_pair(g, x, in_g[s], z, in_g[r])
            if hidden:
                _add_pair(k, x, in_k[s], z, in_k[r])
            if adaptive:
                _add_pair(q, x, in_q[s], z, in_q[r])
            if private:
                _add_pair(own, x, in_m[s], z, in_m[r])
        eli.m[entry] = 0.0 if private else m_end
        eli.y[entry] = y_end if current else 0.0
        eli.head[entry] = -1
        eli.live[entry] = eli.clock[0] - eli.last[entry] <= eli.forget[layer]
    eli.n_events[layer] = 0


@kernel
def flush(net, eli):  # type: ignore[no-untyped-def]
    """End the block of every layer."""
    if eli.filled[0] > 0:
        for layer in range(len(net.threshold)):
            flush_layer(net, eli, layer)
        eli.filled[0] = 0
        eli.asks[0] = 0


@kernel
def forget(net, eli):  # type: ignore[no-untyped-def]
    """Traces to rest; what has not been taken into the gradient is let go."""
    eli.head[:] = -1
    eli.n_events[:] = 0
    eli.live[:] = 0
    eli.y[:] = 0.0
    eli.m[:] = 0.0
    eli.filled[0] = 0
    eli.asks[0] = 0
    eli.clock[0] = 0
