"""How soon a head notices that the world has changed, how often it is wrong about that, and how soon it is right again.

    python benchmarks/drift.py [--seeds 0 1 ... 9] [--json FILE]

``digits``  450 samples of N-MNIST, then 450 others moved by 4 pixels with swapped polarities; 256 neurons, with and
            without copies
``tones``   eight tones of a silicon cochlea in pieces of 20 ms: 400 without noise and at 21 dB, then 200 at 0 dB, or at
            -3.7 dB
``same``    the digits and tones without the change, and 4,800 digits of the set of eight: every alarm is false

Every sample is shown once, batch size one, in an order drawn from the seed: predicted first, learnt from after.
``noticed`` counts labels from the change to the alarm; ``90 %`` those until 45 of the last 50, all after the change,
were predicted right.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from forgetting import show
from forgetting_rows import SHORT, Row, configure, fixed
from forgetting_tasks import streams
from rule_tasks import Shown, data_dir, whole

from spiked.io.binner import Binner, BinnerSpec
from spiked.io.datasets import open_dataset
from spiked.io.npz_sets import Npz
from spiked.learners.contract import Steps
from spiked.service.build import binner_spec, build_learner
from spiked.service.configfile import parse_config
from spiked.service.progress import Progress

PIECE_STEPS, CLEAN_LEVELS = 20, (0, 1)
NOISY_LEVELS = {"tones, 0 dB": 4, "tones, -3.7 dB": 5}
DIGITS: dict[str, Row] = {
    "digits": fixed("digits", 256, SHORT, "drift"),
    "digits, copies": fixed("digits, copies", 256, SHORT, "copies", "drift"),
}
TONES = {
    "network": {"layers": [{"neurons": 256}], "trace_ms": [10.0, 30.0], "classes": [str(k) for k in range(8)]},
    "stream": [{"id": "cochlea", "width": 64, "height": 1, "count": "sum"}],
    "memory": {"methods": ["drift"]},
}
Parts = tuple[list[Shown], list[Shown]]


def digits(row: Row, seed: int) -> tuple[Callable[[], Any], Parts, Parts]:
    """How to make the learner; the stream before and after the change; the same without it."""
    made = streams(seed, binner_spec(configure(seed, row)))
    before, after = (stage.train for stage in made["domains"].stages)
    same = made["shuffled"].stages[0].train
    return lambda: row.make(seed), (before, after), (same[: len(before)], same[len(before) :])


def tones(noisy: int, seed: int) -> tuple[Callable[[], Any], Parts, Parts]:
    """The same of the cochlea."""
    raw = {**TONES, "network": {**TONES["network"], "seed": seed}}  # type: ignore[dict-item]
    stream, rng = parse_config(raw).stream[0], np.random.default_rng(seed)
    counts = Npz(data_dir() / "cochlea" / "nas_tones.npz").take("counts", kinds="u", ndim=4)

    def pieces(level: int) -> list[Shown]:
        n_tones, n_steps = counts.shape[1:3]
        return [
            whole(tone, steps_of(counts[level, tone, t : t + PIECE_STEPS]))
            for tone in range(n_tones)
            for t in range(0, n_steps, PIECE_STEPS)
        ]

    def shuffled(samples: list[Shown]) -> list[Shown]:
        return [samples[k] for k in rng.permutation(len(samples)).tolist()]

    clean = shuffled([s for level in CLEAN_LEVELS for s in pieces(level)])
    return lambda: build_learner(stream), (clean, shuffled(pieces(noisy))), (clean, [])


def steps_of(counts: np.ndarray) -> Steps:
    """A piece of counts, uint16[steps, channels], as steps."""
    step, channel = np.nonzero(counts)
    indptr = np.searchsorted(step, np.arange(len(counts) + 1)).astype(np.int64)
    return Steps(0, indptr, channel.astype(np.int32), counts[step, channel].astype(np.float32))


def many_digits(row: Row, seed: int) -> list[Shown]:
    """The whole set of eight digits, in random order."""
    dataset, spec = open_dataset(data_dir() / "nmnist8" / "nmnist8.npz"), binner_spec(configure(seed, row))
    order = np.random.default_rng(seed).permutation(len(dataset.labels)).tolist()
    return [_binned(dataset.sample(k), spec) for k in order]


def _binned(sample: Any, spec: BinnerSpec) -> Shown:
    binner = Binner(spec)
    binner.start(0)
    return whole(int(sample.label), binner.push(sample.events, -(-sample.duration_us // spec.dt_us)).copy())


def follow(learner: Any, before: list[Shown], after: list[Shown]) -> dict[str, Any]:
    """Show a stream; alarms before the change, and what happened after it."""
    show(learner, before, True)
    early, noticed, right = learner.drift.alarms, None, []
    for k, sample in enumerate(after):
        right += show(learner, [sample], True)[0]
        if noticed is None and learner.drift.alarms > early:
            noticed = k + 1
    again = next((k for k in range(50, len(right) + 1) if sum(right[k - 50 : k]) >= 45), None)
    return {
        "early": early, "noticed": noticed, "alarms_after": learner.drift.alarms - early, "labels_until_90": again,
        "first_50": statistics.fmean(right[:50]) if right else None,
        "last_50": statistics.fmean(right[-50:]) if right else None, "labels": len(before) + len(after),
    }  # fmt: skip


def main() -> int:
    """Measure, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    changed: dict[str, list[dict[str, Any]]] = {}
    false_alarms = labels = 0
    with Progress("drift", len(args.seeds), "seeds") as progress:
        for seed in args.seeds:
            cases = {name: digits(row, seed) for name, row in DIGITS.items()} | {
                name: tones(level, seed) for name, level in NOISY_LEVELS.items()
            }
            for name, (make, parts, same) in cases.items():
                changed.setdefault(name, []).append({"seed": seed, **follow(make(), *parts)})
                still = follow(make(), *same)
                false_alarms += still["early"] + still["alarms_after"]
                labels += still["labels"]
            row = DIGITS["digits"]
            still = follow(row.make(seed), many_digits(row, seed), [])
            false_alarms, labels = false_alarms + still["early"], labels + still["labels"]
            progress.advance()
    print("| stream | noticed after (median, range) | missed | 90 % again after | first 50, % | last 50, % |")
    print("|---|---|---|---|---|---|")
    for name, runs in changed.items():
        found, again = (
            [r[key] for r in runs if r[key] is not None] for key in ("noticed", "labels_until_90")
        )  # fmt: skip
        print(
            f"| {name} | {_spread(found)} | {len(runs) - len(found)} of {len(runs)} | {_spread(again)}, never in "
            f"{len(runs) - len(again)} | {100 * statistics.fmean(r['first_50'] for r in runs):.0f} | "
            f"{100 * statistics.fmean(r['last_50'] for r in runs):.0f} |"
        )
    print(f"\nfalse alarms without a change: {false_alarms} in {labels} labels")
    if args.json:
        result = {"changed": changed, "false_alarms": false_alarms, "labels": labels}
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _spread(values: list[int]) -> str:
    return f"{statistics.median(values):.0f} ({min(values)}-{max(values)})" if values else "-"


if __name__ == "__main__":
    raise SystemExit(main())
