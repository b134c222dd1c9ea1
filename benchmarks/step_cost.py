"""What a step costs: inference, and exact learning at every step, 2312-512-10, by the number of active inputs.

    python benchmarks/step_cost.py [--rounds 15] [--json out.json]

All forms run in turn within each round, so that a slow moment of the machine hits them alike; figures are medians of
the rounds, with the smallest and the largest of the ratio. One core, one step per call is not measured here: a call
brings 200 steps, as a message does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spiked.learners.contract import Steps, silent_cues
from spiked.learners.lif import LayerSpec, layer_weight, make_lif
from spiked.learners.rtrl import RtrlLearner, RtrlSpec

N_IN, HIDDEN, N_OUT, STEPS = 2312, 512, 10, 200


def learner(update: str) -> RtrlLearner:
    """A network with random weights that fires at a moderate rate."""
    rng = np.random.default_rng(0)
    net = make_lif(N_IN, [LayerSpec(HIDDEN), LayerSpec(N_OUT, threshold=float("inf"))], 1.0)
    layer_weight(net, 0)[...] = rng.normal(0, 0.04, (N_IN, HIDDEN))
    layer_weight(net, 1)[...] = rng.normal(0, 0.05, (HIDDEN, N_OUT))
    return RtrlLearner(net, RtrlSpec(update=update, optimizer="sgd", rate=1e-5))


def steps_of(active: int) -> Steps:
    """Steps with `active` random inputs each."""
    rng = np.random.default_rng(active)
    rows = [np.sort(rng.choice(N_IN, active, replace=False)) for _ in range(STEPS)]
    indices = np.concatenate(rows).astype(np.int32)
    return Steps(0, np.arange(STEPS + 1, dtype=np.int64) * active, indices, np.ones(len(indices), np.float32))


def timed(run: Callable[[], object]) -> float:
    """Microseconds per step."""
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) / STEPS * 1e6


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    print(f"{'k':>4} {'inference':>10} {'window':>10} {'each step':>10}   us per step; exact learning over inference")
    for active in (10, 50, 250):
        steps, cues = steps_of(active), silent_cues(STEPS)
        cues.labels[:] = 3
        frozen, window, immediate = learner("window"), learner("window"), learner("step")
        forms: dict[str, Callable[[], object]] = {
            "inference": lambda w=frozen, s=steps, c=cues: w.run(s, c, learn=False),
            "window": lambda w=window, s=steps, c=cues: w.run(s, c),
            "step": lambda w=immediate, s=steps, c=cues: w.run(s, c),
        }
        took: dict[str, list[float]] = {name: [] for name in forms}
        for round_ in range(args.rounds + 2):
            for name, run in forms.items():
                us = timed(run)
                if round_ >= 2:
                    took[name].append(us)
        us = {name: statistics.median(times) for name, times in took.items()}
        ratios = [b / a for a, b in zip(took["inference"], took["step"])]
        rows.append(
            {"k": active, "us": us, "step_over_inference": [min(ratios), statistics.median(ratios), max(ratios)]}
        )
        print(
            f"{active:>4} {us['inference']:>10.1f} {us['window']:>10.1f} {us['step']:>10.1f}   "
            f"{statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})"
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
