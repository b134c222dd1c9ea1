"""How a stack of layers learns by gradient: the choices, and which of them do not exist or contradict each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spiked.learners.feedback import FEEDBACKS
from spiked.learners.lif import Lif
from spiked.learners.objectives import OBJECTIVES, PER_STEP
from spiked.learners.optimizers import OPTIMIZERS
from spiked.learners.regularisers import Regularisers
from spiked.learners.surrogates import SURROGATES


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


def check_names(spec: GradientSpec) -> None:
    """Raise ValueError for a name that is not one of those allowed."""
    named: list[tuple[str, Any, tuple[str, ...]]] = [
        ("objective", spec.objective, OBJECTIVES), ("surrogate", spec.surrogate, SURROGATES),
        ("feedback", spec.feedback, FEEDBACKS), ("optimizer", spec.optimizer, OPTIMIZERS),
    ]  # fmt: skip
    for key, value, allowed in named:
        if value not in allowed:
            raise ValueError(f"{key} {value!r}; allowed: {', '.join(allowed)}")


def check_goes_together(spec: GradientSpec, net: Lif) -> None:
    """Raise ValueError for a specification that contradicts itself, or the network."""
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
