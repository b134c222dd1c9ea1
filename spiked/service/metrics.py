"""Metrics for Prometheus: read from the plain counts (`stats`) when somebody scrapes, at no cost to a step.

The names are an interface (DESIGN section 5), and their label sets are closed.
"""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import spiked
from spiked.io import wire
from spiked.io.door import Counts, no_refusals
from spiked.io.wire import UNKNOWN
from spiked.service.caretaker import REASONS
from spiked.service.pipeline import Pipeline, Stream

SILENT_MS = 10_000.0
"""A neuron that has not fired for so long (stream time) counts as silent."""


@dataclass
class DaemonStats:
    """Counts of the process, beside those of its streams."""

    started: float = field(default_factory=time.time)
    compile_seconds: float = 0.0
    checkpoints: dict[str, int] = field(default_factory=lambda: {"ok": 0, "failed": 0})
    checkpoint_bytes: int = 0
    checkpoint_seconds: float = 0.0
    checkpoint_time: float = 0.0
    rollbacks: dict[tuple[str, str], int] = field(default_factory=dict)
    reloads: dict[str, int] = field(default_factory=lambda: {"ok": 0, "partly": 0, "refused": 0})
    progress_s: float = field(default_factory=time.monotonic)  # when something was done last, or nothing waited
    refused: Counts = field(default_factory=no_refusals)
    connections: Callable[[], dict[str, int]] = dict


class SpikedCollector(Collector):
    """Turns a pipeline's counts into metric families."""

    def __init__(self, pipeline: Pipeline, daemon: DaemonStats) -> None:
        self.pipeline, self.daemon = pipeline, daemon
        self._last: dict[str, tuple[int, np.ndarray]] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        yield from self._counters()
        yield from self._gauges()
        yield from self._histograms()
        yield from self._layers()
        yield from self._daemon()

    def _streams(self) -> list[tuple[str, Stream]]:
        return list(self.pipeline.streams.items())

    def _counters(self) -> Iterator[Metric]:
        def counter(name: str, text: str, labels: list[str]) -> CounterMetricFamily:
            return CounterMetricFamily(f"spiked_{name}", text, labels=["stream", *labels])

        events = counter("events", "Events received", [])
        steps = counter("steps", "Time steps run", [])
        lost = counter("messages_lost", "Messages missing by the gaps in their numbers", [])
        restarts = counter("restarts", "Times that a sender began anew: another epoch, or numbers from 0", [])
        updates = counter("updates", "Weight updates: windows learnt from", [])
        clamped = counter("events_clamped", "Late events moved to the present step", [])
        unsent = counter("predictions_dropped", "Predictions that some slow subscriber missed", [])
        shed = counter("steps_shed", "Steps run without their events, under overload", [])
        unlearnt = counter("updates_shed", "Labelled windows that did not teach, under overload", [])
        messages = counter("messages", "Messages accepted", ["kind"])
        dropped = counter("events_dropped", "Events left out", ["reason"])
        predictions = counter("predictions", "Predictions published", ["class"])
        targets = counter("targets", "Targets received", ["class"])
        rejected = counter("messages_rejected", "Messages refused", ["reason"])
        for name, stream in self._streams():
            s = stream.stats
            for family, value in (
                (events, s.events), (steps, s.steps), (lost, s.lost), (updates, s.updates),
                (restarts, stream.position.restarts),
                (clamped, stream.binner.clamped), (unsent, s.dropped_predictions), (shed, stream.overload.steps),
                (unlearnt, stream.overload.windows),
            ):  # fmt: skip
                family.add_metric([name], value)
            for family, table in (
                (messages, s.messages), (dropped, stream.binner.dropped | {"shed": stream.overload.events}),
                (predictions, dict.fromkeys(stream.classes, 0) | s.predictions),
                (targets, dict.fromkeys(stream.classes, 0) | s.targets),
            ):  # fmt: skip
                for key, value in table.items():
                    family.add_metric([name, key], value)
        # Each count stands there from the start: a rate does not see the first of a series that begins with it
        none = dict.fromkeys(itertools.product([*self.pipeline.streams, UNKNOWN], wire.REASONS), 0)
        for (name, reason), value in (none | self.pipeline.wire.rejected).items():
            rejected.add_metric([name, reason], value)
        yield from (
            events, steps, lost, restarts, updates, clamped, unsent, shed, unlearnt, messages, dropped, predictions,
            targets, rejected,
        )  # fmt: skip

    def _gauges(self) -> Iterator[Metric]:
        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"spiked_{name}", text, labels=["stream", *labels])

        lag = gauge("lag_seconds", "Age of the last message when it was taken, by the sender's clock")
        accuracy = gauge("accuracy", "Test-then-train accuracy, exponential window")
        forgetting = gauge("forgetting", "Mean over classes of best minus present accuracy")
        loss = gauge("loss", "Loss of labelled windows, exponential window")
        learning = gauge("learning_enabled", "1 if the stream learns")
        overload = gauge("overload", "What gives way: 0 nothing, 1 learning waits, 2 events are shed too")
        by_class = gauge("class_accuracy", "Accuracy of a class by the exam", ("class",))
        for name, stream in self._streams():
            s = stream.stats
            for family, value in (
                (lag, s.lag_s), (accuracy, s.accuracy), (forgetting, stream.forgetting), (loss, s.loss),
                (learning, float(stream.learning)), (overload, float(stream.overload.level)),
            ):  # fmt: skip
                family.add_metric([name], value)
            for key, value in stream.class_accuracy.items():
                by_class.add_metric([name, key], value)
        yield from (lag, accuracy, forgetting, loss, learning, overload, by_class)

    def _histograms(self) -> Iterator[Metric]:
        step = HistogramMetricFamily("spiked_step_seconds", "Time per step, learning included", labels=["stream"])
        latency = HistogramMetricFamily("spiked_latency_seconds", "Arrival to publish", labels=["stream"])
        for name, stream in self._streams():
            for family, h in ((step, stream.stats.step_seconds), (latency, stream.stats.latency_seconds)):
                family.add_metric([name], h.cumulative(), h.sum)
        yield from (step, latency)

    def _layers(self) -> Iterator[Metric]:
        labels = ["stream", "layer"]
        spikes = CounterMetricFamily("spiked_spikes", "Spikes", labels=labels)
        rate = GaugeMetricFamily("spiked_firing_rate_hz", "Mean rate of a neuron since the last scrape", labels=labels)
        silent = GaugeMetricFamily("spiked_silent_neurons", "Neurons without a spike for 10 s", labels=labels)
        norm = GaugeMetricFamily("spiked_weight_norm", "Frobenius norm of the weights", labels=labels)
        moved = GaugeMetricFamily("spiked_update_norm", "Norm of the change since the last scrape", labels=labels)
        neurons = GaugeMetricFamily("spiked_neurons", "Neurons", labels=labels)
        threshold = GaugeMetricFamily("spiked_threshold_mean", "Mean firing threshold", labels=labels)
        for name, stream in self._streams():
            learner, s = stream.learner, stream.stats
            quiet, u_at = learner.layer_activity()
            total, steps = s.spikes.copy(), s.steps
            before, then = self._last.get(name, (0, np.zeros_like(total)))
            seconds = (steps - before) * stream.dt_us * 1e-6
            self._last[name] = steps, total
            for layer in range(len(learner.net.threshold)):
                key = [name, str(layer)]
                n = int(u_at[layer + 1] - u_at[layer])
                neurons.add_metric(key, n)
                spikes.add_metric(key, int(total[layer]))
                rate.add_metric(key, float(total[layer] - then[layer]) / n / seconds if seconds > 0 else 0.0)
                window = SILENT_MS * 1000 / stream.dt_us
                silent.add_metric(key, int(np.sum(quiet[u_at[layer] : u_at[layer + 1]] > window)))
                own = getattr(learner, "theta", None)  # homeostatic thresholds, above the layer's
                above = 0.0 if own is None else float(own[u_at[layer] : u_at[layer + 1]].mean())
                threshold.add_metric(key, float(learner.net.threshold[layer]) + above)
            for layer, (weight_norm, update_norm) in enumerate(stream.norms.look(learner)):
                norm.add_metric([name, str(layer)], weight_norm)
                moved.add_metric([name, str(layer)], update_norm)
        yield from (neurons, spikes, rate, silent, norm, moved, threshold)

    def _daemon(self) -> Iterator[Metric]:
        d = self.daemon
        age = time.time() - d.checkpoint_time if d.checkpoint_time else float("nan")
        for name, text, value in (
            ("checkpoint_age_seconds", "Since the last good checkpoint", age),
            ("checkpoint_bytes", "Size of the last checkpoint", float(d.checkpoint_bytes)),
            ("checkpoint_seconds", "Time to write the last checkpoint", d.checkpoint_seconds),
            ("progress_age_seconds", "Since something was done, or nothing waited", time.monotonic() - d.progress_s),
            ("compile_seconds", "Time to compile or load all kernels at the start", d.compile_seconds),
            ("start_time_seconds", "Start of the daemon, since the UNIX epoch", d.started),
        ):
            yield GaugeMetricFamily(f"spiked_{name}", text, value)
        written = CounterMetricFamily("spiked_checkpoints", "Checkpoints by result", labels=["result"])
        for result, count in d.checkpoints.items():
            written.add_metric([result], count)
        rollbacks = CounterMetricFamily("spiked_rollbacks", "Returns to an older state", labels=["stream", "reason"])
        counts = dict.fromkeys(itertools.product(self.pipeline.streams, ["request"]), 0) | d.rollbacks
        for name, stream in self._streams():
            if stream.care:
                done = dict.fromkeys(REASONS, 0) | stream.care.rollbacks
                counts |= {(name, reason): count for reason, count in done.items()}
        for (name, reason), count in counts.items():
            rollbacks.add_metric([name, reason], count)
        reloads = CounterMetricFamily("spiked_reloads", "Readings of the configuration by result", labels=["result"])
        for result, count in d.reloads.items():
            reloads.add_metric([result], count)
        build = GaugeMetricFamily(
            "spiked_build_info", "What runs here; always 1", labels=["version", "python", "machine"]
        )
        build.add_metric([spiked.__version__, platform.python_version(), platform.machine()], 1)
        refused = CounterMetricFamily(
            "spiked_connections_refused", "Connections refused or cut off", labels=["socket", "reason"]
        )
        for (socket, reason), count in list(d.refused.items()):
            refused.add_metric([socket, reason], count)
        connections = GaugeMetricFamily("spiked_connections", "Connections at present", labels=["socket"])
        for socket, count in d.connections().items():
            connections.add_metric([socket], count)
        yield from (written, rollbacks, reloads, build, refused, connections)
