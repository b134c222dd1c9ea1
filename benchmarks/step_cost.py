"""What a step costs, 2312-512-10, by the number of active inputs: inference, e-prop by windows, RTRL at every step.

    python benchmarks/step_cost.py [--rounds 15] [--windows 300 500] [--kinds ...] [--active ...] [--rest]
                                   [--json out.json]

All forms of a network run in turn within each round, so that a slow moment of the machine hits them alike; figures are
medians of the rounds, of the process's own time, with the smallest and the largest of the ratio. A call brings one
window, labelled throughout and closed at its end, as a stream brings them; with `--rest` the dynamics rest before each,
as before a sample. One step per call is not measured here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from spiked.learners.contract import CLOSE, Learner, Steps, silent_cues
from spiked.learners.gradient import GradientLearner, GradientSpec
from spiked.learners.lif import LayerSpec, Lif, layer_weight, make_lif
from spiked.learners.rtrl import RtrlLearner, RtrlSpec

N_IN, HIDDEN, N_OUT = 2312, 512, 10
ADAPTIVE: dict[str, Any] = {"tau_adapt_ms": 200.0, "jump": 0.2}
KINDS: dict[str, dict[str, Any]] = {"plain": {}, "adaptive": ADAPTIVE, "recurrent": {"recurrent": True} | ADAPTIVE}
WARM = 2  # rounds that do not count


def network(layer: dict[str, Any]) -> Lif:
    """Random weights under which neurons fire at a moderate rate."""
    rng = np.random.default_rng(0)
    net = make_lif(N_IN, [LayerSpec(HIDDEN, **layer), LayerSpec(N_OUT, threshold=float("inf"))], 1.0)
    layer_weight(net, 0)[...] = rng.normal(0, 0.04, layer_weight(net, 0).shape)
    layer_weight(net, 1)[...] = rng.normal(0, 0.05, (HIDDEN, N_OUT))
    return net


def learners(kind: str) -> dict[str, Learner]:
    """The forms of one network: for inference, by e-prop (which without recurrence is RTRL), by RTRL at every step."""
    forms: dict[str, Learner] = {
        form: GradientLearner(network(KINDS[kind]), GradientSpec(feedback=feedback, rate=1e-6))
        for form, feedback in {"inference": "random", "symmetric": "symmetric", "random": "random"}.items()
    }
    if kind == "plain":
        forms["each step"] = RtrlLearner(network({}), RtrlSpec(rate=1e-6))
    return forms


def steps_of(active: int, n: int) -> Steps:
    """`n` steps with `active` random inputs each."""
    rng = np.random.default_rng(active)
    rows = [np.sort(rng.choice(N_IN, active, replace=False)) for _ in range(n)]
    indices = np.concatenate(rows).astype(np.int32)
    return Steps(0, np.arange(n + 1, dtype=np.int64) * active, indices, np.ones(len(indices), np.float32))


def measure(kind: str, active: int, window: int, rounds: int, rest: bool) -> dict[str, Any]:
    """Microseconds a step of each form, and how much more each takes than inference."""
    steps, cues = steps_of(active, window), silent_cues(window)
    cues.labels[:], cues.flags[-1] = 3, CLOSE
    took: dict[str, list[float]] = {}
    forms, spikes = learners(kind), 0
    for round_ in range(rounds + WARM):
        for form, learner in forms.items():
            if rest:
                learner.reset()
            began = time.process_time()
            spikes = int(learner.run(steps, cues, form != "inference").spikes[0, 0])
            if round_ >= WARM:
                took.setdefault(form, []).append((time.process_time() - began) / window * 1e6)
    base = took["inference"]
    ratios = {form: [b / a for a, b in zip(base, us)] for form, us in took.items() if form != "inference"}
    return {
        "kind": kind, "k": active, "window": window, "rest": rest, "spikes a step": spikes / window,
        "us": {form: statistics.median(us) for form, us in took.items()},
        "over inference": {form: [min(r), statistics.median(r), max(r)] for form, r in ratios.items()},
    }  # fmt: skip


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--windows", type=int, nargs="+", default=[300, 500])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--active", type=int, nargs="+", default=[10, 50, 250])
    parser.add_argument("--rest", action="store_true", help="the dynamics rest before each window")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    print("us per step, and learning over inference; spikes: of the hidden layer, a step")
    for kind in args.kinds:
        for window in args.windows:
            for active in args.active:
                row = measure(kind, active, window, args.rounds, args.rest)
                rows.append(row)
                said = [f"{kind:<9} k={active:<4} window={window:<4} spikes={row['spikes a step']:<5.1f}"]
                said += [f"inference {row['us']['inference']:.1f}"]
                for form, (least, middle, most) in row["over inference"].items():
                    said.append(f"{form} {row['us'][form]:.1f} = {middle:.1f}x ({least:.1f}-{most:.1f})")
                print("  ".join(said), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
