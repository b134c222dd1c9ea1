"""Pictures of an evaluation by tasks: its matrix, how each task fared, and what was right while learning."""

from __future__ import annotations

from typing import Any

import numpy as np

from spiked.service.continual import REACH, ContinualReport
from spiked.service.plots import Target, new_figure, running_mean, save_figure
from spiked.service.splits import Splits

MAX_NUMBERS = 12
"""More tasks than these are shown as colours only."""


def plot_continual(path: Target, splits: Splits) -> None:
    """Draw matrix, accuracy of each task over the tasks, and the learning curve; of several splits, their means."""
    first = splits.reports[0]
    assert isinstance(first, ContinualReport)
    figure = new_figure(14, 4.4)
    table, tasks, curve = figure.subplots(1, 3)
    of = f", mean of {len(splits.reports)} splits" if len(splits.reports) > 1 else ""
    figure.suptitle(f"{first.dataset}, {first.stream}: {first.scenario}{of}")
    _matrix(figure, table, splits, [t.name for t in first.tasks])
    _tasks(tasks, splits, first)
    _curve(curve, splits, first)
    save_figure(figure, path)


def _matrix(figure: Any, axis: Any, splits: Splits, names: list[str]) -> None:
    matrix = splits.matrix
    assert matrix is not None
    shown = axis.imshow(100 * matrix, vmin=0, vmax=100, cmap="Blues")
    figure.colorbar(shown, ax=axis, label="right (%)")
    if len(names) <= MAX_NUMBERS:
        for (row, column), share in np.ndenumerate(matrix):
            color = "white" if share > 0.5 else "black"
            axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=color, fontsize=8)
    ticks = range(0, len(names), max(1, len(names) // 20))
    long = max(len(n) for n in names) > 6
    axis.set_xticks(ticks, [names[k] for k in ticks], rotation=45 if long else 0)
    axis.set_yticks(ticks, [names[k] for k in ticks])
    axis.set(xlabel="tested on", ylabel="after training with", title="accuracy matrix")


def _tasks(axis: Any, splits: Splits, first: ContinualReport) -> None:
    matrix = splits.matrix
    assert matrix is not None
    n = len(matrix)
    learnt = range(1, n + 1)
    for j, task in enumerate(first.tasks):  # a thin line until the task is taught
        name = task.name if n <= MAX_NUMBERS else None
        (line,) = axis.plot(learnt[j:], 100 * matrix[j:, j], "o-", markersize=4, label=name)
        axis.plot(learnt[: j + 1], 100 * matrix[: j + 1, j], ":", linewidth=1, color=line.get_color())
    axis.plot(learnt, 100 * matrix.mean(1), "k--", linewidth=1, label="mean")
    axis.set(xlabel="tasks learnt", ylabel="right (%)", ylim=(-2, 102), title="each task's test", xticks=learnt)
    axis.legend(fontsize=8, loc="best")


def _curve(axis: Any, splits: Splits, first: ContinualReport) -> None:
    right = splits.right
    window = max(1, min(50, len(right) // 5))
    axis.plot(*running_mean(right, window), label=f"mean of the last {window}")
    for start in first.starts[1:]:
        axis.axvline(start, color="tab:gray", linewidth=0.8, linestyle=":")
    if first.change is not None:
        axis.axhline(REACH, color="tab:green", linewidth=0.8, linestyle="--", label=f"{REACH} %")
    axis.set(
        xlabel="training samples", ylabel="right (%)", ylim=(-2, 102), xlim=(0, len(right)),
        title="before it was told",
    )  # fmt: skip
    axis.legend(loc="lower right", fontsize=8)
