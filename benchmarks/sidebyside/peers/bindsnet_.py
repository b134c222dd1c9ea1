"""BindsNET: `Input` and `LIFNodes` joined by a `Connection`; ``network.run`` of one time step a call.

STDP is its `PostPre` rule: pre- and postsynaptic traces that a spike sets to 1 (nearest pairs, as ours), bounds by
clamping.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from sidebyside.peers import Peer
from sidebyside.workloads import STDP_RATE, STDP_TRACE_MS, TAU_MS, Workload, dense_spikes, stdp_start, weights

found = importlib.util.find_spec("bindsnet")
if found is None or found.submodule_search_locations is None:
    raise ModuleNotFoundError("No module named 'bindsnet'")
package = types.ModuleType("bindsnet")  # its own __init__ imports games and data sets, which want torchvision and more
package.__path__ = list(found.submodule_search_locations)
sys.modules["bindsnet"] = package
importlib.import_module("bindsnet.network")  # first: the other way round its imports go in a circle

from bindsnet.learning import PostPre  # noqa: E402
from bindsnet.network import Network  # noqa: E402
from bindsnet.network.nodes import Input, LIFNodes  # noqa: E402
from bindsnet.network.topology import Connection  # noqa: E402

torch.set_num_threads(1)
VERSION = version("bindsnet")


def _nodes(n: int, theta: float, traces: bool) -> LIFNodes:
    return LIFNodes(
        n=n, traces=traces, tc_trace=STDP_TRACE_MS, rest=0.0, reset=0.0, thresh=theta, refrac=0, tc_decay=TAU_MS
    )


def _stepping(network: Network, load: Workload, k: int) -> Callable[[int], Any]:
    x = torch.tensor(dense_spikes(load.n_in, k), dtype=torch.bool)[:, None, None]

    def step(i: int) -> None:
        network.run(inputs={"X": x[i % len(x)]}, time=1)

    return step


def inference(load: Workload, k: int) -> Callable[[int], Any]:
    """Hidden neurons that reset to zero (BindsNET has no reset by subtraction), and an output layer."""
    first, network = weights(load, k), Network(dt=1.0, learning=False)
    layers = Input(n=load.n_in), _nodes(load.hidden, 1.0, False), _nodes(load.n_out, 1e30, False)
    for name, nodes in zip("XYZ", layers):
        network.add_layer(nodes, name)
    for (a, b), (source, target), w in zip(("XY", "YZ"), (layers[:2], layers[1:]), (first.into, first.out)):
        network.add_connection(Connection(source, target, w=torch.tensor(w)), a, b)
    return _stepping(network, load, k)


def stdp(load: Workload, k: int) -> Callable[[int], Any]:
    """All input weights plastic."""
    into, theta = stdp_start(load, k)
    network = Network(dt=1.0)
    source, target = Input(n=load.n_in, traces=True, tc_trace=STDP_TRACE_MS), _nodes(load.hidden, theta, True)
    network.add_layer(source, "X")
    network.add_layer(target, "Y")
    joined = Connection(
        source, target, w=torch.tensor(into), update_rule=PostPre, nu=(0.8 * STDP_RATE, STDP_RATE), wmin=0.0, wmax=1.0
    )
    network.add_connection(joined, "X", "Y")
    return _stepping(network, load, k)


PEERS = [
    Peer("BindsNET", "inference", inference, "two LIF layers, dense"),
    Peer("BindsNET, PostPre", "stdp", stdp, "pair STDP by traces, dense"),
]
