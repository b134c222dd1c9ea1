"""norse: `LIFBoxCell` (no synaptic current) between `Linear` layers, `LIBoxCell` as the read-out, one step a call.

Its neurons integrate by Euler's rule, decay ``1 - dt / tau``, and reset to zero; weights are scaled by ``tau / dt`` as
its input comes with that factor. Learning is one-step online: detached state, the gradient of this step's
cross-entropy, `torch.optim.SGD`; no input traces, as norse has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import norse
import torch
from norse.torch.functional.leaky_integrator_box import LIBoxParameters
from norse.torch.functional.lif_box import LIFBoxParameters
from norse.torch.module.leaky_integrator_box import LIBoxCell
from norse.torch.module.lif_box import LIFBoxCell
from torch import nn

from sidebyside.peers import Peer
from sidebyside.workloads import LABEL, RATE, TAU_MS, Workload, dense_spikes, weights

torch.set_num_threads(1)
VERSION = norse.__version__


def _forward(load: Workload, k: int) -> tuple[list[torch.Tensor], Callable[[torch.Tensor, Any], Any]]:
    first, tau_inv = weights(load, k), torch.tensor(1000.0 / TAU_MS)
    into, out = nn.Linear(load.n_in, load.hidden, bias=False), nn.Linear(load.hidden, load.n_out, bias=False)
    with torch.no_grad():
        into.weight.copy_(torch.tensor(first.into.T) * TAU_MS)
        out.weight.copy_(torch.tensor(first.out.T) * TAU_MS)
    hidden = LIFBoxCell(LIFBoxParameters(tau_mem_inv=tau_inv))
    output = LIBoxCell(LIBoxParameters(tau_mem_inv=tau_inv))

    def forward(x: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        s, t = state
        spike, s = hidden(into(x), s)
        said, t = output(out(spike), t)
        return said, (s, t)

    return [into.weight, out.weight], forward


def inference(load: Workload, k: int) -> Callable[[int], Any]:
    """Two layers forward, without gradients."""
    _, forward = _forward(load, k)
    x, state = torch.tensor(dense_spikes(load.n_in, k))[:, None], (None, None)

    @torch.no_grad()
    def step(i: int) -> torch.Tensor:
        nonlocal state
        said, state = forward(x[i % len(x)], state)
        return said

    return step


def learning(load: Workload, k: int) -> Callable[[int], Any]:
    """The same with a backward pass through the one step, and SGD."""
    moving, forward = _forward(load, k)
    optimizer, label = torch.optim.SGD(moving, lr=RATE), torch.tensor([LABEL])
    x, state = torch.tensor(dense_spikes(load.n_in, k))[:, None], (None, None)

    def step(i: int) -> torch.Tensor:
        nonlocal state
        said, state = forward(x[i % len(x)], state)
        optimizer.zero_grad()
        nn.functional.cross_entropy(said, label).backward()
        optimizer.step()
        state = tuple(type(s)(*(v.detach() for v in s)) if isinstance(s, tuple) else s.detach() for s in state)
        return said

    return step


PEERS = [
    Peer("norse", "inference", inference, "two boxed LIF layers, dense", large=True),
    Peer("norse, one-step online", "learning", learning, "detached state, no input traces, SGD", large=True),
]
