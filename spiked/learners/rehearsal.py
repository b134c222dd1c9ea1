"""Replay of raw windows: what was taught is kept (`reservoir`) and shown again, in pieces between the live steps.

After each window that taught, `per_window` kept ones are due. They run on a side state from rest, as a late label's
steps do, and teach as they once did. So that no live step waits long, they run a few steps at a time: after every
`PIECE` live steps up to ``PIECE * (per_window + 1)`` of theirs. When that is, is a matter of steps alone and not of the
clock: the same stream learns the same.

A step costs up to ``per_window + 1`` times as much while windows are due; memory is the budget, and a side state.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, NO_VALUES, UNLABELLED, Cues, Steps
from spiked.learners.gradient import GradientLearner
from spiked.learners.open_window import OpenWindow
from spiked.learners.reservoir import Reservoir, unpack_steps

PIECE = 20
SIDE = "rehearsal"
MAX_DUE = 4
"""Windows that may be due at most, in times of those that one window brings."""
BYTES, N_STEPS, DONE, LABEL, DUE, CLOCK = range(6)


class Rehearsal:
    """Keeps what a learner is taught, and shows it again.

    Parameters
    ----------
    learner : whose side state is used; every call names it again.
    budget_bytes : of the windows that are kept.
    per_window : how many are shown again for each window that taught.
    seed : of which stay, and which are shown.

    Attributes
    ----------
    store, open : the windows that are kept, and the one that is open.
    """

    def __init__(self, learner: GradientLearner, budget_bytes: int, per_window: int, seed: int = 0) -> None:
        self.store = Reservoir(budget_bytes, learner.n_out, seed)
        self.per_window = per_window
        self.open = OpenWindow(self.store.largest)
        self._again = np.zeros(self.store.largest, np.uint8)  # what is shown again now
        self._at = np.zeros(6, np.int64)
        learner.keep_side(SIDE)

    @property
    def until_piece(self) -> int:
        """Live steps until the next piece."""
        return PIECE - int(self._at[CLOCK])

    def tick(self, n_live: int, ends: bool = False) -> int:
        """Let live steps go by, no more than `until_piece`; how many steps may now be shown again."""
        now = int(self._at[CLOCK]) + n_live
        its_time = ends or now == PIECE
        self._at[CLOCK] = 0 if its_time else now
        return now * (self.per_window + 1) if its_time else 0

    def close(self, label: int) -> None:
        """Keep the window that ends here, if it has taught class `label`."""
        if label == UNLABELLED:
            self.open.drop()
        elif self.open.keep(self.store, label) and len(self.store):
            self._at[DUE] = min(self._at[DUE] + self.per_window, MAX_DUE * self.per_window)

    def next(self, n_steps: int) -> tuple[Steps, Cues, bool] | None:
        """Up to `n_steps` of one window, its cues, and whether it begins with them; None where none is due."""
        at = self._at
        if at[DONE] == at[N_STEPS]:
            if not at[DUE]:
                return None
            at[DUE] -= 1
            packed, length, label = self.store.get(self.store.pick())
            self._again[: len(packed)] = packed
            at[[BYTES, N_STEPS, DONE, LABEL]] = 0, length, 0, label
        begins = bool(at[DONE] == 0)
        n = min(n_steps, int(at[N_STEPS] - at[DONE]))
        steps, size = unpack_steps(self._again[at[BYTES] :], n)
        at[BYTES] += size
        at[DONE] += n
        flags = np.zeros(n, np.uint8)
        flags[-1] = CLOSE if at[DONE] == at[N_STEPS] else 0
        return steps, Cues(flags, np.full(n, at[LABEL], np.int32), NO_VALUES), begins

    def grow(self, learner: GradientLearner) -> None:
        """Make room for the classes that the learner has now."""
        self.store.grow(learner.n_out)

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        store = {f"store.{k}": v for k, v in self.store.arrays().items()}
        return store | {f"open.{k}": v for k, v in self.open.arrays().items()} | {"again": self._again, "at": self._at}
