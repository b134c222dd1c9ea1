"""Noticing that the world has changed by how far what is seen lies from all that is known: sooner than by errors.

A head that keeps class means and the scatter within classes (`discriminant`) knows how far an example lies from the
nearest class, in its own terms (Mahalanobis 1936). The logarithm of that distance is held against what is usual,
``z = (log distance - mean) / sd``, bounded to `BOUND`, and summed (Page 1954)::

    sum = max(0, sum + z - ALLOWANCE);    the alarm: sum > EVIDENCE

Usual is a running mean over the last `USUAL` examples; one that is further away than `BOUND` counts as just that far,
so that the first odd ones do not make odd things usual. No label is asked: wrong labels are no change of the world, and
the head may still be right while its world goes. Digits moved by 4 pixels with swapped polarities were noticed after
2 to 4 of them, where errors took 13 and more, and margins 4 to 51 (`benchmarks/drift.py`; the constants were chosen on
other seeds). After an alarm, and where a class is new, all begins again.
"""

from __future__ import annotations

import math

from spiked.learners.drift import Alarm

ALLOWANCE = 0.75
EVIDENCE = 9.0
BOUND = 5.0
USUAL = 200
DOUBT = 20
"""Examples before any counts: nothing is usual yet."""
COUNT, MEAN, VARIANCE, SUM = range(4)


class DistanceAlarm(Alarm):
    """Watches squared distances to the nearest class, one at a time."""

    def __init__(self) -> None:
        super().__init__(4)

    def judge(self, distance: float) -> bool:
        """Take in one distance, from before the example was learnt; whether that raises the alarm."""
        if not 0 < distance < math.inf:
            return False
        at = self._at
        at[-1] += 1
        at[COUNT] += 1
        share = 1 / min(at[COUNT], USUAL)
        away = math.log(distance) - at[MEAN]
        if at[COUNT] > DOUBT and at[VARIANCE] > 0:
            sd = math.sqrt(at[VARIANCE])
            away = min(max(away, -BOUND * sd), BOUND * sd)
            at[SUM] = max(0.0, at[SUM] + away / sd - ALLOWANCE)
        if at[SUM] > EVIDENCE:
            self._go_off()
            return True
        at[MEAN] += share * away
        at[VARIANCE] = (1 - share) * (at[VARIANCE] + share * away * away)
        return False

    def begin_anew(self) -> None:
        """Forget what was usual: it says nothing about what comes."""
        self._at[:-2] = 0
