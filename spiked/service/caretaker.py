"""One stream's care for what it knows: it keeps the exam, notices harm, goes back to the last good state, and waits.

At each window that closes with a label the `guard` weighs the label, and the `exam` takes the window in and may ask a
question. Every `CHECK` taught windows the network's vitals are looked at; where nothing is wrong or in doubt, a copy of
the learner is kept: the last good state. On harm the learner becomes that copy again, at rest where the stream stands,
and learns no more, or slowly, until the latest labels agree with its predictions as they used to.

All this depends on steps and labels alone: the daemon and `spiked eval` do the same. Memory is the exam's budget and
one copy of the learner's state.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import UNLABELLED, Cues, Steps
from spiked.learners.windows import windows
from spiked.service.config import Stream as StreamConfig
from spiked.service.exam import Exam, answer
from spiked.service.guard import Guard, counts_after, has_fallen
from spiked.service.last_good import LastGood
from spiked.service.standstill import Standstill
from spiked.service.vitals import LEAST_EVENTS, Pulse, trouble

if TYPE_CHECKING:
    from spiked.service.pipeline import Stream

log = logging.getLogger("spiked.caretaker")

CHECK = 25
"""Taught windows between two looks at the network, and between two copies."""
REASONS = {
    "exam": "the exam has fallen while labels and predictions disagree",
    "labels": "labels have nothing to do with the predictions any more",
    "non_finite": "weights or scores are not finite",
    "norm": "weights have grown out of all proportion",
    "saturated": "a layer fires nearly all the time",
    "silent": "a layer has fallen silent",
}


class Caretaker:
    """What a stream keeps beside its learner.

    Parameters
    ----------
    config : of the stream.
    n_out : classes at the start.

    Attributes
    ----------
    exam : None where targets are no classes.
    guard, last_good, pulse, still : what the labels say, the state to go back to, what the network's vitals are made
        of, and what holds since harm was undone.
    reason : of the last harm that was noticed; empty when it is over.
    rollbacks : how often harm was undone, by reason.
    """

    def __init__(self, config: StreamConfig, n_out: int) -> None:
        self.config, m = config, config.memory
        classes = not config.network.outputs and config.learning.objective != "reward"
        self.exam = Exam(int(m.exam_mb * 1e6), n_out, m.exam_every, config.network.seed) if classes else None
        self.guard, self.last_good, self.pulse = Guard(counts_after(m)), LastGood(), Pulse()
        self.still, self.reason = Standstill(config), ""
        self.rollbacks: dict[str, int] = {}
        self._taught = 0

    @property
    def held(self) -> str:
        """Whether learning is ``"frozen"`` or ``"slowed"`` since harm was undone; empty while all is well."""
        return self.still.how

    @property
    def good(self) -> bool:
        """Whether what is known at present may be gone back to."""
        return not (self.held or self.reason or self.guard.in_doubt or not self.guard.finite)

    def note(self, steps: Steps) -> None:
        """Take in steps that have run."""
        self.pulse.note(steps)
        if self.exam:
            self.exam.note(steps)

    def drop(self) -> None:
        """The open window ends here, and teaches nothing."""
        self.pulse.end_window()
        if self.exam:
            self.exam.drop()

    def judge(self, label: int, said: int, scores: NDArray[np.floating], taught: bool) -> None:
        """Take in what a labelled window was taken for, before it may have taught; one without events says nothing."""
        self.guard.finite = bool(np.isfinite(scores).all())
        if self.exam and self.pulse.hears(self.last_good.events):
            self.guard.judge(label, said, taught)

    def closed(self, stream: Stream, label: int) -> None:
        """A window has closed; all that follows from it happens now."""
        if label != UNLABELLED:
            if self.exam and self.pulse.hears(self.last_good.events):
                if stream.learns:
                    self.exam.taught(label, stream.learner, self.guard.in_doubt or bool(self.held))
                elif self.still.probe and (window := self.exam.take_open()):
                    self.still.probe.show(window, label)
            self._follow(stream)
        self.drop()

    def late(self, stream: Stream, steps: Steps, cues: Cues, taught: bool) -> None:
        """Take in windows whose label came late: first what they are taken for, then that they may have `taught`."""
        for a, b in windows(cues):
            label, part = int(cues.labels[b - 1]), steps.slice(a, b)
            if label == UNLABELLED or not cues.flags[b - 1]:
                continue
            hears = len(part.indices) > LEAST_EVENTS * self.last_good.events * part.n
            if self.exam and hears and not taught:
                self.guard.judge(label, answer(stream.learner, part), stream.learns)
            elif self.exam and hears and stream.learns:
                self.exam.take(part, label, stream.learner, self.guard.in_doubt or bool(self.held))
            elif self.still.probe and hears:
                self.still.probe.show(part, label)
            if taught:
                self._follow(stream)

    def _follow(self, stream: Stream) -> None:
        if self.held and self.guard.agrees_again:
            self.release(stream, "the labels agree with the predictions again")
        elif self.still.probe and self.still.probe.learns:
            self.release(stream, "what the labels say can be learnt again")
        if not stream.learns:
            return
        self._taught += 1
        reason = self._harm(stream)
        broken = reason not in ("", "labels", "exam") and (bool(self.held) or reason != self.reason)
        if reason and (not self.reason or broken):  # held and broken: slowed, and yet it has happened again
            self._undo(stream, reason)

    def _harm(self, stream: Stream) -> str:
        """Why learning did harm, or empty; where it is time and all is good, a copy is kept."""
        if not self.guard.finite:
            return "non_finite"
        seen = ""
        if not self.held and self.guard.in_doubt:
            seen = "labels" if self.guard.unrelated else "exam" if self.exam and self._fallen(self.exam) else ""
        if (not seen or self.reason) and self._taught % CHECK:  # nothing, or nothing new
            return ""
        vitals = self.pulse.look(stream.learner)
        reason = trouble(vitals, self.last_good.vitals) or seen  # the network is the nearer cause
        if not reason and not self.held and not self.guard.in_doubt:
            exam = self.exam.accuracy if self.exam and self.exam.class_accuracy else 0.0
            self.last_good.keep(stream, self._taught, exam, self.guard.seen, vitals)
            if self.reason:
                log.info("stream %r: the harm that was reported is over", stream.id)
            self.reason = ""
        return reason

    def _fallen(self, exam: Exam) -> bool:
        return has_fallen(sum(exam.recent), len(exam.recent), self.last_good.exam, exam.samples)

    def _undo(self, stream: Stream, reason: str) -> None:
        """Say that learning did harm, and undo it as configured."""
        self.reason = reason
        if self.config.memory.on_harm == "report":
            log.warning("stream %r: learning did harm: %s; nothing is done about it", stream.id, REASONS[reason])
            return
        back = self._taught - self.last_good.at
        if self.last_good:
            self.last_good.go_back(stream)
            self.guard.seen = dict(self.last_good.seen)
            self.guard.look_anew()
            self._look_anew()
            self.rollbacks[reason] = self.rollbacks.get(reason, 0) + 1
        self.still.begin(stream, self.last_good, self.exam is not None)
        where = f"back to the state of {back} windows ago" if self.last_good else "there is no good state to go back to"
        log.warning(
            "stream %r: learning did harm: %s; %s, learning is %s until labels and predictions agree", stream.id,
            REASONS[reason], where, self.held,
        )  # fmt: skip

    def _look_anew(self) -> None:
        if self.exam:
            self.exam.look_anew()

    def release(self, stream: Stream, why: str) -> None:
        """Learn again as before; `why` is for the log."""
        self.still.end(stream)
        self.reason = ""
        self.guard.look_anew()
        log.warning("stream %r learns again: %s", stream.id, why)

    def learning_set(self, stream: Stream, learning: bool) -> None:
        """Somebody outside said whether to learn: that holds, and how things are from here on is how they are."""
        if learning and (self.held or self.reason):
            self.release(stream, "told to")
            self.guard.begin_anew()
            self.last_good.vitals = None
            self._look_anew()
        elif self.held:
            self.still.end(stream)
            self.reason = ""
        stream.learning = learning

    def begin_anew(self) -> None:
        """Another learner has taken the place of this one: nothing that is known of it holds."""
        self.guard.look_anew()
        self._look_anew()
        self.last_good.forget()
        self.still.probe = None
        self.reason = self.reason if self.held else ""

    def state(self) -> dict[str, NDArray]:
        """Copies of the arrays that the future depends on."""
        arrays = {f"good.{k}": v for k, v in self.last_good.state.items()}
        for name, part in (("exam", self.exam), ("probe", self.still)):
            arrays |= {f"{name}.{k}": v for k, v in part.state().items()} if part else {}
        return arrays

    def record(self) -> dict[str, Any]:
        """All else that the future depends on, as plain data."""
        return {
            "guard": self.guard.state(), "still": self.still.record(), "reason": self.reason, "taught": self._taught,
            "good": self.last_good.record(), "pulse": self.pulse.state(), "rollbacks": dict(self.rollbacks),
        }  # fmt: skip

    def load(self, arrays: dict[str, NDArray], record: dict[str, Any]) -> None:
        """Continue from `state` and `record`; an exam of another size begins afresh."""
        parts: dict[str, dict[str, NDArray]] = {"good": {}, "exam": {}, "probe": {}}
        for key, array in arrays.items():
            part, _, name = key.partition(".")
            parts[part][name] = array
        self.last_good.load(parts["good"], record["good"])
        self.pulse.load_state(record["pulse"])
        self.guard.load_state(record["guard"])
        self.still.load(parts["probe"], record["still"], self.last_good)
        self.reason, self._taught, self.rollbacks = record["reason"], record["taught"], dict(record["rollbacks"])
        if self.exam and parts["exam"]:
            try:
                self.exam.load_state(parts["exam"])
            except ValueError as error:
                log.warning("stream %r: %s; the exam begins afresh", self.config.id, error)

    def summary(self, names: list[str]) -> dict[str, Any]:
        """How things are, as plain data."""
        return {
            "state": self.held or "well", "harm": self.reason or None, "in_doubt": self.guard.in_doubt,
            "rollbacks": dict(self.rollbacks),
            "good_windows_ago": self._taught - self.last_good.at if self.last_good else None,
            "exam": self.exam.summary(names) if self.exam else None,
        }  # fmt: skip
