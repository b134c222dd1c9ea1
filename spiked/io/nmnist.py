"""N-MNIST's samples: 5-byte events, x, y, polarity (1 bit) and time in us (23 bits, big-endian), no header.

A y of 240 is no event: the clock (13 bits in the camera) has passed its end, later times are 2^13 us later.

Source: Orchard et al. 2015, "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spiked.io.chunks import Blocks, Opened, record_blocks
from spiked.io.events import Events, Geometry
from spiked.learners.jit import kernel

SIDE = 34
CLOCK_MARK = 240


@kernel
def _decode_nmnist(raw: NDArray[np.uint8], passed: NDArray[np.int64], out: Events) -> int:
    n = 0
    for k in range(0, raw.shape[0], 5):
        if raw[k + 1] == CLOCK_MARK:
            passed[0] += 1 << 13
            continue
        event = out[n]
        event.t = passed[0] + (np.int64(raw[k + 2] & 0x7F) << 16 | np.int64(raw[k + 3]) << 8 | np.int64(raw[k + 4]))
        event.x = raw[k]
        event.y = raw[k + 1]
        event.on = raw[k + 2] >> 7
        n += 1
    return n


def open_nmnist(path: Path) -> Opened:
    """Open an N-MNIST sample."""

    def blocks(warnings: list[str]) -> Blocks:
        passed = np.zeros(1, np.int64)
        return record_blocks(path, 0, 5, lambda raw, out: int(_decode_nmnist(raw, passed, out)), warnings)

    return Opened("nmnist", Geometry(SIDE, SIDE), blocks)


def looks_like_nmnist(path: Path) -> bool:
    """Whether a file without header begins like a sample: 19 of 20 events within 34 x 34, times not stepping back."""
    with path.open("rb") as file:
        data = np.frombuffer(file.read(5 * 1024), np.uint8)
    events = data[: data.size // 5 * 5].reshape(-1, 5).astype(np.int64)
    if events.shape[0] < (1 if path.suffix.lower() == ".bin" else 16):  # few bytes pass by chance
        return False
    mark = events[:, 1] == CLOCK_MARK
    t = (events[:, 2] & 0x7F) << 16 | events[:, 3] << 8 | events[:, 4]
    inside = (events[:, 0] < SIDE) & (events[:, 1] < SIDE)
    forward = np.diff(t) >= (-(1 << 23) if mark.any() else 0)
    return bool(np.mean(inside | mark) > 0.95 and (forward.size == 0 or np.mean(forward) > 0.95))
