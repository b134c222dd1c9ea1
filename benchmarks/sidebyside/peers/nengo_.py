"""Nengo (its reference simulator): neurons joined by weights, not decoders; ``sim.step()`` a call.

Learning is PES, which moves the read-out's decoders and no input weight: far less work than ours, and named so.
Nengo's LIF is in continuous time with a refractory period of at least a step, and resets to zero.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import nengo
import numpy as np

from sidebyside.peers import Peer
from sidebyside.workloads import LABEL, RATE, TAU_MS, Workload, dense_spikes, weights

VERSION = nengo.__version__


def network(load: Workload, k: int, learns: bool) -> Callable[[int], Any]:
    """An ensemble whose neurons hear the inputs, and a read-out of its filtered spikes."""
    first, x = weights(load, k), dense_spikes(load.n_in, k)
    dt, tau = 1e-3, TAU_MS * 1e-3
    with nengo.Network(seed=0) as model:
        events = nengo.Node(lambda t: x[round(t / dt) % len(x)], size_out=load.n_in)
        neurons = nengo.Ensemble(
            load.hidden, 1, neuron_type=nengo.LIF(tau_rc=tau, tau_ref=dt), gain=np.ones(load.hidden),
            bias=np.zeros(load.hidden),
        )  # fmt: skip
        drive = first.into.T * (tau / dt)  # a spike is a current for one step
        nengo.Connection(events, neurons.neurons, transform=drive, synapse=None)
        out = nengo.Node(size_in=load.n_out)
        if learns:
            rule = nengo.PES(learning_rate=RATE)
            solver = nengo.solvers.NoSolver(np.zeros((load.hidden, load.n_out)))
            joined = nengo.Connection(
                neurons, out, function=lambda _: np.zeros(load.n_out), solver=solver, synapse=tau,
                learning_rule_type=rule,
            )  # fmt: skip
            wanted = nengo.Node(np.eye(load.n_out)[LABEL])
            nengo.Connection(out, joined.learning_rule, synapse=None)
            nengo.Connection(wanted, joined.learning_rule, transform=-1, synapse=None)
        else:
            nengo.Connection(neurons.neurons, out, transform=first.out.T * dt, synapse=tau)
    sim = nengo.Simulator(model, dt=dt, progress_bar=False)
    return lambda i: sim.step()


PEERS = [
    Peer("Nengo", "inference", partial(network, learns=False), "LIF neurons, dense weights"),
    Peer("Nengo, PES of the read-out alone", "learning", partial(network, learns=True), "decoders only"),
]
