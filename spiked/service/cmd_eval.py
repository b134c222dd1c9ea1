"""``spiked eval``: test-then-train over a labelled set, offline and as fast as it goes."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from spiked.service.cli_text import example

if TYPE_CHECKING:
    from spiked.io.datasets import Dataset
    from spiked.service.config import Config
    from spiked.service.report import Report
    from spiked.service.splits import Splits

EXAMPLES = """\
  spiked eval configs/nmnist.toml nmnist8.npz --limit 500 --plot nmnist.png
  spiked eval configs/nmnist.toml nmnist8.npz --scenario class-incremental --page tasks.html
  spiked eval configs/nmnist.toml nmnist8.npz --scenario drift --drift shift,polarity --splits 5
  spiked eval my.toml recordings/          recordings/Train/wave/001.aedat4, recordings/Test/wave/002.aedat4, ..."""

SCENARIOS = ("shuffled", "class-incremental", "task-incremental", "drift")


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
    parser.add_argument(
        "--scenario", choices=SCENARIOS, default=SCENARIOS[0], help="what is taught in which order (shuffled)"
    )
    parser.add_argument(
        "--classes-per-task", type=int, metavar="N", help="class- and task-incremental: classes in a task (2)"
    )
    parser.add_argument(
        "--drift", metavar="A,B,...", help="drift: what happens to the events after the middle of training, of rotate, "
        "mirror, shift, polarity, noise and hot-pixels (shift,polarity); or snr: noisier from level to level",
    )  # fmt: skip
    parser.add_argument(
        "--splits", type=int, metavar="N", help="pool the set's samples, split them anew N times, and tell the spread"
    )
    parser.add_argument("--stream", metavar="ID", help="stream to evaluate, where there are several")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N training and N test samples")
    parser.add_argument("--classes", metavar="A,B,...", help="only these classes")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the order of the samples, of drift and of the first split (0)"
    )
    parser.add_argument(
        "--shuffle",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="train in random order, within a task (yes)",
    )
    parser.add_argument("--quick", action="store_true", help="test only at the end: faster, but forgetting is not told")
    parser.add_argument("--json", metavar="FILE", help="write everything there; - prints it instead of the table")
    parser.add_argument("--plot", metavar="FILE", help="draw what was found (.png, .pdf, .svg)")
    parser.add_argument("--page", metavar="FILE", help="write a page with figures, tables and pictures (.html)")


def run(args: argparse.Namespace) -> int:
    """Evaluate, and tell."""
    import msgspec

    from spiked.io.datasets import DatasetError, open_dataset
    from spiked.io.events import Geometry
    from spiked.service.cli_errors import RunError, UsageError
    from spiked.service.configfile import ConfigError, load_config
    from spiked.service.offline import EvaluateError
    from spiked.service.plots import check_plot
    from spiked.service.splits import Splits
    from spiked.service.tables import splits_table

    _check(args)
    picture = check_plot(args.plot) if args.plot else None
    page = check_plot(args.page, "--page", (".html", ".htm")) if args.page else None
    try:
        config = load_config(args.config)
        s = next((s for s in config.stream if s.id == args.stream), config.stream[0])
        dataset = open_dataset(args.dataset, Geometry(s.width, s.height, s.planes))
    except (ConfigError, DatasetError) as error:
        raise UsageError(str(error)) from None
    try:
        splits = Splits([_one(args, config, dataset, k) for k in range(args.splits or 1)])
    except ConfigError as error:
        raise UsageError(str(error) if str(error).startswith("--") else f"{args.config}: {error}") from None
    except (EvaluateError, DatasetError) as error:
        raise RunError(str(error)) from None
    for warning in dict.fromkeys(w for report in splits.reports for w in report.warnings):
        print(f"spiked eval: {warning}", file=sys.stderr)
    text = (
        msgspec.json.format(msgspec.json.encode(splits.summary()), indent=0 if args.json == "-" else 1).decode() + "\n"
    )
    if args.json == "-":
        print(text, end="")
    else:
        print("\n".join(splits_table(splits)))
        if args.json:
            try:
                Path(args.json).write_text(text)
            except OSError as error:
                raise RunError(f"{args.json}: {error.strerror}") from None
    if picture:
        _plot(picture, splits)
    if page:
        from spiked.service.page import write_page

        write_page(page, splits, shlex.join(["spiked", "eval", *_typed(args)]))
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raise UsageError for options that make no sense, alone or together."""
    from spiked.service.cli_errors import UsageError

    by_class, by_drift = args.scenario.endswith("-incremental"), args.scenario == "drift"
    if args.seed < 0:
        raise UsageError(f"--seed: {args.seed}; at least 0")
    if args.splits is not None and args.splits < 1:
        raise UsageError(f"--splits: {args.splits}; at least 1")
    if args.classes_per_task is not None and not by_class:
        raise UsageError(f"--classes-per-task is for class-incremental and task-incremental, not {args.scenario}")
    if args.drift is not None and not by_drift:
        raise UsageError(f"--drift is for --scenario drift, not {args.scenario}")
    if args.quick and args.scenario != "shuffled":
        raise UsageError(f"--quick: {args.scenario} is about what is tested after each task")
    if args.json and args.json != "-" and not Path(args.json).absolute().parent.is_dir():
        raise UsageError(f"--json: {args.json}: no such folder")


def _one(args: argparse.Namespace, config: Config, dataset: Dataset, k: int) -> Report:
    """Evaluate on the set's own split, or on the `k`-th of those asked for."""
    from spiked.service.evaluate import evaluate, evaluate_tasks
    from spiked.service.scenarios import DEFAULT_DRIFT
    from spiked.service.splits import TEST_SHARE, stratified

    seed = args.seed + k
    part = dataset if args.splits is None else stratified(dataset, seed)
    classes = None if args.classes is None else _named(args.classes)
    report: Report
    if args.scenario == "shuffled":
        report = evaluate(
            config, part, stream=args.stream, limit=args.limit, seed=seed, shuffle=args.shuffle, quick=args.quick,
            classes=classes,
        )  # fmt: skip
    else:
        report = evaluate_tasks(
            config, part, args.scenario, stream=args.stream, limit=args.limit, seed=seed, shuffle=args.shuffle,
            classes=classes, per_task=2 if args.classes_per_task is None else args.classes_per_task,
            drift=DEFAULT_DRIFT if args.drift is None else _named(args.drift),
        )  # fmt: skip
    if args.splits is not None:
        report.split = f"{k + 1} of {args.splits}, stratified, {TEST_SHARE:.1%} for the test, drawn from seed {seed}"
    return report


def _named(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]


def _plot(path: Path, splits: Splits) -> None:
    from spiked.service.continual import ContinualReport
    from spiked.service.plots import plot_report
    from spiked.service.plots_continual import plot_continual

    if isinstance(splits.reports[0], ContinualReport):
        plot_continual(path, splits)
    else:
        plot_report(path, splits.reports[0])


def _typed(args: argparse.Namespace) -> list[str]:
    """The arguments that the figures follow from."""
    words = [args.config, args.dataset]
    for name in ("scenario", "classes_per_task", "drift", "splits", "stream", "limit", "classes", "seed"):
        value = getattr(args, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words + ["--no-shuffle"] * (not args.shuffle) + ["--quick"] * args.quick
