"""Brian2, C++ standalone: the network generated, compiled, and run as a program; many steps a call.

Built by `brian2_build` under this interpreter, or the one in ``BRIAN2_PYTHON``. The time is that of the program's
time steps by its own clock, without start, weights and synapses. Its STDP is the pair rule with event-driven traces,
nearest pairs, hard bounds.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from sidebyside.peers import Peer
from sidebyside.timing import Side
from sidebyside.workloads import STDP_RATE, STDP_TRACE_MS, TAU_MS, Workload, spikes, stdp_start, weights

PYTHON = os.environ.get("BRIAN2_PYTHON", sys.executable)
asked = subprocess.run([PYTHON, "-c", "import brian2; print(brian2.__version__)"], capture_output=True, text=True)
if asked.returncode:
    raise ImportError(f"{PYTHON} cannot import brian2: {(asked.stderr.strip().splitlines() or ['?'])[-1]}")
VERSION = asked.stdout.split()[-1]
STEPS = 1024


def _program(load: Workload, k: int, **arrays: object) -> Side:
    folder = tempfile.TemporaryDirectory(prefix="brian2-")
    given = Path(folder.name) / "network.npz"
    np.savez(
        given, n_in=load.n_in, spikes=spikes(load.n_in, k), steps=STEPS, tau=TAU_MS, trace=STDP_TRACE_MS,
        rate=STDP_RATE, **arrays,
    )  # fmt: skip
    project = Path(folder.name) / "program"
    build = [PYTHON, str(Path(__file__).with_name("brian2_build.py")), str(given), str(project)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(build, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1])

    def run(n: int) -> float:
        subprocess.run([str(project / "main")], cwd=project, check=True, capture_output=True)
        info = next((project / "results").glob("last_run_info*")).read_text()
        return float(re.split(r"\s+", info.strip())[0]) * n / STEPS

    run.folder = folder  # type: ignore[attr-defined]  # lives as long as the side does
    return run


def inference(load: Workload, k: int) -> Side:
    """Hidden layer with reset by subtraction, and a read-out."""
    first = weights(load, k)
    return _program(load, k, into=first.into, out=first.out, theta=1.0)


def stdp(load: Workload, k: int) -> Side:
    """All input weights plastic."""
    into, theta = stdp_start(load, k)
    return _program(load, k, into=into, theta=theta)


PEERS = [
    Peer("Brian2 (C++)", "inference", inference, "compiled C++, event-driven synapses", many=True),
    Peer("Brian2 (C++), STDP", "stdp", stdp, "compiled C++, pair rule", many=True),
]
