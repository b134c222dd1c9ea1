"""Slow, dense, readable oracles for the learners: NumPy and torch, nothing of `spiked.learners`.

Everything is float64 and dense: inputs are ``x[t, channel]``, weights a list of ``[n_in, n_out]``, one entry a layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass
class Stack:
    """A stack of LIF layers: weights, decays, thresholds, and whether the reset is to zero."""

    weights: list[np.ndarray]
    betas: list[float]
    thetas: list[float]
    to_zero: list[bool]

    def copy(self) -> Stack:
        return Stack([w.copy() for w in self.weights], self.betas, self.thetas, self.to_zero)


def passive_membrane(u0: float, drive: float, tau: float, t: np.ndarray) -> np.ndarray:
    """Eq. 2 (and 17 for no drive): ``I R + (U0 - I R) exp(-t / tau)``."""
    return drive + (u0 - drive) * np.exp(-t / tau)


def simulate(stack: Stack, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Membranes and spikes of every layer, each ``[t, neuron]`` (Eq. 4, 5, 20, 21), in the dtype of `x`."""
    depth = len(stack.weights)
    u = [np.zeros(w.shape[1], x.dtype) for w in stack.weights]
    s = [np.zeros(w.shape[1], x.dtype) for w in stack.weights]
    membranes: list[list[np.ndarray]] = [[] for _ in range(depth)]
    spikes: list[list[np.ndarray]] = [[] for _ in range(depth)]
    for row in x:
        below = row
        for i in range(depth):
            beta, theta = x.dtype.type(stack.betas[i]), x.dtype.type(stack.thetas[i])
            if stack.to_zero[i]:
                leaked = beta * u[i] * (1 - s[i])
            else:
                leaked = beta * u[i] - np.where(s[i] > 0, theta, 0)
            u[i] = leaked + below @ stack.weights[i]
            s[i] = (u[i] > theta).astype(x.dtype)
            membranes[i].append(u[i])
            spikes[i].append(s[i])
            below = s[i]
    return [np.array(m) for m in membranes], [np.array(m) for m in spikes]


def surrogate(name: str, v: np.ndarray, slope: float) -> np.ndarray:
    """Derivative of a smooth stand-in for the step, 1 at threshold."""
    if name == "fast_sigmoid":
        return 1 / (1 + slope * np.abs(v)) ** 2
    if name == "sigmoid":
        p = 1 / (1 + np.exp(-np.clip(slope * v, -500, 500)))
        return 4 * p * (1 - p)
    return np.maximum(0, 1 - slope * np.abs(v))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


@dataclass
class DenseRtrl:
    """The learner with dense traces: every row of every layer moves at every step.

    `feedback` holds a matrix for each hidden layer, or None for the transposed weights; `direct` says that it comes
    from the output at once.
    """

    stack: Stack
    objective: str = "membrane_ce"
    surrogate: str = "fast_sigmoid"
    slope: float = 2.0
    update: str = "window"
    optimizer: str = "sgd"
    rate: float = 1e-3
    feedback: list[np.ndarray] | None = None
    direct: bool = False
    fired: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        weights = self.stack.weights
        self.u = [np.zeros(w.shape[1]) for w in weights]
        self.s = [np.zeros(w.shape[1]) for w in weights]
        self.m = [np.zeros(w.shape[0]) for w in weights]
        self.eps = [np.zeros(w.shape) for w in weights]
        self.square = [np.zeros(w.shape) for w in weights]
        self.start_window()

    def start_window(self) -> None:
        self.grad = [np.zeros(w.shape) for w in self.stack.weights]
        self.counts = np.zeros(self.stack.weights[-1].shape[1])
        self.labelled = 0

    def carry_down(self, error: np.ndarray, psi: list[np.ndarray]) -> list[np.ndarray]:
        """Learning signal dL/dS of each hidden layer (dL/dU of the output)."""
        depth = len(self.stack.weights)
        signal, credit = [error] * depth, [error] * depth
        for i in range(depth - 2, -1, -1):
            back = self.stack.weights[i + 1] if self.feedback is None else self.feedback[i]
            signal[i] = back @ (error if self.direct else credit[i + 1])
            credit[i] = signal[i] * psi[i]
        return signal

    def step(self, x: np.ndarray, label: int = -1, close: bool = False, target: np.ndarray | None = None) -> None:
        stack, depth = self.stack, len(self.stack.weights)
        below, psi = x, []
        for i in range(depth):
            if stack.to_zero[i]:
                leaked = stack.betas[i] * self.u[i] * (1 - self.s[i])
            else:
                leaked = stack.betas[i] * self.u[i] - np.where(self.s[i] > 0, stack.thetas[i], 0)
            self.u[i] = leaked + below @ stack.weights[i]
            self.s[i] = (self.u[i] > stack.thetas[i]).astype(float)
            self.m[i] = stack.betas[i] * self.m[i] + below
            psi.append(surrogate(self.surrogate, self.u[i] - stack.thetas[i], self.slope))
            if i + 1 < depth:
                self.eps[i] = stack.betas[i + 1] * self.eps[i] + np.outer(self.m[i], psi[i])
            below = self.s[i]
        self.fired.append(np.concatenate(self.s))
        top = depth - 1
        if label >= 0 and self.objective == "rate_ce":
            self.labelled += 1
            self.counts += self.s[top]
            for i in range(top):
                self.grad[i] += self.eps[i]
            self.grad[top] += np.outer(self.m[top], psi[top])
        elif label >= 0:
            self.labelled += 1
            u = self.u[top]
            wanted = np.eye(len(u))[label] if target is None else target
            error = softmax(u) - wanted if self.objective == "membrane_ce" else 2 * (u - wanted)
            signal = self.carry_down(error, psi)
            now = [self.eps[i] * signal[i] for i in range(top)] + [np.outer(self.m[top], error)]
            for i in range(depth):
                if self.update == "step":
                    self.stack.weights[i] -= self.rate * now[i]
                else:
                    self.grad[i] += now[i]
        if close:
            self.close(label)

    def close(self, label: int) -> None:
        by_rate = self.objective == "rate_ce"
        if self.update == "window" and self.labelled > 0 and (label >= 0 or not by_rate):
            gradient = [g if by_rate else g / self.labelled for g in self.grad]
            if by_rate:
                error = softmax(self.counts) - np.eye(len(self.counts))[label]
                gradient = [g * s for g, s in zip(gradient, self.carry_down(error, [np.ones(len(u)) for u in self.u]))]
            for w, g, v in zip(self.stack.weights, gradient, self.square):
                if self.optimizer == "rms":
                    v[...] = 0.99 * v + 0.01 * g**2
                    w -= self.rate * g / (np.sqrt(v) + 1e-4)
                else:
                    w -= self.rate * g
        self.start_window()


def bptt(
    stack: Stack,
    x: np.ndarray,
    objective: str,
    labels: np.ndarray,
    kind: str,
    slope: float,
    since: int = 0,
    straight_through: bool = False,
) -> list[np.ndarray]:
    """Gradient by torch autograd through time with the reset detached: sum over labelled steps from `since` on.

    `straight_through` takes the surrogate of the last layer as 1.
    """

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v, one):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(v)
            ctx.one = one
            return (v > 0).to(v.dtype)

        @staticmethod
        def backward(ctx, up):  # type: ignore[no-untyped-def]
            (v,) = ctx.saved_tensors
            return (up if ctx.one else up * torch.as_tensor(surrogate(kind, v.numpy(), slope))), None

    weights = [torch.tensor(w, dtype=torch.float64, requires_grad=True) for w in stack.weights]
    u = [torch.zeros(w.shape[1], dtype=torch.float64) for w in weights]
    s = [torch.zeros(w.shape[1], dtype=torch.float64) for w in weights]
    loss = torch.zeros((), dtype=torch.float64)
    counts = torch.zeros(weights[-1].shape[1], dtype=torch.float64)
    for t, row in enumerate(torch.tensor(x, dtype=torch.float64)):
        below = row
        for i, w in enumerate(weights):
            beta, theta = stack.betas[i], stack.thetas[i]
            reset = (beta * u[i] if stack.to_zero[i] else theta) * s[i]
            u[i] = beta * u[i] - reset.detach() + below @ w
            s[i] = Spike.apply(u[i] - theta, straight_through and i + 1 == len(weights))
            below = s[i]
        if t < since:
            continue
        label = int(labels[t])
        if label >= 0:
            counts = counts + s[-1]
        if label >= 0 and objective == "membrane_ce":
            loss = loss - torch.log_softmax(u[-1], 0)[label]
        elif label >= 0 and objective == "membrane_mse":
            loss = loss + ((torch.eye(len(u[-1]), dtype=torch.float64)[label] - u[-1]) ** 2).sum()
    if objective == "rate_ce":
        loss = -torch.log_softmax(counts, 0)[int(labels[-1])]
    loss.backward()
    return [np.zeros(w.shape) if w.grad is None else w.grad.numpy() for w in weights]


def batch_lda(x: np.ndarray, y: np.ndarray, n_classes: int, ridge: float, at: np.ndarray) -> np.ndarray:
    """Scores of the points `at` by linear discriminant analysis of all of `x`, `y` at once; absent classes are NaN."""
    d = x.shape[1]
    scatter = ridge * np.eye(d)
    means = np.full((n_classes, d), np.nan)
    for k in np.unique(y):
        own = x[y == k]
        means[k] = own.mean(0)
        scatter += (own - means[k]).T @ (own - means[k])
    solved = np.linalg.solve(scatter, means.T)
    return len(x) * (at @ solved - 0.5 * np.einsum("kd,dk->k", means, solved))


def nearest_mean(x: np.ndarray, y: np.ndarray, n_classes: int, at: np.ndarray) -> np.ndarray:
    """Class whose mean is nearest to each point."""
    means = np.array([x[y == k].mean(0) for k in range(n_classes)])
    return ((at[:, None] - means) ** 2).sum(-1).argmin(1)


def spike_traces(spikes: np.ndarray, taus: list[float], dt: float) -> np.ndarray:
    """Exponential traces ``[tau, neuron]`` at the end of spikes ``[t, neuron]``, in closed form: sums over spikes."""
    age = (len(spikes) - 1 - np.arange(len(spikes))) * dt
    return np.array([np.exp(-age / tau) @ spikes for tau in taus])


def densify(indptr: np.ndarray, indices: np.ndarray, counts: np.ndarray, n_in: int) -> np.ndarray:
    """Sparse rows as ``[t, channel]``, float64."""
    x = np.zeros((len(indptr) - 1, n_in))
    for t in range(len(x)):
        here = slice(indptr[t], indptr[t + 1])
        x[t, indices[here]] = counts[here]
    return x
