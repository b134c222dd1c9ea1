"""The speed benchmark runs, and what it writes has the shape that tables and readers rely on; no times are judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SPREAD = {"median", "min", "max"}


@pytest.fixture(scope="module")
def sidebyside() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import sidebyside.ours
        import sidebyside.table
        import sidebyside.timing

        yield sidebyside
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_one_command_writes_the_figures_and_the_table(tmp_path: Path) -> None:
    out, text = tmp_path / "speed.json", tmp_path / "speed.md"
    command = [sys.executable, str(BENCHMARKS / "speed.py"), "--quick", "--only", "ours", "--workloads", "W1", "W2"]
    command += ["--rounds", "2", "--seconds", "0.002", "--json", str(out), "--table", str(text)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NUMBA_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert {"command", "machine", "rounds", "turn_s", "took_s", "rows"} <= result.keys()
    inference, learning = result["rows"]
    assert (inference["workload"], learning["workload"]) == ("W1", "W2")
    for row in result["rows"]:
        assert row["unit"] == "ours" and row["k"] == 50 and row["spikes"] > 0
        assert {"1", "256"} <= row["us"].keys()
        assert all(times.keys() == SPREAD and times["min"] > 0 for times in row["us"].values())
    assert learning["learning over inference"].keys() == {"1", "256"}
    for part in ("Goals", "Ours", "Peers", "Roofline", "Growth"):
        assert f"### {part}" in text.read_text()
    assert text.read_text().strip() in done.stdout


def test_sides_take_turns(sidebyside: Any) -> None:
    order: list[str] = []

    def side(name: str, us: float) -> Any:
        def run(n: int) -> float:
            order.append(name)
            return n * us * 1e-6

        return run

    us = sidebyside.timing.take_turns({"a": side("a", 10.0), "b": side("b", 40.0)}, 4, 0.01)
    assert np.allclose(us["a"], 10) and np.allclose(us["b"], 40) and len(us["a"]) == 4
    assert sidebyside.timing.compare(us, "b", "a")["median"] == pytest.approx(4)
    assert order[-4:] == ["a", "a", "b", "b"]  # each its uncounted steps, then its turn


def test_a_peer_that_is_not_there_is_named(sidebyside: Any) -> None:
    rows = [{"unit": "norse", "absent": "No module named 'norse'"}, {"unit": "nest", "failed": "ended with -11"}]
    text = sidebyside.table.peers(rows)
    assert "| norse |" in text and "No module named 'norse'" in text and "ended with -11" in text
    assert "not measured" in sidebyside.table.goals(rows)


def test_one_step_a_call_and_many_are_the_same_computation(sidebyside: Any) -> None:
    ours, loads = sidebyside.ours, sidebyside.workloads.WORKLOADS
    for name in ("W1", "W2"):
        load, states = loads[name], []
        for per_call in (1, 16):
            made = ours.learner(load, 50)
            ours.ours(load, 50, per_call, made)(64)
            states.append(made.state())
        for key in ("net.weight", "state.membrane"):
            assert np.array_equal(states[0][key], states[1][key]), (name, key)
