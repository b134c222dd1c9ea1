"""Arrays with an entry for each weight of a stack: their parts by layer, and their growth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spiked.learners.lif import Lif


def layer_parts(net: Lif) -> Iterator[tuple[slice, int, bool]]:
    """Of each layer: where its entries lie, how many make a row, and whether it is the last."""
    top = len(net.threshold) - 1
    for layer in range(top + 1):
        yield slice(int(net.w_at[layer]), int(net.w_at[layer + 1])), int(net.sizes[layer + 1]), layer == top


def grow_weightlike(array: NDArray, net: Lif) -> NDArray:
    """Make an array, [..., weights], fit a stack that has more outputs now; theirs are 0, the others as they were."""
    body, rows, n = int(net.w_at[-2]), int(net.rows[-1]), int(net.sizes[-1])
    old = (array.shape[-1] - body) // rows
    grown = np.zeros((*array.shape[:-1], len(net.weight)), array.dtype)
    grown[..., :body] = array[..., :body]
    into = grown[..., body:].reshape(*array.shape[:-1], rows, n)  # a view: only the last axis is cut
    into[..., :old] = array[..., body:].reshape(*array.shape[:-1], rows, old)
    grown[..., body:] = into.reshape(*array.shape[:-1], rows * n)
    return grown
