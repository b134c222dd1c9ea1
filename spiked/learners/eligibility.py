"""Eligibility traces of a stack of layers, in blocks of steps: what a weight has to do with the spikes of its neuron.

Input `i` of a layer, and its neuron `j`, with surrogate psi, membrane decay beta, adaptation (rho, jump), the decay
kappa of the membrane that hears the neuron, learning signal L (dLoss/dS as the membrane above sees it), direct signal
R (dLoss/dS itself: regularisers) and, where the neuron is a read-out, the credit M (dLoss/dU)::

    y_i[t]    = alpha y_i[t-1] + x_i[t]                     trace of the synaptic current
    m_ij[t]   = beta_j m_ij[t-1] + y_i[t]                   influence on the membrane (Eq. 11), reset detached
    e_ij[t]   = psi_j[t] (m_ij[t] - q_ij[t])                influence on the spike: the eligibility
    q_ij[t+1] = rho q_ij[t] + jump e_ij[t]                  influence on the adapted threshold (Bellec et al. 2020)
    k_ij[t]   = kappa k_ij[t-1] + e_ij[t]                   influence on the membrane above, filtered as that leaks
    dLoss/dW  = sum_t L_j[t] k_ij[t] + R_j[t] e_ij[t] + M_j[t] m_ij[t]

A feed-forward layer's traces are exact (RTRL); where spikes come back to their layer, leaving that path out is e-prop.
The recursion is linear in the inputs, with coefficients that belong to neurons alone. Over a block of steps the weight
of every input event in the gradient, and in each trace at the block's end, is therefore a vector over neurons that one
backward sweep of the block finds (the adjoint recursion), and the block ends with a pass over the rows::

    gradient row += sum over events of x * C[step]  +  what the traces at the block's beginning bring

That is the recursion above to rounding, for no weight moves within a block, at the cost of two to four vector
additions an event, and a pass over the rows that are alive a block. Nothing grows: there are no products to keep in
range, so float32 will do. A trace that all neurons of a layer share (y; m, with one decay) is one number an input.

What an event is worth in the gradient, in each trace, and in the shared ones lies in one row, one part after the other,
so that an event is one addition; a shared trace's value at the block's beginning counts as an event before the first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.lif import Lif
from spiked.learners.plasticity import MOST

BLOCK_STEPS = 512
"""Steps a block: long enough that the pass over rows costs less than the events, short enough for the cache."""
FORGET_TAUS = {4: 17.0, 8: 25.0}  # by bytes of a weight: a row silent for so long has e^-17 of its traces left
SPARE_EVENTS = 1 << 14
LINE = 16
"""Entries of a weight's type that fill one cache line, or two."""


class Eligibility(NamedTuple):
    """Traces of a stack; row `i` of layer `l` is entry ``net.x_at[l] + i``. N neurons and X inputs in all.

    Attributes
    ----------
    private, adaptive : uint8[L]; whether a layer's m, its q, is a matrix of its own.
    y, m : float[X]; shared traces of the inputs.
    live, touched : uint8[X]; rows whose traces, whose gradient, may not be zero.
    last : int64[X]; clock at each row's last event.
    gradient, filtered, adapted, own : float[...]; the matrices of the gradient, k, q and m.
    filtered_at, adapted_at, own_at : int64[L + 1]; where each layer's part begins: layers without one are empty.
    psi, signal, direct : float[T, N]; psi, L and R of the block's steps; of read-outs, `direct` is M.
    step, row : int32[events]; a block's events.
    size : float[events]; counts of the events.
    event_at : int64[L + 1]; where each layer's events begin.
    n_events : int64[L].
    coefficient : float[...]; a row a step, and two more for m and y at the block's beginning: the weight of an event
        of that step in each part of `sums`.
    part_at : int64[5]; in such a row, where the parts for the gradient, k, q and m begin (those that the layer has),
        and where they end; m and y, where they are shared, have the two entries after that.
    sums : float[...]; the events of one input, each times its row.
    sweep : float64[4, widest]; what the sweep carries from step to step.
    start : float[4, 4, widest]; weight of y, m, q and k at the block's beginning in the gradient, k, q and m.
    none : float[widest]; zeros: the signal where the sweep is that of a trace.
    sorted_step, sorted_size : int32, float[events + 2 rows]; step and size of one layer's events, by input.
    sorted_to : int64[rows]; where the events of each input end there.
    kappa : float64[L]; decay of the membrane that hears each layer.
    forget : int64[L]; steps after which a silent row is let go.
    filled : int64[1]; steps in the block.
    clock : int64[1]; steps since the last reset.
    asks : uint8[1]; whether any step of the block has a learning signal.
    waits : uint8[1]; whether the block is that of a closed window: its gradient is taken, its traces have yet to move.
    rests : uint8[1]; whether a rest followed the last window: the next one's traces wait then, and are dropped for
        nothing if it is so again. What is learnt is the same either way.
    """

    private: NDArray[np.uint8]
    adaptive: NDArray[np.uint8]
    y: NDArray[np.floating]
    m: NDArray[np.floating]
    live: NDArray[np.uint8]
    touched: NDArray[np.uint8]
    last: NDArray[np.int64]
    gradient: NDArray[np.floating]
    filtered: NDArray[np.floating]
    adapted: NDArray[np.floating]
    own: NDArray[np.floating]
    filtered_at: NDArray[np.int64]
    adapted_at: NDArray[np.int64]
    own_at: NDArray[np.int64]
    psi: NDArray[np.floating]
    signal: NDArray[np.floating]
    direct: NDArray[np.floating]
    step: NDArray[np.int32]
    row: NDArray[np.int32]
    size: NDArray[np.floating]
    event_at: NDArray[np.int64]
    n_events: NDArray[np.int64]
    coefficient: NDArray[np.floating]
    part_at: NDArray[np.int64]
    sums: NDArray[np.floating]
    sweep: NDArray[np.float64]
    start: NDArray[np.floating]
    none: NDArray[np.floating]
    sorted_step: NDArray[np.int32]
    sorted_size: NDArray[np.floating]
    sorted_to: NDArray[np.int64]
    kappa: NDArray[np.float64]
    forget: NDArray[np.int64]
    filled: NDArray[np.int64]
    clock: NDArray[np.int64]
    asks: NDArray[np.uint8]
    waits: NDArray[np.uint8]
    rests: NDArray[np.uint8]


DERIVED = (
    "private", "adaptive", "filtered_at", "adapted_at", "own_at", "event_at", "coefficient", "part_at", "sums", "sweep",
    "start", "none", "sorted_step", "sorted_size", "sorted_to", "kappa", "forget",
)  # fmt: skip
"""What follows from the network, or from the rest: not part of a learner's state."""


def private_layers(net: Lif, decays_learn: bool) -> NDArray[np.uint8]:
    """Which layers have a decay for each neuron, so that their m cannot be shared."""
    spread = [np.ptp(net.beta[a:b]) > 0 for a, b in zip(net.u_at, net.u_at[1:])]
    return np.array([s or decays_learn for s in spread], np.uint8)


def mean_decays(net: Lif) -> NDArray[np.float64]:
    """The decay of the membranes that hear each layer (their mean, where each has its own); 1 for the read-out."""
    means = [float(net.beta[a:b].mean()) for a, b in zip(net.u_at, net.u_at[1:])]
    return np.array([*means[1:], 1.0])


def padded(n: int) -> int:
    """Length of a row of `coefficient` with `n` entries: whole cache lines."""
    return -(-n // LINE) * LINE


def _aligned(n: int, dtype: Any) -> NDArray[Any]:
    """Zeros that begin with a cache line: long vector additions take a tenth less."""
    block = np.zeros(n + LINE, dtype)
    at = -block.ctypes.data % 64 // block.itemsize
    return block[at : at + n]


def make_eligibility(net: Lif, decays_learn: bool = False, block_steps: int = BLOCK_STEPS) -> Eligibility:
    """Traces at rest."""
    n_layers, dtype = len(net.threshold), net.weight.dtype
    x, n, widest = int(net.x_at[-1]), int(net.u_at[-1]), int(net.sizes[1:].max())
    private = private_layers(net, decays_learn)
    adaptive = (net.jump > 0).astype(np.uint8)
    hidden = np.ones(n_layers, np.int64)
    hidden[-1] = 0
    weights = net.rows * net.sizes[1:]
    events = 2 * net.rows + SPARE_EVENTS
    sorted_events = int((events + 2 * net.rows).max())
    parts = int((net.sizes[1:] * (1 + hidden + hidden * adaptive + private)).max())
    kappa = mean_decays(net)
    forget = np.zeros(n_layers, np.int64)
    for layer in range(n_layers):
        decays = [float(net.beta[net.u_at[layer] : net.u_at[layer + 1]].max()), float(net.alpha[layer])]
        decays += [float(net.rho[layer])] + ([kappa[layer]] if hidden[layer] else [])
        slowest = min(max([*decays, MOST] if decays_learn else decays), 1 - 1e-9)  # no leak: a tau of 1e9 steps
        forget[layer] = int(FORGET_TAUS[dtype.itemsize] * len(decays) / 2 / -np.log(max(slowest, 1e-30))) + 1

    def offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    filtered_at, adapted_at = offsets(weights * hidden), offsets(weights * adaptive * hidden)
    own_at, event_at = offsets(weights * private), offsets(events)
    n_events = int(event_at[-1])
    return Eligibility(
        private=private,
        adaptive=adaptive,
        y=np.zeros(x, dtype),
        m=np.zeros(x, dtype),
        live=np.zeros(x, np.uint8),
        touched=np.zeros(x, np.uint8),
        last=np.zeros(x, np.int64),
        gradient=np.zeros_like(net.weight),
        filtered=_aligned(int(filtered_at[-1]), dtype),
        adapted=_aligned(int(adapted_at[-1]), dtype),
        own=np.zeros(int(own_at[-1]), dtype),
        filtered_at=filtered_at,
        adapted_at=adapted_at,
        own_at=own_at,
        psi=np.zeros((block_steps, n), dtype),
        signal=np.zeros((block_steps, n), dtype),
        direct=np.zeros((block_steps, n), dtype),
        step=np.zeros(n_events, np.int32),
        row=np.zeros(n_events, np.int32),
        size=np.zeros(n_events, dtype),
        event_at=event_at,
        n_events=np.zeros(n_layers, np.int64),
        coefficient=_aligned((block_steps + 2) * padded(parts + 2), dtype),
        part_at=np.zeros(5, np.int64),
        sums=_aligned(padded(parts + 2), dtype),
        sweep=np.zeros((4, widest)),
        start=np.zeros((4, 4, widest), dtype),
        none=np.zeros(widest, dtype),
        sorted_step=np.zeros(sorted_events, np.int32),
        sorted_size=np.zeros(sorted_events, dtype),
        sorted_to=np.zeros(int(net.rows.max()), np.int64),
        kappa=kappa,
        forget=forget,
        filled=np.zeros(1, np.int64),
        clock=np.zeros(1, np.int64),
        asks=np.zeros(1, np.uint8),
        waits=np.zeros(1, np.uint8),
        rests=np.zeros(1, np.uint8),
    )
