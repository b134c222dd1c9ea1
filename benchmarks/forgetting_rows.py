"""The rows of `forgetting`: a name, and the ``[network]``, ``[learning]`` and ``[memory]`` of a configuration file.

Strengths and sizes were chosen on seeds 100 to 102; figures are reported on seeds 0 and up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rule_configs import GRADIENT, WIDE
from rule_tasks import TASKS

from spiked.service.build import build_learner
from spiked.service.config import Stream
from spiked.service.configfile import parse_config

SHORT, LONG = [30.0, 100.0, 300.0], [20.0, 50.0, 100.0, 200.0, 400.0]
GRADIENTS: dict[str, Any] = {"rule": "rtrl", "rate": 0.001, **WIDE}


class Row(NamedTuple):
    """A row of the table.

    Attributes
    ----------
    name : what the table calls it.
    network, memory, learning : as in a configuration file.
    """

    name: str
    network: dict[str, Any]
    memory: dict[str, Any]
    learning: dict[str, Any]

    def make(self, seed: int) -> Any:
        """A fresh learner."""
        return build_learner(configure(seed, self))


def learnt(name: str, *methods: str, neurons: int = 256, **memory: Any) -> Row:
    """A hidden layer and a read-out that learn by gradient, the row "rtrl" of `rule_configs`."""
    network = {"layers": [{"neurons": neurons}], "tau_out_ms": 50.0, **GRADIENT}
    return Row(name, network, {"methods": list(methods), **memory}, GRADIENTS)


def fixed(name: str, neurons: int, trace_ms: list[float], *methods: str, head: str = "discriminant") -> Row:
    """Fixed features and a head of statistics."""
    network = {"layers": [{"neurons": neurons}], "trace_ms": trace_ms, "head": head}
    return Row(name, network, {"methods": list(methods)}, {})


def voting(name: str, neurons: int, trace_ms: list[float], copies: int) -> Row:
    """The same with randomly turned, scaled and slanted copies, which predict too."""
    layers = [{"neurons": neurons, "field_px": 2.2}]
    memory = {"methods": ["copies"], "copies_px": [], "copies_drawn": copies, "copies_vote": True}
    return Row(name, {"layers": layers, "trace_ms": trace_ms, "ridge": 1.0}, memory, {})


def configure(seed: int, row: Row) -> Stream:
    """The stream, checked as a file would be."""
    task = TASKS["nmnist"]
    raw = {
        "stream": [{"id": task.name, **task.stream}],
        "network": {"classes": task.classes, "seed": seed, **row.network},
        "learning": row.learning,
        "memory": row.memory,
    }
    return parse_config(raw).stream[0]


ROWS = [
    learnt("naive"),
    learnt("average", "average", average_windows=100),
    learnt("ewc", "ewc"),
    learnt("si", "si"),
    learnt("cascade", "cascade"),
    learnt("novelty", "novelty"),
    learnt("pseudo", "pseudo"),
    learnt("pseudo + average", "pseudo", "average", average_windows=100),
    learnt("pseudo + ewc + average", "pseudo", "ewc", "average", average_windows=100),
    learnt("replay, 3 MB", "replay", budget_mb=3.0),
    learnt("replay, 3 MB + average", "replay", "average", budget_mb=3.0, average_windows=200, replay_windows=8),
    learnt(
        "replay, 4 MB + average, 512 neurons", "replay", "average", neurons=512, budget_mb=4.0, average_windows=200,
        replay_windows=8,
    ),
    fixed("prototype, 256 neurons", 256, SHORT, head="prototype"),
    fixed("discriminant, 256 neurons", 256, LONG),
    fixed("discriminant, 64 neurons + copies", 64, SHORT[:2], "copies"),
    fixed("discriminant, 128 neurons + copies", 128, SHORT, "copies"),
    fixed("discriminant, 512 neurons + copies", 512, LONG, "copies"),
    voting("discriminant, 128 neurons + 16 votes", 128, SHORT, 16),
    voting("discriminant, 512 neurons + 16 votes", 512, LONG, 16),
    fixed("discriminant, 256 neurons + drift", 256, SHORT, "drift"),
    fixed("discriminant, 256 neurons + copies + drift", 256, SHORT, "copies", "drift"),
]  # fmt: skip
"""All rows, as they stand in the table."""
