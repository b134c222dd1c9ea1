"""Noticing that the world has changed: a cumulative sum of the errors made before learning (Page 1954).

An error is evidence for a rate that has risen by `RISE` over the usual one, a right answer against it, each by its log
likelihood ratio; the sum of the evidence is not let below 0. Past `EVIDENCE` it is no chance any more: under an
unchanged rate that takes ``exp(EVIDENCE)`` answers or more in the mean, under one of a half some ten. Usual is a
running mean of the errors themselves, over the last `USUAL` answers and from `MOST` on, so that a learner that is new
at its task, or one whose task is hard, raises no alarm. After an alarm the count begins again, and so it does where the
task has become another one (`begin_anew`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

RISE = 0.3
EVIDENCE = 8.0
USUAL = 200
DOUBT = 20
"""Answers that the first guess of what is usual counts for."""
LEAST, MOST = 0.03, 0.6
"""Bounds of the usual error rate: fewer errors are luck, and of more nothing can be told."""
COUNT, RATE, SUM = range(3)


class Alarm:
    """What every alarm keeps: its own numbers, then its alarms so far, and the answers since the last."""

    def __init__(self, numbers: int) -> None:
        self._at = np.zeros(numbers + 2)

    @property
    def alarms(self) -> int:
        """Alarms so far."""
        return int(self._at[-2])

    @property
    def since(self) -> int:
        """Answers since the last alarm, or the beginning."""
        return int(self._at[-1])

    def begin_anew(self) -> None:
        """Forget what was usual: it says nothing about what comes."""
        raise NotImplementedError

    def _go_off(self) -> None:
        self.begin_anew()
        self._at[-2] += 1
        self._at[-1] = 0

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return {"at": self._at}


class DriftAlarm(Alarm):
    """Watches errors, one at a time."""

    def __init__(self) -> None:
        super().__init__(3)
        self._at[RATE] = MOST

    @property
    def usual(self) -> float:
        """Share of errors that is usual now; `MOST` before any answer."""
        return float(self._at[RATE])

    def judge(self, wrong: bool) -> bool:
        """Take in one answer that was given before its label was used; whether that raises the alarm."""
        at = self._at
        at[-1] += 1
        usual = min(max(at[RATE], LEAST), MOST)
        risen = min(usual + RISE, 0.99)
        evidence = math.log(risen / usual) if wrong else math.log((1 - risen) / (1 - usual))
        at[SUM] = max(0.0, at[SUM] + evidence)
        at[COUNT] += 1
        at[RATE] += (float(wrong) - at[RATE]) / min(at[COUNT] + DOUBT, USUAL)
        if at[SUM] <= EVIDENCE:
            return False
        self._go_off()
        return True

    def begin_anew(self) -> None:
        """Forget what was usual: it says nothing about what comes."""
        self._at[[COUNT, RATE, SUM]] = 0, MOST, 0
