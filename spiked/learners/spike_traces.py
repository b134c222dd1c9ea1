"""Spike traces at several time constants, and the features that a head reads from them.

Each neuron of the last layer leaves an exponential trace for each time constant. The features are the square roots of
the traces: the variance of a count grows with its mean; its root's does not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.dynamics import LEAST
from spiked.learners.jit import kernel
from spiked.learners.lif import decay

ROOT_OFFSET = np.float32(0.25)
"""Added under the root: the first spike shall not count for more than all that follow."""


class SpikeTraces(NamedTuple):
    """Spike traces, float32[T, H], their decays per step, float32[T], and room for the features, float64[T H]."""

    trace: NDArray[np.float32]
    decay: NDArray[np.float32]
    features: NDArray[np.float64]


def make_traces(n: int, trace_ms: tuple[float, ...], dt_ms: float) -> SpikeTraces:
    """Traces of `n` silent neurons at the time constants `trace_ms`."""
    n_tau = len(trace_ms)
    decays = np.array([decay(tau, dt_ms) for tau in trace_ms], np.float32)
    return SpikeTraces(np.zeros((n_tau, n), np.float32), decays, np.zeros(n_tau * n))


@kernel
def follow(traces, spike):  # type: ignore[no-untyped-def]
    """Take in one step's spikes, float[H]."""
    n_tau, n = traces.trace.shape
    least = np.float32(LEAST)
    none = least - least
    for m in range(n_tau):
        trace, d = traces.trace[m], traces.decay[m]
        for j in range(n):
            left = d * trace[j] + spike[j]
            trace[j] = left if left > least else none


@kernel
def featurize(traces):  # type: ignore[no-untyped-def]
    """Work the features out from the traces."""
    n_tau, n = traces.trace.shape
    for m in range(n_tau):
        for j in range(n):
            traces.features[m * n + j] = np.sqrt(traces.trace[m, j] + ROOT_OFFSET)


@kernel
def take_totals(state, spikes, row):  # type: ignore[no-untyped-def]
    """Write the spikes of each layer since the row before, and begin to count anew."""
    for layer in range(len(state.total)):
        spikes[row, layer] = state.total[layer]
        state.total[layer] = 0
