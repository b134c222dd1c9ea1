"""The whole influence matrix of a recurrent layer, dense, one tensor ``M[i, r, j]`` = d(neuron i) / d(weight r to j).

The oracle of `rtrl_full` for what autograd has no word for: entries that are left out (SnAp), and weights that move at
the end of windows while the influence lives on. Float64 NumPy; nothing of `spiked.learners`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from naive import softmax, surrogate


def reached(w_rec: np.ndarray, steps: int) -> np.ndarray:
    """SnAp-n's pattern, bool[i, j]: whether neuron j acts on i within so many steps, the first being that on itself."""
    n = len(w_rec)
    hop = (w_rec != 0).astype(int)
    paths = sum((np.linalg.matrix_power(hop, k) for k in range(steps)), np.zeros((n, n), int))
    return (paths > 0).T


@dataclass
class DenseFullRtrl:
    """One layer (from below `w_in`, from itself `w_rec`) and a read-out `w_out`, learning by windows."""

    w_in: np.ndarray
    w_rec: np.ndarray
    w_out: np.ndarray
    beta: float | np.ndarray
    kappa: float
    theta: float = 1.0
    alpha: float = 0.0
    rho: float = 0.0
    jump: float = 0.0
    surrogate: str = "fast_sigmoid"
    slope: float = 2.0
    objective: str = "membrane_ce"
    optimizer: str = "sgd"
    rate: float = 0.0
    sparse_steps: int = 0

    def __post_init__(self) -> None:
        (n_in, n), n_out = self.w_in.shape, self.w_out.shape[1]
        rows = n_in + n
        self.u, self.s, self.b, self.current, self.psi = (np.zeros(n) for _ in range(5))
        self.y = np.zeros(n_out)
        self.du, self.di, self.db, self.ds = (np.zeros((n, rows, n)) for _ in range(4))
        self.dy = np.zeros((n_out, rows, n))
        self.sbar = np.zeros(n)
        self.square = [np.zeros((rows, n)), np.zeros((n, n_out))]
        self.mask = np.ones((n, n), bool)
        self.plastic = np.ones((rows, n), bool)
        if self.sparse_steps:
            self.mask = reached(self.w_rec, self.sparse_steps)
            self.plastic[n_in:] = self.w_rec != 0
        self.start_window()

    def start_window(self) -> None:
        self.grad = [np.zeros(self.dy.shape[1:]), np.zeros(self.w_out.shape)]
        self.labelled = 0

    def step(self, x: np.ndarray, label: int = -1, close: bool = False) -> None:
        n = len(self.u)
        heard = np.concatenate([x, self.s])
        immediate = np.zeros(self.du.shape)
        immediate[np.arange(n), :, np.arange(n)] = heard
        through = np.einsum("li,lrj->irj", self.w_rec, self.ds)
        self.current = self.alpha * self.current + x @ self.w_in + self.s @ self.w_rec
        self.u = self.beta * self.u - self.theta * self.s + self.current
        self.b = self.rho * self.b + self.jump * self.s
        keep = self.mask[:, None, :]
        self.di = (self.alpha * self.di + through + immediate) * keep
        self.du = np.reshape(self.beta, (-1, 1, 1)) * self.du + self.di
        self.db = self.rho * self.db + self.jump * self.ds
        distance = self.u - self.theta - self.b
        self.s = (distance > 0).astype(float)
        self.ds = surrogate(self.surrogate, distance, self.slope)[:, None, None] * (self.du - self.db)
        self.y = self.kappa * self.y + self.s @ self.w_out
        self.dy = self.kappa * self.dy + np.einsum("ik,irj->krj", self.w_out, self.ds)
        self.sbar = self.kappa * self.sbar + self.s
        if label >= 0:
            wanted = np.eye(len(self.y))[label]
            error = softmax(self.y) - wanted if self.objective == "membrane_ce" else 2 * (self.y - wanted)
            self.grad[0] += np.einsum("k,krj->rj", error, self.dy) * self.plastic
            self.grad[1] += np.outer(self.sbar, error)
            self.labelled += 1
        if close:
            self.close()

    def close(self) -> None:
        whole = np.concatenate([self.w_in, self.w_rec])
        for w, g, v in zip((whole, self.w_out), self.grad, self.square) if self.labelled else ():
            g /= self.labelled
            if self.optimizer == "rms":
                v[...] = 0.99 * v + 0.01 * g**2
                w -= self.rate * g / (np.sqrt(v) + 1e-4)
            else:
                w -= self.rate * g
        self.w_in, self.w_rec = whole[: len(self.w_in)], whole[len(self.w_in) :]
        self.start_window()
