"""Learning at every step by influence traces (RTRL, Eq. 9-12): a stack of LIF layers whose last layer is the read-out.

One step: the layers run (`dynamics`), their influence traces move (`influence`), the objective says what is wrong at
the output (`objectives`), feedback carries that down as each layer's learning signal (`feedback`), and the weights
have moved, exactly and lazily: a row is brought up to date when its input is next active.

The gradient is that of backpropagation through time with the reset detached: exactly so for the output layer, and for
one hidden layer with symmetric feedback. Below that it is the usual local approximation. `gradient` gathers the same
gradient over a window, for any neuron and objective, and moves the weights at the window's end.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.bundle import Bundles
from spiked.learners.contract import (
    NO_VALUES,
    UNLABELLED,
    Cues,
    Readouts,
    Steps,
    check_inputs,
    silent_cues,
)
from spiked.learners.feedback import grow_feedback, make_feedback
from spiked.learners.influence import Influence, make_influence
from spiked.learners.influence_origins import see
from spiked.learners.lif import Lif, LifState, grow_lif, make_lif_state, rest_lif
from spiked.learners.objectives import OBJECTIVES
from spiked.learners.rtrl_kernels import Options, Work, read_out, rest, run_steps, settle_all
from spiked.learners.running import RunMixin, room_between, room_for
from spiked.learners.state import StateMixin
from spiked.learners.surrogates import SURROGATES

EACH_STEP_OBJECTIVES = ("membrane_ce", "membrane_mse")
EACH_STEP_FEEDBACKS = ("symmetric", "random", "direct")
EACH_STEP_DECODERS = ("rate", "membrane")


@dataclass(frozen=True)
class RtrlSpec:
    """How a stack learns at each step; the keys of ``[learning]``.

    Parameters
    ----------
    objective, feedback, decoder : one of `EACH_STEP_OBJECTIVES`, `EACH_STEP_FEEDBACKS`, `EACH_STEP_DECODERS`.
    surrogate : one of `SURROGATES`, but the noisy one.
    surrogate_slope : slope of the surrogate.
    rate : size of a step along the gradient (SGD).
    decoder_tau_ms : memory of the scores, an exponential trace.
    """

    objective: str = "membrane_ce"
    surrogate: str = "fast_sigmoid"
    surrogate_slope: float = 2.0
    feedback: str = "symmetric"
    rate: float = 1e-3
    decoder: str = "membrane"
    decoder_tau_ms: float = 400.0


class RtrlLearner(RunMixin, StateMixin):
    """A stack of LIF layers, the last of which reads out, learning at every step by influence traces.

    Parameters
    ----------
    net : layout and initial weights; owned by the learner from here on. Plain layers, one decay each.
    spec : how it learns.
    dt_ms : length of a step.
    seed : of the random feedback.

    Attributes
    ----------
    rate : size of a step along the gradient; may be set while running.
    """

    def __init__(self, net: Lif, spec: RtrlSpec, dt_ms: float = 1.0, seed: int = 0) -> None:
        special = net.recurrent.any() or net.alpha.any() or net.hold.any() or net.jump.any() or net.longest.any()
        shared = all(np.ptp(net.beta[a:b]) == 0 for a, b in pairwise(net.u_at))
        if special or not shared:
            raise ValueError("the lazy form of influence traces is for plain LIF layers of one decay each")
        self.spec, self.rate = spec, spec.rate
        self._seed, self._dt_ms = seed, dt_ms
        self._known: Options | None = None
        self._lay_out(net)

    def _lay_out(self, net: Lif) -> None:
        self.net = net
        self.n_in, self.n_out = int(net.sizes[0]), int(net.sizes[-1])
        self._live = _Live.at_rest(net)
        self._side: _Live | None = None
        self._feedback = make_feedback(self.spec.feedback, net, np.ones(len(net.threshold)), self._seed)

    def _options(self) -> Options:
        """What a run needs to know, made anew where the rate is another."""
        if self._known is None or self._known.rate != self.rate:
            s = self.spec
            self._known = Options(
                OBJECTIVES.index(s.objective), SURROGATES.index(s.surrogate),
                np.array([s.surrogate_slope], self.net.weight.dtype), float(self.rate),
                s.decoder == "rate", float(np.exp(-self._dt_ms / s.decoder_tau_ms)),
            )  # fmt: skip
        return self._known

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps in one compiled call."""
        return self._advance(self._live, steps, silent_cues(steps.n) if cues is None else cues, learn)

    def _advance(self, live: _Live, steps: Steps, cues: Cues, learn: bool) -> Readouts:
        n_rows, width = cues.values.shape
        vectors = self.spec.objective == "membrane_mse" and n_rows > 0
        if vectors and width != self.n_out:
            raise ValueError(f"target vectors of {width} for {self.n_out} outputs")
        check_inputs(steps, cues, self.n_in, n_rows if vectors else self.n_out)
        said = room_for(cues, self.n_out, len(self.net.threshold))
        if not learn and live.inf.clock[0]:
            rest(self.net, live.inf)
        bundle = live.bundles.of(self.net, live.state, live.inf, live.work, self._feedback, self._options())
        run_steps(bundle, *steps[1:], *cues, learn, said.scores, said.spikes)
        return said

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps: the labels have been used step by step."""
        said = room_between(label, self.n_out, len(self.net.threshold))
        live = self._live
        read_out(live.state, live.work, said.scores, said.spikes, 0)
        if learn:
            settle_all(self.net, live.inf)
        elif live.inf.clock[0]:
            rest(self.net, live.inf)
        return said

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Learn from kept steps on a side state, from rest."""
        settle_all(self.net, self._live.inf)  # the side state moves the same weights: nothing lazy may hang on them
        if self._side is None:
            self._side = _Live.at_rest(self.net)
        self._side.to_rest(self.net)
        self._advance(self._side, steps, cues, True)
        settle_all(self.net, self._side.inf)

    def reset(self) -> None:
        """Dynamics to rest; weights stay."""
        self._live.to_rest(self.net)

    def grow(self, n_out: int) -> None:
        """Add outputs with zero weights; nothing else moves."""
        if n_out < self.n_out:
            raise ValueError(f"a network of {self.n_out} outputs cannot shrink to {n_out}")
        rate, before, feedback = self.rate, self.arrays(), self._feedback
        self._lay_out(grow_lif(self.net, n_out))
        for name, array in self.arrays().items():
            if name not in ("feedback", "net.weight"):  # an entry per neuron or output: the new ones come last
                array[..., : before[name].shape[-1]] = before[name]
        grow_feedback(feedback, self._feedback, self.net)
        self.rate = rate

    def weights(self, layer: int) -> NDArray:
        """The weights of a layer as they stand now (a copy), float[n_in, n_out]."""
        net, inf = self.net, self._live.inf
        n_in, n = int(net.sizes[layer]), int(net.sizes[layer + 1])
        a, b = int(net.w_at[layer]), int(net.w_at[layer + 1])
        weight = net.weight[a:b].reshape(n_in, n)
        xhat = inf.xhat[inf.x_at[layer] : inf.x_at[layer + 1], None]
        u = slice(int(net.u_at[layer]), int(net.u_at[layer + 1]))
        origin = inf.origin[inf.x_at[layer] : inf.x_at[layer + 1]]
        for o in range(len(inf.g)):
            see(net, inf, layer, o)
        inf.seen_at[layer] = -1  # between two steps; what the next one sees is of the next
        if layer + 1 == len(net.threshold):
            return weight + (-xhat * inf.seen_g[origin, u]).astype(weight.dtype)
        lazy = -inf.filtered[a:b].reshape(n_in, n) * inf.seen_k1[origin, u] - xhat * inf.seen_k2[origin, u]
        return weight + lazy.astype(weight.dtype)

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on, by name."""
        arrays: dict[str, NDArray] = {"net.weight": self.net.weight, "feedback": self._feedback.matrix}
        arrays |= {f"state.{k}": v for k, v in self._live.state._asdict().items()}
        derived = (
            "x_at",
            "limits",
            "pull_weight",
            "pull_filtered",
            "lazy_filtered",
            "lazy_trace",
            "source",
            "event",
            "ones",
            "seen_g",
            "seen_k1",
            "seen_k2",
            "seen_at",
            "scaled",
        )
        arrays |= {f"influence.{k}": v for k, v in self._live.inf._asdict().items() if k not in derived}
        return arrays | {"work.score": self._live.work.score}

    def layer_activity(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps since each neuron last fired, and where each layer begins."""
        return self._live.state.quiet, self.net.u_at


class _Live(NamedTuple):
    """One set of dynamics: the live one, or the side state of `recall`."""

    state: LifState
    inf: Influence
    work: Work
    bundles: Bundles

    @classmethod
    def at_rest(cls, net: Lif) -> _Live:
        n, n_out = int(net.u_at[-1]), int(net.sizes[-1])
        kind = net.weight.dtype
        work = Work(*(np.zeros(n, kind) for _ in range(4)), *(np.zeros(n_out) for _ in range(3)))
        return cls(make_lif_state(net), make_influence(net), work, Bundles())

    def to_rest(self, net: Lif) -> None:
        rest(net, self.inf)
        rest_lif(self.state)
        for array in self.work:
            array[...] = 0
