"""Regularisers of activity (Eq. 39-41), at each step, from running counts.

====================  ==========================================================================
l1                    l1 S_j[t] summed (Eq. 39)
upper, upper_hz       upper ([mean_j r_j - upper_hz]_+)^power (Eq. 40, whose exponent L is a power)
lower, lower_hz       lower mean_j ([lower_hz - r_j]_+)^2 (Eq. 41)
====================  ==========================================================================

The paper counts over a trial. A stream has none, so `r_j` is a running mean of neuron j's rate over `MEAN_MS`, in Hz,
and the derivative by the rate is taken for that by the spike of the step: a silent neuron is pulled up while it is
silent, not when a trial is over. Hidden layers alone have these terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from spiked.learners.jit import inlined, kernel

MEAN_MS = 500.0


@dataclass(frozen=True)
class Regularisers:
    """Strengths (0: off) and bounds; see the module's table."""

    l1: float = 0.0
    upper: float = 0.0
    upper_hz: float = 50.0
    upper_power: int = 2
    lower: float = 0.0
    lower_hz: float = 1.0

    @property
    def on(self) -> bool:
        """Whether any strength is above 0."""
        return self.l1 > 0 or self.upper > 0 or self.lower > 0


class Penalty(NamedTuple):
    """`Regularisers` as a kernel takes them."""

    on: bool
    l1: float
    upper: float
    upper_hz: float
    upper_power: int
    lower: float
    lower_hz: float


@kernel
def penalise(penalty, rate_hz, direct):  # type: ignore[no-untyped-def]
    """Add the derivative of one layer's penalty by each neuron's spike to `direct`."""
    n = len(rate_hz)
    total = 0.0
    for j in range(n):
        total += rate_hz[j]
    above = total / n - penalty.upper_hz
    common = penalty.l1
    if penalty.upper > 0 and above > 0:
        common += penalty.upper * penalty.upper_power / n * above ** (penalty.upper_power - 1)
    for j in range(n):
        direct[j] += common - 2.0 * penalty.lower / n * max(0.0, penalty.lower_hz - rate_hz[j])


@inlined
def follow_rates(state, rate_hz, keep, step_s):  # type: ignore[no-untyped-def]
    """Move the running rates of all neurons on by a step of `step_s` seconds."""
    for j in range(len(rate_hz)):
        rate_hz[j] = keep * rate_hz[j] + (1.0 - keep) * state.spike[j] / step_s
