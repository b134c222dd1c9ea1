"""Learning by perturbation (3.3.3): try other weights beside one's own, and go where the loss was less.

No gradient is computed, so nothing needs to be differentiable: no surrogate, no trace, no feedback. While a window
lasts, copies of the network with weights ``W + delta`` run beside it, from the state that it had when the window
began. When a labelled window closes, their mean losses L are compared (cross entropy of the output membranes at each
labelled step). Every weight's delta is ``sigma`` or ``-sigma`` at random:

============  =====================================================  ======================================
mode          runs                                                   learns
============  =====================================================  ======================================
``gradient``  W, ``W + delta``, ``W - delta``                        ``W -= rate (L+ - L-) / (2 sigma^2) delta``
``accept``    W, ``W + delta``                                       ``W += delta`` if ``L+ < L``
============  =====================================================  ======================================

Random signs as in Spall's simultaneous perturbation (IEEE Trans. Automatic Control 37(3), 1992): their covariance is
sigma^2 I, as a Gaussian's, so the mean step of ``gradient`` is ``-rate`` times the gradient to first order in sigma;
and they cost a bit each. Where the loss is made of steps, as it is in weights before spikes, it is the gradient of a
loss smoothed over sigma. The noise of a step grows with the number of weights: this learner is for small networks, and
for what has no gradient. Only weights that the window used are perturbed anew and changed; the others' gradient is 0.
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
    check_range,
    silent_cues,
)
from spiked.learners.counter import make_key
from spiked.learners.decoders import decode_close, decode_rest, grow_decoder, make_decoder
from spiked.learners.lif import Lif, grow_lif, layer_weight, make_lif_state, rest_lif
from spiked.learners.perturbation_kernels import (
    Draws,
    Live,
    Nets,
    Options,
    Window,
    close_window,
    drop_window,
    perturb_all,
    read_out,
    run_steps,
)
from spiked.learners.running import RunMixin, room_between, room_for
from spiked.learners.state import StateMixin

MODES = ("gradient", "accept")


@dataclass(frozen=True)
class PerturbationSpec:
    """How a network learns by perturbation.

    Parameters
    ----------
    mode : one of `MODES`.
    sigma : size of a weight's perturbation, above 0.
    rate : size of a step along the gradient; in mode ``accept`` above 0 means that it learns.
    decoder, population, decoder_tau_ms : read-out, see `decoders`. The loss is always that of the membranes.
    """

    mode: str = "gradient"
    sigma: float = 0.02
    rate: float = 0.02
    decoder: str = "membrane"
    population: int = 1
    decoder_tau_ms: float = 400.0


class PerturbationLearner(RunMixin, StateMixin):
    """A stack of LIF layers, the last of which reads out, learning by perturbation.

    Parameters
    ----------
    net : layout and initial weights; owned by the learner from here on. The last layer has ``population`` neurons for
        each class, class by class; a threshold of infinity lets its membranes integrate undisturbed.
    spec : how it learns.
    dt_ms : length of a step.
    seed : of the perturbations.

    Attributes
    ----------
    rate : size of a step along the gradient; may be set while running.
    """

    def __init__(self, net: Lif, spec: PerturbationSpec, dt_ms: float = 1.0, seed: int = 0) -> None:
        if spec.mode not in MODES:
            raise ValueError(f"mode {spec.mode!r}; allowed: {', '.join(MODES)}")
        if not 0 < spec.sigma < np.inf:
            raise ValueError(f"sigma is {spec.sigma}; allowed: above 0, finite")
        if spec.population < 1 or int(net.sizes[-1]) % spec.population:
            raise ValueError(f"{int(net.sizes[-1])} outputs cannot be shared by classes of {spec.population} neurons")
        self.spec, self.rate, self._dt_ms = spec, spec.rate, dt_ms
        self._draws = Draws(make_key(seed), np.zeros(1, np.int64), np.zeros(int(net.x_at[-1]), np.int64))
        self._known: Options | None = None
        self._bundles = Bundles()
        self._lay_out(net)

    def _lay_out(self, net: Lif) -> None:
        self.net = net
        self.n_in, self.n_out = int(net.sizes[0]), int(net.sizes[-1]) // self.spec.population
        plus = net._replace(weight=np.zeros_like(net.weight))
        minus = net._replace(weight=np.zeros_like(net.weight)) if self._antithetic else net
        self._nets = Nets(net, plus, minus)
        self._live = self._at_rest()
        self._side: Live | None = None
        perturb_all(self._nets, self._draws, self._options())

    @property
    def _antithetic(self) -> bool:
        return self.spec.mode == "gradient"

    def _options(self) -> Options:
        """What a run needs to know, made anew where the rate is another."""
        if self._known is None or self._known.rate != self.rate:
            self._known = Options(self._antithetic, float(self.spec.sigma), float(self.rate))
        return self._known

    def _at_rest(self) -> Live:
        s, k = self.spec, self.n_out
        state = make_lif_state(self.net)
        window = Window(
            clock=np.zeros(2, np.int64), loss=np.zeros(2), judged=np.zeros(2),
            touched=np.zeros(int(self.net.x_at[-1]), np.uint8), logits=np.zeros(k), scores=np.zeros(k),
        )  # fmt: skip
        decoder = make_decoder(s.decoder, k, s.population, s.decoder_tau_ms, self._dt_ms)
        minus = make_lif_state(self.net) if self._antithetic else state
        return Live(state, make_lif_state(self.net), minus, decoder, window)

    @property
    def losses(self) -> tuple[float, float]:
        """Mean losses of the last window that taught: of ``W + delta``, and of ``W - delta`` (``accept``: of W)."""
        plus, minus = self._live.window.judged.tolist()
        return plus, minus

    def run(self, steps: Steps, cues: Cues | None = None, learn: bool = True) -> Readouts:
        """Advance by many steps in one compiled call."""
        return self._advance(self._live, steps, silent_cues(steps.n) if cues is None else cues, learn)

    def _advance(self, live: Live, steps: Steps, cues: Cues, learn: bool) -> Readouts:
        check_inputs(steps, cues, self.n_in, self.n_out)
        said = room_for(cues, self.n_out, len(self.net.threshold))
        if not learn and live.window.clock[0]:
            drop_window(live)  # a window with a gap in it teaches nothing
        bundle = self._bundles.of(self._nets, live, self._draws, self._options())
        run_steps(bundle, *steps[1:], *cues[:2], learn, said.scores, said.spikes)
        return said

    def conclude(
        self, label: int = UNLABELLED, values: NDArray[np.float32] = NO_VALUES, learn: bool = True
    ) -> Readouts:
        """Read out and close the window now, between two steps; the labels have been used step by step."""
        said = room_between(label, self.n_out, len(self.net.threshold))
        check_range("label", said.labels, UNLABELLED, self.n_out)
        read_out(self._live, said.scores, said.spikes, 0)
        if learn:
            close_window(self._nets, self._live, self._draws, self._options())
        else:
            drop_window(self._live)
        decode_close(self._live.decoder)
        return said

    def recall(self, steps: Steps, cues: Cues) -> None:
        """Learn from kept steps on a side state, from rest.

        If they taught, the copies' weights have moved; what the live window gathered was of others, and is dropped.
        """
        if self._side is None:
            self._side = self._at_rest()
        _to_rest(self._side)
        taught = int(self._draws.windows[0])
        self._advance(self._side, steps, cues, True)
        if int(self._draws.windows[0]) != taught:
            self._live.window.judged[:] = self._side.window.judged
            drop_window(self._live)

    def reset(self) -> None:
        """Dynamics to rest; weights stay."""
        _to_rest(self._live)

    def grow(self, n_out: int) -> None:
        """Add outputs with zero weights; nothing else moves."""
        if n_out < self.n_out:
            raise ValueError(f"a network of {self.n_out} outputs cannot shrink to {n_out}")
        before, decoder = self.arrays(), self._live.decoder
        self._lay_out(grow_lif(self.net, n_out * self.spec.population))
        self._live = self._live._replace(decoder=grow_decoder(decoder, n_out))
        for name, array in self.arrays().items():  # an entry per neuron: the new ones come last
            if name.startswith(("state.", "plus.", "minus.", "window.")):
                array[..., : before[name].shape[-1]] = before[name]

    def weights(self, layer: int) -> NDArray:
        """The weights of a layer (a copy), float[n_in, n_out]."""
        return layer_weight(self.net, layer).copy()

    def layer_activity(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps since each neuron last fired, and where each layer begins."""
        return self._live.state.quiet, self.net.u_at

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`, bit for bit; raises ValueError naming the array that does not fit."""
        super().load_state(state)
        perturb_all(self._nets, self._draws, self._options())

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on, by name."""
        live = self._live
        arrays: dict[str, NDArray] = {"net.weight": self.net.weight}
        arrays |= {f"draws.{k}": v for k, v in self._draws._asdict().items()}
        arrays |= {f"state.{k}": v for k, v in live.state._asdict().items()}
        copies = [("plus", live.plus), *([("minus", live.minus)] if self._antithetic else [])]
        for name, copy in copies:
            arrays |= {f"{name}.{k}": v for k, v in copy._asdict().items() if k not in ("total", "quiet")}
        arrays |= {f"decoder.{k}": getattr(live.decoder, k) for k in ("score", "first", "clock")}
        return arrays | {f"window.{k}": getattr(live.window, k) for k in ("clock", "loss", "judged", "touched")}


def _to_rest(live: Live) -> None:
    for state in (live.state, live.plus, live.minus):
        rest_lif(state)
    decode_rest(live.decoder)
    drop_window(live)
