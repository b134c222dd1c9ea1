"""What the `run` of every learner shares: a step is a run of one, and there is a row for all that it says.

A compiled run takes what stays the same as one pointer (`bundle`), and the arrays of `Steps` and `Cues` one by one:
Numba takes arrays apart in a tenth of a microsecond, but works out the type of a tuple anew at every call, which takes
as long as a step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, Cues, Readouts, Steps


class RunMixin:
    """`step` for a learner that has `run`."""

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps in one compiled call."""
        raise NotImplementedError

    def step(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by exactly one step."""
        if steps.n != 1:
            raise ValueError(f"step() takes 1 step, not {steps.n}")
        return self.run(steps, cues, learn)


def room_for(cues: Cues, n_out: int, n_layers: int) -> Readouts:
    """Read-outs of a run, whose scores and spikes are still to be written."""
    flags, labels, _ = cues
    at = flags.nonzero()[0]
    rows = len(at)
    spikes: NDArray[np.int64] = np.zeros((rows, n_layers), np.int64)
    return Readouts(at, flags[at], labels[at], np.zeros((rows, n_out), np.float32), spikes)


def room_between(label: int, n_out: int, n_layers: int) -> Readouts:
    """The read-out of a window that closes between two steps, still to be written."""
    flags, labels = np.array([CLOSE], np.uint8), np.array([label], np.int32)
    spikes: NDArray[np.int64] = np.zeros((1, n_layers), np.int64)
    return Readouts(np.array([-1], np.int64), flags, labels, np.zeros((1, n_out), np.float32), spikes)
