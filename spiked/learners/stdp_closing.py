"""How a window closes for `stdp`: what it was worth, what waited, what each neuron's weights may sum to, the head.

Normalisation comes here rather than at each spike: it is then one pass over the weights in the order in which they
lie, about a millisecond for 2312 x 512, once a window, and within the window growth stays lazy. At each spike it would
read and write a column with a cache miss for each weight, and nothing could wait.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.assignment import assign_example, assignment_score
from spiked.learners.contract import UNLABELLED
from spiked.learners.discriminant import learn_example, score
from spiked.learners.jit import kernel
from spiked.learners.spike_traces import featurize, take_totals
from spiked.learners.stdp_events import move_weight, settle


class Memory(NamedTuple):
    """What plasticity keeps beside the weights; n neurons over all layers.

    Attributes
    ----------
    theta : float[n]; what each neuron's threshold is above its layer's.
    wait : float[W]; eligibility times `scale`, laid out as the weights; one entry where changes do not wait.
    scale : float64[1].
    hold : float64[n]; sum or norm of each neuron's weights that is held.
    windows : int64[1]; windows that plasticity has seen close.
    reward : float64[2]; how many rewards came, and their running mean.
    said : float64[K]; the last scores.
    """

    theta: NDArray[np.floating]
    wait: NDArray[np.floating]
    scale: NDArray[np.float64]
    hold: NDArray[np.float64]
    windows: NDArray[np.int64]
    reward: NDArray[np.float64]
    said: NDArray[np.float64]


@kernel
def sink_of(net, memory, opt):  # type: ignore[no-untyped-def]
    """What pairs change: the weights, or the eligibility where changes wait."""
    return net.weight if opt.modulation == 0 else memory.wait


@kernel
def clear_waiting(net, pairs, memory):  # type: ignore[no-untyped-def]
    """Drop all eligibility."""
    for layer in range(len(net.threshold)):
        n = net.sizes[layer + 1]
        for i in range(net.sizes[layer]):
            if pairs.touched[pairs.x_at[layer] + i]:
                at = net.w_at[layer] + i * n
                memory.wait[at : at + n] = 0


@kernel
def _modulator(memory, opt, label, values):  # type: ignore[no-untyped-def]
    """What a window's changes are worth, and whether that is known."""
    if label == UNLABELLED:
        return 0.0, False
    said = memory.said
    if opt.modulation == 1:
        best = 0
        for k in range(1, len(said)):
            if said[k] > said[best]:
                best = k
        got = float(values[label, 0]) if len(values) > 0 else (1.0 if best == label else 0.0)
        if not math.isfinite(got):
            return 0.0, False
        surprise = got - memory.reward[1]
        memory.reward[0] += 1.0
        memory.reward[1] += surprise / min(memory.reward[0], opt.reward_windows)
        return surprise, True
    if len(values) > 0:
        return 0.0, False
    total = 0.0
    for k in range(len(said)):
        total += math.exp(min(said[k] - said[label], 700.0))
    return (1.0 if 1.0 - 1.0 / total >= opt.error_threshold else 0.0), True


@kernel
def _credit(net, pairs, memory, opt, modulator):  # type: ignore[no-untyped-def]
    """Let what has waited through, times `modulator`, and clear it."""
    factor = modulator / memory.scale[0]
    for layer in range(len(net.threshold)):
        n, x0 = net.sizes[layer + 1], pairs.x_at[layer]
        for i in range(net.sizes[layer]):
            if pairs.touched[x0 + i]:
                at = net.w_at[layer] + i * n
                if modulator != 0.0:
                    for k in range(at, at + n):
                        move_weight(net.weight, k, factor * float(memory.wait[k]), opt)
                memory.wait[at : at + n] = 0
                pairs.touched[x0 + i] = pairs.is_live[x0 + i]


@kernel
def column_sizes(net, opt, out):  # type: ignore[no-untyped-def]
    """Sum or L2 norm of every neuron's weights, into `out` float64[n]."""
    out[:] = 0.0
    for layer in range(len(net.threshold)):
        n, a = net.sizes[layer + 1], net.u_at[layer]
        for i in range(net.sizes[layer]):
            row = net.weight[net.w_at[layer] + i * n : net.w_at[layer] + (i + 1) * n]
            for j in range(n):
                out[a + j] += float(row[j]) * float(row[j]) if opt.norm == 2 else float(row[j])
    if opt.norm == 2:
        for j in range(len(out)):
            out[j] = math.sqrt(out[j])


@kernel
def _normalize(net, memory, opt, room):  # type: ignore[no-untyped-def]
    """Scale every plastic neuron's weights back to what is held, within the bounds; `room` float64[n]."""
    column_sizes(net, opt, room)
    for j in range(len(room)):
        room[j] = memory.hold[j] / room[j] if room[j] > 0.0 else 1.0
    for layer in range(len(net.threshold)):
        if opt.plastic[layer]:
            n, a = net.sizes[layer + 1], net.u_at[layer]
            for i in range(net.sizes[layer]):
                row = net.weight[net.w_at[layer] + i * n : net.w_at[layer] + (i + 1) * n]
                for j in range(n):
                    w = row[j]
                    scaled = min(max(w * room[a + j], opt.w_min), opt.w_max)
                    row[j] = scaled if w != 0 or not opt.sparse else w


@kernel
def read_out(state, traces, head, assign, memory, opt, scores, spikes, row):  # type: ignore[no-untyped-def]
    """Score, and write a row of the read-out."""
    if opt.assign:
        assignment_score(assign, traces.trace[len(traces.trace) - 1], opt.assign_soft, memory.said)
    else:
        featurize(traces)
        score(head, traces.features, memory.said)
    for k in range(len(memory.said)):
        scores[row, k] = memory.said[k]
    take_totals(state, spikes, row)


@kernel
def close_window(net, pairs, traces, head, assign, memory, opt, room, on, label, values):  # type: ignore[no-untyped-def]
    """Learn from the window that ends here; `read_out` comes before. `on` says whether plasticity learns too."""
    if on:
        if opt.modulation > 0 or opt.norm > 0:
            settle(net, pairs, sink_of(net, memory, opt), opt)
        if opt.modulation > 0:
            modulator, known = _modulator(memory, opt, label, values)
            if known:
                _credit(net, pairs, memory, opt, modulator)
        if opt.norm > 0:
            _normalize(net, memory, opt, room)
        memory.windows[0] += 1
    if label != UNLABELLED and len(values) == 0:
        if opt.assign:
            assign_example(assign, traces.trace[len(traces.trace) - 1], label)
        else:
            learn_example(head, traces.features, label)
