"""Layers of leaky integrate-and-fire neurons: the membrane (Eq. 4, 18, 20), the threshold (Eq. 5), the reset (Eq. 21).

::

    U[t] = beta U[t-1] + W X[t] - theta S[t-1]              reset by subtraction (Eq. 4, 20)
    U[t] = beta U[t-1] (1 - S[t-1]) + W X[t]                reset to zero (Eq. 21, which misprints X[t+1] as X[t])
    S[t] = 1 if U[t] > theta else 0                         strict (Eq. 5)

with ``beta = exp(-dt / tau_mem)`` (Eq. 18; Eq. 3's e^(-1/tau) assumes dt = 1). A step costs one pass over the neurons
and one row of weights for each active input: silence is cheap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from spiked.learners.jit import kernel

NEVER = 1e30
"""A threshold that no membrane reaches (infinity times a spike of 0 would be NaN)."""
LEAST_DECAY = 1e-30


@dataclass(frozen=True)
class LayerSpec:
    """One layer, as the configuration states it.

    Parameters
    ----------
    neurons : number of neurons.
    tau_mem_ms : time constant of the membrane, in ms.
    threshold : membrane above which a neuron fires; infinity for a read-out that only integrates.
    reset : ``"subtract"`` or ``"zero"``.
    """

    neurons: int
    tau_mem_ms: float = 20.0
    threshold: float = 1.0
    reset: str = "subtract"


class Lif(NamedTuple):
    """A stack of layers as flat arrays, so that one kernel serves any depth. Layer `l` reads `sizes[l]` channels.

    Attributes
    ----------
    sizes : int64[L + 1]; channels into the first layer, then neurons of each.
    w_at, u_at : int64[L + 1]; where each layer's weights and neurons begin.
    weight : float[sum n_in * n_out]; row-major by input, so that an active input is one contiguous row.
    beta, threshold : float[L]; decay per step and firing threshold.
    to_zero : uint8[L]; 1 where the reset is to zero.
    """

    sizes: NDArray[np.int64]
    w_at: NDArray[np.int64]
    u_at: NDArray[np.int64]
    weight: NDArray[np.floating]
    beta: NDArray[np.floating]
    threshold: NDArray[np.floating]
    to_zero: NDArray[np.uint8]


class LifState(NamedTuple):
    """The dynamics of a stack.

    Attributes
    ----------
    membrane : float[sum n]; U[t].
    spike : float[sum n]; S[t], 0 or 1: the reset of the next step.
    spiked : int64[sum n]; the neurons of each layer that fired in the last step (first `n_spiked` of each layer).
    n_spiked : int64[L].
    total : int64[L]; spikes since the last read-out.
    quiet : int64[sum n]; steps since each neuron last fired.
    """

    membrane: NDArray[np.floating]
    spike: NDArray[np.floating]
    spiked: NDArray[np.int64]
    n_spiked: NDArray[np.int64]
    total: NDArray[np.int64]
    quiet: NDArray[np.int64]


def decay(tau_ms: float, dt_ms: float) -> float:
    """Decay per step, ``exp(-dt / tau)`` (Eq. 18); never 0, for traces divide by it."""
    return max(math.exp(-dt_ms / tau_ms), LEAST_DECAY)


def make_lif(n_in: int, layers: list[LayerSpec], dt_ms: float, dtype: DTypeLike = np.float32) -> Lif:
    """Lay out a stack with zero weights."""
    sizes = np.array([n_in, *(spec.neurons for spec in layers)], np.int64)
    return Lif(
        sizes=sizes,
        w_at=np.concatenate([[0], np.cumsum(sizes[:-1] * sizes[1:])]).astype(np.int64),
        u_at=np.concatenate([[0], np.cumsum(sizes[1:])]).astype(np.int64),
        weight=np.zeros(int(np.sum(sizes[:-1] * sizes[1:])), dtype),
        beta=np.array([decay(spec.tau_mem_ms, dt_ms) for spec in layers], dtype),
        threshold=np.array([min(spec.threshold, NEVER) for spec in layers], dtype),
        to_zero=np.array([spec.reset == "zero" for spec in layers], np.uint8),
    )


def make_lif_state(net: Lif) -> LifState:
    """Dynamics at rest."""
    n, n_layers = int(net.u_at[-1]), len(net.beta)
    return LifState(
        membrane=np.zeros(n, net.weight.dtype),
        spike=np.zeros(n, net.weight.dtype),
        spiked=np.zeros(n, np.int64),
        n_spiked=np.zeros(n_layers, np.int64),
        total=np.zeros(n_layers, np.int64),
        quiet=np.zeros(n, np.int64),
    )


def layer_weight(net: Lif, layer: int) -> NDArray[np.floating]:
    """The weights of one layer as a view, float[n_in, n_out]."""
    flat = net.weight[net.w_at[layer] : net.w_at[layer + 1]]
    return flat.reshape(int(net.sizes[layer]), int(net.sizes[layer + 1]))


@kernel
def leak(net, state, layer):  # type: ignore[no-untyped-def]
    """Let the membranes of one layer leak, and take back what the last spikes cost."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    u, s = state.membrane[a:b], state.spike[a:b]
    beta, theta = net.beta[layer], net.threshold[layer]
    if net.to_zero[layer]:
        for j in range(b - a):
            u[j] = beta * u[j] * (1 - s[j])
    else:
        for j in range(b - a):
            u[j] = beta * u[j] - theta * s[j]


@kernel
def fire(net, state, layer):  # type: ignore[no-untyped-def]
    """Fire the neurons of one layer that are above threshold; returns how many."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    u, s = state.membrane[a:b], state.spike[a:b]
    spiked, quiet = state.spiked[a:b], state.quiet[a:b]
    theta = net.threshold[layer]
    n = 0
    for j in range(b - a):
        if u[j] > theta:
            s[j] = 1
            quiet[j] = 0
            spiked[n] = j
            n += 1
        else:
            s[j] = 0
            quiet[j] += 1
    state.n_spiked[layer] = n
    state.total[layer] += n
    return n


@kernel
def integrate_events(net, state, indices, counts):  # type: ignore[no-untyped-def]
    """Add the rows of the active channels to the first layer's membranes."""
    n = net.sizes[1]
    u = state.membrane[:n]
    for k in range(len(indices)):
        row = net.weight[indices[k] * n : (indices[k] + 1) * n]
        x = counts[k]
        for j in range(n):
            u[j] += x * row[j]


@kernel
def integrate_spikes(net, state, layer):  # type: ignore[no-untyped-def]
    """Add the rows of the neurons that fired in the layer below to this layer's membranes."""
    n = net.sizes[layer + 1]
    u = state.membrane[net.u_at[layer] : net.u_at[layer + 1]]
    below = state.spiked[net.u_at[layer - 1] : net.u_at[layer]]
    for k in range(state.n_spiked[layer - 1]):
        at = net.w_at[layer] + below[k] * n
        row = net.weight[at : at + n]
        for j in range(n):
            u[j] += row[j]


@kernel
def lif_step(net, state, indices, counts):  # type: ignore[no-untyped-def]
    """One step of the whole stack."""
    for layer in range(len(net.beta)):
        leak(net, state, layer)
        if layer == 0:
            integrate_events(net, state, indices, counts)
        else:
            integrate_spikes(net, state, layer)
        fire(net, state, layer)
