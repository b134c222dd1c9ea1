"""Ready means compiled: after the warm-up nothing that a stream can ask for meets a kernel that is not there yet."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

import spiked.io
import spiked.learners
from spiked.io.events import make_events
from spiked.io.sender import Sender
from spiked.io.wire import EventCodec
from spiked.service.configfile import parse_config
from spiked.service.knowledge import capture, restore
from spiked.service.pipeline import Pipeline
from spiked.service.warmup import warm_up


def compiled() -> dict[str, int]:
    """How many signatures of each kernel there are; none is for a constant alone."""
    found = {}
    for package in (spiked.learners, spiked.io):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, thing in vars(importlib.import_module(info.name)).items():
                if isinstance(thing, CPUDispatcher) and thing.py_func.__module__ == info.name:
                    found[f"{info.name}.{name}"] = len(thing.signatures)
                    assert "Literal" not in str(thing.signatures), name
    return found


@pytest.mark.parametrize(
    "sections",
    [
        {"network": {"classes": ["a", "b"]}},
        {"network": {"classes": ["a", "b"], "head": "prototype"}},
        {"network": {"classes": ["a", "b"], "head": "gradient"}},
        {"network": {"classes": ["a", "b"], "head": "gradient"}, "learning": {"objective": "rate_ce"}},
        {"network": {"classes": ["a"], "head": "gradient"}, "learning": {"update": "step", "optimizer": "sgd"}},
        {"network": {"outputs": 2, "head": "gradient"}, "learning": {"objective": "membrane_mse"}},
        {},
    ],
    ids=["discriminant", "prototype", "gradient", "rate", "step", "vectors", "no classes"],
)
def test_nothing_is_compiled_after_the_warm_up(sections: dict[str, Any]) -> None:
    config = parse_config({**sections, "stream": [{"id": "s", "width": 8, "height": 8}]})
    warm_up(config)
    before = compiled()
    pipeline = Pipeline(config)
    stream, sender = pipeline.streams["s"], Sender("s", pipeline.geometries["s"], 1)
    target = np.ones(2, np.float32) if stream.config.network.outputs else "a"
    t = 0
    for codec in EventCodec:
        events = make_events(np.arange(t + 5, t + 90_000, 700)[::-1], 3, 4, 1)  # out of order
        pipeline.handle(sender.target(target, t, t + 50_000))
        pipeline.handle(sender.events(np.sort(events, order="t") if codec > 2 else events, t + 100_000, codec))
        pipeline.handle(sender.target(target, t + 60_000, t + 90_000))  # late
        pipeline.handle(sender.target(target, t + 100_000))
        pipeline.handle(sender.events(events[:0], t + 130_000))
        pipeline.handle(sender.reset(t + 130_500))  # within a step, while a label is on
        t += 200_000
    if not stream.config.network.outputs:
        pipeline.handle(sender.target("new", t, t + 10_000))
        pipeline.handle(sender.events(make_events(t + 5, 1, 1, 1), t + 20_000))
    stream.learning = False
    pipeline.handle(sender.events(make_events(t + 20_005, 1, 1, 1), t + 40_000))
    pipeline.handle(sender.reset(t + 40_000))
    restore(Pipeline(config), *capture(pipeline))
    assert not pipeline.wire.rejected, pipeline.wire.last_refusal
    assert stream.stats.updates > 8
    assert {name: n for name, n in compiled().items() if n != before[name]} == {}
