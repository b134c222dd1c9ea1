"""Pairs of spikes as exponential traces, at the cost of events: the core of `stdp`.

Input i keeps a trace x_i of its events, neuron j a trace o_j of its spikes. A spike of j adds ``A_+ x_i`` to
W[i, j] for all i, an event of i adds ``A_- o_j`` for all j: the sums of Eq. 50 over all pairs, or with traces that are
set to 1 rather than raised by 1, over nearest ones.

Between two events of input i, at steps s and t, its trace only decays, ``x_i[r] = x_i[s] a^(r-s)``, and its weights
only grow, by::

    A_+ x_i[s] a^-(s-o) (G_j[t] - G_j[s]),    G_j[r] = sum over j's spikes before step r of a^(spike - o)

So they are brought up to date when i has its next event: add that, clip above, then depress and clip below. With hard
bounds this is exact, since growth that is clipped once at the end ends where growth clipped at each spike does. A step
costs a pass over each active row and one over the neurons, not one over the weights. ``a^-(s-o)`` must stay within
what the weights' type resolves, so a new origin o and G begin with each block of steps, `BLOCKS` run at once, and a
row that has waited for all of them is brought up to date then. G[s] is read from a ring of its last values.

Where the change depends on the weight (soft bounds, the prototype rule), a spike of j changes its column at once: a
strided pass over the inputs that it has.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.dynamics import LEAST, copy
from spiked.learners.jit import inlined, kernel
from spiked.learners.lif import Lif, layer_weight
from spiked.learners.stdp_rules import BLOCKS


class Pairs(NamedTuple):
    """Traces of both sides, all layers in a row; N inputs and n neurons over all layers.

    Attributes
    ----------
    x_at : int64[L + 1]; where each layer's inputs begin.
    trace, last : float64[N], int64[N]; trace of an input at step `last`.
    live, n_live, is_live : int64[N], int64[L], uint8[N]; inputs whose traces are not 0, first `n_live` of each layer.
    touched : uint8[N]; rows that hold eligibility.
    post, slow : float[n]; traces o and o2 of the neurons.
    gain : float[BLOCKS, n]; G of each block that runs.
    snap : float[ring, n]; G of the block of step t as it stood before the spikes of t, at ``t % ring``.
    clock : int64[1]; steps since the traces were last at rest.
    field_at, field : int64[n + 1], int32[S]; each neuron's inputs, for changes by column; else empty.
    rows, counts : int64[N], float32[N]; room for the inputs that are active in a step.
    now : float64[N]; room for the traces at this step.
    chosen : int64[n]; room for the neurons that learn from this step's spikes.
    """

    x_at: NDArray[np.int64]
    trace: NDArray[np.float64]
    last: NDArray[np.int64]
    live: NDArray[np.int64]
    n_live: NDArray[np.int64]
    is_live: NDArray[np.uint8]
    touched: NDArray[np.uint8]
    post: NDArray[np.floating]
    slow: NDArray[np.floating]
    gain: NDArray[np.floating]
    snap: NDArray[np.floating]
    clock: NDArray[np.int64]
    field_at: NDArray[np.int64]
    field: NDArray[np.int32]
    rows: NDArray[np.int64]
    counts: NDArray[np.float32]
    now: NDArray[np.float64]
    chosen: NDArray[np.int64]


def make_pairs(net: Lif, block: int) -> Pairs:
    """Traces at rest, for blocks of that many steps."""
    x_at = np.concatenate([[0], np.cumsum(net.sizes[:-1])]).astype(np.int64)
    n_in, n, dtype = int(x_at[-1]), int(net.u_at[-1]), net.weight.dtype
    return Pairs(
        x_at=x_at, trace=np.zeros(n_in), last=np.zeros(n_in, np.int64), live=np.zeros(n_in, np.int64),
        n_live=np.zeros(len(net.threshold), np.int64), is_live=np.zeros(n_in, np.uint8),
        touched=np.zeros(n_in, np.uint8),
        post=np.zeros(n, dtype), slow=np.zeros(n, dtype), gain=np.zeros((BLOCKS, n), dtype),
        snap=np.zeros((BLOCKS * block, n), dtype), clock=np.zeros(1, np.int64), field_at=np.zeros(n + 1, np.int64),
        field=np.zeros(0, np.int32), rows=np.zeros(n_in, np.int64), counts=np.zeros(n_in, np.float32),
        now=np.zeros(n_in), chosen=np.zeros(n, np.int64),
    )  # fmt: skip


def with_fields(net: Lif, pairs: Pairs, sparse: bool) -> Pairs:
    """Find each neuron's inputs: those whose weights are not 0, or all."""
    inputs: list[NDArray[np.int64]] = []
    for layer in range(len(net.threshold)):
        weight = layer_weight(net, layer)
        there = weight != 0 if sparse else np.ones(weight.shape, bool)
        inputs += [np.flatnonzero(column) for column in there.T]
    sizes = [len(column) for column in inputs]
    field_at = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return pairs._replace(field_at=field_at, field=np.concatenate(inputs).astype(np.int32))


@kernel
def grow_row(row, coef, gain, snap, opt, bounded):  # type: ignore[no-untyped-def]
    """Add to a row what its input's trace has earned since it was last looked at."""
    k = row.dtype.type(coef)
    if not bounded:
        for j in range(len(row)):
            row[j] += k * (gain[j] - snap[j])
        return
    w_max = row.dtype.type(opt.w_max)
    if opt.sparse:
        for j in range(len(row)):
            w = row[j]
            row[j] = min(w + k * (gain[j] - snap[j]), w_max) if w != 0 else w
    else:
        for j in range(len(row)):
            row[j] = min(row[j] + k * (gain[j] - snap[j]), w_max)


@kernel
def catch_up(net, pairs, sink, opt, layer, i, to):  # type: ignore[no-untyped-def]
    """Bring row `i` up to date and its trace to step `to`."""
    entry = pairs.x_at[layer] + i
    last = pairs.last[entry]
    if last >= to:
        return
    if not opt.eager:
        n = net.sizes[layer + 1]
        a, at = net.u_at[layer], net.w_at[layer] + i * n
        block = last // opt.block
        coef = pairs.trace[entry] / opt.power[last - block * opt.block]
        gain = pairs.gain[block % BLOCKS, a : a + n]
        snap = pairs.snap[last % len(pairs.snap), a : a + n]
        grow_row(sink[at : at + n], coef, gain, snap, opt, opt.modulation == 0)
    pairs.trace[entry] *= opt.power[to - last]
    pairs.last[entry] = to


@inlined
def begin_step(net, pairs, sink, opt, layer):  # type: ignore[no-untyped-def]
    """Begin step `clock` of one layer: traces decay, and at a new block what waited too long is brought up to date."""
    t = pairs.clock[0]
    a, b = net.u_at[layer], net.u_at[layer + 1]
    post, slow = pairs.post[a:b], pairs.slow[a:b]
    d_post, d_slow = post.dtype.type(opt.post_decay), post.dtype.type(opt.slow_decay)
    least = post.dtype.type(LEAST)
    none = least - least
    for j in range(b - a):
        left = post[j] * d_post
        post[j] = left if left > least else none
    if opt.a_triplet > 0.0:
        for j in range(b - a):
            left = slow[j] * d_slow
            slow[j] = left if left > least else none
    block = t // opt.block
    if t == block * opt.block:
        x0 = pairs.x_at[layer]
        kept = 0
        for k in range(pairs.n_live[layer]):
            i = pairs.live[x0 + k]
            if pairs.last[x0 + i] < (block - BLOCKS + 1) * opt.block:
                catch_up(net, pairs, sink, opt, layer, i, t)
            if pairs.trace[x0 + i] < opt.forget:
                pairs.trace[x0 + i] = 0.0
                pairs.is_live[x0 + i] = 0
            else:
                pairs.live[x0 + kept] = i
                kept += 1
        pairs.n_live[layer] = kept
        fresh = pairs.gain[block % BLOCKS, a:b]
        for j in range(b - a):
            fresh[j] = 0.0
    copy(pairs.snap[t % len(pairs.snap), a:b], pairs.gain[block % BLOCKS, a:b])
