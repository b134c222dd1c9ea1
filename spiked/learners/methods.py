"""What a countermeasure against forgetting is: what `memory.MemoryLearner` tells it, and when."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import Cues, Steps
from spiked.learners.gradient import GradientLearner


class Method:
    """A countermeasure that acts on the weights whenever a window has taught.

    In a window's order: `heard` for each part of it, `closing`, the learner's own step, `taught` if it took one, and,
    for a window that was not itself a rehearsal, `rehearsals`. While the learner's rate is 0 none of them is called.
    """

    name: str
    again = False
    """Whether the window is a rehearsal."""

    def heard(self, learner: GradientLearner, steps: Steps, cues: Cues) -> None:
        """See a part of a window before the learner runs it; not called for a rehearsal."""

    def closing(self, learner: GradientLearner, label: int, values: NDArray[np.float32]) -> None:
        """See a window that is about to close, and its label; may set the rate of this step, which is put back."""

    def rehearsals(self, learner: GradientLearner) -> Iterable[tuple[Steps, Cues]]:
        """Windows to recall now, each from rest; the cues close each at its last step."""
        return ()

    def taught(self, learner: GradientLearner) -> None:
        """Take in, or change, the weights that the window left behind."""

    def grow(self, learner: GradientLearner) -> None:
        """Make room for the outputs that the learner has now."""

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return {}
