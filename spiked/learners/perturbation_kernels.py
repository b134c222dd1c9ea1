"""The compiled path of `perturbation`: a network and its perturbed copies, what they lose, and what is made of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, UNLABELLED
from spiked.learners.counter import word
from spiked.learners.decoders import Decoder, decode_close, decode_scores, decode_step
from spiked.learners.dynamics import lif_step
from spiked.learners.jit import kernel
from spiked.learners.lif import Lif, LifState


class Nets(NamedTuple):
    """The network and its copies: W, ``W + delta`` and ``W - delta`` (with one copy only, `minus` is `net` itself)."""

    net: Lif
    plus: Lif
    minus: Lif


class Draws(NamedTuple):
    """Where the perturbations come from: delta is a function of these alone.

    Attributes
    ----------
    key : uint64[1]; of the random numbers.
    windows : int64[1]; windows that have taught.
    drawn : int64[rows of all layers]; `windows` when each row was drawn last.
    """

    key: NDArray[np.uint64]
    windows: NDArray[np.int64]
    drawn: NDArray[np.int64]


class Window(NamedTuple):
    """What the window has gathered, and room to work in.

    Attributes
    ----------
    clock : int64[2]; steps since the copies left the network, labelled ones among them.
    loss : float64[2]; sums over the labelled steps, of `plus` and of `minus`.
    judged : float64[2]; their means over the last window that taught.
    touched : uint8[rows]; whether the compared networks used the row in the window.
    logits, scores : float64[K]; room.
    """

    clock: NDArray[np.int64]
    loss: NDArray[np.float64]
    judged: NDArray[np.float64]
    touched: NDArray[np.uint8]
    logits: NDArray[np.float64]
    scores: NDArray[np.float64]


class Live(NamedTuple):
    """One set of dynamics: those of the network and of its copies, the read-out, the window."""

    state: LifState
    plus: LifState
    minus: LifState
    decoder: Decoder
    window: Window


class Options(NamedTuple):
    """What a compiled run needs to know of the specification."""

    antithetic: bool
    sigma: float
    rate: float


@kernel
def _add_signs(draws, row, weight, source, size):  # type: ignore[no-untyped-def]
    """``weight = source + size * signs``, the signs being the row's: 64 to a random word."""
    key = word(word(draws.key[0], np.uint64(row)), np.uint64(draws.drawn[row]))
    n = len(weight)
    for block in range((n + 63) // 64):
        bits = word(key, np.uint64(block))
        for j in range(64 * block, min(n, 64 * block + 64)):
            sign = 1.0 if bits & np.uint64(1) else -1.0
            weight[j] = source[j] + size * sign
            bits >>= np.uint64(1)


@kernel
def _perturb_row(nets, draws, opt, row, at, n):  # type: ignore[no-untyped-def]
    source = nets.net.weight[at : at + n]
    _add_signs(draws, row, nets.plus.weight[at : at + n], source, opt.sigma)
    if opt.antithetic:
        _add_signs(draws, row, nets.minus.weight[at : at + n], source, -opt.sigma)


@kernel
def perturb_all(nets, draws, opt):  # type: ignore[no-untyped-def]
    """Make the copies anew from the network and the draws."""
    net = nets.net
    for layer in range(len(net.rows)):
        n = net.sizes[layer + 1]
        for i in range(net.rows[layer]):
            _perturb_row(nets, draws, opt, net.x_at[layer] + i, net.w_at[layer] + i * n, n)


@kernel
def close_window(nets, live, draws, opt):  # type: ignore[no-untyped-def]
    """Compare the copies, change the network, perturb it anew where it was used; and begin the next window.

    A row that no event touched had no part in the losses. It keeps its weights, which spares them the noise of all
    others' perturbations, and its draw, which is as good as new.
    """
    net, window = nets.net, live.window
    labelled = window.clock[1]
    if labelled > 0:
        window.judged[0] = window.loss[0] / labelled
        window.judged[1] = window.loss[1] / labelled
        difference = window.judged[0] - window.judged[1]
        accepted = difference < 0.0 and opt.rate > 0.0
        step = opt.rate * difference / (2.0 * opt.sigma)  # over sigma squared, times delta = sigma * signs
        draws.windows[0] += 1
        for layer in range(len(net.rows)):
            n = net.sizes[layer + 1]
            for i in range(net.rows[layer]):
                row = net.x_at[layer] + i
                if window.touched[row]:
                    at = net.w_at[layer] + i * n
                    weight = net.weight[at : at + n]
                    if opt.antithetic:
                        _add_signs(draws, row, weight, weight, -step)
                    elif accepted:
                        weight[:] = nets.plus.weight[at : at + n]
                    draws.drawn[row] = draws.windows[0]
                    _perturb_row(nets, draws, opt, row, at, n)
    drop_window(live)


@kernel
def drop_window(live):  # type: ignore[no-untyped-def]
    """Forget what the window has gathered; the copies start again from where the network is."""
    live.window.clock[:] = 0
    live.window.loss[:] = 0.0
    live.window.touched[:] = 0


@kernel
def _branch(state, copy):  # type: ignore[no-untyped-def]
    """Put a copy where the network is; all but the counts of spikes."""
    copy.membrane[:] = state.membrane
    copy.spike[:] = state.spike
    copy.current[:] = state.current
    copy.adaptation[:] = state.adaptation
    copy.wait[:] = state.wait
    copy.spiked[:] = state.spiked
    copy.n_spiked[:] = state.n_spiked
    copy.line[:] = state.line
    copy.line_now[:] = state.line_now


@kernel
def _touch(net, state, touched, recurrent):  # type: ignore[no-untyped-def]
    """Mark the rows that spikes use: within their own layer (before the step that hears them), or above (after it)."""
    for layer in range(0 if recurrent else 1, len(net.rows)):
        if recurrent and not net.recurrent[layer]:
            continue
        source = layer if recurrent else layer - 1
        first = net.x_at[layer] + (net.sizes[layer] if recurrent else 0)
        spiked = state.spiked[net.u_at[source] : net.u_at[source + 1]]
        for k in range(state.n_spiked[source]):
            touched[first + spiked[k]] = 1


@kernel
def _loss(membrane, label, logits):  # type: ignore[no-untyped-def]
    """Cross entropy of one step, ``-log softmax(U)[label]``, U of a class being the mean of its neurons'."""
    p = len(membrane) // len(logits)
    top = -math.inf
    for k in range(len(logits)):
        mean = 0.0
        for j in range(k * p, (k + 1) * p):
            mean += membrane[j]
        logits[k] = mean / p
    for k in range(len(logits)):
        top = max(top, logits[k])
    total = 0.0
    for k in range(len(logits)):
        total += math.exp(logits[k] - top)
    return math.log(total) + top - logits[label]


@kernel
def read_out(live, out_scores, out_spikes, row):  # type: ignore[no-untyped-def]
    """A row of the read-out: the scores, and the spikes since the row before."""
    scores, total = live.window.scores, live.state.total
    decode_scores(live.decoder, scores)
    for k in range(len(scores)):
        out_scores[row, k] = scores[k]
    for layer in range(len(total)):
        out_spikes[row, layer] = total[layer]
        total[layer] = 0


@kernel
def run_steps(  # type: ignore[no-untyped-def]
    bundle, indptr, indices, counts, flags, labels, learn, out_scores, out_spikes
):
    """All steps of a run."""
    nets, live, draws, opt = bundle.parts
    net, window = nets.net, live.window
    top = len(net.rows) - 1
    a, b = net.u_at[top], net.u_at[top + 1]
    row = 0
    for t in range(len(indptr) - 1):
        rows, of_each = indices[indptr[t] : indptr[t + 1]], counts[indptr[t] : indptr[t + 1]]
        if learn:
            if window.clock[0] == 0:
                _branch(live.state, live.plus)
                _branch(live.state, live.minus)
            window.clock[0] += 1
            _touch(net, live.plus, window.touched, True)
            _touch(net, live.minus, window.touched, True)
            lif_step(nets.plus, live.plus, rows, of_each)
            if opt.antithetic:
                lif_step(nets.minus, live.minus, rows, of_each)
        lif_step(net, live.state, rows, of_each)
        decode_step(live.decoder, live.state.spike[a:b], live.state.membrane[a:b])
        if learn:
            for k in range(len(rows)):
                window.touched[rows[k]] = 1
            _touch(net, live.plus, window.touched, False)
            _touch(net, live.minus, window.touched, False)
            if labels[t] != UNLABELLED:
                window.clock[1] += 1
                window.loss[0] += _loss(live.plus.membrane[a:b], labels[t], window.logits)
                window.loss[1] += _loss(live.minus.membrane[a:b], labels[t], window.logits)
        if flags[t]:
            read_out(live, out_scores, out_spikes, row)
            row += 1
            if flags[t] & CLOSE:
                if learn:
                    close_window(nets, live, draws, opt)
                decode_close(live.decoder)
