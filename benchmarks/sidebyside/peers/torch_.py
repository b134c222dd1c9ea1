"""Written by hand in PyTorch: gathered rows for inference, dense outer products for learning.

`learning` is the usual one-step online rule: state detached, each input's trace in place of its spike, plain SGD. It
is not the exact gradient that ours follows (which also filters eligibility by the membrane above), and does less work
for it: an outer product of trace and credit over all weights, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sidebyside.peers import Peer
from sidebyside.workloads import BETA, LABEL, RATE, Workload, dense_spikes, spikes, weights

torch.set_num_threads(1)
VERSION = torch.__version__
SLOPE = 2.0


def _start(load: Workload, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    first = weights(load, k)
    into, out = torch.tensor(first.into), torch.tensor(first.out)
    return into, out, torch.zeros(load.hidden), torch.zeros(load.hidden), torch.zeros(load.n_out)


def inference(load: Workload, k: int) -> Callable[[int], Any]:
    """Rows of the active inputs gathered and summed; the spikes of the hidden layer likewise."""
    into, out, hidden, fired, output = _start(load, k)
    rows = [torch.tensor(r) for r in spikes(load.n_in, k)]

    @torch.no_grad()
    def step(i: int) -> torch.Tensor:
        nonlocal fired
        hidden.mul_(BETA).add_(into.index_select(0, rows[i % len(rows)]).sum(0)).sub_(fired)
        above = hidden > 1.0
        fired = above.float()
        output.mul_(BETA).add_(out[above].sum(0))
        return output

    return step


def learning(load: Workload, k: int) -> Callable[[int], Any]:
    """Inference, then both layers' weights move by trace x credit, dense."""
    into, out, hidden, fired, output = _start(load, k)
    dense = torch.tensor(dense_spikes(load.n_in, k))
    rows = [torch.tensor(r) for r in spikes(load.n_in, k)]
    seen, spoken, target = torch.zeros(load.n_in), torch.zeros(load.hidden), torch.zeros(load.n_out)
    target[LABEL] = 1

    @torch.no_grad()
    def step(i: int) -> torch.Tensor:
        nonlocal fired
        at = i % len(rows)
        seen.mul_(BETA).add_(dense[at])
        hidden.mul_(BETA).add_(into.index_select(0, rows[at]).sum(0)).sub_(fired)
        above = hidden > 1.0
        fired = above.float()
        spoken.mul_(BETA).add_(fired)
        output.mul_(BETA).add_(out[above].sum(0))
        error = torch.softmax(output, 0) - target
        credit = (out @ error) / (1 + SLOPE * (hidden - 1).abs()).square()
        out.addr_(spoken, error, alpha=-RATE)
        into.addr_(seen, credit, alpha=-RATE)
        return output

    return step


PEERS = [
    Peer("torch, by hand: gather", "inference", inference, "active rows gathered and summed", same=True, large=True),
    Peer("torch, by hand: dense online", "learning", learning, "one-step rule, SGD", same=True, large=True),
]
