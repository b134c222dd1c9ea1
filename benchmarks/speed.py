"""Speed, side by side: our kernels and those of other libraries on the same workloads, in turns, on one thread.

    pip install -r benchmarks/requirements.txt       # the peers; says at its head what else
    python benchmarks/speed.py [--quick] [--only ours snntorch ...] [--workloads W1 W2 ...] [--rounds 9]
                               [--json speed.json] [--table speed.md] [--page docs/performance.md]
                               [--again speed.json] [--brian2-python PATH]

Every figure against a peer is a ratio of two times that were taken in turns, block by block, in one process: its
median over the rounds, with the smallest and the largest, and the times beside it. A peer that is not installed is
named as absent. What each computes is in its module's docstring (`benchmarks/sidebyside/peers`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "JAX_PLATFORMS": "cpu",
}  # fmt: skip
OWN_UNITS = ("ours", "roofline", "growth")
MARKS = "<!-- figures -->", "<!-- /figures -->"
HERE = Path(__file__).resolve().parent


def units() -> list[str]:
    """All that can be run."""
    from sidebyside.peers import MODULES

    return [*OWN_UNITS, *MODULES]


def measure(unit: str, options: list[str]) -> list[dict[str, Any]]:
    """Rows of one unit, measured in a process of its own; if that dies, what it had measured and a row that says so."""
    command = [sys.executable, str(HERE / "speed.py"), "--unit", unit, *options]
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | ONE_THREAD | {"PYTHONPATH": path}
    rows = []
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert child.stdout is not None
    for line in child.stdout:
        if not line.startswith('{"unit"'):
            print(line, end="", file=sys.stderr)  # what a library has to say of itself
            continue
        row = json.loads(line)
        rows.append(row)
        said = row.get("absent") or row.get("failed") or json.dumps(row.get("ratio") or row.get("us"))
        print(f"{unit}: {row.get('peer', '')} {row.get('workload', '')} k={row.get('k')} {said}", file=sys.stderr)
    if code := child.wait():
        rows.append({"unit": unit, "failed": f"ended with {code}"})
    return rows


def main() -> int:
    """Measure all that is asked for, write it down, print the table."""
    from sidebyside.table import report
    from sidebyside.unit import Plan, run
    from sidebyside.workloads import WORKLOADS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="k in the middle only, short turns")
    parser.add_argument("--only", nargs="+", choices=units(), metavar="UNIT", help=", ".join(units()))
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, help="turns of each side (9; 3 if quick)")
    parser.add_argument("--seconds", type=float, help="length of a turn (0.2; 0.02 if quick)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--page", type=Path, help="write the tables between this page's marks")
    parser.add_argument("--again", type=Path, help="measure what --only and --workloads name; the rest is of this file")
    parser.add_argument("--brian2-python", help="an interpreter that has brian2, where this one cannot have it")
    parser.add_argument("--unit", help=argparse.SUPPRESS)
    args = parser.parse_args()
    rounds, seconds = args.rounds or (3 if args.quick else 9), args.seconds or (0.02 if args.quick else 0.2)
    if args.unit:
        run(args.unit, Plan(tuple(args.workloads), rounds, seconds, (1,) if args.quick else (0, 1, 2)))
        return 0
    if args.brian2_python:
        os.environ["BRIAN2_PYTHON"] = args.brian2_python
    options = ["--rounds", str(rounds), "--seconds", str(seconds), "--workloads", *args.workloads]
    if args.quick:
        options.append("--quick")
    kept = json.loads(args.again.read_text()) if args.again else None
    only = args.only or ([] if kept else units())
    result = kept or {
        "command": " ".join(["python", "benchmarks/speed.py", *sys.argv[1:]]), "machine": machine(),
        "rounds": rounds, "turn_s": seconds, "took_s": 0, "rows": [],
    }  # fmt: skip
    for unit in only:
        began = time.time()
        kept_rows = [r for r in result["rows"] if r["unit"] != unit or r.get("workload") not in (None, *args.workloads)]
        result["rows"] = kept_rows + measure(unit, options)
        result["took_s"] += round(time.time() - began)
        if args.json:  # after each unit: a run that is cut short has measured something
            args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    text = report(result)
    if args.table:
        args.table.write_text(text)
    if args.page:
        before, rest = args.page.read_text().split(MARKS[0])
        args.page.write_text(before + MARKS[0] + "\n" + text + MARKS[1] + rest.split(MARKS[1])[1])
    print(text)
    return 0


def machine() -> dict[str, Any]:
    """Where this was measured."""
    info = Path("/proc/cpuinfo")
    names = (
        [s.split(":")[1].strip() for s in info.read_text().splitlines() if "model name" in s] if info.exists() else []
    )
    return {
        "processor": names[0] if names else platform.processor(), "cores": os.cpu_count(),
        "load": [round(x, 2) for x in os.getloadavg()], "python": platform.python_version(),
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
