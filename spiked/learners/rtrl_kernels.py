"""The compiled path of `rtrl`: what one step does, from the layers to the learning signal, and how a window closes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, UNLABELLED
from spiked.learners.dynamics import fire, integrate, integrate_spikes, leak, next_step
from spiked.learners.influence import accumulate, add_rows, forget, row_events, settle, tick
from spiked.learners.jit import kernel
from spiked.learners.objectives import RATE_CE, membrane_error, softmax_error
from spiked.learners.optimizers import apply_row
from spiked.learners.surrogates import surrogate


class Work(NamedTuple):
    """Vectors that a step works with, one entry per neuron unless said; window sums live here too.

    `signal` is dL/dS of a hidden neuron, `credit` its dL/dU. `error`, `counts`, `score` have an entry per output;
    `tally` holds the number of labelled steps in the window.
    """

    psi: NDArray[np.float64]
    signal: NDArray[np.float64]
    credit: NDArray[np.float64]
    error: NDArray[np.float64]
    counts: NDArray[np.float64]
    score: NDArray[np.float64]
    tally: NDArray[np.int64]


class Options(NamedTuple):
    """What a compiled run needs to know of the specification."""

    objective: int
    surrogate: int
    slope: float
    feedback: int
    immediate: bool
    optimizer: int
    rate: float
    by_rate: bool
    score_decay: float


@kernel
def _send_down(net, inf, work, opt, feedback, b_at, layer):  # type: ignore[no-untyped-def]
    """Learning signal of a hidden layer: from the layer above (symmetric, random) or from the output (direct).

    It counts even where psi is 0 now: it meets the eligibility of earlier steps.
    """
    a, b = net.u_at[layer], net.u_at[layer + 1]
    source = work.error if opt.feedback == 2 else work.credit[b : net.u_at[layer + 2]]
    m = len(source)
    if opt.feedback == 0:
        w0, x0 = net.w_at[layer + 1], inf.x_at[layer + 1]
        upper = net.weight
        for j in range(b - a):
            total = 0.0
            at = w0 + j * m
            for k in range(m):
                total += upper[at + k] * source[k]
            work.signal[a + j] = total
        if opt.immediate and layer + 2 == len(net.threshold):  # what is lazy about the weights above
            g_source = 0.0
            for k in range(m):
                g_source += inf.g[b + k] * source[k]
            for j in range(b - a):
                work.signal[a + j] -= inf.xhat[x0 + j] * g_source
        elif opt.immediate:
            for j in range(b - a):
                total = 0.0
                at, xhat = w0 + j * m, inf.xhat[x0 + j]
                for k in range(m):
                    total += (inf.filtered[at + k] * inf.k1[b + k] + xhat * inf.k2[b + k]) * source[k]
                work.signal[a + j] -= total
    else:
        for j in range(b - a):
            at = b_at[layer] + j * m
            total = 0.0
            for k in range(m):
                total += feedback[at + k] * source[k]
            work.signal[a + j] = total
    for j in range(a, b):
        work.credit[j] = work.signal[j] * work.psi[j]


@kernel
def _send_all_down(net, inf, work, opt, feedback, b_at):  # type: ignore[no-untyped-def]
    """Carry the output's error down through every layer."""
    top = len(net.threshold) - 1
    a = net.u_at[top]
    for k in range(len(work.error)):
        work.signal[a + k] = work.error[k]
        work.credit[a + k] = work.error[k]
    for layer in range(top - 1, -1, -1):
        _send_down(net, inf, work, opt, feedback, b_at, layer)


@kernel
def _learn_step(net, state, inf, work, opt, feedback, b_at, label, values):  # type: ignore[no-untyped-def]
    """Move the influence of every layer on by this step."""
    top = len(net.threshold) - 1
    a = net.u_at[top]
    n_all = net.u_at[top + 1]
    for layer in range(top + 1):
        theta = net.threshold[layer]
        for j in range(net.u_at[layer], net.u_at[layer + 1]):
            work.psi[j] = surrogate(opt.surrogate, state.membrane[j] - theta, opt.slope)
    if label == UNLABELLED:
        work.signal[:] = 0.0
    elif opt.objective == RATE_CE:
        work.tally[0] += 1
        for j in range(a):
            work.signal[j] = 1.0
        for j in range(a, n_all):
            work.signal[j] = work.psi[j]
            work.counts[j - a] += state.spike[j]
    else:
        work.tally[0] += 1
        membrane_error(opt.objective, state.membrane[a:n_all], label, values, work.error)
        step_size = opt.rate if opt.immediate else 1.0
        for k in range(len(work.error)):
            work.error[k] *= step_size
        _send_all_down(net, inf, work, opt, feedback, b_at)
    for layer in range(top + 1):
        lo, hi = net.u_at[layer], net.u_at[layer + 1]
        accumulate(net, inf, layer, work.psi[lo:hi], work.signal[lo:hi])


@kernel
def close_window(net, state, inf, work, opt, feedback, b_at, square, label):  # type: ignore[no-untyped-def]
    """Learn from the window that ends here, and begin the next."""
    top = len(net.threshold) - 1
    for layer in range(top + 1):
        settle(net, inf, layer)
    if not opt.immediate:
        scale = 1.0 / max(1, work.tally[0])
        work.signal[:] = 1.0
        learn = work.tally[0] > 0
        if opt.objective == RATE_CE:
            learn = learn and label != UNLABELLED
            scale = 1.0
            if learn:
                softmax_error(work.counts, label, work.error)
                work.psi[:] = 1.0
                _send_all_down(net, inf, work, opt, feedback, b_at)
        for layer in range(top + 1):
            n = net.sizes[layer + 1]
            factor = work.signal[net.u_at[layer] : net.u_at[layer + 1]]
            for i in range(net.sizes[layer]):
                entry = inf.x_at[layer] + i
                if inf.touched[entry]:
                    at = net.w_at[layer] + i * n
                    if learn:
                        apply_row(
                            opt.optimizer, net.weight[at : at + n], inf.sink[at : at + n], factor, scale,
                            square[at : at + n], opt.rate,
                        )  # fmt: skip
                    else:
                        inf.sink[at : at + n] = 0.0
                    inf.touched[entry] = inf.is_live[entry]
    work.counts[:] = 0.0
    work.tally[:] = 0


@kernel
def read_out(state, work, out_scores, out_spikes, row):  # type: ignore[no-untyped-def]
    """A row of the read-out: the scores, and the spikes since the row before."""
    for k in range(len(work.score)):
        out_scores[row, k] = work.score[k]
    for layer in range(len(state.total)):
        out_spikes[row, layer] = state.total[layer]
        state.total[layer] = 0


@kernel
def run_steps(  # type: ignore[no-untyped-def]
    net,
    state,
    inf,
    work,
    opt,
    feedback,
    b_at,
    square,
    steps,
    cues,
    learn,
    out_scores,
    out_spikes,
):
    """All steps of a run: the whole learner, top to bottom."""
    top = len(net.threshold) - 1
    a = net.u_at[top]
    row = 0
    for t in range(len(steps.indptr) - 1):
        lo, hi = steps.indptr[t], steps.indptr[t + 1]
        if learn:
            inf.clock[0] += 1
        for layer in range(top + 1):
            leak(net, state, layer)
            if learn:
                tick(net, inf, layer)
            u = state.membrane[net.u_at[layer] : net.u_at[layer + 1]]
            if layer == 0:
                indices, counts = steps.indices[lo:hi], steps.counts[lo:hi]
                if learn and opt.immediate:
                    add_rows(net, inf, 0, indices, counts, hi - lo, u)
                else:
                    integrate(net, state, 0, indices, counts, hi - lo, 0)
                if learn:
                    row_events(net, inf, 0, indices, counts, hi - lo)
            else:
                below = state.spiked[net.u_at[layer - 1] : net.u_at[layer]]
                n_below = state.n_spiked[layer - 1]
                if learn and opt.immediate:
                    add_rows(net, inf, layer, below, inf.ones, n_below, u)
                else:
                    integrate_spikes(net, state, layer, layer - 1)
                if learn:
                    row_events(net, inf, layer, below, inf.ones, n_below)
            fire(net, state, layer)
        next_step(net, state)
        for k in range(len(work.score)):
            said = state.spike[a + k] if opt.by_rate else state.membrane[a + k]
            work.score[k] = opt.score_decay * work.score[k] + (1.0 - opt.score_decay) * said
        if learn:
            _learn_step(net, state, inf, work, opt, feedback, b_at, cues.labels[t], cues.values)
        if cues.flags[t]:
            read_out(state, work, out_scores, out_spikes, row)
            row += 1
            if learn and cues.flags[t] & CLOSE:
                close_window(net, state, inf, work, opt, feedback, b_at, square, cues.labels[t])


@kernel
def settle_all(net, inf):  # type: ignore[no-untyped-def]
    """Write what is lazy into the sink, in every layer."""
    for layer in range(len(net.threshold)):
        settle(net, inf, layer)


@kernel
def rest(net, inf):  # type: ignore[no-untyped-def]
    """Settle and forget: after it, the influence holds nothing but the sink."""
    settle_all(net, inf)
    forget(net, inf)
