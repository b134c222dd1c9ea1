"""Kernels beside other libraries, the wire, the daemon: all of it in one command, into one file and one table each.

    python benchmarks/everything.py [--quick] [--json everything.json]

Peers are installed by ``pip install -r benchmarks/requirements.txt``; one that is not there is named as absent.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = ("speed", "wire", "daemon")


def main() -> int:
    """Run each part, let it print its table, and write one file of all; 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="to see that all of it runs")
    parser.add_argument("--json", type=Path, default=Path("everything.json"))
    args = parser.parse_args()
    results, failed = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            path = Path(folder) / f"{part}.json"
            options = ["--quick"] if args.quick else []
            if subprocess.run([sys.executable, HERE / f"{part}.py", *options, "--json", path], check=False).returncode:
                failed.append(part)
            if path.exists():
                results[part] = json.loads(path.read_text())
    args.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten: {args.json}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main())
