"""One list of checks that every learner passes, whatever it computes.

::

    for name, check in yield_checks(make):   # one test each
        check()
    check_learner(make)                      # or all of them

`make` builds the same fresh learner each time. The checks hold a learner to `contract.Learner` through that protocol
alone; that it computes the right thing is for tests against oracles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import numpy as np
from numba.core.runtime import _nrt_python, rtsys
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, NO_VALUES, READ, UNLABELLED, Cues, Learner, Readouts, Steps, silent_cues

Make = Callable[[], Learner]

SILENCE_STEPS = 20_000  # 50 times the longest time constant in use


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


def _require(held: bool | np.bool_, message: str) -> None:
    if not held:
        raise AssertionError(message)


def _same(a: Readouts, b: Readouts, what: str) -> None:
    for name in Readouts._fields:
        x: NDArray = getattr(a, name)
        y: NDArray = getattr(b, name)
        _require(np.array_equal(x, y, equal_nan=x.dtype.kind == "f"), f"{what}: {name} differ: {x} and {y}")


def _same_state(a: Learner, b: Learner, what: str) -> None:
    ours, theirs = a.state(), b.state()
    _require(ours.keys() == theirs.keys(), f"{what}: one state holds {sorted(ours)}, the other {sorted(theirs)}")
    for name, array in ours.items():
        _require(array.tobytes() == theirs[name].tobytes(), f"{what}: the states differ in {name}")


def _stream(learner: Learner, rng: np.random.Generator, n: int = 300) -> tuple[Steps, Cues]:
    active = max(1, min(20, learner.n_in // 3))
    return random_steps(rng, n, learner.n_in, active, (0.5, 2.0)), random_cues(rng, n, learner.n_out)


def _finite(learner: Learner, said: Readouts, what: str) -> None:
    _require(bool(np.isfinite(said.scores).all()), f"{what}: scores are not finite")
    for name, array in learner.state().items():
        _require(array.dtype.kind != "f" or bool(np.isfinite(array).all()), f"{what}: {name} is not finite")


def _probe(learner: Learner, steps: Steps) -> Readouts:
    """What a learner says to `steps` from rest, without learning."""
    learner.conclude(learn=False)  # takes the count of spikes that were not yet read out
    learner.reset()
    cues = silent_cues(steps.n)
    cues.flags[::10] = READ
    return learner.run(steps, cues, learn=False)


def check_chunks_equal_steps(make: Make, seed: int) -> None:
    """A run equals the same steps one by one, and in any chunks, to the bit."""
    rng = np.random.default_rng(seed)
    whole, single, chunked = make(), make(), make()
    steps, cues = _stream(whole, rng)
    said = whole.run(steps, cues)
    parts = [single.step(*part(steps, cues, t, t + 1)) for t in range(steps.n)]
    one_by_one = Readouts(*(np.concatenate(columns) for columns in zip(*parts)))
    at = np.concatenate([p.at + t for t, p in enumerate(parts)])
    _same(said, one_by_one._replace(at=at), "one by one")
    _same_state(whole, single, "one by one")
    cuts = sorted(int(c) for c in rng.integers(0, steps.n + 1, 9))  # some chunks are empty
    _same(said, run_in_parts(chunked, steps, cues, cuts), f"in chunks ending at {cuts}")
    _same_state(whole, chunked, f"in chunks ending at {cuts}")


def check_same_seed_same_run(make: Make, seed: int) -> None:
    """Two learners made alike stay alike."""
    a, b = make(), make()
    steps, cues = _stream(a, np.random.default_rng(seed))
    _same_state(a, b, "as made")
    _same(a.run(steps, cues), b.run(steps, cues), "made alike")
    _same_state(a, b, "made alike")


def check_state_continues(make: Make, seed: int) -> None:
    """State taken at any step continues to the bit: in a fresh learner, a used one, and after growth."""
    rng = np.random.default_rng(seed)
    a = make()
    steps, cues = _stream(a, rng)
    a.run(*part(steps, cues, 0, 137))
    saved = a.state()
    kept = {name: array.copy() for name, array in saved.items()}
    fresh, used = make(), make()
    used.run(steps, cues)
    fresh.load_state(saved)
    used.load_state(saved)
    rest = part(steps, cues, 137, steps.n)
    said = a.run(*rest)
    for name, array in kept.items():
        _require(array.tobytes() == saved[name].tobytes(), f"the state taken moved on with the learner: {name}")
    for other, what in ((fresh, "a fresh learner"), (used, "a used learner")):
        _same(said, other.run(*rest), f"loaded into {what}")
        _same_state(a, other, f"loaded into {what}")
    a.grow(a.n_out + 2)
    a.run(*part(steps, cues, 0, 50))
    late = make()
    late.load_state(a.state())
    _require(late.n_out == a.n_out, f"a grown state loaded into a fresh learner makes {late.n_out} outputs")
    _same(a.run(*rest), late.run(*rest), "grown, then loaded")
    _same_state(a, late, "grown, then loaded")


def check_foreign_state_is_refused(make: Make, seed: int) -> None:
    """A state that does not fit raises ValueError and names the array."""
    a = make()
    names = [name for name, array in a.state().items() if array.ndim and name != "n_out"]
    for name in names:
        state = a.state()
        state[name] = np.zeros((*state[name].shape, 2), state[name].dtype)
        try:
            a.load_state(state)
        except ValueError as error:
            _require(name in str(error), f"the refusal of {name} says {error}")
        else:
            raise AssertionError(f"a {name} of another shape was loaded")


def check_only_teaching_teaches(make: Make, seed: int) -> None:
    """Without a label, with learning off, or at rate 0, the learner knows no more than before."""
    rng = np.random.default_rng(seed)
    a = make()
    steps, cues = _stream(a, rng)
    a.run(steps, cues)
    before = _probe(a, steps)
    saved = a.state()
    unlabelled = cues._replace(labels=np.full(steps.n, UNLABELLED, np.int32))
    a.run(steps, unlabelled)
    a.conclude()
    _same(before, _probe(a, steps), "after a run without labels")
    a.run(steps, cues, learn=False)
    a.conclude(0, learn=False)
    _same(before, _probe(a, steps), "after a run with learning off")
    a.run(steps, None)
    _same(before, _probe(a, steps), "after a run without cues")
    if getattr(a, "rate", 0.0) > 0:
        b = make()
        b.load_state(saved)
        b.rate = 0.0  # type: ignore[attr-defined]
        b.run(steps, cues)
        _same(before, _probe(b, steps), "after a run at rate 0")


def check_teaching_teaches(make: Make, seed: int) -> None:
    """With labels the learner changes (or the checks that nothing moves would be empty)."""
    a = make()
    steps, cues = _stream(a, np.random.default_rng(seed))
    before = _probe(a, steps)
    a.run(steps, cues)
    _require(not np.array_equal(before.scores, _probe(a, steps).scores), "a labelled run changed no score")
    _require(int(before.spikes.sum()) > 0, "the stream makes no neuron fire")


def check_reads_before_it_learns(make: Make, seed: int) -> None:
    """The scores of a closing step do not know its label."""
    a, b = make(), make()
    steps, cues = _stream(a, np.random.default_rng(seed))
    cues.flags[:] = 0
    cues.flags[-1] = CLOSE
    cues.labels[:] = UNLABELLED
    other = cues.labels.copy()
    cues.labels[-1], other[-1] = 0, 1
    x, y = a.run(steps, cues), b.run(steps, cues._replace(labels=other))
    _require(np.array_equal(x.scores, y.scores), f"the scores depend on the label: {x.scores} and {y.scores}")


def check_silence_decays(make: Make, seed: int) -> None:
    """Long silence: no spikes, and all that remembers input has faded."""
    a = make()
    steps, cues = _stream(a, np.random.default_rng(seed))
    a.run(steps, cues)
    a.conclude()
    n = SILENCE_STEPS
    quiet = silent_cues(n)
    quiet.flags[[n // 2, n - 1]] = READ
    said = a.run(silent_steps(n), quiet)
    _require(int(said.spikes[-1].sum()) == 0, f"{said.spikes[-1]} spikes after {n // 2} silent steps")
    fresh = make()
    fresh.load_state(a.state())
    fresh.reset()
    at_rest = fresh.conclude(learn=False)
    gap = float(np.abs(said.scores[-1] - at_rest.scores[0]).max())
    scale = 1e-6 * (1 + float(np.abs(at_rest.scores).max()))
    _require(gap <= scale, f"after {n} silent steps the scores are {gap} from those at rest")
    for name, array in a.state().items():
        if name in ("state.membrane", "state.spike", "trace", "influence.xhat"):
            largest = float(np.abs(array).max())
            _require(largest < 1e-9, f"{name} is still {largest} after {n} silent steps")


def check_worst_case_is_finite(make: Make, seed: int) -> None:
    """Every channel active at every step, at counts of 1 and of a million, and long: nothing overflows."""
    for count in (1.0, 1e6):
        a = make()
        n = 2000
        indptr = np.arange(n + 1, dtype=np.int64) * a.n_in
        indices = np.tile(np.arange(a.n_in, dtype=np.int32), n)
        steps = Steps(0, indptr, indices, np.full(len(indices), count, np.float32))
        cues = random_cues(np.random.default_rng(seed), n, a.n_out)
        _finite(a, a.run(steps, cues), f"all channels at {count:g}")
        calm, calm_cues = _stream(a, np.random.default_rng(seed))
        _finite(a, a.run(calm, calm_cues), f"after all channels at {count:g}")


def check_inputs_untouched(make: Make, seed: int) -> None:
    """No call writes to what it is given."""
    a = make()
    steps, cues = _stream(a, np.random.default_rng(seed))
    given: list[NDArray] = [steps.indptr, steps.indices, steps.counts, cues.flags, cues.labels, cues.values]
    copies = [x.copy() for x in given]
    a.run(steps, cues)
    a.recall(steps, cues)
    a.step(*part(steps, cues, 0, 1))
    for x, copy in zip(given, copies):
        _require(np.array_equal(x, copy), "a call wrote to its input")


def check_bad_input_is_refused(make: Make, seed: int) -> None:
    """Labels and channels that do not exist, and cues of another length, raise ValueError and change nothing."""
    a, untouched = make(), make()
    steps, cues = _stream(a, np.random.default_rng(seed))
    n = steps.n
    wrong = [
        (steps, cues._replace(labels=np.full(n, a.n_out, np.int32))),
        (steps, cues._replace(labels=np.full(n, UNLABELLED - 1, np.int32))),
        (steps, silent_cues(n - 1)),
        (steps._replace(indices=steps.indices + np.int32(a.n_in)), cues),
        (steps._replace(indices=-1 - steps.indices), cues),
    ]
    for bad in wrong:
        try:
            a.run(*bad)
        except ValueError:
            continue
        raise AssertionError(f"took labels up to {bad[1].labels.max()}, channels up to {bad[0].indices.max()}")
    _same_state(a, untouched, "after input that was refused")


def _allocations(learner: Learner, steps: Steps, cues: Cues) -> int:
    learner.run(steps, cues)  # starts Numba's allocator, whose counts are off until asked for
    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats().alloc
        learner.run(steps, cues)
        return int(rtsys.get_allocation_stats().alloc - before)
    finally:
        _nrt_python.memsys_disable_stats()


def check_no_allocation_per_step(make: Make, seed: int) -> None:
    """The compiled code allocates nothing for a step: as many arrays for 200 steps as for 2000."""
    a = make()
    rng = np.random.default_rng(seed)
    counts = []
    for n in (200, 2000):
        steps = random_steps(rng, n, a.n_in, max(1, a.n_in // 3))
        cues = silent_cues(n)
        cues.labels[:] = 0
        cues.flags[99] = READ
        cues.flags[-1] = CLOSE
        counts.append(_allocations(a, steps, cues))
    _require(counts[0] == counts[1], f"{counts[0]} allocations in 200 steps, {counts[1]} in 2000")


def check_reset_forgets_dynamics(make: Make, seed: int) -> None:
    """After reset it does what a fresh learner with the same weights does, learning included."""
    fresh, frozen, unlabelled = make(), make(), make()
    steps, cues = _stream(fresh, np.random.default_rng(seed))
    frozen.run(steps, cues, learn=False)
    unlabelled.run(*part(steps, cues._replace(labels=np.full(steps.n, UNLABELLED, np.int32)), 0, 211))
    want = fresh.run(steps, cues)
    for other, what in ((frozen, "a run with learning off"), (unlabelled, "a run without labels")):
        other.conclude(learn=False)  # takes the count of spikes that were not yet read out
        other.reset()
        _same(want, other.run(steps, cues), f"reset after {what}")
    again = _probe(fresh, steps)
    fresh.run(*part(steps, cues, 0, 50), learn=False)
    _same(again, _probe(fresh, steps), "reset twice")


def check_conclude_equals_close(make: Make, seed: int) -> None:
    """Concluding after a step equals CLOSE on it."""
    rng = np.random.default_rng(seed)
    for learn in (True, False):
        for label in (1, UNLABELLED):
            flagged, concluded = make(), make()
            steps, cues = _stream(flagged, rng)
            cues.flags[:] = 0
            cues.labels[:] = label
            concluded.run(steps, cues, learn)
            flags = cues.flags.copy()
            flags[-1] = CLOSE
            want = flagged.run(steps, cues._replace(flags=flags), learn)
            said = concluded.conclude(label, NO_VALUES, learn)
            _same(want._replace(at=said.at), said, f"concluded with label {label}, learn={learn}")
            _same_state(flagged, concluded, f"concluded with label {label}, learn={learn}")


def _move(learner: Learner, rng: np.random.Generator) -> Readouts:
    return learner.run(*_stream(learner, rng), learn=False)


def check_recall_learns_as_live(make: Make, seed: int) -> None:
    """Recalling kept steps teaches what living them from rest teaches, and moves nothing live."""
    rng = np.random.default_rng(seed)
    live, recalled = make(), make()
    kept = [_stream(live, rng, 120) for _ in range(3)]
    for steps, cues in kept:
        cues.flags[-1] = CLOSE
        live.run(steps, cues)
        live.conclude(learn=False)
        live.reset()
        recalled.recall(steps, cues)
    _same(_move(live, np.random.default_rng(seed)), _move(recalled, np.random.default_rng(seed)), "recalled")

    moved, still = make(), make()
    steps, cues = _stream(moved, rng, 150)
    for a in (moved, still):
        a.run(steps, cues)
    # nothing to learn from: a recall that must leave everything where it was
    moved.recall(kept[0][0], kept[0][1]._replace(labels=np.full(120, UNLABELLED, np.int32)))
    steps, cues = _stream(moved, rng, 150)
    x, y = moved.run(steps, cues), still.run(steps, cues)
    _require(np.array_equal(x.spikes, y.spikes), "a recall moved the live spikes")
    _require(np.allclose(x.scores, y.scores, rtol=1e-4, atol=1e-5), "a recall moved the live scores")


def check_growth_moves_nothing(make: Make, seed: int) -> None:
    """More outputs leave the scores of the old ones as they are, now and later, with and without learning."""
    rng = np.random.default_rng(seed)
    for learn in (False, True):
        grown, other = make(), make()
        k = grown.n_out
        steps, cues = _stream(grown, rng)
        for a in (grown, other):
            a.run(*part(steps, cues, 0, 150))
        grown.grow(k + 3)
        _require(grown.n_out == k + 3, f"asked for {k + 3} outputs, there are {grown.n_out}")
        late = part(steps, cues, 150, steps.n)
        if learn:
            late = late[0], late[1]._replace(labels=np.full(150, UNLABELLED, np.int32))
        x, y = other.run(*late, learn), grown.run(*late, learn)
        _require(y.scores.shape == (len(x.at), k + 3), f"the scores have shape {y.scores.shape}")
        _require(np.array_equal(x.scores, y.scores[:, :k]), f"learn={learn}: growth moved the scores of old classes")
        hidden = slice(0, -1) if x.spikes.shape[1] > 1 else slice(None)
        _require(np.array_equal(x.spikes[:, hidden], y.spikes[:, hidden]), f"learn={learn}: growth moved the spikes")
        cues.labels[:] = k + 1
        cues.flags[-1] = CLOSE
        grown.run(steps, cues)
        _finite(grown, grown.conclude(), "after learning a new class")


CHECKS: tuple[Callable[[Make, int], None], ...] = (
    check_same_seed_same_run,
    check_chunks_equal_steps,
    check_state_continues,
    check_foreign_state_is_refused,
    check_only_teaching_teaches,
    check_teaching_teaches,
    check_reads_before_it_learns,
    check_silence_decays,
    check_worst_case_is_finite,
    check_inputs_untouched,
    check_bad_input_is_refused,
    check_no_allocation_per_step,
    check_reset_forgets_dynamics,
    check_conclude_equals_close,
    check_recall_learns_as_live,
    check_growth_moves_nothing,
)


def yield_checks(make: Make, seed: int = 0) -> Iterator[tuple[str, Callable[[], None]]]:
    """Name and body of each check; a body raises AssertionError."""
    for check in CHECKS:
        yield check.__name__.removeprefix("check_"), partial(check, make, seed)


def check_learner(make: Make, seed: int = 0) -> None:
    """Run all checks on the learner that `make` builds; raises AssertionError naming what does not hold."""
    for name, check in yield_checks(make, seed):
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
