"""A fresh stream on trial: samples are shown to it or to a frozen copy, and what is said of each is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np

from spiked.io.datasets import Dataset, Sample
from spiked.service.config import Config, Stream
from spiked.service.offline import Sensor
from spiked.service.pipeline import Pipeline
from spiked.service.prediction import Prediction
from spiked.service.report import Report, Said
from spiked.service.warmup import warm_up

Change = Callable[[Sample, int], Sample]
"""What is done to a sample of this number before a sensor shows it."""
RECENT = 200
"""The bar of progress tells the accuracy of so many last samples."""


class Trial:
    """One stream of a configuration, alone and knowing nothing.

    Parameters
    ----------
    config : as the daemon would have it.
    stream : the stream of it that is tried.
    dataset : where the samples come from.
    report : what is filled in; `report.classes` numbers the classes.
    heard : is called with every prediction of the live stream, as the daemon would publish it.
    """

    def __init__(
        self, config: Config, stream: Stream, dataset: Dataset, report: Report,
        heard: Callable[[Prediction], None] | None = None,
    ) -> None:  # fmt: skip
        alone = msgspec.structs.replace(config, stream=[stream])
        began = time.perf_counter()
        warm_up(alone)
        self.sensor = Sensor(alone, Pipeline(alone))
        self.live = self.sensor.stream
        report.ready_s = time.perf_counter() - began
        self.config, self.dataset, self.report, self.heard = stream, dataset, report, heard
        self.number = {n: k for k, n in enumerate(report.classes)}
        self.seen_early = 0
        self._began, self._aside_s = time.perf_counter(), 0.0

    def teach(self, i: int, change: Change | None = None) -> str:
        """Show sample `i` to the live stream, which predicts and then learns; returns how it fares, for a bar."""
        self._show(self.sensor, i, self.report.train, change, None, True)
        right = self.report.train.said[-RECENT:], self.report.train.true[-RECENT:]
        share = sum(a == b for a, b in zip(*right)) / len(right[0])
        return f"training, last {len(right[0])}: {share:.0%} right"

    def test(
        self, sensor: Sensor, i: int, into: Said, change: Change | None = None, among: Sequence[str] | None = None
    ) -> None:
        """Show sample `i` without its label; with `among`, only the scores of these classes count."""
        self._show(sensor, i, into, change, among, False)

    def _show(
        self, sensor: Sensor, i: int, into: Said, change: Change | None, among: Sequence[str] | None, teach: bool
    ) -> None:
        sample = self.dataset.sample(i)
        if change is not None:
            sample = change(sample, i)
        name = self.dataset.class_names[sample.label]
        # With classes in the configuration by number, as most senders do; without, by name
        target = (self.number[name] if self.config.network.classes else name) if teach else None
        self.seen_early += teach and self._windows(sample) > 1
        out = sensor.show(sample, target)
        final = [p for p in out if p.final]
        into.index.append(i)
        into.true.append(self.number[name])
        into.said.append(self.number.get(_said(final[-1], sensor.stream.classes, among), -1) if final else -1)
        if sensor is self.sensor and self.heard is not None:
            for prediction in out:
                self.heard(prediction)

    def _windows(self, sample: Sample) -> int:
        """Windows in which a sample teaches, as `targets` cuts it."""
        return round(sample.duration_us / (self.config.learning.window_ms * 1000))

    @contextmanager
    def aside(self) -> Iterator[Sensor]:
        """A frozen copy, and time that does not count as the stream's own."""
        began = time.perf_counter()
        yield self.sensor.frozen()
        self._aside_s += time.perf_counter() - began

    def account(self) -> Report:
        """Fill in what the live stream has cost so far."""
        report, stats, state = self.report, self.live.stats, self.live.learner.state()
        report.wall_s = time.perf_counter() - self._began - self._aside_s
        report.events, report.steps = stats.events, stats.steps
        report.stream_s = stats.steps * self.live.dt_us * 1e-6
        report.us_per_step = stats.step_seconds.sum / max(1, stats.steps) * 1e6
        report.state_bytes = report.learnt_bytes = sum(a.nbytes for a in state.values())
        if self.config.learning.rule == "none" and "net.weight" in state:
            report.learnt_bytes -= state["net.weight"].nbytes  # drawn from a seed, and never changed
        report.network_seed = self.config.network.seed
        report.weights_digest = self.live.weight_digest()
        report.warnings = list(dict.fromkeys(self.dataset.warnings))  # a sample is loaded for each test
        if self.live.care and self.live.care.rollbacks:
            undone = ", ".join(f"{reason} ({n})" for reason, n in self.live.care.rollbacks.items())
            report.warnings.append(f"stream {self.live.id!r}: learning did harm, which was undone: {undone}")
        if self.config.learning.update == "step":
            report.warnings.append(
                'learning.update = "step" learns while the label is on: test-then-train figures have seen it'
            )
        elif self.seen_early:
            report.warnings.append(
                f"{self.seen_early} training samples last for several windows of "
                f"{self.config.learning.window_ms:g} ms: the last is predicted after the first has taught; raise "
                "learning.window_ms"
            )
        return report


def _said(prediction: Prediction, classes: Sequence[str], among: Sequence[str] | None) -> str:
    """Name of the best class, of all or of those that count; "" where none of these is known yet."""
    if among is None:
        return prediction.label
    known = [k for k, name in enumerate(classes) if name in among]
    return classes[known[int(np.argmax([prediction.scores[k] for k in known]))]] if known else ""
