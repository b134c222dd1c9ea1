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


_ACCUMULATING: dict[str, Any] = {
    "neurons": 200, "weights": "dense", "gain": 6.0, "recurrent": True, "recurrent_gain": 0.3, "refractory_ms": 3.0,
}  # fmt: skip
"""A layer for `cues`. Its thresholds, where they adapt, carry how many cues came: 4 s, so that the first still count;
scores are of the recall period, so their memory is as long as that."""
_ANSWERING: dict[str, Any] = {"head": "gradient", "tau_out_ms": 300.0, "trace_ms": [150.0]}
_EPROP: dict[str, Any] = {"rule": "eprop", "surrogate": "triangular", "surrogate_slope": 2.0, "rate": 0.001}

ROWS: dict[str, list[Row]] = {
    "nmnist": [
        Row("fixed + discriminant", {"layers": [{"neurons": 256}]}),
        Row("fixed + prototype", {"layers": [{"neurons": 256}], "head": "prototype"}),
        Row(
            "rtrl",
            {"layers": [{"neurons": 256}], "head": "gradient"},
            {"rule": "rtrl", "objective": "membrane_ce", "optimizer": "rms", "rate": 0.002},
        ),
    ],
    "tones": [
        Row("fixed + discriminant", {"layers": [{"neurons": 128}]}),
        Row("fixed + prototype", {"layers": [{"neurons": 128}], "head": "prototype"}),
        Row("rtrl", {"layers": [{"neurons": 128}], "head": "gradient"}, {"rule": "rtrl", "rate": 0.002}),
    ],
    "cues": [
        Row("fixed + discriminant", {"layers": [{"neurons": 100, "field_px": 3.0}]}),
        Row("rtrl", {"layers": [{"neurons": 100, "field_px": 3.0}], "head": "gradient"}, {"rule": "rtrl"}),
        Row(
            "eprop, adaptive thresholds",
            {"layers": [{**_ACCUMULATING, "adaptive": {"tau_ms": 4000.0, "jump": 0.05}}], **_ANSWERING},
            _EPROP,
        ),
        Row("eprop, no adaptation", {"layers": [_ACCUMULATING], **_ANSWERING}, _EPROP),
    ],
}
"""Rows by task."""
