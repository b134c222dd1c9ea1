"""The configurations that are shipped: each loads, builds its pipeline, and takes what its sensor sends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spiked.io.events import Geometry, make_events
from spiked.io.sender import Sender
from spiked.service.configfile import effective_toml, load_config
from spiked.service.pipeline import Pipeline
from spiked.service.prediction import Prediction

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.toml"))
SHIPPED = {"minimal", "nmnist", "cochlea", "dvs128", "davis346", "gradient"}


def show(
    pipeline: Pipeline, label: str | None, seed: int, t0: int = 0, sender: Sender | None = None
) -> list[Prediction]:
    """100 ms of a place that flickers; which place, follows from `seed`."""
    stream = next(iter(pipeline.streams.values()))
    g = stream.geometry
    sender = sender or Sender(stream.id, g, epoch=1)
    rng = np.random.default_rng(seed)
    n, t = 2000, np.sort(rng.integers(t0, t0 + 100_000, 2000))
    x = (seed * g.width // 4 + rng.integers(0, max(1, g.width // 4), n)) % g.width
    events = make_events(t, x, rng.integers(0, g.height, n), rng.integers(0, g.planes, n))
    frames = [] if label is None else [sender.target(label, t0, t0 + 100_000)]
    frames += [sender.events(events, t0 + 100_000), sender.reset(t0 + 100_000)]
    said = [p for f in frames for p in pipeline.handle(f)]
    assert not pipeline.wire.rejected, pipeline.wire.last_refusal
    assert stream.stats.events == (t0 // 100_000 + 1) * n
    return said


def test_all_that_should_be_are_there() -> None:
    assert {p.stem for p in CONFIGS} >= SHIPPED


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_loads_builds_and_learns(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    (tmp_path / "again.toml").write_text(effective_toml(config))
    assert load_config(tmp_path / "again.toml").stream == config.stream
    pipeline = Pipeline(config)
    assert [s.id for s in config.stream] == list(pipeline.streams)
    first = config.stream[0]
    assert first.network.classes, "a shipped configuration predicts from the first moment"
    said = show(pipeline, first.network.classes[0], 1)
    assert said and said[-1].final and said[-1].label in first.network.classes
    assert pipeline.streams[first.id].stats.updates == 1


def test_nmnist_is_as_the_benchmark_wants_it() -> None:
    config = load_config(next(p for p in CONFIGS if p.stem == "nmnist"))
    (stream,) = config.stream
    assert (stream.id, Geometry(stream.width, stream.height, stream.planes)) == ("cam0", Geometry(34, 34, 2))
    assert stream.network.classes == [str(k) for k in range(8)]
    assert (config.ingest.endpoint, config.predictions.endpoint) == ("tcp://127.0.0.1:5570", "tcp://127.0.0.1:5571")
    assert (config.control.endpoint, config.metrics.port) == ("tcp://127.0.0.1:5572", 9570)


def test_nmnist_learns_from_one_example_of_each() -> None:
    pipeline = Pipeline(load_config(next(p for p in CONFIGS if p.stem == "nmnist")))
    sender = Sender("cam0", Geometry(34, 34, 2), epoch=1)
    for k, (label, seed) in enumerate([("3", 0), ("5", 2)]):
        show(pipeline, label, seed, k * 100_000, sender)
    for k, (label, seed) in enumerate([("5", 2), ("3", 0)]):
        assert show(pipeline, None, seed, (2 + k) * 100_000, sender)[-1].label == label


def test_the_cochlea_tells_its_tones_apart(data_dir: Path) -> None:
    """2 s of each in turn, then again without labels: right from 300 ms on, and without an error."""
    from spiked.io.recordings import open_recording

    config = load_config(next(p for p in CONFIGS if p.stem == "cochlea"))
    pipeline, sender = Pipeline(config), Sender("cochlea", Geometry(64, 1, 2), epoch=1)
    tones = config.stream[0].network.classes
    now = 0

    def play(tone: str, halves: int, label: str | None) -> list[str]:
        nonlocal now
        recording = open_recording(data_dir / "cochlea" / f"{tone}.aedat")
        events = np.concatenate([p.copy() for p in recording.packets()])
        events["t"] -= events["t"].min()
        said: list[Prediction] = []
        if label is not None:
            pipeline.handle(sender.target(label, now, now + halves * 500_000))
        for _ in range(halves):
            for k in range(50):
                part = events[events["t"] // 10_000 == k]
                part["t"] += now - k * 10_000
                now += 10_000
                said += pipeline.handle(sender.events(part, now))
        return [p.label for p in said]

    for tone in tones:
        play(tone, 4, tone)
    for tone in tones:
        assert set(play(tone, 2, None)[30:]) == {tone}
    assert not pipeline.wire.rejected
