"""Where a task ends: after a rise of errors, not before anything is known, and not for a rehearsal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spiked.learners.boundaries import Boundaries
from spiked.learners.contract import NO_VALUES

VALUES = np.zeros((4, 2), np.float32)


def ends(tasks: Boundaries, wrong: list[bool], again: bool = False, values: Any = NO_VALUES) -> list[int]:
    """Windows with which a task ended, where these were said wrong; the label is 1."""
    out = []
    for k, is_wrong in enumerate(wrong):
        scores = np.array([is_wrong, not is_wrong], float)
        says: Any = SimpleNamespace(scores=lambda scores=scores: scores)
        tasks.closing(says, 1, values, again)
        if tasks.taught():
            out.append(k)
    return out


def some(share: float, n: int) -> list[bool]:
    return (np.random.default_rng(0).random(n) < share).tolist()


def test_a_task_ends_soon_after_errors_rise() -> None:
    tasks = Boundaries()
    assert not ends(tasks, some(0.1, 300))
    assert tasks.age[0] == 300
    assert len(at := ends(tasks, some(0.8, 30))) == 1 and 4 < at[0] < 20
    assert tasks.age[0] == 29 - at[0]


def test_a_learner_that_knew_nothing_has_nothing_to_hold() -> None:
    tasks = Boundaries()
    assert not ends(tasks, [True] * 300)
    assert tasks.alarm.alarms > 0


def test_rehearsals_and_vectors_are_not_judged() -> None:
    tasks = Boundaries()
    ends(tasks, some(0.1, 300))
    before = tasks.alarm.arrays()["at"].copy()
    assert not ends(tasks, [True] * 50, again=True) and not ends(tasks, [True] * 50, values=VALUES)
    assert np.array_equal(tasks.alarm.arrays()["at"], before)


def test_by_the_count_where_that_is_asked_for() -> None:
    assert ends(Boundaries(4), [True] * 12, values=VALUES) == [3, 7, 11]
    with pytest.raises(ValueError, match="allowed: 0 or more"):
        Boundaries(-1)
