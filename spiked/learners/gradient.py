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

import numpy as np
from numpy.typing import NDArray

from spiked.learners.closing import close_window
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
from spiked.learners.counter import make_key
from spiked.learners.decoders import Decoder, decode_close, decode_scores
from spiked.learners.eligibility import Eligibility
from spiked.learners.eligibility_kernels import flush
from spiked.learners.feedback import grow_feedback, make_feedback
from spiked.learners.gradient_kernels import Options, read_out, run_steps
from spiked.learners.gradient_live import (
    Live,
    drop_window,
    grow_live,
    lend,
    live_arrays,
    make_live,
    rest_live,
    take_up,
    widen,
)
from spiked.learners.gradient_spec import GradientSpec, check_goes_together, check_names
from spiked.learners.lif import Lif, LifState, copy_state, grow_lif
from spiked.learners.objectives import OBJECTIVES
from spiked.learners.optimizers import OPTIMIZERS
from spiked.learners.regularisers import MEAN_MS, Penalty
from spiked.learners.running import RunMixin, room_between, room_for
from spiked.learners.state import StateMixin
from spiked.learners.surrogates import SURROGATES


class GradientLearner(RunMixin, StateMixin):
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
        check_goes_together(spec, net)
        self.spec, self.rate = spec, spec.rate
        self._seed, self._dt_ms = seed, dt_ms
        self._key = make_key(seed)[0]
        self._sides: dict[str, Live] = {}
        self._known: Options | None = None
        p = spec.regularisers
        self._penalty = Penalty(
            p.on, float(p.l1), float(p.upper), float(p.upper_hz), p.upper_power, float(p.lower), float(p.lower_hz)
        )
        self._lay_out(net)

    def _lay_out(self, net: Lif) -> None:
        self.net = net
        self.n_in, self.n_out = int(net.sizes[0]), int(net.sizes[-1]) // self.spec.population
        self._live = make_live(net, self.spec, self._dt_ms)
        self._spare: list[Live] = []  # for what happens aside; one, unless something aside has an aside of its own
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

    def _options(self) -> Options:
        """What a run needs to know, made anew where the rate is another."""
        if self._known is None or self._known.rate != self.rate:
            s = self.spec
            self._known = Options(
                OBJECTIVES.index(s.objective), SURROGATES.index(s.surrogate),
                OPTIMIZERS.index(s.optimizer), float(self.rate), float(s.error_threshold), float(s.decays_rate),
                s.population, self._key, float(np.exp(-self._dt_ms / MEAN_MS)), self._dt_ms / 1000,
            )  # fmt: skip
        return self._known

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
        live = self._live
        said = room_for(cues, self.n_out, len(self.net.threshold))
        if not learn and live.eli.clock[0]:
            drop_window(self.net, live)  # a window with a gap in it teaches nothing
        if learn and not live.eli.clock[0]:
            take_up(self.net, live)
        bundle = live.bundles.of(
            self.net, live.state, live.eli, live.work, live.window, self._feedback, live.local, self._penalty,
            live.decays, live.dec, self._average, self._ones, self._options(),
        )  # fmt: skip
        run_steps(bundle, *steps[1:], *cues, learn, said.scores, said.spikes)
        return said

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps."""
        said = room_between(label, self.n_out, len(self.net.threshold))
        if self.spec.objective not in ("membrane_ce", "membrane_mse"):  # those have used the labels step by step
            check_range("label", said.labels, UNLABELLED, self.n_labels(values))
        live = self._live
        read_out(live.state, live.dec, live.work, said.scores, said.spikes, 0)
        if learn:
            close_window(
                self.net, live.state, live.eli, live.work, live.window, self._options(),
                self._feedback._replace(local=live.local), self._penalty, live.decays, live.dec, self._average, label,
                values,
            )  # fmt: skip
        else:
            if live.eli.clock[0]:
                drop_window(self.net, live)
            decode_close(live.dec)
        return said

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Learn from kept steps on a side state, from rest."""
        with self.aside():
            self.run(steps, cues)

    @contextmanager
    def aside(self, side: str = "", rest: bool = True) -> Iterator[None]:
        """Let all that happens inside happen on a side state; the live dynamics stand still.

        `side` names one that was kept (`keep_side`); it goes on where it stood, unless it is to begin at `rest`.
        """
        if side:
            other = self._sides[side]
        else:
            other = self._spare.pop() if self._spare else make_live(self.net, self.spec, self._dt_ms)
        live = self._live
        if rest:
            rest_live(self.net, other)
        lend(live, other)
        self._live = other
        try:
            yield
        finally:
            self._live = live
            lend(other, live)
            if not side:
                self._spare.append(other)

    def keep_side(self, name: str) -> None:
        """Keep a side state under a name from here on: it is part of `state`, and outlives what happens there."""
        self._sides[name] = make_live(self.net, self.spec, self._dt_ms)

    def stand_at(self, state: LifState) -> None:
        """Take up the dynamics of another network of this layout; a window that was open is let go."""
        drop_window(self.net, self._live)
        copy_state(self._live.state, state)

    def reset(self) -> None:
        """Dynamics to rest; weights stay."""
        rest_live(self.net, self._live)

    def grow(self, n_out: int) -> None:
        """Add outputs with zero weights; nothing else moves."""
        if n_out < self.n_out:
            raise ValueError(f"a network of {self.n_out} outputs cannot shrink to {n_out}")
        old, rate, feedback, average = self.net, self.rate, self._feedback, self._average
        live, sides = self._live, self._sides
        self._lay_out(grow_lif(old, n_out * self.spec.population))
        self._live = grow_live(live, old, self.net, self.spec, self._dt_ms)
        self._sides = {name: grow_live(side, old, self.net, self.spec, self._dt_ms) for name, side in sides.items()}
        if average.size > 1:
            widen(self._average, average, int(old.w_at[-2]), old, self.net)
        grow_feedback(feedback, self._feedback, self.net)
        self._feedback.decay[...] = feedback.decay  # of the first decays
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
        }  # fmt: skip
        if self.spec.decays_rate > 0:
            arrays |= {"net.beta": self.net.beta, "eli.kappa": live.eli.kappa}
        for name, side in self._sides.items():
            arrays |= {f"{name}.{k}": v for k, v in live_arrays(side).items()}
        return arrays | live_arrays(live)

    def layer_activity(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps since each neuron last fired, and where each layer begins."""
        return self._live.state.quiet, self.net.u_at
