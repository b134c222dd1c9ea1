"""The last good state: a copy of a stream's learner as it was when nothing was wrong or in doubt, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from spiked.service.build import build_learner
from spiked.service.vitals import Vitals

if TYPE_CHECKING:
    from spiked.service.pipeline import Stream


FADES = 0.9
"""What is left of the usual events from one copy to the next."""


class LastGood:
    """The copy, and how all was then.

    Attributes
    ----------
    state : the learner's; empty where there is none.
    at : taught windows then.
    exam : accuracy of the exam then.
    seen : windows that each class had taught then.
    events : active channels per step, as is usual: a time of silence does not change that.
    vitals : of the network then; None where there is nothing to compare with.
    """

    def __init__(self) -> None:
        self.forget()

    def __bool__(self) -> bool:
        return bool(self.state)

    def forget(self) -> None:
        """Let it go: another learner has taken the place of that one."""
        self.state: dict[str, NDArray] = {}
        self.at, self.exam, self.events = 0, 0.0, 0.0
        self.vitals: Vitals | None = None
        self.seen: dict[int, int] = {}

    def keep(self, stream: Stream, at: int, exam: float, seen: dict[int, int], vitals: Vitals) -> None:
        """Copy the learner as it is."""
        self.seen = dict(seen)
        self.state, self.at, self.exam, self.vitals = stream.learner.state(), at, exam, vitals
        self.events = max(vitals.events, FADES * self.events)

    def go_back(self, stream: Stream) -> None:
        """Make the stream's learner what it was, with room for the classes that came since; it is at rest."""
        now, n_out = stream.learner, int(self.state["n_out"][0])
        rate = now.rate
        if n_out != now.n_out:
            now = build_learner(stream.config, n_out)
        now.load_state(self.state)
        if len(stream.classes) > now.n_out:
            now.grow(len(stream.classes))
        now.rate = rate
        now.reset()
        stream.learner = now
        stream.recall.mark_reset()
        stream.norms.forget()
        self.vitals = None  # the next look spans the harm: it is compared with nothing

    def record(self) -> list[Any]:
        """All but the copy, as plain data for a checkpoint."""
        seen = [[k, n] for k, n in self.seen.items()]
        return [self.at, self.exam, self.events, seen, list(self.vitals) if self.vitals else None]

    def load(self, state: dict[str, NDArray], record: list[Any]) -> None:
        """Continue from a copy and a `record`."""
        self.state = {k: v.copy() for k, v in state.items()}
        self.at, self.exam, self.events, seen, vitals = record
        self.seen = dict(seen)
        self.vitals = Vitals(*vitals) if vitals else None
