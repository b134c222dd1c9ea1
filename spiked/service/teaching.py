"""What a stream is taught: its classes and vectors, targets in time, and the steps that a late one can still teach.

`Teaching` owns that state and knows no learner: it says whether a target can be taken, which number stands for it, and
which cues go with which steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.io.wire import Target, WireError
from spiked.learners.contract import CLOSE, NO_VALUES, UNLABELLED, Cues, Steps
from spiked.service.config import Stream
from spiked.service.recall import Recall
from spiked.service.targets import MAX_PENDING, Interval, Schedule


class Teaching:
    """What one stream is taught.

    Parameters
    ----------
    config : of the stream.
    every_ms : distance of two predictions.

    Attributes
    ----------
    classes : names; a class's number is its place.
    vectors : target vectors float32[outputs] that an interval may still name; their place is the interval's label.
    schedule : targets that hold now or will.
    recall : the last steps.

    Notes
    -----
    `classes`, `schedule` and `recall` change in place and are never replaced: the stream names them too.
    """

    def __init__(self, config: Stream, every_ms: float) -> None:
        self.stream, self.network = config.id, config.network
        self.by_reward = config.learning.objective == "reward"
        self.classes = list(config.network.classes)
        self.vectors: list[NDArray[np.float32]] = []
        window, every = (max(1, round(ms / config.dt_ms)) for ms in (config.learning.window_ms, every_ms))
        self.schedule = Schedule(window, every)
        memory = round(config.learning.memory_ms / config.dt_ms)
        self.recall = Recall(memory + window if memory else 0)  # late by the memory, and its whole window still there

    @property
    def values(self) -> NDArray[np.float32]:
        """The kept vectors as one array float32[n, outputs]."""
        return np.stack(self.vectors) if self.vectors else NO_VALUES

    def check(self, target: Target, end: int | None, now: int | None, anew: bool, learning: bool) -> None:
        """Refuse a target that this stream cannot take; changes nothing.

        Parameters
        ----------
        target : what was said.
        end : step that it ends before; None: until the next target.
        now : next step to run; None before the stream began.
        anew : whether stream time begins anew with this message: nothing that was is held against it.
        learning : whether the stream learns.

        Raises
        ------
        WireError
            ``target`` if the stream cannot be taught that, or too many targets wait; ``time`` if all its steps have
            run and are no longer kept.
        """
        self._check_value(target)
        if anew:
            return
        if now is not None and end is not None and end <= now:
            unlabelled = isinstance(target, int) and target == UNLABELLED
            if learning and not unlabelled and not self.recall.holds(end):
                raise WireError("time", f"target until step {end}, which is no longer remembered", self.stream)
        elif len(self.schedule) >= MAX_PENDING:
            raise WireError("target", f"{MAX_PENDING} targets wait for their time already", self.stream)

    def number(self, target: Target) -> tuple[int, str]:
        """Number and name of a target; a name not seen before is a new class (the learner may have to grow).

        Raises
        ------
        WireError
            ``target`` if the stream cannot be taught that; nothing has changed.
        """
        self._check_value(target)
        if isinstance(target, (np.ndarray, float)):
            self._forget_vectors()
            self.vectors.append(np.atleast_1d(np.asarray(target, np.float32)))
            return len(self.vectors) - 1, "reward" if self.by_reward else "vector"
        if isinstance(target, str):
            if target not in self.classes:
                self.classes.append(target)
            return self.classes.index(target), target
        number = int(target)
        return number, self.classes[number] if number >= 0 else "unlabelled"

    def cues(self, first: int, n: int) -> Cues:
        """Cues for the `n` steps from `first`, which run now: targets that end there are done with."""
        return Cues(*self.schedule.cues(first, n), self.values)

    def late_cues(self, label: int, first: int, end: int) -> list[tuple[Steps, Cues]]:
        """Steps that have run already, with the cues that class `label` from `first` to `end` would have given them.

        One pair for each run from rest; none where the steps are no longer kept.
        """
        window, out = Interval(first, end, label), []
        for steps in self.recall.spans(first, end):
            labels = np.full(steps.n, UNLABELLED, np.int32)
            labels[max(0, first - steps.first) :] = label
            flags = np.zeros(steps.n, np.uint8)
            for at in window.closings(self.schedule.window_steps, steps.first, steps.first + steps.n):
                flags[at - steps.first] = CLOSE
            flags[-1] = CLOSE
            out.append((steps, Cues(flags, labels, self.values)))
        return out

    def begin_anew(self, step: int, since: int | None, restarted: bool) -> None:
        """Let stream time begin again at `step`.

        After a leap the time that follows may be spoken of already: targets that began before `since` alone go. Of
        another epoch (`restarted`) nothing can have been said.
        """
        if restarted:
            self.schedule.clear()
            self.vectors.clear()
        else:
            self.schedule.let_go(step, since=since)
        self.recall.clear()

    def _check_value(self, target: Target) -> None:
        known, outputs = len(self.classes), self.network.outputs
        if isinstance(target, np.ndarray):
            if target.shape != (outputs,):
                raise WireError(
                    "target", f"vector of {len(target)}; stream {self.stream!r} has outputs = {outputs}", self.stream
                )
        elif isinstance(target, float):
            if not self.by_reward:
                raise WireError(
                    "target", f"a reward, but stream {self.stream!r} does not learn from rewards", self.stream
                )
        elif self.by_reward and target != UNLABELLED:
            raise WireError("target", f"class {target!r}, but stream {self.stream!r} learns from rewards", self.stream)
        elif isinstance(target, str):
            self._check_name(target)
        elif not UNLABELLED <= target < known:
            allowed = (
                f"-1 to {known - 1}" if known else "-1; it predicts vectors" if outputs else "none known; teach by name"
            )
            raise WireError("target", f"class {target} of stream {self.stream!r}; {allowed}", self.stream)

    def _check_name(self, name: str) -> None:
        if name in self.classes:
            return
        if self.network.outputs:
            raise WireError("target", f"class {name!r}, but stream {self.stream!r} predicts vectors", self.stream)
        most = self.network.max_classes
        if len(self.classes) >= most:
            raise WireError("target", f"class {name!r} is one more than max_classes, {most}", self.stream)

    def _forget_vectors(self) -> None:
        """Let go of vectors that no interval names any more."""
        if len(self.vectors) < 2 * len(self.schedule) + 64:
            return
        used = sorted({i.label for i in self.schedule.intervals if i.label != UNLABELLED})
        for interval in self.schedule.intervals:
            if interval.label != UNLABELLED:
                interval.label = used.index(interval.label)
        self.vectors = [self.vectors[k] for k in used]
