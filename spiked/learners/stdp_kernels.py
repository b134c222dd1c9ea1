"""The compiled path of `stdp`: what one step does, from the layers to the weights, and how a window closes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.assignment import assign_example, assignment_score
from spiked.learners.contract import CLOSE, UNLABELLED
from spiked.learners.discriminant import learn_example, score
from spiked.learners.jit import kernel
from spiked.learners.lif import fire, integrate_events, integrate_spikes, leak
from spiked.learners.spike_traces import featurize, follow, take_totals
from spiked.learners.stdp_events import _move, input_events, neuron_spikes, settle
from spiked.learners.stdp_neurons import choose_learners, fire_adapted, hold_rate, leak_adapted
from spiked.learners.stdp_pairs import begin_step

LARGEST_SCALE = 1e15
"""Of eligibility, whose decay is a growing scale of what is added; then everything is scaled down."""


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
def pace_now(opt, memory):  # type: ignore[no-untyped-def]
    """How much of the rate is left after the windows so far."""
    if opt.settle_windows <= 0:
        return 1.0
    return max(0.0, 1.0 - memory.windows[0] / opt.settle_windows)


@kernel
def _sink(net, memory, opt):  # type: ignore[no-untyped-def]
    return net.weight if opt.modulation == 0 else memory.wait


@kernel
def rest_pairs(net, pairs, memory, opt):  # type: ignore[no-untyped-def]
    """Write what is lazy into the weights, and forget all pairs and all that waits."""
    settle(net, pairs, _sink(net, memory, opt), opt)
    pairs.trace[:] = 0.0
    pairs.last[:] = 0
    pairs.live[:] = 0
    pairs.n_live[:] = 0
    pairs.is_live[:] = 0
    pairs.post[:] = 0
    pairs.slow[:] = 0
    pairs.gain[:, :] = 0
    pairs.snap[:, :] = 0
    pairs.clock[0] = 0
    if opt.modulation > 0:
        _clear_wait(net, pairs, memory)
        pairs.touched[:] = 0
    memory.scale[0] = 1.0


@kernel
def _clear_wait(net, pairs, memory):  # type: ignore[no-untyped-def]
    for layer in range(len(net.beta)):
        n = net.sizes[layer + 1]
        for i in range(net.sizes[layer]):
            if pairs.touched[pairs.x_at[layer] + i]:
                at = net.w_at[layer] + i * n
                memory.wait[at : at + n] = 0


@kernel
def _rescale(pairs, memory):  # type: ignore[no-untyped-def]
    """Take the scale of eligibility back to 1."""
    f = memory.wait.dtype.type(1.0 / memory.scale[0])
    for k in range(len(memory.wait)):
        memory.wait[k] *= f
    for block in range(len(pairs.gain)):
        for j in range(pairs.gain.shape[1]):
            pairs.gain[block, j] *= f
    for t in range(len(pairs.snap)):
        for j in range(pairs.snap.shape[1]):
            pairs.snap[t, j] *= f
    memory.scale[0] = 1.0


@kernel
def _rows_of(net, state, pairs, layer, indices, counts):  # type: ignore[no-untyped-def]
    """Write the inputs of this step, and their counts, into `pairs.rows` and `pairs.counts`; returns how many."""
    if layer == 0:
        for k in range(len(indices)):
            pairs.rows[k] = indices[k]
            pairs.counts[k] = counts[k]
        return len(indices)
    below = state.spiked[net.u_at[layer - 1] : net.u_at[layer]]
    n = state.n_spiked[layer - 1]
    for k in range(n):
        pairs.rows[k] = below[k]
        pairs.counts[k] = 1
    return n


@kernel
def _plastic_step(net, state, pairs, memory, opt, layer, n_rows, rate, pace):  # type: ignore[no-untyped-def]
    """One step of a layer that learns."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    sink = _sink(net, memory, opt)
    scaled = rate * pace * memory.scale[0]
    begin_step(net, pairs, sink, opt, layer)
    input_events(net, pairs, sink, opt, layer, n_rows, state.membrane[a:b], scaled)
    fired = fire_adapted(net, state, memory.theta, opt, layer)
    if opt.to_learn and opt.winners > 0:
        n_chosen = choose_learners(net, state, memory.theta, opt, layer, pairs.chosen)
        neuron_spikes(net, pairs, opt, layer, pairs.chosen, n_chosen, scaled)
    else:
        neuron_spikes(net, pairs, opt, layer, state.spiked[a:b], fired, scaled)
    if opt.theta_rise > 0.0:
        hold_rate(net, state, memory.theta, opt, layer, pace)


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
    for layer in range(len(net.beta)):
        n, x0 = net.sizes[layer + 1], pairs.x_at[layer]
        for i in range(net.sizes[layer]):
            if pairs.touched[x0 + i]:
                at = net.w_at[layer] + i * n
                if modulator != 0.0:
                    for k in range(at, at + n):
                        _move(net.weight, k, factor * float(memory.wait[k]), opt)
                memory.wait[at : at + n] = 0
                pairs.touched[x0 + i] = pairs.is_live[x0 + i]


@kernel
def column_sizes(net, opt, out):  # type: ignore[no-untyped-def]
    """Sum or L2 norm of every neuron's weights, into `out` float64[n]."""
    out[:] = 0.0
    for layer in range(len(net.beta)):
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
    for layer in range(len(net.beta)):
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
            settle(net, pairs, _sink(net, memory, opt), opt)
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


@kernel
def run_steps(  # type: ignore[no-untyped-def]
    net, state, pairs, traces, head, assign, memory, opt, room, rate, steps, cues, learn, scores, spikes
):
    """All steps of a run: the whole learner, top to bottom. A rate of 0 leaves features and thresholds alone."""
    top = len(net.beta) - 1
    last_spikes = state.spike[net.u_at[top] : net.u_at[top + 1]]
    row = 0
    for t in range(len(steps.indptr) - 1):
        lo, hi = steps.indptr[t], steps.indptr[t + 1]
        pace = pace_now(opt, memory)
        on = learn and rate > 0.0 and pace > 0.0
        if on:
            pairs.clock[0] += 1
            if opt.modulation > 0:
                memory.scale[0] /= opt.wait_decay
                if memory.scale[0] > LARGEST_SCALE:
                    _rescale(pairs, memory)
        elif pairs.clock[0] > 0:
            rest_pairs(net, pairs, memory, opt)
        for layer in range(top + 1):
            if opt.plastic[layer]:
                leak_adapted(net, state, memory.theta, layer)
            else:
                leak(net, state, layer)
            if on and opt.plastic[layer]:
                n_rows = _rows_of(net, state, pairs, layer, steps.indices[lo:hi], steps.counts[lo:hi])
                _plastic_step(net, state, pairs, memory, opt, layer, n_rows, rate, pace)
                continue
            if layer == 0:
                integrate_events(net, state, steps.indices[lo:hi], steps.counts[lo:hi])
            else:
                integrate_spikes(net, state, layer)
            if opt.plastic[layer]:
                fire_adapted(net, state, memory.theta, opt, layer)
            else:
                fire(net, state, layer)
        follow(traces, last_spikes)
        if cues.flags[t]:
            read_out(state, traces, head, assign, memory, opt, scores, spikes, row)
            row += 1
            if learn and cues.flags[t] & CLOSE:
                close_window(
                    net, pairs, traces, head, assign, memory, opt, room, on, cues.labels[t], cues.values
                )  # fmt: skip
