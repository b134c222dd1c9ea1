"""An evaluation as one HTML page: figures with where they come from, tables, and pictures inside the file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import spiked
from spiked.service.cli_errors import RunError
from spiked.service.continual import REACH, RUN, ContinualReport, task_forgetting, windows
from spiked.service.plots import plot_report
from spiked.service.plots_continual import plot_continual
from spiked.service.splits import Splits, measures_of
from spiked.service.tables import measure, percent, provenance

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
img { width: 100%; } code { background: #f2f2f2; padding: 0 .2em; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: .2rem .7rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
"""
MEANING = {
    "accuracy": "training samples predicted right, each before it was told",
    "test_accuracy": "test samples right at the end",
    "average_accuracy": "mean over the tasks of the accuracy on their tests, after the last task",
    "backward_transfer": "mean change of a task's accuracy from when it was learnt to the end",
    "us_per_step": "of the stream that learns, learning included",
    "state_bytes": "all that the learner keeps",
    "learnt_bytes": "the same without weights that a seed draws and no rule moves",
    f"labels until {REACH} %": f"after the change, until {REACH} % of the last {RUN} were right",
}


def page(splits: Splits, command: str) -> str:
    """The page.

    Parameters
    ----------
    splits : what was found.
    command : what was asked for, as it would be typed.
    """
    first = splits.reports[0]
    continual = first if isinstance(first, ContinualReport) else None
    n = len(splits.reports)
    scenario = continual.scenario if continual else "shuffled" if first.shuffled else "in order"
    title = f"{first.dataset}: {scenario}"
    told = continual.told if continual else "every training sample once, predicted before it teaches; then the test"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(told)}.</p>",
        f"<p>Stream <code>{escape(first.stream)}</code>, {len(first.classes)} classes, {len(first.train.true)} "
        f"training samples; {escape(_from_where(splits))}. spiked {escape(spiked.__version__)}.</p>",
        f"<p><code>{escape(command)}</code></p>",
        "<h2>Figures</h2>", _figures(splits),
        "<h2>Pictures</h2>", _picture(splits),
    ]  # fmt: skip
    if continual:
        parts += ["<h2>Accuracy matrix</h2>", _matrix(splits, continual), "<h2>Tasks</h2>", _tasks(splits)]
        if continual.change is not None and n == 1:
            parts += ["<h2>Around the change</h2>", _windows(continual, continual.change)]
    else:
        parts += ["<h2>Classes</h2>", _classes(splits)]
    if n > 1:
        parts += ["<h2>Splits</h2>", _splits(splits)]
    warnings = list(dict.fromkeys(w for r in splits.reports for w in r.warnings))
    if warnings:
        parts += ["<h2>Warnings</h2>", f"<ul>{''.join(f'<li>{escape(w)}</li>' for w in warnings)}</ul>"]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def write_page(path: Path, splits: Splits, command: str) -> None:
    """Write the page; RunError of one line where it cannot be."""
    try:
        path.write_text(page(splits, command), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}") from None


def _from_where(splits: Splits) -> str:
    first, last = splits.reports[0], splits.reports[-1]
    if len(splits.reports) == 1:
        return provenance(first)
    return (
        f"{len(splits.reports)} splits, stratified, drawn from seeds {first.seed} to {last.seed}, and orders too; "
        f"network drawn from seed {first.network_seed}; mean and standard deviation"
    )


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(c)}</th>" for c in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>\n{body}</table></div>'


def _figures(splits: Splits) -> str:
    continual = isinstance(splits.reports[0], ContinualReport)
    lost = (
        "mean over the tasks but the last: best accuracy before the last task, minus that at the end"
        if continual
        else "mean over the classes: best accuracy during training, minus the last"
    )
    several = len(splits.reports) > 1
    rows = []
    for name, spread in splits.spreads.items():
        value = measure(name, spread.mean)
        if several:
            value += f" ± {measure(name, spread.sd).lstrip('+')}"
            value += "" if spread.n == len(splits.reports) else f" (of {spread.n} splits)"
        base = "training samples predicted right, in that window" if name.startswith("accuracy,") else ""
        rows.append((name, value, MEANING.get(name, lost if name == "forgetting" else base)))
    rows += [(name, "-", MEANING.get(name, "")) for name in splits.absent]
    return _rows(("figure", "value", "what it is"), rows)


def _of_first(splits: Splits) -> str:
    return "<p>Of the first split.</p>" if len(splits.reports) > 1 else ""


def _picture(splits: Splits) -> str:
    file, first = io.BytesIO(), splits.reports[0]
    if isinstance(first, ContinualReport):
        plot_continual(file, splits)
    else:
        plot_report(file, first)
    note = "" if isinstance(first, ContinualReport) else _of_first(splits)
    inside = base64.b64encode(file.getvalue()).decode()
    return f'{note}<img alt="curves and tables as pictures" src="data:image/png;base64,{inside}">'


def _matrix(splits: Splits, first: ContinualReport) -> str:
    matrix = splits.matrix
    assert matrix is not None
    names = [t.name for t in first.tasks]
    rows = [(name, *(f"{100 * a:.1f}" for a in row)) for name, row in zip(names, matrix)]
    return f"<p>Right (%) on each task's test (column) after training with a task (row).</p>{_rows(('', *names), rows)}"


def _tasks(splits: Splits) -> str:
    first = splits.reports[0]
    assert isinstance(first, ContinualReport)
    lost = [*(percent(f) for f in task_forgetting(first.matrix)), "-"]
    rows = [
        (t.name, ", ".join(t.classes), str(t.train_samples), str(t.test_samples), percent(t.accuracy), gone)
        for t, gone in zip(first.tasks, lost)
    ]
    return _of_first(splits) + _rows(("task", "classes", "training", "test", "right before told", "forgotten"), rows)


def _windows(report: ContinualReport, change: int) -> str:
    rows = [(w.name, f"{w.first} to {w.end}", percent(w.accuracy)) for w in windows(report.train.right, change)]
    return _rows(("window", "training samples", "right before told"), rows)


def _classes(splits: Splits) -> str:
    report = splits.reports[0]
    by_class = report.judged.class_accuracy(len(report.classes))
    rows = [(n, percent(a), percent(f)) for n, a, f in zip(report.classes, by_class, report.forgetting)]
    return _of_first(splits) + _rows(("class", "right", "forgotten"), rows)


def _splits(splits: Splits) -> str:
    names = list(splits.spreads)
    rows = []
    for report in splits.reports:
        found = measures_of(report)
        values = [found.get(name) for name in names]
        rows.append((report.split, *("-" if v is None else measure(n, v) for n, v in zip(names, values))))
    return _rows(("split", *names), rows)
