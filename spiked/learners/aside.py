"""A side state for every learner: what happens there moves nothing of the live dynamics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from numpy.typing import NDArray


class PutBack(Protocol):
    """What a learner needs for it (`contract.Learner`)."""

    def reset(self) -> None:
        """Dynamics to rest."""
        ...

    def state(self) -> dict[str, NDArray]:
        """Copies of everything that the future depends on."""
        ...

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`."""
        ...


def aside(learner: PutBack) -> AbstractContextManager[Any]:
    """Let what happens inside happen on a side state, from rest: for steps that run without learning.

    A learner that has no side state of its own is put back by `state` and `load_state`: a copy of all it knows.
    """
    own = getattr(learner, "aside", None)
    return own() if own is not None else _put_back(learner)


@contextmanager
def _put_back(learner: PutBack) -> Iterator[None]:
    state = learner.state()
    learner.reset()
    try:
        yield
    finally:
        learner.load_state(state)
