"""The layout of a stack of leaky integrate-and-fire layers, and of its dynamics; `dynamics` holds what a step does.

Every kind of neuron is the same LIF neuron with parts switched on, a layer at a time: a synaptic current, a threshold
that adapts, a refractory period, axonal delays, recurrent weights, one decay for each neuron. What a layer leaves out
costs it nothing but a branch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

NEVER = 1e30
"""A threshold that no membrane reaches (infinity times a spike of 0 would be NaN)."""
LEAST_DECAY = 1e-30


@dataclass(frozen=True)
class LayerSpec:
    """One layer, as the configuration states it.

    Parameters
    ----------
    neurons : number of neurons.
    tau_mem_ms : time constant of the membrane, in ms; one for all, or one for each neuron (an array).
    threshold : membrane above which a neuron fires; infinity for a read-out that only integrates.
    reset : ``"subtract"`` or ``"zero"``.
    recurrent : whether the layer hears its own spikes, a step (and the delay) later.
    tau_syn_ms : time constant of the synaptic current, in ms; 0: a spike acts on the membrane at once.
    refractory_ms : time after a spike during which the membrane is held at rest, in ms.
    tau_adapt_ms : time constant of the threshold's adaptation, in ms; 0: the threshold is fixed.
    jump : rise of the threshold at a spike; None couples it to the decay, ``1 - rho`` (Eq. 52 as printed).
    delay_ms : time that a spike takes to arrive, in ms; one for all, or one for each neuron (an array).
    """

    neurons: int
    tau_mem_ms: float | NDArray[np.float64] = 20.0
    threshold: float = 1.0
    reset: str = "subtract"
    recurrent: bool = False
    tau_syn_ms: float = 0.0
    refractory_ms: float = 0.0
    tau_adapt_ms: float = 0.0
    jump: float | None = None
    delay_ms: float | NDArray[np.float64] = 0.0


class Lif(NamedTuple):
    """A stack of layers as flat arrays, so that one kernel serves any depth.

    Layer `l` reads ``sizes[l]`` channels, and, where it is recurrent, its own ``sizes[l + 1]`` neurons: the rows of
    its weights are those inputs, in that order.

    Attributes
    ----------
    sizes : int64[L + 1]; channels into the first layer, then neurons of each.
    rows : int64[L]; inputs of each layer.
    w_at, u_at, x_at : int64[L + 1]; where each layer's weights, neurons and inputs begin.
    weight : float[sum rows * n]; row-major by input, so that an active input is one contiguous row.
    beta : float[sum n]; decay of each membrane per step.
    threshold : float[L]; firing threshold at rest.
    to_zero : uint8[L]; 1 where the reset is to zero.
    recurrent : uint8[L].
    alpha : float[L]; decay of the synaptic current per step; 0 where there is none.
    hold : int64[L]; refractory period in steps.
    rho, jump : float[L]; decay per step of the adaptation, and its rise at a spike; 0 where there is none.
    delay : int64[sum n]; steps that a spike takes to arrive.
    longest : int64[L]; the longest delay of each layer.
    """

    sizes: NDArray[np.int64]
    rows: NDArray[np.int64]
    w_at: NDArray[np.int64]
    u_at: NDArray[np.int64]
    x_at: NDArray[np.int64]
    weight: NDArray[np.floating]
    beta: NDArray[np.floating]
    threshold: NDArray[np.floating]
    to_zero: NDArray[np.uint8]
    recurrent: NDArray[np.uint8]
    alpha: NDArray[np.floating]
    hold: NDArray[np.int64]
    rho: NDArray[np.floating]
    jump: NDArray[np.floating]
    delay: NDArray[np.int64]
    longest: NDArray[np.int64]


class LifState(NamedTuple):
    """The dynamics of a stack. The last three are counts and a constant; the rest is what a reset puts to rest.

    Attributes
    ----------
    membrane : float[sum n]; U[t].
    spike : float[sum n]; S[t], 0 or 1: the reset of the next step.
    current : float[sum n]; synaptic current.
    adaptation : float[sum n]; b[t], what the threshold stands above its rest.
    wait : int64[sum n]; refractory steps that are left (one more than the period in the step of the spike).
    spiked : int64[sum n]; the neurons of each layer whose spikes arrive in this step (first `n_spiked` of each layer).
    n_spiked : int64[L].
    line : uint8[longest delay + 1, sum n]; spikes on their way, a ring of steps.
    line_now : int64[1]; the ring's row of this step.
    total : int64[L]; spikes since the last read-out.
    quiet : int64[sum n]; steps since each neuron last fired.
    ones : float32[sum n]; size of a spike, as that of an event.
    """

    membrane: NDArray[np.floating]
    spike: NDArray[np.floating]
    current: NDArray[np.floating]
    adaptation: NDArray[np.floating]
    wait: NDArray[np.int64]
    spiked: NDArray[np.int64]
    n_spiked: NDArray[np.int64]
    line: NDArray[np.uint8]
    line_now: NDArray[np.int64]
    total: NDArray[np.int64]
    quiet: NDArray[np.int64]
    ones: NDArray[np.float32]


def decay(tau_ms: float, dt_ms: float) -> float:
    """Decay per step, ``exp(-dt / tau)`` (Eq. 18); never 0, for traces divide by it."""
    return max(math.exp(-dt_ms / tau_ms), LEAST_DECAY)


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def make_lif(n_in: int, layers: list[LayerSpec], dt_ms: float, dtype: DTypeLike = np.float32) -> Lif:
    """Lay out a stack with zero weights."""
    sizes = np.array([n_in, *(spec.neurons for spec in layers)], np.int64)
    recurrent = np.array([spec.recurrent for spec in layers], np.uint8)
    rows = sizes[:-1] + recurrent * sizes[1:]
    rho = [decay(spec.tau_adapt_ms, dt_ms) if spec.tau_adapt_ms > 0 else 0.0 for spec in layers]
    jumps = [
        0.0 if spec.tau_adapt_ms <= 0 else 1 - r if spec.jump is None else spec.jump for spec, r in zip(layers, rho)
    ]
    betas = [np.exp(-dt_ms / np.broadcast_to(np.asarray(spec.tau_mem_ms, float), spec.neurons)) for spec in layers]
    delays = [np.round(np.broadcast_to(np.asarray(spec.delay_ms, float), spec.neurons) / dt_ms) for spec in layers]
    return Lif(
        sizes=sizes,
        rows=rows,
        w_at=_offsets(rows * sizes[1:]),
        u_at=_offsets(sizes[1:]),
        x_at=_offsets(rows),
        weight=np.zeros(int(np.sum(rows * sizes[1:])), dtype),
        beta=np.maximum(np.concatenate(betas), LEAST_DECAY).astype(dtype),
        threshold=np.array([min(spec.threshold, NEVER) for spec in layers], dtype),
        to_zero=np.array([spec.reset == "zero" for spec in layers], np.uint8),
        recurrent=recurrent,
        alpha=np.array([decay(s.tau_syn_ms, dt_ms) if s.tau_syn_ms > 0 else 0.0 for s in layers], dtype),
        hold=np.array([round(spec.refractory_ms / dt_ms) for spec in layers], np.int64),
        rho=np.array(rho, dtype),
        jump=np.array(jumps, dtype),
        delay=np.concatenate(delays).astype(np.int64),
        longest=np.array([d.max() for d in delays], np.int64),
    )


def make_lif_state(net: Lif) -> LifState:
    """Dynamics at rest."""
    n, n_layers = int(net.u_at[-1]), len(net.threshold)
    return LifState(
        membrane=np.zeros(n, net.weight.dtype),
        spike=np.zeros(n, net.weight.dtype),
        current=np.zeros(n, net.weight.dtype),
        adaptation=np.zeros(n, net.weight.dtype),
        wait=np.zeros(n, np.int64),
        spiked=np.zeros(n, np.int64),
        n_spiked=np.zeros(n_layers, np.int64),
        line=np.zeros((int(net.longest.max()) + 1, n), np.uint8),
        line_now=np.zeros(1, np.int64),
        total=np.zeros(n_layers, np.int64),
        quiet=np.zeros(n, np.int64),
        ones=np.ones(n, np.float32),
    )


def rest_lif(state: LifState) -> None:
    """Put the dynamics to rest; the counts of spikes go on."""
    for array in state[:-3]:
        array[...] = 0


def copy_state(into: LifState, source: LifState) -> None:
    """Bring dynamics to where others of the same layout, or of fewer outputs, stand; the rest stays as it is."""
    arrays: dict[str, NDArray] = into._asdict()
    for name, theirs in source._asdict().items():
        arrays[name][..., : theirs.shape[-1]] = theirs


def layer_weight(net: Lif, layer: int) -> NDArray[np.floating]:
    """The weights of one layer as a view, float[rows, n]: those from below, then the recurrent ones."""
    flat = net.weight[net.w_at[layer] : net.w_at[layer + 1]]
    return flat.reshape(int(net.rows[layer]), int(net.sizes[layer + 1]))


def grow_lif(net: Lif, n_out: int) -> Lif:
    """Build the same stack with more neurons in its last layer, their weights 0; the last layer is not recurrent."""
    old = int(net.sizes[-1])
    sizes = net.sizes.copy()
    sizes[-1] = n_out
    body = int(net.w_at[-2])
    weight = np.zeros(body + int(net.rows[-1]) * n_out, net.weight.dtype)
    weight[:body] = net.weight[:body]
    weight[body:].reshape(-1, n_out)[:, :old] = net.weight[body:].reshape(-1, old)

    def more(array: NDArray) -> NDArray:
        return np.concatenate([array, np.full(n_out - old, array[-1], array.dtype)])

    return net._replace(
        sizes=sizes, w_at=_offsets(net.rows * sizes[1:]), u_at=_offsets(sizes[1:]), weight=weight, beta=more(net.beta),
        delay=more(net.delay),
    )  # fmt: skip
