"""The alarm of distances: against a recount of all of them, how often it is false, and how soon it comes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spiked.learners.discriminant import learn_example, make_discriminant
from spiked.learners.distance_alarm import ALLOWANCE, BOUND, DOUBT, EVIDENCE, USUAL, DistanceAlarm


def recount(distances: list[float]) -> int | None:
    """Number of the distance that raises the alarm, from weights of each that are written out."""

    def weights(n: int) -> np.ndarray:
        w = np.ones(n)
        for k in range(n):  # the k-th is taken in with 1 / min(k + 1, USUAL), and fades with all that follow
            share = 1 / min(k + 1, USUAL)
            w[:k] *= 1 - share
            w[k] = share
        return w

    taken: list[float] = []
    total = 0.0
    for n, distance in enumerate(distances, 1):
        y = math.log(distance)
        if n > DOUBT:
            w = weights(n - 1)
            mean = float(w @ taken)
            sd = math.sqrt(float(w @ (np.array(taken) - mean) ** 2))
            y = min(max(y, mean - BOUND * sd), mean + BOUND * sd)
            total = max(0.0, total + (y - mean) / sd - ALLOWANCE)
            if total > EVIDENCE:
                return n
        taken.append(y)
    return None


@pytest.mark.parametrize("seed", range(4))
def test_it_goes_off_where_a_recount_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distances = np.exp([*rng.normal(3.0, 0.3, 300), *rng.normal(3.4, 0.4, 60)]).tolist()
    alarm = DistanceAlarm()
    rings = next(n for n, d in enumerate(distances, 1) if alarm.judge(d))
    assert rings == recount(distances) and rings > 300
    assert alarm.alarms == 1 and alarm.since == 0


def test_false_alarms_are_fewer_than_one_in_five_thousand() -> None:
    """Distances as a learner has them: falling fast at first, with a heavy tail."""
    alarms = 0
    for seed in range(8):
        rng, alarm = np.random.default_rng(seed), DistanceAlarm()
        falling = 3 * np.exp(-np.arange(5000) / 100)
        for y in falling + 0.3 * rng.standard_t(6, 5000):
            alarm.judge(float(np.exp(y)))
        alarms += alarm.alarms
    assert alarms <= 8


def test_a_change_is_noticed_within_25_labels() -> None:
    for seed in range(40):
        rng, alarm = np.random.default_rng(seed), DistanceAlarm()
        early = sum(alarm.judge(float(d)) for d in np.exp(rng.normal(5.0, 0.3, 400)))
        changed = np.exp(rng.normal(5.7, 0.4, 400))
        assert next(k for k, d in enumerate(changed, 1) if alarm.judge(float(d))) <= 25
        assert early == 0


def test_one_that_is_far_away_is_no_change_and_does_not_hide_one() -> None:
    alarm, rng = DistanceAlarm(), np.random.default_rng(1)
    for k in range(300):
        assert not alarm.judge(float(np.exp(rng.normal(0, 0.2)) * (1e6 if k % 50 == 49 else 1)))
    assert any(alarm.judge(float(np.exp(rng.normal(1.0, 0.2)))) for _ in range(5))


def test_after_an_alarm_it_begins_anew() -> None:
    rng, alarm, fresh = np.random.default_rng(0), DistanceAlarm(), DistanceAlarm()
    for d in np.exp(rng.normal(5.0, 0.1, 300)):
        alarm.judge(float(d))
    while not alarm.judge(math.exp(8.0)):
        pass
    for d in np.exp(rng.normal(8.0, 0.1, 200)):
        assert alarm.judge(float(d)) == fresh.judge(float(d))
    assert alarm.since == fresh.since and alarm.alarms == fresh.alarms + 1


def test_distances_that_are_none_say_nothing() -> None:
    alarm = DistanceAlarm()
    for _ in range(200):
        for d in (0.0, -1.0, np.nan, np.inf, 3.0):
            assert not alarm.judge(d)
    assert alarm.alarms == 0


@pytest.mark.parametrize("whiten", (True, False))
def test_the_head_says_how_far_an_example_lies_from_the_nearest_class(whiten: bool) -> None:
    """Against the scatter summed up and inverted."""
    rng, d, ridge = np.random.default_rng(2), 6, 0.5
    head = make_discriminant(d, 4, ridge, whiten)
    sums, counts, seen = np.zeros((4, d)), np.zeros(4), []
    for k in range(60):
        x, label = rng.normal(0, 1, d) + 2 * (k % 3), k % 3
        if counts[label]:
            known = np.flatnonzero(counts)
            means = sums[known] / counts[known, None]
            scatter = ridge * np.eye(d)
            for y, its in seen:
                away = y - sums[its] / counts[its]
                scatter += np.outer(away, away)
            inverse = np.linalg.inv(scatter) if whiten else np.eye(d)
            expected = min(float((x - m) @ inverse @ (x - m)) for m in means) * counts.sum()
            learn_example(head, x.copy(), np.int32(label))
            assert head.nearest[0] == pytest.approx(expected, rel=1e-9)
        else:
            learn_example(head, x.copy(), np.int32(label))
        sums[label] += x
        counts[label] += 1
        seen.append((x, label))
