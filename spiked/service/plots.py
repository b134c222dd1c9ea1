"""Pictures of recordings, checkpoints and evaluations. matplotlib is an extra, loaded when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spiked.service.cli_errors import RunError, UsageError

if TYPE_CHECKING:
    from spiked.io.recordings import Recording
    from spiked.service.report import Report

Target = Path | IO[bytes]
"""Where a picture goes: a file by its name, or an open one, which takes PNG."""
TIME_BINS = 400
FLAT_HEIGHT, FLAT_PIXELS = 8, 4096
"""A sensor of so few rows and pixels is a cochlea: its picture is channels over time."""
MAX_PANELS = 6


def check_plot(path: str | Path, option: str = "--plot", endings: tuple[str, ...] = (".png", ".pdf", ".svg")) -> Path:
    """Make sure, before long work, that a picture can be drawn and written there; UsageError if not."""
    path = Path(path)
    try:
        import matplotlib  # noqa: F401
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: F401
    except ImportError:
        raise UsageError(f"{option} needs matplotlib; pip install 'spiked[plots]'") from None
    if path.suffix.lower() not in endings:
        raise UsageError(f"{option}: {path}; a name ending in {', '.join(endings[:-1])} or {endings[-1]}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{option}: {path}: no such folder")
    return path


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches, of no window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def running_mean(right: NDArray, window: int) -> tuple[NDArray, NDArray]:
    """Samples seen, and the share (%) that was right of the last `window`."""
    mean = np.convolve(np.asarray(right, float), np.ones(window) / window, "valid")
    return np.arange(window, len(right) + 1), 100 * mean


def save_figure(figure: Any, path: Target) -> None:
    """Write a figure; RunError of one line where it cannot be."""
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}") from None


def plot_recording(path: Path, recording: Recording, t_first_us: int, t_last_us: int) -> None:
    """Draw where a recording's events lie and how many come when; reads it once, in bounded memory."""
    g = recording.geometry
    bins = min(TIME_BINS, t_last_us - t_first_us + 1)
    width_us = (t_last_us - t_first_us + 1) / bins
    rate = np.zeros((2, bins), np.int64)
    flat = g.height <= FLAT_HEIGHT and g.width * g.height <= FLAT_PIXELS
    image = np.zeros((2, g.width * g.height, bins) if flat else (2, g.height * g.width), np.int64)
    for packet in recording.packets():
        on, pixel = packet["on"].astype(np.int64), packet["y"].astype(np.int64) * g.width + packet["x"]
        when = np.minimum(((packet["t"].astype(np.int64) - t_first_us) / width_us).astype(np.int64), bins - 1)
        for p in (0, 1):
            of = on == p
            rate[p] += np.bincount(when[of], minlength=bins)
            cell, cells = (pixel * bins + when, g.width * g.height * bins) if flat else (pixel, g.width * g.height)
            image[p] += np.bincount(cell[of], minlength=cells).reshape(image[p].shape)
    seconds = (bins * width_us) * 1e-6
    figure = new_figure(9, 7)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1))
    if flat:
        shown = upper.imshow(
            np.log1p(image.sum(0)), aspect="auto", origin="lower", interpolation="nearest", cmap="magma",
            extent=(0, seconds, -0.5, g.width * g.height - 0.5),
        )  # fmt: skip
        upper.set(xlabel="time (s)", ylabel="channel" if g.height == 1 else "channel + row * width")
        figure.colorbar(shown, ax=upper, label="log(1 + events)")
    else:
        balance = np.log1p(image[1]) - np.log1p(image[0])
        limit = max(1.0, float(np.abs(balance).max()))
        shown = upper.imshow(
            balance.reshape(g.height, g.width), vmin=-limit, vmax=limit, cmap="RdBu_r", interpolation="nearest"
        )
        upper.set(xlabel="x", ylabel="y")
        figure.colorbar(shown, ax=upper, label="log(1 + ON) - log(1 + OFF)")
    upper.set_title(f"{recording.path.name}: {recording.format}, {g.width}x{g.height}, {int(rate.sum())} events")
    at = (np.arange(bins) + 0.5) * width_us * 1e-6
    for p, name, color in ((1, "ON" if g.planes == 2 else "events", "tab:red"), (0, "OFF", "tab:blue")):
        if p == 0 and g.planes == 1:
            continue
        lower.plot(at, rate[p] / width_us * 1e3, color=color, label=name, linewidth=0.9)
    lower.set(xlabel="time (s)", ylabel="events per ms", xlim=(0, seconds))
    lower.legend(loc="upper right")
    save_figure(figure, path)


def plot_checkpoint(path: Path, told: dict[str, Any], arrays: dict[str, NDArray]) -> None:
    """Draw what each stream's learner knows: of every class the norms of its arrays, and how weights are spread."""
    panels: list[tuple[str, NDArray, list[str]]] = []
    for stream, known in told["streams"].items():
        prefix = f"{stream}/learner."
        classes = [str(c) for c in known["classes"] or []]
        for name, array in arrays.items():
            if name.startswith(prefix) and array.dtype.kind == "f" and array.size > 1:
                short, axes = name[len(prefix) :], [k for k, n in enumerate(array.shape) if n == len(classes) > 0]
                if array.ndim == 1 and axes:
                    panels.append((f"{stream}: {short}, by class", array, classes))
                elif array.ndim == 2 and axes:
                    norms = np.linalg.norm(np.moveaxis(array, axes[0], 0).astype(np.float64), axis=1)
                    panels.append((f"{stream}: norm of {short}, by class", norms, classes))
                elif short == "net.weight":
                    panels.append((f"{stream}: {short}, {array.size} values", array.ravel(), []))
    figure = new_figure(9, 3 * max(1, min(len(panels), MAX_PANELS)))
    figure.suptitle(f"{told['name']}, {told['bytes'] / 1e6:.1f} MB")
    if not panels:
        figure.text(0.5, 0.5, "nothing learnt that can be drawn", ha="center")
    panels = panels[:MAX_PANELS]
    for (title, values, classes), axis in zip(panels, figure.subplots(max(1, len(panels)), 1, squeeze=False)[:, 0]):
        if classes:
            axis.bar(range(len(classes)), values)
            axis.set_xticks(range(len(classes)), classes, rotation=45 if len(classes) > 8 else 0)
        else:
            axis.hist(values, bins=100, log=True)
            axis.set(ylabel="synapses")
        axis.set_title(title)
    save_figure(figure, path)


def plot_report(path: Target, report: Report) -> None:
    """Draw an evaluation: learning curve, confusion, and each class's accuracy with what was forgotten."""
    n, right = len(report.classes), report.train.right.astype(float)
    figure = new_figure(14, 4.4)
    curve, table, bars = figure.subplots(1, 3)
    window = max(1, min(100, len(right) // 5))
    curve.plot(*running_mean(right, window), label=f"before it was told, mean of {window}")
    checks = [(c.after, 100 * c.accuracy) for c in report.checks if c.accuracy is not None]
    if checks:
        curve.plot(*zip(*checks), "o-", label="test split")
    curve.set(xlabel="training samples", ylabel="right (%)", ylim=(0, 102), title=f"{report.dataset}, {report.stream}")
    curve.legend(loc="lower right")
    confusion = np.array(report.judged.confusion(n), float)
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    shown = table.imshow(100 * share, vmin=0, vmax=100, cmap="Blues")
    figure.colorbar(shown, ax=table, label="% of the class")
    if n <= 12:
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                color = "white" if share[row, column] > 0.5 else "black"
                table.text(column, row, f"{count:.0f}", ha="center", va="center", color=color, fontsize=8)
    ticks = range(0, n, max(1, n // 20))
    table.set_xticks(ticks, [report.classes[k] for k in ticks], rotation=90 if n > 10 else 0)
    table.set_yticks(ticks, [report.classes[k] for k in ticks])
    table.set(xlabel="said", ylabel="true", title="test" if report.test.true else "training")
    last = [100 * (a or 0.0) for a in report.judged.class_accuracy(n)]
    lost = [100 * (f or 0.0) for f in report.forgetting]
    bars.bar(range(n), last, label="right")
    bars.bar(range(n), lost, bottom=last, color="tab:orange", alpha=0.6, label="forgotten")
    bars.set_xticks(ticks, [report.classes[k] for k in ticks], rotation=90 if n > 10 else 0)
    bars.set(ylabel="right (%)", ylim=(0, 102), title="by class")
    bars.legend(loc="lower right")
    save_figure(figure, path)
