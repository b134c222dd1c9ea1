"""Every learning rule on every task: accuracy, time of a step, bytes of state; into docs/learning-rules.md.

    python benchmarks/learning_rules.py [--tasks nmnist tones cues] [--rules NAME ...] [--splits N] [--jobs 1]

Tasks and how they are shown: `rule_tasks`. Rows, each what a configuration file can say: `rule_configs`. One pass,
batch size one: predict, then learn; then a test without labels. Results of earlier runs stay in the JSON file and in
the table until their row is measured anew. Times hold for one job on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from rule_configs import ROWS, Row
from rule_tasks import TASKS, Shown, Task

from spiked.service.build import binner_spec, build_learner
from spiked.service.config import Stream
from spiked.service.configfile import parse_config
from spiked.service.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
MARKS = "<!-- rules-table -->", "<!-- /rules-table -->"
Figures = dict[str, Any]


def configure(row: Row, task: Task, seed: int) -> Stream:
    """The stream of a row, checked as a file would be."""
    raw = {
        "stream": [{"id": task.name, **task.stream, **row.stream}],
        "network": {"classes": task.classes, "seed": seed, **row.network},
        "learning": row.learning,
        "memory": row.memory,
    }
    return parse_config(raw).stream[0]


def measure(row: Row, task: Task, seed: int) -> Figures:
    """One row on one split."""
    stream = configure(row, task, seed)
    train, test = task.split(seed, binner_spec(stream))
    scratch = build_learner(stream)  # compiles everything, off the clock
    for learn in (True, False):
        scratch.run(train[0].steps, train[0].told, learn)
        scratch.reset()
    learner = build_learner(stream)
    while_learning, learn_s = _show(learner, train, True)
    tested, infer_s = _show(learner, test, False)
    spikes = tested["spikes"]
    return {
        "seed": seed,
        "test": float(np.mean(tested["right"])),
        "while_learning": float(np.mean(while_learning["right"][-task.last :])),
        "learn_us_per_step": learn_s / while_learning["steps"] * 1e6,
        "infer_us_per_step": infer_s / tested["steps"] * 1e6,
        "state_bytes": sum(array.nbytes for array in learner.state().values()),
        "rate_hz": (spikes / stream.dt_ms * 1000 / tested["steps"] / learner.net.sizes[1:]).tolist(),
    }


def _show(learner: Any, samples: list[Shown], learn: bool) -> tuple[Figures, float]:
    """Show samples in order, each from rest; returns what was right, and the seconds inside the learner."""
    right, spikes, seconds = [], 0, 0.0
    for sample in samples:
        cues = sample.told if learn else sample.asked
        began = time.perf_counter()
        said = learner.run(sample.steps, cues, learn)
        seconds += time.perf_counter() - began
        right.append(int(np.argmax(said.scores[-1])) == sample.label)
        spikes = spikes + said.spikes.sum(axis=0)
        learner.reset()
    return {"right": right, "spikes": spikes, "steps": sum(s.steps.n for s in samples)}, seconds


def summary(runs: list[Figures]) -> Figures:
    """Mean and spread over splits."""
    out: Figures = {"splits": len(runs)}
    for key in ("test", "while_learning"):
        values = [run[key] for run in runs]
        out[key] = statistics.fmean(values)
        out[key + "_sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
    for key in ("learn_us_per_step", "infer_us_per_step", "state_bytes"):
        out[key] = statistics.median(run[key] for run in runs)
    return out


def table(results: dict[str, dict[str, Figures]]) -> str:
    """The figures as markdown, a table for each task."""
    parts = []
    for name, task in TASKS.items():
        rows = [row.name for row in ROWS[name] if row.name in results.get(name, {})]
        if not rows:
            continue
        last = f"last {task.last} while learning" if task.last else "while learning"
        parts.append(f"**{task.title}**\n")
        parts.append(
            f"| rule | test, % | {last}, % | learning, us / step | inference, us / step | state, KiB | splits |"
        )
        parts.append("|---|---|---|---|---|---|---|")
        for row in rows:
            f = summary(results[name][row]["runs"])
            parts.append(
                f"| {row} | {100 * f['test']:.1f} ± {100 * f['test_sd']:.1f} | {100 * f['while_learning']:.1f} ± "
                f"{100 * f['while_learning_sd']:.1f} | {f['learn_us_per_step']:.1f} | {f['infer_us_per_step']:.1f} | "
                f"{f['state_bytes'] / 1024:.0f} | {f['splits']} |"
            )
        parts.append("")
    return "\n".join(parts).rstrip()


def write_table(page: Path, text: str) -> None:
    """Put the table between its marks; ValueError where the page has none."""
    old = page.read_text()
    pattern = re.escape(MARKS[0]) + r".*?" + re.escape(MARKS[1])
    if not re.search(pattern, old, re.DOTALL):
        raise ValueError(f"{page}: lacks {MARKS[0]} ... {MARKS[1]}")
    page.write_text(re.sub(pattern, lambda _: f"{MARKS[0]}\n{text}\n{MARKS[1]}", old, flags=re.DOTALL))


def run(wanted: list[tuple[Task, Row]], splits: int | None, jobs: int) -> dict[str, dict[str, Figures]]:
    """Measure all rows that are wanted, on all their splits."""
    results: dict[str, dict[str, Figures]] = {}
    for task, row in wanted:
        tables = {"stream": row.stream, "network": row.network, "learning": row.learning, "memory": row.memory}
        results.setdefault(task.name, {})[row.name] = {**tables, "jobs": jobs, "runs": []}
    todo = [(row, task, seed) for task, row in wanted for seed in range(splits or task.splits)]
    with Progress("learning rules", len(todo), "runs") as progress, ProcessPoolExecutor(jobs) as pool:
        pending: dict[Future[Figures], tuple[str, str]] = {
            pool.submit(measure, row, task, seed): (task.name, row.name) for row, task, seed in todo
        }
        for done in as_completed(pending):
            name, row_name = pending[done]
            runs = results[name][row_name]["runs"]
            runs.append(done.result())
            mean = statistics.fmean(r["test"] for r in runs)
            progress.advance(note=f"{name}: {row_name} {100 * mean:.1f} % of {len(runs)}")
    for rows in results.values():
        for figures in rows.values():
            figures["runs"].sort(key=lambda r: r["seed"])
    return results


def main() -> int:
    """Measure, merge with what was measured before, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rules", nargs="+", metavar="NAME", help="rows by name, or the start of one; all by default")
    parser.add_argument("--splits", type=int, help="splits of each row; by default as many as the task asks for")
    parser.add_argument("--jobs", type=int, default=1, help="processes; times are only good for 1")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "learning_rules.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "learning-rules.md")
    parser.add_argument("--list", action="store_true", help="name the rows, and measure nothing")
    args = parser.parse_args()
    wanted = [
        (TASKS[t], row) for t in args.tasks for row in ROWS[t]
        if args.rules is None or any(row.name.startswith(rule) for rule in args.rules)
    ]  # fmt: skip
    if args.list or not wanted:
        print("\n".join(f"{task.name}: {row.name}" for task, row in wanted) or "no such row")
        return 0 if wanted else 2
    for task, row in wanted:
        configure(row, task, 0)  # a row that cannot be configured is said before an hour of others
    results = json.loads(args.json.read_text())["tasks"] if args.json.exists() else {}
    for name, rows in run(wanted, args.splits, args.jobs).items():
        results.setdefault(name, {}).update(rows)
    machine = {"processor": platform.machine(), "python": sys.version.split()[0], "numpy": np.__version__}
    args.json.write_text(json.dumps({"machine": machine, "tasks": results}, indent=1) + "\n")
    write_table(args.page, table(results))
    print(table(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
