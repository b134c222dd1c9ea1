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
    ],
}
"""Rows by task."""
