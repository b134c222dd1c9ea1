"""Samples into a pipeline without sockets: as a sensor would send them, and which of a set go in at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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

MAX_EVENTS = 1 << 19
"""Events per message: what `ingest.max_message_mb` lets through unless it is set."""


class EvaluateError(RuntimeError):
    """The pipeline did not take a sample."""


class Sensor:
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

    def frozen(self) -> Sensor:
        """A copy that stands where this one stands, and does not learn."""
        twin = Sensor(self.config, Pipeline(self.config))
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


def check_classes(stream: Stream, names: list[str], dataset: Dataset) -> None:
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


def choose_samples(
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
