"""snnTorch: `Leaky` layers between `Linear` ones, one step a call.

Learning is one-step online: the state is detached after each step, each input is replaced by its trace in the gradient
(forward the spike, backward the trace), cross-entropy of the output's membrane, `torch.optim.SGD`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import snntorch
import torch
from snntorch import surrogate
from torch import nn

from sidebyside.peers import Peer
from sidebyside.workloads import BETA, LABEL, RATE, Workload, dense_spikes, weights

torch.set_num_threads(1)
VERSION = snntorch.__version__


class _Traced(torch.autograd.Function):
    """A linear map of spikes whose weights' gradient meets the spikes' trace."""

    @staticmethod
    def forward(ctx: Any, spike: torch.Tensor, trace: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(trace, weight)
        return nn.functional.linear(spike, weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, torch.Tensor]:
        trace, weight = ctx.saved_tensors
        return grad @ weight if ctx.needs_input_grad[0] else None, None, grad.T @ trace


def _net(load: Workload, k: int) -> tuple[nn.Linear, nn.Linear, Any, Any]:
    first, slope = weights(load, k), surrogate.fast_sigmoid(slope=2)
    into, out = nn.Linear(load.n_in, load.hidden, bias=False), nn.Linear(load.hidden, load.n_out, bias=False)
    with torch.no_grad():
        into.weight.copy_(torch.tensor(first.into.T))
        out.weight.copy_(torch.tensor(first.out.T))
    hidden = snntorch.Leaky(beta=BETA, spike_grad=slope, reset_mechanism="subtract")
    return into, out, hidden, snntorch.Leaky(beta=BETA, spike_grad=slope, reset_mechanism="none")


def inference(load: Workload, k: int) -> Callable[[int], Any]:
    """Two layers forward, without gradients."""
    into, out, hidden, output = _net(load, k)
    x = torch.tensor(dense_spikes(load.n_in, k))[:, None]
    u, v = hidden.reset_mem(), output.reset_mem()

    @torch.no_grad()
    def step(i: int) -> torch.Tensor:
        nonlocal u, v
        spike, u = hidden(into(x[i % len(x)]), u)
        _, v = output(out(spike), v)
        return v[0]

    return step


def learning(load: Workload, k: int) -> Callable[[int], Any]:
    """The same with a backward pass through the one step, and SGD."""
    into, out, hidden, output = _net(load, k)
    x = torch.tensor(dense_spikes(load.n_in, k))[:, None]
    optimizer = torch.optim.SGD([into.weight, out.weight], lr=RATE)
    u, v, label = hidden.reset_mem(), output.reset_mem(), torch.tensor([LABEL])
    seen, spoken = torch.zeros(1, load.n_in), torch.zeros(1, load.hidden)

    def step(i: int) -> torch.Tensor:
        nonlocal u, v
        now = x[i % len(x)]
        seen.mul_(BETA).add_(now)
        spike, u = hidden(_Traced.apply(now, seen, into.weight), u.detach())
        spoken.mul_(BETA).add_(spike.detach())
        _, v = output(_Traced.apply(spike, spoken, out.weight), v.detach())
        optimizer.zero_grad()
        nn.functional.cross_entropy(v, label).backward()
        optimizer.step()
        return v.detach()[0]

    return step


PEERS = [
    Peer("snnTorch", "inference", inference, "two Leaky layers, dense", same=True, large=True),
    Peer("snnTorch, one-step online", "learning", learning, "detached state, traces, SGD", same=True, large=True),
]
