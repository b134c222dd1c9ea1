"""SpikingJelly: `LIFNode` between `Linear` layers; its own OTTT, SLTT and STDP, one step a call.

OTTT and SLTT go through its `ottt_online_training` with sequences of one step and an update each; the read-out is a
linear map of the spikes. STDP is its `STDPLearner`, with weights moved by what it returns, and clamped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from spikingjelly.activation_based import layer, learning, neuron
from torch import nn

from sidebyside.peers import Peer
from sidebyside.workloads import (
    LABEL,
    RATE,
    STDP_RATE,
    STDP_TRACE_MS,
    TAU_MS,
    Workload,
    dense_spikes,
    stdp_start,
    weights,
)

torch.set_num_threads(1)
VERSION = version("spikingjelly")
PLAIN: dict[str, Any] = {"tau": TAU_MS, "decay_input": False, "v_threshold": 1.0, "v_reset": None}


def _linear(weight: Any) -> nn.Linear:
    made = nn.Linear(*weight.shape, bias=False)
    with torch.no_grad():
        made.weight.copy_(torch.tensor(weight.T))
    return made


def inference(load: Workload, k: int) -> Callable[[int], Any]:
    """Two layers forward, without gradients; the second never fires."""
    first = weights(load, k)
    silent = PLAIN | {"v_threshold": 1e30}
    net = nn.Sequential(
        _linear(first.into), neuron.LIFNode(**PLAIN), _linear(first.out), neuron.LIFNode(**silent)
    ).eval()  # fmt: skip
    x = torch.tensor(dense_spikes(load.n_in, k))[:, None]

    @torch.no_grad()
    def step(i: int) -> torch.Tensor:
        return net(x[i % len(x)])

    return step


def online(load: Workload, k: int, rule: str) -> Callable[[int], Any]:
    """A step forward, backward, and of SGD."""
    first = weights(load, k)
    if rule == "OTTT":
        node = neuron.OTTTLIFNode(**PLAIN)
        net = layer.OTTTSequential(_linear(first.into), node, _linear(first.out))
    else:
        net = nn.Sequential(_linear(first.into), neuron.SLTTLIFNode(**PLAIN), _linear(first.out))
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
    x, target = torch.tensor(dense_spikes(load.n_in, k))[:, None, None], torch.tensor([[LABEL]])
    train = learning.online_learning.ottt_online_training

    def step(i: int) -> Any:
        return train(net, optimizer, x[i % len(x)], target, nn.functional.cross_entropy, True)[1]

    return step


def stdp(load: Workload, k: int) -> Callable[[int], Any]:
    """All input weights plastic."""
    into, theta = stdp_start(load, k)
    synapse = _linear(into)
    node = neuron.LIFNode(**(PLAIN | {"v_threshold": theta, "v_reset": 0.0}))
    pairs = learning.STDPLearner("s", synapse, node, STDP_TRACE_MS, STDP_TRACE_MS)
    x = torch.tensor(dense_spikes(load.n_in, k))[:, None]

    @torch.no_grad()
    def step(i: int) -> torch.Tensor:
        fired = node(synapse(x[i % len(x)]))
        change = pairs.step(on_grad=False)
        synapse.weight.add_(change, alpha=STDP_RATE).clamp_(0.0, 1.0)
        return fired

    return step


PEERS = [
    Peer("SpikingJelly", "inference", inference, "two LIF layers, dense", large=True),
    Peer("SpikingJelly, OTTT", "learning", partial(online, rule="OTTT"), "online through time, SGD"),
    Peer("SpikingJelly, SLTT", "learning", partial(online, rule="SLTT"), "one-step online, SGD"),
    Peer("SpikingJelly, STDP", "stdp", stdp, "pair STDP by traces, dense"),
]
