"""What events and spikes do to the weights: the updates of `stdp`, one kernel for each side of a pair."""

from __future__ import annotations

from spiked.learners.jit import inlined, kernel
from spiked.learners.stdp_pairs import catch_up, grow_row
from spiked.learners.stdp_rules import BLOCKS


@inlined
def _read_hard(row, membrane, count, coef, gain, snap, dep, post, opt):  # type: ignore[no-untyped-def]
    """One pass over a row of weights: bring it up to date, add it to the membranes, depress it."""
    x, k, a = row.dtype.type(count), row.dtype.type(coef), row.dtype.type(dep)
    w_min, w_max = row.dtype.type(opt.w_min), row.dtype.type(opt.w_max)
    if opt.sparse:
        for j in range(len(row)):
            w = row[j]
            up = min(w + k * (gain[j] - snap[j]), w_max)
            down = max(up + a * post[j], w_min)
            membrane[j] += x * (up if w != 0 else w)
            row[j] = down if w != 0 else w
    else:
        for j in range(len(row)):
            up = min(row[j] + k * (gain[j] - snap[j]), w_max)
            membrane[j] += x * up
            row[j] = max(up + a * post[j], w_min)


@kernel
def _read_eager(row, membrane, count, dep, post, opt):  # type: ignore[no-untyped-def]
    """Add a row of weights to the membranes, then depress it within its bounds."""
    x, a = row.dtype.type(count), row.dtype.type(dep)
    for j in range(len(row)):
        membrane[j] += x * row[j]
    if dep == 0.0:
        return
    w_min, mu = row.dtype.type(opt.w_min), row.dtype.type(opt.mu)
    for j in range(len(row)):
        w = row[j]
        if post[j] != 0 and not (opt.sparse and w == 0):
            room = w - w_min if opt.soft else row.dtype.type(1.0)
            if opt.soft and opt.mu != 1.0:
                room = room**mu
            row[j] = max(w + a * post[j] * room, w_min)


@inlined
def input_events(net, pairs, sink, opt, layer, n_rows, membrane, rate):  # type: ignore[no-untyped-def]
    """Events at the first `n_rows` of `pairs.rows`, read times their counts into `membrane`; comes before the spikes.

    An event counts once in a pair, whatever its count. `rate` scales depression; `sink` is the weights, or the
    eligibility where changes wait.
    """
    t = pairs.clock[0]
    n = net.sizes[layer + 1]
    a, x0, w0 = net.u_at[layer], pairs.x_at[layer], net.w_at[layer]
    post = pairs.post[a : a + n]
    dep = rate * opt.a_minus
    for k in range(n_rows):
        i = pairs.rows[k]
        entry, at = x0 + i, w0 + i * n
        row = sink[at : at + n]
        last = t
        x = 0.0
        if pairs.is_live[entry]:
            last = pairs.last[entry]
            x = pairs.trace[entry]
        else:
            pairs.is_live[entry] = 1
            pairs.live[x0 + pairs.n_live[layer]] = i
            pairs.n_live[layer] += 1
        if opt.eager:
            _read_eager(row, membrane, pairs.counts[k], dep, post, opt)
        else:
            block = last // opt.block
            coef = x / opt.power[last - block * opt.block]
            gain = pairs.gain[block % BLOCKS, a : a + n]
            snap = pairs.snap[last % len(pairs.snap), a : a + n]
            if opt.modulation == 0:
                _read_hard(row, membrane, pairs.counts[k], coef, gain, snap, dep, post, opt)
            else:
                c, weight = row.dtype.type(pairs.counts[k]), net.weight[at : at + n]
                for j in range(n):
                    membrane[j] += c * weight[j]
                grow_row(row, coef, gain, snap, opt, False)
                d = row.dtype.type(dep)
                for j in range(n):
                    row[j] += d * post[j]
                pairs.touched[entry] = 1
        pairs.trace[entry] = 1.0 if opt.nearest else x * opt.power[t - last] + 1.0
        pairs.last[entry] = t


@kernel
def move_weight(weight, at, change, opt):  # type: ignore[no-untyped-def]
    """Move one weight by `change`, times its room where bounds are soft, and clip."""
    w = float(weight[at])
    if opt.sparse and w == 0.0:
        return
    if opt.soft:
        room = opt.w_max - w if change > 0.0 else w - opt.w_min
        change *= room if opt.mu == 1.0 else max(room, 0.0) ** opt.mu
    weight[at] = min(max(w + change, opt.w_min), opt.w_max)


@kernel
def move_columns(net, pairs, opt, layer, spiked, n_spiked, rate):  # type: ignore[no-untyped-def]
    """Change all weights of the neurons that fired, from their inputs' traces as they stand now."""
    t = pairs.clock[0]
    n, n_in = net.sizes[layer + 1], net.sizes[layer]
    a, x0, w0 = net.u_at[layer], pairs.x_at[layer], net.w_at[layer]
    now = pairs.now[x0 : x0 + n_in]
    now[:] = 0.0
    for k in range(pairs.n_live[layer]):
        i = pairs.live[x0 + k]
        now[i] = pairs.trace[x0 + i] * opt.power[t - pairs.last[x0 + i]]
    rest = opt.x_target if opt.prototype else 0.0
    for k in range(n_spiked):
        j = spiked[k]
        amount = rate * opt.a_plus * (1.0 + opt.a_triplet * float(pairs.slow[a + j]))
        for m in range(pairs.field_at[a + j], pairs.field_at[a + j + 1]):
            i = pairs.field[m]
            change = amount * (now[i] - rest)
            if change != 0.0:
                move_weight(net.weight, w0 + i * n + j, change, opt)


@inlined
def neuron_spikes(net, pairs, opt, layer, spiked, n_spiked, rate):  # type: ignore[no-untyped-def]
    """Spikes of the neurons `spiked` (the first `n_spiked`), after this step's events; `rate` scales potentiation."""
    t = pairs.clock[0]
    a = net.u_at[layer]
    if opt.eager and n_spiked > 0:
        move_columns(net, pairs, opt, layer, spiked, n_spiked, rate)
    now = t // opt.block
    for k in range(n_spiked):
        j = a + spiked[k]
        if not opt.eager:
            amount = rate * opt.a_plus * (1.0 + opt.a_triplet * float(pairs.slow[j]))
            for back in range(min(BLOCKS, now + 1)):
                block = now - back
                pairs.gain[block % BLOCKS, j] += amount * opt.power[t - block * opt.block]
        pairs.post[j] = 1 if opt.nearest else pairs.post[j] + 1
        pairs.slow[j] = 1 if opt.nearest else pairs.slow[j] + 1


@kernel
def settle(net, pairs, sink, opt):  # type: ignore[no-untyped-def]
    """Write all that is lazy into `sink`, for what comes after this step."""
    for layer in range(len(net.threshold)):
        for k in range(pairs.n_live[layer]):
            catch_up(net, pairs, sink, opt, layer, pairs.live[pairs.x_at[layer] + k], pairs.clock[0] + 1)
