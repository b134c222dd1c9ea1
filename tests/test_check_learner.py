"""Every learner, in every valid combination of its options, against the one list of checks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiked.learners import checks, trials
from spiked.learners.contract import Learner, Steps
from spiked.learners.fixed import HEADS, FixedLearner, FixedSpec
from spiked.learners.lif import LayerSpec, Lif, make_lif
from spiked.learners.rtrl import (
    EACH_STEP_DECODERS,
    EACH_STEP_FEEDBACKS,
    EACH_STEP_OBJECTIVES,
    RtrlLearner,
    RtrlSpec,
)

N_IN, N_OUT = 20, 3
Make = Callable[[], Learner]


def net_of(depth: int, n_out: int, theta_out: float = 1.0) -> Lif:
    sizes = [*[12, 10][: depth - 1], n_out]
    layers = [LayerSpec(n, 10.0 + 10 * i, 1.0, ("subtract", "zero")[i % 2]) for i, n in enumerate(sizes)]
    layers[-1] = replace(layers[-1], threshold=theta_out)
    net = make_lif(N_IN, layers, 1.0, np.float32)
    net.weight[:] = np.random.default_rng(depth).normal(0.05, 0.4, net.weight.shape)
    return net


def fixed(head: str, depth: int = 1) -> Make:
    return lambda: FixedLearner(net_of(depth, 8), N_OUT, FixedSpec(head=head, trace_ms=(20.0, 100.0)))


def rtrl(depth: int, spec: RtrlSpec) -> Make:
    return lambda: RtrlLearner(net_of(depth, N_OUT), spec, seed=1)


def rtrl_specs() -> dict[str, Make]:
    makes = {}
    combinations = itertools.product(EACH_STEP_OBJECTIVES, EACH_STEP_FEEDBACKS, EACH_STEP_DECODERS, (1, 2, 3))
    for objective, feedback, decoder, depth in combinations:
        if depth == 1 and feedback != "symmetric":
            continue  # no hidden layer to feed back to
        spec = RtrlSpec(objective, "triangular", 0.7, feedback, 1e-3, decoder, 60.0)
        makes[f"{objective}-{feedback}-{decoder}-{depth}"] = rtrl(depth, spec)
    return makes


LEARNERS: dict[str, Make] = {f"fixed-{head}-{depth}": fixed(head, depth) for head in HEADS for depth in (1, 2)}
LEARNERS |= rtrl_specs()


@pytest.mark.parametrize("name", LEARNERS)
def test_learner_keeps_its_contract(name: str) -> None:
    checks.check_learner(LEARNERS[name])


@pytest.mark.parametrize(
    "name", ["fixed-discriminant-2", "membrane_ce-random-rate-2", "membrane_mse-symmetric-membrane-3"]
)
@settings(max_examples=30, deadline=None)
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


class Broken:
    """A learner with one fault, to see that the checks can fail."""

    def __init__(self, fault: str) -> None:
        self.inner, self.fault = LEARNERS["membrane_ce-symmetric-membrane-2"](), fault
        self.n_in = self.inner.n_in

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def run(self, steps, cues=None, learn=True):  # type: ignore[no-untyped-def]
        if self.fault == "learns when told not to":
            learn = True
        if self.fault == "writes to its input":
            steps.counts[:] *= 2
        if self.fault == "forgets at chunks":
            self.inner._live.state.membrane[:] = 0
        said = self.inner.run(steps, cues, learn)
        if self.fault == "overflows" and steps.counts.max(initial=0) > 1e5:
            self.inner._live.state.membrane[:] = np.inf
        return said

    def step(self, steps: Steps, cues=None, learn=True):  # type: ignore[no-untyped-def]
        return self.run(steps, cues, learn)

    def reset(self) -> None:
        if self.fault != "does not reset":
            self.inner.reset()

    def recall(self, steps, cues):  # type: ignore[no-untyped-def]
        if self.fault == "recalls live":
            self.inner.run(steps, cues)
        elif self.fault != "recalls nothing":
            self.inner.recall(steps, cues)

    def state(self) -> dict[str, np.ndarray]:
        if self.fault == "lends its state":
            return {"n_out": np.array([self.inner.n_out])} | self.inner.arrays()  # type: ignore[attr-defined]
        state = self.inner.state()
        if self.fault == "leaves out a trace":
            del state["influence.xhat"]
        return state


@pytest.mark.parametrize(
    ("fault", "found_by"),
    [
        ("learns when told not to", "only_teaching_teaches"),
        ("writes to its input", "inputs_untouched"),
        ("forgets at chunks", "chunks_equal_steps"),
        ("overflows", "worst_case_is_finite"),
        ("does not reset", "reset_forgets_dynamics"),
        ("recalls live", "recall_learns_as_live"),
        ("recalls nothing", "recall_learns_as_live"),
        ("lends its state", "state_continues"),
    ],
)
def test_the_checks_find_faults(fault: str, found_by: str) -> None:
    found = dict(checks.yield_checks(lambda: Broken(fault)))  # type: ignore[arg-type,return-value]
    with pytest.raises(AssertionError):
        found[found_by]()
