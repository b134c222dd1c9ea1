"""Saving and loading a learner's arrays, the same way for every learner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class StateMixin:
    """`state` and `load_state` for a learner that names its arrays in `arrays`.

    A learner that grew has other shapes than a fresh one; `n_out` is part of the state, and loading grows first.
    """

    n_out: int

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on, by name."""
        raise NotImplementedError

    def grow(self, n_out: int) -> None:
        """Make room for new classes."""
        raise NotImplementedError

    def state(self) -> dict[str, NDArray]:
        """Copies of everything that the future depends on."""
        return {"n_out": np.array([self.n_out], np.int64)} | {k: v.copy() for k, v in self.arrays().items()}

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`, bit for bit; raises ValueError naming the array that does not fit."""
        if "n_out" not in state:
            raise ValueError("the state holds no n_out: it is not a learner's")
        n_out = int(state["n_out"][0])
        if n_out > self.n_out:
            self.grow(n_out)
        mine = self.arrays()
        for name, array in mine.items():
            theirs = state.get(name)
            if theirs is None:
                raise ValueError(f"the state holds no {name}; it is another kind of learner's")
            if theirs.shape != array.shape or theirs.dtype != array.dtype:
                raise ValueError(
                    f"{name} is {theirs.dtype}{theirs.shape} in the state, {array.dtype}{array.shape} in this network"
                )
        for name, array in mine.items():
            array[...] = state[name]
