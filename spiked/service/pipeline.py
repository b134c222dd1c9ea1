"""One message, start to end: the file to open first.

::

    bytes on the wire -> events -> steps -> spikes -> learning signal -> weight update -> prediction out
    io.wire              io.binner  learners (one compiled call)                          io.sink

`Pipeline.handle` takes the frames of one message and returns the predictions that it completed. It never raises on
input: a message that cannot be used is counted under its reason. It knows no socket and no clock (the time of arrival
is handed in), so `spiked eval` runs the very same path as the daemon.

Beside the path stand `position` (which message comes next, and where its time lies), `teaching` (classes, targets,
and what a late one still finds), `caretaker` (the exam, and harm undone) and `knowledge` (a stream into a checkpoint
and back).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from spiked.io import wire
from spiked.io.binner import Binner
from spiked.io.events import EVENT_DTYPE, Events
from spiked.io.keys import Keyring
from spiked.io.packed import Packed, PackedError
from spiked.io.wire import Header, Kind, Message, Target, WireError
from spiked.learners.contract import CLOSE, UNLABELLED, Cues, Readouts, Steps
from spiked.learners.windows import windows
from spiked.service.build import AnyLearner, binner_spec, build_learner
from spiked.service.caretaker import Caretaker
from spiked.service.config import Config
from spiked.service.config import Stream as StreamConfig
from spiked.service.overload import FREE, SHEDS, Overload
from spiked.service.position import Position
from spiked.service.prediction import Prediction, softmax
from spiked.service.stats import StreamStats, WireStats
from spiked.service.targets import FINAL
from spiked.service.teaching import Teaching
from spiked.service.weights import WeightNorms, weight_digest

MAX_STEPS_PER_CALL = 1 << 16
"""A long silence runs in pieces of so many steps: memory stays bounded, whatever a heartbeat says."""

_COUNTED = {kind: kind.name.lower() for kind in Kind}
_NO_EVENTS = np.empty(0, EVENT_DTYPE)


class Pipeline:
    """All streams of a daemon, each with its own learner."""

    def __init__(self, config: Config) -> None:
        every_ms, max_lag_s = config.predictions.every_ms, config.ingest.max_lag_ms * 1e-3
        self.streams = {s.id: Stream(s, every_ms, max_lag_s) for s in config.stream}
        self.geometries = {name: stream.geometry for name, stream in self.streams.items()}
        self.wire = WireStats()
        self.keyring: Keyring | None = None

    def handle(
        self, frames: Sequence[bytes | memoryview], arrived_s: float = 0.0, user: str | None = None
    ) -> list[Prediction]:
        """Take one message in.

        Parameters
        ----------
        frames : its frames, as they came.
        arrived_s : when it came, on the caller's monotonic clock; predictions carry it on.
        user : who sent it, by `keyring`; None where that is not asked.
        """
        try:
            message = wire.parse(frames, self.geometries)
            if user is not None:
                self._check_role(user, message)
            return self.streams[message.stream].take(message, arrived_s)
        except WireError as error:
            self.wire.reject(error.stream, error.reason, str(error))
            if error.stream in self.streams:
                self.streams[error.stream].position.refused(error.reason)
            return []

    def _check_role(self, user: str, message: Message) -> None:
        """Refuse what this client may not send: the rights of a key may change while it is connected."""
        needed = "teach" if message.kind is Kind.TARGET else "send"
        if self.keyring is None or needed not in self.keyring.roles.get(user, ()):
            position = self.streams[message.stream].position
            position.rejected += message.header.epoch == position.epoch  # of another sender the numbers say nothing
            said = f"{message.kind.name.lower()} message from {user or 'nobody'!r}, whose key has no role {needed!r}"
            raise WireError("unauthorised", said, message.stream)


class Stream:
    """One sensor: its binner, its learner, what it is taught, and where it stands."""

    def __init__(self, config: StreamConfig, every_ms: float, max_lag_s: float = 0.0) -> None:
        self.config, self.id = config, config.id
        spec = binner_spec(config)
        self.dt_us, self.geometry = spec.dt_us, spec.geometry
        self.binner = Binner(spec)
        self.learner: AnyLearner = build_learner(config)
        self.learning = config.learning.enabled
        self.teaching = Teaching(config, every_ms)
        self.classes, self.schedule, self.recall = self.teaching.classes, self.teaching.schedule, self.teaching.recall
        self.position = Position(config, spec.dt_us)
        self.stats = StreamStats(len(self.learner.net.threshold))
        self.norms = WeightNorms()
        self.overload = Overload(config.id, max_lag_s)
        self.care = Caretaker(config, self.learner.n_out) if config.memory.exam_mb else None
        self.last_final_us = self.last_close_us = -1

    @property
    def learns(self) -> bool:
        """Whether labels teach now: learning is on, and does not wait for better times."""
        return self.learning and self.overload.level == FREE

    def take(self, message: Message, arrived_s: float) -> list[Prediction]:
        """Take one checked message in; returns the predictions that it completed.

        All that can refuse a message comes first: a refused one changes nothing but how far behind the stream seems.
        """
        head, kind, position, now = message.header, message.kind, self.position, self.binner.next_step
        position.check_turn(head)
        restarted = position.restarted(head)
        anew = restarted or (now is not None and position.leapt(message))
        begins = anew or now is None
        events, steps, target, sheds = _NO_EVENTS, None, None, False
        self.overload.follow(head.sent, time.time())
        if kind is Kind.TARGET:
            target = wire.decode_target(message)
            self.teaching.check(target, self._end_step(head), now, anew, self.learning)
        else:
            position.check_time(message, begins)
        if kind is Kind.EVENTS:
            sheds = self.overload.level == SHEDS
            if begins and not sheds:
                events = wire.decode_events(message, self.config.jitter_us)
                position.check_room(events, head, self.dt_us)
            elif not begins:
                steps = self._bin(message, sheds)
        out = self._begin_anew(head, restarted, arrived_s) if anew else []
        self.stats.lost += position.follow(head.seq)
        self.stats.messages[_COUNTED[kind]] += 1
        self.stats.note_sent(head.sent)
        if target is not None:
            return out + self._teach(target, head, arrived_s)
        if self.binner.next_step is None:
            self.binner.start(head.t_first)
        if kind is Kind.RESET:
            position.advance(head.t_first)
            return out + self.end_sample(head.t_first, arrived_s)
        self.stats.events += head.count
        if sheds:
            self.overload.events += head.count
            since = head.t_first // self.dt_us if begins else now or 0
            self.overload.steps += max(0, head.t_last // self.dt_us - since)
        position.advance(head.t_last)
        end_step = head.t_last // self.dt_us
        if steps is None:
            steps = self._push(events, end_step)
        return out + self._run(steps, end_step, arrived_s)

    def _bin(self, message: Message, sheds: bool) -> Steps:
        """The first steps that a message of events completes; it goes into the binner, or, shed, its time alone."""
        events = _NO_EVENTS if sheds else wire.packed_events(message, self.config.jitter_us)
        try:
            return self._push(events, message.header.t_last // self.dt_us)
        except PackedError as error:
            raise WireError(error.reason, str(error), self.id) from None

    def _push(self, events: Events | Packed, end_step: int) -> Steps:
        """Events into steps, up to so many at once."""
        return self.binner.push(events, end_step, MAX_STEPS_PER_CALL)

    def _begin_anew(self, head: Header, restarted: bool, arrived_s: float) -> list[Prediction]:
        """End what was, and let stream time begin again with this message."""
        out = self.end_sample(None, arrived_s)
        self.teaching.begin_anew(head.t_first // self.dt_us, self.binner.next_step, restarted)
        self.position.begin_anew(head.epoch if restarted else None)
        self.binner.next_step = None
        self.last_final_us = self.last_close_us = -1
        return out

    def _run(self, steps: Steps, end_step: int, arrived_s: float) -> list[Prediction]:
        """Run steps that are emitted, and all that follow before `end_step`."""
        assert self.binner.next_step is not None
        out: list[Prediction] = []
        while True:
            if steps.n:
                out += self._compute(steps, self.teaching.cues(steps.first, steps.n), arrived_s)
            if self.binner.next_step >= end_step:
                return out
            steps = self._push(_NO_EVENTS, end_step)

    def _compute(self, steps: Steps, cues: Cues, arrived_s: float) -> list[Prediction]:
        """One compiled call for all steps, or, where somebody looks after what was learnt, one for each window."""
        if self.care is None:
            return self._compute_part(steps, cues, arrived_s)
        out: list[Prediction] = []
        for a, b in windows(cues):
            its, part = steps.slice(a, b), Cues(cues.flags[a:b], cues.labels[a:b], cues.values)
            self.care.note(its)
            out += self._compute_part(its, part, arrived_s)
            if part.flags[-1] & CLOSE:
                self.care.closed(self, int(part.labels[-1]))
        return out

    def _compute_part(self, steps: Steps, cues: Cues, arrived_s: float) -> list[Prediction]:
        began = self.stats.clock()
        said = self.learner.run(steps, cues, self.learns)
        self.stats.ran(steps.n, self.stats.clock() - began)
        self.recall.add(steps)
        return self._publishable(said, steps.first, arrived_s)

    def end_sample(self, t_us: int | None, arrived_s: float) -> list[Prediction]:
        """Dynamics return to rest, at stream time `t_us` or (None) where the stream stands."""
        out: list[Prediction] = []
        if self.binner.next_step is None:
            return out
        if t_us is not None:
            step = t_us // self.dt_us
            out = self._run(self._push(_NO_EVENTS, step), step, arrived_s)
            if step == self.binner.next_step:  # a sample may end within a step
                part = self.binner.cut(t_us)
                if len(part.indices):
                    label = np.array([self.schedule.label_at(step)], np.int32)
                    out += self._compute(part, Cues(np.zeros(1, np.uint8), label, self.teaching.values), arrived_s)
        out += self._conclude(self.schedule.label_at(self.binner.next_step - 1), arrived_s)
        if t_us is not None and t_us % self.dt_us:  # a target that ends with the same step ended with the sample
            self.schedule.let_go(self.binner.next_step + 1)
        self.learner.reset()
        self.recall.mark_reset()
        if self.care:
            self.care.drop()
        return out

    def _conclude(self, label: int, arrived_s: float) -> list[Prediction]:
        """Close what is open where the stream stands, and say so once."""
        assert self.binner.next_step is not None
        now_us = self.binner.next_step * self.dt_us
        if now_us == self.last_final_us:
            return []
        if now_us == self.last_close_us:
            label = UNLABELLED  # this window has taught already
        said = self.learner.conclude(label, self.teaching.values, self.learns)
        out = self._publishable(said, self.binner.next_step, arrived_s)
        if self.care:
            self.care.closed(self, label)
        return out

    def _teach(self, target: Target, head: Header, arrived_s: float) -> list[Prediction]:
        """Let a checked target hold from its t_first on, in the past or in the future."""
        label, name = self.number(target)
        self.stats.targets[name] = self.stats.targets.get(name, 0) + 1
        first, end, now = head.t_first // self.dt_us, self._end_step(head), self.binner.next_step
        if now is not None and end is not None and end <= now:
            if label == UNLABELLED:
                return []
            if self.learning and not self.learns:
                late = self.teaching.late_cues(label, first, end)
                self.overload.windows += sum(int(np.count_nonzero(cues.flags)) for _, cues in late)
            elif self.learning or (self.care and self.care.held):
                self.teach_late(label, first, end, self.learning)
            return []
        out: list[Prediction] = []
        if now is not None and first <= now:
            on = self.schedule.label_at(now - 1)
            if on != UNLABELLED and (on != label or first == now):
                out = self._conclude(on, arrived_s)
        self.schedule.add(first, end, label)
        return out

    def _end_step(self, head: Header) -> int | None:
        return head.t_last // self.dt_us if head.t_last else None

    def number(self, target: Target) -> tuple[int, str]:
        """Number and name of a target; for a class not seen before, the learner makes room."""
        label, name = self.teaching.number(target)
        if len(self.classes) > self.learner.n_out:
            self.learner.grow(len(self.classes))
        return label, name

    def teach_late(self, label: int, first: int, end: int, learn: bool = True) -> None:
        """Learn from steps that have run already, on a side state, as they would have taught then.

        Without `learn` the label is only compared with what they are taken for.
        """
        for steps, cues in self.teaching.late_cues(label, first, end):
            if self.care:
                self.care.late(self, steps, cues, taught=False)
            if learn:
                self.learner.recall(steps, cues)
                self.stats.updates += int(np.count_nonzero(cues.flags))
            if self.care:
                self.care.late(self, steps, cues, taught=True)

    def _publishable(self, said: Readouts, first: int, arrived_s: float) -> list[Prediction]:
        """Predictions from a run's read-outs; what a window taught is taken into the running accuracy."""
        out = []
        vectors = bool(self.config.network.outputs)
        for k in range(len(said.at)):
            t_us = (first + int(said.at[k]) + 1) * self.dt_us
            closes = bool(said.flags[k] & CLOSE)
            final = bool(said.flags[k] & FINAL) or int(said.at[k]) < 0  # a conclusion is said between two steps
            label, scores = int(said.labels[k]), said.scores[k]
            listed = scores.tolist()
            self.last_close_us = t_us if closes else self.last_close_us
            self.last_final_us = t_us if final else self.last_final_us
            self.stats.spikes += said.spikes[k]
            if self.care:
                self.care.pulse.fired(said.spikes[k])
            if vectors:
                number, name, confidence = UNLABELLED, "", 0.0
            elif not self.classes:
                continue  # nothing is known yet: nothing to say
            else:
                number = int(scores.argmax())
                name, probability = self.classes[number], softmax(listed)
                confidence = probability[number]
            self.stats.predictions[name or "vector"] = self.stats.predictions.get(name or "vector", 0) + 1
            if closes and label != UNLABELLED:
                if self.care:
                    self.care.judge(label, number, scores, self.learns)
                if self.teaching.by_reward:
                    self.stats.loss_of(-float(self.teaching.vectors[label][0]))
                elif vectors:
                    self.stats.loss_of(float(np.mean((scores - self.teaching.vectors[label]) ** 2)))
                else:
                    self.stats.judge(self.classes[label], number == label, probability[label])
                self.stats.updates += self.learns
                self.overload.windows += self.learning and not self.learns
            prediction = Prediction(
                stream=self.id, seq=self.stats.published, t_us=t_us, class_=number, label=name, confidence=confidence,
                scores=listed, spikes=said.spikes[k].tolist(), step=t_us // self.dt_us, learning=self.learns,
                updates=self.stats.updates, final=final, arrived_s=arrived_s, target=label,
            )  # fmt: skip
            out.append(prediction)
            self.stats.published += 1
        return out

    @property
    def class_accuracy(self) -> dict[str, float]:
        """Accuracy of each class by the exam (NaN before it was asked for one); without one, test-then-train."""
        if self.care and self.care.exam:
            now = self.care.exam.class_accuracy
            return {name: now.get(k, float("nan")) for k, name in enumerate(self.classes)}
        return dict(self.stats.class_accuracy)

    @property
    def forgetting(self) -> float:
        """Mean over classes of best minus present accuracy."""
        return self.care.exam.forgetting if self.care and self.care.exam else self.stats.forgetting

    def weight_digest(self) -> str:
        """Digest of everything learnt, and of nothing that passes."""
        return weight_digest(self.learner)
