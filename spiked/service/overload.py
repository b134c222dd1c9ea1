"""What gives way when a stream brings more than can be done in time: learning first, then what came in.

How far behind a stream is: the age of a message by its sender's clock, less the least age of the last minutes. So the
difference of the two clocks does not matter, nor that they drift apart, and a clock that leaps is forgotten in time.
Nothing gives way unless ``ingest.max_lag_ms`` says when, nor for a sender that does not say when it sent.

========== ================= =======================================================================================
level      when              what
========== ================= =======================================================================================
`FREE`     in time           all that is configured
`WAITS`    `max_lag` behind  predictions go on, learning waits
`SHEDS`    twice as much     the steps of a message run without their events: time, dynamics and predictions go on
========== ================= =======================================================================================

A level is left when the stream is behind by half of what led to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("spiked.overload")

FREE, WAITS, SHEDS = range(3)
NAMES = ("none", "learning waits", "events are shed")
HALF_S = 300.0
"""The least age is that of the present half of ten minutes, and of the one before it."""
BELIEVED_S = 60.0
"""Nobody is behind by more at once: a clock was set."""


class Overload:
    """Follows how far one stream is behind.

    Parameters
    ----------
    stream : its id, for the log.
    max_lag_s : 0 means that nothing ever gives way.

    Attributes
    ----------
    level : `FREE`, `WAITS` or `SHEDS`.
    behind_s : at the last message.
    events, steps, windows : shed so far: events not looked at, steps run without them, windows that did not teach.
    """

    def __init__(self, stream: str, max_lag_s: float) -> None:
        self.stream, self.max_lag_s = stream, max_lag_s
        self.level, self.behind_s = FREE, 0.0
        self.events = self.steps = self.windows = 0
        self._least_s = self._before_s = float("inf")  # of this half, of the one before
        self._since_s = 0.0

    def follow(self, sent_ns: int, now_s: float) -> None:
        """Take in a message that was sent at `sent_ns` (sender's clock; 0: unknown) and is taken at `now_s` (ours)."""
        if not self.max_lag_s or not sent_ns:
            return
        age = now_s - sent_ns * 1e-9
        if now_s - self._since_s > HALF_S:
            self._since_s, self._before_s, self._least_s = now_s, self._least_s, age
        self._least_s = min(age, self._least_s)
        self.behind_s = age - min(self._least_s, self._before_s)
        if self.behind_s > BELIEVED_S:
            self._least_s = self._before_s = age
            self.behind_s = 0.0
        before, rises = self.level, (self.max_lag_s, 2 * self.max_lag_s)
        while self.level < SHEDS and self.behind_s > rises[self.level]:
            self.level += 1
        while self.level > FREE and self.behind_s <= rises[self.level - 1] / 2:
            self.level -= 1
        if self.level != before:
            tell: Callable[..., None] = log.warning if self.level > before else log.info
            tell("%s: %.0f ms behind; given up: %s", self.stream, self.behind_s * 1e3, NAMES[self.level])
