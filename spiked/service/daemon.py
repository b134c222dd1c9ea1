"""The daemon: start, loop, stop. `pipeline` is what happens to one message; this is everything around it.

One thread owns the sockets and runs the streams. Beside it, HTTP answers scrapes and one thread writes checkpoints.
Signal handlers only set a flag and write one byte to a descriptor that the poller watches: a signal does not
interrupt a ZeroMQ poll.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import zmq
from prometheus_client import CollectorRegistry, ProcessCollector

from spiked.io.sink import Sink
from spiked.io.source import Source
from spiked.learners.jit import cache_is_cold
from spiked.service.checkpoint_writer import CheckpointWriter
from spiked.service.checkpoints import CheckpointStore
from spiked.service.compiling import ends_in_time, told_to_the_manager
from spiked.service.config import Config
from spiked.service.control import Control
from spiked.service.http import HttpServer
from spiked.service.knowledge import Absent, absent_streams, capture, restore
from spiked.service.log import Decades
from spiked.service.metrics import DaemonStats, SpikedCollector
from spiked.service.notify import LifeSigns, notify
from spiked.service.pipeline import Pipeline
from spiked.service.prediction import Prediction
from spiked.service.reload import reload
from spiked.service.security import SMALL_BYTES, ingest_gate, open_door, queue_length
from spiked.service.warmup import give_back, warm_up

log = logging.getLogger("spiked.daemon")

BATCH_MESSAGES = 64
"""Messages taken before control and timers get their turn."""
POLL_MS = 200
STALL_S = 30.0
"""A daemon that has made no progress for so long is not healthy."""
STOP_S = 1.5
"""What stopping may take for the last checkpoint."""


class StateDirError(OSError):
    """A state directory that cannot be used."""


class _StoppedEarly(KeyboardInterrupt):
    """A signal came before there was anything to finish."""


class Daemon:
    """One running daemon.

    Parameters
    ----------
    config : a checked configuration.
    path : the file that it was read from, and is read from again on SIGHUP.
    """

    def __init__(self, config: Config, path: Path | None = None) -> None:
        self.config, self.path = config, path
        self.stats = DaemonStats()
        self.stopping = ""
        self.reload_asked = False
        self.next_checkpoint = float("inf")
        self.ready = False
        self.pipeline: Pipeline
        self.writer: CheckpointWriter
        self.store: CheckpointStore
        self._absent: Absent | None = None
        self._life: LifeSigns
        self._decades = Decades()

    def run(self) -> int:
        """Serve until a signal or a ``stop`` request; returns the exit code."""
        with contextlib.suppress(_StoppedEarly), contextlib.ExitStack() as stack:
            wake = stack.enter_context(_signals(self))
            stack.enter_context(_lock(Path(self.config.daemon.state_dir)))
            self._open(stack, wake)
            self._loop(wake)
            notify("STOPPING=1")
            log.info("stopping: %s", self.stopping)
            return 0 if self._last_checkpoint() else 1
        return 0

    def _open(self, stack: contextlib.ExitStack, wake: socket.socket) -> None:
        """Bring everything up, in the order in which it can fail cheaply."""
        c = self.config
        registry = CollectorRegistry()
        context = zmq.Context()
        stack.callback(context.term)
        self.door = door = open_door(c, context, self.stats.refused)
        stack.callback(door.close)
        self.stats.connections = door.connections
        http = HttpServer(
            c.metrics.host,
            c.metrics.port,
            registry,
            self._healthy,
            self._is_ready,
            c.metrics.max_connections,
            door.count,
        )
        stack.callback(http.close)
        limit = int(c.ingest.max_message_mb * 1e6)
        ids, gate = [s.id for s in c.stream], ingest_gate(door, c.ingest)
        self.source = Source(context, c.ingest.endpoint, c.ingest.mode, ids, limit, queue_length(c.ingest), gate)
        stack.callback(self.source.close)
        gate = door.gate("predictions", c.predictions.max_connections, SMALL_BYTES, always=True)
        self.sink = Sink(context, c.predictions.endpoint, c.predictions.queue_messages, gate)
        stack.callback(self.sink.close)
        self.pipeline = Pipeline(c)
        self.pipeline.keyring = door.keyring
        gate = door.gate("control", c.control.max_connections, SMALL_BYTES, always=True)
        self.control = Control(context, c.control.endpoint, self, gate, door.keyring)
        stack.callback(self.control.close)
        self.store = CheckpointStore(Path(c.daemon.state_dir) / "checkpoints", c.checkpoint.keep)
        self.writer = CheckpointWriter(self.store)
        stack.callback(self.writer.close)
        if cache_is_cold():
            log.info("compiling the kernels: some 10 s, at the first start only")
        began = time.perf_counter()
        with told_to_the_manager(), ends_in_time(wake, STOP_S):
            warm_up(c)
        self.stats.compile_seconds = time.perf_counter() - began
        loaded = self.store.load()
        if loaded is not None:
            restore(self.pipeline, loaded.arrays, loaded.record)
            self.stats.checkpoint_time = time.time() - (self.store.age_s())
            log.info("continuing from checkpoint %s", loaded.name)
            self._absent = absent_streams(self.pipeline, loaded.arrays, loaded.record)
            for name in self._absent.streams:
                log.warning("stream %r of the checkpoint is not configured; what it learnt is kept as it is", name)
            for name in self.pipeline.streams.keys() - loaded.record["streams"].keys():
                log.info("stream %r is new here: it starts from nothing", name)
        else:
            log.info("no checkpoint in %s: starting from nothing", self.store.directory)
        registry.register(SpikedCollector(self.pipeline, self.stats))
        ProcessCollector(registry=registry)
        give_back()
        gc.freeze()  # what lives now lives on: collections need not look at it again
        streams = list(self.pipeline.streams.values())
        self._life = LifeSigns(lambda: sum(sum(s.stats.messages.values()) for s in streams), len(streams))
        self.stats.progress_s = time.monotonic()
        self.ready = True
        notify("READY=1", "STATUS=ready")
        log.info(
            "ready: events to %s, predictions from %s, control at %s, http://%s:%d; kernels in %.1f s",
            c.ingest.endpoint, c.predictions.endpoint, c.control.endpoint, c.metrics.host, http.port,
            self.stats.compile_seconds,
        )  # fmt: skip
        for name, stream in self.pipeline.streams.items():
            if not stream.classes and not stream.config.network.outputs:
                log.info("stream %r knows no class yet: predictions begin when it is taught one by name", name)

    def _loop(self, wake: socket.socket) -> None:
        poller = zmq.Poller()
        for item in (self.source.socket, self.sink.socket, self.control.socket, wake):
            poller.register(item, zmq.POLLIN)
        self.next_checkpoint = time.monotonic() + self.config.checkpoint.every_s
        while not self.stopping:
            ready = dict(poller.poll(POLL_MS))
            now = time.monotonic()
            if wake in ready or wake.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    wake.recv(64)
            if self.source.socket in ready:  # first: a prediction is waited for
                self._take_messages()
            else:
                self._progressed(now)
            if self.sink.socket in ready:
                self.sink.follow_subscriptions()
            self.control.serve()
            self._follow_writer()
            if self.reload_asked:
                self.reload_asked = False
                reload(self)
                self.door.reload()
            if now >= self.next_checkpoint:
                self.next_checkpoint = now + self.config.checkpoint.every_s
                self.checkpoint()

    def _progressed(self, now_s: float) -> None:
        """Nothing waited, or a message was settled: this alone is what the watchdog and ``/healthz`` call alive."""
        self.stats.progress_s = now_s
        self._life.progress(now_s)

    def _take_messages(self) -> None:
        """Take waiting messages, up to a batch."""
        for _ in range(BATCH_MESSAGES):
            frames = self.source.receive()
            if frames is None or self.stopping:
                return
            arrived = time.monotonic()
            before = self.pipeline.wire.refused
            try:
                predictions = self.pipeline.handle(frames, arrived, self.source.user)
            except Exception:  # a fault of ours must not take the other streams down
                self.pipeline.wire.reject("unknown", "internal", "a fault of the daemon, see the log")
                log.exception("a message could not be handled: this is a fault of spiked")
                continue
            self.publish(predictions)
            self._progressed(arrived)
            if self.pipeline.wire.refused != before:
                key = self.pipeline.wire.last_key
                if n := self._decades(key):
                    log.warning("message %d refused: %s", n, self.pipeline.wire.last_refusal)

    def publish(self, predictions: list[Prediction]) -> None:
        """Send predictions, and take their latency."""
        for prediction in predictions:
            stats = self.pipeline.streams[prediction.stream].stats
            now = time.monotonic()
            stats.latency_seconds.observe(now - prediction.arrived_s)
            if not self.sink.send(prediction.stream, prediction.to_json(now)):
                stats.dropped_predictions += 1

    def checkpoint(self) -> None:
        """Copy what is known and hand it to the writer; the streams go on at once."""
        self.writer.submit(*capture(self.pipeline, self._absent))

    def _follow_writer(self) -> None:
        w, s = self.writer, self.stats
        if w.failures > s.checkpoints["failed"]:
            log.error("checkpoint failed: %s", w.last_error)
        if w.last is not None and w.successes > s.checkpoints["ok"]:
            s.checkpoint_bytes, s.checkpoint_seconds, s.checkpoint_time = w.last.bytes, w.last.seconds, time.time()
            log.debug("checkpoint %s: %d bytes in %.3f s", w.last.name, w.last.bytes, w.last.seconds)
        s.checkpoints["ok"], s.checkpoints["failed"] = w.successes, w.failures

    def _last_checkpoint(self) -> bool:
        """Write what is known; False where it could not be written."""
        if not self.config.checkpoint.on_stop:
            return True
        failed = self.writer.failures
        self.checkpoint()
        in_time = self.writer.flush(STOP_S)
        if not in_time:
            log.error("the last checkpoint was not written within %.1f s", STOP_S)
        self._follow_writer()
        return in_time and self.writer.failures == failed

    def _healthy(self) -> tuple[bool, str]:
        behind = time.monotonic() - self.stats.progress_s
        if self.ready and behind > STALL_S:
            return False, f"stalled: no progress for {behind:.0f} s"
        return True, "alive" if self.ready else "starting"

    def _is_ready(self) -> tuple[bool, str]:
        return (True, "ready") if self.ready and not self.stopping else (False, self.stopping or "starting")


@contextlib.contextmanager
def _signals(daemon: Daemon) -> Iterator[socket.socket]:
    """SIGINT and SIGTERM ask the loop to stop, SIGHUP to read the configuration; yields the socket that wakes it."""
    receiver, sender = socket.socketpair()
    receiver.setblocking(False)
    sender.setblocking(False)

    def stop(number: int, _frame: Any) -> None:
        first, daemon.stopping = not daemon.stopping, signal.Signals(number).name
        if first and not daemon.ready:  # compiling takes longer than stopping may
            raise _StoppedEarly

    terminal = os.isatty(2)

    def hang_up(number: int, frame: Any) -> None:
        if terminal and not os.isatty(2):  # it was closed, and nobody is there any more
            stop(number, frame)
        daemon.reload_asked = True

    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: hang_up}
    old = {s: signal.signal(s, handler) for s, handler in handlers.items()}
    old_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield receiver
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in old.items():
            signal.signal(number, handler)
        receiver.close()
        sender.close()


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[IO[str]]:
    """Hold the state directory: two daemons in one would overwrite each other's knowledge."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (directory / "lock").open("a+")
    except OSError as error:
        raise StateDirError(f"daemon.state_dir: {directory}: cannot be written: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StateDirError(
                f"daemon.state_dir: {directory} is in use by the daemon with pid {file.read().strip() or 'unknown'}"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file
