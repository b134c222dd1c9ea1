"""Orders in which a labelled set is taught: tasks that come one after the other, and what changes from one to the next.

A plan is a list of tasks. Each names the samples it teaches, in their order, the samples that it is tested with, and
what happens to their events. Which classes come in which task, and all chance, follow from the arguments alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.io.datasets import Dataset
from spiked.io.drifts import Drift, DriftError
from spiked.service.configfile import ConfigError
from spiked.service.trial import Change

DEFAULT_DRIFT = ("shift", "polarity")
SNR = "snr"
"""The drift that a set brings along: its samples from the clearest to the noisiest level."""


class Task(NamedTuple):
    """What is taught together, and what it is tested with.

    Attributes
    ----------
    name : what to call it.
    classes : names of its classes.
    train, test : int64 sample numbers; `train` in the order in which they are shown.
    change : what happens to the events of both; None leaves them.
    """

    name: str
    classes: list[str]
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    change: Change | None = None


class Plan(NamedTuple):
    """A scenario's tasks, in order.

    Attributes
    ----------
    scenario : its name, as on the command line.
    told : in a sentence, what is done.
    tasks : at least two.
    identified : whether a test tells which task it is of: only the scores of the task's own classes count.
    """

    scenario: str
    told: str
    tasks: list[Task]
    identified: bool = False


def class_plan(
    dataset: Dataset, names: Sequence[str], train: NDArray[np.int64], test: NDArray[np.int64], per_task: int = 2,
    identified: bool = False,
) -> Plan:  # fmt: skip
    """Tasks of `per_task` classes each, in the order of `names`; the last task takes what is left.

    Within a task, samples keep their order in `train` and `test`.
    """
    scenario = "task-incremental" if identified else "class-incremental"
    if per_task < 1:
        raise ConfigError(f"--classes-per-task: {per_task}; at least 1")
    groups = [list(names[k : k + per_task]) for k in range(0, len(names), per_task)]
    if len(groups) < 2:
        raise ConfigError(
            f"--scenario {scenario}: {len(names)} classes are one task of {per_task}; two tasks at least, so "
            "more classes, or fewer with --classes-per-task"
        )
    if identified and len(groups[-1]) == 1:
        raise ConfigError(
            f"--scenario {scenario}: {groups[-1][0]!r} would be alone in its task, and right without a look; "
            f"{len(names)} classes with --classes-per-task {per_task}"
        )
    tasks = []
    for group in groups:
        labels = [dataset.class_names.index(n) for n in group]
        part, held = (of[np.isin(dataset.labels[of], labels)] for of in (train, test))
        for name, of in (("training", part), ("test", held)):
            if not len(of):
                raise ConfigError(f"--scenario {scenario}: no {name} samples of {', '.join(group)}")
        tasks.append(Task(", ".join(group), group, part, held))
    told = f"{len(tasks)} tasks of {per_task} classes one after the other, each sample seen once; "
    told += "a test counts the scores of its task's classes only" if identified else "no test says which task it is of"
    return Plan(scenario, told, tasks, identified)


def drift_plan(
    dataset: Dataset, names: Sequence[str], train: NDArray[np.int64], test: NDArray[np.int64],
    kinds: Sequence[str] = DEFAULT_DRIFT, seed: int = 0,
) -> Plan:  # fmt: skip
    """All classes throughout; after the middle of training the sensor's events are changed, or by level with `SNR`."""
    if not len(test):
        raise ConfigError(f"--scenario drift: {dataset.name} has no test samples")
    if SNR in kinds:
        if len(kinds) > 1:
            raise ConfigError(f"--drift: {SNR} orders the samples, and stands alone")
        return _level_plan(dataset, names, train, test)
    try:
        drift = Drift(tuple(kinds), dataset.geometry, seed)
    except DriftError as error:
        raise ConfigError(f"--drift: {error}, {SNR}" if "allowed" in str(error) else f"--drift {error}") from None
    middle = len(train) // 2
    if not middle:
        raise ConfigError(f"--scenario drift: {len(train)} training samples; at least 2")
    tasks = [
        Task("before", list(names), train[:middle], test),
        Task("after", list(names), train[middle:], test, drift),
    ]
    return Plan("drift", f"after {middle} training samples: {drift.told}", tasks)


def _level_plan(
    dataset: Dataset, names: Sequence[str], train: NDArray[np.int64], test: NDArray[np.int64]
) -> Plan:  # fmt: skip
    """One task for each signal-to-noise ratio, from the highest down."""
    if dataset.snr_db is None:
        raise ConfigError(f"--drift {SNR}: {dataset.name} has no levels of noise (snr_db)")
    tasks = []
    for level in np.unique(dataset.snr_db[train])[::-1]:
        part, held = (of[dataset.snr_db[of] == level] for of in (train, test))
        name = "no noise" if np.isposinf(level) else f"{level:.1f} dB"
        if not len(held):
            raise ConfigError(f"--drift {SNR}: no test samples at {name}")
        tasks.append(Task(name, list(names), part, held))
    if len(tasks) < 2:
        raise ConfigError(f"--drift {SNR}: the training samples have one level of noise, {tasks[0].name}")
    return Plan("drift", f"signal-to-noise ratio falls in {len(tasks)} levels, from the clearest", tasks)
