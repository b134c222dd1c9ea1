"""The tasks of `learning_rules`: what is shown to a learner, in which order, and when it is told the answer.

==========  =========================================  ============================================================
name        training, once, batch size one             test, without labels, weights still
==========  =========================================  ============================================================
``nmnist``  900 of the pool of 1,100 real samples      the other 200, stratified
``tones``   8 tones without noise, 0-250 ms, in         the same tones, 250-500 ms: later in time, nothing shared
            pieces of 25 ms                            but the tone
``cues``    fresh trials (`spiked.io.sim_cues`)        200 trials of another random stream
==========  =========================================  ============================================================

The number of a split seeds which samples, their order, and the network's weights. Every sample is one window: the
prediction is taken at its last step, before anything of its label has moved a weight; then the window closes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.io.binner import Binner, BinnerSpec
from spiked.io.npz_sets import EventSet, Npz
from spiked.io.sim_cues import SIDES, CueTask, cue_trials
from spiked.learners.contract import CLOSE, Cues, Steps, silent_cues

PIECE_MS = 25
TEST_NMNIST, TEST_CUES = 200, 200


class Shown(NamedTuple):
    """A sample as a learner meets it: its steps, what it is told while learning, what it is asked in a test."""

    label: int
    steps: Steps
    told: Cues
    asked: Cues


class Task:
    """A task.

    Attributes
    ----------
    name, title : short and long.
    stream : the sensor, as a ``[[stream]]`` table has it.
    classes : names.
    splits : how many splits a figure averages over.
    last : samples at the end of training whose predictions count as accuracy while learning; 0 takes all.
    """

    name = title = ""
    stream: dict[str, Any]
    classes: list[str]
    splits = 10
    last = 0

    def split(self, seed: int, spec: BinnerSpec) -> tuple[list[Shown], list[Shown]]:
        """Training and test samples of a split, in order."""
        raise NotImplementedError


def data_dir() -> Path:
    """Folder of the real recordings: ``$SPIKED_DATA``, else ``../shared/data`` beside the checkout."""
    return Path(os.environ.get("SPIKED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def whole(label: int, steps: Steps) -> Shown:
    """A sample whose label is on from its first step to its last."""
    asked, told = silent_cues(steps.n), silent_cues(steps.n)
    asked.flags[-1] = told.flags[-1] = CLOSE
    told.labels[:] = label
    return Shown(label, steps, told, asked)


@cache
def _nmnist() -> EventSet:
    return EventSet(Npz(data_dir() / "nmnist10" / "nmnist10_small.npz"))


@cache
def _binned_nmnist(spec: BinnerSpec) -> list[Shown]:
    pool = _nmnist()
    out = []
    for i in range(len(pool.labels)):
        sample = pool.sample(i)
        binner = Binner(spec)
        binner.start(0)
        out.append(whole(sample.label, binner.push(sample.events, -(-sample.duration_us // spec.dt_us)).copy()))
    return out


class Nmnist(Task):
    """Ten digits before a camera that moves; the pool is split anew for each seed, classes in proportion."""

    name, title = "nmnist", "N-MNIST, ten digits, 900 / 200"
    stream = {"width": 34, "height": 34, "planes": 2}
    classes = [str(k) for k in range(10)]

    def split(self, seed: int, spec: BinnerSpec) -> tuple[list[Shown], list[Shown]]:
        """Stratified, then shuffled."""
        labels, rng = _nmnist().labels, np.random.default_rng(seed)
        test: list[int] = []
        share = np.bincount(labels) * TEST_NMNIST / len(labels)
        take = np.floor(share).astype(int)
        take[np.argsort(take - share, kind="stable")[: TEST_NMNIST - take.sum()]] += 1  # largest remainders
        for k, n in enumerate(take.tolist()):
            test += rng.permutation(np.flatnonzero(labels == k))[:n].tolist()
        train = rng.permutation(np.setdiff1d(np.arange(len(labels)), test))
        samples = _binned_nmnist(spec)
        return [samples[i] for i in train.tolist()], [samples[i] for i in test]


@cache
def _clean_tones() -> tuple[NDArray, list[str]]:
    with np.load(data_dir() / "cochlea" / "nas_tones.npz", allow_pickle=False) as file:
        clean = int(np.argmax(file["snr_db"]))
        return file["counts"][clean], [str(hz) for hz in file["tones_hz"]]


class Tones(Task):
    """Eight pure tones through a silicon cochlea; each tone's recording is halved in time, so no step is in both."""

    name, title = "tones", "Cochlea, eight tones, 80 / 80 pieces of 25 ms"
    stream = {"width": 64, "height": 1, "planes": 2, "count": "sum"}
    classes = ["130", "174", "261", "349", "523", "698", "1046", "1396"]

    def split(self, seed: int, spec: BinnerSpec) -> tuple[list[Shown], list[Shown]]:
        """Pieces of the first half in random order; all of the second."""
        counts, names = _clean_tones()
        if names != self.classes or spec.dt_us != 1000 or spec.count not in ("binary", "sum"):
            raise ValueError(f"tones {names}, steps of {spec.dt_us} us, count {spec.count!r}: not what this task is")
        n = counts.shape[1] // PIECE_MS
        pieces = [[self._piece(counts, tone, k, spec.count) for k in range(n)] for tone in range(len(counts))]
        train = [p for of_tone in pieces for p in of_tone[: n // 2]]
        test = [p for of_tone in pieces for p in of_tone[n // 2 :]]
        return [train[i] for i in np.random.default_rng(seed).permutation(len(train)).tolist()], test

    @staticmethod
    def _piece(counts: NDArray, tone: int, k: int, mode: str) -> Shown:
        of_piece = counts[tone, k * PIECE_MS : (k + 1) * PIECE_MS]
        pairs = of_piece.reshape(PIECE_MS, -1, 2).swapaxes(1, 2).reshape(PIECE_MS, -1)  # channel = on * 64 + x
        step, channel = np.nonzero(pairs)
        value = pairs[step, channel] if mode == "sum" else np.ones(len(step))
        indptr = np.searchsorted(step, np.arange(PIECE_MS + 1)).astype(np.int64)
        return whole(tone, Steps(0, indptr, channel.astype(np.int32), value.astype(np.float32)))


class CuesTask(Task):
    """On which side were more cues; the label is on during recall only, 0.5 to 1.5 s after the last cue."""

    name = "cues"
    stream = {"width": 40, "height": 1, "planes": 1}
    classes = list(SIDES)
    splits, last = 5, 200

    def __init__(self, trials: int = 2000, spec: CueTask | None = None) -> None:
        self.trials, self.spec = trials, spec or CueTask()

    @property
    def title(self) -> str:  # type: ignore[override]
        """Says how long training is."""
        return f"Cue accumulation, {self.trials} trials, then 200 fresh ones"

    def split(self, seed: int, spec: BinnerSpec) -> tuple[list[Shown], list[Shown]]:
        """Fresh trials, each seed its own."""

        def shown(split: str, n: int) -> Iterator[Shown]:
            for trial in itertools.islice(cue_trials(seed, self.spec, split=split), n):
                yield Shown(trial.label, trial.steps, trial.cues(), trial.cues(teach=False))

        return list(shown("train", self.trials)), list(shown("test", TEST_CUES))


TASKS: dict[str, Task] = {task.name: task for task in (Nmnist(), Tones(), CuesTask())}
