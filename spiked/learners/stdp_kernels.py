"""The compiled path of `stdp`: what one step does, from the layers to the weights."""

from __future__ import annotations

import numpy as np

from spiked.learners.contract import CLOSE
from spiked.learners.dynamics import fire, integrate, integrate_spikes, leak, next_step
from spiked.learners.jit import inlined, kernel
from spiked.learners.spike_traces import follow
from spiked.learners.stdp_closing import clear_waiting, close_window, read_out, sink_of
from spiked.learners.stdp_events import input_events, neuron_spikes, settle
from spiked.learners.stdp_neurons import choose_learners, fire_adapted, hold_rate, leak_adapted
from spiked.learners.stdp_pairs import begin_step

LARGEST_SCALE = 1e15
"""Of eligibility, whose decay is a growing scale of what is added; then everything is scaled down."""


@kernel
def pace_after(windows, settle_windows):  # type: ignore[no-untyped-def]
    """How much of the rate is left after so many windows."""
    if settle_windows <= 0:
        return 1.0
    return max(0.0, 1.0 - windows / settle_windows)


@kernel
def rest_pairs(net, pairs, memory, opt):  # type: ignore[no-untyped-def]
    """Write what is lazy into the weights, and forget all pairs and all that waits."""
    settle(net, pairs, sink_of(net, memory, opt), opt)
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
        clear_waiting(net, pairs, memory)
        pairs.touched[:] = 0
    memory.scale[0] = 1.0


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


@inlined
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


@inlined
def _plastic_step(net, state, pairs, memory, opt, sink, layer, n_rows, rate, pace):  # type: ignore[no-untyped-def]
    """One step of a layer that learns."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
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
def run_steps(  # type: ignore[no-untyped-def]
    bundle, rate, indptr, indices, counts, flags, labels, values, learn, scores, spikes
):
    """All steps of a run: the whole learner, top to bottom. A rate of 0 leaves features and thresholds alone."""
    net, state, pairs, traces, head, assign, memory, opt, room = bundle.parts
    top = len(net.threshold) - 1
    last_spikes = state.spike[net.u_at[top] : net.u_at[top + 1]]
    sink = sink_of(net, memory, opt)
    row = np.int64(0)  # a literal would compile what takes it twice
    for t in range(len(indptr) - 1):
        lo, hi = indptr[t], indptr[t + 1]
        pace = pace_after(memory.windows[0], opt.settle_windows)
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
                n_rows = _rows_of(net, state, pairs, layer, indices[lo:hi], counts[lo:hi])
                _plastic_step(net, state, pairs, memory, opt, sink, layer, n_rows, rate, pace)
                continue
            if net.recurrent[layer]:
                integrate_spikes(net, state, layer, layer)
            if layer == 0:
                integrate(net, state, 0, indices[lo:hi], counts[lo:hi], hi - lo, 0)
            else:
                integrate_spikes(net, state, layer, layer - 1)
            if opt.plastic[layer]:
                fire_adapted(net, state, memory.theta, opt, layer)
            else:
                fire(net, state, layer)
        next_step(net, state)
        follow(traces, last_spikes)
        if flags[t]:
            read_out(state, traces, head, assign, memory, opt, scores, spikes, row)
            row += 1
            if learn and flags[t] & CLOSE:
                close_window(
                    net, pairs, traces, head, assign, memory, opt, room, on, labels[t], values
                )  # fmt: skip
