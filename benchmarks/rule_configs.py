"""The rows of `learning_rules`: for each task, a name and the ``[network]`` and ``[learning]`` tables that make it.

Each is what a configuration file would say; classes, seed and sensor are the task's. Choices were made on splits with
seeds of 100 and above; figures are reported on splits 0 and up.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Row(NamedTuple):
    """A rule with its settings.

    Attributes
    ----------
    name : what the table calls it.
    network, learning : as in a configuration file.
    stream : keys of ``[[stream]]`` that differ from the task's.
    """

    name: str
    network: dict[str, Any]
    learning: dict[str, Any] = {}
    stream: dict[str, Any] = {}


def layer(neurons: int, **keys: Any) -> list[dict[str, Any]]:
    """One feature layer."""
    return [{"neurons": neurons, **keys}]


def gradient(layers: list[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    """A network whose read-out learns by gradient."""
    return {"layers": layers, "head": "gradient", **keys}


CALM = {"optimizer": "momentum", "rate": 0.01}
"""Plain gradients, averaged over some windows: the last weights depend less on the last samples than under rms."""
ADAPTIVE = {"recurrent": True, "tau_mem_ms": 10.0, "adaptive": {"tau_ms": 100.0, "jump": 0.2}}

CUE_LAYER = {"weights": "dense", "gain": 2.0, "tau_mem_ms": 20.0}
SLOW = {"adaptive": {"tau_ms": 2000.0, "jump": 0.05}}
"""Thresholds that remember for two seconds."""
CUE_READ_OUT = {"tau_out_ms": 50.0, "trace_ms": [50.0]}
"""Too short to carry anything over the delay: what memory there is, is the features'."""

ROWS: dict[str, list[Row]] = {
    "nmnist": [
        Row("fixed + discriminant", {"layers": layer(256)}),
        Row("fixed + prototype", {"layers": layer(256), "head": "prototype"}),
        Row("stdp + discriminant", {"layers": layer(256, weights="fields")}, {"rule": "stdp"}),
        Row("rtrl, rms", gradient(layer(256, tau_mem_ms=10.0)), {"rule": "rtrl"}),
        Row("rtrl, momentum", gradient(layer(512, tau_mem_ms=10.0), tau_out_ms=60.0), {"rule": "rtrl", **CALM}),
        Row("rtrl, each step", gradient(layer(256, tau_mem_ms=10.0)),
            {"rule": "rtrl", "update": "step", "optimizer": "sgd", "rate": 0.001}),
        Row("eprop, random feedback", gradient(layer(512, tau_mem_ms=10.0), tau_out_ms=60.0),
            {"rule": "eprop", "feedback": "random", **CALM}),
        Row("eprop, recurrent and adaptive, rms", gradient(layer(256, **ADAPTIVE)), {"rule": "eprop"}),
        Row("eprop, recurrent and adaptive, momentum", gradient(layer(256, **ADAPTIVE), tau_out_ms=60.0),
            {"rule": "eprop", **CALM}),
        Row("perturbation", gradient(layer(64)), {"rule": "perturbation"}),
    ],
    "tones": [
        Row("fixed + discriminant", {"layers": layer(128)}),
        Row("fixed + prototype", {"layers": layer(128), "head": "prototype"}),
        Row("rtrl", gradient(layer(128)), {"rule": "rtrl"}),
        Row("eprop, recurrent and adaptive", gradient(layer(128, **ADAPTIVE)), {"rule": "eprop"}),
    ],
    "cues": [
        Row("fixed + discriminant", {"layers": layer(100, field_px=3.0)}),
        Row("eprop, recurrent, adaptive", gradient(layer(100, recurrent=True, **CUE_LAYER, **SLOW), **CUE_READ_OUT),
            {"rule": "eprop"}),
        Row("eprop, recurrent, fixed thresholds", gradient(layer(100, recurrent=True, **CUE_LAYER), **CUE_READ_OUT),
            {"rule": "eprop"}),
        Row("eprop, feed-forward, adaptive", gradient(layer(100, **CUE_LAYER, **SLOW), **CUE_READ_OUT),
            {"rule": "eprop"}),
    ],
}  # fmt: skip
"""Rows by task."""
