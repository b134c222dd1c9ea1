"""The compiled path of `rtrl`: what one step does, from the layers to the learning signal and the weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, UNLABELLED
from spiked.learners.dynamics import copy, fire, integrate, integrate_spikes, leak, next_step
from spiked.learners.feedback import SYMMETRIC, send_down
from spiked.learners.influence_origins import forget, see, settle
from spiked.learners.influence_rows import accumulate, take_rows, tick
from spiked.learners.jit import inlined, kernel
from spiked.learners.objectives import membrane_error
from spiked.learners.surrogates import surrogate_row


class Work(NamedTuple):
    """Vectors that a step works with, one entry per neuron unless said.

    `distance` is U - theta, `signal` dL/dS of a hidden neuron, `credit` its dL/dU; these and `psi` in the type of the
    weights. `error`, `logits` and `score` have an entry per output.
    """

    distance: NDArray[np.floating]
    psi: NDArray[np.floating]
    signal: NDArray[np.floating]
    credit: NDArray[np.floating]
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
def _through_rows(weight, source, into):  # type: ignore[no-untyped-def]
    """``into[j] = sum_k weight[j, k] source[k]``, rows that lie one after the other."""
    m, zero = len(source), source[0] - source[0]
    for j in range(len(into)):
        total = zero
        for k in range(m):
            total += weight[j * m + k] * source[k]
        into[j] = total


@kernel
def _lazy_at_output(g, span, now, source, xhat, origin, of_origin, signal):  # type: ignore[no-untyped-def]
    """Take what is lazy about the output's weights, ``xhat G``, out of the signal; `of_origin` has room for G's."""
    for o in range(len(g)):
        total = 0.0
        for k in range(len(source)):
            total += g[o, k] * source[k]
        of_origin[o] = total
    for o in range(len(g)):
        if o != now:
            of_origin[o] += span[o, 0] * of_origin[now]
    for j in range(len(signal)):
        signal[j] -= xhat[j] * of_origin[origin[j]]


@kernel
def _lazy_at_hidden(net, inf, source, layer, signal):  # type: ignore[no-untyped-def]
    """Take what is lazy about a hidden layer's weights, ``F K1 + xhat K2``, out of the signal of the one below."""
    m, b, x0, w0 = len(source), net.u_at[layer], inf.x_at[layer], net.w_at[layer]
    for j in range(len(signal)):
        total = 0.0
        at, xhat, o = w0 + j * m, inf.xhat[x0 + j], inf.origin[x0 + j]
        if inf.seen_at[layer, o] != inf.clock[0]:
            see(net, inf, layer, o)
        for k in range(m):
            total += (inf.filtered[at + k] * inf.seen_k1[o, b + k] + xhat * inf.seen_k2[o, b + k]) * source[k]
        signal[j] -= total


@inlined
def _send_down(net, inf, work, feedback):  # type: ignore[no-untyped-def]
    """Learning signal of every hidden layer; it counts even where psi is 0 now: earlier eligibility meets it.

    Symmetric feedback goes through the weights as they stand at this step, so a layer at a time.
    """
    top = len(net.threshold) - 1
    if feedback.kind != SYMMETRIC:
        send_down(net, feedback, work.psi, work.error, work.signal, work.credit)
        return
    copy(work.credit[net.u_at[top] :], work.error)
    for layer in range(top - 1, -1, -1):
        a, b, c = net.u_at[layer], net.u_at[layer + 1], net.u_at[layer + 2]
        x0, x1 = inf.x_at[layer + 1], inf.x_at[layer + 2]
        source, signal, credit, psi = work.credit[b:c], work.signal[a:b], work.credit[a:b], work.psi[a:b]
        _through_rows(net.weight[net.w_at[layer + 1] :], source, signal)
        if layer + 1 == top:
            now, span, xhat, origin = inf.now[top], inf.span[top], inf.xhat[x0:x1], inf.origin[x0:x1]
            _lazy_at_output(inf.g[:, b:c], span, now, source, xhat, origin, inf.source, signal)
        else:
            _lazy_at_hidden(net, inf, source, layer + 1, signal)
        for j in range(b - a):
            credit[j] = signal[j] * psi[j]


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
    bundle, indptr, indices, counts, flags, labels, values, learn, out_scores, out_spikes
):
    """All steps of a run: the whole learner; the bundle is of network, state, influence, work, feedback and options."""
    net, state, inf, work, feedback, opt = bundle.parts
    top = len(net.threshold) - 1
    a = net.u_at[top]
    row = 0
    for t in range(len(indptr) - 1):
        lo, hi = indptr[t], indptr[t + 1]
        if learn:
            inf.clock[0] += 1
        for layer in range(top + 1):
            leak(net, state, layer)
            if learn:
                tick(net, inf, layer)
            u = state.membrane[net.u_at[layer] : net.u_at[layer + 1]]
            if layer == 0:
                if learn:
                    take_rows(net, inf, 0, indices[lo:hi], counts[lo:hi], hi - lo, u)
                else:
                    integrate(net, state, 0, indices[lo:hi], counts[lo:hi], hi - lo, 0)
            elif learn:
                below = state.spiked[net.u_at[layer - 1] : net.u_at[layer]]
                take_rows(net, inf, layer, below, inf.ones, state.n_spiked[layer - 1], u)
            else:
                integrate_spikes(net, state, layer, layer - 1)
            fire(net, state, layer)
        next_step(net, state)
        for k in range(len(work.score)):
            said = state.spike[a + k] if opt.by_rate else state.membrane[a + k]
            work.score[k] += (1.0 - opt.score_decay) * (said - work.score[k])
        if learn:
            _learn_step(net, state, inf, work, opt, feedback, np.int64(labels[t]), values)
        if flags[t]:
            read_out(state, work, out_scores, out_spikes, row)
            row += 1
            if learn and flags[t] & CLOSE:
                settle_all(net, inf)


@kernel
def rest(net, inf):  # type: ignore[no-untyped-def]
    """Settle and forget: after it, nothing lazy hangs on the weights."""
    settle_all(net, inf)
    forget(net, inf)
