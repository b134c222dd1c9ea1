"""NEST (PyNEST): spike generators, parrots, and its own neurons and e-prop synapses; many steps a call.

Inference: `iaf_psc_delta`, static synapses. Learning: the e-prop of Bellec et al. (2020) as NEST has it
(`eprop_iaf_adapt_bsshslm_2020`, `eprop_readout_bsshslm_2020`, `eprop_synapse_bsshslm_2020`): gradient descent, an
update at the end of every window of `WINDOW` steps, cross-entropy over the whole window, random feedback. With
``regular_spike_arrival`` an input moves the membrane by its whole weight, as elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

import numpy as np

from sidebyside.peers import Peer
from sidebyside.timing import Side
from sidebyside.workloads import (
    JUMP,
    LABEL,
    POOL,
    RATE,
    TAU_ADAPT_MS,
    TAU_MS,
    WINDOW,
    Workload,
    spikes,
    weights,
)

with contextlib.redirect_stdout(sys.stderr):
    import nest

VERSION = nest.__version__
STEP = "bsshslm_2020"


def _fresh(**settings: Any) -> None:
    nest.ResetKernel()
    nest.set(resolution=1.0, total_num_virtual_procs=1, print_time=False, **settings)
    with contextlib.suppress(Exception):  # its name has changed between versions
        nest.verbosity = nest.VerbosityLevel.ERROR


def _inputs(load: Workload) -> tuple[Any, Any]:
    generators = nest.Create("spike_generator", load.n_in)
    parrots = nest.Create("parrot_neuron", load.n_in)
    nest.Connect(generators, parrots, "one_to_one", {"delay": 1.0})
    return generators, parrots


def _send(generators: Any, load: Workload, k: int, first: int, n: int) -> None:
    """Give the generators the spikes of steps `first` to ``first + n``."""
    rows = spikes(load.n_in, k)
    channels = np.concatenate([rows[(first + t) % POOL] for t in range(n)])
    times = np.repeat(first + 1.0 + np.arange(n), k)
    order = np.argsort(channels, kind="stable")
    cuts = np.searchsorted(channels[order], np.arange(1, load.n_in))
    generators.set([{"spike_times": part} for part in np.split(times[order], cuts)])


def _side(generators: Any, load: Workload, k: int, block: int) -> Side:
    """Simulate in blocks; handing the spikes over is not timed."""
    at = 0

    def run(n: int) -> float:
        nonlocal at
        blocks, took = -(-n // block), 0.0
        for _ in range(blocks):
            _send(generators, load, k, at, block)
            began = time.perf_counter()
            nest.Simulate(float(block))
            took += time.perf_counter() - began
            at += block
        return took * n / (blocks * block)

    return run


def inference(load: Workload, k: int) -> Side:
    """Reset to zero (NEST has no other), delays of a step."""
    _fresh()
    first = weights(load, k)
    generators, parrots = _inputs(load)
    plain = {"tau_m": TAU_MS, "C_m": TAU_MS, "E_L": 0.0, "V_m": 0.0, "V_reset": 0.0, "t_ref": 1.0}
    hidden = nest.Create("iaf_psc_delta", load.hidden, plain | {"V_th": 1.0})
    out = nest.Create("iaf_psc_delta", load.n_out, plain | {"V_th": 1e30})
    nest.Connect(parrots, hidden, "all_to_all", {"weight": first.into.T.astype(float), "delay": 1.0})
    if load.task.startswith("eprop"):
        nest.Connect(hidden, hidden, "all_to_all", {"weight": first.loops.T.astype(float), "delay": 1.0})
    nest.Connect(hidden, out, "all_to_all", {"weight": first.out.T.astype(float), "delay": 1.0})
    return _side(generators, load, k, POOL)


def eprop(load: Workload, k: int) -> Side:
    """Recurrent, adaptive thresholds, learning in every window."""
    window = float(WINDOW)
    _fresh(eprop_update_interval=window, eprop_learning_window=window, eprop_reset_neurons_on_update=False)
    first, rng = weights(load, k), np.random.default_rng(0)
    generators, parrots = _inputs(load)
    hidden = nest.Create(
        f"eprop_iaf_adapt_{STEP}", load.hidden,
        {"tau_m": TAU_MS, "C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "V_th": 1.0, "t_ref": 1.0, "c_reg": 0.0,
         "regular_spike_arrival": True, "adapt_tau": TAU_ADAPT_MS, "adapt_beta": JUMP,
         "surrogate_gradient_function": "piecewise_linear"},
    )  # fmt: skip
    out = nest.Create(
        f"eprop_readout_{STEP}", load.n_out,
        {"tau_m": TAU_MS, "C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "regular_spike_arrival": True, "loss": "cross_entropy"},
    )  # fmt: skip
    target = nest.Create("step_rate_generator", load.n_out)
    for place in range(load.n_out):
        target[place].set({"amplitude_times": [1.0], "amplitude_values": [float(place == LABEL)]})
    optimizer = {"type": "gradient_descent", "batch_size": 1, "eta": RATE, "Wmin": -100.0, "Wmax": 100.0}
    nest.SetDefaults(f"eprop_synapse_{STEP}", {"optimizer": optimizer, "average_gradient": False})
    plastic = {"synapse_model": f"eprop_synapse_{STEP}", "delay": 1.0, "tau_m_readout": TAU_MS}
    rate = {"synapse_model": "rate_connection_delayed", "delay": 1.0}
    for source, goal, w in ((parrots, hidden, first.into), (hidden, hidden, first.loops), (hidden, out, first.out)):
        nest.Connect(source, goal, "all_to_all", plastic | {"weight": w.T.astype(float)})
    back = {"synapse_model": f"eprop_learning_signal_connection_{STEP}", "delay": 1.0}
    nest.Connect(out, hidden, "all_to_all", back | {"weight": rng.normal(size=(load.hidden, load.n_out))})
    nest.Connect(out, out, "all_to_all", rate | {"receptor_type": 1, "weight": 1.0})
    nest.Connect(target, out, "one_to_one", rate | {"receptor_type": 2})
    return _side(generators, load, k, WINDOW)


os.environ.setdefault("PYNEST_QUIET", "1")
PEERS = [
    Peer("NEST", "inference", inference, "iaf_psc_delta, event-driven", many=True),
    Peer("NEST", "eprop-inference", inference, "iaf_psc_delta, recurrent, event-driven", many=True),
    Peer("NEST, e-prop", "eprop", eprop, "e-prop by windows, event-driven", many=True),
]
