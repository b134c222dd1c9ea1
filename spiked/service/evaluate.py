"""Test-then-train over a labelled set, offline: every sample is predicted first, and learnt from after.

The samples go through `Pipeline.handle` as the messages that a sensor would send the daemon, on one stream time line:
its label, its events, and a reset at its end. So what comes out is what the daemon would say, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spiked.io.datasets import Dataset
from spiked.service.config import Config
from spiked.service.continual import ContinualReport, Learnt
from spiked.service.offline import Sensor, check_classes, choose_samples, choose_stream
from spiked.service.prediction import Prediction
from spiked.service.progress import Progress
from spiked.service.report import PARTS, Check, Report, Said
from spiked.service.scenarios import DEFAULT_DRIFT, Plan, class_plan, drift_plan
from spiked.service.trial import Trial


def evaluate(
    config: Config,
    dataset: Dataset,
    *,
    stream: str | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    shuffle: bool = True,
    quick: bool = False,
    heard: Callable[[Prediction], None] | None = None,
) -> Report:
    """Train on every training sample once, each predicted before it teaches; then test.

    Parameters
    ----------
    config : as the daemon would have it.
    dataset : the labelled set.
    stream : id of the stream to evaluate; may be left out where there is only one.
    classes : names of the classes to take; all of them if None.
    limit : at most so many training, and at most so many test samples.
    seed : of the order, and of which test samples are taken.
    shuffle : False trains in the set's own order.
    quick : look at the test split only at the end, not after each fifth of training: no forgetting is told.
    heard : is called with every prediction of the stream, as the daemon would publish it.

    Raises
    ------
    ConfigError : the configuration does not fit the set.
    EvaluateError : the pipeline refused a sample.
    """
    chosen = choose_stream(config, dataset, stream)
    names, train, test = choose_samples(dataset, classes, limit, seed, shuffle)
    check_classes(chosen, names, dataset)
    report = Report(dataset.name, chosen.id, chosen.network.classes or names, seed, shuffle)
    trial = Trial(config, chosen, dataset, report, heard)
    looks = set() if quick or not len(test) else {len(train) * (k + 1) // PARTS for k in range(PARTS - 1)} - {0}
    n = len(report.classes)
    with Progress(dataset.name, len(train) + len(test) * (1 + len(looks)), "samples") as progress:
        for k, i in enumerate(train.tolist(), 1):
            progress.advance(note=trial.teach(i))
            if k in looks:
                look = Said()
                with trial.aside() as twin:
                    for j in test.tolist():
                        trial.test(twin, j, look)
                        progress.advance(note=f"testing a copy after {k}")
                report.checks.append(Check(k, look.accuracy(), look.class_accuracy(n)))
        for i in test.tolist():
            trial.test(trial.sensor, i, report.test)
            progress.advance(note="testing")
    if len(test):
        report.checks.append(Check(len(train), report.test.accuracy(), report.test.class_accuracy(n)))
    return trial.account()


def evaluate_tasks(
    config: Config,
    dataset: Dataset,
    scenario: str,
    *,
    stream: str | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    shuffle: bool = True,
    per_task: int = 2,
    drift: Sequence[str] = DEFAULT_DRIFT,
    heard: Callable[[Prediction], None] | None = None,
) -> ContinualReport:
    """Train on tasks one after the other; after each, a frozen copy is tested on the test samples of all tasks.

    Parameters
    ----------
    scenario : "class-incremental", "task-incremental" or "drift".
    classes : names of the classes to take, in the order in which tasks take them; None: all, in the set's order.
    shuffle : False leaves the samples of a task in the set's own order.
    per_task : classes in a task, of the first two scenarios.
    drift : what happens to the sensor's events after the middle of training, or "snr".
    config, dataset, stream, limit, seed, heard : as for `evaluate`.

    Raises
    ------
    ConfigError : the configuration or the scenario does not fit the set.
    EvaluateError : the pipeline refused a sample.
    """
    chosen = choose_stream(config, dataset, stream)
    names, train, test = choose_samples(dataset, classes, limit, seed, shuffle)
    check_classes(chosen, names, dataset)
    if classes is not None:
        names = [n for n in dict.fromkeys(classes) if n in names]
    plan = (
        drift_plan(dataset, names, train, test, drift, seed)
        if scenario == "drift"
        else class_plan(dataset, names, train, test, per_task, scenario == "task-incremental")
    )
    report = ContinualReport(dataset.name, chosen.id, chosen.network.classes or names, seed, shuffle)
    report.scenario, report.told = plan.scenario, plan.told
    trial = Trial(config, chosen, dataset, report, heard)
    total = sum(len(t.train) for t in plan.tasks) + len(plan.tasks) * sum(len(t.test) for t in plan.tasks)
    with Progress(f"{dataset.name}, {scenario}", total, "samples") as progress:
        for task in plan.tasks:
            first = len(report.train.true)
            for i in task.train.tolist():
                progress.advance(note=f"{task.name}: {trial.teach(i, task.change)}")
            report.tasks.append(
                Learnt(
                    task.name, task.classes, len(task.train), len(task.test), report.train.accuracy(slice(first, None))
                )
            )
            with trial.aside() as twin:
                report.test = _look(trial, twin, plan, report, progress)
    trial.account()
    return report


def _look(trial: Trial, twin: Sensor, plan: Plan, report: ContinualReport, progress: Progress) -> Said:
    """Test a frozen copy on every task, for one more row of the matrix; returns what it said of all of them."""
    row, everything = [], Said()
    for task in plan.tasks:
        said = Said()
        for i in task.test.tolist():
            trial.test(twin, i, said, task.change, task.classes if plan.identified else None)
            progress.advance(note=f"testing a copy after {len(report.matrix) + 1} of {len(plan.tasks)} tasks")
        row.append(float(said.right.mean()))
        everything.extend(said)
    report.matrix.append(row)
    report.checks.append(
        Check(len(report.train.true), everything.accuracy(), everything.class_accuracy(len(report.classes)))
    )
    return everything
