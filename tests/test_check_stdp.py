"""STDP in every combination of its rules against the one list of checks, and in any chunks."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from silence import subnormal_after_silence

from spiked.learners import checks, trials
from spiked.learners.contract import Learner
from spiked.learners.lif import LayerSpec, make_lif
from spiked.learners.stdp import StdpLearner
from spiked.learners.stdp_rules import BOUNDS, MODULATIONS, PAIRINGS, STDP_HEADS, StdpSpec

N_IN, N_OUT = 20, 3
Make = Callable[[], Learner]


def stdp(depth: int = 1, **spec: object) -> Make:
    def make() -> StdpLearner:
        sizes = [10, 8][-depth:]
        layers = [LayerSpec(n, 10.0 + 10 * i, 1.5, ("subtract", "zero")[i % 2]) for i, n in enumerate(sizes)]
        net = make_lif(N_IN, layers, 1.0, np.float32)
        rng = np.random.default_rng(depth)
        net.weight[:] = rng.uniform(0.05, 0.4, len(net.weight)) * (rng.random(len(net.weight)) < 0.9)
        chosen = {"rate": 0.01, "a_minus": -0.9, "trace_ms": (20.0, 100.0), "w_min": 0.01, "settle_windows": 0} | spec
        return StdpLearner(net, N_OUT, StdpSpec(**chosen))  # type: ignore[arg-type]

    return make


LEARNERS: dict[str, Make] = {}
for rule, pairing, bounds, modulation, head in itertools.product(
    ("pair", "triplet"), PAIRINGS, BOUNDS, MODULATIONS, STDP_HEADS
):
    LEARNERS[f"{rule}-{pairing}-{bounds}-{modulation}-{head}"] = stdp(
        rule=rule, pairing=pairing, bounds=bounds, modulation=modulation, head=head, error_threshold=0.3
    )
for pairing, bounds in itertools.product(PAIRINGS, BOUNDS):
    LEARNERS[f"prototype-{pairing}-{bounds}"] = stdp(rule="prototype", pairing=pairing, bounds=bounds)
LEARNERS |= {
    "sum": stdp(norm="sum"),
    "l2-soft-mu": stdp(norm="l2", bounds="soft", mu=0.3),
    "winners": stdp(winners=1, group=3, inhibit=True),
    "winners-learn": stdp(winners=1, group=4, compete="learn"),
    "homeostasis": stdp(target_hz=20.0, theta_rise=0.05),
    "settles": stdp(settle_windows=12),
    "hard-assignment": stdp(head="assignment", assignment="hard"),
    "upper-layer": stdp(2, plastic=(1,)),
    "both-layers": stdp(2, plastic=(0, 1), norm="sum", target_hz=20.0, winners=2, inhibit=True),
    "signed": stdp(w_min=-0.5),
    "everything-waits": stdp(2, plastic=(0, 1), rule="triplet", modulation="reward", norm="l2", target_hz=30.0),
}


@pytest.mark.parametrize("name", ["pair-all-hard-none-discriminant", "sum", "homeostasis", "both-layers"])
def test_silence_costs_no_more_than_events(name: str) -> None:
    assert subnormal_after_silence(LEARNERS[name]()) == []


@pytest.mark.parametrize("name", LEARNERS)
def test_learner_keeps_its_contract(name: str) -> None:
    checks.check_learner(LEARNERS[name])


@pytest.mark.parametrize("name", ["triplet-all-hard-none-discriminant", "both-layers", "everything-waits", "settles"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 200), data=st.data())
def test_any_chunking_of_any_stream_gives_the_same_bits(name: str, seed: int, n: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=12)))
    whole, chunked = LEARNERS[name](), LEARNERS[name]()
    rng = np.random.default_rng(seed)
    steps = trials.random_steps(rng, n, N_IN, 12, (0.0, 4.0))
    cues = trials.random_cues(rng, n, N_OUT, every=15)
    want, got = whole.run(steps, cues), trials.run_in_parts(chunked, steps, cues, cuts)
    for x, y in zip(want, got):
        assert x.tobytes() == y.tobytes()
    ours, theirs = whole.state(), chunked.state()
    assert all(ours[k].tobytes() == theirs[k].tobytes() for k in ours)


class Broken(StdpLearner):
    """A learner with one fault, to see that the checks of unsupervised features can fail."""

    fault = ""

    def run(self, steps, cues=None, learn=True):  # type: ignore[no-untyped-def]
        said = super().run(steps, cues, learn)
        if self.fault == "teaches the head without a label" and learn:
            self.head.examples[0] += 1
        if self.fault == "learns at rate 0" and learn:
            self.net.weight[:] *= 0.5
        return said

    def recall(self, steps, cues):  # type: ignore[no-untyped-def]
        if self.fault == "recalls live":
            self.run(steps, cues)
        elif self.fault != "recalls nothing":
            super().recall(steps, cues)


@pytest.mark.parametrize(
    ("fault", "found_by"),
    [
        ("teaches the head without a label", "only_teaching_teaches"),
        ("learns at rate 0", "only_teaching_teaches"),
        ("recalls live", "recall_learns_as_live"),
        ("recalls nothing", "recall_learns_as_live"),
    ],
)
def test_the_checks_find_faults(fault: str, found_by: str) -> None:
    def make() -> Learner:
        right = stdp()()
        learner = Broken(right.net, N_OUT, right.spec)  # type: ignore[attr-defined]
        learner.fault = fault
        return learner

    with pytest.raises(AssertionError):
        dict(checks.yield_checks(make))[found_by]()
