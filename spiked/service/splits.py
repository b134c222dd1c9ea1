"""Repeated splits: a set's samples pooled and divided anew, and what the figures are on average over them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiked.io.datasets import Dataset
from spiked.service.continual import ContinualReport
from spiked.service.report import Report

TEST_SHARE = 2 / 11
"""Of each class, rounded: 900 samples to train with and 200 for the test, of N-MNIST's small set of 1,100."""


def stratified(dataset: Dataset, seed: int) -> Dataset:
    """The same samples, with another split: of each class and noise level, `TEST_SHARE` at random for the test."""
    rng = np.random.default_rng(seed)
    is_test = np.zeros(len(dataset.labels), bool)
    levels = np.zeros(len(dataset.labels)) if dataset.snr_db is None else dataset.snr_db
    for label in np.unique(dataset.labels):
        for level in np.unique(levels):
            mine = np.flatnonzero((dataset.labels == label) & (levels == level))
            is_test[rng.permutation(mine)[: round(TEST_SHARE * len(mine))]] = True
    out = copy.copy(dataset)
    out.train, out.test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    out.warnings = []
    return out


def measures_of(report: Report) -> dict[str, float | None]:
    """The figures of a report that an average makes sense of."""
    if isinstance(report, ContinualReport):
        return report.measures
    told = report.summary()
    names = ("accuracy", "test_accuracy", "forgetting", "us_per_step", "state_bytes", "learnt_bytes")
    return {name: told[name] for name in names}


@dataclass
class Spread:
    """Mean and standard deviation (of a sample, n - 1) over `n` splits that have the figure."""

    mean: float
    sd: float
    n: int


@dataclass
class Splits:
    """Reports of the same evaluation on several splits; one report is the case of the set's own split."""

    reports: Sequence[Report]

    @property
    def spreads(self) -> dict[str, Spread]:
        """Every measure over the splits that have it; those that none has are `absent`."""
        found = [measures_of(r) for r in self.reports]
        out = {}
        for name in found[0]:
            values = [v for v in (m.get(name) for m in found) if v is not None]
            if values:
                sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                out[name] = Spread(float(np.mean(values)), sd, len(values))
        return out

    @property
    def absent(self) -> list[str]:
        """Measures that no split has: nothing was tested, or nothing was reached."""
        spreads = self.spreads
        return [name for name in measures_of(self.reports[0]) if name not in spreads]

    @property
    def matrix(self) -> NDArray[np.float64] | None:
        """Mean accuracy matrix, of an evaluation by tasks."""
        matrices = [r.matrix for r in self.reports if isinstance(r, ContinualReport)]
        return np.mean(matrices, axis=0) if matrices else None

    @property
    def right(self) -> NDArray[np.float64]:
        """Share of the splits in which each training sample, by its place in the order, was predicted right."""
        n = min(len(r.train.true) for r in self.reports)
        found: NDArray[np.float64] = np.mean([r.train.right[:n] for r in self.reports], axis=0)
        return found

    def summary(self) -> dict[str, Any]:
        """Everything as plain data: that of the report, or, of several, their spread and each of them."""
        if len(self.reports) == 1:
            return self.reports[0].summary()
        first = self.reports[0]
        told: dict[str, Any] = {"dataset": first.dataset, "stream": first.stream, "splits": len(self.reports)}
        told["measures"] = {name: vars(spread) for name, spread in self.spreads.items()}
        if self.matrix is not None:
            told["matrix"] = self.matrix.tolist()
        return {**told, "reports": [r.summary() for r in self.reports]}
