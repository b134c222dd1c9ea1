"""What a stream of tasks did to what was known: the accuracy matrix, and the measures that follow from it.

`R[i][j]` is the accuracy on task j's test samples after training with task i; there are T tasks, the first is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiked.service.report import Report

Matrix = Sequence[Sequence[float]]
REACH = 90
"""How well a learner does that has recovered from a change (%)."""
RUN = 50
"""Labels over which it is judged."""


def average_accuracy(matrix: Matrix) -> float:
    """Mean over the tasks of the accuracy after the last one: mean_j R[T-1][j]."""
    return float(np.mean(matrix[-1]))


def backward_transfer(matrix: Matrix) -> float:
    """Mean change since a task was learnt: mean over j < T-1 of R[T-1][j] - R[j][j] (Lopez-Paz and Ranzato 2017)."""
    r = np.asarray(matrix, float)
    return float(np.mean(r[-1, :-1] - np.diag(r)[:-1]))


def task_forgetting(matrix: Matrix) -> list[float]:
    """Of each task but the last: max over i < T-1 of R[i][j], minus R[T-1][j] (Chaudhry et al. 2018, Eq. 3)."""
    r = np.asarray(matrix, float)
    return [float(f) for f in r[:-1, :-1].max(axis=0) - r[-1, :-1]]


def forgetting(matrix: Matrix) -> float:
    """Mean of `task_forgetting`. Negative where later tasks helped the earlier ones."""
    return float(np.mean(task_forgetting(matrix)))


def labels_until(right: NDArray[np.bool_], share: float = REACH / 100, run: int = RUN) -> int | None:
    """Labels after which at least `share` of the last `run` was right, all of them after the change; None: never."""
    for k in range(run, len(right) + 1):
        if int(right[k - run : k].sum()) >= share * run - 1e-9:
            return k
    return None


@dataclass
class Window:
    """Test-then-train accuracy of training samples `first` up to, not including, `end`."""

    name: str
    first: int
    end: int
    accuracy: float


def windows(right: NDArray[np.bool_], change: int) -> list[Window]:
    """Accuracy around a change that came after `change` training samples; windows without a sample are left out."""
    n = len(right)
    spans = [
        ("last 100 before", max(0, change - 100), change), ("first 100 after", change, min(n, change + 100)),
        ("100 to 400 after", change + 100, min(n, change + 400)), ("last quarter", max(change, n - n // 4), n),
    ]  # fmt: skip
    return [Window(name, a, b, float(right[a:b].mean())) for name, a, b in spans if a < b]


@dataclass
class Learnt:
    """A task as it was taught: samples, and how many of them were predicted right before they taught."""

    name: str
    classes: list[str]
    train_samples: int
    test_samples: int
    accuracy: float | None = None


@dataclass
class ContinualReport(Report):
    """What an evaluation by tasks found. `test` and `checks` are of a frozen copy too, and count all tasks' tests."""

    scenario: str = ""
    told: str = ""
    tasks: list[Learnt] = field(default_factory=list)
    matrix: list[list[float]] = field(default_factory=list)

    @property
    def starts(self) -> list[int]:
        """Training samples before each task."""
        return [0, *np.cumsum([t.train_samples for t in self.tasks])[:-1].tolist()]

    @property
    def change(self) -> int | None:
        """Training samples before the sensor changed; None where it did not, or by levels."""
        return self.starts[1] if self.scenario == "drift" and len(self.tasks) == 2 else None

    @property
    def measures(self) -> dict[str, float | None]:
        """The figures that tell the whole, by name; those that splits are averaged by."""
        found: dict[str, float | None] = {
            "accuracy": self.train.accuracy(), "average_accuracy": average_accuracy(self.matrix),
            "backward_transfer": backward_transfer(self.matrix), "forgetting": forgetting(self.matrix),
            "us_per_step": self.us_per_step, "state_bytes": self.state_bytes, "learnt_bytes": self.learnt_bytes,
        }  # fmt: skip
        if self.change is not None:
            found |= {f"accuracy, {w.name}": w.accuracy for w in windows(self.train.right, self.change)}
            found[f"labels until {REACH} %"] = labels_until(self.train.right[self.change :])
        return found

    def summary(self) -> dict[str, Any]:
        """Everything as plain data; `forgetting` is that of the matrix, not the mean over classes."""
        told = {"scenario": self.scenario, "told": self.told, **super().summary(), **self.measures}
        told["task_forgetting"] = task_forgetting(self.matrix)
        if self.change is not None:
            around = windows(self.train.right, self.change)
            told = {k: v for k, v in told.items() if not k.startswith(("accuracy, ", "labels until"))}
            told["windows"] = [vars(w) for w in around]
            told[f"labels_until_{REACH}"] = labels_until(self.train.right[self.change :])
        return told
