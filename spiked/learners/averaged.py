"""Fast and slow weights: a copy of the network whose weights are the mean of what the learner's were lately.

A learner that takes a step after every window never rests: its weights wander about what it knows, and a prediction
made with those of this moment pays for the last few windows. Their mean does not (Polyak and Juditsky 1992); it is the
ensemble that the paper names against forgetting (5.1, fast and slow weights). Here the fast weights learn, on dynamics
of their own, and the mean predicts::

    slow += (fast - slow) * max(1 / windows, 1 / n)      n: windows that have taught, so that the start is a plain mean

A step costs one more inference; a window one pass over the weights; the memory is one more set of weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from spiked.learners.bundle import Bundles
from spiked.learners.contract import CLOSE, Cues, Readouts, Steps
from spiked.learners.decoders import Decoder, decode_close, decode_rest, decode_scores, decode_step, grow_decoder
from spiked.learners.dynamics import lif_step
from spiked.learners.jit import kernel
from spiked.learners.lif import Lif, LifState, copy_state, grow_lif, layer_weight, make_lif_state, rest_lif
from spiked.learners.running import room_between, room_for
from spiked.learners.spike_traces import take_totals


@kernel
def _read(state, dec, logits, scores, spikes, row):  # type: ignore[no-untyped-def]
    """Scores and spikes into a row."""
    decode_scores(dec, logits)
    for k in range(len(logits)):
        scores[row, k] = logits[k]
    take_totals(state, spikes, row)


@kernel
def _run(bundle, indptr, indices, counts, flags, scores, spikes):  # type: ignore[no-untyped-def]
    """All steps of a run, without learning; the bundle is of network, state, decoder and room for scores."""
    net, state, dec, logits = bundle.parts
    a = net.u_at[len(net.threshold) - 1]
    row = 0
    for t in range(len(indptr) - 1):
        lo, hi = indptr[t], indptr[t + 1]
        lif_step(net, state, indices[lo:hi], counts[lo:hi])
        decode_step(dec, state.spike[a:], state.membrane[a:])
        if flags[t]:
            _read(state, dec, logits, scores, spikes, row)
            row += 1
            if flags[t] & CLOSE:
                decode_close(dec)


@kernel
def _approach(slow, fast, share):  # type: ignore[no-untyped-def]
    """Move `slow` towards `fast` by `share`, float[n] (a share for each column of the rows that it repeats over)."""
    n = len(share)
    for at in range(0, len(slow), n):
        for j in range(n):
            slow[at + j] += share[j] * (fast[at + j] - slow[at + j])


class AveragedCopy:
    """A network that only predicts, with the mean of another's weights.

    Parameters
    ----------
    net : the network that learns; its layout is shared, its weights are copied.
    dec : its decoder.
    windows : windows that the mean reaches back; 1 is the weights as they are.

    Attributes
    ----------
    net : the same layout with the mean of the weights; decays and thresholds are the other's own.
    age : int64[n]; windows that have taught since each output neuron was there.
    """

    def __init__(self, net: Lif, dec: Decoder, windows: float) -> None:
        if not windows >= 1:
            raise ValueError(f"a mean of {windows} windows; allowed: 1 or more")
        self.windows = windows
        self.net = net._replace(weight=net.weight.copy())
        self.state: LifState = make_lif_state(net)
        self.dec = dec._replace(score=np.zeros_like(dec.score), first=dec.first.copy(), clock=np.zeros_like(dec.clock))
        decode_rest(self.dec)
        self._bundles = Bundles()
        self.age = np.zeros(int(net.sizes[-1]), np.int64)
        self._make_room()

    def _make_room(self) -> None:
        self._logits = np.zeros(len(self.dec.score) // self.dec.population)
        self._share = np.zeros(int(self.net.sizes[1:].max()), self.net.weight.dtype)

    def run(self, steps: Steps, cues: Cues) -> Readouts:
        """Advance by many steps in one compiled call."""
        said = room_for(cues, len(self._logits), len(self.net.threshold))
        bundle = self._bundles.of(self.net, self.state, self.dec, self._logits)
        _run(bundle, *steps[1:], cues.flags, said.scores, said.spikes)
        return said

    def conclude(self, label: int) -> Readouts:
        """Read out and close the window between two steps."""
        said = room_between(label, len(self._logits), len(self.net.threshold))
        _read(self.state, self.dec, self._logits, said.scores, said.spikes, 0)
        decode_close(self.dec)
        return said

    def follow(self, net: Lif) -> None:
        """Take the weights of `net` into the mean: a window has taught."""
        self.age += 1
        for layer in range(len(net.threshold)):
            top = layer == len(net.threshold) - 1
            share = self._share[: int(net.sizes[layer + 1])]
            share[:] = np.maximum(1 / self.windows, 1 / (self.age if top else self.age[0]))
            _approach(layer_weight(self.net, layer).reshape(-1), layer_weight(net, layer).reshape(-1), share)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let all that happens inside happen on a side state, from rest; the live dynamics stand still."""
        live = self.state, self.dec
        self.state = make_lif_state(self.net)
        self.dec = self.dec._replace(**{k: getattr(self.dec, k).copy() for k in ("score", "first", "clock")})
        decode_rest(self.dec)
        try:
            yield
        finally:
            self.state, self.dec = live

    def reset(self) -> None:
        """Dynamics to rest."""
        rest_lif(self.state)
        decode_rest(self.dec)

    def grow(self, net: Lif) -> None:
        """Make room for the outputs that `net` has now; they have no past to be the mean of."""
        old_state, old_age = self.state, self.age
        grown = grow_lif(self.net, int(net.sizes[-1]))
        self.net = net._replace(weight=grown.weight)
        self.dec = grow_decoder(self.dec, int(net.sizes[-1]) // self.dec.population)
        self.state, self.age = make_lif_state(net), np.zeros(int(net.sizes[-1]), np.int64)
        copy_state(self.state, old_state)
        self.age[: len(old_age)] = old_age
        self._make_room()

    def arrays(self) -> dict[str, NDArray]:
        """All that the future depends on."""
        arrays: dict[str, NDArray] = {"weight": self.net.weight, "age": self.age}
        arrays |= {f"state.{k}": v for k, v in self.state._asdict().items()}
        return arrays | {f"dec.{k}": getattr(self.dec, k) for k in ("score", "first", "clock")}
