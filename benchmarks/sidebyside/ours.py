"""Our side of every workload: one step a call, as the peers do it, or many, as the daemon does it."""

from __future__ import annotations

from typing import Any

import numpy as np

from sidebyside.timing import Side, looped
from sidebyside.workloads import (
    JUMP,
    LABEL,
    POOL,
    RATE,
    STDP_RATE,
    STDP_TRACE_MS,
    TAU_ADAPT_MS,
    TAU_MS,
    WINDOW,
    Workload,
    spikes,
    stdp_start,
    weights,
)
from spiked.learners.contract import CLOSE, NO_VALUES, READ, Cues, Learner, Steps
from spiked.learners.gradient import GradientLearner
from spiked.learners.gradient_spec import GradientSpec
from spiked.learners.lif import LayerSpec, Lif, layer_weight, make_lif
from spiked.learners.rtrl import RtrlLearner, RtrlSpec
from spiked.learners.stdp import StdpLearner
from spiked.learners.stdp_rules import StdpSpec

ADAPTIVE: dict[str, Any] = {"recurrent": True, "tau_adapt_ms": TAU_ADAPT_MS, "jump": JUMP}


def network(load: Workload, k: int) -> Lif:
    """The stack of a workload, with its first weights."""
    if load.task == "stdp":
        into, theta = stdp_start(load, k)
        net = make_lif(load.n_in, [LayerSpec(load.hidden, tau_mem_ms=TAU_MS, threshold=theta, reset="zero")], 1.0)
        layer_weight(net, 0)[...] = into
        return net
    extra = ADAPTIVE if load.task.startswith("eprop") else {}
    read_out = LayerSpec(load.n_out, tau_mem_ms=TAU_MS, threshold=float("inf"))
    net = make_lif(load.n_in, [LayerSpec(load.hidden, tau_mem_ms=TAU_MS, **extra), read_out], 1.0)
    first = weights(load, k)
    layer_weight(net, 0)[: load.n_in] = first.into
    if extra:
        layer_weight(net, 0)[load.n_in :] = first.loops
    layer_weight(net, 1)[...] = first.out
    return net


def learner(load: Workload, k: int, rate: float = RATE) -> Learner:
    """What learns, or predicts, in a workload: exact gradients at every step, e-prop by windows, or STDP."""
    if load.task == "stdp":
        spec = StdpSpec(
            rate=STDP_RATE, a_plus=1.0, a_minus=-0.8, w_min=0.0, w_max=1.0, tau_plus_ms=STDP_TRACE_MS,
            tau_minus_ms=STDP_TRACE_MS, settle_windows=0, head="assignment", trace_ms=(STDP_TRACE_MS,),
        )  # fmt: skip
        return StdpLearner(network(load, k), load.n_out, spec)
    if load.task.startswith("eprop"):
        return GradientLearner(network(load, k), GradientSpec(rate=rate, optimizer="sgd"))
    return RtrlLearner(network(load, k), RtrlSpec(rate=rate))


def cues(load: Workload, n: int, window_ends: bool) -> Cues:
    """Cues of `n` steps: read out after the last; where a window ends, it closes there."""
    flags = np.zeros(n, np.uint8)
    flags[-1] = READ | (CLOSE if window_ends and load.task == "eprop" else 0)
    return Cues(flags, np.full(n, LABEL if load.learns else -1, np.int32), NO_VALUES)


def batches(load: Workload, k: int, per_call: int) -> list[Steps]:
    """The pool of steps cut into calls."""
    rows = spikes(load.reach or load.n_in, k)
    ones, ends = np.ones(per_call * k, np.float32), np.arange(per_call + 1, dtype=np.int64) * k
    return [
        Steps(0, ends, np.ascontiguousarray(rows[at : at + per_call]).reshape(-1), ones)
        for at in range(0, len(rows) - per_call + 1, per_call)
    ]


def ours(load: Workload, k: int, per_call: int = 1, made: Learner | None = None, learns: bool = True) -> Side:
    """Run our side, `per_call` steps a call (a divisor of the pool); each call reads the scores out.

    With ``learns=False`` a network that would learn only predicts.
    """
    run, learns = (made or learner(load, k)).run, learns and load.learns
    calls = batches(load, k, per_call)
    going_on, closing = cues(load, per_call, False), cues(load, per_call, True)
    every = max(1, WINDOW // per_call)

    def step(i: int) -> None:
        run(calls[i % len(calls)], closing if i % every == 0 else going_on, learns)

    side = looped(step)
    if per_call == 1:
        return side

    def many(n: int) -> float:
        n_calls = -(-n // per_call)
        return side(n_calls) * n / (n_calls * per_call)

    return many


def spikes_a_step(load: Workload, k: int) -> float:
    """Spikes of the hidden layer in a step of this workload."""
    made, n = learner(load, k), POOL
    call = batches(load, k, n)[0]
    made.run(call, cues(load, n, False), load.learns)
    return float(made.run(call, cues(load, n, False), load.learns).spikes[0, 0]) / n
