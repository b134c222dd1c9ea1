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

import numpy as np
from numba.core.runtime import _nrt_python, rtsys
from numpy.typing import NDArray

from spiked.learners.checks_teaching import (
    check_conclude_equals_close,
    check_growth_moves_nothing,
    check_only_teaching_teaches,
    check_reads_before_it_learns,
    check_recall_learns_as_live,
    check_teaching_teaches,
)
from spiked.learners.contract import CLOSE, READ, UNLABELLED, Cues, Learner, Readouts, Steps, silent_cues
from spiked.learners.trials import (
    Make,
    finite,
    is_unsupervised,
    part,
    probe,
    random_cues,
    random_steps,
    rehearses,
    require,
    run_in_parts,
    same,
    same_state,
    silent_steps,
    stop_features,
    stream_for,
)

SILENCE_STEPS = 20_000  # 50 times the longest time constant in use
FADING = ("state.membrane", "state.spike", "state.current", "state.adaptation", "state.wait", "state.line", "trace")
"""State that silence puts to rest, where a learner has it."""


def check_chunks_equal_steps(make: Make, seed: int) -> None:
    """A run equals the same steps one by one, and in any chunks, to the bit."""
    rng = np.random.default_rng(seed)
    whole, single, chunked = make(), make(), make()
    steps, cues = stream_for(whole, rng)
    said = whole.run(steps, cues)
    parts = [single.step(*part(steps, cues, t, t + 1)) for t in range(steps.n)]
    one_by_one = Readouts(*(np.concatenate(columns) for columns in zip(*parts)))
    at = np.concatenate([p.at + t for t, p in enumerate(parts)])
    same(said, one_by_one._replace(at=at), "one by one")
    same_state(whole, single, "one by one")
    cuts = sorted(int(c) for c in rng.integers(0, steps.n + 1, 9))  # some chunks are empty
    same(said, run_in_parts(chunked, steps, cues, cuts), f"in chunks ending at {cuts}")
    same_state(whole, chunked, f"in chunks ending at {cuts}")


def check_same_seed_same_run(make: Make, seed: int) -> None:
    """Two learners made alike stay alike."""
    a, b = make(), make()
    steps, cues = stream_for(a, np.random.default_rng(seed))
    same_state(a, b, "as made")
    same(a.run(steps, cues), b.run(steps, cues), "made alike")
    same_state(a, b, "made alike")


def check_state_continues(make: Make, seed: int) -> None:
    """State taken at any step continues to the bit: in a fresh learner, a used one, and after growth."""
    rng = np.random.default_rng(seed)
    a = make()
    steps, cues = stream_for(a, rng)
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
        require(array.tobytes() == saved[name].tobytes(), f"the state taken moved on with the learner: {name}")
    for other, what in ((fresh, "a fresh learner"), (used, "a used learner")):
        same(said, other.run(*rest), f"loaded into {what}")
        same_state(a, other, f"loaded into {what}")
    a.grow(a.n_out + 2)
    a.run(*part(steps, cues, 0, 50))
    late = make()
    late.load_state(a.state())
    require(late.n_out == a.n_out, f"a grown state loaded into a fresh learner makes {late.n_out} outputs")
    same(a.run(*rest), late.run(*rest), "grown, then loaded")
    same_state(a, late, "grown, then loaded")


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
            require(name in str(error), f"the refusal of {name} says {error}")
        else:
            raise AssertionError(f"a {name} of another shape was loaded")


def check_silence_decays(make: Make, seed: int) -> None:
    """Long silence: no spikes, and all that remembers input has faded."""
    a = make()
    steps, cues = stream_for(a, np.random.default_rng(seed))
    a.run(steps, cues)
    a.conclude()
    n = SILENCE_STEPS
    quiet = silent_cues(n)
    quiet.flags[[n // 2, n - 1]] = READ
    said = a.run(silent_steps(n), quiet)
    require(int(said.spikes[-1].sum()) == 0, f"{said.spikes[-1]} spikes after {n // 2} silent steps")
    fresh = make()
    fresh.load_state(a.state())
    fresh.reset()
    at_rest = fresh.conclude(learn=False)
    gap = float(np.abs(said.scores[-1] - at_rest.scores[0]).max())
    scale = 1e-6 * (1 + float(np.abs(at_rest.scores).max()))
    require(gap <= scale, f"after {n} silent steps the scores are {gap} from those at rest")
    for name, array in a.state().items():
        if name in (*FADING, "influence.xhat"):
            largest = float(np.abs(array).max())
            require(largest < 1e-9, f"{name} is still {largest} after {n} silent steps")


def check_worst_case_is_finite(make: Make, seed: int) -> None:
    """Every channel active at every step, at counts of 1 and of a million, and long: nothing overflows."""
    for count in (1.0, 1e6):
        a = make()
        n = 2000
        indptr = np.arange(n + 1, dtype=np.int64) * a.n_in
        indices = np.tile(np.arange(a.n_in, dtype=np.int32), n)
        steps = Steps(0, indptr, indices, np.full(len(indices), count, np.float32))
        cues = random_cues(np.random.default_rng(seed), n, a.n_out)
        finite(a, a.run(steps, cues), f"all channels at {count:g}")
        calm, calm_cues = stream_for(a, np.random.default_rng(seed))
        finite(a, a.run(calm, calm_cues), f"after all channels at {count:g}")


def check_inputs_untouched(make: Make, seed: int) -> None:
    """No call writes to what it is given."""
    a = make()
    steps, cues = stream_for(a, np.random.default_rng(seed))
    given: list[NDArray] = [steps.indptr, steps.indices, steps.counts, cues.flags, cues.labels, cues.values]
    copies = [x.copy() for x in given]
    a.run(steps, cues)
    a.recall(steps, cues)
    a.step(*part(steps, cues, 0, 1))
    for x, copy in zip(given, copies):
        require(np.array_equal(x, copy), "a call wrote to its input")


def check_bad_input_is_refused(make: Make, seed: int) -> None:
    """Labels and channels that do not exist, and cues of another length, raise ValueError and change nothing."""
    a, untouched = make(), make()
    steps, cues = stream_for(a, np.random.default_rng(seed))
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
    same_state(a, untouched, "after input that was refused")


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
    """The compiled code allocates nothing for a step: as many arrays for 200 steps as for 2000.

    A learner that rehearses is called once for some steps, and a call does allocate: it is not asked.
    """
    a = make()
    if rehearses(a):
        return
    rng = np.random.default_rng(seed)
    counts = []
    for n in (200, 2000):
        steps = random_steps(rng, n, a.n_in, max(1, a.n_in // 3))
        cues = silent_cues(n)
        cues.labels[:] = 0
        cues.flags[99] = READ
        cues.flags[-1] = CLOSE
        counts.append(_allocations(a, steps, cues))
    require(counts[0] == counts[1], f"{counts[0]} allocations in 200 steps, {counts[1]} in 2000")


def check_reset_forgets_dynamics(make: Make, seed: int) -> None:
    """After reset it does what a fresh learner with the same weights does, learning included.

    A run without labels leaves the weights alone only where features are not `unsupervised`, or stand still.
    """
    fresh, frozen, unlabelled = make(), make(), make()
    rate = getattr(unlabelled, "rate", 0.0)
    if is_unsupervised(unlabelled):
        stop_features(unlabelled)
    steps, cues = stream_for(fresh, np.random.default_rng(seed))
    frozen.run(steps, cues, learn=False)
    unlabelled.run(*part(steps, cues._replace(labels=np.full(steps.n, UNLABELLED, np.int32)), 0, 211))
    if is_unsupervised(unlabelled):
        unlabelled.rate = rate  # type: ignore[attr-defined]
    want = fresh.run(steps, cues)
    for other, what in ((frozen, "a run with learning off"), (unlabelled, "a run without labels")):
        other.conclude(learn=False)  # takes the count of spikes that were not yet read out
        other.reset()
        same(want, other.run(steps, cues), f"reset after {what}")
    again = probe(fresh, steps)
    fresh.run(*part(steps, cues, 0, 50), learn=False)
    same(again, probe(fresh, steps), "reset twice")


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
