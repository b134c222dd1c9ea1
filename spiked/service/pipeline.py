"""One message, start to end: the file to open first.

::

    bytes on the wire -> events -> steps -> spikes -> learning signal -> weight update -> prediction out
    io.wire              io.binner  learners (one compiled call)                          io.sink

`Pipeline.handle` takes the frames of one message and returns the predictions that it completed. It never raises on
input: a message that cannot be used is counted under its reason. It knows no socket and no clock (the time of arrival
is handed in), so `spiked eval` runs the very same path as the daemon.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiked.io import wire
from spiked.io.binner import Binner
from spiked.io.events import EVENT_DTYPE, Events
from spiked.io.wire import Header, Kind, Message, WireError
from spiked.learners.contract import CLOSE, NO_VALUES, UNLABELLED, Cues, Readouts, Steps
from spiked.learners.fixed import FixedLearner
from spiked.service.build import AnyLearner, binner_spec, build_learner
from spiked.service.config import Config
from spiked.service.config import Stream as StreamConfig
from spiked.service.prediction import Prediction, softmax
from spiked.service.recall import Recall
from spiked.service.stats import StreamStats, WireStats
from spiked.service.targets import FINAL, MAX_PENDING, Interval, Schedule

MAX_STEPS_PER_CALL = 1 << 16
"""A long silence runs in pieces of so many steps: memory stays bounded, whatever a heartbeat says."""
MAX_LEAP_US = 600_000_000
"""A leap of the watermark by more is a broken clock: stream time begins anew there, as with a new epoch."""


_NO_EVENTS = np.empty(0, EVENT_DTYPE)


class Pipeline:
    """All streams of a daemon, each with its own learner."""

    def __init__(self, config: Config) -> None:
        self.streams = {s.id: Stream(s, config.predictions.every_ms) for s in config.stream}
        self.geometries = {name: stream.geometry for name, stream in self.streams.items()}
        self.wire = WireStats()

    def handle(self, frames: Sequence[bytes | memoryview], arrived_s: float = 0.0) -> list[Prediction]:
        """Take one message in.

        Parameters
        ----------
        frames : its frames, as they came.
        arrived_s : when it came, on the caller's monotonic clock; predictions carry it on.
        """
        stream = None
        try:
            message = wire.parse(frames, self.geometries)
            stream = self.streams[message.stream]
            return stream.take(message, arrived_s)
        except WireError as error:
            self.wire.reject(error.stream, error.reason, str(error))
            if error.stream in self.streams:
                self.streams[error.stream].position.rejected += 1
            return []


class Position:
    """Where a stream stands: epoch, next sequence number, watermark."""

    def __init__(self) -> None:
        self.epoch: int | None = None
        self.next_seq = 0
        self.watermark_us = 0
        self.rejected = 0  # messages refused since the last good one: their numbers are no losses

    def follow(self, seq: int) -> int:
        """Take note of a good message's number; returns how many were lost before it."""
        lost = max(0, seq - self.next_seq - self.rejected)
        self.next_seq, self.rejected = seq + 1, 0
        return lost

    def begin_anew(self, epoch: int | None) -> None:
        """Let stream time begin again; with another `epoch`, the numbers too."""
        if epoch is not None:
            self.epoch, self.next_seq = epoch, 0
        self.watermark_us = 0


class Stream:
    """One sensor: its binner, its learner, its targets, and where it stands."""

    def __init__(self, config: StreamConfig, every_ms: float) -> None:
        self.config = config
        self.id = config.id
        spec = binner_spec(config)
        self.dt_us, self.geometry = spec.dt_us, spec.geometry
        self.binner = Binner(spec)
        self.learner: AnyLearner = build_learner(config)
        self.classes = list(config.network.classes)
        window, every = (max(1, round(ms / config.dt_ms)) for ms in (config.learning.window_ms, every_ms))
        self.schedule = Schedule(window, every)
        memory = round(config.learning.memory_ms / config.dt_ms)
        self.recall = Recall(memory + window if memory else 0)  # late by the memory, and its whole window still there
        self.position = Position()
        self.stats = StreamStats(len(self.learner.net.beta))
        self.learning = config.learning.enabled
        self.last_final_us = self.last_close_us = -1
        self._weights_before: dict[int, NDArray] = {}
        self.values: list[NDArray[np.float32]] = []  # target vectors that an interval may still name

    def take(self, message: Message, arrived_s: float) -> list[Prediction]:
        """Take one checked message in; returns the predictions that it completed.

        All that can refuse a message comes first: a refused one changes nothing.
        """
        head, kind = message.header, message.kind
        restarted = self._restarted(message)
        leapt = not restarted and self._leapt(message)
        anew = restarted or leapt
        events, target, label = _NO_EVENTS, None, UNLABELLED
        if kind is Kind.EVENTS:
            events = wire.decode_events(message, self.config.jitter_us)
        if kind is Kind.TARGET:
            target = wire.decode_target(message)
            self._check_target(target, message, anew)
        else:
            self._check_time(message, anew)
        out = self._begin_anew(head, restarted, arrived_s) if anew else []
        self.stats.lost += self.position.follow(head.seq)
        self.stats.messages[kind.name.lower()] += 1
        if target is not None:
            label, name = self._label(target)
            self.stats.targets[name] = self.stats.targets.get(name, 0) + 1
            return out + self.teach(label, head.t_first // self.dt_us, self._end_step(message), arrived_s)
        if self.binner.next_step is None:
            self.binner.start(head.t_first)
        if kind is Kind.RESET:
            self.position.watermark_us = max(self.position.watermark_us, head.t_first)
            return out + self.end_sample(head.t_first, arrived_s)
        self.stats.events += len(events)
        self.position.watermark_us = max(self.position.watermark_us, head.t_last)
        assert self.binner.next_step is not None
        return out + self._run(events, max(head.t_last // self.dt_us, self.binner.next_step), arrived_s)

    def _restarted(self, message: Message) -> bool:
        """Whether the sender began again: another epoch, or numbers from 0."""
        head, position = message.header, self.position
        return head.epoch != position.epoch or (head.seq == 0 and position.next_seq > 0)

    def _leapt(self, message: Message) -> bool:
        """Whether the stream's clock leapt; what is said of a far future is no leap."""
        ahead = message.header.t_first - self.position.watermark_us
        return message.kind is not Kind.TARGET and self.binner.next_step is not None and ahead > MAX_LEAP_US

    def _begin_anew(self, head: Header, restarted: bool, arrived_s: float) -> list[Prediction]:
        """End what was, and let stream time begin again with this message."""
        out = self.end_sample(None, arrived_s)
        if restarted:
            self.schedule.clear()
            self.values.clear()
        else:
            self.schedule.let_go(
                head.t_first // self.dt_us, since=self.binner.next_step
            )  # the time after the leap may be spoken of already
        self.recall.clear()
        self.position.begin_anew(head.epoch if restarted else None)
        self.binner.next_step = None
        self.last_final_us = self.last_close_us = -1
        return out

    def _check_time(self, message: Message, anew: bool) -> None:
        """Refuse a message of events, or a reset, that lies behind the watermark or reaches too far ahead of it."""
        head = message.header
        now_us = head.t_first if anew or self.binner.next_step is None else self.position.watermark_us
        if head.t_first < now_us - self.config.jitter_us and self.config.late == "drop":
            raise WireError(
                "time",
                f"t_first {head.t_first} is {now_us - head.t_first} us behind the watermark; at most "
                f"jitter_us, {self.config.jitter_us}",
                self.id,
            )
        if message.kind is Kind.EVENTS and head.t_last - max(now_us, head.t_first) > MAX_LEAP_US:
            raise WireError(
                "time", f"t_last {head.t_last} is {head.t_last - now_us} us ahead; at most {MAX_LEAP_US}", self.id
            )

    def _end_step(self, message: Message) -> int | None:
        return message.header.t_last // self.dt_us if message.header.t_last else None

    def _run(self, events: Events, end_step: int, arrived_s: float) -> list[Prediction]:
        """Take `events` in and run all steps before `end_step`."""
        out: list[Prediction] = []
        while True:
            assert self.binner.next_step is not None
            steps = self.binner.push(events, min(end_step, self.binner.next_step + MAX_STEPS_PER_CALL))
            if steps.n:
                out += self._learn(steps, arrived_s)
            if self.binner.next_step >= end_step:
                return out
            events = _NO_EVENTS

    def _learn(self, steps: Steps, arrived_s: float) -> list[Prediction]:
        """One compiled call for all steps, and what it said."""
        return self._compute(steps, *self.schedule.cues(steps.first, steps.n), arrived_s)

    def _compute(
        self, steps: Steps, flags: NDArray[np.uint8], labels: NDArray[np.int32], arrived_s: float
    ) -> list[Prediction]:
        began = self.stats.clock()
        said = self.learner.run(steps, Cues(flags, labels, self._values()), self.learning)
        self.stats.ran(steps.n, self.stats.clock() - began)
        self.recall.add(steps)
        return self._publishable(said, steps.first, arrived_s)

    def _values(self) -> NDArray[np.float32]:
        return np.stack(self.values) if self.values else NO_VALUES

    def end_sample(self, t_us: int | None, arrived_s: float) -> list[Prediction]:
        """Dynamics return to rest, at stream time `t_us` or (None) where the stream stands."""
        out: list[Prediction] = []
        if self.binner.next_step is None:
            return out
        if t_us is not None:
            step = t_us // self.dt_us
            out = self._run(_NO_EVENTS, step, arrived_s)
            if step == self.binner.next_step:  # a sample may end within a step
                part = self.binner.cut(t_us)
                if len(part.indices):
                    label = np.array([self.schedule.label_at(step)], np.int32)
                    out += self._compute(part, np.zeros(1, np.uint8), label, arrived_s)
        out += self._conclude(self.schedule.label_at(self.binner.next_step - 1), arrived_s)
        if t_us is not None and t_us % self.dt_us:
            self.schedule.let_go(
                self.binner.next_step + 1
            )  # a target that ends with the same step ended with the sample
        self.learner.reset()
        self.recall.mark_reset()
        return out

    def _conclude(self, label: int, arrived_s: float) -> list[Prediction]:
        """Close what is open where the stream stands, and say so once."""
        assert self.binner.next_step is not None
        now_us = self.binner.next_step * self.dt_us
        if now_us == self.last_final_us:
            return []
        if now_us == self.last_close_us:
            label = UNLABELLED  # this window has taught already
        said = self.learner.conclude(label, self._values(), self.learning)
        return self._publishable(said, self.binner.next_step, arrived_s)

    def teach(self, label: int, first: int, end: int | None, arrived_s: float) -> list[Prediction]:
        """Let class `label` hold from step `first` until `end`, in the past or in the future."""
        now = self.binner.next_step
        out: list[Prediction] = []
        if now is not None and end is not None and end <= now:
            if label != UNLABELLED and self.learning:
                self.recall_window(label, first, end)
            return out
        if now is not None and first <= now:
            on = self.schedule.label_at(now - 1)
            if on != UNLABELLED and (on != label or first == now):
                out = self._conclude(on, arrived_s)
        self.schedule.add(first, end, label)
        return out

    def recall_window(self, label: int, first: int, end: int) -> bool:
        """Learn from steps that have run already, on a side state, as they would have taught then.

        False where they are no longer kept.
        """
        runs = self.recall.spans(first, end)
        window = Interval(first, end, label)
        for steps in runs:
            labels = np.full(steps.n, UNLABELLED, np.int32)
            labels[max(0, first - steps.first) :] = label
            flags = np.zeros(steps.n, np.uint8)
            for at in window.closings(self.schedule.window_steps, steps.first, steps.first + steps.n):
                flags[at - steps.first] = CLOSE
            flags[-1] = CLOSE
            self.learner.recall(steps, Cues(flags, labels, self._values()))
            self.stats.updates += int(np.count_nonzero(flags))
        return bool(runs)

    def _check_target(self, target: wire.Target, message: Message, anew: bool) -> None:
        """Refuse a target that this stream cannot take; changes nothing."""
        network, known = self.config.network, len(self.classes)
        if isinstance(target, np.ndarray):
            if target.shape != (network.outputs,):
                raise WireError(
                    "target", f"vector of {len(target)}; stream {self.id!r} has outputs = {network.outputs}", self.id
                )
        elif isinstance(target, float):
            raise WireError("target", "a reward, but no stream learns from rewards in this version", self.id)
        elif isinstance(target, str):
            self._check_name(target)
        elif not UNLABELLED <= target < known:
            allowed = (
                f"-1 to {known - 1}"
                if known
                else "-1; it predicts vectors"
                if network.outputs
                else "none known; teach by name"
            )
            raise WireError("target", f"class {target} of stream {self.id!r}; {allowed}", self.id)
        end, now = self._end_step(message), None if anew else self.binner.next_step
        if now is not None and end is not None and end <= now:
            unlabelled = isinstance(target, int) and target == UNLABELLED
            if self.learning and not unlabelled and not self.recall.holds(end):
                raise WireError("time", f"target until step {end}, which is no longer remembered", self.id)
        elif len(self.schedule) >= MAX_PENDING and not anew:
            raise WireError("target", f"{MAX_PENDING} targets wait for their time already", self.id)

    def _label(self, target: wire.Target) -> tuple[int, str]:
        """Number and name of a checked target's class; a name not seen before is a new class."""
        if isinstance(target, np.ndarray):
            self._forget_values()
            self.values.append(target.astype(np.float32))
            return len(self.values) - 1, "vector"
        if isinstance(target, str):
            return self.class_number(target), target
        number = int(target)
        return number, self.classes[number] if number >= 0 else "unlabelled"

    def _forget_values(self) -> None:
        """Let go of target vectors that no interval names any more."""
        if len(self.values) < 2 * len(self.schedule) + 64:
            return
        used = sorted({i.label for i in self.schedule.intervals if i.label != UNLABELLED})
        for interval in self.schedule.intervals:
            if interval.label != UNLABELLED:
                interval.label = used.index(interval.label)
        self.values = [self.values[k] for k in used]

    def _check_name(self, name: str) -> None:
        network = self.config.network
        if name in self.classes:
            return
        if network.outputs:
            raise WireError("target", f"class {name!r}, but stream {self.id!r} predicts vectors", self.id)
        if len(self.classes) >= network.max_classes:
            raise WireError("target", f"class {name!r} is one more than max_classes, {network.max_classes}", self.id)

    def class_number(self, name: str) -> int:
        """Number of a class; one not seen before is made room for."""
        if name in self.classes:
            return self.classes.index(name)
        self._check_name(name)
        self.classes.append(name)
        if len(self.classes) > self.learner.n_out:
            self.learner.grow(len(self.classes))
        return len(self.classes) - 1

    def _publishable(self, said: Readouts, first: int, arrived_s: float) -> list[Prediction]:
        """Predictions from a run's read-outs; what a window taught is taken into the running accuracy."""
        out = []
        for k in range(len(said.at)):
            t_us = (first + int(said.at[k]) + 1) * self.dt_us
            closes = bool(said.flags[k] & CLOSE)
            final = bool(said.flags[k] & FINAL) or int(said.at[k]) < 0  # a conclusion is said between two steps
            label = int(said.labels[k])
            scores = said.scores[k]
            if closes:
                self.last_close_us = t_us
            if final:
                self.last_final_us = t_us
            self.stats.spikes += said.spikes[k]
            if self.config.network.outputs:
                number, name, confidence = UNLABELLED, "", 0.0
            elif not self.classes:
                continue  # nothing is known yet: nothing to say
            else:
                probabilities = softmax(scores)
                number = int(np.argmax(scores))
                name, confidence = self.classes[number], float(probabilities[number])
            self.stats.predictions[name or "vector"] = self.stats.predictions.get(name or "vector", 0) + 1
            if closes and label != UNLABELLED:
                if self.config.network.outputs:
                    self.stats.loss_of(float(np.mean((scores - self.values[label]) ** 2)))
                else:
                    self.stats.judge(self.classes[label], number == label, float(probabilities[label]))
                self.stats.updates += self.learning
            prediction = Prediction(
                stream=self.id, seq=self.stats.published, t_us=t_us, class_=number, label=name, confidence=confidence,
                scores=scores.tolist(), spikes=said.spikes[k].tolist(), step=t_us // self.dt_us, learning=self.learning,
                updates=self.stats.updates, final=final, arrived_s=arrived_s, target=label,
            )  # fmt: skip
            out.append(prediction)
            self.stats.published += 1
        return out

    def arrays(self) -> dict[str, NDArray]:
        """Copies of all arrays that the future depends on, for a checkpoint."""
        parts = {"learner": self.learner.state(), "binner": self.binner.state(), "recall": self.recall.state()}
        arrays = {f"{part}.{name}": array for part, state in parts.items() for name, array in state.items()}
        return arrays | {"values": self._values().copy()}

    def record(self) -> dict[str, Any]:
        """Everything else that the future depends on, as plain data."""
        p = self.position
        return {
            "classes": list(self.classes), "targets": self.schedule.state(), "epoch": p.epoch, "next_seq": p.next_seq,
            "watermark_us": p.watermark_us, "rejected": p.rejected, "last_final_us": self.last_final_us,
            "last_close_us": self.last_close_us, "learning": self.learning, "rate": self.learner.rate,
            "stats": self.stats.state(),
        }  # fmt: skip

    def load(self, arrays: dict[str, NDArray], record: dict[str, Any]) -> None:
        """Continue from a checkpoint, bit for bit; raises ValueError, and changes nothing, where it does not fit."""
        learner, classes = self._learner(arrays, record, self.config.network.classes)
        binner = Binner(self.binner.spec)
        binner.load_state(_part(arrays, "binner"))  # what does not fit has raised by now, and nothing has changed
        self.learner, self.classes, self.binner = learner, classes, binner
        self.recall.load_state(_part(arrays, "recall"))
        self.values = list(arrays["values"])
        self.schedule.load_state(record["targets"])
        p = self.position
        p.epoch, p.next_seq, p.watermark_us = record["epoch"], record["next_seq"], record["watermark_us"]
        p.rejected = record["rejected"]
        self.last_final_us, self.last_close_us = record["last_final_us"], record["last_close_us"]
        self.learning, self.learner.rate = record["learning"], record["rate"]
        self.stats.load_state(record["stats"])

    def roll_back(self, arrays: dict[str, NDArray], record: dict[str, Any]) -> None:
        """Take the knowledge of a checkpoint, and stay where the stream is, at rest.

        Classes that came since are known by name only, and nothing is known of them.
        """
        learner, classes = self._learner(arrays, record, self.classes)
        learner.reset()
        learner.rate = self.learner.rate
        self.learner, self.classes = learner, classes
        self.schedule.clear()  # its labels are numbers of the classes before
        self.recall.mark_reset()
        self._weights_before.clear()

    def _learner(
        self, arrays: dict[str, NDArray], record: dict[str, Any], classes: list[str]
    ) -> tuple[AnyLearner, list[str]]:
        """Build the learner of a checkpoint, with room for those of `classes` that it does not know."""
        known = list(record["classes"])
        learner = build_learner(self.config, len(known))
        learner.load_state(_part(arrays, "learner"))
        known += [name for name in classes if name not in known]
        if len(known) > learner.n_out:
            learner.grow(len(known))
        return learner, known

    def norms(self) -> list[tuple[float, float]]:
        """Norm of each layer's weights, and of their change since the last call."""
        out = []
        layers = len(self.learner.net.beta) + isinstance(self.learner, FixedLearner)
        for layer in range(layers):
            weight = self.learner.weights(layer)
            before = self._weights_before.get(layer)
            moved = 0.0 if before is None or before.shape != weight.shape else float(np.linalg.norm(weight - before))
            self._weights_before[layer] = weight
            out.append((float(np.linalg.norm(weight)), moved))
        return out

    def weight_digest(self) -> str:
        """Digest of everything learnt, and of nothing that passes: it stays while nothing is learnt."""
        crc = 0
        for layer in range(len(self.learner.net.beta)):
            crc = zlib.crc32(self.learner.weights(layer).tobytes(), crc)
        for name, array in sorted(self.learner.state().items()):
            if name in ("n_out", "square") or name.startswith("head."):
                crc = zlib.crc32(array.tobytes(), zlib.crc32(name.encode(), crc))
        return f"{crc:08x}"


def _part(arrays: dict[str, NDArray], name: str) -> dict[str, NDArray]:
    return {k[len(name) + 1 :]: v for k, v in arrays.items() if k.startswith(name + ".")}
