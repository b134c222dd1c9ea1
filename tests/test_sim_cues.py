"""The simulated cue-accumulation task: rates, answers, seeds, and that nothing but memory can solve it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from spiked.io.binner import Binner, BinnerSpec
from spiked.io.sim_cues import CueTask, CueTrial, cue_samples, cue_trials
from spiked.learners.contract import CLOSE, UNLABELLED

TASK = CueTask(delay_least_ms=100, delay_most_ms=300)


def dense(trial: CueTrial):
    """Spikes [steps, channels] of a trial."""
    out = np.zeros((trial.steps.n, 40), int)
    for t in range(trial.steps.n):
        out[t, trial.steps.indices[trial.steps.indptr[t] : trial.steps.indptr[t + 1]]] = 1
    return out


def expect_rate(spikes, hz: float) -> None:
    """The share of active entries lies within 4.5 standard errors of a binomial's."""
    p = hz / 1000
    assert abs(spikes.sum() - p * spikes.size) <= 4.5 * np.sqrt(spikes.size * p * (1 - p))


def test_rates() -> None:
    task = CueTask()
    on, off, asked, silent, noise = [], [], [], [], []
    for trial in itertools.islice(cue_trials(0, task), 30):
        x = dense(trial)
        assert trial.recall_from == 7 * 150 + trial.delay_ms and trial.steps.n == trial.recall_from + 150
        for k, side in enumerate(trial.sides):
            cue, gap = x[150 * k : 150 * k + 100], x[150 * k + 100 : 150 * k + 150]
            on.append(cue[:, 10 * side : 10 * side + 10])
            off += [cue[:, 10 * (1 - side) : 10 * (1 - side) + 10], gap[:, :10], gap[:, 10:20]]
        off += [x[7 * 150 :, :10], x[7 * 150 :, 10:20]]
        asked.append(x[trial.recall_from :, 20:30])
        silent.append(x[: trial.recall_from, 20:30])
        noise.append(x[:, 30:])
    expect_rate(np.concatenate(on), 40)
    expect_rate(np.concatenate(asked), 40)
    expect_rate(np.concatenate(noise), 10)
    assert not np.concatenate(off).any() and not np.concatenate(silent).any()


def test_rates_follow_their_parameters() -> None:
    trial = next(
        cue_trials(0, CueTask(rate_hz=1000, noise_hz=0, n_cues=1, gap_ms=0, delay_least_ms=7, delay_most_ms=7))
    )
    x = dense(trial)
    side = trial.label
    assert x[:100, 10 * side : 10 * side + 10].all() and x[-150:, 20:30].all()
    assert x.sum() == 100 * 10 + 150 * 10 and trial.steps.n == 257


@pytest.mark.parametrize(("agree", "close"), [(0.5, 70 / 128), (0.7, 35 * (0.7**4 * 0.3**3 + 0.7**3 * 0.3**4))])
def test_the_label_is_the_majority(agree: float, close: float) -> None:
    trials = list(itertools.islice(cue_trials(1, CueTask(agree=agree, delay_least_ms=0, delay_most_ms=0)), 600))
    for trial in trials[:50]:
        x = dense(trial)[: trial.recall_from]
        by_cue = [x[150 * k : 150 * k + 100, 10:20].sum() > x[150 * k : 150 * k + 100, :10].sum() for k in range(7)]
        assert by_cue == [bool(s) for s in trial.sides]
        assert trial.label == (sum(by_cue) >= 4)
    share = np.mean([sum(t.sides) in (3, 4) for t in trials])
    assert abs(share - close) < 4.5 * np.sqrt(close * (1 - close) / 600)
    assert abs(np.mean([t.label for t in trials]) - 0.5) < 4.5 * 0.5 / np.sqrt(600)


def test_same_seed_same_trials() -> None:
    def first(seed: int, split: str):
        trial = next(cue_trials(seed, TASK, split=split))
        return trial.steps.indices.tobytes(), trial.steps.indptr.tobytes(), trial.label

    runs = [first(3, "train"), first(3, "train"), first(4, "train"), first(3, "test")]
    assert runs[0] == runs[1] and len(set(runs)) == 3
    events = [next(cue_samples(3, TASK, split=s)).events.tobytes() for s in ("train", "train", "test")]
    assert events[0] == events[1] != events[2]


def test_delays_span_their_bounds() -> None:
    delays = [t.delay_ms for t in itertools.islice(cue_trials(0, CueTask(delay_least_ms=2, delay_most_ms=4)), 100)]
    assert set(delays) == {2, 3, 4}


def test_a_learner_is_told_in_recall_only() -> None:
    trial = next(cue_trials(5, TASK))
    told = trial.cues()
    assert set(told.labels[: trial.recall_from].tolist()) == {UNLABELLED}
    assert told.labels[trial.recall_from :].tolist() == [trial.label] * 150
    assert np.flatnonzero(told.flags).tolist() == [trial.steps.n - 1] and told.flags[-1] == CLOSE
    assert set(trial.cues(teach=False).labels.tolist()) == {UNLABELLED}


def test_samples_binned_are_the_trials() -> None:
    for trial, sample in itertools.islice(zip(cue_trials(2, TASK), cue_samples(2, TASK)), 5):
        events = sample.events
        assert (np.diff(events["t"].astype(np.int64)) >= 0).all() and events["t"][-1] < sample.duration_us
        assert (sample.label, sample.name) == (trial.label, ("left", "right")[trial.label])
        binner = Binner(BinnerSpec(TASK.geometry))
        binner.start(0)
        steps = binner.push(events, sample.duration_us // 1000)
        assert steps.n == trial.steps.n
        assert steps.indptr.tolist() == trial.steps.indptr.tolist()
        assert steps.indices.tolist() == trial.steps.indices.tolist()


def linear_readout(features, labels, tested, truth) -> float:
    """Accuracy of ridge regression, trained on the first pair."""
    mean = features.mean(0)
    x = features - mean
    w = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ (2.0 * labels - 1))
    return float(np.mean(((tested - mean) @ w > 0) == truth))


def test_the_answer_is_not_in_the_recall_period() -> None:
    sets = []
    for split, n in (("train", 600), ("test", 600)):
        trials = list(itertools.islice(cue_trials(7, TASK, split=split), n))
        last = np.array([np.bincount(t.steps.slice(t.recall_from, t.steps.n).indices, minlength=40) for t in trials])
        all_of_it = np.array([np.bincount(t.steps.indices, minlength=40) for t in trials])
        sets.append((last, all_of_it, np.array([t.label for t in trials])))
    (last, everything, labels), (last_tested, everything_tested, truth) = sets
    assert abs(linear_readout(last, labels, last_tested, truth) - 0.5) < 4 * 0.5 / np.sqrt(600)
    assert linear_readout(everything, labels, everything_tested, truth) > 0.95  # but it was there before


def test_refusals() -> None:
    for wrong in (
        {"n_cues": 4}, {"agree": 0.4}, {"delay_least_ms": 9, "delay_most_ms": 8}, {"rate_hz": 1001.0},
        {"noise_hz": -1.0}, {"group_channels": 0}, {"cue_ms": 0}, {"recall_ms": 0}, {"gap_ms": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="allowed"):
            CueTask(**wrong)
    with pytest.raises(ValueError, match="split is 'x'; allowed: train, test"):
        cue_trials(0, split="x")
