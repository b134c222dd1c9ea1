"""A learner's weights from outside: how large they are, how far they moved, and a digest of all that was learnt."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from spiked.service.build import AnyLearner

LEARNT = ("n_out", "square", "average", "feedback", "net.beta", "memory.theta", "memory.windows", "memory.reward")
"""What is learnt beside weights, by its name in a learner's state."""
PARTS = (
    "head.", "mean.weight", "mean.age", "ewc.", "si.", "cascade.", "novelty.", "pseudo.", "replay.store.", "drift.",
)  # fmt: skip
"""The same, by how its name begins: a head's statistics, and what works against forgetting."""


class WeightNorms:
    """Frobenius norms of each layer's weights, and of their change from one look to the next."""

    def __init__(self) -> None:
        self._before: dict[int, NDArray] = {}

    def look(self, learner: AnyLearner) -> list[tuple[float, float]]:
        """Norm and change of each layer, a head of statistics last; 0 where there is nothing to compare with."""
        out = []
        layers = len(learner.net.threshold) + hasattr(learner, "head")
        for layer in range(layers):
            weight = learner.weights(layer)
            before = self._before.get(layer)
            moved = 0.0 if before is None or before.shape != weight.shape else float(np.linalg.norm(weight - before))
            self._before[layer] = weight
            out.append((float(np.linalg.norm(weight)), moved))
        return out

    def forget(self) -> None:
        """Compare with nothing at the next look: other weights have taken the place of these."""
        self._before.clear()


def weight_digest(learner: AnyLearner) -> str:
    """Digest (CRC-32) of everything learnt, and of nothing that passes: it stays while nothing is learnt."""
    crc = 0
    for layer in range(len(learner.net.threshold)):
        crc = zlib.crc32(learner.weights(layer).tobytes(), crc)
    for name, array in sorted(learner.state().items()):
        if name in LEARNT or name.startswith(PARTS):
            crc = zlib.crc32(array.tobytes(), zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"
