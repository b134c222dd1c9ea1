"""Simulated cue accumulation: on which side were more cues, asked after a delay in which nothing tells.

The task of Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons", Nat. Commun.
11:3625, 2020: four groups of input neurons, one for each side, one that asks, one of noise. A few cues fire one side's
group each; after a delay the recall group fires, and the network says which side had more. What it needs is a memory of
a second or more: by then the membranes have long forgotten, slow adaptive thresholds have not.

::

    |<- cue ->|gap|<- cue ->|gap| ... |<----- delay ----->|<- recall ->|
    one side per cue                    noise only          label is on here, asked at its end

A channel fires at most once in a millisecond, with probability ``rate / 1000``: what a Poisson process at these rates
is in binary steps of 1 ms, up to its double spikes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.io.events import Geometry, make_events
from spiked.io.sim_scenes import SPLITS, Sample
from spiked.learners.contract import CLOSE, Cues, Steps, silent_cues

SIDES = ("left", "right")
"""Names of the labels; also the order of the first two groups of channels, which the recall and noise groups follow."""


@dataclass(frozen=True)
class CueTask:
    """How a trial is made; the defaults are the classic form.

    Parameters
    ----------
    group_channels : channels of each of the four groups: left, right, recall, noise.
    n_cues : cues of a trial, an odd number.
    agree : chance of each cue to be on the side drawn for the trial: 0.5 is a coin for every cue (as hard as it gets:
        half of all trials are 3 to 4), 0.7 is the published form. The label is the majority of the cues as they fell.
    cue_ms, gap_ms : length of a cue, and of the pause after it.
    delay_least_ms, delay_most_ms : bounds of the delay after the last pause, drawn evenly for each trial.
    recall_ms : length of the recall period, which ends the trial.
    rate_hz : of a side's group during its cues, and of the recall group during recall; silent otherwise.
    noise_hz : of the noise group, all the time.

    Raises
    ------
    ValueError
        A parameter out of its range.
    """

    group_channels: int = 10
    n_cues: int = 7
    agree: float = 0.7
    cue_ms: int = 100
    gap_ms: int = 50
    delay_least_ms: int = 500
    delay_most_ms: int = 1500
    recall_ms: int = 150
    rate_hz: float = 40.0
    noise_hz: float = 10.0

    def __post_init__(self) -> None:
        if self.group_channels < 1 or self.cue_ms < 1 or self.recall_ms < 1 or self.gap_ms < 0:
            raise ValueError(
                f"group_channels {self.group_channels}, cue_ms {self.cue_ms}, recall_ms {self.recall_ms}, gap_ms "
                f"{self.gap_ms}; allowed: 1 or more of the first three, 0 or more of the last"
            )
        if self.n_cues < 1 or self.n_cues % 2 == 0:
            raise ValueError(f"n_cues is {self.n_cues}; allowed: an odd number, so that one side always has more")
        if not 0.5 <= self.agree <= 1:
            raise ValueError(f"agree is {self.agree}; allowed: 0.5 to 1")
        if not 0 <= self.delay_least_ms <= self.delay_most_ms:
            raise ValueError(
                f"a delay of {self.delay_least_ms} to {self.delay_most_ms} ms; allowed: 0 <= least <= most"
            )
        for name, hz in (("rate_hz", self.rate_hz), ("noise_hz", self.noise_hz)):
            if not 0 <= hz <= 1000:
                raise ValueError(f"{name} is {hz}; allowed: 0 to 1000, once in every step of 1 ms")

    @property
    def geometry(self) -> Geometry:
        """The channels in a row, without polarity."""
        return Geometry(4 * self.group_channels, 1, 1)

    def group(self, name: str) -> slice:
        """The channels of a group: ``"left"``, ``"right"``, ``"recall"`` or ``"noise"``."""
        at = (*SIDES, "recall", "noise").index(name) * self.group_channels
        return slice(at, at + self.group_channels)


class CueTrial(NamedTuple):
    """One trial in steps of 1 ms.

    Attributes
    ----------
    label : 0 (left) or 1 (right), the side of most cues.
    sides : int64[n_cues]; the side of each cue.
    delay_ms : the delay that was drawn.
    recall_from : number of the first step of the recall period, which lasts to the end.
    steps : the active channels of each step.
    """

    label: int
    sides: NDArray[np.int64]
    delay_ms: int
    recall_from: int
    steps: Steps

    def cues(self, teach: bool = True) -> Cues:
        """What a learner is told: the label during recall (if `teach`), and to read and close at the last step."""
        told = silent_cues(self.steps.n)
        if teach:
            told.labels[self.recall_from :] = self.label
        told.flags[-1] = CLOSE
        return told


def cue_trials(seed: int, task: CueTask = CueTask(), *, split: str = "train") -> Iterator[CueTrial]:
    """Endless trials; the ``"train"`` and ``"test"`` trials of one seed come from random streams of their own.

    Raises
    ------
    ValueError
        Unknown `split`.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; allowed: {', '.join(SPLITS)}")
    rng = np.random.default_rng([seed, SPLITS.index(split), 0xC0E5])
    return _trials(rng, task)


def _trials(rng: np.random.Generator, task: CueTask) -> Iterator[CueTrial]:
    while True:
        drawn = int(rng.integers(2))
        sides = np.where(rng.random(task.n_cues) < task.agree, drawn, 1 - drawn).astype(np.int64)
        delay_ms = int(rng.integers(task.delay_least_ms, task.delay_most_ms + 1))
        recall_from = task.n_cues * (task.cue_ms + task.gap_ms) + delay_ms
        chance = np.zeros((recall_from + task.recall_ms, task.geometry.width))
        for k, side in enumerate(sides.tolist()):
            at = k * (task.cue_ms + task.gap_ms)
            chance[at : at + task.cue_ms, task.group(SIDES[side])] = task.rate_hz / 1000
        chance[recall_from:, task.group("recall")] = task.rate_hz / 1000
        chance[:, task.group("noise")] = task.noise_hz / 1000
        step, channel = np.nonzero(rng.random(chance.shape) < chance)
        indptr = np.searchsorted(step, np.arange(len(chance) + 1)).astype(np.int64)
        steps = Steps(0, indptr, channel.astype(np.int32), np.ones(len(channel), np.float32))
        yield CueTrial(int(2 * sides.sum() > task.n_cues), sides, delay_ms, recall_from, steps)


def cue_samples(seed: int, task: CueTask = CueTask(), *, split: str = "train") -> Iterator[Sample]:
    """The trials of `cue_trials` as samples of events: `x` the channel, `y` and `on` 0, anywhere in their millisecond.

    Binned at 1 ms they are the trials' steps again. A sample does not tell when recall begins: `CueTask.recall_ms`
    before its end.
    """
    trials = cue_trials(seed, task, split=split)
    rng = np.random.default_rng([seed, SPLITS.index(split), 0xC0E6])
    for trial in trials:
        step = np.repeat(np.arange(trial.steps.n), np.diff(trial.steps.indptr))
        t_us = 1000 * step + rng.integers(1000, size=len(step))
        order = np.argsort(t_us, kind="stable")
        events = make_events(t_us[order], trial.steps.indices[order], 0, 0)
        yield Sample(trial.label, SIDES[trial.label], events, 1000 * trial.steps.n)
