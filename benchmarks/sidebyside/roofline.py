"""The roofline: bytes that a step must move, what this machine moves in the same run, and how near we come.

A step of inference reads a row of weights for each active input and each hidden spike, and reads and writes the
neurons. A step of exact learning reads and writes two rows for each (the weight, and its filtered eligibility). At so
few operations a byte, moving is the limit. Bandwidth is that of the two things a kernel does, over an array of the
same size and in rows of the same length at random: adding rows to a vector (reads), and moving rows (reads, writes).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidebyside.ours import ours, spikes_a_step
from sidebyside.timing import Side, summary, take_turns
from sidebyside.workloads import POOL, WORKLOADS, Workload, spikes
from spiked.learners.jit import kernel

MANY, FLOAT, DOUBLE = 256, 4, 8
NEURON_BYTES = 2 * FLOAT * 2 + 2 * DOUBLE
"""Of a neuron in inference: membrane and spike read and written, steps since its last spike likewise."""
LEARNING_BYTES = 10 * DOUBLE
"""Of a neuron in learning besides: its sums, signal, credit and pulls, each touched about once."""


@kernel
def _read_rows(array: NDArray[np.float32], rows: NDArray[np.int32], into: NDArray[np.float32]) -> None:
    n = array.shape[1]
    for k in range(0, len(rows) - 3, 4):
        a, b, c, d = array[rows[k]], array[rows[k + 1]], array[rows[k + 2]], array[rows[k + 3]]
        for j in range(n):
            into[j] = (((into[j] + a[j]) + b[j]) + c[j]) + d[j]


@kernel
def _move_rows(array: NDArray[np.float32], rows: NDArray[np.int32], by: NDArray[np.float32]) -> None:
    n = array.shape[1]
    for k in range(len(rows)):
        a = array[rows[k]]
        for j in range(n):
            a[j] += by[j]


def _moving(what: Any, load: Workload, k: int, copies: int) -> Side:
    """Rows of `copies` arrays as large as the weights; "a step" is the rows of one step in each of them."""
    arrays = np.zeros((load.n_in * copies, load.hidden), np.float32)
    vector = np.zeros(load.hidden, np.float32)
    pool = spikes(load.n_in, k)
    rows = np.concatenate([pool + c * load.n_in for c in range(copies)], axis=1).reshape(-1).astype(np.int32)

    def run(n: int) -> float:
        began = time.perf_counter()
        for _ in range(-(-n // POOL)):
            what(arrays, rows, vector)
        return (time.perf_counter() - began) * n / (-(-n // POOL) * POOL)

    return run


def must_move(load: Workload, k: int, fired: float) -> float:
    """Bytes that a step must move."""
    rows = k * load.hidden + fired * load.n_out
    neurons = load.hidden + load.n_out
    if load.task == "inference":
        return FLOAT * rows + NEURON_BYTES * neurons
    return FLOAT * (4 * k * load.hidden + 2 * fired * load.n_out) + (NEURON_BYTES + LEARNING_BYTES) * neurons


def rows(rounds: int, seconds: float, active: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Our kernels and the machine's bandwidth, in turns."""
    for name, what, copies, passes in (("W1", _read_rows, 1, 1), ("W2", _move_rows, 2, 2)):
        load = WORKLOADS[name]
        for k in (load.active[at] for at in active):
            sides = {"ours": ours(load, k, MANY), "rows": _moving(what, load, k, copies)}
            us = take_turns(sides, rounds, seconds)
            moved = must_move(load, k, spikes_a_step(load, k))
            rows_bytes = FLOAT * passes * copies * k * load.hidden
            limits = [moved / (rows_bytes / t) for t in us["rows"]]
            over = [a / b for a, b in zip(us["ours"], limits)]
            yield {
                "unit": "roofline", "workload": name, "k": k, "bytes": moved,
                "gb_s": summary([rows_bytes / t / 1e3 for t in us["rows"]]), "limit_us": summary(limits),
                "us": summary(us["ours"]), "over": summary(over), "share": summary([1 / o for o in over]),
            }  # fmt: skip
