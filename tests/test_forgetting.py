"""The benchmark of forgetting: what is shown when, and the figures of learners whose forgetting is known."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import forgetting as bench
import forgetting_rows
import naive
from forgetting_tasks import SIDE_PX, Stage, Stream, moved, streams, turned
from rule_tasks import whole

from spiked.io.binner import BinnerSpec
from spiked.io.events import Geometry
from spiked.learners.contract import Cues, Readouts, Steps
from spiked.learners.trials import random_steps, silent_steps

CHANNELS = 2 * SIDE_PX * SIDE_PX


class Parrot:
    """Says what it was told last of all, or, with a memory, whatever the sample's channel was told with."""

    def __init__(self, remembers: bool) -> None:
        self.remembers, self.last, self.known = remembers, 0, {}

    def run(self, steps: Steps, cues: Cues, learn: bool) -> Readouts:
        channel = int(steps.indices[0])
        scores = np.zeros((1, 4), np.float32)
        scores[0, self.known.get(channel, 0) if self.remembers else self.last] = 1
        if learn:
            self.last = self.known[channel] = int(cues.labels[-1])
        return Readouts(np.array([0]), cues.flags, cues.labels, scores, np.zeros((1, 1), np.int64))

    def reset(self) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {"known": np.zeros(4, np.int16)}


def sample(label: int) -> Any:
    return whole(label, Steps(0, np.array([0, 1]), np.array([label], np.int32), np.ones(1, np.float32)))


def test_figures_of_learners_whose_forgetting_is_known() -> None:
    stages = [Stage(str(k), [sample(k)] * 3) for k in range(4)]
    stream = Stream("classes", stages, {str(k): [sample(k)] for k in range(4)})
    forgets = bench.measure(SimpleNamespace(name="forgets", make=lambda seed: Parrot(False)), stream, 7)
    keeps = bench.measure(SimpleNamespace(name="keeps", make=lambda seed: Parrot(True)), stream, 7)
    assert (forgets["final"], forgets["forgetting"], forgets["new"]) == (0.25, 1.0, 1.0)
    assert forgets["first_100"] == pytest.approx(2 / 3) and keeps["first_100"] == pytest.approx(2 / 3)
    assert (keeps["final"], keeps["forgetting"], keeps["new"]) == (1.0, 0.0, 1.0)
    assert forgets["after_each_stage"] == np.eye(4).tolist()
    assert keeps["state_bytes"] == 8 and keeps["seed"] == 7
    text = bench.table({"classes": {"keeps": [keeps, forgets]}})
    assert "| keeps |  | 62.5 ± 53.0 | 50.0 ± 70.7 | 100.0 ± 0.0 |" in text


def test_a_moved_sample_is_shifted_and_swapped() -> None:
    steps = random_steps(np.random.default_rng(0), 20, CHANNELS, 300, (1.0, 3.0))
    image = naive.densify(steps.indptr, steps.indices, steps.counts, CHANNELS).reshape(20, 2, SIDE_PX, SIDE_PX)
    want = np.zeros_like(image)
    want[..., 4:] = image[:, ::-1, :, :-4]
    got = moved(whole(3, steps)).steps
    assert np.array_equal(naive.densify(got.indptr, got.indices, got.counts, CHANNELS).reshape(want.shape), want)
    for t in range(20):
        assert (np.diff(got.indices[got.indptr[t] : got.indptr[t + 1]]) > 0).all()
    assert moved(whole(3, silent_steps(5))).steps.n == 5


def test_a_turned_sample_is_a_quarter_further() -> None:
    steps = random_steps(np.random.default_rng(0), 20, CHANNELS, 300, (1.0, 3.0))
    image = naive.densify(steps.indptr, steps.indices, steps.counts, CHANNELS).reshape(20, 2, SIDE_PX, SIDE_PX)
    got = turned(whole(3, steps)).steps
    want = np.rot90(image, -1, axes=(2, 3))
    assert np.array_equal(naive.densify(got.indptr, got.indices, got.counts, CHANNELS).reshape(want.shape), want)


def test_streams_show_each_sample_once_and_test_on_others(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKED_DATA", str(data_dir))
    made = streams(0, BinnerSpec(Geometry(SIDE_PX, SIDE_PX, 2)))
    assert list(made) == list(bench.STREAMS)
    for stream in made.values():
        assert sum(len(s.train) for s in stream.stages) == (1800 if stream.name == "turned" else 900)
        assert len(stream.stages) == len(stream.tests)
    assert [{s.label for s in stage.train} for stage in made["classes"].stages] == [{k, k + 1} for k in range(0, 10, 2)]
    assert sum(len(test) for test in made["classes"].tests.values()) == 200
    shown = {id(s.steps) for s in made["shuffled"].stages[0].train}
    assert shown.isdisjoint(id(s.steps) for s in made["shuffled"].tests["all"])


def test_every_row_makes_a_learner_of_its_seed() -> None:
    assert len({row.name for row in forgetting_rows.ROWS}) == len(forgetting_rows.ROWS)
    for row in forgetting_rows.ROWS[:2]:
        one, other = row.make(1), row.make(2)
        assert one.n_out == 10 and not np.array_equal(one.weights(0), other.weights(0))
