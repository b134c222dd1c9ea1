"""Features that learn without labels, by spike-timing dependent plasticity, under a head that learns from few.

Layers flagged plastic learn from their own spikes (`stdp_rules`: what can be chosen; `stdp_pairs`: how pairs are
counted at the cost of events), and their neurons compete and keep their rate (`stdp_neurons`). All of it happens
whenever ``learn=True``, with or without a label. The head reads spike traces, as `fixed`'s does, or names neurons
(`assignment`).

A head over features that move goes stale: its statistics are of features that are no more. So plasticity can settle:
over the first `StdpSpec.settle_windows` windows its rate falls to 0 in a straight line, after which the features are
fixed, cost what inference costs, and the head's statistics stay true. Measured on N-MNIST, 900 samples once, 256
neurons, three splits: pairs at a rate of 0.01 with thresholds that hold 20 Hz, 85.5 % right where features never settle
and 90.2 % where they settle in 150 windows; at a rate of 0.002 with thresholds left alone, both 93.1 % (ten splits),
and settling saves two thirds of the time.

With ``modulation = "reward"``, windows are worth what they earned less the running mean: ``cues.values[label, 0]``, if
there are values (the head then learns nothing: no class was named), else 1 for a right class and 0 for a wrong one.
With ``"error"``, a window's changes are dropped unless the head erred by `StdpSpec.error_threshold`. A window without
a label leaves them waiting, fading with `StdpSpec.tau_eligibility_ms`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.learners.assignment import Assignment, grow_assignment, make_assignment
from spiked.learners.bundle import Bundles
from spiked.learners.contract import (
    NO_VALUES,
    UNLABELLED,
    Cues,
    Readouts,
    Steps,
    check_inputs,
    check_range,
    silent_cues,
)
from spiked.learners.discriminant import PASSING, Discriminant, grow_discriminant, make_discriminant
from spiked.learners.lif import Lif, LifState, make_lif_state, rest_lif
from spiked.learners.running import RunMixin, room_between, room_for
from spiked.learners.spike_traces import SpikeTraces, make_traces
from spiked.learners.state import StateMixin
from spiked.learners.stdp_closing import Memory, close_window, column_sizes, read_out
from spiked.learners.stdp_events import settle
from spiked.learners.stdp_kernels import pace_after, rest_pairs, run_steps
from spiked.learners.stdp_pairs import Pairs, make_pairs, with_fields
from spiked.learners.stdp_rules import StdpSpec, make_options

DERIVED = ("x_at", "field_at", "field", "rows", "counts", "now", "chosen")
"""Of `Pairs`: what follows from the layout and the weights, and room to work in."""


class StdpLearner(RunMixin, StateMixin):
    """LIF layers that learn by STDP, and a streaming head.

    Parameters
    ----------
    net : layout and initial weights; owned by the learner from here on. Weights of plastic layers within the bounds.
    n_out : classes known at the start.
    spec : how it learns.
    dt_ms : length of a step.

    Attributes
    ----------
    rate : factor of all changes to the features; 0 stops them, and the head learns on. May be set while running.
    unsupervised : True: windows without a label teach too.
    """

    unsupervised = True

    def __init__(self, net: Lif, n_out: int, spec: StdpSpec, dt_ms: float = 1.0) -> None:
        self.net, self.spec, self.rate = net, spec, spec.rate
        self.n_in, self.n_out = int(net.sizes[0]), n_out
        self._dt_ms, self._options = dt_ms, make_options(net, spec, dt_ms)
        for layer in spec.plastic:
            self._check_plain(layer)
            self._check_weights(layer)
        n, dtype = int(net.u_at[-1]), net.weight.dtype
        assign = spec.head == "assignment"
        n_features = 0 if assign else int(net.sizes[-1]) * len(spec.trace_ms)
        self._discriminant = make_discriminant(n_features, n_out, spec.ridge, spec.head == "discriminant")
        self._assignment = make_assignment(int(net.sizes[-1]) if assign else 0, n_out)
        self._state: LifState = make_lif_state(net)
        self._traces = self._make_traces()
        self._pairs: Pairs = make_pairs(net, self._options.block)
        self._find_fields()
        self._memory = Memory(
            theta=np.zeros(n, dtype), wait=np.zeros(len(net.weight) if spec.waits else 1, dtype), scale=np.ones(1),
            hold=np.zeros(n), windows=np.zeros(1, np.int64), reward=np.zeros(2), said=np.zeros(n_out),
        )  # fmt: skip
        self._room = np.zeros(n)
        self._bundles = Bundles()
        if spec.norm != "none":
            column_sizes(net, self._options, self._memory.hold)

    def _check_plain(self, layer: int) -> None:
        net = self.net
        if net.recurrent[layer] or net.alpha[layer] or net.hold[layer] or net.jump[layer] or net.longest[layer]:
            raise ValueError(f"plastic layer {layer} has neurons of its own: plain ones, with a homeostatic threshold")

    def _check_weights(self, layer: int) -> None:
        weight = self.net.weight[self.net.w_at[layer] : self.net.w_at[layer + 1]]
        there = weight[weight != 0] if self._options.sparse else weight
        low, high = float(there.min(initial=np.inf)), float(there.max(initial=-np.inf))
        if low < self._options.w_min or high > self._options.w_max:
            raise ValueError(
                f"weights {low}..{high} of plastic layer {layer} are not in {self.spec.w_min}..{self.spec.w_max}"
            )

    def _find_fields(self) -> None:
        if self.spec.eager:
            self._pairs = with_fields(self.net, self._pairs, self._options.sparse)

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`, bit for bit; raises ValueError naming the array that does not fit."""
        super().load_state(state)
        self._find_fields()

    def _make_traces(self) -> SpikeTraces:
        return make_traces(int(self.net.sizes[-1]), self.spec.trace_ms, self._dt_ms)

    @property
    def head(self) -> Discriminant | Assignment:
        """The head's statistics."""
        return self._assignment if self.spec.head == "assignment" else self._discriminant

    @property
    def theta(self) -> NDArray[np.floating]:
        """What each neuron's threshold is above its layer's (a copy), float[n] over all layers."""
        return self._memory.theta.copy()

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps in one compiled call."""
        cues = silent_cues(steps.n) if cues is None else cues
        return self._advance(
            self._bundles, self.net, self._state, self._pairs, self._traces, float(self.rate), steps, cues, learn
        )  # fmt: skip

    def _advance(  # type: ignore[no-untyped-def]
        self, bundles, net, state, pairs, traces, rate, steps: Steps, cues: Cues, learn: bool
    ) -> Readouts:
        check_inputs(steps, cues, self.n_in, len(cues.values) or self.n_out)
        said = room_for(cues, self.n_out, len(self.net.threshold))
        bundle = bundles.of(
            net, state, pairs, traces, self._discriminant, self._assignment, self._memory, self._options, self._room
        )  # fmt: skip
        run_steps(bundle, rate, *steps[1:], *cues, learn, said.scores, said.spikes)
        return said

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps."""
        said = room_between(label, self.n_out, len(self.net.threshold))
        check_range("label", said.labels, UNLABELLED, len(values) or self.n_out)
        read_out(
            self._state, self._traces, self._discriminant, self._assignment, self._memory, self._options, said.scores,
            said.spikes, 0,
        )  # fmt: skip
        if learn:
            pace = pace_after(self._memory.windows[0], self._options.settle_windows)
            on = self.rate > 0 and pace > 0 and self._pairs.clock[0] > 0
            close_window(
                self.net, self._pairs, self._traces, self._discriminant, self._assignment, self._memory,
                self._options, self._room, bool(on), said.labels[0], values,
            )  # fmt: skip
        return said

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Teach the head from kept steps on a side state, from rest.

        The features learnt from these steps when they were live, label or none: they do not learn from them twice.
        """
        side = self.net._replace(weight=self._settled())
        rest = make_pairs(self.net, 1)
        self._advance(Bundles(), side, make_lif_state(self.net), rest, self._make_traces(), 0.0, steps, cues, True)

    def grow(self, n_out: int) -> None:
        """Add classes that nothing is known of yet."""
        self._discriminant = grow_discriminant(self._discriminant, n_out)
        self._assignment = grow_assignment(self._assignment, n_out)
        self._memory = self._memory._replace(said=np.zeros(n_out))
        self.n_out = n_out

    def reset(self) -> None:
        """Dynamics to rest, pairs and eligibility with them; weights, thresholds and statistics stay."""
        rest_pairs(self.net, self._pairs, self._memory, self._options)
        rest_lif(self._state)
        self._traces.trace[...] = 0

    def _settled(self) -> NDArray[np.floating]:
        """The weights of all layers as they stand now (a copy)."""
        weight = self.net.weight.copy()
        if not self.spec.waits and self._pairs.clock[0]:
            pairs = self._pairs._replace(trace=self._pairs.trace.copy(), last=self._pairs.last.copy())
            settle(self.net, pairs, weight, self._options)
        return weight

    def weights(self, layer: int) -> NDArray:
        """The weights of a layer as they stand now (a copy), or (after the last) those of the head."""
        if layer == len(self.net.threshold):
            assign = self.spec.head == "assignment"
            return (self._assignment.response if assign else self._discriminant.weight).T.copy()
        a, b = int(self.net.w_at[layer]), int(self.net.w_at[layer + 1])
        return self._settled()[a:b].reshape(int(self.net.rows[layer]), -1)

    def layer_activity(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps since each neuron last fired, and where each layer begins."""
        return self._state.quiet, self.net.u_at

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on, by name."""
        arrays: dict[str, NDArray] = {"net.weight": self.net.weight, "trace": self._traces.trace}
        arrays |= {f"state.{k}": v for k, v in self._state._asdict().items()}
        arrays |= {f"pairs.{k}": v for k, v in self._pairs._asdict().items() if k not in DERIVED}
        arrays |= {f"memory.{k}": v for k, v in self._memory._asdict().items() if k != "said"}
        arrays |= {f"head.{k}": v for k, v in self.head._asdict().items() if k not in PASSING}
        return arrays
