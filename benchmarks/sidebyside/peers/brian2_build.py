"""Writes and compiles a Brian2 program (C++ standalone); run under an interpreter that has Brian2.

    python brian2_build.py NETWORK.npz FOLDER

The program takes no notice of Python thereafter: it can be run again and again, and says how long its steps took.
"""

from __future__ import annotations

import sys

import brian2 as b
import numpy as np

NEURON = "dv/dt = -v / (tau * ms) : 1"
STDP = """
w : 1
dseen/dt = -seen / (trace * ms) : 1 (event-driven)
dfired/dt = -fired / (trace * ms) : 1 (event-driven)
"""


def build(path: str, folder: str) -> None:
    """One layer and a read-out with fixed weights, or one layer whose input weights learn by STDP."""
    given = dict(np.load(path))
    b.set_device("cpp_standalone", directory=folder, build_on_run=False)
    b.defaultclock.dt = 1 * b.ms
    b.prefs.devices.cpp_standalone.openmp_threads = 0
    rows, steps = given["spikes"], int(given["steps"])
    times = np.repeat(np.arange(len(rows)), rows.shape[1])
    inputs = b.SpikeGeneratorGroup(int(given["n_in"]), rows.reshape(-1), times * b.ms, period=len(rows) * b.ms)
    names = {"tau": float(given["tau"]), "trace": float(given["trace"]), "rate": float(given["rate"])}
    names |= {"theta": float(given["theta"]), "beta": float(np.exp(-1 / given["tau"]))}  # it leaks before it looks
    into, plastic = given["into"], "out" not in given
    reset = "v = 0" if plastic else "v -= theta"
    hidden = b.NeuronGroup(
        into.shape[1], NEURON, threshold="v > theta * beta", reset=reset, method="exact", namespace=names
    )
    parts = [inputs, hidden]
    if plastic:
        joined = b.Synapses(
            inputs, hidden, STDP, method="exact", namespace=names,
            on_pre="v_post += w\nseen = 1\nw = clip(w - 0.8 * rate * fired, 0, 1)",
            on_post="fired = 1\nw = clip(w + rate * seen, 0, 1)",
        )  # fmt: skip
    else:
        joined = b.Synapses(inputs, hidden, "w : 1", on_pre="v_post += w")
    joined.connect()
    joined.w = into.reshape(-1)
    parts.append(joined)
    if not plastic:
        out = b.NeuronGroup(given["out"].shape[1], NEURON, method="exact", namespace=names)
        last = b.Synapses(hidden, out, "w : 1", on_pre="v_post += w")
        last.connect()
        last.w = given["out"].reshape(-1)
        parts += [out, last]
    network = b.Network(*parts)
    network.schedule = ["start", "groups", "thresholds", "resets", "synapses", "end"]
    network.run(steps * b.ms)
    b.device.build(directory=folder, compile=True, run=False, debug=False)


if __name__ == "__main__":
    build(*sys.argv[1:])
