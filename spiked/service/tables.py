"""Reports of an evaluation as lines of text."""

from __future__ import annotations

from typing import Any

from spiked.service.continual import REACH, RUN, ContinualReport, labels_until, task_forgetting, windows
from spiked.service.report import Report
from spiked.service.splits import Splits

MAX_TABLE = 16
"""A confusion matrix of more classes does not fit a terminal; the JSON has it."""
SHARES = ("accuracy", "test_accuracy", "average_accuracy", "backward_transfer", "forgetting")


def percent(share: float | None, sign: bool = False) -> str:
    """A share as people read it."""
    return "-" if share is None else f"{100 * share:{'+' if sign else ''}.1f} %"


def measure(name: str, value: float) -> str:
    """A measure by its name, with its unit."""
    if name.split(",")[0] in SHARES:
        return percent(value, name == "backward_transfer")
    if name.endswith("_bytes"):
        return f"{value / 1e6:.2f} MB"
    return f"{value:.1f} us" if name == "us_per_step" else f"{value:.0f}"


def provenance(report: Report) -> str:
    """Which samples, in which order, and what was drawn from which seed."""
    order = f"order drawn from seed {report.seed}" if report.shuffled else "in the set's own order"
    return f"split: {report.split}; {order}; network drawn from seed {report.network_seed}"


def table(report: Report) -> list[str]:
    """One report."""
    return _continual(report) if isinstance(report, ContinualReport) else _shuffled(report)


def splits_table(splits: Splits) -> list[str]:
    """One report, or the spread of several."""
    if len(splits.reports) == 1:
        return table(splits.reports[0])
    first, last = splits.reports[0], splits.reports[-1]
    lines = [
        f"{first.dataset} on stream {first.stream}: {len(splits.reports)} splits, seeds {first.seed} to {last.seed}; "
        f"{len(first.train.true)} training samples; mean and standard deviation",
    ]
    if isinstance(first, ContinualReport):
        lines.append(f"{first.scenario}: {first.told}")
    lines.append("")
    for name, spread in splits.spreads.items():
        few = "" if spread.n == len(splits.reports) else f"  (of {spread.n})"
        lines.append(f"{name:<28} {measure(name, spread.mean):>10} +- {measure(name, spread.sd).lstrip('+')}{few}")
    lines += [f"{name:<28} {'-':>10}" for name in splits.absent]
    if splits.matrix is not None and isinstance(first, ContinualReport):
        lines += ["", *_matrix([t.name for t in first.tasks], splits.matrix.tolist())]
    return lines


def _costs(report: Report) -> list[str]:
    learnt = "" if report.learnt_bytes == report.state_bytes else (
        f" ({report.learnt_bytes / 1e6:.2f} MB without the fixed weights)"
    )  # fmt: skip
    return [
        f"{report.events} events in {report.steps} steps: {report.us_per_step:.1f} us per step, learning included; "
        f"{report.speed:.0f} times real time ({report.stream_s:.1f} s of stream in {report.wall_s:.1f} s)",
        f"learner's state {report.state_bytes / 1e6:.2f} MB{learnt}, weights {report.weights_digest}; ready after "
        f"{report.ready_s:.1f} s",
        provenance(report),
    ]


def _head(report: Report, s: dict[str, Any]) -> str:
    return (
        f"{report.dataset} on stream {report.stream}: {s['train_samples']} training samples, {s['test_samples']} test "
        f"samples, {len(report.classes)} classes"
    )


def _shuffled(report: Report) -> list[str]:
    s, names = report.summary(), report.classes
    lines = [
        _head(report, s),
        f"predicted before it was told: {percent(s['accuracy'])} right (first fifth "
        f"{percent(s['accuracy_first_fifth'])}, last fifth {percent(s['accuracy_last_fifth'])})",
    ]
    if report.test.true:
        lines.append(f"test: {percent(s['test_accuracy'])} right; forgotten {percent(s['forgetting'])} on average")
    by_class = report.judged.class_accuracy(len(names))
    width = max(5, *(len(n) for n in names))
    matrix = s["confusion"] if len(names) <= MAX_TABLE else [[]] * len(names)
    cell = max(4, *(len(str(v)) + 1 for row in matrix for v in row)) if matrix[0] else 0
    columns = f"   said {' '.join(n[: cell - 1].rjust(cell - 1) for n in names)}" if matrix[0] else ""
    lines += ["", f"{'class':<{width}} {'right':>8} {'forgotten':>9}{columns}"]
    for name, right, lost, row in zip(names, by_class, report.forgetting, matrix):
        counts = "       " + "".join(f"{v or '.':>{cell}}" for v in row) if row else ""
        lines.append(f"{name:<{width}} {percent(right):>8} {percent(lost):>9}{counts}")
    return [*lines, "", *_costs(report)]


def _matrix(names: list[str], matrix: list[list[float]]) -> list[str]:
    """Accuracies in per cent: a row after each task, a column for each task's test."""
    width = max(len(n) for n in names)
    cell = max(6, *(len(n) + 1 for n in names)) if len(names) <= MAX_TABLE else 0
    if not cell:
        return [f"{len(names)} tasks: the matrix is in the JSON and on the page"]
    lines = [f"{'after / test':<{max(width, 12)}}" + "".join(f"{n:>{cell}}" for n in names)]
    for name, row in zip(names, matrix):
        lines.append(f"{name:<{max(width, 12)}}" + "".join(f"{100 * a:>{cell}.1f}" for a in row))
    return lines


def _continual(report: ContinualReport) -> list[str]:
    m, right = report.measures, report.train.right
    lines = [
        _head(report, {"train_samples": len(right), "test_samples": sum(t.test_samples for t in report.tasks)}),
        f"{report.scenario}: {report.told}",
        f"predicted before it was told: {percent(m['accuracy'])} right",
        f"at the end: {percent(m['average_accuracy'])} right on average over the tasks; backward transfer "
        f"{percent(m['backward_transfer'], True)}, forgetting {percent(m['forgetting'])}",
    ]
    if report.change is not None:
        lines += [f"{w.name}: {percent(w.accuracy)} right" for w in windows(right, report.change)]
        until = labels_until(right[report.change :])
        lines.append(
            f"labels until {REACH} % of the last {RUN} were right again: {'not reached' if until is None else until}"
        )
    lines += ["", *_matrix([t.name for t in report.tasks], report.matrix), ""]
    lost = [*(percent(f) for f in task_forgetting(report.matrix)), "-"]
    width = max(4, *(len(t.name) for t in report.tasks))
    lines.append(f"{'task':<{width}} {'training':>8} {'test':>6} {'right before told':>18} {'forgotten':>10}")
    for t, gone in zip(report.tasks, lost):
        right_before = percent(t.accuracy)
        lines.append(f"{t.name:<{width}} {t.train_samples:>8} {t.test_samples:>6} {right_before:>18} {gone:>10}")
    return [*lines, "", *_costs(report)]
