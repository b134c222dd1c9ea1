"""The compiled side of `eligibility`: noting events, sorting them by input, and ending the block of each input's row.

What an event is worth is found by `adjoint`. A block ends input by input: its events are summed up in ``eli.sums``, the
traces of its row move to the block's end, and the block's share of the gradient is left to the caller: `flush` adds it
to the gradient, `closing` takes the window's step with it while it is in the cache.
"""

from __future__ import annotations

from spiked.learners.adjoint import ADAPTED, FILTERED, GRADIENT, OWN, find_coefficients
from spiked.learners.dynamics import add_rows, copy
from spiked.learners.jit import inlined, kernel


@inlined
def note_events(net, eli, layer, rows, counts, n_rows, first_row):  # type: ignore[no-untyped-def]
    """Note the events of the present step at inputs ``first_row + rows`` (the first `n_rows`)."""
    at = eli.event_at[layer] + eli.n_events[layer]
    now = eli.filled[0]
    step, row, size = eli.step[at : at + n_rows], eli.row[at : at + n_rows], eli.size[at : at + n_rows]
    for r in range(n_rows):
        step[r] = now
        row[r] = first_row + rows[r]
        size[r] = counts[r]
    eli.n_events[layer] += n_rows


@inlined
def is_full(net, eli):  # type: ignore[no-untyped-def]
    """Whether the block has no room for one more step, whatever comes in it."""
    if eli.filled[0] == len(eli.psi):
        return True
    for layer in range(len(net.threshold)):
        room = eli.event_at[layer + 1] - eli.event_at[layer] - eli.n_events[layer]
        if room < net.rows[layer]:
            return True
    return False


@inlined
def _sort_events(net, eli, layer):  # type: ignore[no-untyped-def]
    """Sort a layer's events by input, in time; those of a live row begin with its shared m and y."""
    e0, x0, rows, now = eli.event_at[layer], net.x_at[layer], net.rows[layer], eli.filled[0]
    n, has_m, has_y = eli.n_events[layer], not eli.private[layer], net.alpha[layer] > 0
    to, step, size = eli.sorted_to, eli.sorted_step, eli.sorted_size
    to[:rows] = 0
    for e in range(e0, e0 + n):
        to[eli.row[e]] += 1
    at = 0
    for i in range(rows):
        count = to[i]
        if eli.live[x0 + i]:
            if has_m:
                step[at], size[at] = now, eli.m[x0 + i]
                at += 1
            if has_y:
                step[at], size[at] = now + 1, eli.y[x0 + i]
                at += 1
        to[i] = at
        at += count
    for e in range(e0, e0 + n):
        i = eli.row[e]
        step[to[i]], size[to[i]] = eli.step[e], eli.size[e]
        to[i] += 1


@inlined
def prepare_end(net, eli, layer, traces):  # type: ignore[no-untyped-def]
    """Prepare the end of a layer's block, for the gradient alone or for its traces too; returns a row's length."""
    _sort_events(net, eli, layer)
    return find_coefficients(net, eli, layer, traces)


@inlined
def _add_product(into, trace, vector):  # type: ignore[no-untyped-def]
    """``into += trace * vector``."""
    for j in range(len(into)):
        into[j] += trace[j] * vector[j]


@inlined
def _add_products(into, k, vector, q, other):  # type: ignore[no-untyped-def]
    """``into += k * vector + q * other``."""
    for j in range(len(into)):
        into[j] = (into[j] + k[j] * vector[j]) + q[j] * other[j]


@inlined
def _move(trace, kept, sums):  # type: ignore[no-untyped-def]
    """``trace = kept * trace + sums``."""
    for j in range(len(trace)):
        trace[j] = sums[j] + trace[j] * kept[j]


@inlined
def end_row(net, eli, layer, i, width, traces):  # type: ignore[no-untyped-def]
    """End the block of one row: its traces move; returns whether ``eli.sums[:n]`` holds a share of the gradient.

    Where `traces` is false they stay, and the block is to be ended again, for them.
    """
    n, entry = net.sizes[layer + 1], net.x_at[layer] + i
    lo, hi = eli.sorted_to[i - 1] if i > 0 else 0, eli.sorted_to[i]
    live = eli.live[entry] > 0
    if lo == hi and not live:
        return False
    asks, hidden, private = eli.asks[0] > 0, layer + 1 < len(net.threshold), eli.private[layer] > 0
    adaptive = hidden and eli.adaptive[layer] > 0
    sums, at, start = eli.sums[:width], eli.part_at, eli.start
    sums[:] = 0.0
    add_rows(sums, eli.coefficient, 0, width, eli.sorted_step[lo:hi], eli.sorted_size[lo:hi], hi - lo)
    g, in_k = sums[: at[FILTERED]], sums[at[FILTERED] : at[ADAPTED]]
    in_q, in_m = sums[at[ADAPTED] : at[OWN]], sums[at[OWN] : at[4]]
    r = i * n
    k = eli.filtered[eli.filtered_at[layer] + r : eli.filtered_at[layer] + r + n] if hidden else g[:0]
    q = eli.adapted[eli.adapted_at[layer] + r : eli.adapted_at[layer] + r + n] if adaptive else g[:0]
    own = eli.own[eli.own_at[layer] + r : eli.own_at[layer] + r + n] if private else g[:0]
    if live and asks:
        if private:
            _add_product(g, own, start[GRADIENT, 1])
        if adaptive:
            _add_products(g, k, start[GRADIENT, 3], q, start[GRADIENT, 2])
        elif hidden:
            _add_product(g, k, start[GRADIENT, 3])
    if not traces:
        return asks
    if live:  # from the values at the block's beginning: k first, m last
        if private:
            _add_product(in_k, own, start[FILTERED, 1])
            _add_product(in_q, own, start[ADAPTED, 1])
            _move(own, start[OWN, 1], in_m)
        if adaptive:
            _add_product(in_k, q, start[FILTERED, 2])
            _move(q, start[ADAPTED, 2], in_q)
        _move(k, start[FILTERED, 3], in_k)
    else:
        copy(k, in_k)
        copy(q, in_q)
        copy(own, in_m)
    eli.m[entry] = 0.0 if private else sums[at[4]]
    eli.y[entry] = sums[at[4] + 1] if net.alpha[layer] > 0 else 0.0
    if hi > lo and eli.sorted_step[hi - 1] < eli.filled[0]:
        eli.last[entry] = eli.clock[0] - eli.filled[0] + 1 + eli.sorted_step[hi - 1]
    eli.live[entry] = eli.clock[0] - eli.last[entry] <= eli.forget[layer]
    return asks


@inlined
def next_block(eli):  # type: ignore[no-untyped-def]
    """Begin a block, all rows of the one before having ended."""
    eli.n_events[:] = 0
    eli.filled[0] = 0
    eli.asks[0] = 0
    eli.waits[0] = 0


@kernel
def flush(net, eli):  # type: ignore[no-untyped-def]
    """End the block of every layer: gradient and traces take in its events, and the next begins where they stand."""
    if eli.filled[0] > 0:
        for layer in range(len(net.threshold)):
            n, x0, w0 = net.sizes[layer + 1], net.x_at[layer], net.w_at[layer]
            width = prepare_end(net, eli, layer, True)
            for i in range(net.rows[layer]):
                if end_row(net, eli, layer, i, width, True):
                    gradient = eli.gradient[w0 + i * n : w0 + (i + 1) * n]
                    if not eli.touched[x0 + i]:
                        gradient[:] = 0.0
                    eli.touched[x0 + i] = 1
                    for j in range(n):
                        gradient[j] += eli.sums[j]
        next_block(eli)


@inlined
def is_between(eli):  # type: ignore[no-untyped-def]
    """Whether a window has closed, and no step has come since."""
    return eli.clock[0] > 0 and (eli.waits[0] > 0 or eli.filled[0] == 0)


@kernel
def forget(net, eli):  # type: ignore[no-untyped-def]
    """Traces to rest; what has not been taken into the gradient is let go."""
    if is_between(eli):
        eli.rests[0] = 1
    next_block(eli)
    eli.live[:] = 0
    eli.y[:] = 0.0
    eli.m[:] = 0.0
    eli.clock[0] = 0
