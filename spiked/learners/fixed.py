"""Fixed spiking features under a head that learns at once: the default learner.

LIF layers whose weights stay as they were made (`receptive`), features from traces of the last layer's spikes
(`spike_traces`), and a streaming discriminant on them (`discriminant`). Nothing needs to know where a sample begins:
the traces fade by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spiked.learners.bundle import Bundles
from spiked.learners.contract import (
    CLOSE,
    NO_VALUES,
    UNLABELLED,
    Cues,
    Readouts,
    Steps,
    check_inputs,
    check_range,
    silent_cues,
)
from spiked.learners.discriminant import (
    PASSING,
    Discriminant,
    grow_discriminant,
    learn_example,
    make_discriminant,
    score,
)
from spiked.learners.dynamics import lif_step
from spiked.learners.jit import kernel
from spiked.learners.lif import Lif, LifState, layer_weight, make_lif_state, rest_lif
from spiked.learners.running import RunMixin, room_between, room_for
from spiked.learners.spike_traces import SpikeTraces, featurize, follow, make_traces, take_totals
from spiked.learners.state import StateMixin

HEADS = ("discriminant", "prototype")


@dataclass(frozen=True)
class FixedSpec:
    """The head and what it reads.

    Parameters
    ----------
    head : ``"discriminant"`` or ``"prototype"`` (nearest class mean).
    trace_ms : time constants of the spike traces.
    ridge : lam of the discriminant; what it takes for noise before it has seen any.
    """

    head: str = "discriminant"
    trace_ms: tuple[float, ...] = (20.0, 50.0, 100.0, 200.0, 400.0)
    ridge: float = 5.0


@kernel
def _read(traces, head, state, scores, spikes, row):  # type: ignore[no-untyped-def]
    """Features from the traces, and a row of the read-out."""
    featurize(traces)
    said = np.empty(len(head.examples))
    score(head, traces.features, said)
    for k in range(len(said)):
        scores[row, k] = said[k]
    take_totals(state, spikes, row)


@kernel
def _run(bundle, indptr, indices, counts, flags, labels, learn, scores, spikes):  # type: ignore[no-untyped-def]
    """All steps of a run; the bundle is of the network, its state, the traces and the head."""
    net, state, traces, head = bundle.parts
    a = net.u_at[len(net.threshold) - 1]
    spike = state.spike[a : net.u_at[len(net.threshold)]]
    row = 0
    for t in range(len(indptr) - 1):
        lo, hi = indptr[t], indptr[t + 1]
        lif_step(net, state, indices[lo:hi], counts[lo:hi])
        follow(traces, spike)
        if flags[t]:
            _read(traces, head, state, scores, spikes, row)
            row += 1
            if learn and flags[t] & CLOSE and labels[t] != UNLABELLED:
                learn_example(head, traces.features, labels[t])


class FixedLearner(RunMixin, StateMixin):
    """Fixed LIF features and a streaming head.

    Parameters
    ----------
    net : layout and weights; never changed.
    n_out : classes known at the start.
    spec : head and traces.
    dt_ms : length of a step.
    """

    rate = 0.0

    def __init__(self, net: Lif, n_out: int, spec: FixedSpec, dt_ms: float = 1.0) -> None:
        self.net, self.spec = net, spec
        self.n_in, self.n_out = int(net.sizes[0]), n_out
        n_features = int(net.sizes[-1]) * len(spec.trace_ms)
        self._dt_ms = dt_ms
        self.head: Discriminant = make_discriminant(n_features, n_out, spec.ridge, spec.head == "discriminant")
        self._state: LifState = make_lif_state(net)
        self._traces = self._make_traces()
        self._bundles = Bundles()

    def _make_traces(self) -> SpikeTraces:
        return make_traces(int(self.net.sizes[-1]), self.spec.trace_ms, self._dt_ms)

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps in one compiled call."""
        cues = silent_cues(steps.n) if cues is None else cues
        check_inputs(steps, cues, self.n_in, self.n_out)
        said = room_for(cues, self.n_out, len(self.net.threshold))
        bundle = self._bundles.of(self.net, self._state, self._traces, self.head)
        _run(bundle, *steps[1:], *cues[:2], learn, said.scores, said.spikes)
        return said

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps."""
        said = room_between(label, self.n_out, len(self.net.threshold))
        check_range("label", said.labels, UNLABELLED, self.n_out)
        _read(self._traces, self.head, self._state, said.scores, said.spikes, 0)
        if learn and label != UNLABELLED:
            self.teach(label)
        return said

    def teach(self, label: int) -> None:
        """Let the head learn what it read last, as an example of `label`; once for each read-out."""
        learn_example(self.head, self._traces.features, np.int32(label))  # the type that a run has: compiled already

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Learn from kept steps on a side state, from rest."""
        with self.aside():
            self.run(steps, cues)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let all that happens inside happen on a side state, from rest; the live dynamics stand still."""
        live = self._state, self._traces
        self._state, self._traces = make_lif_state(self.net), self._make_traces()
        try:
            yield
        finally:
            self._state, self._traces = live

    def twin(self) -> FixedLearner:
        """Build a learner with dynamics of its own, and the same weights and head: what one learns, both know."""
        twin = copy(self)
        twin._state, twin._traces, twin._bundles = make_lif_state(self.net), self._make_traces(), Bundles()
        return twin

    def share(self, other: FixedLearner) -> None:
        """Take the head of another learner for one's own."""
        self.head, self.n_out = other.head, other.n_out

    def grow(self, n_out: int) -> None:
        """Add classes that nothing is known of yet."""
        self.head = grow_discriminant(self.head, n_out)
        self.n_out = n_out

    def reset(self) -> None:
        """Dynamics to rest; weights and statistics stay."""
        rest_lif(self._state)
        self._traces.trace[...] = 0

    def weights(self, layer: int) -> NDArray:
        """The weights of a layer, or (after the last) those of the head."""
        if layer == len(self.net.threshold):
            return self.head.weight.T.copy()
        return layer_weight(self.net, layer).copy()

    def layer_activity(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps since each neuron last fired, and where each layer begins."""
        return self._state.quiet, self.net.u_at

    def dynamics(self) -> dict[str, NDArray]:
        """What a reset puts to rest, by name."""
        return {"trace": self._traces.trace} | {f"state.{k}": v for k, v in self._state._asdict().items()}

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on, by name."""
        arrays: dict[str, NDArray] = {"net.weight": self.net.weight} | self.dynamics()
        arrays |= {f"head.{k}": v for k, v in self.head._asdict().items() if k not in PASSING}
        return arrays
