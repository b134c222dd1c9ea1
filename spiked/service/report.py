"""What an evaluation found: predictions against the truth, and the figures that follow from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTS = 5
"""Training is looked at in fifths."""


@dataclass
class Said:
    """What was predicted of a run of samples: sample numbers, true classes, predicted classes (-1: nothing known)."""

    index: list[int] = field(default_factory=list)
    true: list[int] = field(default_factory=list)
    said: list[int] = field(default_factory=list)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which were right."""
        return np.array(self.true, np.int64) == np.array(self.said, np.int64)

    def extend(self, more: Said) -> None:
        """Append what was said of another run."""
        self.index += more.index
        self.true += more.true
        self.said += more.said

    def accuracy(self, part: slice = slice(None)) -> float | None:
        """Share that was right; None of nothing."""
        right = self.right[part]
        return float(right.mean()) if len(right) else None

    def class_accuracy(self, n: int) -> list[float | None]:
        """Share of each of `n` classes that was right."""
        true, right = np.array(self.true, np.int64), self.right
        return [float(right[true == k].mean()) if np.any(true == k) else None for k in range(n)]

    def confusion(self, n: int) -> list[list[int]]:
        """How often class (row) was taken for class (column)."""
        table = np.zeros((n, n), np.int64)
        for true, said in zip(self.true, self.said):
            if said >= 0:
                table[true, said] += 1
        return table.tolist()


@dataclass
class Check:
    """The test split, judged by a frozen copy after so many training samples."""

    after: int
    accuracy: float | None
    class_accuracy: list[float | None]


@dataclass
class Report:
    """What an evaluation found. Accuracies are shares; lists by class follow `classes`.

    `state_bytes` is all that a learner keeps, `learnt_bytes` that without weights which a seed draws and no rule moves.
    """

    dataset: str
    stream: str
    classes: list[str]
    seed: int
    shuffled: bool
    train: Said = field(default_factory=Said)
    test: Said = field(default_factory=Said)
    checks: list[Check] = field(default_factory=list)
    events: int = 0
    steps: int = 0
    stream_s: float = 0.0
    wall_s: float = 0.0
    ready_s: float = 0.0
    us_per_step: float = 0.0
    state_bytes: int = 0
    learnt_bytes: int = 0
    network_seed: int = 0
    split: str = "the set's own"
    weights_digest: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """Seconds of stream per second of work."""
        return self.stream_s / max(self.wall_s, 1e-9)

    @property
    def forgetting(self) -> list[float | None]:
        """Best accuracy of each class on the test split during training, minus its last; None: not looked at."""
        if len(self.checks) < 2:
            return [None] * len(self.classes)
        return [
            None if now is None else max(c.class_accuracy[k] or 0.0 for c in self.checks) - now
            for k, now in enumerate(self.checks[-1].class_accuracy)
        ]

    def summary(self) -> dict[str, Any]:
        """Everything as plain data."""
        n, fifth = len(self.classes), max(1, len(self.train.true) // PARTS)
        forgotten = [f for f in self.forgetting if f is not None]
        plain = asdict(self)
        return {
            **{k: plain.pop(k) for k in ("dataset", "stream", "classes", "seed", "shuffled")},
            "train_samples": len(self.train.true), "test_samples": len(self.test.true),
            "accuracy": self.train.accuracy(), "accuracy_first_fifth": self.train.accuracy(slice(0, fifth)),
            "accuracy_last_fifth": self.train.accuracy(slice(-fifth, None)), "test_accuracy": self.test.accuracy(),
            "test_class_accuracy": self.test.class_accuracy(n), "confusion": self.judged.confusion(n),
            "class_forgetting": self.forgetting, "forgetting": float(np.mean(forgotten)) if forgotten else None,
            "speed": self.speed, **plain,
        }  # fmt: skip

    @property
    def judged(self) -> Said:
        """What the confusion is taken from: the test split, or training where there is none."""
        return self.test if self.test.true else self.train
