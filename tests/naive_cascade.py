"""Dense float64 oracle of the synaptic cascade: the rates of the chain as a matrix, and its exact solutions."""

from __future__ import annotations

import numpy as np


def rates(levels: int, coupling: float) -> np.ndarray:
    """``du/dt = A u`` of the chain, from its currents: each coupling takes from one variable what the next gets."""
    a = np.zeros((levels, levels))
    for k in range(levels - 1):
        flow = coupling / 2**k
        a[k, k] -= flow / 2**k
        a[k, k + 1] += flow / 2**k
        a[k + 1, k] += flow / 2 ** (k + 1)
        a[k + 1, k + 1] -= flow / 2 ** (k + 1)
    return a


def implicit(u: np.ndarray, a: np.ndarray) -> np.ndarray:
    """One backward Euler step of ``u[level, weight]``."""
    return np.linalg.solve(np.eye(len(a)) - a, u)


def impulse(levels: int, coupling: float, t: np.ndarray) -> np.ndarray:
    """What is left in the first variable of a unit that it was given at t = 0, in continuous time."""
    value, vector = np.linalg.eig(rates(levels, coupling))
    share = vector[0] * np.linalg.solve(vector, np.eye(levels)[:, 0])
    return (share[None] * np.exp(np.outer(t, value))).sum(axis=1).real
