"""A long silence, and what it leaves behind: no number so small that the processor is slow with it."""

from __future__ import annotations

import numpy as np

from spiked.learners.contract import Learner, Steps, silent_cues

BUSY, SILENT, ACTIVE = 200, 40_000, 6


def subnormal_after_silence(learner: Learner) -> list[str]:
    """Names of the arrays of a learner's state that hold subnormal numbers after it has heard nothing for long."""
    rng = np.random.default_rng(0)
    active = [np.sort(rng.choice(learner.n_in, ACTIVE, replace=False)) for _ in range(BUSY)]
    indices = np.concatenate(active).astype(np.int32)
    busy = Steps(0, np.arange(BUSY + 1) * ACTIVE, indices, np.ones(len(indices), np.float32))
    learner.run(busy, silent_cues(BUSY))
    moved = [name for name, array in learner.state().items() if array.dtype.kind == "f" and array.any()]
    assert moved, "nothing had happened before the silence"
    nothing = Steps(BUSY, np.zeros(SILENT + 1, np.int64), indices[:0], np.zeros(0, np.float32))
    learner.run(nothing, silent_cues(SILENT))
    found = []
    for name, array in learner.state().items():
        if array.dtype.kind == "f" and ((array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)).any():
            found.append(name)
    return found
