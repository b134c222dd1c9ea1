"""The compiled path of `rtrl`: what one step does, from the layers to the learning signal and the weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, UNLABELLED
from spiked.learners.dynamics import copy, fire, integrate, integrate_spikes, leak, next_step
from spiked.learners.feedback import SYMMETRIC, send_down
from spiked.learners.influence_origins import forget, see, settle
from spiked.learners.influence_rows import accumulate, bring_rows, take_rows, tick
from spiked.learners.jit import inlined, kernel
from spiked.learners.objectives import membrane_error
from spiked.learners.surrogates import surrogate_row


class Work(NamedTuple):
    """Vectors that a step works with, one entry per neuron unless said.

    `distance` is U - theta, in the type of the weights as `psi` is. `signal` is dL/dS of a hidden neuron, `credit` its
    dL/dU. `error`, `logits` and `score` have an entry per output.
    """

    distance: NDArray[np.floating]
    psi: NDArray[np.floating]
    signal: NDArray[np.float64]
    credit: NDArray[np.float64]
    error: NDArray[np.float64]
    logits: NDArray[np.float64]
    score: NDArray[np.float64]


class Options(NamedTuple):
    """What a compiled run needs to know of the specification."""

    objective: int
    surrogate: int
    slope: NDArray[np.floating]
    rate: float
    by_rate: bool
    score_decay: float


@kernel
def _add_lazy(net, inf, work, layer):  # type: ignore[no-untyped-def]
    """Take what is lazy about the weights above a hidden layer into its signal and credit."""
    a, b = net.u_at[layer], net.u_at[layer + 1]
    source = work.credit[b : net.u_at[layer + 2]]
    m, x0, w0 = len(source), inf.x_at[layer + 1], net.w_at[layer + 1]
    if layer + 2 == len(net.threshold):
        now = inf.now[layer + 1]
        for o in range(len(inf.g)):
            g_source = 0.0
            for k in range(m):
                g_source += inf.g[o, b + k] * source[k]
            inf.source[o] = g_source
        for o in range(len(inf.g)):
            if o != now:
                inf.source[o] += inf.span[layer + 1, o, 0] * inf.source[now]
        for j in range(b - a):
            work.signal[a + j] -= inf.xhat[x0 + j] * inf.source[inf.origin[x0 + j]]
    else:
        for j in range(b - a):
            total = 0.0
            at, xhat, o = w0 + j * m, inf.xhat[x0 + j], inf.origin[x0 + j]
            if inf.seen_at[layer + 1, o] != inf.clock[0]:
                see(net, inf, layer + 1, o)
            for k in range(m):
                total += (inf.filtered[at + k] * inf.seen_k1[o, b + k] + xhat * inf.seen_k2[o, b + k]) * source[k]
            work.signal[a + j] -= total
    for j in range(a, b):
        work.credit[j] = work.signal[j] * work.psi[j]


@kernel
def _send_down(net, inf, work, feedback):  # type: ignore[no-untyped-def]
    """Learning signal of every hidden layer; it counts even where psi is 0 now: earlier eligibility meets it.

    Symmetric feedback goes through the weights as they stand at this step, so a layer at a time.
    """
    if feedback.kind != SYMMETRIC:
        send_down(net, feedback, work.psi, work.error, work.signal, work.credit)
        return
    top = len(net.threshold) - 1
    copy(work.credit[net.u_at[top] :], work.error)
    for layer in range(top - 1, -1, -1):
        a, b = net.u_at[layer], net.u_at[layer + 1]
        m = net.sizes[layer + 2]
        above = work.credit[b : b + m]
        for j in range(b - a):
            row = net.weight[net.w_at[layer + 1] + j * m : net.w_at[layer + 1] + (j + 1) * m]
            total = 0.0
            for k in range(m):
                total += row[k] * above[k]
            work.signal[a + j] = total
        _add_lazy(net, inf, work, layer)


@inlined
def _learn_step(net, state, inf, work, opt, feedback, label, values):  # type: ignore[no-untyped-def]
    """Move the influence of every layer on by this step, and with it the weights."""
    top = len(net.threshold) - 1
    a, n_all = net.u_at[top], net.u_at[top + 1]
    for layer in range(top + 1):
        theta, lo, hi = net.threshold[layer], net.u_at[layer], net.u_at[layer + 1]
        membrane, distance = state.membrane[lo:hi], work.distance[lo:hi]
        for j in range(hi - lo):
            distance[j] = membrane[j] - theta
        surrogate_row(opt.surrogate, distance, opt.slope, work.psi[lo:hi])
    if label == UNLABELLED:
        for j in range(len(work.signal)):
            work.signal[j] = 0.0
    else:
        membrane_error(opt.objective, state.membrane[a:n_all], label, values, 1, work.logits, work.error)
        for k in range(len(work.error)):
            work.error[k] *= opt.rate
        _send_down(net, inf, work, feedback)
        for k in range(len(work.error)):
            work.signal[a + k] = work.error[k]
    for layer in range(top + 1):
        lo, hi = net.u_at[layer], net.u_at[layer + 1]
        accumulate(net, inf, layer, work.psi[lo:hi], work.signal[lo:hi])


@kernel
def read_out(state, work, out_scores, out_spikes, row):  # type: ignore[no-untyped-def]
    """A row of the read-out: the scores, and the spikes since the row before."""
    for k in range(len(work.score)):
        out_scores[row, k] = work.score[k]
    for layer in range(len(state.total)):
        out_spikes[row, layer] = state.total[layer]
        state.total[layer] = 0


@kernel
def settle_all(net, inf):  # type: ignore[no-untyped-def]
    """Write what is lazy into the weights, in every layer."""
    for layer in range(len(net.threshold)):
        settle(net, inf, layer)


@kernel
def run_steps(  # type: ignore[no-untyped-def]
    bundle, opt, steps, cues, learn, out_scores, out_spikes
):
    """All steps of a run: the whole learner; the bundle is of network, state, influence, work and feedback."""
    net, state, inf, work, feedback = bundle.parts
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
                if learn:
                    bring_rows(net, inf, 0, indices, hi - lo)
                    take_rows(net, inf, 0, indices, counts, hi - lo, u)
                else:
                    integrate(net, state, 0, indices, counts, hi - lo, 0)
            elif learn:
                below = state.spiked[net.u_at[layer - 1] : net.u_at[layer]]
                n_below = state.n_spiked[layer - 1]
                bring_rows(net, inf, layer, below, n_below)
                take_rows(net, inf, layer, below, inf.ones, n_below, u)
            else:
                integrate_spikes(net, state, layer, layer - 1)
            fire(net, state, layer)
        next_step(net, state)
        for k in range(len(work.score)):
            said = state.spike[a + k] if opt.by_rate else state.membrane[a + k]
            work.score[k] += (1.0 - opt.score_decay) * (said - work.score[k])
        if learn:
            _learn_step(net, state, inf, work, opt, feedback, np.int64(cues.labels[t]), cues.values)
        if cues.flags[t]:
            read_out(state, work, out_scores, out_spikes, row)
            row += 1
            if learn and cues.flags[t] & CLOSE:
                settle_all(net, inf)


@kernel
def rest(net, inf):  # type: ignore[no-untyped-def]
    """Settle and forget: after it, nothing lazy hangs on the weights."""
    settle_all(net, inf)
    forget(net, inf)
