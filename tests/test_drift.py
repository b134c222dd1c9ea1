"""The drift alarm on errors of a known rate: how often it is false, and how soon it comes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spiked.learners.drift import EVIDENCE, LEAST, RISE, DriftAlarm


def learning_curve(rng: np.random.Generator, n: int, rate: float) -> np.ndarray:
    """Errors of a learner that begins with nine wrong in ten and ends with `rate`."""
    return rng.random(n) < np.maximum(rate, 0.9 * np.exp(-np.arange(n) / 40))


@pytest.mark.parametrize("rate", [0.02, 0.08, 0.2, 0.4])
def test_false_alarms_are_fewer_than_one_in_five_thousand(rate: float) -> None:
    alarms = 0
    for seed in range(10):
        alarm = DriftAlarm()
        for wrong in learning_curve(np.random.default_rng(seed), 5000, rate):
            alarm.judge(bool(wrong))
        alarms += alarm.alarms
    assert alarms < 10


@pytest.mark.parametrize("rate", [0.02, 0.08])
def test_a_change_is_noticed_within_25_labels(rate: float) -> None:
    delays = []
    for seed in range(40):
        rng, alarm = np.random.default_rng(seed), DriftAlarm()
        for wrong in learning_curve(rng, 400, rate):
            alarm.judge(bool(wrong))
        assert alarm.alarms == 0
        delays.append(next(k for k in range(1, 500) if alarm.judge(bool(rng.random() < 0.6))))
    assert np.median(delays) < 18 and np.quantile(delays, 0.9) <= 25


def test_evidence_is_the_log_likelihood_ratio() -> None:
    alarm = DriftAlarm()
    for _ in range(3000):
        alarm.judge(False)
    each = math.log((LEAST + RISE) / LEAST)
    n = math.ceil(EVIDENCE / each)
    said = [alarm.judge(True) for _ in range(n)]
    assert said[:-1] == [False] * (n - 1)
    assert alarm.alarms == said[-1] and alarm.since == (0 if said[-1] else 3000 + n)


def test_after_an_alarm_it_begins_anew() -> None:
    alarm = DriftAlarm()
    for _ in range(300):
        alarm.judge(False)
    while not alarm.judge(True):
        pass
    fresh = DriftAlarm()
    rng = np.random.default_rng(0)
    for wrong in rng.random(200) < 0.5:
        assert alarm.judge(bool(wrong)) == fresh.judge(bool(wrong))
    assert alarm.since == fresh.since and alarm.alarms == fresh.alarms + 1
