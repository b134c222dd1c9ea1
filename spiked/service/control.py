"""The control socket: JSON requests in, JSON answers out. A bad request gets an error, and the socket lives on."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import zmq

import spiked
from spiked.io.endpoint import bind
from spiked.io.gate import Gate, user_of
from spiked.io.keys import Keyring
from spiked.io.sink import Sink
from spiked.io.wire import WireError
from spiked.service.checkpoint_writer import CheckpointWriter
from spiked.service.checkpoints import CheckpointError, CheckpointStore
from spiked.service.knowledge import KnowledgeError, roll_back
from spiked.service.metrics import DaemonStats
from spiked.service.overload import NAMES
from spiked.service.pipeline import Pipeline, Stream
from spiked.service.prediction import Prediction

log = logging.getLogger("spiked.control")

MAX_REQUEST_BYTES = 65_536
MAX_WAITING = 2
"""Requests that wait in the socket, for each client."""
CHECKPOINT_WAIT_S = 8.0


class RequestError(ValueError):
    """A request that cannot be served: one line with the key, the value and what is allowed."""


class Served(Protocol):
    """What the requests act on: the daemon, as far as they see it."""

    pipeline: Pipeline
    stats: DaemonStats
    store: CheckpointStore
    writer: CheckpointWriter
    sink: Sink
    ready: bool
    stopping: str

    def checkpoint(self) -> None:
        """Write a checkpoint in the background."""
        ...

    def publish(self, predictions: list[Prediction]) -> None:
        """Send predictions out."""
        ...


class Control:
    """Serves one request at a time. One thread owns it.

    Parameters
    ----------
    context : of the process.
    endpoint : where to bind.
    daemon : what the requests act on.
    gate, keyring : look after the socket's connections, and say who may ask.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, daemon: Served, gate: Gate | None = None,
        keyring: Keyring | None = None,
    ) -> None:  # fmt: skip
        self.daemon, self._gate, self._keyring = daemon, gate, keyring
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 500)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
        self.socket.setsockopt(zmq.RCVHWM, MAX_WAITING)
        bind(self.socket, endpoint, gate)
        self._waiting: tuple[int, float] | None = None  # a checkpoint asked for: settled writes before it, deadline
        self._verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status": self._status, "rollback": self._rollback, "freeze": self._freeze, "unfreeze": self._unfreeze,
            "set": self._set, "reset": self._reset, "teach": self._teach, "stop": self._stop,
        }  # fmt: skip

    def serve(self) -> None:
        """Answer one request, so that many do not keep messages waiting.

        A request for a checkpoint is answered when it is on the disk, without stalling a step.
        """
        if self._waiting is not None and not self._checkpoint_done():
            return
        try:
            raw = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.ZMQError:
            return
        if self._gate is not None:
            self._gate.heard(raw[0])
        if self._keyring is not None and "control" not in self._keyring.roles.get(user_of(raw[0]), ()):
            self._send({"ok": False, "error": "your key has no role control any more"})
        elif (answer := self._answer([frame.bytes for frame in raw])) is not None:
            self._send(answer)

    def _send(self, answer: dict[str, Any]) -> None:
        self.socket.send(msgspec.json.encode(answer))

    def _answer(self, frames: list[bytes]) -> dict[str, Any] | None:
        try:
            request = _parse(b"".join(frames))
            verb = request.get("do")
            if verb == "checkpoint":
                _known(request, ())
                writer = self.daemon.writer
                self._waiting = writer.successes + writer.failures, time.monotonic() + CHECKPOINT_WAIT_S
                self.daemon.checkpoint()
                return None
            if not isinstance(verb, str) or verb not in self._verbs:
                raise RequestError(f"do: {verb!r}; allowed: checkpoint, {', '.join(self._verbs)}")
            return {"ok": True, **self._verbs[verb](request)}
        except (RequestError, KnowledgeError, CheckpointError, WireError) as error:
            return {"ok": False, "error": str(error)}
        except Exception:  # a daemon does not die of what somebody asks
            log.exception("a request could not be served: this is a fault of spiked")
            return {"ok": False, "error": "a fault of the daemon, see the log"}

    def _checkpoint_done(self) -> bool:
        assert self._waiting is not None
        writer, (before, deadline) = self.daemon.writer, self._waiting
        if writer.successes + writer.failures == before and time.monotonic() < deadline:
            return False
        self._waiting = None
        if writer.failures and writer.last_error:
            self._send({"ok": False, "error": writer.last_error})
        elif writer.last is None or writer.successes + writer.failures == before:
            self._send({"ok": False, "error": f"not written within {CHECKPOINT_WAIT_S:.0f} s"})
        else:
            self._send(
                {"ok": True, "name": writer.last.name, "bytes": writer.last.bytes, "seconds": writer.last.seconds}
            )
        return True

    def _streams(self, request: dict[str, Any]) -> list[Stream]:
        """The stream that a request names, or all."""
        streams = self.daemon.pipeline.streams
        name = request.get("stream")
        if name is None:
            return list(streams.values())
        if not isinstance(name, str) or name not in streams:
            raise RequestError(f"stream: {name!r}; allowed: {', '.join(streams)}")
        return [streams[name]]

    def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        _known(request, ("stream",))
        d = self.daemon
        try:
            names = d.store.names()
        except CheckpointError:  # a disk that has gone says so in the log; the status of the rest is wanted now
            names = []
        return {
            "version": spiked.__version__,
            "uptime_s": round(time.time() - d.stats.started, 3),
            "ready": d.ready,
            "subscribers": d.sink.subscribers,
            "checkpoints": names,
            "rejected": {f"{stream}/{reason}": n for (stream, reason), n in d.pipeline.wire.rejected.items()},
            "last_refusal": d.pipeline.wire.last_refusal or None,
            "connections": d.stats.connections(),
            "connections_refused": {f"{socket}/{reason}": n for (socket, reason), n in d.stats.refused.items() if n},
            "streams": {s.id: _stream_status(s) for s in self._streams(request)},
        }

    def _rollback(self, request: dict[str, Any]) -> dict[str, Any]:
        _known(request, ("stream", "name"))
        d = self.daemon
        name = request.get("name")
        if name is not None and name not in d.store.names():
            raise RequestError(f"name: {name!r}; allowed: {', '.join(d.store.names()) or 'none written yet'}")
        loaded = d.store.load(name) if name is not None else d.store.load_good()
        if loaded is None:
            raise RequestError("there is no checkpoint to go back to")
        for stream in self._streams(request):
            roll_back(d.pipeline, stream.id, loaded.arrays, loaded.record)
            key = stream.id, "request"
            d.stats.rollbacks[key] = d.stats.rollbacks.get(key, 0) + 1
        d.checkpoint()  # else a restart would undo it: the newest checkpoint is what it continues from
        return {"name": loaded.name, "good": loaded.record.get("good", True)}

    def _freeze(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._learn(request, False)

    def _unfreeze(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._learn(request, True)

    def _learn(self, request: dict[str, Any], learning: bool) -> dict[str, Any]:
        _known(request, ("stream",))
        for stream in self._streams(request):
            _let_learn(stream, learning)
        return {"learning": learning}

    def _set(self, request: dict[str, Any]) -> dict[str, Any]:
        _known(request, ("stream", "rate", "learning"))
        rate, learning = request.get("rate"), request.get("learning")
        if rate is None and learning is None:
            raise RequestError("nothing to set; allowed: rate (a number >= 0), learning (true or false)")
        if rate is not None and (
            isinstance(rate, bool) or not isinstance(rate, (int, float)) or not (0 <= rate <= sys.float_info.max)
        ):
            raise RequestError(f"rate: {rate!r}; a number >= 0")
        if learning is not None and not isinstance(learning, bool):
            raise RequestError(f"learning: {learning!r}; true or false")
        for stream in self._streams(request):
            if rate is not None:
                stream.learner.rate = float(rate)
            if learning is not None:
                _let_learn(stream, learning)
        return {}

    def _reset(self, request: dict[str, Any]) -> dict[str, Any]:
        _known(request, ("stream",))
        for stream in self._streams(request):
            self.daemon.publish(stream.end_sample(None, time.monotonic()))
        return {}

    def _teach(self, request: dict[str, Any]) -> dict[str, Any]:
        _known(request, ("stream", "class", "ms"))
        streams = self._streams(request)
        if len(streams) != 1:
            raise RequestError(f"stream: none named; allowed: {', '.join(s.id for s in streams)}")
        stream = streams[0]
        ms = request.get("ms", stream.config.learning.window_ms)
        what: Any = request.get("class")
        if isinstance(ms, bool) or not isinstance(ms, (int, float)) or not 0 < ms <= stream.config.learning.memory_ms:
            raise RequestError(f"ms: {ms!r}; more than 0, up to learning.memory_ms, {stream.config.learning.memory_ms}")
        known = isinstance(what, int) and not isinstance(what, bool) and 0 <= what < len(stream.classes)
        if not known and not (isinstance(what, str) and 1 <= len(what.encode()) <= 64 and what.isprintable()):
            raise RequestError(f"class: {what!r}; a name of 1-64 bytes, or a number below {len(stream.classes)}")
        now = stream.binner.next_step
        if now is None:
            raise RequestError(f"stream {stream.id!r} has shown nothing yet")
        steps = max(1, round(ms / stream.config.dt_ms))
        if not stream.recall.holds(now):
            raise RequestError(f"stream {stream.id!r} has shown nothing in the last {ms} ms")
        label, name = stream.number(what)
        stream.teach_late(label, now - steps, now)
        return {"class": label, "label": name, "updates": stream.stats.updates}

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        _known(request, ())
        self.daemon.stopping = "control request"
        return {}

    def close(self) -> None:
        """Close the socket."""
        if self._gate is not None:
            self._gate.detach()
        self.socket.close()


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"not a JSON object: {error}") from None


def _known(request: dict[str, Any], keys: tuple[str, ...]) -> None:
    for key in request:
        if key != "do" and key not in keys:
            raise RequestError(f"{key}: unknown key of {request.get('do')!r}; allowed: {', '.join(keys) or 'none'}")


def _let_learn(stream: Stream, learning: bool) -> None:
    if stream.care:
        stream.care.learning_set(stream, learning)
    stream.learning = learning


def _stream_status(stream: Stream) -> dict[str, Any]:
    s, p = stream.stats, stream.position
    accuracy = None if math.isnan(s.accuracy) else round(s.accuracy, 4)
    return {
        "epoch": p.epoch, "restarts": p.restarts, "next_seq": p.next_seq, "watermark_us": p.watermark_us,
        "step": stream.binner.next_step,
        "classes": stream.classes, "learning": stream.learning, "rate": stream.learner.rate, "accuracy": accuracy,
        "events": s.events, "steps": s.steps, "updates": s.updates, "predictions": s.published, "lost": s.lost,
        "targets_waiting": len(stream.schedule), "events_waiting": stream.binner.waiting,
        "overload": NAMES[stream.overload.level], "weights_crc": stream.weight_digest(),
        "forgetting": round(stream.forgetting, 4),
        "care": stream.care.summary(stream.classes) if stream.care else None,
    }  # fmt: skip
