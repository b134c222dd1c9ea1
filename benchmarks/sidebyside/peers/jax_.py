"""Written by hand in JAX: one compiled function a step, state and weights donated, so that they move in place.

`one_step` is the rule of `torch_`; `exact` is the rule of ours, written densely: eligibility filtered by the membrane
above, ``e = kappa e + psi m``, ``W -= rate L e``, in every weight at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from sidebyside.peers import Peer
from sidebyside.workloads import BETA, LABEL, RATE, Workload, spikes, weights

jax.config.update("jax_cpu_enable_async_dispatch", False)
VERSION = jax.__version__
SLOPE = 2.0


def _state(load: Workload) -> dict[str, Any]:
    zeros = {"u": load.hidden, "s": load.hidden, "v": load.n_out, "seen": load.n_in, "spoken": load.hidden}
    return {name: jnp.zeros(n) for name, n in zeros.items()}


def _forward(state: dict[str, Any], into: Any, out: Any, rows: Any) -> dict[str, Any]:
    u = BETA * state["u"] + into[rows].sum(0) - state["s"]
    s = (u > 1.0).astype(jnp.float32)
    return {**state, "u": u, "s": s, "v": BETA * state["v"] + s @ out}


def _credit(state: dict[str, Any], out: Any) -> tuple[Any, Any, Any]:
    error = jax.nn.softmax(state["v"]) - jax.nn.one_hot(LABEL, len(state["v"]))
    return error, out @ error, 1 / (1 + SLOPE * jnp.abs(state["u"] - 1)) ** 2


def inference(load: Workload, k: int) -> Callable[[int], Any]:
    """Active rows gathered and summed, in one compiled call."""
    first, pool = weights(load, k), list(spikes(load.n_in, k))
    into, out, state = jnp.asarray(first.into), jnp.asarray(first.out), _state(load)
    forward = jax.jit(_forward, donate_argnums=0)

    def step(i: int) -> Any:
        nonlocal state
        state = forward(state, into, out, pool[i % len(pool)])
        return state["v"].block_until_ready()

    return step


@partial(jax.jit, donate_argnums=(0, 1, 2))
def _one_step(state: dict[str, Any], into: Any, out: Any, rows: Any, rate: float) -> tuple[dict[str, Any], Any, Any]:
    state = _forward(state, into, out, rows)
    seen = (BETA * state["seen"]).at[rows].add(1.0)
    spoken = BETA * state["spoken"] + state["s"]
    error, signal, psi = _credit(state, out)
    moved = into - rate * jnp.outer(seen, signal * psi), out - rate * jnp.outer(spoken, error)
    return {**state, "seen": seen, "spoken": spoken}, *moved


@partial(jax.jit, donate_argnums=(0, 1, 2))
def _exact(state: dict[str, Any], into: Any, out: Any, rows: Any, rate: float) -> tuple[dict[str, Any], Any, Any]:
    state = _forward(state, into, out, rows)
    seen = (BETA * state["seen"]).at[rows].add(1.0)
    spoken = BETA * state["spoken"] + state["s"]
    error, signal, psi = _credit(state, out)
    eligible = BETA * state["eligible"] + jnp.outer(seen, psi)
    moved = into - rate * eligible * signal, out - rate * jnp.outer(spoken, error)
    return {**state, "seen": seen, "spoken": spoken, "eligible": eligible}, *moved


def _learning(load: Workload, k: int, exact: bool, rate: float = RATE) -> Callable[[int], Any]:
    first, pool = weights(load, k), list(spikes(load.n_in, k))
    into, out, state = jnp.array(first.into), jnp.array(first.out), _state(load)
    if exact:
        state["eligible"] = jnp.zeros((load.n_in, load.hidden))
    move = _exact if exact else _one_step

    def step(i: int) -> Any:
        nonlocal state, into, out
        state, into, out = move(state, into, out, pool[i % len(pool)], rate)
        return state["v"].block_until_ready()

    return step


PEERS = [
    Peer("JAX, by hand: gather", "inference", inference, "active rows gathered and summed", same=True, large=True),
    Peer(
        "JAX, by hand: online", "learning", partial(_learning, exact=False), "one-step rule, dense",
        same=True, large=True,
    ),
    Peer(
        "JAX, by hand: exact", "learning", partial(_learning, exact=True), "the rule of ours, dense",
        same=True, exact=True, large=True,
    ),
]  # fmt: skip
