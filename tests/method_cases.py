"""What the tests of methods against forgetting share: networks to put them around, windows to show, what must hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradient_cases
import numpy as np

from spiked.learners import checks
from spiked.learners.contract import CLOSE, Cues, Steps, silent_cues
from spiked.learners.gradient import GradientLearner
from spiked.learners.memory import MemoryLearner
from spiked.learners.methods import Method
from spiked.learners.trials import random_steps, same_arrays, stream_for

MakeMethod = Callable[[GradientLearner], Method]
NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {"optimizer": "rms", "rate": 0.005},
    "recurrent": {
        "kind": "recurrent", "objective": "rate_ce", "theta_out": 1.0, "feedback": "adaptive", "rate": 0.001,
        "optimizer": "sgd", "spread": 0.3,
    },
}  # fmt: skip


def learner(dtype: Any = np.float64, **case: Any) -> GradientLearner:
    return gradient_cases.build(dtype=dtype, **({"rate": 0.05, "spread": 0.5} | case))


def window(seed: int, label: int, n_in: int = gradient_cases.N_IN, n: int = 40) -> tuple[Steps, Cues]:
    """A window of one class."""
    cues = silent_cues(n)
    cues.labels[:] = label
    cues.flags[-1] = CLOSE
    return random_steps(np.random.default_rng(seed), n, n_in, 8), cues


def keeps_the_contract(network: str, method: MakeMethod) -> None:
    def make() -> MemoryLearner:
        inner = learner(np.float32, **NETWORKS[network])
        return MemoryLearner(inner, (method(inner),))

    checks.check_learner(make)


def equals_naive(network: str, method: MakeMethod) -> None:
    """At strength 0 it says, and learns, what the learner alone does, to the bit."""
    naive, inner = (learner(np.float32, **NETWORKS[network]) for _ in range(2))
    a = MemoryLearner(inner, (method(inner),))
    steps, cues = stream_for(naive, np.random.default_rng(5), 600)
    said, want = a.run(steps, cues), naive.run(steps, cues)
    assert np.array_equal(said.scores, want.scores) and np.array_equal(said.spikes, want.spikes)
    assert np.array_equal(said.flags, want.flags) and np.array_equal(said.labels, want.labels)
    for each in (a, naive):
        each.recall(*window(3, 1))
        each.grow(6)
        each.run(*window(4, 5))
        each.conclude(2)
    same_arrays(naive.state(), a.state(), "", "at strength 0")
