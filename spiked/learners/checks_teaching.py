"""The checks that concern teaching: what teaches, when, and that nothing else does."""

from __future__ import annotations

import numpy as np

from spiked.learners.contract import CLOSE, NO_VALUES, UNLABELLED, Learner, Readouts
from spiked.learners.trials import (
    Make,
    finite,
    is_unsupervised,
    part,
    probe,
    rehearses,
    require,
    same,
    same_arrays,
    same_state,
    settle,
    stop_features,
    stream_for,
)


def check_only_teaching_teaches(make: Make, seed: int) -> None:
    """Without a label, with learning off, or at rate 0, the learner knows no more than before.

    Features that are `unsupervised` learn from any window, so there a missing label protects the head alone, and the
    rest holds at rate 0; rate 0 stops the features, not the head, which has no rate.
    """
    rng = np.random.default_rng(seed)
    a = make()
    steps, cues = stream_for(a, rng)
    a.run(steps, cues)
    settle(a)
    before = probe(a, steps)
    saved = a.state()
    unlabelled = cues._replace(labels=np.full(steps.n, UNLABELLED, np.int32))
    a.run(steps, cues, learn=False)
    a.conclude(0, learn=False)
    same(before, probe(a, steps), "after a run with learning off")
    if is_unsupervised(a):
        b = make()
        b.load_state(saved)
        b.run(steps, unlabelled)
        b.conclude()
        same_arrays(saved, b.state(), "head.", "after a run without labels")
        features = (name for name in saved if not name.startswith("head."))
        require(any(saved[n].tobytes() != b.state()[n].tobytes() for n in features), "nothing learnt without labels")
        stop_features(a)
    a.run(steps, unlabelled)
    a.conclude()
    same(before, probe(a, steps), "after a run without labels")
    a.run(steps, None)
    same(before, probe(a, steps), "after a run without cues")
    if getattr(a, "rate", 0.0) > 0:
        b = make()
        b.load_state(saved)
        b.rate = 0.0  # type: ignore[attr-defined]
        b.run(steps, cues)
        same(before, probe(b, steps), "after a run at rate 0")


def check_teaching_teaches(make: Make, seed: int) -> None:
    """With labels the learner changes (or the checks that nothing moves would be empty)."""
    a = make()
    steps, cues = stream_for(a, np.random.default_rng(seed))
    before = probe(a, steps)
    a.run(steps, cues)
    require(not np.array_equal(before.scores, probe(a, steps).scores), "a labelled run changed no score")
    require(int(before.spikes.sum()) > 0, "the stream makes no neuron fire")


def check_reads_before_it_learns(make: Make, seed: int) -> None:
    """The scores of a closing step do not know its label."""
    a, b = make(), make()
    steps, cues = stream_for(a, np.random.default_rng(seed))
    cues.flags[:] = 0
    cues.flags[-1] = CLOSE
    cues.labels[:] = UNLABELLED
    other = cues.labels.copy()
    cues.labels[-1], other[-1] = 0, 1
    x, y = a.run(steps, cues), b.run(steps, cues._replace(labels=other))
    require(np.array_equal(x.scores, y.scores), f"the scores depend on the label: {x.scores} and {y.scores}")


def check_conclude_equals_close(make: Make, seed: int) -> None:
    """Concluding after a step equals CLOSE on it."""
    rng = np.random.default_rng(seed)
    for learn in (True, False):
        for label in (1, UNLABELLED):
            flagged, concluded = make(), make()
            steps, cues = stream_for(flagged, rng)
            cues.flags[:] = 0
            cues.labels[:] = label
            concluded.run(steps, cues, learn)
            flags = cues.flags.copy()
            flags[-1] = CLOSE
            want = flagged.run(steps, cues._replace(flags=flags), learn)
            said = concluded.conclude(label, NO_VALUES, learn)
            same(want._replace(at=said.at), said, f"concluded with label {label}, learn={learn}")
            same_state(flagged, concluded, f"concluded with label {label}, learn={learn}")


def _move(learner: Learner, rng: np.random.Generator) -> Readouts:
    return learner.run(*stream_for(learner, rng), learn=False)


def check_recall_learns_as_live(make: Make, seed: int) -> None:
    """Recalling kept steps teaches what living them from rest teaches, and moves nothing live.

    `unsupervised` features learnt from those steps when they were live, label or none: a recall teaches the head
    alone, as living them at rate 0 does, and leaves all else as it is.
    """
    rng = np.random.default_rng(seed)
    live, recalled = make(), make()
    if is_unsupervised(live):
        stop_features(live)
        ready = recalled.run(*stream_for(recalled, np.random.default_rng([seed, 1])))
        require(len(ready.at) > 0, "no window in the stream")
        live.load_state(recalled.state())
        live.reset()
    kept = [stream_for(live, rng, 120) for _ in range(3)]
    for steps, cues in kept:
        cues.flags[-1] = CLOSE
        live.run(steps, cues)
        live.conclude(learn=False)
        live.reset()
        before = recalled.state()
        recalled.recall(steps, cues)
        if is_unsupervised(live):
            rest = {name: array for name, array in before.items() if not name.startswith("head.")}
            same_arrays(rest, recalled.state(), "", "after a recall")
    if is_unsupervised(live):
        stop_features(recalled)
        recalled.conclude(learn=False)
        recalled.reset()
    if not rehearses(live):  # which does so between live steps, and not within a recall
        same(_move(live, np.random.default_rng(seed)), _move(recalled, np.random.default_rng(seed)), "recalled")

    moved, still = make(), make()
    steps, cues = stream_for(moved, rng, 150)
    for a in (moved, still):
        a.run(steps, cues)
        settle(a)
    # nothing to learn from: a recall that must leave everything where it was
    moved.recall(kept[0][0], kept[0][1]._replace(labels=np.full(120, UNLABELLED, np.int32)))
    steps, cues = stream_for(moved, rng, 150)
    x, y = moved.run(steps, cues), still.run(steps, cues)
    require(np.array_equal(x.spikes, y.spikes), "a recall moved the live spikes")
    require(np.allclose(x.scores, y.scores, rtol=1e-4, atol=1e-5), "a recall moved the live scores")


def check_growth_moves_nothing(make: Make, seed: int) -> None:
    """More outputs leave the scores of the old ones as they are, now and later, with and without learning."""
    rng = np.random.default_rng(seed)
    for learn in (False, True):
        grown, other = make(), make()
        k = grown.n_out
        steps, cues = stream_for(grown, rng)
        for a in (grown, other):
            a.run(*part(steps, cues, 0, 150))
            settle(a)
        grown.grow(k + 3)
        require(grown.n_out == k + 3, f"asked for {k + 3} outputs, there are {grown.n_out}")
        late = part(steps, cues, 150, steps.n)
        if learn:
            late = late[0], late[1]._replace(labels=np.full(150, UNLABELLED, np.int32))
        x, y = other.run(*late, learn), grown.run(*late, learn)
        require(y.scores.shape == (len(x.at), k + 3), f"the scores have shape {y.scores.shape}")
        require(np.array_equal(x.scores, y.scores[:, :k]), f"learn={learn}: growth moved the scores of old classes")
        hidden = slice(0, -1) if x.spikes.shape[1] > 1 else slice(None)
        require(np.array_equal(x.spikes[:, hidden], y.spikes[:, hidden]), f"learn={learn}: growth moved the spikes")
        cues.labels[:] = k + 1
        cues.flags[-1] = CLOSE
        grown.run(steps, cues)
        finite(grown, grown.conclude(), "after learning a new class")
