"""A stack of LIF layers under a read-out, all of which learn by gradient: influence traces (RTRL) and e-prop.

One step: the layers run (`dynamics`), their events are noted (`eligibility`), the objective says what is wrong at the
output (`objectives`), and feedback carries that down as each layer's learning signal (`feedback`). When the window
closes, after its prediction, the weights take a step (`optimizers`).

Without recurrence this is RTRL in its factored form (Eq. 9-12): the gradient is that of backpropagation through time
with the reset detached, exactly so for the output layer, and for one hidden layer of any of `lif`'s neurons, adaptive
ones included, under the per-step objectives with symmetric feedback. Below that it is the usual local approximation,
and an axonal delay is taken as 0 where credit is given. With recurrence it is e-prop (Bellec et al. 2020): the path of
a spike back into its own layer is left out of the gradient. `rtrl_full` keeps that path, at the cost of its memory;
`rtrl` learns at every step rather than at the end of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
from spiked.learners.counter import make_key
from spiked.learners.decoders import Decoder, decode_close, decode_rest, decode_scores, grow_decoder, make_decoder
from spiked.learners.eligibility import DERIVED, Eligibility, make_eligibility
from spiked.learners.eligibility_kernels import flush, forget
from spiked.learners.feedback import FEEDBACKS, grow_feedback, make_feedback
from spiked.learners.gradient_kernels import Options, Work, close_window, read_out, run_steps
from spiked.learners.lif import Lif, LifState, grow_lif, make_lif_state, rest_lif
from spiked.learners.objectives import OBJECTIVES, PER_STEP
from spiked.learners.optimizers import OPTIMIZERS
from spiked.learners.plasticity import Decays, make_decays
from spiked.learners.regularisers import MEAN_MS, Penalty, Regularisers
from spiked.learners.state import StateMixin
from spiked.learners.surrogates import SURROGATES
from spiked.learners.window import Window, clear_window, window_of


@dataclass(frozen=True)
class GradientSpec:
    """How a stack learns; the keys of ``[learning]``.

    Parameters
    ----------
    objective, surrogate, feedback, optimizer : one of `OBJECTIVES`, `SURROGATES`, `FEEDBACKS`, `OPTIMIZERS`.
    surrogate_slope : slope of the surrogate, or what a neuron below threshold has for a derivative.
    rate : size of a step along the gradient.
    decays_rate : share of `rate` by which membrane decays learn; 0: they do not.
    error_threshold : errors of an output below it teach nothing; 0: all do.
    decoder, population, decoder_tau_ms : see `decoders`.
    regularisers : see `regularisers`.
    """

    objective: str = "membrane_ce"
    surrogate: str = "fast_sigmoid"
    surrogate_slope: float = 2.0
    feedback: str = "symmetric"
    optimizer: str = "rms"
    rate: float = 1e-3
    decays_rate: float = 0.0
    error_threshold: float = 0.0
    decoder: str = "membrane"
    population: int = 1
    decoder_tau_ms: float = 400.0
    regularisers: Regularisers = field(default_factory=Regularisers)


class _Live(NamedTuple):
    """One set of dynamics: the live one, or the side state of `recall`."""

    state: LifState
    eli: Eligibility
    window: Window
    work: Work
    decays: Decays
    local: NDArray[np.float64]
    dec: Decoder


class GradientLearner(StateMixin):
    """A stack of LIF layers, the last of which reads out, learning by eligibility traces at the end of each window.

    Parameters
    ----------
    net : layout and initial weights; owned by the learner from here on. The last layer has
        ``classes * population`` neurons and is neither recurrent nor adaptive.
    spec : how it learns.
    dt_ms : length of a step.
    seed : of the random feedback and of the noise.

    Attributes
    ----------
    rate : size of a step along the gradient; may be set while running.
    """

    def __init__(self, net: Lif, spec: GradientSpec, dt_ms: float = 1.0, seed: int = 0) -> None:
        check_names(spec)
        if net.recurrent[-1] or net.jump[-1] or net.alpha[-1] or net.longest[-1] or net.hold[-1]:
            raise ValueError("the last layer reads out: it has a membrane and a threshold, and no more")
        if net.sizes[-1] % spec.population:
            raise ValueError(f"{net.sizes[-1]} outputs are no multiple of a population of {spec.population}")
        if spec.feedback == "local" and spec.objective not in PER_STEP:
            raise ValueError(f'feedback "local" has an error at each step; objective {spec.objective!r} has none')
        if spec.objective == "reward" and spec.feedback == "local":
            raise ValueError('a reward is of the whole network; feedback "local" has no use for it')
        if spec.objective == "reward" and spec.regularisers.on:
            raise ValueError("a reward multiplies all that a window gathers: regularisers would pull both ways")
        self.spec, self.rate = spec, spec.rate
        self._seed, self._dt_ms = seed, dt_ms
        self._key = make_key(seed)[0]
        p = spec.regularisers
        self._penalty = Penalty(
            p.on, float(p.l1), float(p.upper), float(p.upper_hz), p.upper_power, float(p.lower), float(p.lower_hz)
        )
        self._lay_out(net)

    def _lay_out(self, net: Lif) -> None:
        self.net = net
        self.n_in, self.n_out = int(net.sizes[0]), int(net.sizes[-1]) // self.spec.population
        self._live = self._at_rest(net)
        self._sides: list[_Live] = []  # those that are not in use; one unless a recall rehearses
        averages = self.spec.optimizer in ("rms", "momentum")
        self._average = np.zeros_like(net.weight) if averages else np.zeros(1, net.weight.dtype)
        self._ones = np.ones(int(net.u_at[-1]), np.float32)
        self._feedback = make_feedback(self.spec.feedback, net, self._live.eli.kappa, self._seed)

    @property
    def updates(self) -> int:
        """Windows that have taught, ever."""
        return int(self._live.work.updates[0])

    @property
    def decoder(self) -> Decoder:
        """What reads the outputs."""
        return self._live.dec

    @property
    def labelled_steps(self) -> int:
        """Steps of the open window on which a label was on."""
        return int(self._live.window.tally[0])

    @property
    def average(self) -> NDArray[np.floating]:
        """What the optimiser keeps of each weight; of size 1 where it keeps nothing."""
        return self._average

    def scores(self) -> NDArray[np.float64]:
        """What a read-out would say now, float64[n_out]; nothing moves."""
        out = np.zeros(self.n_out)
        decode_scores(self._live.dec, out)
        return out

    def _at_rest(self, net: Lif) -> _Live:
        n, n_out, dtype = int(net.u_at[-1]), int(net.sizes[-1]), net.weight.dtype
        s = self.spec
        widest = int(net.sizes[1:].max())
        work = Work(
            distance=np.zeros(n, dtype), slope=np.array([s.surrogate_slope], dtype), signal=np.zeros(n, dtype),
            credit=np.zeros(n, dtype), ones=np.ones(n, dtype), error=np.zeros(n_out, dtype), logits=np.zeros(n_out),
            rate_hz=np.zeros(n), row=np.zeros(widest, dtype), factor=np.zeros(widest, dtype),
            scale=np.zeros(1, dtype), rate=np.zeros(1, dtype), reward=np.zeros(2), updates=np.zeros(1, np.int64),
        )  # fmt: skip
        return _Live(
            make_lif_state(net), make_eligibility(net, s.decays_rate > 0), window_of(net), work,
            make_decays(n, s.decays_rate > 0), np.zeros((len(net.sizes) - 2 if s.feedback == "local" else 0, n_out)),
            make_decoder(s.decoder, n_out // s.population, s.population, s.decoder_tau_ms, self._dt_ms),
        )  # fmt: skip

    def _options(self) -> Options:
        s = self.spec
        return Options(
            OBJECTIVES.index(s.objective), SURROGATES.index(s.surrogate),
            OPTIMIZERS.index(s.optimizer), float(self.rate), float(s.error_threshold), float(s.decays_rate),
            s.population, self._key, float(np.exp(-self._dt_ms / MEAN_MS)), self._dt_ms / 1000,
        )  # fmt: skip

    def step(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by exactly one step."""
        if steps.n != 1:
            raise ValueError(f"step() takes 1 step, not {steps.n}")
        return self.run(steps, cues, learn)

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps in one compiled call."""
        return self._advance(steps, silent_cues(steps.n) if cues is None else cues, learn)

    def n_labels(self, values: NDArray[np.float32]) -> int:
        """How many labels there are, given the rows that they may name."""
        n_rows, width = values.shape
        wanted = {"membrane_mse": self.n_out, "reward": 1}.get(self.spec.objective)
        if not n_rows or wanted is None:
            return self.n_out
        if width != wanted:
            raise ValueError(f"target vectors of {width} for {wanted} outputs")
        return n_rows

    def _advance(self, steps: Steps, cues: Cues, learn: bool) -> Readouts:
        check_inputs(steps, cues, self.n_in, self.n_labels(cues.values))
        live, at = self._live, np.flatnonzero(cues.flags)
        scores = np.zeros((len(at), self.n_out), np.float32)
        spikes = np.zeros((len(at), len(self.net.threshold)), np.int64)
        if not learn and live.eli.clock[0]:
            self._drop_window(live)  # a window with a gap in it teaches nothing
        if learn and not live.eli.clock[0]:
            self._take_up(live)
        run_steps(
            self.net, live.state, live.eli, live.work, live.window, self._options(),
            self._feedback._replace(local=live.local), self._penalty, live.decays, live.dec, self._average, self._ones,
            steps, cues, learn, scores, spikes,
        )  # fmt: skip
        return Readouts(at, cues.flags[at], cues.labels[at], scores, spikes)

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps."""
        flags, labels = np.array([CLOSE], np.uint8), np.array([label], np.int32)
        if self.spec.objective not in ("membrane_ce", "membrane_mse"):  # those have used the labels step by step
            check_range("label", labels, UNLABELLED, self.n_labels(values))
        scores = np.zeros((1, self.n_out), np.float32)
        spikes = np.zeros((1, len(self.net.threshold)), np.int64)
        live = self._live
        read_out(live.state, live.dec, live.work, scores, spikes, 0)
        if learn:
            close_window(
                self.net, live.state, live.eli, live.work, live.window, self._options(),
                self._feedback._replace(local=live.local), self._penalty, live.decays, live.dec, self._average, label,
                values,
            )  # fmt: skip
        else:
            if live.eli.clock[0]:
                self._drop_window(live)
            decode_close(live.dec)
        return Readouts(np.array([-1], np.int64), flags, labels, scores, spikes)

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Learn from kept steps on a side state, from rest."""
        with self.aside():
            self.run(steps, cues)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let all that happens inside happen on a side state, from rest; the live dynamics stand still."""
        side, live = self._sides.pop() if self._sides else self._at_rest(self.net), self._live
        self._to_rest(side)
        outlives = [(each.work.reward, each.work.updates, each.eli.kappa, each.decays.average) for each in (side, live)]
        for mine, theirs in zip(*outlives):
            mine[...] = theirs
        self._live = side
        try:
            yield
        finally:
            self._live = live
            self._sides.append(side)
            for mine, theirs in zip(*outlives):
                theirs[...] = mine

    def stand_at(self, state: LifState) -> None:
        """Take up the dynamics of another network of this layout; a window that was open is let go."""
        self._drop_window(self._live)
        for mine, theirs in zip(self._live.state[:-1], state[:-1]):  # the last is a constant
            mine[...] = theirs

    def reset(self) -> None:
        """Dynamics to rest; weights stay."""
        self._to_rest(self._live)

    def _to_rest(self, live: _Live) -> None:
        self._drop_window(live)
        rest_lif(live.state)
        decode_rest(live.dec)
        live.work.rate_hz[...] = 0
        live.local[...] = 0
        live.window.before[...] = 0
        for array in live.decays[:1]:
            array[...] = 0

    def _drop_window(self, live: _Live) -> None:
        """Eligibility to rest, and what the window has gathered with it; weights and dynamics stay."""
        forget(self.net, live.eli)
        clear_window(live.window)
        live.eli.touched[...] = 0
        for array in live.decays[1:5]:
            array[...] = 0

    def _take_up(self, live: _Live) -> None:
        """Begin to learn: what is followed only then knows where the dynamics stand."""
        live.window.before[...] = live.state.membrane[int(self.net.u_at[-2]) :]
        for array in live.decays[:1]:
            array[...] = live.state.membrane[: len(array)]
        live.local[...] = 0

    def grow(self, n_out: int) -> None:
        """Add outputs with zero weights; nothing else moves."""
        if n_out < self.n_out:
            raise ValueError(f"a network of {self.n_out} outputs cannot shrink to {n_out}")
        old, rate, p = self.net, self.rate, self.spec.population
        before, live, feedback = self.arrays(), self._live, self._feedback
        self._lay_out(grow_lif(old, n_out * p))
        self._live = self._live._replace(dec=grow_decoder(live.dec, n_out))
        body, wide = int(old.w_at[-2]), n_out * p
        for name, array in self.arrays().items():
            theirs = before[name]
            if name == "feedback" or name == "net.weight" or name.startswith("dec."):
                continue
            if name in ("eli.gradient", "average", "eli.own") and array.shape != theirs.shape:
                at = int(live.eli.own_at[-2]) if name == "eli.own" else body
                array[:at] = theirs[:at]
                array[at:].reshape(-1, wide)[:, : int(old.sizes[-1])] = theirs[at:].reshape(-1, int(old.sizes[-1]))
            elif name == "window.snap":
                array[: len(theirs) - 1], array[-1] = theirs[:-1], theirs[-1]
            else:  # an entry per neuron or output, the last axis: the new ones come last
                array[..., : theirs.shape[-1]] = theirs
        grow_feedback(feedback, self._feedback, self.net)
        self._live.eli.forget[...], self._feedback.decay[...] = live.eli.forget, feedback.decay  # of the first decays
        self.rate = rate

    def weights(self, layer: int) -> NDArray:
        """The weights of a layer (a copy), float[rows, n]."""
        a, b = int(self.net.w_at[layer]), int(self.net.w_at[layer + 1])
        return self.net.weight[a:b].reshape(int(self.net.rows[layer]), -1).copy()

    def descent(self, layer: int) -> NDArray:
        """Minus the gradient that this window has gathered so far (a copy), float[rows, n]."""
        eli = Eligibility._make(array.copy() for array in self._live.eli)
        flush(self.net, eli)
        a, b = int(self.net.w_at[layer]), int(self.net.w_at[layer + 1])
        gradient = eli.gradient[a:b].reshape(int(self.net.rows[layer]), -1)
        touched = eli.touched[int(self.net.x_at[layer]) : int(self.net.x_at[layer + 1])]
        return np.where(touched[:, None] > 0, -gradient, 0)

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on, by name."""
        live = self._live
        arrays: dict[str, NDArray] = {
            "net.weight": self.net.weight, "average": self._average, "feedback": self._feedback.matrix,
            "local": live.local,
        }  # fmt: skip
        if self.spec.decays_rate > 0:
            arrays |= {"net.beta": self.net.beta, "eli.kappa": live.eli.kappa}
        arrays |= {f"state.{k}": v for k, v in live.state._asdict().items()}
        arrays |= {f"eli.{k}": v for k, v in live.eli._asdict().items() if k not in DERIVED}
        arrays |= {f"window.{k}": v for k, v in live.window._asdict().items() if k != "logits"}
        arrays |= {f"decays.{k}": v for k, v in live.decays._asdict().items()}
        arrays |= {f"work.{k}": getattr(live.work, k) for k in ("rate_hz", "reward", "updates")}
        return arrays | {f"dec.{k}": getattr(live.dec, k) for k in ("score", "first", "clock")}

    def layer_activity(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps since each neuron last fired, and where each layer begins."""
        return self._live.state.quiet, self.net.u_at


def check_names(spec: GradientSpec) -> None:
    """Raise ValueError for a name that is not one of those allowed."""
    named: list[tuple[str, Any, tuple[str, ...]]] = [
        ("objective", spec.objective, OBJECTIVES), ("surrogate", spec.surrogate, SURROGATES),
        ("feedback", spec.feedback, FEEDBACKS), ("optimizer", spec.optimizer, OPTIMIZERS),
    ]  # fmt: skip
    for key, value, allowed in named:
        if value not in allowed:
            raise ValueError(f"{key} {value!r}; allowed: {', '.join(allowed)}")
