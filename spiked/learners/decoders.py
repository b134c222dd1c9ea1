"""Decoders: what the output neurons do becomes one score per class (3.2, Eq. 26, 27); the largest is the prediction.

==========  ============================================================================
kind        score of an output neuron
==========  ============================================================================
rate        leaky trace of its spikes: the count of Eq. 26, but old spikes fade
latency     ``tau / (tau + t)``, t the time of its first spike since the window began
population  rate, with several neurons a class
membrane    leaky average of its membrane
==========  ============================================================================

Any kind takes several neurons a class; a class scores the mean of its own. Neuron ``k * population + p`` is of class
`k`, so that growing appends. Of equal scores the lowest class wins, as in `argmax`.

A neuron that has not fired has a latency score of 0, below all that have. While no neuron has fired, the scores are
the leaky averages of the membranes, so that there is always a prediction. A window begins at rest, when the last one
is closed, and by itself after `FORGET` time constants without an output spike: in a stream of which nobody says where
a sample begins, the first spike after a silence is the reference (3.2.2), and an old one does not decide for ever.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.jit import kernel

DECODERS = ("rate", "latency", "population", "membrane")
RATE, LATENCY, POPULATION, MEMBRANE = range(4)
SILENT = -1
FORGET = 5.0


class Decoder(NamedTuple):
    """A decoder and its state, an entry per output neuron unless said.

    Attributes
    ----------
    kind : position in `DECODERS`.
    population : neurons of a class.
    decay : of the leaky score per step, ``exp(-dt / tau)``.
    tau_steps : time constant in steps.
    score : float64; leaky trace of the spikes, or average of the membrane (for latency too).
    first : int64; step of the first spike, counted from the window's beginning; `SILENT` before it. Latency only.
    clock : int64[3]; steps of the window, neurons that have fired in it, its silent steps so far or since the last
        spike. Latency only.
    """

    kind: int
    population: int
    decay: float
    tau_steps: float
    score: NDArray[np.float64]
    first: NDArray[np.int64]
    clock: NDArray[np.int64]


def make_decoder(kind: str, n_out: int, population: int = 1, tau_ms: float = 400.0, dt_ms: float = 1.0) -> Decoder:
    """Build a decoder at rest.

    Parameters
    ----------
    kind : one of `DECODERS`.
    n_out : number of classes.
    population : neurons of a class; the output layer has ``n_out * population``.
    tau_ms : memory of the score; for latency, the time at which a score is half of what it is at once.
    dt_ms : length of a step.
    """
    if kind not in DECODERS:
        raise ValueError(f"decoder {kind!r}; allowed: {', '.join(DECODERS)}")
    if population < 1 or (kind == "population" and population < 2):
        raise ValueError(f"{population} neurons a class; decoder {kind!r} takes {1 + (kind == 'population')} or more")
    if not (0 < tau_ms < np.inf and 0 < dt_ms < np.inf):
        raise ValueError(f"memory of {tau_ms} ms at steps of {dt_ms} ms; allowed: above 0, finite")
    n = n_out * population
    return Decoder(
        kind=DECODERS.index(kind),
        population=population,
        decay=float(np.exp(-dt_ms / tau_ms)),
        tau_steps=float(tau_ms / dt_ms),
        score=np.zeros(n),
        first=np.full(n if kind == "latency" else 0, SILENT, np.int64),
        clock=np.zeros(3, np.int64),
    )


def grow_decoder(dec: Decoder, n_out: int) -> Decoder:
    """Build the same decoder with room for more classes, silent so far; the old ones' scores do not move."""
    extra = n_out * dec.population - len(dec.score)
    quiet = np.full(extra if dec.kind == LATENCY else 0, SILENT, np.int64)
    return dec._replace(score=np.concatenate([dec.score, np.zeros(extra)]), first=np.concatenate([dec.first, quiet]))


@kernel
def decode_close(dec):  # type: ignore[no-untyped-def]
    """Begin a new window: first spikes are awaited anew; what leaks goes on."""
    dec.first[:] = SILENT
    dec.clock[:] = 0


@kernel
def decode_step(dec, spike, membrane):  # type: ignore[no-untyped-def]
    """Advance by one step: `spike` (0 or 1) and `membrane` of the output neurons, float[n]."""
    by_spikes = dec.kind == RATE or dec.kind == POPULATION
    said = spike if by_spikes else membrane
    for j in range(len(dec.score)):
        dec.score[j] += (1.0 - dec.decay) * (said[j] - dec.score[j])
    if dec.kind == LATENCY:
        dec.clock[2] += 1
        for j in range(len(dec.first)):
            if spike[j] > 0:
                dec.clock[2] = 0
                if dec.first[j] < 0:
                    dec.first[j] = dec.clock[0]
                    dec.clock[1] += 1
        dec.clock[0] += 1
        if dec.clock[2] > FORGET * dec.tau_steps:
            decode_close(dec)


@kernel
def decode_scores(dec, out):  # type: ignore[no-untyped-def]
    """Score of each class into `out`, float64[K]; the larger, the likelier."""
    p = dec.population
    by_time = dec.kind == LATENCY and dec.clock[1] > 0
    for k in range(len(out)):
        total = 0.0
        if by_time:
            for j in range(k * p, (k + 1) * p):
                if dec.first[j] >= 0:
                    total += dec.tau_steps / (dec.tau_steps + dec.first[j])
        else:
            for j in range(k * p, (k + 1) * p):
                total += dec.score[j]
        out[k] = total / p


@kernel
def decode_rest(dec):  # type: ignore[no-untyped-def]
    """To rest, as made: a sample begins."""
    dec.score[:] = 0.0
    dec.first[:] = SILENT
    dec.clock[:] = 0
