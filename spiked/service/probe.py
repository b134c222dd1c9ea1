"""While learning stands still after harm: could anybody learn from the labels that come now?

A second learner begins at the last good state and is taught each labelled window from rest, after it was asked about
it. It never predicts for the stream, and after `ANEW` windows it begins at the good state again, so that what harmed
it does not stay; then after twice as many, and so on, for one that learns slowly. If it agrees with the labels
clearly more than unrelated draws would, they can be learnt from again. That is how learning goes on where the frozen
learner itself cannot agree: only classes come that are new to it, or the scene has changed.

It costs two inferences of a window and its learning at the window's end, and one more learner, while learning stands
still.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, Steps, silent_cues
from spiked.service.build import AnyLearner, build_learner
from spiked.service.config import Stream as StreamConfig
from spiked.service.exam import answer
from spiked.service.guard import LATELY, LONG, at_least, by_chance, known_after

ANEW = 60
"""Windows after which it begins at the good state again for the first time; each time lasts twice as long."""
CLEARLY = 1e-4
"""Chance of so many agreements of unrelated draws below which the labels can be learnt from."""


class Probe:
    """A learner on trial.

    Parameters
    ----------
    config : of the stream.
    good : state that it begins with; kept as it is, not copied.
    seen : windows that each class had taught then.
    """

    def __init__(self, config: StreamConfig, good: dict[str, NDArray], seen: dict[int, int]) -> None:
        self._config, self._good, self._first = config, good, dict(seen)
        self._lately: deque[tuple[int, int]] = deque(maxlen=LONG)  # label, and what it was taken for
        self._shown, self._known = 0, known_after(config.memory)
        self._learner = self._begin(good)
        self._seen = dict(seen)

    def _begin(self, state: dict[str, NDArray]) -> AnyLearner:
        learner = build_learner(self._config, int(state["n_out"][0]))
        learner.load_state(state)
        learner.reset()
        return learner

    def show(self, steps: Steps, label: int) -> None:
        """Ask about a window, then teach it."""
        turns = self._shown // ANEW + 1  # a power of 2 when the next time begins: after 1, 3, 7, ... times `ANEW`
        if self._shown and self._shown % ANEW == 0 and turns & (turns - 1) == 0:
            self._learner, self._seen = self._begin(self._good), dict(self._first)
        self._shown += 1
        if label >= self._learner.n_out:
            self._learner.grow(label + 1)
        seen = self._seen.get(label, 0)
        self._seen[label] = seen + 1
        if seen >= self._known:
            self._lately.append((label, answer(self._learner, steps)))
        cues = silent_cues(steps.n)
        cues.labels[:] = label
        cues.flags[-1] = CLOSE
        self._learner.recall(steps, cues)

    @property
    def learns(self) -> bool:
        """Whether the labels can be learnt from."""
        n = len(self._lately)
        if n < LATELY:
            return False
        chance = by_chance(self._lately)
        if chance > 0.6:  # one class alone is taught: then chance is to say one of those that are known
            chance = 1 / max(2, sum(k >= self._known for k in self._seen.values()))
        return at_least(sum(a == b for a, b in self._lately), n, chance) < CLEARLY

    def state(self) -> dict[str, NDArray]:
        """Copies of the arrays that the future depends on."""
        return self._learner.state() | {"lately": np.array(self._lately, np.int64).reshape(-1, 2)}

    def record(self) -> dict[str, Any]:
        """All else, as plain data."""
        return {"shown": self._shown, "seen": _pairs(self._seen), "first": _pairs(self._first)}

    @classmethod
    def restored(
        cls, config: StreamConfig, good: dict[str, NDArray], state: dict[str, NDArray], record: dict[str, Any]
    ) -> Probe:
        """Go on from a state and a record."""
        probe = cls(config, good, dict(record["first"]))
        lately = state["lately"].tolist()
        probe._learner = build_learner(config, int(state["n_out"][0]))
        probe._learner.load_state({k: v for k, v in state.items() if k != "lately"})
        probe._lately.extend((a, b) for a, b in lately)
        probe._shown, probe._seen = record["shown"], dict(record["seen"])
        return probe


def _pairs(table: dict[int, int]) -> list[list[int]]:
    return [[k, n] for k, n in table.items()]
