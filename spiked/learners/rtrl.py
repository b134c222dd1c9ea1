"""Learning by influence traces (RTRL, Eq. 9-12): a stack of LIF layers whose last layer is the read-out.

One step: the layers run (`lif`), their influence traces move (`influence`), the objective says what is wrong at the
output (`objectives`), and feedback carries that down as each layer's learning signal. The weights move when the
window closes (``update = "window"``: predict, then learn), or at every step (``"step"``), exactly and lazily.

The gradient is that of backpropagation through time with the reset detached: exactly so for the output layer under
every objective, and for one hidden layer under the membrane objectives with symmetric feedback. Below that it is the
usual local approximation. Under ``rate_ce`` a hidden layer sees the outputs' surrogate as 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from spiked.learners import influence as influences
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
from spiked.learners.influence import Influence
from spiked.learners.lif import Lif, LifState, grow_lif, make_lif_state, rest_lif
from spiked.learners.objectives import OBJECTIVES
from spiked.learners.optimizers import OPTIMIZERS
from spiked.learners.rtrl_kernels import Options, Work, close_window, read_out, rest, run_steps, settle_all
from spiked.learners.state import StateMixin
from spiked.learners.surrogates import SURROGATES

FEEDBACKS = ("symmetric", "random", "direct")
DECODERS = ("rate", "membrane")


@dataclass(frozen=True)
class RtrlSpec:
    """How a stack learns; the keys of ``[learning]``.

    Parameters
    ----------
    objective, surrogate, feedback, optimizer : one of `OBJECTIVES`, `SURROGATES`, `FEEDBACKS`, `OPTIMIZERS`.
    surrogate_slope : slope of the surrogate.
    update : ``"window"`` or ``"step"``.
    rate : size of a step along the gradient.
    decoder : ``"rate"`` (spikes of the output) or ``"membrane"``.
    decoder_tau_ms : memory of the scores, an exponential trace.
    """

    objective: str = "membrane_ce"
    surrogate: str = "fast_sigmoid"
    surrogate_slope: float = 2.0
    feedback: str = "symmetric"
    update: str = "window"
    optimizer: str = "rms"
    rate: float = 1e-3
    decoder: str = "membrane"
    decoder_tau_ms: float = 400.0


class RtrlLearner(StateMixin):
    """A stack of LIF layers, the last of which reads out, learning by influence traces.

    Parameters
    ----------
    net : layout and initial weights; owned by the learner from here on.
    spec : how it learns.
    dt_ms : length of a step.
    seed : of the random feedback.

    Attributes
    ----------
    rate : size of a step along the gradient; may be set while running.
    """

    def __init__(self, net: Lif, spec: RtrlSpec, dt_ms: float = 1.0, seed: int = 0) -> None:
        if spec.update == "step" and spec.objective == "rate_ce":
            raise ValueError('objective "rate_ce" is known only at a window\'s end; update "window", not "step"')
        if spec.update == "step" and spec.optimizer != "sgd":
            raise ValueError(f'optimizer {spec.optimizer!r} needs whole gradients; update "step" goes with "sgd"')
        special = net.recurrent.any() or net.alpha.any() or net.hold.any() or net.jump.any() or net.longest.any()
        shared = all(np.ptp(net.beta[a:b]) == 0 for a, b in pairwise(net.u_at))
        if special or not shared:
            raise ValueError("the lazy form of influence traces is for plain LIF layers of one decay each")
        self.spec, self.rate = spec, spec.rate
        self._seed, self._dt_ms = seed, dt_ms
        self._lay_out(net)

    def _lay_out(self, net: Lif) -> None:
        self.net = net
        self.n_in, self.n_out = int(net.sizes[0]), int(net.sizes[-1])
        self._live = _Live.at_rest(net, self.spec)
        self._side: _Live | None = None
        self._square = np.zeros_like(net.weight) if self.spec.optimizer == "rms" else np.zeros(1, net.weight.dtype)
        rng = np.random.default_rng([self._seed, 0xFEEDBAC])
        shapes = [
            (int(n), self.n_out if self.spec.feedback == "direct" else int(m))
            for n, m in zip(net.sizes[1:-1], net.sizes[2:])
        ]
        sizes = [n * m for n, m in shapes] if self.spec.feedback != "symmetric" else []
        self._b_at = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        scale = np.concatenate([np.full(n * m, 1 / np.sqrt(n)) for n, m in shapes]) if sizes else np.zeros(0)
        self._feedback = rng.standard_normal(int(self._b_at[-1])) * scale

    def _options(self) -> Options:
        s = self.spec
        return Options(
            OBJECTIVES.index(s.objective), SURROGATES.index(s.surrogate), float(s.surrogate_slope),
            FEEDBACKS.index(s.feedback), s.update == "step", OPTIMIZERS.index(s.optimizer), float(self.rate),
            s.decoder == "rate", float(np.exp(-self._dt_ms / s.decoder_tau_ms)),
        )  # fmt: skip

    def step(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by exactly one step."""
        if steps.n != 1:
            raise ValueError(f"step() takes 1 step, not {steps.n}")
        return self.run(steps, cues, learn)

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps in one compiled call."""
        return self._advance(self._live, steps, silent_cues(steps.n) if cues is None else cues, learn)

    def _advance(self, live: _Live, steps: Steps, cues: Cues, learn: bool) -> Readouts:
        n_rows, width = cues.values.shape
        vectors = self.spec.objective == "membrane_mse" and n_rows > 0
        if vectors and width != self.n_out:
            raise ValueError(f"target vectors of {width} for {self.n_out} outputs")
        check_inputs(steps, cues, self.n_in, n_rows if vectors else self.n_out)
        at = np.flatnonzero(cues.flags)
        scores = np.zeros((len(at), self.n_out), np.float32)
        spikes = np.zeros((len(at), len(self.net.threshold)), np.int64)
        if not learn and live.inf.clock[0]:
            live.drop_window(self.net)  # a window with a gap in it teaches nothing
        run_steps(
            self.net, live.state, live.inf, live.work, self._options(), self._feedback, self._b_at, self._square,
            steps, cues, learn, scores, spikes,
        )  # fmt: skip
        return Readouts(at, cues.flags[at], cues.labels[at], scores, spikes)

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps."""
        flags, labels = np.array([CLOSE], np.uint8), np.array([label], np.int32)
        if self.spec.objective == "rate_ce":  # the others have used the labels step by step
            check_range("label", labels, UNLABELLED, self.n_out)
        scores = np.zeros((1, self.n_out), np.float32)
        spikes = np.zeros((1, len(self.net.threshold)), np.int64)
        live = self._live
        read_out(live.state, live.work, scores, spikes, 0)
        if learn:
            close_window(
                self.net, live.state, live.inf, live.work, self._options(), self._feedback, self._b_at, self._square,
                labels[0],
            )  # fmt: skip
        elif live.inf.clock[0]:
            live.drop_window(self.net)
        return Readouts(np.array([-1], np.int64), flags, labels, scores, spikes)

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Learn from kept steps on a side state, from rest."""
        if self.spec.update == "step":
            settle_all(self.net, self._live.inf)  # the weights are the sink: nothing lazy may hang on them
        if self._side is None:
            self._side = _Live.at_rest(self.net, self.spec)
        self._side.to_rest(self.net)
        self._advance(self._side, steps, cues, True)
        if self.spec.update == "step":
            settle_all(self.net, self._side.inf)

    def reset(self) -> None:
        """Dynamics to rest; weights stay."""
        self._live.to_rest(self.net)

    def grow(self, n_out: int) -> None:
        """Add outputs with zero weights; nothing else moves."""
        if n_out < self.n_out:
            raise ValueError(f"a network of {self.n_out} outputs cannot shrink to {n_out}")
        old, k, rate = self.net, self.n_out, self.rate
        before = self._arrays()
        feedback, b_at = self._feedback, self._b_at
        self._lay_out(grow_lif(old, n_out))
        sizes = self.net.sizes
        body = int(old.w_at[-2])
        for name, array in self._arrays().items():
            if name in ("feedback", "net.weight"):
                continue
            if array.shape == before[name].shape:
                array[...] = before[name]
            elif name in ("influence.sink", "square"):
                array[:body] = before[name][:body]
                array[body:].reshape(-1, n_out)[:, :k] = before[name][body:].reshape(-1, k)
            else:  # an entry per neuron or output: the new ones come last
                array[..., : before[name].shape[-1]] = before[name]
        for layer in range(len(b_at) - 1):  # a row per neuron, a column for each that it hears
            neurons = int(sizes[layer + 1])
            theirs = feedback[b_at[layer] : b_at[layer + 1]].reshape(neurons, -1)
            mine = self._feedback[self._b_at[layer] : self._b_at[layer + 1]].reshape(neurons, -1)
            mine[:, : theirs.shape[1]] = theirs
        self.rate = rate

    def weights(self, layer: int) -> NDArray:
        """The weights of a layer as they stand now (a copy), float[n_in, n_out]."""
        n_in, n = int(self.net.sizes[layer]), int(self.net.sizes[layer + 1])
        a, b = int(self.net.w_at[layer]), int(self.net.w_at[layer + 1])
        weight = self.net.weight[a:b].reshape(n_in, n).copy()
        inf = self._live.inf
        if self.spec.update == "step":
            weight += self._lazy(layer, inf).astype(weight.dtype)
        return weight

    def descent(self, layer: int) -> NDArray:
        """Minus the gradient that this window has gathered so far (a copy), float[n_in, n_out]; window updates only."""
        a, b = int(self.net.w_at[layer]), int(self.net.w_at[layer + 1])
        inf = self._live.inf
        sink = inf.sink[a:b].reshape(int(self.net.sizes[layer]), -1).copy()
        return sink + self._lazy(layer, inf).astype(sink.dtype)

    def _lazy(self, layer: int, inf: Influence) -> NDArray:
        n_in, n = int(self.net.sizes[layer]), int(self.net.sizes[layer + 1])
        xhat = inf.xhat[inf.x_at[layer] : inf.x_at[layer + 1], None]
        u = slice(int(self.net.u_at[layer]), int(self.net.u_at[layer + 1]))
        if layer + 1 == len(self.net.threshold):
            return -xhat * inf.g[u]
        a, b = int(self.net.w_at[layer]), int(self.net.w_at[layer + 1])
        return -inf.filtered[a:b].reshape(n_in, n) * inf.k1[u] - xhat * inf.k2[u]

    def _arrays(self) -> dict[str, NDArray]:
        arrays: dict[str, NDArray] = {"net.weight": self.net.weight, "square": self._square, "feedback": self._feedback}
        arrays |= {f"state.{k}": v for k, v in self._live.state._asdict().items()}
        derived = ("x_at", "limits", "pull_sink", "pull_filtered", "event", "ones")
        arrays |= {f"influence.{k}": v for k, v in self._live.inf._asdict().items() if k not in derived}
        arrays |= {f"work.{k}": v for k, v in self._live.work._asdict().items()}
        if self.spec.update == "step":
            del arrays["influence.sink"]
        return arrays

    def layer_activity(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps since each neuron last fired, and where each layer begins."""
        return self._live.state.quiet, self.net.u_at


class _Live(NamedTuple):
    """One set of dynamics: the live one, or the side state of `recall`."""

    state: LifState
    inf: Influence
    work: Work

    @classmethod
    def at_rest(cls, net: Lif, spec: RtrlSpec, dtype: DTypeLike = np.float64) -> _Live:
        n, n_out = int(net.u_at[-1]), int(net.sizes[-1])
        work = Work(
            psi=np.zeros(n, dtype), signal=np.zeros(n, dtype), credit=np.zeros(n, dtype), error=np.zeros(n_out, dtype),
            counts=np.zeros(n_out, dtype), score=np.zeros(n_out, dtype), tally=np.zeros(1, np.int64),
        )  # fmt: skip
        return cls(make_lif_state(net), influences.make_influence(net, spec.update == "step"), work)

    def to_rest(self, net: Lif) -> None:
        self.drop_window(net)
        rest_lif(self.state)
        arrays: list[Any] = [*self.work]
        for array in arrays:
            array[...] = 0

    def drop_window(self, net: Lif) -> None:
        """Influence to rest, and what the window has gathered with it; weights and dynamics stay."""
        rest(net, self.inf)
        self.work.counts[...] = 0
        self.work.tally[...] = 0
        if self.inf.sink is not net.weight:
            for layer in range(len(net.threshold)):
                n = int(net.sizes[layer + 1])
                x0 = int(self.inf.x_at[layer])
                rows = np.flatnonzero(self.inf.touched[x0 : int(self.inf.x_at[layer + 1])])
                flat = self.inf.sink[net.w_at[layer] : net.w_at[layer + 1]].reshape(-1, n)
                flat[rows] = 0
        self.inf.touched[...] = 0
