"""Noticing that the world has changed by how sure a head was of what was right: sooner than by its errors (`drift`).

The margin of an answer is the score of its label, less the best of the others: negative where it was wrong, and smaller
long before that. Squashed by its own usual size, ``m = tanh(margin / (2 mean |margin|))``, and compared with what is
usual, ``z = (mean(m) - m) / sd(m)``, bounded to `BOUND`, it is summed (Page 1954)::

    sum = max(0, sum + z - ALLOWANCE);    the alarm: sum > EVIDENCE

Usual is a running mean over the last `USUAL` answers. With digits before a camera, a shift of 4 pixels with swapped
polarity was noticed after 5 to 22 answers; there was 1 false alarm in 28,200 (`benchmarks/drift.py`; the constants
were chosen on other seeds). After an alarm, and where the task has become another one, all begins again.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spiked.learners.drift import Alarm

ALLOWANCE = 0.5
EVIDENCE = 9.0
BOUND = 4.0
USUAL = 200
DOUBT = 20
"""Answers before any counts: nothing is usual yet."""
COUNT, SIZE, MEAN, VARIANCE, SUM = range(5)


class MarginAlarm(Alarm):
    """Watches margins, one at a time."""

    def __init__(self) -> None:
        super().__init__(5)

    def judge(self, scores: NDArray[np.floating], label: int) -> bool:
        """Take in one answer that was given before its label was used; whether that raises the alarm."""
        if len(scores) < 2:
            return False
        others = max(
            float(np.max(scores[:label], initial=-np.inf)), float(np.max(scores[label + 1 :], initial=-np.inf))
        )
        margin = float(scores[label]) - others
        if not math.isfinite(margin):
            return False
        at = self._at
        at[-1] += 1
        at[COUNT] += 1
        share = 1 / min(at[COUNT], USUAL)
        at[SIZE] += share * (abs(margin) - at[SIZE])
        squashed = math.tanh(margin / (2 * at[SIZE])) if at[SIZE] > 0 else 0.0
        away = at[MEAN] - squashed
        if at[COUNT] > DOUBT and at[VARIANCE] > 0:
            z = min(max(away / math.sqrt(at[VARIANCE]), -BOUND), BOUND)
            at[SUM] = max(0.0, at[SUM] + z - ALLOWANCE)
        if at[SUM] > EVIDENCE:
            self._go_off()
            return True
        at[MEAN] -= share * away
        at[VARIANCE] = (1 - share) * (at[VARIANCE] + share * away * away)
        return False

    def begin_anew(self) -> None:
        """Forget what was usual: it says nothing about what comes."""
        self._at[:-2] = 0
