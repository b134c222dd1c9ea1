"""What a sensor would have seen, had it stood a little aside: the same events, all shifted by some pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import Steps

Shift = tuple[int, int]
"""Pixels to the right and down."""


def neighbours(width: int, height: int, distance: int) -> list[Shift]:
    """The shifts by `distance` to all sides, corners included; a sensor of one row moves along that row."""
    rows = (-distance, 0, distance) if height > 1 else (0,)
    columns = (-distance, 0, distance) if width > 1 else (0,)
    return [(dx, dy) for dy in rows for dx in columns if dx or dy]


def shift_table(width: int, height: int, planes: int, shift: Shift) -> NDArray[np.int32]:
    """For each channel the channel that its events go to, int32[planes * height * width]; -1 where they leave."""
    plane, y, x = np.meshgrid(np.arange(planes), np.arange(height), np.arange(width), indexing="ij")
    x, y = x + shift[0], y + shift[1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.where(inside, (plane * height + y) * width + x, -1).astype(np.int32).reshape(-1)


def shift_steps(steps: Steps, table: NDArray[np.int32]) -> Steps:
    """Send each event where `table` says; channels stay ascending, since all of a plane move alike."""
    moved = table[steps.indices]
    kept = moved >= 0
    before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    return Steps(steps.first, before[steps.indptr], moved[kept], steps.counts[kept])
