"""What the tests of `GradientLearner` share: small learners, their streams, and the same stack for the oracles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import naive
import naive_gradient
import numpy as np

from spiked.learners.contract import CLOSE, UNLABELLED, Cues, Steps, silent_cues
from spiked.learners.gradient import GradientLearner
from spiked.learners.gradient_spec import GradientSpec
from spiked.learners.lif import LayerSpec, layer_weight, make_lif
from spiked.learners.trials import random_steps, silent_steps

N_IN, N_OUT = 30, 4
TOLERANCE: dict[Any, float] = {np.float32: 1e-5, np.float64: 1e-10}
TAUS = np.linspace(5.0, 40.0, 16)
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "zero": {"reset": "zero"},
    "decays": {"tau_mem_ms": TAUS},
    "current": {"tau_syn_ms": 5.0},
    "coupled": {"tau_adapt_ms": 30.0},
    "decoupled": {"tau_adapt_ms": 60.0, "jump": 0.4},
    "refractory": {"refractory_ms": 3.0},
    "recurrent": {"recurrent": True},
    "recurrent-adaptive": {"recurrent": True, "tau_adapt_ms": 60.0, "jump": 0.3},
    "all": {
        "tau_mem_ms": TAUS, "tau_syn_ms": 3.0, "tau_adapt_ms": 50.0, "jump": 0.3, "refractory_ms": 2.0,
        "recurrent": True, "reset": "zero",
    },
}  # fmt: skip


def build(
    hidden: tuple[int, ...] = (16,),
    dtype: Any = np.float64,
    kind: str | dict[str, Any] = "plain",
    theta_out: float = np.inf,
    tau_out: float | np.ndarray = 30.0,
    reset_out: str = "subtract",
    seed: int = 0,
    n_in: int = N_IN,
    n_out: int = N_OUT,
    spread: float = 0.35,
    mean: float = 0.0,
    **spec: Any,
) -> GradientLearner:
    """A learner with hidden layers of one kind, at rate 0 by sgd unless said."""
    own = KINDS[kind] if isinstance(kind, str) else kind
    layers = [LayerSpec(**({"neurons": n, "tau_mem_ms": 20.0} | own)) for n in hidden]
    p = spec.get("population", 1)
    net = make_lif(n_in, [*layers, LayerSpec(n_out * p, tau_out, theta_out, reset_out)], 1.0, dtype)
    net.weight[:] = np.random.default_rng(seed).normal(mean, spread, net.weight.shape)
    if hidden:  # a softmax that is sure of itself loses its error to rounding
        net.weight[net.w_at[-2] :] *= 0.4
    return GradientLearner(net, GradientSpec(**({"optimizer": "sgd", "rate": 0.0} | spec)), seed=seed)


def layers_of(learner: GradientLearner) -> list[naive_gradient.Layer]:
    """The stack as the oracles take it, in float64, as it is now."""
    net = learner.net
    return [
        naive_gradient.Layer(
            layer_weight(net, i).astype(np.float64), net.beta[net.u_at[i] : net.u_at[i + 1]].astype(np.float64),
            float(net.threshold[i]), bool(net.to_zero[i]), float(net.alpha[i]), int(net.hold[i]), float(net.rho[i]),
            float(net.jump[i]), bool(net.recurrent[i]),
        )
        for i in range(len(net.threshold))
    ]  # fmt: skip


def matrices_of(learner: GradientLearner) -> list[np.ndarray]:
    """The feedback matrices that the learner drew, a copy, one a hidden layer."""
    f, sizes = learner._feedback, learner.net.sizes
    return [f.matrix[a:b].reshape(-1, int(n)).T.astype(float) for a, b, n in zip(f.at, f.at[1:], sizes[1:])]


def dense_of(learner: GradientLearner, **also: Any) -> naive_gradient.DenseGradient:
    """The same learner with dense traces."""
    s = learner.spec
    given = {
        "objective": s.objective, "kind": s.surrogate, "slope": s.surrogate_slope, "feedback": s.feedback,
        "matrices": matrices_of(learner) if s.feedback != "symmetric" else [], "optimizer": s.optimizer,
        "rate": learner.rate, "population": s.population, "least_error": s.error_threshold,
        "score_decay": float(np.exp(-1 / s.decoder_tau_ms)),
    }  # fmt: skip
    return naive_gradient.DenseGradient(layers_of(learner), **(given | also))


def busy(rng: np.random.Generator, n: int, gaps: tuple[int, ...] = (), active: int = 6, n_in: int = N_IN) -> Steps:
    """Stretches of `n` busy steps with silences between, counts other than 1."""
    parts = [random_steps(rng, n, n_in, active, (0.5, 2.5))]
    for gap in gaps:
        parts += [silent_steps(gap), random_steps(rng, n, n_in, active, (0.5, 2.5))]
    rows = np.concatenate([np.diff(p.indptr) for p in parts])
    indptr = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    return Steps(0, indptr, np.concatenate([p.indices for p in parts]), np.concatenate([p.counts for p in parts]))


def dense_x(steps: Steps, n_in: int = N_IN) -> np.ndarray:
    return naive.densify(steps.indptr, steps.indices, steps.counts, n_in)


def labelled(n: int, rng: np.random.Generator, closes: tuple[int, ...] = (), n_out: int = N_OUT) -> Cues:
    """Labels that change with the windows; nothing is known for a stretch of each."""
    cues = silent_cues(n)
    for start, stop in zip([0, *closes], [*closes, n]):
        cues.labels[start:stop] = rng.integers(n_out)
        cues.labels[start : start + 5] = UNLABELLED
    for stop in closes:
        cues.flags[stop - 1] = CLOSE
    return cues


def follow(dense: naive_gradient.DenseGradient, steps: Steps, cues: Cues, n_in: int = N_IN) -> None:
    """Run the dense learner along the stream of the other."""
    values = cues.values.astype(np.float64) if len(cues.values) else None
    naive_gradient.follow(dense, dense_x(steps, n_in), cues.labels, cues.flags & CLOSE, values)


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    assert np.abs(want).max() > 0
    return float(np.abs(got - want).max() / np.abs(want).max())


WORST: dict[tuple[str, str], float] = {}
"""Largest relative error of each rule and dtype in this process, for who wants the figures."""


def assert_close(got: np.ndarray, want: np.ndarray, tolerance: float, rule: str, dtype: Any = np.float64) -> None:
    error = relative_error(got, want)
    key = rule, np.dtype(dtype).name
    WORST[key] = max(error, WORST.get(key, 0.0))
    assert error < tolerance, rule


def step_taken(learner: GradientLearner, close: Callable[[], Any]) -> list[np.ndarray]:
    """What closing the window at rate 1 takes from the weights: the gradient that it used."""
    before = [learner.weights(i).astype(np.float64) for i in range(len(learner.net.threshold))]
    learner.rate = 1.0
    close()
    learner.rate = 0.0
    return [b - learner.weights(i) for i, b in enumerate(before)]
