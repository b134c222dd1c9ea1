"""Where one task ends and the next begins, as far as a stream that names no tasks can tell.

A consolidation must not come too early, or the random start is what is held, nor in the middle of what is being learnt,
or the anchor follows it. The errors made before learning say when: `drift.DriftAlarm` goes off some 5 to 30 windows
after a change that matters. A change that costs no errors needs no consolidation, and gets none. An alarm while half of
the answers were wrong already, as they are where learning begins, ends nothing.

Vectors and rewards are never simply wrong: for these, `every` so many windows is the end of a task.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.learners.drift import DriftAlarm
from spiked.learners.gradient import GradientLearner

KNOWN = 0.5
"""A task of which more answers than this are usually wrong has nothing worth holding."""


class Boundaries:
    """Watches the windows that teach.

    Parameters
    ----------
    every : a task ends after so many windows; 0: where errors rise.
    """

    def __init__(self, every: int = 0) -> None:
        if every < 0:
            raise ValueError(f"a task of {every} windows; allowed: 0 or more")
        self.every = every
        self.alarm, self.age = DriftAlarm(), np.zeros(1, np.int64)
        self._wrong: bool | None = None

    def closing(self, learner: GradientLearner, label: int, values: NDArray[np.float32], again: bool) -> None:
        """See a window before it teaches; `again`: it is a rehearsal, which says nothing about the stream."""
        self._wrong = None
        if not (self.every or again or label < 0 or len(values)):
            self._wrong = int(np.argmax(learner.scores())) != label

    def taught(self) -> bool:
        """Count the window; whether a task has ended with it."""
        self.age += 1
        ends = self.age[0] == self.every if self.every else self._risen()
        if ends:
            self.age[:] = 0
        return bool(ends)

    def _risen(self) -> bool:
        if self._wrong is None:
            return False
        known = self.alarm.usual < KNOWN
        return self.alarm.judge(self._wrong) and known

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return {"age": self.age} | {f"alarm.{name}": array for name, array in self.alarm.arrays().items()}
