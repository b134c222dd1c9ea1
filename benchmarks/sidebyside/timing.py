"""Taking turns: two sides run in one process, block by block, so that a slow moment of the machine hits both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Side = Callable[[int], float]
"""Runs so many steps and returns the seconds that they took."""

FIRST = 16
"""Steps before the clock counts for the first time: compilation, first touch of memory."""

LEAST_ROUNDS, PATIENCE = 3, 150


def looped(step: Callable[[int], Any]) -> Side:
    """Make a side of what does step number `i`, a call for each step: live use."""
    at = 0

    def run(n: int) -> float:
        nonlocal at
        began = time.perf_counter()
        for i in range(at, at + n):
            step(i)
        took = time.perf_counter() - began
        at += n
        return took

    return run


def block_length(side: Side, seconds: float, most: int = 1_000_000) -> int:
    """Steps of this side that take about so long, at least one."""
    side(FIRST)
    n = 16
    while n < most:
        took = side(n)
        if took > seconds / 4:
            return max(1, min(most, round(n * seconds / took)))
        n *= 4
    return most


def summary(values: list[float]) -> dict[str, float]:
    """Median and spread."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def take_turns(sides: dict[str, Side], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Microseconds a step of each side in each round; blocks of all sides take about as long.

    Before each block a few steps run that do not count, since the other side has had the caches; not so where a side
    cannot do less than takes much longer than a turn. Such sides also get fewer rounds: three, once `PATIENCE` turns
    have gone by.
    """
    blocks = {name: block_length(side, seconds) for name, side in sides.items()}
    slow = {name for name, n in blocks.items() if n < FIRST}
    us: dict[str, list[float]] = {name: [] for name in sides}
    began = time.perf_counter()
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() - began > PATIENCE * seconds:
            break
        for name, side in sides.items():
            if name not in slow:
                side(max(1, blocks[name] // 8))
            us[name].append(side(blocks[name]) / blocks[name] * 1e6)
    return us


def compare(us: dict[str, list[float]], side: str, reference: str) -> dict[str, float]:
    """How many times longer `side` takes than `reference`, round by round: median and spread."""
    return summary(list(np.array(us[side]) / np.array(us[reference])))
