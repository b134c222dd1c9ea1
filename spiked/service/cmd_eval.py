"""``spiked eval``: test-then-train over a labelled set, offline and as fast as it goes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from spiked.service.cli_text import example

if TYPE_CHECKING:
    from spiked.service.report import Report

EXAMPLES = """\
  spiked eval configs/nmnist.toml nmnist8.npz --limit 500 --plot nmnist.png
  spiked eval my.toml recordings/          recordings/Train/wave/001.aedat4, recordings/Test/wave/002.aedat4, ..."""

MAX_TABLE = 16
"""A confusion matrix of more classes does not fit a terminal; the JSON has it."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``eval`` to the command line."""
    parser = commands.add_parser(
        "eval", help="test-then-train over a labelled set",
        description="Predict every training sample before learning from it, then test, as the daemon would do on the "
        "same messages, and as fast as it goes.",
        **example(EXAMPLES),
    )  # fmt: skip
    parser.add_argument("config", metavar="CONFIG.toml", help="configuration, as for spiked run")
    parser.add_argument("dataset", metavar="DATASET", help="a .npz set, or a folder with a subfolder for each class")
    parser.add_argument("--stream", metavar="ID", help="stream to evaluate, where there are several")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N training and N test samples")
    parser.add_argument("--classes", metavar="A,B,...", help="only these classes")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the samples (0)")
    parser.add_argument(
        "--shuffle", action=argparse.BooleanOptionalAction, default=True, help="train in random order (yes)"
    )
    parser.add_argument("--quick", action="store_true", help="test only at the end: faster, but forgetting is not told")
    parser.add_argument("--json", metavar="FILE", help="write everything there; - prints it instead of the table")
    parser.add_argument("--plot", metavar="FILE", help="draw learning curve, confusion and classes (.png, .pdf, .svg)")


def run(args: argparse.Namespace) -> int:
    """Evaluate, and tell."""
    import msgspec

    from spiked.io.datasets import DatasetError, open_dataset
    from spiked.io.events import Geometry
    from spiked.service.cli_errors import RunError, UsageError
    from spiked.service.configfile import ConfigError, load_config
    from spiked.service.evaluate import EvaluateError, evaluate
    from spiked.service.plots import check_plot, plot_report

    if args.seed < 0:
        raise UsageError(f"--seed: {args.seed}; at least 0")
    if args.json and args.json != "-" and not Path(args.json).absolute().parent.is_dir():
        raise UsageError(f"--json: {args.json}: no such folder")
    picture = check_plot(args.plot) if args.plot else None
    try:
        config = load_config(args.config)
        s = next((s for s in config.stream if s.id == args.stream), config.stream[0])
        dataset = open_dataset(args.dataset, Geometry(s.width, s.height, s.planes))
    except (ConfigError, DatasetError) as error:
        raise UsageError(str(error)) from None
    try:
        report = evaluate(
            config, dataset, stream=args.stream, limit=args.limit, seed=args.seed, shuffle=args.shuffle,
            quick=args.quick, classes=None if args.classes is None else [c.strip() for c in args.classes.split(",")],
        )  # fmt: skip
    except ConfigError as error:
        raise UsageError(str(error) if str(error).startswith("--") else f"{args.config}: {error}") from None
    except (EvaluateError, DatasetError) as error:
        raise RunError(str(error)) from None
    for warning in report.warnings:
        print(f"spiked eval: {warning}", file=sys.stderr)
    text = (
        msgspec.json.format(msgspec.json.encode(report.summary()), indent=0 if args.json == "-" else 1).decode() + "\n"
    )
    if args.json == "-":
        print(text, end="")
    else:
        print("\n".join(table(report)))
        if args.json:
            try:
                Path(args.json).write_text(text)
            except OSError as error:
                raise RunError(f"{args.json}: {error.strerror}") from None
    if picture:
        plot_report(picture, report)
    return 0


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def table(report: Report) -> list[str]:
    """A report as lines of text."""
    s, names = report.summary(), report.classes
    lines = [
        f"{report.dataset} on stream {report.stream}: {s['train_samples']} training samples, {s['test_samples']} test "
        f"samples, {len(names)} classes",
        f"predicted before it was told: {_percent(s['accuracy'])} right (first fifth "
        f"{_percent(s['accuracy_first_fifth'])}, last fifth {_percent(s['accuracy_last_fifth'])})",
    ]
    if report.test.true:
        lines.append(f"test: {_percent(s['test_accuracy'])} right; forgotten {_percent(s['forgetting'])} on average")
    by_class = report.judged.class_accuracy(len(names))
    width = max(5, *(len(n) for n in names))
    matrix = s["confusion"] if len(names) <= MAX_TABLE else [[]] * len(names)
    cell = max(4, *(len(str(v)) + 1 for row in matrix for v in row)) if matrix[0] else 0
    columns = f"   said {' '.join(n[: cell - 1].rjust(cell - 1) for n in names)}" if matrix[0] else ""
    lines += ["", f"{'class':<{width}} {'right':>8} {'forgotten':>9}{columns}"]
    for name, right, lost, row in zip(names, by_class, report.forgetting, matrix):
        counts = "       " + "".join(f"{v or '.':>{cell}}" for v in row) if row else ""
        lines.append(f"{name:<{width}} {_percent(right):>8} {_percent(lost):>9}{counts}")
    lines += [
        "",
        f"{report.events} events in {report.steps} steps: {report.us_per_step:.1f} us per step, learning included; "
        f"{report.speed:.0f} times real time ({report.stream_s:.1f} s of stream in {report.wall_s:.1f} s)",
        f"learner's state {report.state_bytes / 1e6:.2f} MB, weights {report.weights_digest}; ready after "
        f"{report.ready_s:.1f} s",
    ]
    return lines
