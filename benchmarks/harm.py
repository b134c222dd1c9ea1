"""Wrong labels in mid-stream: is the harm noticed, undone, and what is left of it? And: are there false alarms?

    python benchmarks/harm.py [--seeds 0 1 2 3 4] [--head discriminant] [--harm 450 650] [--orders shuffled classes]
    python benchmarks/harm.py --row "replay, 3 MB + average"      a learner of `forgetting_rows` instead of the defaults

900 of the 1,100 real samples of ten digits (`rule_tasks`), once, through `Pipeline` as a sensor would send them; the
labels of samples 450 to 650 are permuted among them. Then the other 200, without labels. Beside each seed: the same
without the harm (a rollback there is a false alarm), the harm with nobody who notices it (`exam_mb = 0`), and, as the
best that can be, those samples left out. ``mirrored`` is honest: from there on, tests included, the sensor is mounted
the other way round.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from forgetting_rows import ROWS, Row
from rule_tasks import TEST_NMNIST, data_dir

from spiked.io.npz_sets import EventSet, Npz
from spiked.io.sender import Sender
from spiked.service.configfile import parse_config
from spiked.service.pipeline import Pipeline

CLASSES = [str(k) for k in range(10)]
GAP_US = 1000
RUNS = ("clean", "harmed", "unnoticed", "left out", "mirrored")


def configure(row: Row, seed: int, memory: dict[str, Any]) -> Pipeline:
    """A pipeline with this learner, and the defaults but for `memory`."""
    config = {
        "network": {**row.network, "classes": CLASSES, "seed": seed},
        "learning": row.learning,
        "memory": {**row.memory, **memory},
        "stream": [{"id": "cam0", "width": 34, "height": 34, "planes": 2}],
        "predictions": {"every_ms": 1000.0},  # one at each end of a target is what is asked for
    }
    return Pipeline(parse_config(config))


def split(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training samples in random order and a stratified test, as `rule_tasks` has them."""
    rng = np.random.default_rng(seed)
    share = np.bincount(labels) * TEST_NMNIST / len(labels)
    take = np.floor(share).astype(int)
    take[np.argsort(take - share, kind="stable")[: TEST_NMNIST - take.sum()]] += 1
    of_class = [rng.permutation(np.flatnonzero(labels == k))[:n] for k, n in enumerate(take.tolist())]
    test = np.concatenate(of_class)
    return rng.permutation(np.setdiff1d(np.arange(len(labels)), test)), test


def measure(
    pool: EventSet,
    row: Row,
    seed: int,
    order: str,
    harm: tuple[int, int] | None,
    memory: dict[str, Any],
    how: str = "harmed",
) -> dict[str, Any]:
    """One run: accuracy at the end, and when what was noticed."""
    pipeline = configure(row, seed, memory)
    stream = pipeline.streams["cam0"]
    sender = Sender("cam0", stream.geometry, epoch=1)
    train, test = split(pool.labels, seed)
    if order == "classes":
        train = train[np.argsort(pool.labels[train], kind="stable")]
    if order == "turns":  # the lower five, the upper five, and both again
        lower, upper = train[pool.labels[train] < 5], train[pool.labels[train] >= 5]
        parts = zip(np.array_split(lower, 2), np.array_split(upper, 2))
        train = np.concatenate([part for pair in parts for part in pair])
    told = pool.labels[train].copy()
    if harm and how != "mirrored":
        told[harm[0] : harm[1]] = np.random.default_rng([seed, 0x4A]).permutation(told[harm[0] : harm[1]])
    if harm and how == "left out":
        train, told = np.delete(train, slice(*harm)), np.delete(told, slice(*harm))
    now, right, undone, held, learnt_again = 0, 0, [], 0, -1
    for k, i in enumerate([*train.tolist(), *test.tolist()]):
        learning = k < len(train)
        sample = pool.sample(i)
        events = sample.events.copy()
        events["t"] += np.uint64(now)
        if how == "mirrored" and harm and k >= harm[0]:
            events["x"] = 33 - events["x"]
        end = now + -(-sample.duration_us // GAP_US) * GAP_US
        if not learning:
            stream.learning = False
        messages = [sender.target(int(told[k]), now, end)] if learning else []
        before = sum(stream.care.rollbacks.values()) if stream.care else 0
        out = [p for m in [*messages, sender.events(events, end), sender.reset(end)] for p in pipeline.handle(m)]
        now = end
        if not learning:
            right += out[-1].class_ == pool.labels[i]
        elif stream.care:
            if sum(stream.care.rollbacks.values()) > before:
                undone.append([k + 1, stream.care.reason])
            if held and not stream.care.held:
                learnt_again = k + 1
            held = bool(stream.care.held)
    assert not pipeline.wire.refused, pipeline.wire.last_refusal
    said: dict[str, Any] = {"test": right / len(test), "undone": undone, "learns_again": learnt_again}
    if stream.care and stream.care.exam:
        exam = stream.care.exam
        said |= {"exam": round(exam.accuracy, 3), "samples": exam.samples, "us": round(mean_step_us(stream.stats), 1)}
    return said


def mean_step_us(stats: Any) -> float:
    """Mean time of a step in us, without the exam's questions."""
    return float(stats.step_seconds.sum / stats.steps * 1e6)


def main() -> None:
    """Measure and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--head", default="discriminant", help="with the defaults of everything else")
    which.add_argument("--row", choices=[row.name for row in ROWS], help="of `forgetting_rows`")
    parser.add_argument("--harm", type=int, nargs=2, default=(450, 650), metavar=("FROM", "TO"))
    parser.add_argument("--orders", nargs="+", default=["shuffled"], choices=("shuffled", "classes", "turns"))
    parser.add_argument("--runs", nargs="+", default=list(RUNS[:4]), choices=RUNS)
    parser.add_argument("--on-harm", default="freeze")
    args = parser.parse_args()
    row = next((row for row in ROWS if row.name == args.row), Row(args.head, {"head": args.head}, {}, {}))
    pool = EventSet(Npz(data_dir() / "nmnist10" / "nmnist10_small.npz"))
    for order in args.orders:
        for seed in args.seeds:
            for name in args.runs:
                memory = {"exam_mb": 0.0} if name == "unnoticed" else {"on_harm": args.on_harm}
                harm = None if name == "clean" else tuple(args.harm)
                said = measure(pool, row, seed, order, harm, memory, name)
                print(json.dumps({"order": order, "seed": seed, "run": name} | said), flush=True)


if __name__ == "__main__":
    main()
