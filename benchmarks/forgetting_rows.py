"""The rows of `forgetting`: a name, and how a seed becomes a learner.

The network is that of the row "rtrl" of `rule_configs`, with 256 neurons. Strengths were chosen on seeds 100 to 102;
figures are reported on seeds 0 and up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rule_configs import GRADIENT, WIDE
from rule_tasks import TASKS

from spiked.learners.cascade import Cascade
from spiked.learners.gradient import GradientLearner
from spiked.learners.memory import MemoryLearner, Method
from spiked.learners.novelty import Novelty
from spiked.learners.penalties import OnlineEwc, SynapticIntelligence
from spiked.learners.pseudo import PseudoReplay
from spiked.service.build import build_learner
from spiked.service.config import Stream
from spiked.service.configfile import parse_config

NETWORK: dict[str, Any] = {"layers": [{"neurons": 256}], "tau_out_ms": 50.0, **GRADIENT}


class Row(NamedTuple):
    """A row of the table.

    Attributes
    ----------
    name : what the table calls it.
    make : seed -> a fresh learner.
    """

    name: str
    make: Callable[[int], Any]


def configure(seed: int, **learning: Any) -> Stream:
    """The stream, as a configuration file would have it."""
    task = TASKS["nmnist"]
    raw = {
        "stream": [{"id": task.name, **task.stream}],
        "network": {"classes": task.classes, "seed": seed, **NETWORK},
        "learning": {"rule": "rtrl", "rate": 0.001, **WIDE, **learning},
    }
    return parse_config(raw).stream[0]


def naive(seed: int, **learning: Any) -> GradientLearner:
    """The learner alone."""
    learner = build_learner(configure(seed, **learning))
    assert isinstance(learner, GradientLearner)
    return learner


def with_method(
    name: str, method: Callable[[GradientLearner, int], tuple[Method, ...]], average: float = 0, **learning: Any
) -> Row:
    """A row: methods, made for a learner and a seed, around the learner."""

    def make(seed: int) -> MemoryLearner:
        inner = naive(seed, **learning)
        return MemoryLearner(inner, method(inner, seed), average)

    return Row(name, make)


ROWS = [
    Row("naive", naive),
    with_method("average", lambda a, seed: (), 100),
    with_method("online EWC", lambda a, seed: (OnlineEwc(a),)),
    with_method("synaptic intelligence", lambda a, seed: (SynapticIntelligence(a),)),
    with_method("cascade", lambda a, seed: (Cascade(a),)),
    with_method("novelty", lambda a, seed: (Novelty(a),)),
    with_method("pseudo-replay", lambda a, seed: (PseudoReplay(a, seed=seed),)),
    with_method("pseudo-replay + average", lambda a, seed: (PseudoReplay(a, seed=seed),), 100),
    with_method("all: pseudo-replay, EWC, average", lambda a, seed: (PseudoReplay(a, seed=seed), OnlineEwc(a)), 100),
]
"""All rows; another is another function of a seed."""
