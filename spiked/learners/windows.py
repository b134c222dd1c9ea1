"""Cutting a run where its windows close, and putting what its parts said together again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from spiked.learners.contract import CLOSE, Cues, Readouts


def windows(cues: Cues) -> Iterator[tuple[int, int]]:
    """First step of each part and the step after its last: a part ends where a window closes, or with the run."""
    n, first = len(cues.flags), 0
    for at in (cues.flags & CLOSE).nonzero()[0].tolist():
        yield first, at + 1
        first = at + 1
    if first < n:
        yield first, n


def join_readouts(parts: Sequence[Readouts], cues: Cues, n_out: int, n_layers: int) -> Readouts:
    """The read-outs of a whole run from those of its parts."""
    at = cues.flags.nonzero()[0]
    scores = [p.scores for p in parts] or [np.zeros((0, n_out), np.float32)]
    spikes = [p.spikes for p in parts] or [np.zeros((0, n_layers), np.int64)]
    return Readouts(at, cues.flags[at], cues.labels[at], np.concatenate(scores), np.concatenate(spikes))
