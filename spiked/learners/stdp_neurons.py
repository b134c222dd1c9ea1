"""Neurons that compete and keep their rate: thresholds of their own, and winners within a group.

A plastic layer's neuron j fires above ``theta + theta_j``. While the layer learns, ``theta_j`` rises by
``theta_rise * theta`` at each of its spikes and falls by ``theta_rise * theta * r`` at each step, where r is the target
rate in spikes per step: it rests where the neuron's mean rate is r. (Eq. 51-52 decay towards 0 instead, and hold no
rate.) It is learnt, so a reset leaves it alone; it stays within `LEAST_THRESHOLD` and `theta_max` of the layer's own.
"""

from __future__ import annotations

from spiked.learners.dynamics import LEAST
from spiked.learners.jit import inlined, kernel
from spiked.learners.stdp_rules import LEAST_THRESHOLD


@inlined
def leak_adapted(net, state, theta, layer):  # type: ignore[no-untyped-def]
    """Let the membranes of one layer leak, and take back what the last spikes cost: the threshold in force."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    u, s, own = state.membrane[a:b], state.spike[a:b], theta[a:b]
    beta, base, least = net.beta[a:b], net.threshold[layer], u.dtype.type(LEAST)
    none = base - base
    if net.to_zero[layer]:
        for j in range(b - a):
            left = beta[j] * u[j] * (1 - s[j])
            u[j] = left if abs(left) > least else none
    else:
        for j in range(b - a):
            left = beta[j] * u[j] - (base + own[j] if s[j] > 0 else none)
            u[j] = left if abs(left) > least else none


@kernel
def _keep_winners(margin_of, base, own, s, first, last, winners, above):  # type: ignore[no-untyped-def]
    """Of the neurons first..last that are marked in `s`, leave the `winners` that are furthest above threshold."""
    for _ in range(above - winners):
        worst = -1
        least = 0.0
        for j in range(first, last):
            if s[j] != 0:
                margin = margin_of[j] - (base + own[j])
                if worst < 0 or margin <= least:  # of equals the later one loses
                    worst, least = j, margin
        s[worst] = 0


@inlined
def fire_adapted(net, state, theta, opt, layer):  # type: ignore[no-untyped-def]
    """Fire the neurons of one layer that are above their thresholds and win; returns how many."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    u, s, own = state.membrane[a:b], state.spike[a:b], theta[a:b]
    spiked, quiet = state.spiked[a:b], state.quiet[a:b]
    base = net.threshold[layer]
    n = b - a
    group = opt.group if opt.group > 0 else n
    fired = 0
    for first in range(0, n, group):
        last = min(n, first + group)
        above = 0
        for j in range(first, last):
            if u[j] > base + own[j]:
                s[j] = 1
                above += 1
            else:
                s[j] = 0
        if opt.winners > 0 and above > opt.winners and not opt.to_learn:
            _keep_winners(u, base, own, s, first, last, opt.winners, above)
        if opt.inhibit and above > 0:
            for j in range(first, last):
                if s[j] == 0:
                    u[j] = 0
        if above > 0:
            for j in range(first, last):
                if s[j] != 0:
                    spiked[fired] = j
                    fired += 1
    for j in range(n):
        quiet[j] += 1
    for k in range(fired):
        quiet[spiked[k]] = 0
    state.n_spiked[layer] = fired
    state.total[layer] += fired
    return fired


@kernel
def choose_learners(net, state, theta, opt, layer, chosen):  # type: ignore[no-untyped-def]
    """Which of the neurons that fired learn from it, the winners of each group; returns how many are in `chosen`."""
    a = net.u_at[layer]
    spiked, n_spiked = state.spiked[a:], state.n_spiked[layer]
    u, own = state.membrane[a:], theta[a:]
    group = opt.group if opt.group > 0 else net.sizes[layer + 1]
    kept = 0
    for k in range(n_spiked):
        j = spiked[k]
        margin, better = u[j] - own[j], 0
        for m in range(n_spiked):
            i = spiked[m]
            if i // group == j // group and (u[i] - own[i] > margin or (u[i] - own[i] == margin and i < j)):
                better += 1
        if better < opt.winners:
            chosen[kept] = j
            kept += 1
    return kept


@inlined
def hold_rate(net, state, theta, opt, layer, pace):  # type: ignore[no-untyped-def]
    """Move the thresholds of one layer towards its target rate; `pace` scales the move."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    own, s = theta[a:b], state.spike[a:b]
    base = net.threshold[layer]
    rise = own.dtype.type(pace * opt.theta_rise * base)
    fall = own.dtype.type(pace * opt.theta_rise * base * opt.target)
    floor, ceiling = own.dtype.type((LEAST_THRESHOLD - 1.0) * base), own.dtype.type((opt.theta_max - 1.0) * base)
    for j in range(b - a):
        own[j] = min(max(own[j] + (rise * s[j] - fall), floor), ceiling)
