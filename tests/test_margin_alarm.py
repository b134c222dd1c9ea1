"""The alarm of margins: against a recount from all margins, how often it is false, and how soon it comes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spiked.learners.margin_alarm import ALLOWANCE, BOUND, DOUBT, EVIDENCE, USUAL, MarginAlarm


def recount(margins: list[float]) -> bool:
    """Whether the last margin raises the alarm, none before having done so: weights of each margin written out."""
    total = 0.0

    def weights(n: int) -> np.ndarray:
        w = np.ones(n)
        for k in range(n):  # the k-th is taken in with 1 / min(k + 1, USUAL), and fades with all that follow
            share = 1 / min(k + 1, USUAL)
            w[:k] *= 1 - share
            w[k] = share
        return w

    squashed: list[float] = []
    for n in range(1, len(margins) + 1):
        size = float(weights(n) @ np.abs(margins[:n]))
        m = math.tanh(margins[n - 1] / (2 * size))
        if n > DOUBT:
            w = weights(n - 1)
            mean = float(w @ squashed)
            sd = math.sqrt(float(w @ (np.array(squashed) - mean) ** 2))
            z = min(max((mean - m) / sd, -BOUND), BOUND)
            total = max(0.0, total + z - ALLOWANCE)
            if total > EVIDENCE:
                return n == len(margins)
        squashed.append(m)
    return False


def scores_of(margin: float) -> tuple[np.ndarray, int]:
    """Three scores with that margin for label 1."""
    return np.array([2.0, 2.0 + margin, 1.0]), 1


@pytest.mark.parametrize("seed", range(4))
def test_it_goes_off_where_a_recount_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    margins = [*rng.normal(3.0, 2.0, 120).tolist(), *rng.normal(0.0, 2.0, 60).tolist()]
    alarm = MarginAlarm()
    for n, margin in enumerate(margins, 1):
        rings = alarm.judge(*scores_of(margin))
        assert rings == recount(margins[:n])
        if rings:
            assert n > 120 and alarm.alarms == 1 and alarm.since == 0
            return
    raise AssertionError("it never went off")


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.0])
def test_false_alarms_are_fewer_than_one_in_five_thousand(spread: float) -> None:
    """Margins of any size, growing as a learner learns."""
    alarms = 0
    for seed in range(4):
        rng, alarm = np.random.default_rng(seed), MarginAlarm()
        size = 1 - 0.9 * np.exp(-np.arange(5000) / 100)
        for margin in 50 * size * rng.normal(1.0, spread, 5000):
            alarm.judge(*scores_of(float(margin)))
        alarms += alarm.alarms
    assert alarms <= 3


def test_a_change_is_noticed_within_25_labels() -> None:
    delays, early = [], 0
    for seed in range(40):
        rng, alarm = np.random.default_rng(seed), MarginAlarm()
        for margin in rng.normal(50.0, 35.0, 400):
            early += alarm.judge(*scores_of(float(margin)))
        changed = rng.normal(5.0, 40.0, 400)
        rings = (k for k, margin in enumerate(changed, 1) if alarm.judge(*scores_of(float(margin))))
        delays.append(next(rings, 400))  # one that was wrong just before the change takes the new for usual
    assert np.median(delays) < 15 and np.quantile(delays, 0.9) <= 25
    assert early <= 3  # in 16,000


def test_after_an_alarm_it_begins_anew() -> None:
    rng, alarm, fresh = np.random.default_rng(0), MarginAlarm(), MarginAlarm()
    for margin in rng.normal(5.0, 1.0, 300):
        alarm.judge(*scores_of(float(margin)))
    while not alarm.judge(*scores_of(-5.0)):
        pass
    for margin in rng.normal(0.0, 2.0, 200):
        assert alarm.judge(*scores_of(float(margin))) == fresh.judge(*scores_of(float(margin)))
    assert alarm.since == fresh.since and alarm.alarms == fresh.alarms + 1


def test_one_class_and_scores_that_are_no_numbers_say_nothing() -> None:
    alarm = MarginAlarm()
    for _ in range(200):
        assert not alarm.judge(np.array([1.0]), 0)
        assert not alarm.judge(np.array([np.nan, 1.0]), 0)
        assert not alarm.judge(np.array([np.inf, 1.0]), 1)
        assert not alarm.judge(np.array([3.0, 3.0]), 1)  # a margin of 0, always
    assert alarm.alarms == 0
