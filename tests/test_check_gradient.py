"""Combinations of the options of `GradientLearner` against the one list of checks: a covering set of each pair."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spiked.learners import checks
from spiked.learners.decoders import DECODERS
from spiked.learners.feedback import FEEDBACKS
from spiked.learners.gradient import GradientLearner
from spiked.learners.gradient_spec import GradientSpec, check_names
from spiked.learners.lif import LayerSpec, make_lif
from spiked.learners.objectives import NEEDS_SPIKES, OBJECTIVES, PER_STEP
from spiked.learners.optimizers import OPTIMIZERS
from spiked.learners.regularisers import Regularisers
from spiked.learners.surrogates import SURROGATES

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

N_IN, N_OUT = 20, 3
SLOPES = {"triangular": 0.7, "spike": 0.1, "noisy_spike": 0.3}
NEURONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "decays": {"tau_mem_ms": np.linspace(5, 30, 12)},
    "current": {"tau_syn_ms": 5.0, "delay_ms": np.arange(12) % 4},
    "adaptive": {"tau_adapt_ms": 60.0, "jump": 0.2, "refractory_ms": 2.0},
    "recurrent": {"recurrent": True, "tau_adapt_ms": 40.0},
}
PENALTIES = Regularisers(l1=0.01, upper=0.01, upper_hz=1.0, lower=0.01, lower_hz=20.0)
FACTORS: dict[str, tuple[Any, ...]] = {
    "objective": OBJECTIVES,
    "feedback": FEEDBACKS,
    "surrogate": SURROGATES,
    "neurons": tuple(NEURONS),
    "optimizer": OPTIMIZERS,
    "decoder": DECODERS,
    "depth": (1, 2, 3),
    "population": (1, 2),
    "decays_rate": (0.0, 0.1),  # more, and decays end at a memory that outlasts the check's silence
    "regularisers": (False, True),
    "error_threshold": (0.0, 0.01),
}


def goes_together(case: dict[str, Any]) -> bool:
    """Whether a choice of some of the options is one that a configuration may make."""
    objective, feedback, decoder = case.get("objective"), case.get("feedback"), case.get("decoder")
    if feedback == "local" and objective is not None and (objective not in PER_STEP or objective == "reward"):
        return False
    if objective == "reward" and case.get("regularisers"):
        return False
    return decoder != "population" or case.get("population", 2) > 1


def covering(factors: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Few full choices in which each pair of values that goes together occurs: greedily, a value at a time."""
    pairs = {
        (a, x, b, y)
        for a, b in itertools.combinations(factors, 2)
        for x, y in itertools.product(factors[a], factors[b])
        if goes_together({a: x, b: y})
    }
    cases, rng = [], np.random.default_rng(0)
    while pairs:
        a, x, b, y = min(pairs, key=repr)
        case = {a: x, b: y}
        for name in map(str, rng.permutation([n for n in factors if n not in case])):
            open_values = [v for v in factors[name] if goes_together(case | {name: v})]
            case[name] = max(open_values, key=lambda v: sum(_pair(case, name, v, c) in pairs for c in case))
        cases.append(case)
        done = {_pair(case, a, case[a], b) for a, b in itertools.combinations(factors, 2)}
        assert pairs & done
        pairs -= done
    return cases


def _pair(case: dict[str, Any], name: str, value: Any, other: str) -> tuple[Any, ...]:
    order = list(FACTORS)
    at = (name, value), (other, case[other])
    first, second = sorted(at, key=lambda p: order.index(p[0]))
    return (*first, *second)


def make(case: dict[str, Any]) -> GradientLearner:
    p, objective, decoder = case["population"], case["objective"], case["decoder"]
    fires = objective in NEEDS_SPIKES or decoder != "membrane" or case["depth"] == 1
    hidden = [
        LayerSpec(**({"neurons": 12, "tau_mem_ms": 10.0} | NEURONS[case["neurons"]])),
        LayerSpec(10, 20.0, 1.0, "zero"),
    ]
    read_out = LayerSpec(N_OUT * p, 30.0, 1.0 if fires else np.inf)
    net = make_lif(N_IN, [*hidden[: case["depth"] - 1], read_out], 1.0, np.float32)
    net.weight[:] = np.random.default_rng(case["depth"]).normal(0.05, 0.4, net.weight.shape)
    spec = GradientSpec(
        objective=objective, surrogate=case["surrogate"], surrogate_slope=SLOPES.get(case["surrogate"], 2.0),
        feedback=case["feedback"], optimizer=case["optimizer"],
        rate=1e-2 if decoder == "latency" and objective in ("reward", "spike_time_mse") else 1e-3,  # scores that jump
        decays_rate=case["decays_rate"],
        error_threshold=case["error_threshold"], decoder=decoder, population=p, decoder_tau_ms=60.0,
        regularisers=PENALTIES if case["regularisers"] else Regularisers(),
    )  # fmt: skip
    return GradientLearner(net, spec, seed=1)


CASES = covering(FACTORS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(v) for v in case.values()))
def test_learner_keeps_its_contract(case: dict[str, Any]) -> None:
    checks.check_learner(lambda: make(case))


def test_each_pair_occurs() -> None:
    for a, b in itertools.combinations(FACTORS, 2):
        found = {(case[a], case[b]) for case in CASES}
        assert found == {(x, y) for x, y in itertools.product(FACTORS[a], FACTORS[b]) if goes_together({a: x, b: y})}


def test_names_are_checked() -> None:
    for key in ("objective", "surrogate", "feedback", "optimizer"):
        with pytest.raises(ValueError, match=f"{key} 'none'; allowed: "):
            check_names(replace(GradientSpec(), **{key: "none"}))
    check_names(GradientSpec())


def test_a_read_out_has_no_parts_of_its_own() -> None:
    for part in ({"recurrent": True}, {"tau_adapt_ms": 5.0}, {"tau_syn_ms": 5.0}, {"refractory_ms": 5.0}):
        with pytest.raises(ValueError, match="the last layer"):
            GradientLearner(make_lif(4, [LayerSpec(2, **part)], 1.0), GradientSpec())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="population of 2"):
        GradientLearner(make_lif(4, [LayerSpec(3)], 1.0), GradientSpec(population=2))
