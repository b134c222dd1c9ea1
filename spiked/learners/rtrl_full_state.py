"""What full RTRL keeps while it runs: the influence, what the window has gathered, and room to work in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.lif import Lif, LifState, make_lif_state, rest_lif
from spiked.learners.rtrl_full_pattern import Pattern


class FullInfluence(NamedTuple):
    """Influence of the parameters, and what the window has gathered; entries are laid out by `Pattern`.

    Attributes
    ----------
    membrane, current, adaptation : float[kept]; dU, dI, db; empty where the layer has no such part.
    output : float[n_out, P]; dY.
    trace : float[n, n_out]; dY[k] / dW_out[j, k].
    psi : float[n]; surrogate of this step.
    sink : float64[P]; minus the gradient by the layer's weights, so far.
    descent : float64[weights]; the same by the read-out's, where these are; room for the rest.
    tally : int64[1]; labelled steps in the window.
    clock : int64[1]; 1 while the influence may differ from rest.
    """

    membrane: NDArray[np.floating]
    current: NDArray[np.floating]
    adaptation: NDArray[np.floating]
    output: NDArray[np.floating]
    trace: NDArray[np.floating]
    psi: NDArray[np.floating]
    sink: NDArray[np.float64]
    descent: NDArray[np.float64]
    tally: NDArray[np.int64]
    clock: NDArray[np.int64]


class FullWork(NamedTuple):
    """Room to work in, and the scores, float64[n_out], which go on.

    `before` is psi of the last step; `inputs` is z; `fired` holds dS of one block; `place` is where in a block's reach
    a neuron stands, -1 outside of it; `ones`, `scale` and `rate` are for `apply_row`; `logits` is for `membrane_error`.
    """

    score: NDArray[np.float64]
    error: NDArray[np.float64]
    before: NDArray[np.floating]
    inputs: NDArray[np.floating]
    fired: NDArray[np.floating]
    place: NDArray[np.int64]
    logits: NDArray[np.float64]
    ones: NDArray[np.floating]
    scale: NDArray[np.floating]
    rate: NDArray[np.floating]


class Live(NamedTuple):
    """One set of dynamics: the live one, or the side state of `recall`."""

    state: LifState
    inf: FullInfluence
    work: FullWork

    @classmethod
    def at_rest(cls, net: Lif, pattern: Pattern) -> Live:
        """Everything at rest, for a network and what is kept of its influence."""
        n, n_out, dtype = int(net.sizes[1]), int(net.sizes[2]), net.weight.dtype
        parameters, kept = len(pattern.source), int(pattern.kept_at[-1])
        inf = FullInfluence(
            membrane=np.zeros(kept, dtype),
            current=np.zeros(kept if net.alpha[0] > 0 else 0, dtype),
            adaptation=np.zeros(kept if net.jump[0] > 0 else 0, dtype),
            output=np.zeros((n_out, parameters), dtype),
            trace=np.zeros((n, n_out), dtype),
            psi=np.zeros(n, dtype),
            sink=np.zeros(parameters),
            descent=np.zeros(len(net.weight)),
            tally=np.zeros(1, np.int64),
            clock=np.zeros(1, np.int64),
        )
        work = FullWork(
            score=np.zeros(n_out),
            error=np.zeros(n_out),
            before=np.zeros(n, dtype),
            inputs=np.zeros(int(net.rows[0]), dtype),
            fired=np.zeros(int(np.diff(pattern.kept_at).max()), dtype),
            place=np.full(n, -1, np.int64),
            logits=np.zeros(n_out),
            ones=np.ones(max(n, n_out), dtype),
            scale=np.zeros(1, dtype),
            rate=np.zeros(1, dtype),
        )
        return cls(make_lif_state(net), inf, work)

    def to_rest(self) -> None:
        """Dynamics, influence and scores to rest; weights stay."""
        self.drop_window()
        rest_lif(self.state)
        self.work.score[:] = 0

    def drop_window(self) -> None:
        """Influence to rest, and what the window has gathered with it; weights and dynamics stay."""
        if self.inf.clock[0]:
            arrays: list[Any] = [*self.inf]
            for array in arrays:
                array[...] = 0
