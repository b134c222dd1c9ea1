"""The compiled path of `gradient`: what one step does, from the layers to the learning signal.

::

    layers (dynamics) -> events noted (eligibility) -> psi, error (objectives), signal (feedback) -> block
    window closes: see `closing`
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.closing import close_window, cut_small
from spiked.learners.contract import CLOSE, UNLABELLED, Steps
from spiked.learners.counter import word
from spiked.learners.decoders import decode_close, decode_scores, decode_step
from spiked.learners.dynamics import copy, fire, integrate, integrate_spikes, leak, next_step
from spiked.learners.eligibility_kernels import flush, is_between, is_full, note_events
from spiked.learners.feedback import LOCAL, Feedback, follow_local, local_signals, send_down
from spiked.learners.jit import inlined, kernel
from spiked.learners.objectives import MEMBRANE_MSE, REWARD, membrane_error
from spiked.learners.plasticity import follow_decays
from spiked.learners.regularisers import follow_rates, penalise
from spiked.learners.surrogates import NOISY_SPIKE, noise, surrogate_row
from spiked.learners.window import gather


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


@inlined
def _find_psi(net, state, eli, work, opt):  # type: ignore[no-untyped-def]
    """Surrogate of every neuron at its distance to threshold; 0 while it is held at rest."""
    n_all = net.u_at[len(net.threshold)]
    psi, v = eli.psi[eli.filled[0]], work.distance
    for layer in range(len(net.threshold)):
        a, b, theta = net.u_at[layer], net.u_at[layer + 1], net.threshold[layer]
        distance, u, adaptation = v[a:b], state.membrane[a:b], state.adaptation[a:b]
        for j in range(b - a):
            distance[j] = u[j] - adaptation[j]
        for j in range(b - a):  # apart: see `jit.kernel`
            distance[j] -= theta
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


@inlined
def _learn_step(net, state, eli, work, window, opt, feedback, penalty, decays, dec, label, values):  # type: ignore[no-untyped-def]
    """Note this step's psi and signals in the block."""
    top = len(net.threshold) - 1
    a, n_all = net.u_at[top], net.u_at[top + 1]
    now = eli.filled[0]
    _find_psi(net, state, eli, work, opt)
    signal, direct = eli.signal[now, :a], eli.direct[now]
    direct[0 if penalty.on else a :] = 0.0  # of a hidden layer it is the penalty's alone
    if penalty.on:
        follow_rates(state, work.rate_hz, opt.keep_rate, opt.step_s)
    if feedback.kind == LOCAL:
        follow_local(net, state, feedback)
    each_step = opt.objective <= MEMBRANE_MSE or opt.objective == REWARD
    if label == UNLABELLED or not each_step:
        signal[:] = 0.0
    if label != UNLABELLED:
        eli.asks[0] = 1
        window.tally[0] += 1
        if each_step:
            u = state.membrane[a:n_all]
            if opt.objective == REWARD:
                decode_scores(dec, work.logits[: len(work.logits) // opt.population])
                said = np.argmax(work.logits[: len(work.logits) // opt.population])
                loss = membrane_error(0, u, said, values[:0], opt.population, work.logits, work.error)
            else:
                loss = membrane_error(opt.objective, u, label, values, opt.population, work.logits, work.error)
            window.loss[0] += loss
            cut_small(work.error, opt.error_threshold)
            if feedback.kind == LOCAL:
                copy(work.credit[a:], work.error)
                window.loss[0] += local_signals(
                    net, feedback, opt.objective, label, values, opt.population, work.logits, work.error, signal
                )
                copy(work.error, work.credit[a:])
            else:
                send_down(net, feedback, eli.psi[now], work.error, signal, work.credit)
            copy(direct[a:], work.error)
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
def read_out(state, dec, work, out_scores, out_spikes, row):  # type: ignore[no-untyped-def]
    """A row of the read-out: the scores, and the spikes since the row before."""
    n_classes = out_scores.shape[1]
    decode_scores(dec, work.logits[:n_classes])
    for k in range(n_classes):
        out_scores[row, k] = work.logits[k]
    for layer in range(len(state.total)):
        out_spikes[row, layer] = state.total[layer]
        state.total[layer] = 0


@inlined
def _run_layers(net, state, eli, ones, steps, t, learn):  # type: ignore[no-untyped-def]
    """Let the layers run through step `t`, and note their events."""
    lo, hi = steps.indptr[t], steps.indptr[t + 1]
    for layer in range(len(net.threshold)):
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


@kernel
def run_steps(  # type: ignore[no-untyped-def]
    bundle, indptr, indices, counts, flags, labels, values, learn, out_scores, out_spikes
):
    """All steps of a run: the whole learner, top to bottom."""
    net, state, eli, work, window, general, local, penalty, decays, dec, average, ones, opt = bundle.parts
    steps = Steps(0, indptr, indices, counts)
    feedback = Feedback(general.kind, general.matrix, general.at, local, general.decay)
    a = net.u_at[len(net.threshold) - 1]
    row = 0
    for t in range(len(indptr) - 1):
        label = np.int64(labels[t])
        if learn:
            if is_between(eli):
                eli.rests[0] = 0
            if eli.waits[0] or is_full(net, eli):
                flush(net, eli)
                window.snap[:] = -1
            eli.clock[0] += 1
        _run_layers(net, state, eli, ones, steps, t, learn)
        decode_step(dec, state.spike[a:], state.membrane[a:])
        if learn:
            _learn_step(net, state, eli, work, window, opt, feedback, penalty, decays, dec, label, values)
        if flags[t]:
            read_out(state, dec, work, out_scores, out_spikes, row)
            row += 1
            if flags[t] & CLOSE:
                if learn:
                    close_window(
                        net, state, eli, work, window, opt, feedback, penalty, decays, dec, average, label, values
                    )
                else:
                    decode_close(dec)
