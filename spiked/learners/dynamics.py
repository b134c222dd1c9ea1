"""What a stack of layers does in a step: membrane (Eq. 4, 18, 20), threshold (Eq. 5, 51-52), reset (Eq. 21).

::

    I[t] = alpha I[t-1] + W X[t] + V S[t-1]                 W X[t] + V S[t-1] itself without a synaptic current
    U[t] = beta U[t-1] + I[t] - theta S[t-1]                reset by subtraction (Eq. 4, 20)
    U[t] = beta U[t-1] (1 - S[t-1]) + I[t]                  reset to zero (Eq. 21, which misprints X[t+1] as X[t])
    U[t] = 0                                                for `hold` steps after a spike: the refractory period
    b[t] = rho b[t-1] + jump S[t-1]                         adaptation (Eq. 52; coupled: jump = 1 - rho)
    S[t] = 1 if U[t] > theta + b[t] else 0                  strict (Eq. 5, 51)

with ``beta = exp(-dt / tau_mem)`` (Eq. 18; Eq. 3's e^(-1/tau) assumes dt = 1). The reset takes off the threshold at
rest, not the adapted one, as Bellec et al. (2020) do. A spike reaches the layer above in its own step, and its own
layer in the next, both later by the neuron's axonal delay. A step costs one pass over the neurons and one row of
weights for each active input: silence is cheap.
"""

from __future__ import annotations

from spiked.learners.jit import inlined

LEAST = 1e-30
"""What decays below it is 0: in silence it would end as numbers that the processor is slow with."""


@inlined
def copy(into, source):  # type: ignore[no-untyped-def]
    """``into[:] = source``, of arrays that do not overlap."""
    for j in range(len(into)):
        into[j] = source[j]


@inlined
def leak(net, state, layer):  # type: ignore[no-untyped-def]
    """Let one layer's membranes, currents and adaptation decay, and take back what the last spikes cost."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    u, s, beta = state.membrane[a:b], state.spike[a:b], net.beta[a:b]
    theta, least = net.threshold[layer], u.dtype.type(LEAST)
    none = theta - theta
    if net.to_zero[layer]:
        for j in range(b - a):
            left = beta[j] * u[j] * (1 - s[j])
            u[j] = left if abs(left) > least else none
    else:
        for j in range(b - a):
            left = beta[j] * u[j] - (theta if s[j] > 0 else none)
            u[j] = left if abs(left) > least else none
    if net.alpha[layer] > 0:
        alpha, current = net.alpha[layer], state.current[a:b]
        for j in range(b - a):
            left = alpha * current[j]
            current[j] = left if abs(left) > least else none
    if net.jump[layer] > 0:
        rho, jump, adaptation = net.rho[layer], net.jump[layer], state.adaptation[a:b]
        for j in range(b - a):
            left = rho * adaptation[j] + (jump if s[j] > 0 else none)
            adaptation[j] = left if abs(left) > least else none


@inlined
def fire(net, state, layer):  # type: ignore[no-untyped-def]
    """Fire the neurons of one layer that are above threshold, and find whose spikes arrive; returns how many fired."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    u, s = state.membrane[a:b], state.spike[a:b]
    spiked, quiet, adaptation = state.spiked[a:b], state.quiet[a:b], state.adaptation[a:b]
    theta, hold = net.threshold[layer], net.hold[layer]
    if net.alpha[layer] > 0:
        current = state.current[a:b]
        for j in range(b - a):
            u[j] += current[j]
    if hold > 0:
        wait = state.wait[a:b]
        for j in range(b - a):
            if wait[j] > 0:
                wait[j] -= 1
            if wait[j] > 0:
                u[j] = 0
    n = 0
    for j in range(b - a):
        if u[j] > theta + adaptation[j]:
            s[j] = 1
            quiet[j] = 0
            spiked[n] = j
            n += 1
        else:
            s[j] = 0
            quiet[j] += 1
    state.total[layer] += n
    if hold > 0:
        for k in range(n):
            state.wait[a + spiked[k]] = hold + 1
    state.n_spiked[layer] = n
    if net.longest[layer] > 0:
        _send_on(net, state, layer, n)
    return n


@inlined
def _send_on(net, state, layer, n):  # type: ignore[no-untyped-def]
    """Put this step's spikes on the line, and take off it those that arrive now."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    spiked, size, now = state.spiked[a:b], len(state.line), state.line_now[0]
    for k in range(n):
        j = a + spiked[k]
        state.line[(now + net.delay[j]) % size, j] = 1
    arrived = 0
    row = state.line[now]
    for j in range(b - a):
        if row[a + j]:
            row[a + j] = 0
            spiked[arrived] = j
            arrived += 1
    state.n_spiked[layer] = arrived


@inlined
def next_step(net, state):  # type: ignore[no-untyped-def]
    """End a step: the line of delayed spikes moves on."""
    if len(state.line) > 1:
        state.line_now[0] = (state.line_now[0] + 1) % len(state.line)


@inlined
def add_rows(into, weight, at, n, rows, counts, n_rows):  # type: ignore[no-untyped-def]
    """Add `rows` of the weights that begin at `at`, times `counts`; four a pass, as each pass costs one over `into`."""
    k = 0
    while k + 4 <= n_rows:
        a, b = weight[at + rows[k] * n : at + rows[k] * n + n], weight[at + rows[k + 1] * n : at + rows[k + 1] * n + n]
        c = weight[at + rows[k + 2] * n : at + rows[k + 2] * n + n]
        d = weight[at + rows[k + 3] * n : at + rows[k + 3] * n + n]
        x, y, z, w = counts[k], counts[k + 1], counts[k + 2], counts[k + 3]
        for j in range(n):
            into[j] = (((into[j] + x * a[j]) + y * b[j]) + z * c[j]) + w * d[j]
        k += 4
    if k + 2 <= n_rows:
        a, b = weight[at + rows[k] * n : at + rows[k] * n + n], weight[at + rows[k + 1] * n : at + rows[k + 1] * n + n]
        x, y = counts[k], counts[k + 1]
        for j in range(n):
            into[j] = (into[j] + x * a[j]) + y * b[j]
        k += 2
    if k < n_rows:
        a, x = weight[at + rows[k] * n : at + rows[k] * n + n], counts[k]
        for j in range(n):
            into[j] += x * a[j]


@inlined
def integrate(net, state, layer, indices, counts, n_active, first_row):  # type: ignore[no-untyped-def]
    """Add the rows ``first_row + indices`` times `counts` (the first `n_active`) to what drives one layer."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    n = b - a
    into = state.current[a:b] if net.alpha[layer] > 0 else state.membrane[a:b]
    add_rows(into, net.weight, net.w_at[layer] + first_row * n, n, indices, counts, n_active)


@inlined
def integrate_spikes(net, state, layer, source):  # type: ignore[no-untyped-def]
    """Add the rows of the spikes that arrive from layer `source`: the one below, or the layer itself."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    n = b - a
    into = state.current[a:b] if net.alpha[layer] > 0 else state.membrane[a:b]
    heard = state.spiked[net.u_at[source] : net.u_at[source + 1]]
    at = net.w_at[layer] + (net.sizes[layer] * n if source == layer else 0)
    add_rows(into, net.weight, at, n, heard, state.ones, state.n_spiked[source])


@inlined
def lif_step(net, state, indices, counts):  # type: ignore[no-untyped-def]
    """One step of the whole stack."""
    for layer in range(len(net.threshold)):
        leak(net, state, layer)
        if net.recurrent[layer]:
            integrate_spikes(net, state, layer, layer)
        if layer == 0:
            integrate(net, state, 0, indices, counts, len(indices), 0)
        else:
            integrate_spikes(net, state, layer, layer - 1)
        fire(net, state, layer)
    next_step(net, state)
