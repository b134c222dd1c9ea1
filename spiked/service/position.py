"""Where a stream stands: its sender's epoch and numbers, and the watermark; which messages fit there."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from spiked.io import binner
from spiked.io.events import Events
from spiked.io.wire import Header, Kind, Message, WireError
from spiked.service.config import Stream

MAX_LEAP_US = 600_000_000
"""A leap of the watermark by more is a broken clock: stream time begins anew there, as with a new epoch."""
MAX_LEAP_STEPS = 2_000_000
"""The same bound in steps, where steps are short: they are what a message costs."""
REPLACED = 16
"""Senders that have been replaced and are still known; each start draws an epoch of 32 bits, and comes back never."""
WINDOW = 64
"""A number that comes late is taken if it has not been before, and lies no further back."""
OUT_OF_TURN = ("epoch", "seq", "unauthorised")
"""Refusals of messages whose numbers say nothing about those that are due."""


class Position:
    """Where one stream stands.

    Attributes
    ----------
    epoch : of the sender; None before its first message.
    next_seq : number that the next message should have.
    watermark_us : stream time before which nothing more is due.
    taken : which of the `WINDOW` numbers before `next_seq` have been taken, a bit each, the latest first.
    rejected : messages refused since the last good one: their numbers are no losses.
    replaced : epochs of the senders before this one.
    restarts : how often a sender began anew.
    max_leap_us : furthest that the watermark may move at once.
    """

    def __init__(self, config: Stream, dt_us: int) -> None:
        self.stream, self.jitter_us, self.late = config.id, config.jitter_us, config.late
        self.max_leap_us = min(MAX_LEAP_US, MAX_LEAP_STEPS * dt_us)
        self.epoch: int | None = None
        self.next_seq = self.taken = 0
        self.watermark_us = 0
        self.rejected = 0
        self.replaced: deque[int] = deque(maxlen=REPLACED)
        self.restarts = 0

    def restarted(self, head: Header) -> bool:
        """Whether the sender began again: another epoch, or numbers from 0."""
        return head.epoch != self.epoch or (head.seq == 0 and self._gone_by(0))

    def check_turn(self, head: Header) -> None:
        """Refuse a message of a sender that another has replaced, or one whose number has gone by.

        Two senders on one stream would otherwise reset each other at every message.

        Raises
        ------
        WireError
            ``epoch`` or ``seq``; nothing has changed.
        """
        if head.seq and head.epoch != self.epoch and head.epoch in self.replaced:
            raise WireError("epoch", f"{head.epoch}, of a sender that another has replaced", self.stream)
        if head.epoch == self.epoch and head.seq and self._gone_by(head.seq):
            raise WireError("seq", f"{head.seq} was taken, or is too late; next is {self.next_seq}", self.stream)

    def _gone_by(self, seq: int) -> bool:
        back = self.next_seq - 1 - seq
        return back >= WINDOW or (back >= 0 and bool(self.taken >> back & 1))

    def leapt(self, message: Message) -> bool:
        """Whether the clock of a stream that has begun leapt; what is said of a far future is no leap."""
        return message.kind is not Kind.TARGET and message.header.t_first - self.watermark_us > self.max_leap_us

    def check_time(self, message: Message, begins: bool) -> None:
        """Refuse a message of events, or a reset, that lies behind the watermark or reaches too far ahead of it.

        Parameters
        ----------
        message : with its header checked.
        begins : whether stream time begins with it.

        Raises
        ------
        WireError
            ``time``; nothing has changed.
        """
        head = message.header
        now_us = head.t_first if begins else self.watermark_us
        if head.t_first < now_us - self.jitter_us and self.late == "drop":
            raise WireError(
                "time",
                f"t_first {head.t_first} is {now_us - head.t_first} us behind the watermark; at most "
                f"jitter_us, {self.jitter_us}",
                self.stream,
            )
        if message.kind is Kind.EVENTS and head.t_last - max(now_us, head.t_first) > self.max_leap_us:
            raise WireError(
                "time",
                f"t_last {head.t_last} is {head.t_last - now_us} us ahead; at most {self.max_leap_us}",
                self.stream,
            )

    def check_room(self, events: Events, head: Header, dt_us: int) -> None:
        """Refuse a message with which stream time begins, if it would leave too many events waiting for the watermark.

        Raises
        ------
        WireError
            ``count``; nothing has changed.
        """
        now, end, left = head.t_first // dt_us, head.t_last // dt_us, len(events)
        if left > binner.MAX_WAITING and end > now:  # it runs steps itself, and what lies before their end
            left = int(np.count_nonzero(events["t"] >= np.uint64(end * dt_us)))
        if left > binner.MAX_WAITING:
            most = binner.MAX_WAITING
            raise WireError("count", f"{left} events would wait for their step; at most {most}", self.stream)

    def begin_anew(self, epoch: int | None) -> None:
        """Let stream time begin again; with another `epoch`, the numbers too."""
        if epoch is not None:
            if self.epoch is not None:
                self.restarts += 1
                if epoch != self.epoch:
                    self.replaced.append(self.epoch)
            if epoch in self.replaced:
                self.replaced.remove(epoch)
            self.epoch, self.next_seq, self.taken = epoch, 0, 0
        self.watermark_us = 0

    def refused(self, reason: str) -> None:
        """Take note that a message was refused: its number is no loss."""
        self.rejected += reason not in OUT_OF_TURN

    def follow(self, seq: int) -> int:
        """Take note of a good message's number; returns how many were lost before it."""
        ahead = seq + 1 - self.next_seq
        if ahead <= 0:  # late: it has been counted as lost
            self.taken |= 1 << -ahead
            return 0
        lost = max(0, ahead - 1 - self.rejected)
        self.taken = (self.taken << min(ahead, WINDOW) | 1) & (1 << WINDOW) - 1
        self.next_seq, self.rejected = seq + 1, 0
        return lost

    def advance(self, t_us: int) -> None:
        """Move the watermark to `t_us`; it never turns back."""
        self.watermark_us = max(self.watermark_us, t_us)

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        names = ("epoch", "next_seq", "taken", "watermark_us", "rejected", "restarts")
        return {name: getattr(self, name) for name in names} | {"replaced": list(self.replaced)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`; keys that are not the position's are left alone."""
        self.epoch, self.next_seq, self.taken = state["epoch"], state["next_seq"], state.get("taken", 0)
        self.watermark_us, self.rejected = state["watermark_us"], state["rejected"]
        self.restarts, self.replaced = state.get("restarts", 0), deque(state.get("replaced", ()), REPLACED)
