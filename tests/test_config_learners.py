"""What a configuration can name is refused with a reason, or builds a learner that keeps its contract.

The product of all choices is too large to run. Drawn are, for each rule and each choice of each key, some combinations
with the other keys at random, and one with the others at their defaults, or at what the choice needs (`NEEDS`): every
choice that a rule does not refuse by itself is met under it, mostly in company.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from spiked.learners import checks
from spiked.learners.feedback import mirror
from spiked.learners.gradient import GradientLearner
from spiked.learners.lif import layer_weight
from spiked.learners.memory import MemoryLearner
from spiked.service.build import AnyLearner, build_learner
from spiked.service.config import ConfigError, Stream
from spiked.service.configfile import parse_config

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

NETWORK: dict[str, list[Any]] = {
    "head": ["discriminant", "gradient", "prototype", "assignment"],
    "decoder": ["membrane", "rate", "latency", "population"],
    "population": [1, 2],
}
LEARNING: dict[str, list[Any]] = {
    "objective": [
        "membrane_ce", "membrane_mse", "rate_ce", "rate_mse", "max_membrane", "sum_membrane", "latency_ce",
        "spike_time_mse", "relative_time_mse", "reward",
    ],
    "surrogate": ["fast_sigmoid", "sigmoid", "triangular", "spike", "noisy_spike"],
    "feedback": ["symmetric", "random", "direct", "adaptive", "local"],
    "update": ["window", "step"],
    "optimizer": ["rms", "sgd", "momentum", "bounded"],
    "decays_rate": [0.0, 0.5],
    "error_threshold": [0.0, 0.05],
    "regularisers": [{}, {"l1": 1e-3}, {"upper": 1e-3, "upper_hz": 5.0, "lower": 1e-3}],
    "sparse_steps": [0, 1, 2],
    "perturbation": ["gradient", "accept"],
    "stdp": [
        {}, {"rule": "triplet", "pairing": "all"}, {"rule": "prototype", "bounds": "soft", "norm": "sum"},
        {"modulation": "error"}, {"modulation": "reward", "target_hz": 10.0},
        {"winners": 2, "group": 5, "inhibit": True},
    ],
}  # fmt: skip
LAYER: dict[str, list[Any]] = {
    "recurrent": [False, True],
    "adaptive": [None, {"tau_ms": 40.0}, {"tau_ms": 40.0, "jump": 0.2}],
    "tau_syn_ms": [0.0, 4.0],
    "refractory_ms": [0.0, 2.0],
    "delay_ms": [0.0, 2.0, [0.0, 3.0]],
    "tau_mem_ms": [15.0, [8.0, 20.0]],
    "reset": ["subtract", "zero"],
}
MEMORY: dict[str, list[Any]] = {
    "methods": [
        [], ["average"], ["replay", "average"], ["ewc", "pseudo"], ["si", "novelty"], ["cascade"], ["copies", "drift"],
    ],
    "replay_windows": [1, 2],
    "average_windows": [1.0, 5.0],
}  # fmt: skip
NEEDS: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {
    ("rtrl", "update", "step"): {"learning": {"optimizer": "sgd"}},
    ("rtrl", "sparse_steps", "1"): {"layer": {"recurrent": True}},
    ("rtrl", "sparse_steps", "2"): {"layer": {"recurrent": True}},
    ("stdp", "objective", "reward"): {"learning": {"stdp": {"modulation": "reward", "target_hz": 10.0}}},
}
"""What a choice does not go without: rule, key, choice."""
RULES = ["rtrl", "eprop", "stdp", "perturbation", "none"]
Choice = dict[str, dict[str, Any]]


def draw(rng: random.Random, rule: str, where: str, key: str, value: Any) -> Choice:
    """One combination with a given choice: the other keys are at their defaults, or, one in three, at random."""
    tables = {"network": NETWORK, "learning": LEARNING, "layer": LAYER}
    drawn = {
        name: {k: rng.choice(v) if rng.random() < 1 / 3 else v[0] for k, v in table.items()}
        for name, table in tables.items()
    }
    apart = random.Random(f"{rule} {key} {value}")  # whatever it draws, the others are those that they were
    drawn["memory"] = {k: apart.choice(v) if apart.random() < 1 / 3 else v[0] for k, v in MEMORY.items()}
    if rule in ("rtrl", "eprop", "perturbation") and key != "head":
        drawn["network"]["head"] = "gradient"
    drawn[where][key] = value
    drawn["learning"]["rule"] = rule
    return drawn


def alone(rule: str, where: str, key: str, value: Any) -> Choice:
    """A choice with the other keys at their defaults, or at what it needs."""
    tables = {"network": NETWORK, "learning": LEARNING, "layer": LAYER, "memory": MEMORY}
    drawn = {name: {k: v[0] for k, v in table.items()} for name, table in tables.items()}
    if rule in ("rtrl", "eprop", "perturbation") and key != "head":
        drawn["network"]["head"] = "gradient"
    for name, keys in NEEDS.get((rule, key, str(value)), {}).items():
        drawn[name] |= keys
    if value == "population":
        drawn["network"]["population"] = 2
    drawn[where][key] = value
    drawn["learning"]["rule"] = rule
    return drawn


def stream_of(drawn: Choice) -> Stream:
    layer = {"neurons": 10, "threshold": 0.5, **{k: v for k, v in drawn["layer"].items() if v is not None}}
    above = [{"neurons": 8, "threshold": 0.3}] if drawn["layer"]["recurrent"] is False else []
    raw = {
        "network": {
            **drawn["network"],
            "layers": [layer, *above],
            "classes": ["a", "b", "c"],
            "trace_ms": [20.0, 60.0],
        },
        "learning": {**drawn["learning"], "surrogate_slope": 0.5, "rate": 1e-3},
        "memory": {**drawn["memory"], "budget_mb": 0.05},
        "stream": [{"id": "s", "width": 5, "height": 4, "planes": 1}],
    }
    return parse_config(raw).stream[0]


def combinations() -> list[tuple[str, Choice]]:
    rng, found, single = random.Random(0), [], []
    for rule in RULES:
        for where, table in (("network", NETWORK), ("learning", LEARNING), ("layer", LAYER), ("memory", MEMORY)):
            for key, values in table.items():
                for value in values:
                    found += [(rule, draw(rng, rule, where, key, value)) for _ in range(8)]
                    single.append((rule, alone(rule, where, key, value)))
    return found + single


DRAWN = combinations()


def accepted() -> list[tuple[str, Choice]]:
    """For each rule and choice, the first combination that is not refused."""
    met: set[tuple[str, str, str]] = set()
    kept = []
    for rule, drawn in DRAWN:
        try:
            stream_of(drawn)
        except ConfigError:
            continue
        choices = {(rule, key, repr(value)) for table in drawn.values() for key, value in table.items()}
        if choices - met:
            met |= choices
            kept.append((rule, drawn))
    return kept


ACCEPTED = accepted()


def test_refusals_are_one_line_with_the_place() -> None:
    refused = 0
    for _, drawn in DRAWN:
        try:
            stream_of(drawn)
        except ConfigError as error:
            refused += 1
            text = str(error)
            assert text.startswith("stream[0]."), text
            assert "\n" not in text and ": " in text and len(text) < 250, text
    assert refused > 100


def test_every_rule_is_met_often() -> None:
    met = [rule for rule, _ in ACCEPTED]
    assert set(met) == set(RULES)
    assert min(met.count(rule) for rule in RULES) >= 5


def test_every_choice_is_met_under_every_rule_that_does_not_refuse_it() -> None:
    met = {(rule, k, repr(v)) for rule, drawn in ACCEPTED for table in drawn.values() for k, v in table.items()}
    refused = 0
    for rule in RULES:
        for where, table in (("network", NETWORK), ("learning", LEARNING), ("layer", LAYER), ("memory", MEMORY)):
            for key, values in table.items():
                for value in values:
                    if (rule, key, repr(value)) not in met:
                        refused += 1
                        with pytest.raises(ConfigError):
                            stream_of(alone(rule, where, key, value))
    assert len(met) > 2 * refused > 50


def awake(learner: AnyLearner) -> AnyLearner:
    """Give the read-out weights to begin with: outputs that fire have far to go from 0, too far for a check."""
    if isinstance(learner, MemoryLearner):
        awake(learner.inner)
        learner.net.weight[:] = learner.inner.net.weight
    if isinstance(learner, GradientLearner):
        weight = layer_weight(learner.net, len(learner.net.threshold) - 1)
        weight[:] = np.random.default_rng(0).normal(0.2, 0.4, weight.shape)
        if learner.spec.feedback == "symmetric":
            mirror(learner.net, learner._feedback)
    return learner


@pytest.mark.parametrize("case", range(len(ACCEPTED)), ids=[f"{rule}-{k}" for k, (rule, _) in enumerate(ACCEPTED)])
def test_what_is_not_refused_keeps_the_contract(case: int) -> None:
    stream = stream_of(ACCEPTED[case][1])
    checks.check_learner(lambda: awake(build_learner(stream)))
