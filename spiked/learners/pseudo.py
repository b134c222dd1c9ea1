"""Pseudo-replay (Robins 1995, named by the paper in 5.1): the network rehearses activity that it makes up itself.

No sample is kept, but the mean activity of every channel, for each class and each stretch of a window. From it windows
are made up: after a window of a known class has taught, `rehearsals` windows of other classes are learnt on a side
state. What is drawn has the right mean at each pixel and each stretch, and nothing of what channels do together: it is
the mean of all samples, not a sample.

::

    sum[k, b, i] += count of channel i in a step of stretch b while k is on;   steps[k, b] += 1
    after each window of k:  sum[k] *= 1 - 1 / windows,  steps[k] *= 1 - 1 / windows         old windows of k fade
    a made-up step: with f = sum / steps, channel i is active with chance min(f, 1), counted max(f, 1)

A stretch is `stretch_ms` of labelled steps, the last one lasts to the end; a made-up window is as long as the mean of
those that taught. The numbers are functions of the seed and of how many windows were made up (`counter`). For chances
that are small, as with binned events, the gaps between a channel's events are drawn (geometric), so that a made-up
window costs one number for each channel and stretch and one for each event.

Cost: an addition an event while learning; a made-up window costs what a real one of as many events does, and its
drawing about a fifth of that. Memory: classes * stretches * channels numbers, and nothing for each sample.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, UNLABELLED, Cues, Steps, silent_cues
from spiked.learners.counter import make_key, uniforms, word, words
from spiked.learners.gradient import GradientLearner
from spiked.learners.jit import kernel
from spiked.learners.methods import Method

_S11 = np.uint64(11)
RARE = 1e-9
"""Chances below it are 0: the gap would not fit a count of steps."""


@kernel
def _hear(sums, steps, indptr, indices, counts, labels, at, stretch):  # type: ignore[no-untyped-def]
    """Add the labelled steps of a part to the sums; `at` of the open window's labelled steps came before it."""
    last = sums.shape[1] - 1
    for t in range(len(labels)):
        k = labels[t]
        if k != UNLABELLED:
            b = min(at // stretch, last)
            at += 1
            steps[k, b] += 1
            for e in range(indptr[t], indptr[t + 1]):
                sums[k, b, indices[e]] += counts[e]


@kernel
def _draw(sums, steps, stretch, key, begin, step, channel, size):  # type: ignore[no-untyped-def]
    """Draw the events of a window, channel by channel; the number of them, of which as many as fit are kept.

    `begin` is int64[n + 1], zeros; it then holds how many events each step has, one place further.
    """
    n, last = len(begin) - 1, len(sums) - 1
    found, drawn = 0, np.uint64(0)
    for i in range(sums.shape[1]):
        for b in range(last + 1):
            start, stop = b * stretch, n if b == last else min(n, (b + 1) * stretch)
            if start >= n or steps[b] <= 0:
                continue
            f = sums[b, i] / steps[b]
            if f < RARE:
                continue
            gap = 0.0 if f >= 1.0 else 1.0 / np.log1p(-f)
            t = start - 1
            while True:
                t += 1
                if f < 1.0:
                    u = float((word(key, drawn) >> _S11) + np.uint64(1)) * 2.0**-53  # in (0, 1]
                    drawn += np.uint64(1)
                    skip = np.log(u) * gap
                    if skip >= stop - t:
                        break
                    t += int(skip)
                if t >= stop:
                    break
                if found < len(step):
                    step[found], channel[found], size[found] = t, i, max(f, 1.0)
                begin[t + 1] += 1
                found += 1
    return found


@kernel
def _by_step(begin, next_of, step, channel, size, indices, counts):  # type: ignore[no-untyped-def]
    """Sort events by step, channels ascending as they are; `begin` becomes the rows' beginnings."""
    for t in range(len(begin) - 1):
        begin[t + 1] += begin[t]
        next_of[t] = begin[t]
    for e in range(len(indices)):
        at = next_of[step[e]]
        next_of[step[e]] += 1
        indices[at] = channel[e]
        counts[at] = size[e]


def draw_window(
    sums: NDArray, steps: NDArray[np.float64], n: int, stretch: int, key: np.uint64, room: int = 0
) -> Steps:
    """Make up `n` steps of one class: `sums` is float[stretches, channels], `steps` float64[stretches]."""
    while True:
        begin, step = np.zeros(n + 1, np.int64), np.zeros(room, np.int32)
        channel, size = np.zeros(room, np.int32), np.zeros(room, np.float32)
        found = _draw(sums, steps, stretch, key, begin, step, channel, size)
        if found <= room:
            break
        room = found
    indices, counts = np.zeros(found, np.int32), np.zeros(found, np.float32)
    _by_step(begin, np.zeros(n, np.int64), step[:found], channel[:found], size[:found], indices, counts)
    return Steps(0, begin, indices, counts)


class PseudoReplay(Method):
    """Rehearsal of made-up windows.

    Parameters
    ----------
    learner : which learns; of classes, not vectors or rewards.
    rehearsals : windows that are made up after each that has taught; 0: none.
    stretches : pieces in which a window is told, 1 or more.
    stretch_ms : length of all pieces but the last.
    windows : of its own that a class's activity reaches back.
    dt_ms, seed : length of a step; of what is drawn.

    Attributes
    ----------
    sums : float32[classes, stretches, channels].
    steps : float64[classes, stretches].
    length : float64[2]; mean of the labelled steps of a window that taught, and how many windows made it.
    drawn : int64[1]; windows that were made up, ever.
    """

    name = "pseudo"

    def __init__(
        self, learner: GradientLearner, rehearsals: int = 2, stretches: int = 10, stretch_ms: float = 30.0,
        windows: float = 100.0, dt_ms: float = 1.0, seed: int = 0,
    ) -> None:  # fmt: skip
        if not (rehearsals >= 0 and stretches >= 1 and stretch_ms >= dt_ms > 0 and windows >= 1):
            raise ValueError(
                f"{rehearsals} rehearsals of {stretches} stretches of {stretch_ms} ms at steps of {dt_ms} ms, over "
                f"{windows} windows; allowed: 0 or more, 1 or more, a step or more, above 0, 1 or more"
            )
        if learner.spec.objective in ("reward", "membrane_mse"):
            raise ValueError(f"objective {learner.spec.objective!r} has no classes to make windows up for")
        self.rehearsed, self.keep, self.windows = rehearsals, 1 - 1 / windows, windows
        self.stretch = round(stretch_ms / dt_ms)
        self.sums = np.zeros((learner.n_out, stretches, learner.n_in), np.float32)
        self.steps = np.zeros((learner.n_out, stretches))
        self.length, self.drawn = np.zeros(2), np.zeros(1, np.int64)
        self._key = make_key(seed)
        self._label, self._heard, self._room = UNLABELLED, 0, 0

    def heard(self, learner: GradientLearner, steps: Steps, cues: Cues) -> None:
        """Add what the classes do."""
        before = learner.labelled_steps
        _hear(self.sums, self.steps, steps.indptr, steps.indices, steps.counts, cues.labels, before, self.stretch)

    def closing(self, learner: GradientLearner, label: int, values: NDArray[np.float32]) -> None:
        """Note how long the window was, and whose."""
        self._label, self._heard = label, learner.labelled_steps

    def taught(self, learner: GradientLearner) -> None:
        """Nothing: a made-up window changes no mean."""

    def rehearsals(self, learner: GradientLearner) -> Iterable[tuple[Steps, Cues]]:
        """Let old windows of the class fade; then make up windows of others. Without a label, nothing."""
        if self._label < 0:
            return ()
        self.length[1] = min(self.length[1] + 1, self.windows)
        self.length[0] += (self._heard - self.length[0]) / self.length[1]
        self.sums[self._label] *= np.float32(self.keep)
        self.steps[self._label] *= self.keep
        known = np.flatnonzero(self.steps.any(axis=1))
        return self._make_up(known[known != self._label])

    def _make_up(self, classes: NDArray[np.int64]) -> Iterable[tuple[Steps, Cues]]:
        n = max(1, round(float(self.length[0])))
        for _ in range(self.rehearsed if len(classes) else 0):
            number = self.drawn.astype(np.uint64)
            self.drawn += 1
            k = int(classes[int(uniforms(~self._key, number)[0] * len(classes))])
            key = words(self._key, number)[0]
            made = draw_window(self.sums[k], self.steps[k], n, self.stretch, key, self._room)
            self._room = max(self._room, 2 * len(made.indices))
            cues = silent_cues(n)
            cues.labels[:] = k
            cues.flags[-1] = CLOSE
            yield made, cues

    def grow(self, learner: GradientLearner) -> None:
        """Make room for classes of which nothing was heard."""
        more = learner.n_out - len(self.sums)
        self.sums = np.concatenate([self.sums, np.zeros((more, *self.sums.shape[1:]), np.float32)])
        self.steps = np.concatenate([self.steps, np.zeros((more, self.steps.shape[1]))])

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return {"sums": self.sums, "steps": self.steps, "length": self.length, "drawn": self.drawn}
