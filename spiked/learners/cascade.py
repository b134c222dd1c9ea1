"""Higher-dimensional synapses: each weight is the first of a chain of variables, each slower than the one before.

Benna and Fusi (Nature Neuroscience 2016), which the paper names against forgetting (5.1). What a window did to the
weight seeps down the chain, and from there comes back; the chain is a line along which a memory diffuses, told in
pieces that double, so that few variables cover many time scales. Variable k = 1..m has the capacity ``C_k = 2^(k-1)``,
and is coupled to the next by ``g_k = coupling 2^-(k-1)``::

    C_k du_k/dt = g_{k-1} (u_{k-1} - u_k) - g_k (u_k - u_{k+1}),    u_1 the weight, t in windows that have taught

A change of the weight at t = 0 is still there as about ``1 / sqrt(1.5 pi coupling t)`` up to about 4^(m-1) / coupling
windows (1.5: the mean of neighbouring pieces), where an exponential would long be gone. They let the last variable
leak to 0, for weights that store patterns; here it does not, for a weight that learnt something has no other rest:
``sum C_k u_k`` stays, and a memory ends as 1 / (2^m - 1) of what it was.

A window is one implicit (backward Euler) step, so any coupling is stable; the system is tridiagonal and the same for
every weight, so that it is solved by a pass down and a pass up the chain.

Cost: a pass over m arrays of the weights' size after each window, some 4 m operations a weight, whatever the events:
with m = 6 and 595,000 weights 2.3 ms a window, 7 us for each of its 315 steps, of which learning alone takes 8.5.
Memory: m - 1 arrays of the weights' size. In float32 the variables of a chain beyond 8 or so move by less than they
resolve.

A chain begins where the first task has ended, as errors tell (`boundaries`), with all variables where the weight then
stands. One that begins with the random start draws weights back there, and on N-MNIST (`benchmarks/forgetting.py`) cost
accuracy in every order of the samples; this one keeps part of what was known before the sensor was turned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.learners.boundaries import Boundaries
from spiked.learners.gradient import GradientLearner
from spiked.learners.jit import kernel
from spiked.learners.methods import Method
from spiked.learners.weightlike import grow_weightlike

BLOCK = 1024
"""Weights that go down and up their chains at a time: what they need stays in the cache."""


def chain(levels: int, coupling: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Capacities, float64[m], and couplings to the next, float64[m - 1]."""
    capacity: NDArray[np.float64] = np.exp2(np.arange(levels))
    return capacity, coupling / capacity[:-1]


def factors(capacity: NDArray[np.float64], couplings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve ``(C + G) delta = -G u`` for every u at once (Thomas): float64[4, m], rows (inverse, up, back, g).

    With what flows down, ``f_k = g_k (u_k - u_{k+1})``; going down, ``y_k = inverse_k (f_{k-1} - f_k) + up_k y_{k-1}``;
    coming up, ``delta_k = y_k + back_k delta_{k+1}``. A chain at rest has no flows, and so stays to the bit.
    """
    m = len(capacity)
    g = np.concatenate([[0.0], couplings, [0.0]])
    inverse, up, back = np.zeros((3, m))
    for k in range(m):
        pivot = capacity[k] + g[k] + g[k + 1] - (g[k] * back[k - 1] if k else 0.0)
        inverse[k], up[k], back[k] = 1 / pivot, g[k] / pivot, g[k + 1] / pivot
    return np.stack([inverse, up, back, g[1:]])


@kernel
def _relax(weight, slow, factor, room):  # type: ignore[no-untyped-def]
    """One implicit step of all chains: `slow` is float[m - 1, weights], `room` float[m + 2, BLOCK]."""
    m, n = factor.shape[1], len(weight)
    for at in range(0, n, BLOCK):
        size = min(BLOCK, n - at)
        u, into, out = weight[at : at + size], room[m], room[m + 1]
        into[:size] = 0
        for k in range(m):
            inverse, up, g, y = factor[0, k], factor[1, k], factor[3, k], room[k]
            if k < m - 1:
                below = slow[k, at : at + size]
                for j in range(size):
                    out[j] = g * (u[j] - below[j])
                u = below
            else:
                out[:size] = 0
            for j in range(size):
                y[j] = inverse * (into[j] - out[j])
            if k > 0:
                above = room[k - 1]
                for j in range(size):
                    y[j] += up * above[j]
            into, out = out, into
        for k in range(m - 2, -1, -1):
            back, y, below = factor[2, k], room[k], room[k + 1]
            for j in range(size):
                y[j] += back * below[j]
        u = weight[at : at + size]
        for k in range(m):
            y = room[k]
            for j in range(size):
                u[j] += y[j]
            if k < m - 1:
                u = slow[k, at : at + size]


class Cascade(Method):
    """Chains of slower variables behind the weights.

    Parameters
    ----------
    learner : whose weights are the first of each chain.
    levels : m, variables a weight, 2 or more.
    coupling : of the weight to the second variable, a window; 0: none.
    at_once : whether chains begin with the first window; else where the first task has ended.

    Attributes
    ----------
    slow : float[m - 1, weights].
    begun : uint8[1]; whether chains act.
    """

    name = "cascade"

    def __init__(
        self, learner: GradientLearner, levels: int = 6, coupling: float = 0.003, at_once: bool = False
    ) -> None:  # fmt: skip
        if levels < 2 or not 0 <= coupling < np.inf:
            raise ValueError(f"{levels} levels, coupling {coupling}; allowed: 2 or more, 0 or more")
        weight = learner.net.weight
        self.coupling, self.tasks = coupling, Boundaries()
        self.begun = np.full(1, at_once, np.uint8)
        self.slow = np.repeat(weight[None], levels - 1, axis=0)
        self._factor = factors(*chain(levels, coupling)).astype(weight.dtype)
        self._room = np.zeros((levels + 2, BLOCK), weight.dtype)

    def closing(self, learner: GradientLearner, label: int, values: NDArray[np.float32]) -> None:
        """See whether the window was said right."""
        self.tasks.closing(learner, label, values, self.again)

    def taught(self, learner: GradientLearner) -> None:
        """Let all chains relax for one window, or begin them."""
        if self.begun[0]:
            if self.coupling > 0:
                _relax(learner.net.weight, self.slow, self._factor, self._room)
        elif self.tasks.taught():
            self.slow[:], self.begun[:] = learner.net.weight, True

    def grow(self, learner: GradientLearner) -> None:
        """Give new outputs chains at 0, where their weights are."""
        self.slow = grow_weightlike(self.slow, learner.net)

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return {"slow": self.slow, "begun": self.begun} | self.tasks.arrays()
