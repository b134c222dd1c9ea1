"""The workloads: sizes, input spikes, first weights. Every side of a comparison gets the same ones.

Each step has `k` distinct input channels, drawn at random; ``POOL`` steps are drawn and go round. Weights are scaled
with `k` so that a hidden neuron fires 4 to 25 times a second whatever `k` is: cost that grows with `k` is mostly the
cost of the inputs. Learning rates are so small (`RATE`) that the rates of fire stand still while time is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

POOL = 256
TAU_MS, RATE, LABEL = 20.0, 1e-9, 3
BETA = float(np.exp(-1.0 / TAU_MS))
MEMBRANE_SD = 0.6
"""Standard deviation of a hidden membrane that never fired; the threshold is 1."""
OUT_SD = 0.05
TAU_ADAPT_MS, JUMP = 200.0, 0.2
WINDOW = 300
"""Steps after which a learner by windows takes its step."""
STDP_TRACE_MS, STDP_RATE, STDP_FIRING = 20.0, 1e-5, 0.02


@dataclass(frozen=True)
class Workload:
    """A network, and what is asked of it.

    Attributes
    ----------
    name : what the tables call it.
    n_in, hidden, n_out : sizes of the layers.
    active : the numbers of active inputs per step.
    task : ``"inference"``, ``"learning"`` (at every step), ``"eprop"`` (recurrent, adaptive thresholds), its
        ``"eprop-inference"``, or ``"stdp"``.
    title : what it is.
    reach : inputs that are ever active, the first ones; 0: all of them.
    """

    name: str
    n_in: int
    hidden: int
    n_out: int
    active: tuple[int, ...]
    task: str
    title: str
    reach: int = 0

    @property
    def learns(self) -> bool:
        """Whether weights move."""
        return self.task in ("learning", "eprop", "stdp")


SMALL, LARGE = (10, 50, 250), (50, 500, 2000)
WORKLOADS = {
    w.name: w
    for w in (
        Workload("W1", 2312, 512, 10, SMALL, "inference", "inference"),
        Workload("W2", 2312, 512, 10, SMALL, "learning", "inference and learning at every step"),
        Workload("W3i", 32768, 1024, 11, LARGE, "inference", "inference"),
        Workload("W3", 32768, 1024, 11, LARGE, "learning", "inference and learning at every step"),
        Workload("W4i", 2312, 512, 10, SMALL, "eprop-inference", "recurrent, adaptive thresholds: inference"),
        Workload("W4", 2312, 512, 10, SMALL, "eprop", "recurrent, adaptive thresholds: e-prop"),
        Workload("STDP", 2312, 512, 10, SMALL, "stdp", "STDP of all input weights"),
    )
}


@cache
def spikes(n_in: int, k: int, n: int = POOL) -> NDArray[np.int32]:
    """The active channels of each step, int32[n, k], ascending."""
    rng = np.random.default_rng([n_in, k])
    return np.stack([np.sort(rng.choice(n_in, k, replace=False)) for _ in range(n)]).astype(np.int32)


def dense_spikes(n_in: int, k: int, n: int = POOL) -> NDArray[np.float32]:
    """The same as zeros and ones, float32[n, n_in]."""
    rows = np.zeros((n, n_in), np.float32)
    np.put_along_axis(rows, spikes(n_in, k, n), 1, axis=1)
    return rows


@dataclass(frozen=True)
class Weights:
    """First weights: from the inputs, to the outputs, and of the hidden layer on itself (float32, rows are inputs)."""

    into: NDArray[np.float32]
    out: NDArray[np.float32]
    loops: NDArray[np.float32]


@cache
def weights(load: Workload, k: int) -> Weights:
    """Random weights under which hidden neurons fire at a moderate rate with `k` active inputs."""
    rng = np.random.default_rng(load.n_in + load.hidden)
    sd = MEMBRANE_SD * np.sqrt((1 - BETA**2) / k)
    loops = load.hidden if load.task.startswith("eprop") else 0
    return Weights(
        into=(sd * rng.standard_normal((load.n_in, load.hidden), np.float32)).astype(np.float32),
        out=rng.normal(0, OUT_SD, (load.hidden, load.n_out)).astype(np.float32),
        loops=rng.normal(0, 0.2 / np.sqrt(load.hidden), (loops, loops)).astype(np.float32),
    )


@cache
def stdp_start(load: Workload, k: int) -> tuple[NDArray[np.float32], float]:
    """Positive weights of a layer for STDP, and the threshold at which `STDP_FIRING` of its neurons fire per step."""
    rng = np.random.default_rng(load.n_in)
    into = rng.uniform(0.2, 0.8, (load.n_in, load.hidden)).astype(np.float32)
    drive = np.stack([into[rows].sum(0) for rows in spikes(load.n_in, k)])
    low, high = 0.0, float(drive.max() / (1 - BETA))
    for _ in range(24):
        theta = (low + high) / 2
        membrane, fired = np.zeros(load.hidden, np.float32), 0
        for step in drive:
            membrane = np.float32(BETA) * membrane + step
            fired += np.count_nonzero(membrane > theta)
            membrane[membrane > theta] = 0
        low, high = (theta, high) if fired > STDP_FIRING * drive.size else (low, theta)
    return into, (low + high) / 2
