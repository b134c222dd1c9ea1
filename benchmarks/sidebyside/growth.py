"""Growth: a network of ten times the inputs at the same events, and the same network at ten times the events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sidebyside.ours import ours
from sidebyside.timing import compare, summary, take_turns
from sidebyside.workloads import Workload

N_IN, MANY = 2312, 256
EVENTS = (10, 25, 50, 100, 250, 500)


def _load(task: str, n_in: int, reach: int = 0) -> Workload:
    return Workload(f"{task} {n_in}", n_in, 512, 10, (), task, "", reach)


def _line(us: dict[int, float]) -> tuple[list[float], float]:
    """The line ``a + b k`` with the least relative errors, and the largest of them."""
    k, t = np.array(list(us), float), np.array(list(us.values()))
    a, b = np.linalg.lstsq(np.stack([1 / t, k / t], 1), np.ones(len(t)), rcond=None)[0]
    return [float(a), float(b)], float(np.abs((a + b * k) / t - 1).max())


def rows(rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Ten times the inputs, of which as few as before are ever active, or all; and a sweep of events.

    The first is what the algorithm does with inputs that say nothing; with the second the weights in use outgrow the
    caches, which every algorithm pays for.

    The sweep goes in turns with its own first point; linear is ``us = a + b k`` with the same ``b`` all along.
    """
    for task in ("inference", "learning"):
        small = _load(task, N_IN)
        for k in (50, 250):
            for of, reach in (("inputs", N_IN), ("inputs, all in use", 0)):
                large = _load(task, 10 * N_IN, reach)
                us = take_turns({"1x": ours(small, k, MANY), "10x": ours(large, k, MANY)}, rounds, seconds)
                yield {
                    "unit": "growth", "of": of, "task": task, "k": k,
                    "us": {side: summary(times) for side, times in us.items()}, "ratio": compare(us, "10x", "1x"),
                }  # fmt: skip
        us = take_turns({str(k): ours(small, k, MANY) for k in EVENTS}, rounds, seconds)
        line, off = _line({k: summary(us[str(k)])["median"] for k in EVENTS})
        yield {
            "unit": "growth", "of": "events", "task": task, "line": line, "off": off,
            "us": {side: summary(times) for side, times in us.items()},
            "ratio": {"50 to 500": compare(us, "500", "50"), "25 to 250": compare(us, "250", "25")},
        }  # fmt: skip
