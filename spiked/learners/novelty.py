"""A rate that follows novelty: while more surprises than is usual, windows teach faster.

The paper's "penalizing weights that change excessively fast" (5.1), by the moment instead of by the weight: what is
familiar is learnt at the rate that is set, and larger steps are taken only while the world is new. The surprise of a
window is its loss as the read-out stood when it closed, before any of it was learnt from::

    surprise = -log softmax(scores)[label]      classes; the mean square error for vectors
    gate     = (surprise lately / usual surprise) ^ sensitivity, between 1 and most
    rate of this step = rate * gate

What is usual is the mean of the windows that have taught, and reaches back `windows` of them; lately is the mean over
`LATELY`, this one included. One window that surprises is a hard example, and no novelty: gated by each window's own
surprise, the rate followed the noise of examples, and cost more than it won. After a change the gate goes back to 1 as
what is usual follows. Until `WARM` windows have taught it is 1.

The scores were said before the gate is asked, and the gate moves no score: a prediction still knows no label.

It does not go well with rehearsal (`pseudo`): what is rehearsed does not surprise. It is for where the new counts: on
N-MNIST (`benchmarks/forgetting.py`) it is faster to be right again after a change, and a network without room for both
remembers the less of what was before.

Cost: a read-out and n_out exponentials a window, nothing a step. Memory: 3 numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.learners.gradient import GradientLearner
from spiked.learners.methods import Method

WARM = 10
LATELY = 10
"""Windows whose mean surprise says how new the world is at present."""
LEAST = 1e-6
"""Least surprise, in nats: of less, rounding would decide."""


class Novelty(Method):
    """A gate for the rate of each window's step.

    Parameters
    ----------
    learner : whose rate it is; it must learn from labels or vectors, not from a reward.
    sensitivity : power to which the surprise, in means, is taken; 0: the rate stays what it is.
    most : the gate is between 1 and most; 1 or more.
    windows : that the usual surprise reaches back.

    Attributes
    ----------
    gate : of the last window.
    mean : float64[3]; usual surprise, how many windows made it, and the surprise lately.
    """

    name = "novelty"

    def __init__(
        self, learner: GradientLearner, sensitivity: float = 1.0, most: float = 3.0, windows: float = 100.0
    ) -> None:
        if not (0 <= sensitivity < np.inf and 1 <= most < np.inf and windows >= 1):
            raise ValueError(
                f"sensitivity {sensitivity}, at most {most}, over {windows} windows; allowed: 0 or more, 1 or more, "
                "1 or more"
            )
        if learner.spec.objective == "reward":
            raise ValueError("a reward says how good it was, not what was right: there is no surprise to follow")
        self.sensitivity, self.most, self.windows = sensitivity, most, windows
        self.gate, self._surprise = 1.0, np.nan
        self.mean = np.zeros(3)

    def closing(self, learner: GradientLearner, label: int, values: NDArray[np.float32]) -> None:
        """Set the rate of this step by how much the window surprises."""
        self.gate, self._surprise = 1.0, np.nan
        if label < 0:
            return
        self._surprise = max(LEAST, surprise(learner.scores(), label, values))
        if self.mean[1] >= WARM:
            relative = self._lately() / max(LEAST, self.mean[0])
            self.gate = float(np.clip(relative**self.sensitivity, 1.0, self.most))
            learner.rate *= self.gate

    def _lately(self) -> float:
        """Surprise of the latest windows, with the one at hand."""
        return float(self.mean[2] + (self._surprise - self.mean[2]) / min(self.mean[1] + 1, LATELY))

    def taught(self, learner: GradientLearner) -> None:
        """Take the window's surprise into the means."""
        if np.isfinite(self._surprise):
            self.mean[2] = self._lately()
            self.mean[1] = min(self.mean[1] + 1, self.windows)
            self.mean[0] += (self._surprise - self.mean[0]) / self.mean[1]

    def grow(self, learner: GradientLearner) -> None:
        """Keep the mean: what is new shows in it."""

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        return {"mean": self.mean}


def surprise(scores: NDArray[np.float64], label: int, values: NDArray[np.float32]) -> float:
    """Loss of scores, float64[n_out], for a class, or for the vector in row `label` of `values`."""
    if len(values):
        return float(np.mean((scores - values[label]) ** 2))
    top = scores.max()
    return float(top + np.log(np.exp(scores - top).sum()) - scores[label])
