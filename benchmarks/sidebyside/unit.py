"""One unit of the benchmark, in a process of its own: our side alone, or against one peer, in turns.

A process each, since libraries quarrel over threads, and one that dies must not take the others with it. Rows go to
the standard output as JSON, a line each, as they are measured.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sidebyside import growth, roofline
from sidebyside.ours import batches, cues, learner, ours, spikes_a_step
from sidebyside.peers import MODULES, Peer
from sidebyside.timing import compare, looped, summary, take_turns
from sidebyside.workloads import LARGE, RATE, WORKLOADS, Workload

MANY = 256
"""Steps a call of our second form; the daemon's messages hold as many steps as they please."""
CHECKED, CHECKED_RATE = 60, 0.5
"""Steps that are compared, and the rate of learning meanwhile, over `k`: more inputs move a membrane further."""
TOLERANCE = 1e-3
"""Largest difference between outputs' membranes (of size about 1) that single precision explains."""


@dataclass(frozen=True)
class Plan:
    """What to run, and for how long.

    Attributes
    ----------
    loads : names of the workloads.
    rounds : turns that each side takes.
    seconds : length of a turn.
    active : which of each workload's numbers of active inputs, by position.
    """

    loads: tuple[str, ...]
    rounds: int
    seconds: float
    active: tuple[int, ...]

    def cases(self) -> Iterator[tuple[Workload, int]]:
        """Every workload with every number of active inputs."""
        for name in self.loads:
            for at in self.active:
                yield WORKLOADS[name], WORKLOADS[name].active[at]


def own(plan: Plan) -> Iterator[dict[str, Any]]:
    """Our side alone: a step a call, many steps a call, and what learning costs over the same network's inference."""
    for load, k in plan.cases():
        sides = {"1": ours(load, k), str(MANY): ours(load, k, MANY)}
        if load.learns:
            sides |= {
                "inference": ours(load, k, learns=False), f"inference {MANY}": ours(load, k, MANY, learns=False)
            }  # fmt: skip
        us = take_turns(sides, plan.rounds, plan.seconds)
        row = {"unit": "ours", "workload": load.name, "k": k, "spikes": spikes_a_step(load, k), "many": MANY}
        row["us"] = {name: summary(times) for name, times in us.items()}
        if load.learns:
            row["learning over inference"] = {
                "1": compare(us, "1", "inference"), str(MANY): compare(us, str(MANY), f"inference {MANY}")
            }  # fmt: skip
        yield row


def against(name: str, plan: Plan) -> Iterator[dict[str, Any]]:
    """Our side and all that one peer can do, in turns."""
    try:
        module = importlib.import_module(f"sidebyside.peers.{MODULES[name]}")
    except ImportError as error:
        yield {"unit": name, "absent": str(error).splitlines()[0]}
        return
    for load, k in plan.cases():
        for peer in module.PEERS:
            if peer.task != load.task or (load.active == LARGE and not peer.large):
                continue
            row = {"unit": name, "version": module.VERSION, "peer": peer.name, "what": peer.what}
            row |= {"workload": load.name, "k": k, "calls": "many" if peer.many else "one"}
            try:
                row |= _versus(peer, load, k, plan)
            except Exception as error:  # whatever a foreign library raises, the others are still to be measured
                row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            yield row


def _versus(peer: Peer, load: Workload, k: int, plan: Plan) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if peer.same:
        rate = CHECKED_RATE / k if peer.exact else RATE
        step = peer.make(load, k, rate=rate) if peer.exact else peer.make(load, k)
        row["difference"] = difference(step, load, k, rate)
        row["same"] = "in all" if peer.exact or not load.learns else "forward"
        if not row["difference"] < TOLERANCE:
            raise ArithmeticError(f"outputs differ by {row['difference']:.3g}: not the same computation")
    made = peer.make(load, k)
    theirs = made if peer.many else looped(made)
    us = take_turns({"one": ours(load, k), "many": ours(load, k, MANY), "peer": theirs}, plan.rounds, plan.seconds)
    row["us"] = {side: summary(times) for side, times in us.items()}
    return row | {"ratio": {side: compare(us, "peer", side) for side in ("one", "many")}}


def difference(step: Callable[[int], Any], load: Workload, k: int, rate: float = RATE) -> float:
    """Largest difference between the outputs' membranes of a peer and of ours over the first steps."""
    made, calls, asked = learner(load, k, rate), batches(load, k, 1), cues(load, 1, False)
    worst = 0.0
    for i in range(CHECKED):
        made.run(calls[i], asked, load.learns)
        mine = made.state()["state.membrane"][-load.n_out :]
        worst = max(worst, float(np.abs(np.asarray(step(i)).reshape(-1) - mine).max()))
    return worst


def run(name: str, plan: Plan) -> None:
    """Measure one unit and print its rows."""
    units: dict[str, Callable[[Plan], Iterator[dict[str, Any]]]] = {
        "ours": own,
        "roofline": lambda p: roofline.rows(p.rounds, p.seconds, p.active),
        "growth": lambda p: growth.rows(p.rounds, p.seconds),
    }
    for row in units[name](plan) if name in units else against(name, plan):
        print(json.dumps(row), flush=True)
