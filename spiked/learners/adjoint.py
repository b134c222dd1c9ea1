"""The backward sweep over a block (`eligibility`): what an event of each step is worth in the gradient and the traces.

Row `s` of ``eli.coefficient`` holds, one part after the other, the weights of an event of step `s` in the gradient, k,
q and m, as many of them as the layer has, and then its weights in the m and y that all neurons share. Two more rows are
those of the shared m and y themselves at the block's beginning, so that they count as two events more.
"""

from __future__ import annotations

from spiked.learners.dynamics import copy
from spiked.learners.eligibility import LINE
from spiked.learners.jit import inlined

GRADIENT, FILTERED, ADAPTED, OWN = range(4)
"""What a sweep finds the weights of events in."""


@inlined
def find_coefficients(net, eli, layer, traces):  # type: ignore[no-untyped-def]
    """Fill ``eli.coefficient``, ``part_at`` and ``start`` for one layer's block; returns the length of a row.

    There is a part for the gradient if the block has a signal, and parts for the layer's traces if they are to move.
    """
    n, hidden = net.sizes[layer + 1], traces and layer + 1 < len(net.threshold)
    at = eli.part_at
    at[GRADIENT] = 0
    at[FILTERED] = n if eli.asks[0] else 0
    at[ADAPTED] = at[FILTERED] + (n if hidden else 0)
    at[OWN] = at[ADAPTED] + (n if hidden and eli.adaptive[layer] else 0)
    at[4] = at[OWN] + (n if traces and eli.private[layer] else 0)
    width = -(-(at[4] + 2) // LINE) * LINE
    for what in range(4):
        if at[what + 1] > at[what]:
            _sweep(net, eli, layer, what, width)
    _sweep_shared(net, eli, layer, width)
    return width


@inlined
def _sweep(net, eli, layer, what, width):  # type: ignore[no-untyped-def]
    """One part, backwards in time."""
    a, at, filled = net.u_at[layer], eli.part_at[what], eli.filled[0]
    n = net.sizes[layer + 1]
    hidden = layer + 1 < len(net.threshold)
    alpha, rho, jump, kappa = net.alpha[layer], net.rho[layer], net.jump[layer], eli.kappa[layer]
    beta = net.beta[a : a + n]
    py, pm, aq, pk = eli.sweep[0, :n], eli.sweep[1, :n], eli.sweep[2, :n], eli.sweep[3, :n]
    py[:] = 0.0
    pm[:] = 1.0 if what == OWN else 0.0
    aq[:] = 1.0 if what == ADAPTED else 0.0
    pk[:] = 1.0 if what == FILTERED else 0.0
    for s in range(filled - 1, -1, -1):
        coefficient = eli.coefficient[s * width + at : s * width + at + n]
        signal, direct = eli.none[:n], eli.none[:n]
        if what == GRADIENT:
            signal, direct = eli.signal[s, a : a + n], eli.direct[s, a : a + n]
        if hidden:
            psi = eli.psi[s, a : a + n]
            for j in range(n):
                ak = pk[j] + signal[j]
                ae = psi[j] * ((ak + jump * aq[j]) + direct[j])
                am = ae + pm[j]
                aq[j] = rho * aq[j] - ae
                coefficient[j] = am
                pk[j] = kappa * ak
                pm[j] = beta[j] * am
        else:
            for j in range(n):
                am = pm[j] + direct[j]
                coefficient[j] = am
                pm[j] = beta[j] * am
        if alpha > 0:
            for j in range(n):
                ay = py[j] + coefficient[j]
                coefficient[j] = ay
                py[j] = alpha * ay
    for trace in range(4):
        copy(eli.start[what, trace, :n], eli.sweep[trace, :n])
    copy(eli.coefficient[filled * width + at : filled * width + at + n], pm)
    copy(eli.coefficient[(filled + 1) * width + at : (filled + 1) * width + at + n], py)


@inlined
def _sweep_shared(net, eli, layer, width):  # type: ignore[no-untyped-def]
    """Weights in the shared m and y at the block's end."""
    alpha, beta = float(net.alpha[layer]), float(net.beta[net.u_at[layer]])
    at, filled = eli.part_at[4], eli.filled[0]
    pm, py, pyy = 1.0, 0.0, 1.0
    for s in range(filled - 1, -1, -1):
        ay = pm + py
        eli.coefficient[s * width + at] = ay
        eli.coefficient[s * width + at + 1] = pyy
        pm, py, pyy = beta * pm, alpha * ay, alpha * pyy
    eli.coefficient[filled * width + at] = pm
    eli.coefficient[filled * width + at + 1] = 0.0
    eli.coefficient[(filled + 1) * width + at] = py
    eli.coefficient[(filled + 1) * width + at + 1] = pyy
