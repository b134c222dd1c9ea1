"""What is forgotten, and what helps against it: accuracy, forgetting, memory and time of each countermeasure.

    python benchmarks/forgetting.py [--rows NAME ...] [--streams NAME ...] [--seeds 0 1 2 3 4] [--json FILE]

Streams and tests: `forgetting_tasks`. Rows: `forgetting_rows`. One pass, batch size one: predict, then learn. A test
tells no label and moves nothing; it is taken after each stage on samples that are never learnt from. Figures::

    final        accuracy on the whole test at the end (of all domains)
    forgetting   how far each stage's own test has fallen from its best to the end; mean over all stages but the last
    new          accuracy on a stage's own test as the stage ends, mean over all stages but the first
    first 100    how many of a stage's first 100 samples were said right before they taught, mean over all stages but
                 the first

Results of earlier runs stay in the JSON file and in the table until their row is measured anew.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from forgetting_rows import ROWS, Row, configure
from forgetting_tasks import Stream, streams
from rule_tasks import Shown

from spiked.service.build import binner_spec
from spiked.service.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
STREAMS = ("shuffled", "unbroken", "classes", "domains", "turned")
FIRST = 100
Figures = dict[str, Any]


def show(learner: Any, samples: list[Shown], learn: bool, resets: bool = True) -> tuple[list[bool], float]:
    """Whether each sample was said right, before it was learnt from; and the seconds of the processor that it took."""
    right, seconds = [], 0.0
    for sample in samples:
        began = time.process_time()
        said = learner.run(sample.steps, sample.told if learn else sample.asked, learn)
        seconds += time.process_time() - began
        right.append(int(np.argmax(said.scores[-1])) == sample.label)
        if resets:
            learner.reset()
    return right, seconds


def sizes(learner: Any) -> dict[str, int]:
    """Bytes of all that a learner keeps, and of what it has learnt: a seed draws fixed weights again."""
    state = learner.state()
    total = sum(array.nbytes for array in state.values())
    fixed = state["net.weight"].nbytes if "head.mean" in state else 0
    return {"state_bytes": total, "learnt_bytes": total - fixed}


def measure(row: Row, stream: Stream, seed: int) -> Figures:
    """One row on one stream."""
    learner = row.make(seed)
    first = stream.stages[0].train[0]
    scratch = row.make(seed)  # compiles everything, off the clock
    show(scratch, [first, first], True)
    show(scratch, [first], False)
    matrix, first_right, asked, seconds, steps = [], [], {}, 0.0, 0
    for stage in stream.stages:
        before, took = show(learner, stage.train, True, stream.resets)
        first_right.append(statistics.fmean(before[:FIRST]))
        seconds, steps = seconds + took, steps + sum(s.steps.n for s in stage.train)
        asked = {name: show(learner, samples, False, stream.resets)[0] for name, samples in stream.tests.items()}
        matrix.append([statistics.fmean(right) for right in asked.values()])
    table = np.array(matrix)
    own = np.diagonal(table)
    return {
        "seed": seed,
        "final": statistics.fmean([r for right in asked.values() for r in right]),
        "forgetting": float((table.max(axis=0) - table[-1])[:-1].mean()) if len(table) > 1 else 0.0,
        "new": float(own[1:].mean()) if len(own) > 1 else float(own[0]),
        "first_100": statistics.fmean(first_right[1:] or first_right),
        "after_each_stage": matrix,
        "us_per_step": seconds / steps * 1e6,
        **sizes(learner),
    }


def run(
    rows: list[Row], names: list[str], seeds: list[int], results: dict[str, dict[str, list[Figures]]], file: Path
) -> None:
    """Measure all rows that are wanted into `results`, and write them down as they come."""
    machine = {"processor": platform.machine(), "python": sys.version.split()[0], "numpy": np.__version__}
    with Progress("forgetting", len(rows) * len(names) * len(seeds), "runs") as progress:
        for seed in seeds:
            made = streams(seed, binner_spec(configure(seed, rows[0])))
            for row in rows:
                for name in names:
                    figures = measure(row, made[name], seed)
                    runs = results.setdefault(name, {}).setdefault(row.name, [])
                    runs[:] = sorted([r for r in runs if r["seed"] != seed] + [figures], key=lambda r: r["seed"])
                    file.write_text(json.dumps({"machine": machine, "streams": results}, indent=1) + "\n")
                    progress.advance(note=f"{name}: {row.name}: {100 * figures['final']:.1f} % at the end")


def _percent(runs: list[Figures], key: str) -> str:
    if not runs:
        return ""
    values = [100 * r[key] for r in runs]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def table(results: dict[str, dict[str, list[Figures]]]) -> str:
    """All figures as markdown: a row for each method."""
    known = [row.name for row in ROWS]
    measured = {n for rows in results.values() for n in rows}
    names = [n for n in known if n in measured] + sorted(measured.difference(known))
    lines = [
        "| method | shuffled: final, % | classes: final, % | forgetting | new, % | domains: final, % | forgetting | "
        "new, % | turned: final, % | forgetting | new, % | first 100, % | unbroken: final, % | "
        "learning, us / step | state, KiB (learnt) | seeds |",
        "|" + 16 * "---|",
    ]  # fmt: skip
    for name in names:
        runs = {s: results.get(s, {}).get(name, []) for s in STREAMS}
        cells = [_percent(runs["shuffled"], "final")]
        for s in ("classes", "domains"):
            cells += [_percent(runs[s], key) for key in ("final", "forgetting", "new")]
        cells += [_percent(runs["turned"], key) for key in ("final", "forgetting", "new", "first_100")]
        every = [r for of in runs.values() for r in of]
        cells.append(_percent(runs["unbroken"], "final"))
        cells.append(f"{statistics.median(r['us_per_step'] for r in every):.1f}")
        state, own = (max(r[key] for r in every) / 1024 for key in ("state_bytes", "learnt_bytes"))
        cells.append(f"{state:.0f}" + (f" ({own:.0f})" if own < state else ""))
        cells.append(f"{max(len(of) for of in runs.values())}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure, merge with what was measured before, write the file, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="rows by name, or the start of one; all by default")
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=list(STREAMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "forgetting.json")
    args = parser.parse_args()
    rows = [r for r in ROWS if args.rows is None or any(r.name.startswith(name) for name in args.rows)]
    if not rows:
        print("no such row; there are: " + ", ".join(r.name for r in ROWS))
        return 2
    results = json.loads(args.json.read_text())["streams"] if args.json.exists() else {}
    run(rows, args.streams, args.seeds, results, args.json)
    print(table(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
