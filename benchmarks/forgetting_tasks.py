"""The streams of `forgetting`: real samples in an order that makes a learner forget, and what is tested when.

===========  ==========================================================  ==========================================
name         training, once, batch size one                              tested, on all classes of the test part
===========  ==========================================================  ==========================================
``shuffled`` 900 samples of ten digits                                   at the end: what a method costs where there
                                                                         is nothing to forget
``classes``  the same, digits 0 and 1 first, then 2 and 3, ... 8 and 9   after each pair, by pair
``unbroken`` the samples of ``shuffled`` without a gap, and     at the end, without a gap or reset
             without a reset between them
``domains``  the first half as it is; the second moved by 4 pixels to     after each half, as it is and moved
             the right, its polarities swapped
``turned``   all 900 as they are; then all of them again, in another      after each half, as it is and turned
             order, turned by a quarter, clockwise
===========  ==========================================================  ==========================================

Only in ``turned`` is a sample seen twice, as another picture. Nobody says which task it is: there are ten outputs from
the first sample on. Samples, order and weights are the seed's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rule_tasks import TASKS, Shown

from spiked.io.binner import BinnerSpec
from spiked.learners.contract import Steps

PAIRS = 5
SHIFT_PX = 4
SIDE_PX = 34


class Stage(NamedTuple):
    """A stretch of a stream."""

    name: str
    train: list[Shown]


class Stream(NamedTuple):
    """A stream in stages, and the tests that are taken after each."""

    name: str
    stages: list[Stage]
    tests: dict[str, list[Shown]]
    resets: bool = True


def moved(sample: Shown) -> Shown:
    """The same digit 4 pixels further right, ON where OFF was; what leaves the picture is lost."""
    plane = SIDE_PX * SIDE_PX
    on, pixel = np.divmod(sample.steps.indices, plane)
    channel = (1 - on) * plane + pixel + SHIFT_PX
    return _rewired(sample, np.where(pixel % SIDE_PX < SIDE_PX - SHIFT_PX, channel, -1))


def turned(sample: Shown) -> Shown:
    """The same digit, turned by a quarter, clockwise as one looks at it."""
    on, pixel = np.divmod(sample.steps.indices, SIDE_PX * SIDE_PX)
    y, x = np.divmod(pixel, SIDE_PX)
    return _rewired(sample, (on * SIDE_PX + x) * SIDE_PX + SIDE_PX - 1 - y)


def _rewired(sample: Shown, channel: NDArray) -> Shown:
    """The sample with each entry in another channel, int[nnz]; below 0: lost."""
    steps, keep = sample.steps, channel >= 0
    step = np.repeat(np.arange(steps.n), np.diff(steps.indptr))[keep]
    channel, counts = channel[keep].astype(np.int32), steps.counts[keep]
    order = np.lexsort((channel, step))
    indptr = np.searchsorted(step[order], np.arange(steps.n + 1)).astype(np.int64)
    return sample._replace(steps=Steps(0, indptr, channel[order], counts[order]))


def streams(seed: int, spec: BinnerSpec) -> dict[str, Stream]:
    """All streams of a seed."""
    train, test = TASKS["nmnist"].split(seed, spec)
    pairs = [{2 * k, 2 * k + 1} for k in range(PAIRS)]
    half = len(train) // 2
    again = np.random.default_rng([seed, 1]).permutation(len(train))
    return {
        "shuffled": Stream("shuffled", [Stage("all", train)], {"all": test}),
        "unbroken": Stream("unbroken", [Stage("all", train)], {"all": test}, resets=False),
        "classes": Stream(
            "classes",
            [Stage(f"{min(p)}, {max(p)}", [s for s in train if s.label in p]) for p in pairs],
            {f"{min(p)}, {max(p)}": [s for s in test if s.label in p] for p in pairs},
        ),
        "domains": Stream(
            "domains",
            [Stage("as it is", train[:half]), Stage("moved", [moved(s) for s in train[half:]])],
            {"as it is": test, "moved": [moved(s) for s in test]},
        ),
        "turned": Stream(
            "turned",
            [Stage("as it is", train), Stage("turned", [turned(train[i]) for i in again])],
            {"as it is": test, "turned": [turned(s) for s in test]},
        ),
    }
