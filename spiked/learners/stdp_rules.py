"""What can be chosen about spike-timing dependent plasticity, and the same in the form that compiled code takes.

The pair rule (App. C.2, Eq. 49, 50), with ``A_- < 0`` as its figure has it, for ``dt = t_pre - t_post``::

    dW = A_+ exp(dt / tau_+)    if t_post >= t_pre
    dW = A_- exp(-dt / tau_-)   if t_post < t_pre

Eq. 50 leaves ``dt = 0`` open. Here it is potentiation: events of a step reach the membrane before it fires in that
step, so the earlier of the two is the event. Sums over pairs are kept as exponential traces (`stdp_pairs`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.lif import Lif, decay

RULES = ("pair", "triplet", "prototype")
PAIRINGS = ("all", "nearest")
BOUNDS = ("hard", "soft")
NORMS = ("none", "sum", "l2")
COMPETITIONS = ("fire", "learn")
MODULATIONS = ("none", "reward", "error")
STDP_HEADS = ("discriminant", "prototype", "assignment")
ASSIGNMENTS = ("hard", "soft")
LEAST_THRESHOLD = 0.1
"""Homeostasis lowers a threshold to this fraction of the layer's own and no further."""
BLOCKS = 8
"""Accumulators of potentiation that run at once (`stdp_pairs`)."""


@dataclass(frozen=True)
class StdpSpec:
    """How layers learn from their own spikes, and the head above them.

    Parameters
    ----------
    plastic : layers that learn; the others stay as they were made. 0 is the first.
    rule : ``"pair"``; ``"triplet"`` (potentiation times ``1 + a_triplet o2[t-]``, Pfister & Gerstner 2006); or
        ``"prototype"`` (at a spike of the neuron, all its weights move by ``a_plus (x_i - x_target)``).
    pairing : ``"all"`` spikes to all, or each to the ``"nearest"`` earlier one of the other side.
    a_plus, a_minus : A_+ >= 0 and A_- <= 0 of Eq. 50, times `rate`; in units of weight.
    tau_plus_ms, tau_minus_ms : tau_+ and tau_- of Eq. 50.
    a_triplet, tau_triplet_ms : size and time constant of the triplet term.
    x_target : trace of an input at which the prototype rule leaves its weight alone.
    bounds : ``"hard"`` clips to ``[w_min, w_max]``; ``"soft"`` also scales by ``(w_max - w)^mu``, ``(w - w_min)^mu``.
    w_min, w_max, mu : the bounds. With ``w_min > 0`` a weight of exactly 0 is a synapse that is not there.
    norm : what of each neuron's weights is held at its first value when a window closes: ``"sum"``, ``"l2"``, nothing.
    winners : neurons of a group that may fire in one step, the highest above threshold first; 0 means all.
    group : neurons that compete, consecutive ones; 0 means the whole layer.
    inhibit : whether a spike resets the membranes of its group's other neurons.
    compete : what winners win: to ``"fire"``, or only to ``"learn"`` from their spikes while the others fire too.
    target_hz : rate that the thresholds hold; 0 leaves them alone.
    theta_rise : rise of a threshold at a spike, in units of the layer's threshold; it decays to hold the rate.
    theta_max : ceiling of a threshold, in the same unit.
    modulation : ``"none"``; ``"reward"`` or ``"error"``: changes wait as eligibility until a window closes.
    tau_eligibility_ms : how long they wait.
    reward_windows : windows over which the mean reward runs.
    error_threshold : least error (1 - the right class's probability) that lets a window's changes through.
    rate : factor of all changes; may be set while running.
    settle_windows : windows over which `rate` falls to 0 in a straight line; 0 means never.
    head : ``"discriminant"``, ``"prototype"`` (nearest class mean) or ``"assignment"``.
    assignment : ``"hard"`` or ``"soft"``.
    trace_ms : time constants of the spike traces that the head reads; an assignment reads the last.
    ridge : lam of the discriminant.
    """

    plastic: tuple[int, ...] = (0,)
    rule: str = "pair"
    pairing: str = "nearest"
    a_plus: float = 1.0
    a_minus: float = -0.8
    tau_plus_ms: float = 20.0
    tau_minus_ms: float = 20.0
    a_triplet: float = 1.0
    tau_triplet_ms: float = 100.0
    x_target: float = 0.5
    bounds: str = "hard"
    w_min: float = 1e-4
    w_max: float = 1.0
    mu: float = 1.0
    norm: str = "none"
    winners: int = 0
    group: int = 0
    inhibit: bool = False
    compete: str = "fire"
    target_hz: float = 0.0
    theta_rise: float = 0.01
    theta_max: float = 20.0
    modulation: str = "none"
    tau_eligibility_ms: float = 500.0
    reward_windows: float = 50.0
    error_threshold: float = 0.5
    rate: float = 0.002
    settle_windows: int = 150
    head: str = "discriminant"
    assignment: str = "soft"
    trace_ms: tuple[float, ...] = (20.0, 50.0, 100.0, 200.0, 400.0)
    ridge: float = 5.0

    def __post_init__(self) -> None:
        """Raise ValueError for what makes no rule, naming the value."""
        for name, value, known in (
            ("rule", self.rule, RULES),
            ("pairing", self.pairing, PAIRINGS),
            ("bounds", self.bounds, BOUNDS),
            ("norm", self.norm, NORMS),
            ("compete", self.compete, COMPETITIONS),
            ("modulation", self.modulation, MODULATIONS),
            ("head", self.head, STDP_HEADS),
            ("assignment", self.assignment, ASSIGNMENTS),
        ):
            if value not in known:
                raise ValueError(f"{name} {value!r} is not one of {', '.join(known)}")
        if self.a_plus < 0 or self.a_minus > 0 or self.a_triplet < 0:
            raise ValueError(f"a_plus {self.a_plus} and a_triplet {self.a_triplet} >= 0 >= a_minus {self.a_minus}")
        if not self.w_min < self.w_max:
            raise ValueError(f"w_min {self.w_min} is not below w_max {self.w_max}")
        if self.rule == "prototype" and self.modulation != "none":
            raise ValueError('rule "prototype" has no pairs that a modulation could wait for; take "pair" or "triplet"')

    @property
    def waits(self) -> bool:
        """Whether changes wait for a modulator."""
        return self.modulation != "none"

    @property
    def eager(self) -> bool:
        """Whether potentiation is worked out at the neuron's spike, not when an input is next read."""
        return not self.waits and (self.bounds == "soft" or self.rule == "prototype")


FORGET = {4: 1e-9, 8: 1e-18}
"""Below it an input's trace is dropped: what it could add is lost in the weights' precision (by bytes of a weight)."""


class Options(NamedTuple):
    """`StdpSpec` for compiled code, in steps and units of weight; the `decay`s are per step."""

    plastic: NDArray[np.uint8]
    eager: bool
    prototype: bool
    nearest: bool
    a_plus: float
    a_minus: float
    a_triplet: float
    x_target: float
    soft: bool
    mu: float
    w_min: float
    w_max: float
    sparse: bool
    norm: int
    winners: int
    group: int
    inhibit: bool
    to_learn: bool
    theta_rise: float
    target: float
    theta_max: float
    modulation: int
    error_threshold: float
    reward_windows: float
    settle_windows: int
    assign: bool
    assign_soft: bool
    block: int
    forget: float
    power: NDArray[np.float64]
    post_decay: float
    slow_decay: float
    wait_decay: float


def block_steps(tau_ms: float, dt_ms: float) -> int:
    """Steps of a block of potentiation: three time constants at most, so that single precision holds its powers."""
    return max(1, min(64, int(3.0 * tau_ms / dt_ms)))


def make_options(net: Lif, spec: StdpSpec, dt_ms: float) -> Options:
    """Compile `spec` for a stack; raises ValueError for a layer that is not there."""
    plastic = np.zeros(len(net.threshold), np.uint8)
    for layer in spec.plastic:
        if not 0 <= layer < len(plastic):
            raise ValueError(f"plastic layer {layer}: there are {len(plastic)}")
        plastic[layer] = 1
    block, dtype = block_steps(spec.tau_plus_ms, dt_ms), net.weight.dtype.type
    x_decay = decay(spec.tau_plus_ms, dt_ms)
    return Options(
        plastic=plastic, eager=spec.eager, prototype=spec.rule == "prototype", nearest=spec.pairing == "nearest",
        a_plus=float(spec.a_plus), a_minus=0.0 if spec.rule == "prototype" else float(spec.a_minus),
        a_triplet=float(spec.a_triplet) if spec.rule == "triplet" else 0.0, x_target=float(spec.x_target),
        soft=spec.bounds == "soft", mu=float(spec.mu), w_min=float(dtype(spec.w_min)), w_max=float(dtype(spec.w_max)),
        sparse=spec.w_min > 0, norm=NORMS.index(spec.norm), winners=spec.winners, group=spec.group,
        inhibit=spec.inhibit, to_learn=spec.compete == "learn",
        theta_rise=float(spec.theta_rise) if spec.target_hz > 0 else 0.0,
        target=float(spec.target_hz * dt_ms * 1e-3), theta_max=float(spec.theta_max),
        modulation=MODULATIONS.index(spec.modulation), error_threshold=float(spec.error_threshold),
        reward_windows=float(spec.reward_windows), settle_windows=spec.settle_windows,
        assign=spec.head == "assignment", assign_soft=spec.assignment == "soft", block=block,
        forget=FORGET[net.weight.dtype.itemsize],
        power=np.array([x_decay**k for k in range(block * BLOCKS + 1)], np.float64),
        post_decay=decay(spec.tau_minus_ms, dt_ms),
        slow_decay=decay(spec.tau_triplet_ms, dt_ms), wait_decay=math.exp(-dt_ms / spec.tau_eligibility_ms),
    )  # fmt: skip
