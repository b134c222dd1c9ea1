"""What the outside says a stream shows, when: targets as intervals of steps, and the cues that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import CLOSE, READ, UNLABELLED

MAX_PENDING = 1024
"""Targets that may wait for their time; a sender that announces more is flooding."""
FINAL = 4
"""Cue flag that learners pass on untouched: a target ends with this step."""


@dataclass
class Interval:
    """A label that holds from step `first` up to, not including, `end` (None: until the next target)."""

    first: int
    end: int | None
    label: int

    def closings(self, window: int, first: int, stop: int) -> list[int]:
        """Steps in [first, stop) after which a window of this interval closes.

        An interval is cut into equal windows of about `window` steps; the last ends with it.
        """
        if self.end is None:
            k = max(0, (first - self.first) // window - 1)
            ends = range(self.first + (k + 1) * window, stop + 1, window)
            return [e - 1 for e in ends if first <= e - 1 < stop]
        n = max(1, round((self.end - self.first) / window))
        length = (self.end - self.first) / n
        k = max(0, int((first - self.first) / length) - 1)
        found = []
        while k < n:
            k += 1
            at = self.first + round(k * length) - 1
            if at >= stop:
                break
            if at >= first:
                found.append(at)
        return found


class Schedule:
    """The targets of one stream.

    Parameters
    ----------
    window_steps : length of a learning window, where a target's own end does not come first.
    every_steps : distance of two predictions.
    """

    def __init__(self, window_steps: int, every_steps: int) -> None:
        self.window_steps, self.every_steps = window_steps, every_steps
        self.intervals: list[Interval] = []

    def __len__(self) -> int:
        return len(self.intervals)

    def add(self, first: int, end: int | None, label: int) -> None:
        """Let `label` hold from step `first` until `end`; what was said before about that time gives way.

        An interval without an end is ended by the next one, whichever was said first. `UNLABELLED` is an interval like
        any other. The cost is that of the targets still waiting.
        """
        if end is None:
            end = min((i.first for i in self.intervals if i.first > first), default=None)
        kept = [Interval(first, end, label)]
        for i in self.intervals:
            if i.first < first:
                kept.append(Interval(i.first, first if i.end is None else min(i.end, first), i.label))
            if end is not None and (i.first > first if i.end is None else i.end > end):
                kept.append(Interval(max(i.first, end), i.end, i.label))
        self.intervals = sorted(kept, key=lambda i: i.first)

    def label_at(self, step: int) -> int:
        """The label that is on during a step."""
        for interval in self.intervals:
            if interval.first <= step and (interval.end is None or step < interval.end):
                return interval.label
        return UNLABELLED

    def cues(self, first: int, n: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Flags and labels for the `n` steps from `first`; intervals that end there are done with."""
        flags = np.zeros(n, np.uint8)
        labels = np.empty(n, np.int32)
        labels.fill(UNLABELLED)
        flags[(-(first + 1)) % self.every_steps :: self.every_steps] = READ
        stop = first + n
        for interval in self.intervals:
            if interval.first >= stop:
                break
            a, b = max(interval.first, first), stop if interval.end is None else min(interval.end, stop)
            if b <= a or interval.label == UNLABELLED:  # over before this run began, or nothing to learn
                continue
            labels[a - first : b - first] = interval.label
            for at in interval.closings(self.window_steps, first, stop):
                flags[at - first] |= CLOSE
            if interval.end == b:
                flags[b - 1 - first] |= FINAL
        self.let_go(stop)
        return flags, labels

    def let_go(self, step: int, since: int | None = None) -> None:
        """Forget intervals that end by `step`, and those that began before `since`."""
        self.intervals = [
            i for i in self.intervals if (i.end is None or i.end > step) and (since is None or i.first >= since)
        ]

    def clear(self) -> None:
        """Forget everything: stream time has begun anew."""
        self.intervals = []

    def state(self) -> list[list[Any]]:
        """Plain data for a checkpoint."""
        return [[i.first, i.end, i.label] for i in self.intervals]

    def load_state(self, state: list[list[Any]]) -> None:
        """Continue from `state`."""
        self.intervals = [Interval(*item) for item in state]
