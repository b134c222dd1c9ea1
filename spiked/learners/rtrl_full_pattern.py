"""Which entries of the influence matrix are kept: all of them (RTRL), or those that few steps can reach (SnAp).

Weight ``W[i, j]`` acts on neuron j at once, on the neurons that hear j a step later, on those that hear these a step
after that. SnAp-n (Menick et al. 2021, "A practical sparse approximation for real time recurrent learning") keeps the
influence on neurons that are reached within n steps, the first being that of j itself, through recurrent weights that
are not 0: n = 1 is the neuron alone, and where every weight is there n = 2 is everything. The pattern is that of the
weights at the start, so a recurrent weight that is 0 then is no synapse: it stays 0, and costs nothing.

All weights into one neuron have the same reach, so the kept entries of a neuron's column of weights are one block,
``[reach, sources]``, and a block is two short lists.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.lif import Lif, layer_weight

MAX_BYTES = 256_000_000
"""Most that the influence of one learner may take unless told otherwise: 64 neurons with 2000 inputs take a sixth."""


class Pattern(NamedTuple):
    """Parameters and kept entries; lists are cut into one part for each neuron j by the ``_at`` before them.

    Attributes
    ----------
    source_at, source : int64[n + 1], int64[P]; rows of the weights into j that may change: its parameters.
    reach_at, reach : int64[n + 1], int64[...]; neurons that the weights into j are held to act on, ascending.
    heard_at, heard : int64[n + 1], int64[...]; neurons that hear j.
    kept_at : int64[n + 1]; where the block of j begins, ``[reach, source]`` row-major.
    """

    source_at: NDArray[np.int64]
    source: NDArray[np.int64]
    reach_at: NDArray[np.int64]
    reach: NDArray[np.int64]
    heard_at: NDArray[np.int64]
    heard: NDArray[np.int64]
    kept_at: NDArray[np.int64]


def make_pattern(net: Lif, sparse_steps: int, max_bytes: int | None = None) -> Pattern:
    """Pattern of the first layer of `net` after `sparse_steps` steps; 0 keeps everything.

    Raises
    ------
    ValueError : where the influence would take more than `max_bytes` (None: `MAX_BYTES`), before it is laid out.
    """
    n_in, n, rows = int(net.sizes[0]), int(net.sizes[1]), int(net.rows[0])
    if sparse_steps == 0:
        _check_size(net, n * rows, n * n * rows, max_bytes)
        synapse = np.ones((rows - n_in, n), bool)
        reached = np.ones((n, n), bool)
    else:
        synapse = layer_weight(net, 0)[n_in:] != 0
        reached = _reached(synapse, n, sparse_steps)
        sources = n_in + synapse.sum(0)
        _check_size(net, int(sources.sum()), int((sources * reached.sum(1)).sum()), max_bytes)
    plastic = np.concatenate([np.ones((n_in, n), bool), synapse])
    source_at, source = _lists(plastic.T)
    reach_at, reach = _lists(reached)
    heard_at, heard = _lists(synapse if len(synapse) else np.zeros((n, n), bool))
    kept_at = np.concatenate([[0], np.cumsum(np.diff(source_at) * np.diff(reach_at))]).astype(np.int64)
    return Pattern(source_at, source, reach_at, reach, heard_at, heard, kept_at)


def _reached(synapse: NDArray[np.bool_], n: int, steps: int) -> NDArray[np.bool_]:
    """Neurons that each neuron acts on within so many steps, itself included, bool[from, to]."""
    reached = np.eye(n, dtype=bool)
    if len(synapse) == 0:
        return reached
    hop = synapse.astype(np.float32)
    for _ in range(steps - 1):
        further = reached | (reached.astype(np.float32) @ hop > 0)
        if np.array_equal(further, reached):
            break
        reached = further
    return reached


def _lists(rows: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of flags as lists of the columns that are set: where each begins, and all of them in one."""
    at = np.concatenate([[0], np.cumsum(rows.sum(1))]).astype(np.int64)
    return at, np.nonzero(rows)[1].astype(np.int64)


def components(net: Lif) -> int:
    """Numbers kept for one entry: influence on the membrane, on the current, on the adaptation."""
    return 1 + int(net.alpha[0] > 0) + int(net.jump[0] > 0)


def _check_size(net: Lif, parameters: int, kept: int, max_bytes: int | None) -> None:
    n, n_out = int(net.sizes[1]), int(net.sizes[-1])
    needed = (kept * components(net) + parameters * n_out) * net.weight.dtype.itemsize
    limit = MAX_BYTES if max_bytes is None else max_bytes
    if needed > limit:
        raise ValueError(
            f"the influence of {parameters} weights on {n} neurons takes {needed} bytes; the limit is {limit}: "
            "fewer neurons, or sparse_steps"
        )
