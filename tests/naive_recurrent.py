"""One recurrent layer of (adaptive) LIF neurons under a leaky read-out, and its gradient by torch autograd: an oracle.

::

    I[t] = alpha I[t-1] + x[t] W_in + S[t-1] W_rec          without a current: alpha = 0
    U[t] = beta U[t-1] + I[t] - theta S[t-1]                or beta U[t-1] (1 - S[t-1]) + I[t], reset to zero
    U[t] = 0, S[t] = 0                                      for `refractory` steps after a spike
    b[t] = rho b[t-1] + jump S[t-1]
    S[t] = 1 if U[t] > theta + b[t] else 0
    Y[t] = kappa Y[t-1] + S[t] W_out

What a reset takes away is detached, and so is what the refractory period takes away (as in Bellec et al. 2020, where
the membrane runs on and only the derivative of the spike is 0): dU[t]/dU[t-1] is beta throughout. The adaptation's
dependence on the layer's own spikes is kept. Float64; nothing of `spiked.learners`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from naive import surrogate


class Gradients(NamedTuple):
    """The gradient by the weights from the input, from the layer itself, and to the read-out, float64[rows, n]."""

    w_in: np.ndarray
    w_rec: np.ndarray
    w_out: np.ndarray


class Course(NamedTuple):
    """What the layer did: membranes, spikes and adaptation ``[t, n]``, the read-out's membrane ``[t, n_out]``."""

    membrane: np.ndarray
    spikes: np.ndarray
    adaptation: np.ndarray
    output: np.ndarray


def recurrent_gradients(
    w_in: np.ndarray,
    w_rec: np.ndarray,
    w_out: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    beta: float | np.ndarray,
    kappa: float | np.ndarray,
    rho: float = 0.0,
    jump: float = 0.0,
    theta: float = 1.0,
    alpha: float = 0.0,
    surrogate_name: str = "fast_sigmoid",
    slope: float = 2.0,
    detach_recurrent: bool = False,
    keep_self: bool = False,
    refractory: int = 0,
    to_zero: bool = False,
    objective: str = "membrane_ce",
    targets: np.ndarray | None = None,
    since: int = 0,
    until: int | None = None,
) -> Gradients:
    """Gradient of the sum of the losses of all labelled steps from `since` on, before `until`, through all time.

    Parameters
    ----------
    w_in, w_rec, w_out : ``[n_in, n]``, ``[n, n]`` (from, to), ``[n, n_out]``.
    x : ``[t, n_in]``.
    labels : int[t]; the class of each step, negative where there is none; rows of `targets` if that is given.
    beta, kappa : decay per step of the membranes and of the read-out, one for all or one for each neuron.
    rho, jump, theta, alpha, refractory, to_zero : as in the equations above.
    surrogate_name, slope : the derivative of the spike.
    detach_recurrent : leave out what passes through the recurrent weights: the gradient of e-prop.
    keep_self : with `detach_recurrent`, keep what passes from a neuron to itself: that of SnAp-1.
    objective : ``"membrane_ce"`` or ``"membrane_mse"`` (the sum of squares over outputs; 1 at the label, 0 elsewhere).
    targets : vectors for ``"membrane_mse"``, ``[rows, n_out]``.
    """
    weights = [
        torch.tensor(np.asarray(w, float), dtype=torch.float64, requires_grad=True) for w in (w_in, w_rec, w_out)
    ]
    numbers = {"beta": beta, "kappa": kappa, "rho": rho, "jump": jump, "theta": theta, "alpha": alpha}
    loss = torch.zeros((), dtype=torch.float64)
    course = _run(weights, x, numbers, surrogate_name, slope, detach_recurrent, keep_self, refractory, to_zero)
    for t, (*_, y) in enumerate(course):
        if int(labels[t]) < 0 or t < since or (until is not None and t >= until):
            continue
        if objective == "membrane_ce":
            loss = loss - torch.log_softmax(y, 0)[int(labels[t])]
        else:
            wanted = np.eye(len(y)) if targets is None else targets
            loss = loss + ((torch.tensor(wanted[int(labels[t])], dtype=torch.float64) - y) ** 2).sum()
    loss.backward()
    return Gradients(*(np.zeros(tuple(w.shape)) if w.grad is None else w.grad.numpy() for w in weights))


def recurrent_course(
    w_in: np.ndarray,
    w_rec: np.ndarray,
    w_out: np.ndarray,
    x: np.ndarray,
    *,
    beta: float | np.ndarray,
    kappa: float | np.ndarray,
    rho: float = 0.0,
    jump: float = 0.0,
    theta: float = 1.0,
    alpha: float = 0.0,
    refractory: int = 0,
    to_zero: bool = False,
) -> Course:
    """What the layer and its read-out do with `x`; parameters as in `recurrent_gradients`."""
    weights = [torch.tensor(np.asarray(w, float), dtype=torch.float64) for w in (w_in, w_rec, w_out)]
    numbers = {"beta": beta, "kappa": kappa, "rho": rho, "jump": jump, "theta": theta, "alpha": alpha}
    rows = _run(weights, x, numbers, "triangular", 1.0, False, False, refractory, to_zero)
    return Course(*(np.array([row.numpy() for row in column]) for column in zip(*rows)))


def _run(  # type: ignore[no-untyped-def]
    weights, x, numbers, surrogate_name, slope, detach_recurrent, keep_self, refractory, to_zero
):
    """Rows of (U, S, b, Y) as tensors."""

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v, able):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(v, able)
            return (v > 0).to(v.dtype) * able

        @staticmethod
        def backward(ctx, up):  # type: ignore[no-untyped-def]
            v, able = ctx.saved_tensors
            return up * able * torch.as_tensor(surrogate(surrogate_name, v.numpy(), slope)), None

    w_in, w_rec, w_out = weights
    n, n_out = w_out.shape
    beta, kappa, rho, jump, theta, alpha = (
        torch.as_tensor(np.asarray(numbers[k], float)) for k in ("beta", "kappa", "rho", "jump", "theta", "alpha")
    )
    u, s, b, current = (torch.zeros(n, dtype=torch.float64) for _ in range(4))
    y = torch.zeros(n_out, dtype=torch.float64)
    since_spike = np.full(n, refractory + 1)
    own = torch.eye(n, dtype=torch.float64)
    rows = []
    for row in torch.tensor(np.asarray(x, float), dtype=torch.float64):
        if not detach_recurrent:
            heard = s @ w_rec
        elif keep_self:
            heard = s.detach() @ (w_rec * (1 - own)) + s * torch.diagonal(w_rec)
        else:
            heard = s.detach() @ w_rec
        current = alpha * current + row @ w_in + heard
        taken = (beta * u if to_zero else theta) * s
        b = rho * b + jump * s
        u = beta * u + current - taken.detach()
        able = torch.tensor((since_spike >= refractory).astype(float))
        u = u - (u * (1 - able)).detach()
        s = Spike.apply(u - theta - b, able)
        since_spike = np.where(s.detach().numpy() > 0, 0, since_spike + 1)
        y = kappa * y + s @ w_out
        rows.append((u, s, b, y))
    return rows
