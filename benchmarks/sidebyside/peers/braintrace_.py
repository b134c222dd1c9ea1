"""braintrace (on brainstate and JAX): the network written in its terms, compiled to one function a step.

Learning is online: each step yields the gradient of this step's cross-entropy through the eligibility traces of
`pp_prop` (its linear-memory rule, ``decay_or_rank`` the membrane's decay), `D_RTRL` or `EProp`, and plain SGD
follows. The recurrent network has adaptive thresholds like ours; without recurrence the same model has neither.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import brainstate
import braintools
import braintrace
import jax
import jax.numpy as jnp
import numpy as np

from sidebyside.peers import Peer
from sidebyside.workloads import BETA, JUMP, LABEL, RATE, TAU_ADAPT_MS, Workload, dense_spikes, weights

jax.config.update("jax_cpu_enable_async_dispatch", False)
VERSION = braintrace.__version__
RHO = float(np.exp(-1.0 / TAU_ADAPT_MS))


class _Network(brainstate.nn.Module):  # type: ignore[misc,name-defined]
    """LIF neurons, recurrent with adaptive thresholds where the workload says so, and a leaky read-out."""

    def __init__(self, load: Workload, k: int) -> None:
        super().__init__()
        first = weights(load, k)
        self.n, self.n_out = load.hidden, load.n_out
        self.recurrent = load.task.startswith("eprop")
        into = np.concatenate([first.into, first.loops]) if self.recurrent else first.into
        self.into = braintrace.nn.Linear(len(into), self.n, w_init=jnp.asarray(into), b_init=None)
        self.out = braintrace.nn.Linear(self.n, self.n_out, w_init=jnp.asarray(first.out), b_init=None)
        self.surrogate = braintools.surrogate.ReluGrad()

    def init_state(self, batch_size: int | None = None, **_: Any) -> None:
        self.u = brainstate.HiddenState(jnp.zeros(self.n))
        self.v = brainstate.HiddenState(jnp.zeros(self.n_out))
        if self.recurrent:
            self.a = brainstate.HiddenState(jnp.zeros(self.n))

    def _spike(self) -> Any:
        return self.surrogate(self.u.value - 1.0 - (self.a.value if self.recurrent else 0.0))

    def update(self, x: Any) -> Any:
        before = self._spike()
        drive = self.into(jnp.concatenate([x, before]) if self.recurrent else x)
        self.u.value = BETA * self.u.value + drive - jax.lax.stop_gradient(before)
        if self.recurrent:
            self.a.value = RHO * self.a.value + JUMP * before
        self.v.value = BETA * self.v.value + self.out(self._spike())
        return self.v.value


def inference(load: Workload, k: int) -> Callable[[int], Any]:
    """The network's update, compiled."""
    model = _Network(load, k)
    brainstate.nn.init_all_states(model)
    forward = brainstate.transform.jit(model.update)
    x = jnp.asarray(dense_spikes(load.n_in, k))
    rows = list(x)
    return lambda i: forward(rows[i % len(rows)]).block_until_ready()


def learning(load: Workload, k: int, rule: str, **options: Any) -> Callable[[int], Any]:
    """The update, its traces, the gradient, SGD: compiled as one."""
    model, x = _Network(load, k), jnp.asarray(dense_spikes(load.n_in, k))
    learner = braintrace.compile(model, rule, x[0], **options)
    moving = model.states(brainstate.ParamState)

    def loss(row: Any) -> tuple[Any, Any]:
        said = learner(row)
        return -jax.nn.log_softmax(said)[LABEL], said

    @brainstate.transform.jit  # type: ignore[untyped-decorator]
    def move(row: Any) -> Any:
        grads, said = brainstate.transform.grad(loss, moving, has_aux=True)(row)
        for name, state in moving.items():
            state.value = jax.tree.map(lambda w, g: w - RATE * g, state.value, grads[name])
        return said

    rows = list(x)
    return lambda i: move(rows[i % len(rows)]).block_until_ready()


RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "pp_prop": ("pp_prop", {"decay_or_rank": BETA}),
    "D-RTRL": ("d_rtrl", {}),
    "e-prop": ("eprop", {"kappa_filter_decay": BETA}),
}
PEERS = [
    Peer("braintrace", "inference", inference, "dense", same=True),
    Peer("braintrace", "eprop-inference", inference, "dense", same=True),
    *(
        Peer(f"braintrace, {name}", task, partial(learning, rule=rule, **options), "online gradients, SGD", same=True)
        for name, (rule, options) in RULES.items()
        for task in ("learning", "eprop")
    ),
]
