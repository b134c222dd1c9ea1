"""The compiled path of `rtrl_full`: the influence matrix moves on by a step, the gradient gathers, a window closes.

For parameter p, a weight into neuron j from row r of the inputs ``z = (x, S[t-1])``, and neuron i that it acts on::

    dS_i[t]   = psi_i[t] (dU_i[t] - db_i[t])                            psi: the surrogate of U - theta - b
    dI_i[t]   = alpha dI_i[t-1] + sum_l V[l, i] dS_l[t-1] + [i = j] z_r[t]
    dU_i[t]   = beta_i dU_i[t-1] + dI_i[t]                              the reset is detached
    db_i[t]   = rho db_i[t-1] + jump dS_i[t-1]
    dY_k[t]   = kappa_k dY_k[t-1] + sum_i W_out[i, k] dS_i[t]           the read-out's membrane
    dL[t]/dp  = sum_k err_k[t] dY_k[t]

which is Eq. 9-10 for a layer with explicit recurrence: the first three lines are M[t] = J M[t-1] plus the immediate
influence. A neuron that is held at rest has psi = 0; what holds it is detached like the reset.
"""

from __future__ import annotations

from typing import NamedTuple

from spiked.learners.contract import CLOSE, UNLABELLED
from spiked.learners.dynamics import LEAST, lif_step
from spiked.learners.jit import kernel
from spiked.learners.objectives import membrane_error
from spiked.learners.optimizers import apply_row
from spiked.learners.rtrl_kernels import read_out
from spiked.learners.surrogates import surrogate

LARGEST = 1e9
"""Cap of a spike's derivative: where recurrence amplifies without end, an endless stream would reach infinity."""


class FullOptions(NamedTuple):
    """What a compiled run needs to know of the specification."""

    objective: int
    surrogate: int
    slope: float
    optimizer: int
    rate: float
    score_decay: float


@kernel
def _spike_influence(net, pattern, inf, work, j, psi):  # type: ignore[no-untyped-def]
    """Work out dS of the block of `j` into `fired`."""
    m = pattern.source_at[j + 1] - pattern.source_at[j]
    first, at = pattern.reach_at[j], pattern.kept_at[j]
    for a in range(pattern.reach_at[j + 1] - first):
        p = psi[pattern.reach[first + a]]
        fired, du = work.fired[a * m : (a + 1) * m], inf.membrane[at + a * m : at + (a + 1) * m]
        if net.jump[0] > 0:
            db = inf.adaptation[at + a * m : at + (a + 1) * m]
            for q in range(m):
                fired[q] = min(max(p * (du[q] - db[q]), -LARGEST), LARGEST)
        else:
            for q in range(m):
                fired[q] = min(max(p * du[q], -LARGEST), LARGEST)


@kernel
def _fade(array, factor):  # type: ignore[no-untyped-def]
    """Let influence decay, and what is next to nothing be nothing."""
    for q in range(len(array)):
        v = factor * array[q]
        array[q] = v if abs(v) > LEAST else 0


@kernel
def _add(array, factor, row):  # type: ignore[no-untyped-def]
    for q in range(len(array)):
        array[q] += factor * row[q]


@kernel
def _move_block(net, pattern, inf, work, j, n_in, n):  # type: ignore[no-untyped-def]
    """Move the influence of the weights into neuron `j` on by one step, and that on the read-out."""
    first, m = pattern.reach_at[j], pattern.source_at[j + 1] - pattern.source_at[j]
    size, at = pattern.reach_at[j + 1] - first, pattern.kept_at[j]
    end = at + size * m
    second_order = net.alpha[0] > 0
    into = inf.current[at:end] if second_order else inf.membrane[at:end]
    _spike_influence(net, pattern, inf, work, j, work.before)
    for a in range(size):
        i = pattern.reach[first + a]
        work.place[i] = a
        _fade(into[a * m : (a + 1) * m], net.alpha[0] if second_order else net.beta[i])
    if net.jump[0] > 0:
        _fade(inf.adaptation[at:end], net.rho[0])
        _add(inf.adaptation[at:end], net.jump[0], work.fired[: size * m])
    for a in range(size):
        k = pattern.reach[first + a]
        if work.before[k] != 0:
            fired, w = work.fired[a * m : (a + 1) * m], (n_in + k) * n
            for e in range(pattern.heard_at[k], pattern.heard_at[k + 1]):
                i = pattern.heard[e]
                c = work.place[i]
                if c >= 0 and net.weight[w + i] != 0:
                    _add(into[c * m : (c + 1) * m], net.weight[w + i], fired)
    own = into[work.place[j] * m : (work.place[j] + 1) * m]
    source = pattern.source[pattern.source_at[j] : pattern.source_at[j + 1]]
    for q in range(m):
        own[q] += work.inputs[source[q]]
    if second_order:
        for a in range(size):
            du = inf.membrane[at + a * m : at + (a + 1) * m]
            _fade(du, net.beta[pattern.reach[first + a]])
            _add(du, 1, into[a * m : (a + 1) * m])
    _spike_influence(net, pattern, inf, work, j, inf.psi)
    n_out = len(inf.output)
    for k in range(n_out):
        dy = inf.output[k, pattern.source_at[j] : pattern.source_at[j + 1]]
        _fade(dy, net.beta[n + k])
        for a in range(size):
            i = pattern.reach[first + a]
            if inf.psi[i] != 0:
                _add(dy, net.weight[net.w_at[1] + i * n_out + k], work.fired[a * m : (a + 1) * m])
    for a in range(size):
        work.place[pattern.reach[first + a]] = -1


@kernel
def _hear(net, state, work, indices, counts):  # type: ignore[no-untyped-def]
    """Keep what the layer hears in this step: its input, and its own spikes of the step before."""
    work.inputs[:] = 0
    for k in range(len(indices)):
        work.inputs[indices[k]] = counts[k]
    if net.recurrent[0]:
        n_in = net.sizes[0]
        for j in range(net.sizes[1]):
            work.inputs[n_in + j] = state.spike[j]


@kernel
def _move(net, state, pattern, inf, work, opt):  # type: ignore[no-untyped-def]
    """Move all influence on by one step."""
    n_in, n = net.sizes[0], net.sizes[1]
    for j in range(n):
        work.before[j] = inf.psi[j]
        held = state.wait[j] > 0 and state.spike[j] == 0
        distance = state.membrane[j] - net.threshold[0] - state.adaptation[j]
        inf.psi[j] = 0.0 if held else surrogate(opt.surrogate, distance, opt.slope)
    for j in range(n):
        _move_block(net, pattern, inf, work, j, n_in, n)
        for k in range(len(inf.output)):
            inf.trace[j, k] = net.beta[n + k] * inf.trace[j, k] + state.spike[j]


@kernel
def _gather(net, state, inf, work, opt, label, values):  # type: ignore[no-untyped-def]
    """Add the gradient of one labelled step (Eq. 12)."""
    n, n_out = inf.trace.shape
    membrane_error(opt.objective, state.membrane[n : n + n_out], label, values, 1, work.logits, work.error)
    for k in range(n_out):
        _add(inf.sink, -work.error[k], inf.output[k])
        for j in range(n):
            inf.descent[net.w_at[1] + j * n_out + k] -= work.error[k] * inf.trace[j, k]
    inf.tally[0] += 1


@kernel
def close_full_window(net, pattern, inf, work, opt, square):  # type: ignore[no-untyped-def]
    """Learn from the window that ends here, and begin the next; the influence goes on."""
    if inf.tally[0] == 0:
        return
    work.scale[0] = 1.0 / inf.tally[0]
    work.rate[0] = opt.rate
    n = net.sizes[1]
    for j in range(n):
        for p in range(pattern.source_at[j], pattern.source_at[j + 1]):
            inf.descent[pattern.source[p] * n + j] = inf.sink[p]
            inf.sink[p] = 0.0
    for layer in range(2):
        width = net.sizes[layer + 1]
        for row in range(net.rows[layer]):
            a = net.w_at[layer] + row * width
            b = a + width
            kept = square[a:b] if len(square) > 1 else square
            apply_row(
                opt.optimizer, net.weight[a:b], inf.descent[a:b], work.ones[:width], work.scale, kept, work.rate
            )  # fmt: skip
    inf.tally[0] = 0


@kernel
def run_full_steps(  # type: ignore[no-untyped-def]
    bundle, indptr, indices, counts, flags, labels, values, learn, out_scores, out_spikes
):
    """All steps of a run: the whole learner, top to bottom."""
    net, state, pattern, inf, work, opt, square = bundle.parts
    n = net.sizes[1]
    row = 0
    for t in range(len(indptr) - 1):
        rows, of_each = indices[indptr[t] : indptr[t + 1]], counts[indptr[t] : indptr[t + 1]]
        if learn:
            inf.clock[0] = 1
            _hear(net, state, work, rows, of_each)
        lif_step(net, state, rows, of_each)
        for k in range(len(work.score)):
            said = state.membrane[n + k]
            work.score[k] += (1.0 - opt.score_decay) * (said - work.score[k])
        if learn:
            _move(net, state, pattern, inf, work, opt)
            if labels[t] != UNLABELLED:
                _gather(net, state, inf, work, opt, labels[t], values)
        if flags[t]:
            read_out(state, work, out_scores, out_spikes, row)
            row += 1
            if learn and flags[t] & CLOSE:
                close_full_window(net, pattern, inf, work, opt, square)
