"""What the checks of a learner share: random streams, cutting them into parts, and saying what differs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, READ, UNLABELLED, Cues, Learner, Readouts, Steps, silent_cues

Make = Callable[[], Learner]
"""Builds the same fresh learner each time."""


def random_steps(
    rng: np.random.Generator, n: int, n_in: int, active: int, counts: tuple[float, float] = (1.0, 1.0)
) -> Steps:
    """`n` steps of up to `active` channels each, with counts drawn between the two bounds (all 1 by default)."""
    rows = [np.sort(rng.choice(n_in, rng.integers(0, active + 1), replace=False)) for _ in range(n)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    indices = np.concatenate([*rows, []]).astype(np.int32)
    return Steps(0, indptr, indices, rng.uniform(*counts, len(indices)).astype(np.float32))


def random_cues(rng: np.random.Generator, n: int, n_out: int, every: int = 40) -> Cues:
    """Labels that change about each `every` steps and are sometimes off, windows that close where they change."""
    cues = silent_cues(n)
    at = 0
    while at < n:
        end = min(n, at + int(rng.integers(1, 2 * every)))
        cues.labels[at:end] = rng.integers(n_out) if rng.random() < 0.8 else UNLABELLED
        cues.flags[end - 1] = CLOSE if rng.random() < 0.8 else READ | CLOSE
        cues.flags[rng.integers(at, end)] |= READ
        at = end
    return cues


def silent_steps(n: int) -> Steps:
    """`n` steps without an event."""
    return Steps(0, np.zeros(n + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))


def part(steps: Steps, cues: Cues, start: int, stop: int) -> tuple[Steps, Cues]:
    """A stretch of a cued run."""
    return steps.slice(start, stop), Cues(cues.flags[start:stop], cues.labels[start:stop], cues.values)


def run_in_parts(learner: Learner, steps: Steps, cues: Cues, cuts: list[int], learn: bool = True) -> Readouts:
    """Run in chunks that end at `cuts`; the read-outs as of one run."""
    edges = [0, *cuts, steps.n]
    parts = []
    for start, stop in pairwise(edges):
        said = learner.run(*part(steps, cues, start, stop), learn)
        parts.append(said._replace(at=said.at + start))
    return Readouts(*(np.concatenate(columns) for columns in zip(*parts)))


def require(held: bool | np.bool_, message: str) -> None:
    if not held:
        raise AssertionError(message)


def same(a: Readouts, b: Readouts, what: str) -> None:
    for name in Readouts._fields:
        x: NDArray = getattr(a, name)
        y: NDArray = getattr(b, name)
        require(np.array_equal(x, y, equal_nan=x.dtype.kind == "f"), f"{what}: {name} differ: {x} and {y}")


def same_state(a: Learner, b: Learner, what: str) -> None:
    ours, theirs = a.state(), b.state()
    require(ours.keys() == theirs.keys(), f"{what}: one state holds {sorted(ours)}, the other {sorted(theirs)}")
    for name, array in ours.items():
        require(array.tobytes() == theirs[name].tobytes(), f"{what}: the states differ in {name}")


def same_arrays(ours: dict[str, NDArray], theirs: dict[str, NDArray], prefix: str, what: str) -> None:
    """The arrays of `ours` whose names begin with `prefix` are those of `theirs`."""
    for name, array in ours.items():
        if name.startswith(prefix):
            require(array.tobytes() == theirs[name].tobytes(), f"{what}: the states differ in {name}")


def is_unsupervised(learner: Learner) -> bool:
    """Whether windows without a label teach this learner too; then it has a `rate`, and 0 stops that."""
    return bool(getattr(learner, "unsupervised", False))


def stop_features(learner: Learner) -> None:
    """Leave learning to the head."""
    learner.rate = 0.0  # type: ignore[attr-defined]


def rehearses(learner: Learner) -> bool:
    """Whether what was taught is shown again later, between live steps; then `settle` does at once what is due."""
    return getattr(learner, "rehearsal", None) is not None


def settle(learner: Learner) -> None:
    """Let what was taught have all its effects."""
    if rehearses(learner):
        learner.settle()  # type: ignore[attr-defined]


def stream_for(learner: Learner, rng: np.random.Generator, n: int = 300) -> tuple[Steps, Cues]:
    active = max(1, min(20, learner.n_in // 3))
    return random_steps(rng, n, learner.n_in, active, (0.5, 2.0)), random_cues(rng, n, learner.n_out)


def finite(learner: Learner, said: Readouts, what: str) -> None:
    require(bool(np.isfinite(said.scores).all()), f"{what}: scores are not finite")
    for name, array in learner.state().items():
        require(array.dtype.kind != "f" or bool(np.isfinite(array).all()), f"{what}: {name} is not finite")


def probe(learner: Learner, steps: Steps) -> Readouts:
    """What a learner says to `steps` from rest, without learning."""
    learner.conclude(learn=False)  # takes the count of spikes that were not yet read out
    learner.reset()
    cues = silent_cues(steps.n)
    cues.flags[::10] = READ
    return learner.run(steps, cues, learn=False)
