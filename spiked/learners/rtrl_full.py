"""Real-time recurrent learning in full (Eq. 9-12, section 5.1): the exact gradient of a small recurrent layer.

One recurrent LIF layer under a read-out that only integrates. The influence of every weight on every neuron is kept,
a matrix of n times P entries: n^2 (n + n_in) numbers, and n times as many multiplications for a step. That is what
makes it a reference rather than a learner for large networks; the cheaper rules are judged by it. `sparse_steps` keeps
the part of it that few steps reach (`rtrl_full_pattern`).

The gradient is that of backpropagation through time with the resets detached, for a stream that never ends: the
influence outlives the windows, also where a window's end moved the weights (it then is that of the old weights on a
present that the new ones shape, as always in RTRL).
"""

from __future__ import annotations

from dataclasses import dataclass

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
from spiked.learners.lif import NEVER, Lif, decay, grow_lif, layer_weight
from spiked.learners.objectives import OBJECTIVES
from spiked.learners.optimizers import OPTIMIZERS
from spiked.learners.rtrl_full_kernels import FullOptions, close_full_window, run_full_steps
from spiked.learners.rtrl_full_pattern import make_pattern
from spiked.learners.rtrl_full_state import Live
from spiked.learners.rtrl_kernels import read_out
from spiked.learners.running import RunMixin, room_between, room_for
from spiked.learners.state import StateMixin
from spiked.learners.surrogates import SURROGATES

FULL_OPTIMIZERS = ("sgd", "rms", "momentum")


@dataclass(frozen=True)
class FullRtrlSpec:
    """How the layer learns.

    Parameters
    ----------
    objective : ``"membrane_ce"`` or ``"membrane_mse"``, of the read-out's membrane.
    surrogate, surrogate_slope : one of `SURROGATES`, and its slope.
    optimizer, rate : one of `FULL_OPTIMIZERS`, and the size of a step along the gradient.
    decoder_tau_ms : memory of the scores, an exponential trace of the read-out's membrane.
    sparse_steps : steps within which influence is followed (SnAp-n); 0 or None follows all of it.
    max_bytes : most that the influence may take; None: `rtrl_full_pattern.MAX_BYTES`.
    """

    objective: str = "membrane_ce"
    surrogate: str = "fast_sigmoid"
    surrogate_slope: float = 2.0
    optimizer: str = "rms"
    rate: float = 1e-3
    decoder_tau_ms: float = 400.0
    sparse_steps: int | None = None
    max_bytes: int | None = None


class FullRtrlLearner(RunMixin, StateMixin):
    """A recurrent layer and a leaky read-out, learning by the whole influence matrix.

    Parameters
    ----------
    net : layout and initial weights of two layers; owned by the learner from here on.
    spec : how it learns.
    dt_ms : length of a step.

    Attributes
    ----------
    rate : size of a step along the gradient; may be set while running.

    Raises
    ------
    ValueError : for a network of another form, and for one whose influence takes more than `MAX_BYTES`.
    """

    def __init__(self, net: Lif, spec: FullRtrlSpec, dt_ms: float = 1.0) -> None:
        _check_form(net, spec)
        self.spec, self.rate, self._dt_ms = spec, spec.rate, dt_ms
        self._pattern = make_pattern(net, spec.sparse_steps or 0, spec.max_bytes)
        self._known: FullOptions | None = None
        self._bundles = Bundles()
        self._lay_out(net)

    def _lay_out(self, net: Lif) -> None:
        self.net = net
        self.n_in, self.n_out = int(net.sizes[0]), int(net.sizes[-1])
        self._live = Live.at_rest(net, self._pattern)
        self._side: Live | None = None
        self._square = (
            np.zeros_like(net.weight) if self.spec.optimizer in ("rms", "momentum") else np.zeros(1, net.weight.dtype)
        )

    def _options(self) -> FullOptions:
        """What a run needs to know, made anew where the rate is another."""
        if self._known is None or self._known.rate != self.rate:
            s = self.spec
            self._known = FullOptions(
                OBJECTIVES.index(s.objective), SURROGATES.index(s.surrogate), float(s.surrogate_slope),
                OPTIMIZERS.index(s.optimizer), float(self.rate), decay(s.decoder_tau_ms, self._dt_ms),
            )  # fmt: skip
        return self._known

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps in one compiled call."""
        return self._advance(self._live, steps, silent_cues(steps.n) if cues is None else cues, learn)

    def _advance(self, live: Live, steps: Steps, cues: Cues, learn: bool) -> Readouts:
        n_rows, width = cues.values.shape
        vectors = self.spec.objective == "membrane_mse" and n_rows > 0
        if vectors and width != self.n_out:
            raise ValueError(f"target vectors of {width} for {self.n_out} outputs")
        check_inputs(steps, cues, self.n_in, n_rows if vectors else self.n_out)
        said = room_for(cues, self.n_out, 2)
        if not learn:
            live.drop_window()  # a window with a gap in it teaches nothing
        bundle = self._bundles.of(
            self.net, live.state, self._pattern, live.inf, live.work, self._options(), self._square
        )  # fmt: skip
        run_full_steps(bundle, *steps[1:], *cues, learn, said.scores, said.spikes)
        return said

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps; the labels have been used step by step."""
        said = room_between(label, self.n_out, 2)
        live = self._live
        read_out(live.state, live.work, said.scores, said.spikes, 0)
        if learn:
            close_full_window(self.net, self._pattern, live.inf, live.work, self._options(), self._square)
        else:
            live.drop_window()
        return said

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Learn from kept steps on a side state, from rest; the side state takes as much memory again."""
        if self._side is None:
            self._side = Live.at_rest(self.net, self._pattern)
        self._side.to_rest()
        self._advance(self._side, steps, cues, True)

    def reset(self) -> None:
        """Dynamics to rest; weights stay."""
        self._live.to_rest()

    def grow(self, n_out: int) -> None:
        """Add outputs with zero weights; nothing else moves."""
        if n_out < self.n_out:
            raise ValueError(f"a network of {self.n_out} outputs cannot shrink to {n_out}")
        old, k, before = self.net, self.n_out, self.arrays()
        body = int(old.w_at[1])
        self._lay_out(grow_lif(old, n_out))
        for name, array in self.arrays().items():
            if name == "net.weight":
                continue
            if array.shape == before[name].shape:
                array[...] = before[name]
            elif name in ("influence.descent", "square"):
                array[:body] = before[name][:body]
                array[body:].reshape(-1, n_out)[:, :k] = before[name][body:].reshape(-1, k)
            elif name == "influence.output":
                array[:k] = before[name]
            else:  # an entry per neuron or output: the new ones come last
                array[..., : before[name].shape[-1]] = before[name]

    def weights(self, layer: int) -> NDArray:
        """The weights of a layer (a copy), float[rows, n]: those from below, then the recurrent ones."""
        return layer_weight(self.net, layer).copy()

    def descent(self, layer: int) -> NDArray:
        """Minus the gradient that this window has gathered so far, summed over labelled steps, float64[rows, n]."""
        p, inf = self._pattern, self._live.inf
        rows, n = int(self.net.rows[layer]), int(self.net.sizes[layer + 1])
        if layer == 1:
            return inf.descent[self.net.w_at[1] :].reshape(rows, n).copy()
        gathered = np.zeros((rows, n))
        gathered[p.source, np.repeat(np.arange(n), np.diff(p.source_at))] = inf.sink
        return gathered

    def layer_activity(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps since each neuron last fired, and where each layer begins."""
        return self._live.state.quiet, self.net.u_at

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on, by name."""
        arrays: dict[str, NDArray] = {"net.weight": self.net.weight, "square": self._square}
        if self.spec.sparse_steps:  # of the weights at the start, which the state need not have had
            arrays |= {f"pattern.{k}": v for k, v in self._pattern._asdict().items()}
        arrays |= {f"state.{k}": v for k, v in self._live.state._asdict().items()}
        arrays |= {f"influence.{k}": v for k, v in self._live.inf._asdict().items()}
        return arrays | {"score": self._live.work.score}


def _check_form(net: Lif, spec: FullRtrlSpec) -> None:
    if spec.objective not in ("membrane_ce", "membrane_mse"):
        raise ValueError(f'objective {spec.objective!r} is not one of "membrane_ce", "membrane_mse"')
    if spec.optimizer not in FULL_OPTIMIZERS:
        raise ValueError(f"optimizer {spec.optimizer!r} is not one of {', '.join(FULL_OPTIMIZERS)}")
    if (spec.sparse_steps or 0) < 0:
        raise ValueError(f"sparse_steps is {spec.sparse_steps}; it is a number of steps, or 0 for all")
    if len(net.threshold) != 2:
        raise ValueError(f"full RTRL is for one layer and a read-out, not {len(net.threshold)} layers")
    if net.longest.any():
        raise ValueError("full RTRL knows no axonal delays")
    if net.recurrent[1] or net.alpha[1] > 0 or net.hold[1] > 0 or net.jump[1] > 0 or net.threshold[1] < NEVER / 2:
        raise ValueError("the read-out of full RTRL only integrates: an infinite threshold, and no other parts")
