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
from spiked.io.wire import Kind, Message, WireError
from spiked.learners.contract import CLOSE, NO_VALUES, UNLABELLED, Cues, Readouts, Steps
from spiked.learners.fixed import FixedLearner
from spiked.service.build import AnyLearner, binner_spec, build_learner
from spiked.service.config import Config
from spiked.service.config import Stream as StreamConfig
from spiked.service.prediction import Prediction, softmax
from spiked.service.recall import Recall
from spiked.service.stats import StreamStats, WireStats
from spiked.service.targets import MAX_PENDING, Schedule

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
        self.recall = Recall(round(config.learning.memory_ms / config.dt_ms))
        self.position = Position()
        self.stats = StreamStats(len(self.learner.net.beta))
        self.learning = config.learning.enabled
        self.last_final_us = -1
        self._weights_before: dict[int, NDArray] = {}
        self.values: list[NDArray[np.float32]] = []  # target vectors that an interval may still name

    def take(self, message: Message, arrived_s: float) -> list[Prediction]:
        """Take one checked message in; returns the predictions that it completed."""
        head = message.header
        if message.kind is Kind.EVENTS:
            events = wire.decode_events(message, self.config.jitter_us)
            out = self._arrive(message, arrived_s)
            self.stats.events += len(events)
            self.position.watermark_us = max(self.position.watermark_us, head.t_last)
            end_step = max(head.t_last // self.dt_us, self.binner.next_step or 0)
            return out + self._run(events, end_step, arrived_s)
        if message.kind is Kind.TARGET:
            target = wire.decode_target(message)
            label, name = self._label(target, message)
            out = self._arrive(message, arrived_s)
            self.stats.targets[name] = self.stats.targets.get(name, 0) + 1
            end = head.t_last // self.dt_us if head.t_last else None
            return out + self.teach(label, head.t_first // self.dt_us, end, arrived_s)
        out = self._arrive(message, arrived_s)
        self.position.watermark_us = max(self.position.watermark_us, head.t_first)
        return out + self.end_sample(head.t_first, arrived_s)

    def _arrive(self, message: Message, arrived_s: float) -> list[Prediction]:
        """Check the message's place in its stream, and begin stream time anew where it says so."""
        head, position = message.header, self.position
        out: list[Prediction] = []
        leap = head.t_first - position.watermark_us > MAX_LEAP_US and self.binner.next_step is not None
        behind = head.t_first < position.watermark_us - self.config.jitter_us
        restarted = head.epoch != position.epoch or (head.seq == 0 and position.next_seq > 0)
        if restarted or (leap and message.kind is not Kind.TARGET):
            out = self.end_sample(None, arrived_s)
            self.schedule.clear()
            self.recall.clear()
            self.values.clear()
            if restarted:
                position.epoch, position.next_seq, position.rejected = head.epoch, 0, 0
            position.watermark_us = 0
            self.binner.next_step = None
        elif behind and message.kind is not Kind.TARGET and self.config.late == "drop":
            raise WireError(
                "time",
                f"t_first {head.t_first} is {position.watermark_us - head.t_first} us behind the watermark; at most "
                f"jitter_us, {self.config.jitter_us}",
                self.id,
            )
        if self.binner.next_step is None and message.kind is not Kind.TARGET:
            self.binner.start(head.t_first)
        self.stats.lost += position.follow(head.seq)
        self.stats.messages[message.kind.name.lower()] += 1
        return out

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
        flags, labels = self.schedule.cues(steps.first, steps.n)
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
            if self.binner.waiting:  # a sample may end within a step
                out += self._run(_NO_EVENTS, step + 1, arrived_s)
                self.binner.next_step = step
        now = self.binner.next_step
        if now * self.dt_us != self.last_final_us:
            label = self.schedule.label_at(now - 1)
            said = self.learner.conclude(label, self._values(), self.learning)
            out += self._publishable(said, now, arrived_s)
        self.learner.reset()
        self.recall.mark_reset()
        return out

    def teach(self, label: int, first: int, end: int | None, arrived_s: float) -> list[Prediction]:
        """Let class `label` hold from step `first` until `end`, in the past or in the future."""
        now = self.binner.next_step
        out: list[Prediction] = []
        if now is not None and end is not None and end <= now:
            if label != UNLABELLED and self.learning and not self.recall_window(label, first, end):
                raise WireError("time", f"target until step {end}, which is no longer remembered", self.id)
            return out
        if now is not None and first < now:
            on = self.schedule.label_at(now - 1)
            if on != UNLABELLED and on != label:
                out = self._publishable(self.learner.conclude(on, self._values(), self.learning), now, arrived_s)
        if len(self.schedule) >= MAX_PENDING:
            raise WireError("target", f"{MAX_PENDING} targets wait for their time already", self.id)
        self.schedule.add(first, end, label)
        return out

    def recall_window(self, label: int, first: int, end: int) -> bool:
        """Learn from steps that have run already, on a side state; False where they are no longer kept."""
        steps = self.recall.span(first, end)
        if steps is None:
            return False
        labels = np.full(steps.n, UNLABELLED, np.int32)
        labels[max(0, first - steps.first) :] = label
        flags = np.zeros(steps.n, np.uint8)
        flags[-1] = CLOSE
        self.learner.recall(steps, Cues(flags, labels, self._values()))
        self.stats.updates += 1
        return True

    def _label(self, target: wire.Target, message: Message) -> tuple[int, str]:
        """Number and name of a target's class; a name not seen before is a new class."""
        outputs = self.config.network.outputs
        if isinstance(target, np.ndarray):
            if target.shape != (outputs,):
                raise WireError("target", f"vector of {len(target)}; stream {self.id!r} has outputs = {outputs}", self.id)
            self._forget_values()
            self.values.append(target.astype(np.float32))
            return len(self.values) - 1, "vector"
        if isinstance(target, float):
            raise WireError("target", "a reward, but no stream learns from rewards in this version", self.id)
        if isinstance(target, str):
            return self.class_number(target), target
        if not UNLABELLED <= target < len(self.classes):
            known = f"-1 to {len(self.classes) - 1}" if self.classes else "none known; teach by name"
            raise WireError("target", f"class {target} of stream {self.id!r}; {known}", self.id)
        return target, self.classes[target] if target >= 0 else "unlabelled"

    def _forget_values(self) -> None:
        if len(self.values) >= MAX_PENDING and not len(self.schedule):
            self.values.clear()
        if len(self.values) >= 2 * MAX_PENDING:
            raise WireError("target", f"{len(self.values)} target vectors wait for their time already", self.id)

    def class_number(self, name: str) -> int:
        """Number of a class; one not seen before is made room for."""
        if name in self.classes:
            return self.classes.index(name)
        network = self.config.network
        if network.outputs:
            raise WireError("target", f"class {name!r}, but stream {self.id!r} predicts vectors", self.id)
        if len(self.classes) >= network.max_classes:
            raise WireError("target", f"class {name!r} is one more than max_classes, {network.max_classes}", self.id)
        self.classes.append(name)
        if len(self.classes) > self.learner.n_out:
            self.learner.grow(len(self.classes))
        return len(self.classes) - 1

    def _publishable(self, said: Readouts, first: int, arrived_s: float) -> list[Prediction]:
        """Predictions from a run's read-outs; what a window taught is taken into the running accuracy."""
        out = []
        for k in range(len(said.at)):
            t_us = (first + int(said.at[k]) + 1) * self.dt_us
            final = bool(said.flags[k] & CLOSE)
            label = int(said.labels[k])
            scores = said.scores[k]
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
            if final and label != UNLABELLED:
                if self.config.network.outputs:
                    self.stats.loss_of(float(np.mean((scores - self.values[label]) ** 2)))
                else:
                    self.stats.judge(self.classes[label], number == label, float(probabilities[label]))
                self.stats.updates += self.learning
            out.append(
                Prediction(
                    stream=self.id, seq=self.stats.published, t_us=t_us, class_=number, label=name,
                    confidence=confidence, scores=scores.tolist(), spikes=said.spikes[k].tolist(),
                    step=t_us // self.dt_us, learning=self.learning, updates=self.stats.updates, final=final,
                    arrived_s=arrived_s, target=label,
                )  # fmt: skip
            )
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
            "classes": self.classes, "targets": self.schedule.state(), "epoch": p.epoch, "next_seq": p.next_seq,
            "watermark_us": p.watermark_us, "rejected": p.rejected, "last_final_us": self.last_final_us,
            "learning": self.learning, "rate": self.learner.rate, "stats": self.stats.state(),
        }  # fmt: skip

    def load(self, arrays: dict[str, NDArray], record: dict[str, Any]) -> None:
        """Continue from a checkpoint, bit for bit."""

        def part(name: str) -> dict[str, NDArray]:
            return {k[len(name) + 1 :]: v for k, v in arrays.items() if k.startswith(name + ".")}

        self.learner.load_state(part("learner"))
        self.binner.load_state(part("binner"))
        self.recall.load_state(part("recall"))
        self.values = list(arrays["values"])
        self.classes = list(record["classes"])
        self.schedule.load_state(record["targets"])
        p = self.position
        p.epoch, p.next_seq, p.watermark_us = record["epoch"], record["next_seq"], record["watermark_us"]
        p.rejected, self.last_final_us = record["rejected"], record["last_final_us"]
        self.learning, self.learner.rate = record["learning"], record["rate"]
        self.stats.load_state(record["stats"])

    def roll_back(self, arrays: dict[str, NDArray], record: dict[str, Any]) -> None:
        """Take the knowledge of a checkpoint, and stay where the stream is, at rest.

        Classes that came since are known by name only, and nothing is known of them.
        """
        learner = build_learner(self.config)
        prefix = "learner."
        learner.load_state({k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)})
        learner.reset()
        known = list(record["classes"])
        newer = [name for name in self.classes if name not in known]
        if newer:
            learner.grow(len(known) + len(newer))
        self.learner, self.classes = learner, known + newer
        self.schedule.clear()  # its labels are numbers of the classes before
        self.recall.mark_reset()
        self._weights_before.clear()

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
        """Digest of everything learnt: equal digests, equal learners."""
        crc = 0
        for name, array in sorted(self.learner.state().items()):
            crc = zlib.crc32(array.tobytes(), zlib.crc32(name.encode(), crc))
        return f"{crc:08x}"

