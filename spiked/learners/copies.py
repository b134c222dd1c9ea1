"""What a sensor would have seen, had it stood a little aside, or been turned, nearer or at a slant.

A copy is a table: for each channel, where its events go. Two channels of one step may meet; their counts add up, so
that a copy brings the network as much as the sensor did.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import Steps
from spiked.learners.jit import kernel

TURN_DEGREES, SCALE, SLANT, MOVE = 15.0, 0.12, (0.2, 0.1), 0.06
"""Bounds of what is drawn: each is uniform within plus or minus that; `MOVE` is of the sensor's longer side."""


class Warp(NamedTuple):
    """An affine change about the sensor's middle: ``x' = xx x + xy y + dx``, ``y' = yx x + yy y + dy``, in pixels."""

    dx: float = 0.0
    dy: float = 0.0
    xx: float = 1.0
    xy: float = 0.0
    yx: float = 0.0
    yy: float = 1.0


def neighbours(width: int, height: int, distance: int) -> list[Warp]:
    """The shifts by `distance` to all sides, corners included; a sensor of one row moves along that row."""
    rows = (-distance, 0, distance) if height > 1 else (0,)
    columns = (-distance, 0, distance) if width > 1 else (0,)
    return [Warp(dx, dy) for dy in rows for dx in columns if dx or dy]


def drawn_warps(rng: np.random.Generator, width: int, height: int, n: int) -> list[Warp]:
    """`n` random turns, scales, slants and shifts at once; a sensor of one row is scaled and shifted along it."""
    flat = 0.0 if min(width, height) == 1 else 1.0
    warps = []
    for _ in range(n):
        turn, scale, slant_x, slant_y, dx, dy = rng.uniform(-1, 1, 6)
        a, s = math.radians(TURN_DEGREES * turn * flat), 1 + SCALE * scale
        matrix = s * np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        matrix = matrix @ np.array([[1.0, SLANT[0] * slant_x * flat], [SLANT[1] * slant_y * flat, 1.0]])
        far = MOVE * max(width, height)
        warps.append(Warp(dx * far * (width > 1), dy * far * (height > 1), *matrix.ravel().tolist()))
    return warps


def warp_table(width: int, height: int, planes: int, warp: Warp) -> NDArray[np.int32]:
    """For each channel the channel that its events go to, int32[planes * height * width]; -1 where they leave."""
    plane, y, x = np.meshgrid(np.arange(planes), np.arange(height), np.arange(width), indexing="ij")
    mid_x, mid_y = (width - 1) / 2, (height - 1) / 2
    from_x, from_y = x - mid_x, y - mid_y
    x = np.rint(warp.xx * from_x + warp.xy * from_y + warp.dx + mid_x).astype(np.int64)
    y = np.rint(warp.yx * from_x + warp.yy * from_y + warp.dy + mid_y).astype(np.int64)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.where(inside, (plane * height + y) * width + x, -1).astype(np.int32).reshape(-1)


@kernel
def _sort(x, first, end):  # type: ignore[no-untyped-def]
    """Sort part of `x` in place, without memory: Shell's way, since most of it is in order already."""
    gap = 1
    while gap < (end - first) // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(first + gap, end):
            value, j = x[i], i
            while j >= first + gap and x[j - gap] > value:
                x[j] = x[j - gap]
                j -= gap
            x[j] = value
        gap //= 3


@kernel
def _send(indptr, indices, counts, table, room, sent_indptr, sent_indices, sent_counts):  # type: ignore[no-untyped-def]
    """Send each event where the table says, a step at a time; `room`, float32[n_in], is zero before and after."""
    at = 0
    for t in range(len(indptr) - 1):
        first = at
        for e in range(indptr[t], indptr[t + 1]):
            c = table[indices[e]]
            if c >= 0:
                if room[c] == 0:
                    sent_indices[at] = c
                    at += 1
                room[c] += counts[e]
        _sort(sent_indices, first, at)
        for e in range(first, at):
            sent_counts[e] = room[sent_indices[e]]
            room[sent_indices[e]] = 0
        sent_indptr[t + 1] = at


def warp_steps(steps: Steps, table: NDArray[np.int32], room: NDArray[np.float32]) -> Steps:
    """Send each event where `table` says; `room` is float32[n_in], zeros, and is left so."""
    indptr = np.zeros(steps.n + 1, np.int64)
    indices, counts = np.empty_like(steps.indices), np.empty_like(steps.counts)
    _send(steps.indptr, steps.indices, steps.counts, table, room, indptr, indices, counts)
    return Steps(steps.first, indptr, indices[: indptr[-1]], counts[: indptr[-1]])
