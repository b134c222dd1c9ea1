"""Membrane decays that learn, by the same eligibility as a weight whose input is the neuron's own membrane.

``U[t] = beta U[t-1] + ...``, so beta's influence on U is ``n[t] = beta n[t-1] + U[t-1]``, one number a neuron; from
there the path to the loss is that of a weight (`eligibility`), taken at each step. The paper warns that beta > 1 makes
the gradient grow without bound (3.4): a decay is held between `LEAST` and `MOST` (or where it began, if beyond).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.jit import kernel
from spiked.learners.optimizers import EPS, RHO

LEAST, MOST = 0.01, 0.999


class Decays(NamedTuple):
    """Traces of the decays, float64[N] each, or empty where they do not learn.

    Attributes
    ----------
    before : membrane a step before.
    m, q, k : influence on the membrane, on the adapted threshold, and filtered, as those of `eligibility`.
    gradient : of the window so far.
    average : mean square of the gradient, by which a step is scaled.
    e : eligibility of this step.
    """

    before: NDArray[np.float64]
    m: NDArray[np.float64]
    q: NDArray[np.float64]
    k: NDArray[np.float64]
    gradient: NDArray[np.float64]
    average: NDArray[np.float64]
    e: NDArray[np.float64]


def make_decays(n: int, learn: bool) -> Decays:
    """Build traces at rest for `n` neurons."""
    return Decays(*(np.zeros(n if learn else 0) for _ in range(7)))


@kernel
def follow_decays(net, state, eli, decays):  # type: ignore[no-untyped-def]
    """Take in a step: its psi and signals stand in the block already."""
    now, top = eli.filled[0], len(net.threshold) - 1
    for layer in range(top + 1):
        rho, jump, kappa = net.rho[layer], net.jump[layer], eli.kappa[layer]
        a, b = net.u_at[layer], net.u_at[layer + 1]
        for j in range(a, b):
            decays.m[j] = net.beta[j] * decays.m[j] + decays.before[j]
            decays.before[j] = state.membrane[j]
        if layer == top:
            for j in range(a, b):
                decays.gradient[j] += eli.direct[now, j] * decays.m[j]
            continue
        for j in range(a, b):
            decays.e[j] = eli.psi[now, j] * (decays.m[j] - decays.q[j])
        for j in range(a, b):  # loops apart, and chains, so that there is one way to round: see `jit.kernel`
            decays.q[j] *= rho
        for j in range(a, b):
            decays.q[j] += jump * decays.e[j]
            decays.k[j] = kappa * decays.k[j] + decays.e[j]
            decays.gradient[j] += eli.signal[now, j] * decays.k[j]
        for j in range(a, b):
            decays.gradient[j] += eli.direct[now, j] * decays.e[j]


@kernel
def let_decays_go(decays, first, last):  # type: ignore[no-untyped-def]
    """Let go of what neurons `first` to `last` have gathered: another step takes its place."""
    if len(decays.gradient) > 0:
        decays.gradient[first:last] = 0.0


@kernel
def learn_decays(net, eli, decays, factor, scale, rate):  # type: ignore[no-untyped-def]
    """Move every decay down its gradient, scaled as `rms` does, and clear it."""
    for j in range(len(decays.gradient)):
        g = decays.gradient[j] * factor[j] * scale
        decays.average[j] += (1.0 - RHO) * (g * g - decays.average[j])
        beta = net.beta[j] - rate * g / (math.sqrt(decays.average[j]) + EPS)
        net.beta[j] = min(max(beta, min(LEAST, net.beta[j])), max(MOST, net.beta[j]))
        decays.gradient[j] = 0.0
    for layer in range(len(net.threshold) - 1):
        total = 0.0
        for j in range(net.u_at[layer + 1], net.u_at[layer + 2]):
            total += net.beta[j]
        eli.kappa[layer] = total / net.sizes[layer + 2]
