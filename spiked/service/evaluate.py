"""Test-then-train over a labelled set, offline: every sample is predicted first, and learnt from after.

The samples go through `Pipeline.handle` as the messages that a sensor would send the daemon, on one stream time line:
its label, its events, and a reset at its end. So what comes out is what the daemon would say, to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from spiked.io.datasets import Dataset, Sample
from spiked.io.events import Events
from spiked.io.sender import Sender
from spiked.service.config import Config, Stream
from spiked.service.configfile import ConfigError
from spiked.service.knowledge import capture, restore
from spiked.service.pipeline import Pipeline
from spiked.service.prediction import Prediction
from spiked.service.progress import Progress
from spiked.service.report import PARTS, Check, Report, Said
from spiked.service.warmup import warm_up

MAX_EVENTS = 1 << 20
"""Events per message: what `ingest.max_message_mb` lets through unless it is set."""


class EvaluateError(RuntimeError):
    """The pipeline did not take a sample."""


class _Sensor:
    """Sends samples to a pipeline, one after the other on one stream time line, as a sensor would."""

    def __init__(self, config: Config, pipeline: Pipeline) -> None:
        self.config, self.pipeline = config, pipeline
        self.stream = pipeline.streams[config.stream[0].id]
        self.sender = Sender(self.stream.id, self.stream.geometry, epoch=1)
        self.now_us = 0

    def show(self, sample: Sample, target: int | str | None) -> list[Prediction]:
        """Send one sample, with its target or without; returns what was predicted."""
        dt_us, t0 = self.stream.dt_us, self.now_us
        end = t0 + -(-sample.duration_us // dt_us) * dt_us  # the next sample begins with a step
        events = sample.events.copy()
        events["t"] += np.uint64(t0)
        messages = [] if target is None else [self.sender.target(target, t0, end)]
        messages += [self.sender.events(part, t_last) for part, t_last in _in_pieces(events, end)]
        messages.append(self.sender.reset(end))
        out: list[Prediction] = []
        for frames in messages:
            out += self.pipeline.handle(frames)
        if self.pipeline.wire.refused:
            raise EvaluateError(f"stream {self.pipeline.wire.last_refusal}")
        self.now_us = end
        return out

    def frozen(self) -> _Sensor:
        """A copy that stands where this one stands, and does not learn."""
        twin = _Sensor(self.config, Pipeline(self.config))
        restore(twin.pipeline, *capture(self.pipeline))
        twin.stream.learning = False
        twin.now_us, twin.sender.seq = self.now_us, self.sender.seq
        return twin


def _in_pieces(events: Events, end: int) -> Iterator[tuple[Events, int]]:
    """Cut what is too long for one message; each piece goes with the time that no later event lies before."""
    for a in range(0, max(len(events), 1), MAX_EVENTS):
        rest = events["t"][a + MAX_EVENTS :]
        yield events[a : a + MAX_EVENTS], min(int(rest.min()), end) if len(rest) else end


def choose_stream(config: Config, dataset: Dataset, name: str | None = None) -> Stream:
    """The stream to evaluate: the one named, or the only one; ConfigError where it does not fit the set."""
    ids = [s.id for s in config.stream]
    if name is None and len(ids) > 1:
        raise ConfigError(f"{len(ids)} streams; choose one with --stream: {', '.join(ids)}")
    if name is not None and name not in ids:
        raise ConfigError(f"no stream {name!r}; allowed: {', '.join(ids)}")
    stream = config.stream[0 if name is None else ids.index(name)]
    g = dataset.geometry
    if (stream.width, stream.height, stream.planes) != (g.width, g.height, g.planes):
        raise ConfigError(
            f"stream {stream.id!r}: {stream.width}x{stream.height}x{stream.planes}, but {dataset.name} is {g}; "
            f"write width = {g.width}, height = {g.height}, planes = {g.planes}"
        )
    if stream.network.outputs:
        raise ConfigError(f"stream {stream.id!r}: network.outputs predicts vectors; a labelled set needs classes")
    return stream


def _check_classes(stream: Stream, names: list[str], dataset: Dataset) -> None:
    known = stream.network.classes
    missing = [n for n in names if n not in known]
    if known and missing:
        wanted = ", ".join(f'"{n}"' for n in [*known, *missing])
        raise ConfigError(
            f"stream {stream.id!r}: network.classes lacks {', '.join(missing)} of {dataset.name}; write "
            f"classes = [{wanted}]"
        )
    if not known and len(names) > stream.network.max_classes:
        raise ConfigError(
            f"stream {stream.id!r}: network.max_classes: {stream.network.max_classes}, but {dataset.name} has "
            f"{len(names)} classes"
        )


def _choose(
    dataset: Dataset, classes: Sequence[str] | None, limit: int | None, seed: int, shuffle: bool
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Names of the classes that count, and which samples to train and test with, in order."""
    unknown = [c for c in classes or () if c not in dataset.class_names]
    if unknown:
        raise ConfigError(f"--classes: {dataset.name} has no {unknown[0]!r}; allowed: {', '.join(dataset.class_names)}")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit: {limit}; at least 1")
    wanted = [k for k, n in enumerate(dataset.class_names) if classes is None or n in classes]
    train = dataset.train[np.isin(dataset.labels[dataset.train], wanted)]
    test = dataset.test[np.isin(dataset.labels[dataset.test], wanted)]
    if not len(train):
        raise ConfigError(f"{dataset.name}: no training samples")
    rng = np.random.default_rng(seed)
    if shuffle:
        train = rng.permutation(train)
    if limit is not None:
        train, test = train[:limit], np.sort(rng.permutation(test)[:limit])
    present = set(dataset.labels[train].tolist()) | set(dataset.labels[test].tolist())
    return [dataset.class_names[k] for k in wanted if k in present], train, test


def evaluate(
    config: Config,
    dataset: Dataset,
    *,
    stream: str | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    shuffle: bool = True,
    quick: bool = False,
    heard: Callable[[Prediction], None] | None = None,
) -> Report:
    """Train on every training sample once, each predicted before it teaches; then test.

    Parameters
    ----------
    config : as the daemon would have it.
    dataset : the labelled set.
    stream : id of the stream to evaluate; may be left out where there is only one.
    classes : names of the classes to take; all of them if None.
    limit : at most so many training, and at most so many test samples.
    seed : of the order, and of which test samples are taken.
    shuffle : False trains in the set's own order.
    quick : look at the test split only at the end, not after each fifth of training: no forgetting is told.
    heard : is called with every prediction of the stream, as the daemon would publish it.

    Raises
    ------
    ConfigError : the configuration does not fit the set.
    EvaluateError : the pipeline refused a sample.
    """
    chosen = choose_stream(config, dataset, stream)
    names, train, test = _choose(dataset, classes, limit, seed, shuffle)
    _check_classes(chosen, names, dataset)
    alone = msgspec.structs.replace(config, stream=[chosen])
    began = time.perf_counter()
    warm_up(alone)
    sensor = _Sensor(alone, Pipeline(alone))
    live = sensor.stream
    report = Report(dataset.name, chosen.id, chosen.network.classes or names, seed, shuffle)
    report.ready_s = time.perf_counter() - began
    number = {n: k for k, n in enumerate(report.classes)}

    def show(sensor: _Sensor, i: int, into: Said, teach: bool) -> None:
        sample = dataset.sample(i)
        name = dataset.class_names[sample.label]
        # With classes in the configuration by number, as most senders do; without, by name
        target = (number[name] if chosen.network.classes else name) if teach else None
        out = sensor.show(sample, target)
        final = [p for p in out if p.final]
        into.index.append(i)
        into.true.append(number[name])
        into.said.append(number.get(final[-1].label, -1) if final else -1)
        if sensor.stream is live and heard is not None:
            for prediction in out:
                heard(prediction)

    looks = set() if quick or not len(test) else {len(train) * (k + 1) // PARTS for k in range(PARTS - 1)} - {0}
    total = len(train) + len(test) * (1 + len(looks))
    aside_s = 0.0
    began = time.perf_counter()
    with Progress(dataset.name, total, "samples") as progress:
        for k, i in enumerate(train.tolist(), 1):
            show(sensor, i, report.train, True)
            right = report.train.said[-200:], report.train.true[-200:]
            share = sum(a == b for a, b in zip(*right)) / len(right[0])
            progress.advance(note=f"training, last {len(right[0])}: {share:.0%} right")
            if k in looks:
                aside = time.perf_counter()
                twin, look = sensor.frozen(), Said()
                for j in test.tolist():
                    show(twin, j, look, False)
                    progress.advance(note=f"testing a copy after {k}")
                report.checks.append(Check(k, look.accuracy(), look.class_accuracy(len(report.classes))))
                aside_s += time.perf_counter() - aside
        for i in test.tolist():
            show(sensor, i, report.test, False)
            progress.advance(note="testing")
    report.wall_s = time.perf_counter() - began - aside_s
    if len(test):
        report.checks.append(Check(len(train), report.test.accuracy(), report.test.class_accuracy(len(report.classes))))
    stats = live.stats
    report.events, report.steps = stats.events, stats.steps
    report.stream_s = stats.steps * live.dt_us * 1e-6
    report.us_per_step = stats.step_seconds.sum / max(1, stats.steps) * 1e6
    report.state_bytes = sum(a.nbytes for a in live.learner.state().values())
    report.weights_digest = live.weight_digest()
    report.warnings = list(dataset.warnings)
    if live.care and live.care.rollbacks:
        undone = ", ".join(f"{reason} ({n})" for reason, n in live.care.rollbacks.items())
        report.warnings.append(f"stream {chosen.id!r}: learning did harm, which was undone: {undone}")
    return report
