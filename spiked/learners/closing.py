"""How a window of `gradient` closes: its error, the end of the open block, and the step of the weights.

::

    error of the window (objectives), sent down (feedback) -> block of each input's row ended (eligibility_kernels)
    -> step of that row (optimizers)

The gradient of a row that no earlier block of the window has touched is never stored: it is found, and used, in the
cache, in one pass over the rows of weights and traces.
"""

from __future__ import annotations

import numpy as np

from spiked.learners.contract import UNLABELLED
from spiked.learners.decoders import decode_close, decode_scores
from spiked.learners.dynamics import copy
from spiked.learners.eligibility_kernels import end_row, flush, next_block, prepare_end
from spiked.learners.feedback import ADAPTIVE, SYMMETRIC, mirror, send_down
from spiked.learners.jit import inlined, kernel
from spiked.learners.objectives import LATENCY_CE, MEMBRANE_MSE, REWARD, window_error
from spiked.learners.optimizers import BOUNDED, apply_row
from spiked.learners.plasticity import learn_decays
from spiked.learners.regularisers import penalise
from spiked.learners.window import clear_window, force_spikes, is_single

ALIGN_DECAY = 0.5
"""Where feedback adapts: share of a weight, and of its feedback, that a window takes away, at a rate of 1."""
REWARD_WINDOWS = 100
"""The mean that a reward is held against forgets within so many windows."""


@inlined
def cut_small(error, least):  # type: ignore[no-untyped-def]
    """Error-triggered learning: an error below the threshold teaches nothing (Payvand et al. 2020)."""
    if least > 0:
        for k in range(len(error)):
            if abs(error[k]) < least:
                error[k] = 0.0


@inlined
def _step_row(net, eli, work, opt, feedback, average, layer, i, descent):  # type: ignore[no-untyped-def]
    """Move one row of weights down its gradient, which is cleared."""
    n = net.sizes[layer + 1]
    at = net.w_at[layer] + i * n
    aligned = feedback.kind == ADAPTIVE and layer > 0
    weight, row = net.weight[at : at + n], work.row[:n]
    if aligned:
        copy(row, weight)
    apply_row(opt.optimizer, weight, descent, work.factor[:n], work.scale, average[at : at + n], work.rate)
    if aligned and i < net.sizes[layer]:
        gone = ALIGN_DECAY * work.rate[0]
        at, moved, kept = feedback.at[layer - 1] + i, descent, 1.0 - gone
        for j in range(n):
            moved[j] = weight[j] - row[j]
        for j in range(n):
            weight[j] -= gone * row[j]
        for j in range(n):
            e = at + j * net.sizes[layer]
            feedback.matrix[e] = moved[j] + kept * feedback.matrix[e]


@inlined
def _end_and_step(net, eli, work, opt, feedback, average, layer, scale, rate, traces):  # type: ignore[no-untyped-def]
    """End the open block of one layer, and move each of its rows that has a gradient."""
    n, x0, w0 = net.sizes[layer + 1], net.x_at[layer], net.w_at[layer]
    copy(work.factor[:n], work.signal[net.u_at[layer] : net.u_at[layer + 1]])
    work.scale[0] = -scale
    work.rate[0] = rate
    is_open = eli.filled[0] > 0
    width = prepare_end(net, eli, layer, traces) if is_open else 0
    for i in range(net.rows[layer]):
        found, descent = is_open and end_row(net, eli, layer, i, width, traces), eli.sums[:n]
        if eli.touched[x0 + i]:
            gradient = eli.gradient[w0 + i * n : w0 + (i + 1) * n]
            if found:
                for j in range(n):
                    gradient[j] += descent[j]
            eli.touched[x0 + i] = 0
            found, descent = True, gradient
        if found:
            _step_row(net, eli, work, opt, feedback, average, layer, i, descent)


@kernel
def _bounded_rate(net, eli, work, scale, rate, loss):  # type: ignore[no-untyped-def]
    """Cut the rate so that the linearised loss does not fall below 0."""
    square = 0.0
    for layer in range(len(net.threshold)):
        n, x0, w0 = net.sizes[layer + 1], net.x_at[layer], net.w_at[layer]
        factor = work.signal[net.u_at[layer] : net.u_at[layer + 1]]
        for i in range(net.rows[layer]):
            if eli.touched[x0 + i]:
                g = eli.gradient[w0 + i * n : w0 + (i + 1) * n]
                for j in range(n):
                    square += (scale * g[j] * factor[j]) ** 2
    return min(rate, loss / square) if square > 0 else 0.0


@kernel
def _reward_of(dec, work, opt, label, values):  # type: ignore[no-untyped-def]
    """The window's reward; where a class was told instead, 1 if it is the one that is said, else 0."""
    if len(values) > 0:
        return float(values[label, 0])
    n_classes = len(work.logits) // opt.population
    decode_scores(dec, work.logits[:n_classes])
    return 1.0 if np.argmax(work.logits[:n_classes]) == label else 0.0


@kernel
def close_window(net, state, eli, work, window, opt, feedback, penalty, decays, dec, average, label, values):  # type: ignore[no-untyped-def]
    """Learn from the window that ends here, and begin the next; the eligibility goes on."""
    top = len(net.threshold) - 1
    a = net.u_at[top]
    steps = window.tally[0]
    at_end = opt.objective > MEMBRANE_MSE and opt.objective != REWARD
    learn = steps > 0 and (label != UNLABELLED or opt.objective <= MEMBRANE_MSE)
    if learn and opt.objective >= LATENCY_CE and opt.objective != REWARD:
        force_spikes(net, eli, window, decays, opt.population, label)
    traces = eli.rests[0] == 0 or opt.decays_rate > 0  # else they wait; but they must have moved before decays do
    if learn:
        work.updates[0] += 1
        work.signal[:] = 1.0
        scale, loss = 1.0 / steps, window.loss[0] / steps
        if at_end:
            scale = 1.0
            loss = window_error(opt.objective, window, label, opt.population, work.error)
            cut_small(work.error, opt.error_threshold)
            send_down(net, feedback, work.ones, work.error, work.signal, work.credit)
            for j in range(a):
                work.signal[j] *= window.credit[0]
            copy(work.signal[a:], work.error)
            if penalty.on:
                summed = 1 if is_single(opt.objective) else steps
                for layer in range(top):
                    lo, hi = net.u_at[layer], net.u_at[layer + 1]
                    work.credit[lo:hi] = 0.0
                    penalise(penalty, work.rate_hz[lo:hi], work.credit[lo:hi])
                    for j in range(lo, hi):  # as a mean of steps; the filtered eligibility is 1 / (1 - kappa) the plain
                        work.signal[j] += (1.0 - eli.kappa[layer]) * work.credit[j] / summed
        if opt.objective == REWARD:
            reward = _reward_of(dec, work, opt, label, values)
            scale *= reward - work.reward[0]
            loss *= abs(reward - work.reward[0])
            work.reward[1] = min(work.reward[1] + 1.0, float(REWARD_WINDOWS))
            work.reward[0] += (reward - work.reward[0]) / work.reward[1]
        rate = opt.rate
        if opt.optimizer == BOUNDED:
            flush(net, eli)
            rate = _bounded_rate(net, eli, work, scale, rate, loss)
        for layer in range(top + 1):
            _end_and_step(net, eli, work, opt, feedback, average, layer, scale, rate, traces)
        if traces:
            next_block(eli)
        if feedback.kind == SYMMETRIC:
            mirror(net, feedback)
        if opt.decays_rate > 0:
            learn_decays(net, eli, decays, work.signal, scale, rate * opt.decays_rate)
    else:
        eli.asks[0] = 0
        if traces:
            flush(net, eli)
        eli.touched[:] = 0
        decays.gradient[:] = 0.0
    if eli.filled[0] > 0:
        eli.waits[0] = 1
        eli.asks[0] = 0
    clear_window(window)
    decode_close(dec)
