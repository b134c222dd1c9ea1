"""Learning held back after harm was undone: frozen, or slowed; and how it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from spiked.service.config import Stream as StreamConfig
from spiked.service.last_good import LastGood
from spiked.service.probe import Probe

if TYPE_CHECKING:
    from spiked.service.pipeline import Stream

SLOW = 0.1
"""What is left of the rate where learning goes on slowly."""


class Standstill:
    """What holds since harm was undone.

    Parameters
    ----------
    config : of the stream.

    Attributes
    ----------
    how : ``"frozen"`` or ``"slowed"``; empty while all is well.
    probe : while learning is frozen, whether the labels can be learnt from again.
    """

    def __init__(self, config: StreamConfig) -> None:
        self._config = config
        self.how = ""
        self.probe: Probe | None = None
        self._rate = 0.0  # before it was slowed

    def begin(self, stream: Stream, last_good: LastGood, by_class: bool) -> None:
        """Hold learning back as configured; a learner without a rate is frozen."""
        if self._config.memory.on_harm == "slow" and stream.learner.rate > 0:
            if not self.how:
                self._rate = stream.learner.rate
                stream.learner.rate *= SLOW
            self.how = "slowed"
            return
        stream.learning = False
        self.how = "frozen"
        if by_class and last_good:
            self.probe = Probe(self._config, last_good.state, last_good.seen)

    def end(self, stream: Stream) -> None:
        """Let learning go on as before."""
        if self.how == "frozen":
            stream.learning = True
        elif self.how and stream.learner.rate == self._rate * SLOW:  # else somebody has set another
            stream.learner.rate = self._rate
        self.how, self.probe = "", None

    def state(self) -> dict[str, NDArray]:
        """Copies of the arrays that the future depends on."""
        return self.probe.state() if self.probe else {}

    def record(self) -> list[Any]:
        """All else, as plain data."""
        return [self.how, self._rate, self.probe.record() if self.probe else None]

    def load(self, state: dict[str, NDArray], record: list[Any], last_good: LastGood) -> None:
        """Continue from `state` and `record`."""
        self.how, self._rate, probe = record
        self.probe = Probe.restored(self._config, last_good.state, state, probe) if probe else None
