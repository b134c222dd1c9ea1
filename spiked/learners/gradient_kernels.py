"""The compiled path of `gradient`: what one step does, from the layers to the learning signal, and how a window closes.

::

    layers (dynamics) -> events noted (eligibility) -> psi, error (objectives), signal (feedback) -> block
    window closes: block flushed into the gradient -> error of the window -> step (optimizers)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, UNLABELLED
from spiked.learners.counter import word
from spiked.learners.decoders import decode_close, decode_scores, decode_step
from spiked.learners.dynamics import fire, integrate, integrate_spikes, leak, next_step
from spiked.learners.eligibility_kernels import flush, is_full, note_events
from spiked.learners.feedback import ADAPTIVE, LOCAL, SYMMETRIC, follow_local, local_signals, mirror, send_down
from spiked.learners.jit import kernel
from spiked.learners.objectives import (
    LATENCY_CE,
    MEMBRANE_MSE,
    REWARD,
    membrane_error,
    window_error,
)
from spiked.learners.optimizers import BOUNDED, apply_row
from spiked.learners.plasticity import follow_decays, learn_decays
from spiked.learners.regularisers import follow_rates, penalise
from spiked.learners.surrogates import NOISY_SPIKE, noise, surrogate_row
from spiked.learners.window import clear_window, force_spikes, gather, is_single

ALIGN_DECAY = 0.5
"""Where feedback adapts: share of a weight, and of its feedback, that a window takes away, at a rate of 1."""
REWARD_WINDOWS = 100
"""The mean that a reward is held against forgets within so many windows."""


class Work(NamedTuple):
    """Room to work in, and what outlives a window.

    Attributes
    ----------
    distance : float[N]; of each neuron's membrane to its threshold at this step.
    slope : float[1]; of the surrogate, in the type of the weights.
    signal, credit : float[N]; dLoss/dS and dLoss/dU of each neuron at this step.
    ones : float[N].
    error : float[n_out]; of the output neurons.
    logits : float64[n_out].
    rate_hz : float64[N]; running rates, for the regularisers.
    row, factor : float[widest]; a row of weights as it was, and what a layer's gradient is multiplied by.
    scale, rate : float[1]; of a step, in the type of the weights.
    reward : float64[2]; mean reward, and how many made it.
    updates : int64[1]; windows that have taught, ever: with the clock they number the noise.
    """

    distance: NDArray[np.floating]
    slope: NDArray[np.floating]
    signal: NDArray[np.floating]
    credit: NDArray[np.floating]
    ones: NDArray[np.floating]
    error: NDArray[np.floating]
    logits: NDArray[np.float64]
    rate_hz: NDArray[np.float64]
    row: NDArray[np.floating]
    factor: NDArray[np.floating]
    scale: NDArray[np.floating]
    rate: NDArray[np.floating]
    reward: NDArray[np.float64]
    updates: NDArray[np.int64]


class Options(NamedTuple):
    """What a compiled run needs to know of the specification."""

    objective: int
    surrogate: int
    optimizer: int
    rate: float
    error_threshold: float
    decays_rate: float
    population: int
    key: np.uint64
    keep_rate: float
    step_s: float


@kernel
def _find_psi(net, state, eli, work, opt):  # type: ignore[no-untyped-def]
    """Surrogate of every neuron at its distance to threshold; 0 while it is held at rest."""
    n_all = net.u_at[len(net.threshold)]
    psi, v = eli.psi[eli.filled[0]], work.distance
    for layer in range(len(net.threshold)):
        theta = net.threshold[layer]
        for j in range(net.u_at[layer], net.u_at[layer + 1]):
            v[j] = state.membrane[j] - theta - state.adaptation[j]
    surrogate_row(opt.surrogate, v, work.slope, psi)
    if opt.surrogate == NOISY_SPIKE:
        key = word(word(opt.key, np.uint64(work.updates[0])), np.uint64(eli.clock[0]))
        for j in range(n_all):
            if v[j] <= 0:
                psi[j] *= noise(key, np.uint64(j))
    for layer in range(len(net.threshold)):
        hold = net.hold[layer]
        if hold > 0:
            for j in range(net.u_at[layer], net.u_at[layer + 1]):
                if 0 < state.wait[j] <= hold:
                    psi[j] = 0


@kernel
def _cut_small(error, least):  # type: ignore[no-untyped-def]
    """Error-triggered learning: an error below the threshold teaches nothing (Payvand et al. 2020)."""
    if least > 0:
        for k in range(len(error)):
            if abs(error[k]) < least:
                error[k] = 0.0


@kernel
def _learn_step(net, state, eli, work, window, opt, feedback, penalty, decays, dec, label, values):  # type: ignore[no-untyped-def]
    """Note this step's psi and signals in the block."""
    top = len(net.threshold) - 1
    a, n_all = net.u_at[top], net.u_at[top + 1]
    now = eli.filled[0]
    _find_psi(net, state, eli, work, opt)
    signal, direct = eli.signal[now], eli.direct[now]
    signal[:] = 0.0
    direct[:] = 0.0
    if penalty.on:
        follow_rates(state, work.rate_hz, opt.keep_rate, opt.step_s)
    if feedback.kind == LOCAL:
        follow_local(net, state, feedback)
    if label != UNLABELLED:
        eli.asks[0] = 1
        window.tally[0] += 1
        if opt.objective <= MEMBRANE_MSE or opt.objective == REWARD:
            u = state.membrane[a:n_all]
            if opt.objective == REWARD:
                decode_scores(dec, work.logits[: len(work.logits) // opt.population])
                said = np.argmax(work.logits[: len(work.logits) // opt.population])
                loss = membrane_error(0, u, said, values[:0], opt.population, work.logits, work.error)
            else:
                loss = membrane_error(opt.objective, u, label, values, opt.population, work.logits, work.error)
            window.loss[0] += loss
            _cut_small(work.error, opt.error_threshold)
            if feedback.kind == LOCAL:
                work.credit[a:] = work.error
                window.loss[0] += local_signals(
                    net, feedback, opt.objective, label, values, opt.population, work.logits, work.error, work.signal
                )
                work.error[:] = work.credit[a:]
            else:
                send_down(net, feedback, eli.psi[now], work.error, work.signal, work.credit)
            signal[:a] = work.signal[:a]
            direct[a:] = work.error
            if penalty.on:
                for layer in range(top):
                    lo, hi = net.u_at[layer], net.u_at[layer + 1]
                    penalise(penalty, work.rate_hz[lo:hi], direct[lo:hi])
        else:
            gather(net, state, eli, window, decays, opt.objective, opt.population, label)
    if opt.decays_rate > 0:
        follow_decays(net, state, eli, decays)
    for k in range(n_all - a):
        window.before[k] = state.membrane[a + k]
    eli.filled[0] = now + 1


@kernel
def _step_rows(net, eli, work, opt, feedback, average, layer, scale, rate):  # type: ignore[no-untyped-def]
    """Move the touched rows of one layer down their gradient."""
    n, x0, w0 = net.sizes[layer + 1], net.x_at[layer], net.w_at[layer]
    aligned = feedback.kind == ADAPTIVE and layer > 0
    row, factor, gone = work.row[:n], work.factor[:n], ALIGN_DECAY * rate
    factor[:] = work.signal[net.u_at[layer] : net.u_at[layer + 1]]
    work.scale[0] = -scale
    work.rate[0] = rate
    for i in range(net.rows[layer]):
        if eli.touched[x0 + i]:
            at = w0 + i * n
            weight = net.weight[at : at + n]
            if aligned:
                row[:] = weight
            descent = eli.gradient[at : at + n]
            apply_row(opt.optimizer, weight, descent, factor, work.scale, average[at : at + n], work.rate)
            if aligned and i < net.sizes[layer]:
                at, moved, kept = feedback.at[layer - 1] + i, descent, 1.0 - gone
                for j in range(n):
                    moved[j] = weight[j] - row[j]
                for j in range(n):
                    weight[j] -= gone * row[j]
                for j in range(n):
                    e = at + j * net.sizes[layer]
                    feedback.matrix[e] = moved[j] + kept * feedback.matrix[e]
            eli.touched[x0 + i] = 0


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
    flush(net, eli)
    if learn:
        work.updates[0] += 1
        work.signal[:] = 1.0
        scale, loss = 1.0 / steps, window.loss[0] / steps
        if at_end:
            scale = 1.0
            loss = window_error(opt.objective, window, label, opt.population, work.error)
            _cut_small(work.error, opt.error_threshold)
            send_down(net, feedback, work.ones, work.error, work.signal, work.credit)
            for j in range(a):
                work.signal[j] *= window.credit[0]
            work.signal[a:] = work.error
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
            rate = _bounded_rate(net, eli, work, scale, rate, loss)
        for layer in range(top + 1):
            _step_rows(net, eli, work, opt, feedback, average, layer, scale, rate)
        if feedback.kind == SYMMETRIC:
            mirror(net, feedback)
        if opt.decays_rate > 0:
            learn_decays(net, eli, decays, work.signal, scale, rate * opt.decays_rate)
    else:
        eli.touched[:] = 0
        decays.gradient[:] = 0.0
    clear_window(window)
    decode_close(dec)


@kernel
def read_out(state, dec, work, out_scores, out_spikes, row):  # type: ignore[no-untyped-def]
    """A row of the read-out: the scores, and the spikes since the row before."""
    n_classes = out_scores.shape[1]
    decode_scores(dec, work.logits[:n_classes])
    for k in range(n_classes):
        out_scores[row, k] = work.logits[k]
    for layer in range(len(state.total)):
        out_spikes[row, layer] = state.total[layer]
        state.total[layer] = 0


@kernel
def run_steps(  # type: ignore[no-untyped-def]
    net, state, eli, work, window, opt, feedback, penalty, decays, dec, average, ones, steps, cues, learn, out_scores,
    out_spikes,
):  # fmt: skip
    """All steps of a run: the whole learner, top to bottom."""
    top = len(net.threshold) - 1
    a = net.u_at[top]
    row = 0
    for t in range(len(steps.indptr) - 1):
        lo, hi = steps.indptr[t], steps.indptr[t + 1]
        if learn:
            if is_full(net, eli):
                flush(net, eli)
                window.snap[:] = -1
            eli.clock[0] += 1
        for layer in range(top + 1):
            leak(net, state, layer)
            u0, u1 = net.u_at[layer], net.u_at[layer + 1]
            if net.recurrent[layer]:
                if learn:
                    heard, n_heard = state.spiked[u0:u1], state.n_spiked[layer]
                    note_events(net, eli, layer, heard, ones, n_heard, net.sizes[layer])
                integrate_spikes(net, state, layer, layer)
            if layer == 0:
                indices, counts = steps.indices[lo:hi], steps.counts[lo:hi]
                if learn:
                    note_events(net, eli, 0, indices, counts, hi - lo, 0)
                integrate(net, state, 0, indices, counts, hi - lo, 0)
            else:
                if learn:
                    below = state.spiked[net.u_at[layer - 1] : u0]
                    note_events(net, eli, layer, below, ones, state.n_spiked[layer - 1], 0)
                integrate_spikes(net, state, layer, layer - 1)
            fire(net, state, layer)
        next_step(net, state)
        decode_step(dec, state.spike[a:], state.membrane[a:])
        if learn:
            label = np.int64(cues.labels[t])
            _learn_step(net, state, eli, work, window, opt, feedback, penalty, decays, dec, label, cues.values)
        if cues.flags[t]:
            read_out(state, dec, work, out_scores, out_spikes, row)
            row += 1
            if cues.flags[t] & CLOSE:
                if learn:
                    label = np.int64(cues.labels[t])
                    close_window(
                        net, state, eli, work, window, opt, feedback, penalty, decays, dec, average, label, cues.values
                    )
                else:
                    decode_close(dec)
