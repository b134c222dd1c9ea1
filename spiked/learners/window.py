"""What the output layer gathers over a window, for objectives that are known at its end (`objectives`).

The gradient by a maximum, or by the time of a first spike, is that of one step. Where a later step takes an earlier
one's place, what was gathered for it is let go: within a block by its entry, before that by its column.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.jit import kernel
from spiked.learners.lif import Lif
from spiked.learners.objectives import MAX_MEMBRANE, SUM_MEMBRANE
from spiked.learners.plasticity import let_decays_go

LEAST_RISE = 0.05
"""Least slope of a membrane at its spike, in thresholds a step: a grazing spike has no time to speak of."""


class Window(NamedTuple):
    """Sums of an open window; an entry for each output neuron unless said.

    Attributes
    ----------
    tally : int64[1]; labelled steps.
    loss : float64[1]; the window's loss so far.
    counts : float64[n]; spikes.
    sums : float64[n]; sum of the membrane.
    peak : float64[n]; its maximum.
    first : float64[n]; number of the step of the first spike, from 1; 0: none yet.
    before : float64[n]; the membrane a step before.
    snap : int64[n + 1]; step of the block whose eligibility stands for a maximum or a first spike, -1: none in this
        block; the last is that of the hidden layers.
    credit : float64[1]; what the hidden layers' error is multiplied by: 1, or the derivative of a time by the membrane.
    logits : float64[n]; room to work in.
    """

    tally: NDArray[np.int64]
    loss: NDArray[np.float64]
    counts: NDArray[np.float64]
    sums: NDArray[np.float64]
    peak: NDArray[np.float64]
    first: NDArray[np.float64]
    before: NDArray[np.float64]
    snap: NDArray[np.int64]
    credit: NDArray[np.float64]
    logits: NDArray[np.float64]


def make_window(n: int) -> Window:
    """Build an empty window for `n` output neurons."""
    return Window(
        tally=np.zeros(1, np.int64), loss=np.zeros(1), counts=np.zeros(n), sums=np.zeros(n), peak=np.zeros(n),
        first=np.zeros(n), before=np.zeros(n), snap=np.full(n + 1, -1, np.int64), credit=np.ones(1), logits=np.zeros(n),
    )  # fmt: skip


@kernel
def clear_window(window):  # type: ignore[no-untyped-def]
    """Begin a window."""
    window.tally[0] = 0
    window.loss[0] = 0.0
    window.counts[:] = 0.0
    window.sums[:] = 0.0
    window.peak[:] = 0.0
    window.first[:] = 0.0
    window.snap[:] = -1
    window.credit[0] = 1.0


@kernel
def _take_column(net, eli, window, decays, k, credit):  # type: ignore[no-untyped-def]
    """Let the present step alone stand for output `k`."""
    top = len(net.threshold) - 1
    n, x0, w0 = net.sizes[top + 1], net.x_at[top], net.w_at[top]
    a, now = net.u_at[top], eli.filled[0]
    if window.snap[k] >= 0:
        eli.direct[window.snap[k], a + k] = 0.0
    else:
        for i in range(net.rows[top]):
            if eli.touched[x0 + i]:
                eli.gradient[w0 + i * n + k] = 0.0
    window.snap[k] = now
    eli.direct[now, a + k] = credit
    let_decays_go(decays, a + k, a + k + 1)


@kernel
def _take_hidden(net, eli, window, decays, credit):  # type: ignore[no-untyped-def]
    """Let the present step alone stand for the hidden layers."""
    top = len(net.threshold) - 1
    n, now, last = net.u_at[top], eli.filled[0], len(window.snap) - 1
    if window.snap[last] >= 0:
        eli.signal[window.snap[last], :n] = 0.0
    else:
        eli.touched[: net.x_at[top]] = 0
    window.snap[last] = now
    eli.signal[now, :n] = 1.0
    window.credit[0] = credit
    let_decays_go(decays, 0, n)


@kernel
def is_single(objective):  # type: ignore[no-untyped-def]
    """Whether one step stands for the window, rather than the sum of all."""
    return objective == MAX_MEMBRANE or objective > SUM_MEMBRANE


@kernel
def gather(net, state, eli, window, decays, objective, population, label):  # type: ignore[no-untyped-def]
    """Take in a labelled step; the credit of the outputs, and the signal of the hidden layers, of unit error.

    A hidden layer's eligibility is that of the step which counts for the right class: it is exact where that step
    counts for the others too.
    """
    top = len(net.threshold) - 1
    a, now = net.u_at[top], eli.filled[0]
    n = net.sizes[top + 1]
    theta = float(net.threshold[top])
    u, s = state.membrane[a : a + n], state.spike[a : a + n]
    direct = eli.direct[now, a : a + n]
    if not is_single(objective):
        eli.signal[now, :a] = 1.0
        for k in range(n):
            direct[k] = 1.0 if objective == SUM_MEMBRANE else eli.psi[now, a + k]
            window.counts[k] += s[k]
            window.sums[k] += u[k]
        return
    for k in range(n):
        if objective == MAX_MEMBRANE:
            taken, credit = window.tally[0] == 1 or u[k] >= window.peak[k], 1.0
            if taken:
                window.peak[k] = u[k]
        else:
            taken = window.first[k] == 0.0 and s[k] > 0
            credit = -1.0 / max(u[k] - window.before[k], LEAST_RISE * theta)
            if taken:
                window.first[k] = window.tally[0]
        if taken:
            _take_column(net, eli, window, decays, k, credit)
            if k // population == label:
                _take_hidden(net, eli, window, decays, credit)


@kernel
def force_spikes(net, eli, window, decays, population, label):  # type: ignore[no-untyped-def]
    """Give an output that has not fired its spike at the window's last step, which the open block ends with."""
    top = len(net.threshold) - 1
    a, credit = net.u_at[top], -1.0 / max(float(net.threshold[top]), LEAST_RISE)
    heard = False
    for k in range(len(window.first)):
        if window.first[k] > 0.0:
            heard = heard or k // population == label
    eli.filled[0] -= 1
    for k in range(len(window.first)):
        if window.first[k] == 0.0:
            window.first[k] = window.tally[0]
            _take_column(net, eli, window, decays, k, credit)
            if len(decays.gradient) > 0:
                decays.gradient[a + k] = credit * decays.m[a + k]
            if k // population == label and not heard:
                _take_hidden(net, eli, window, decays, credit)
                for j in range(a if len(decays.gradient) > 0 else 0):
                    decays.gradient[j] = decays.k[j]
    eli.filled[0] += 1


def window_of(net: Lif) -> Window:
    """Build an empty window for the outputs of a stack."""
    return make_window(int(net.sizes[-1]))
