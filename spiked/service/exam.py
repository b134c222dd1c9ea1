"""The exam: samples that a stream was taught, kept to be asked again, so that what is forgotten shows.

Each window that taught waits in quarantine while some more are taught. If no doubt about the labels comes up meanwhile
(`guard`), it joins a class-balanced reservoir. Now and then one kept sample is asked: it runs on a side state, from
rest, without learning; the live dynamics, the weights and the predictions do not move by a bit. Classes take turns, and
of a class the sample comes that was not asked for longest. The latest answers make the accuracy of each class.

When a question is asked is a matter of taught windows and not of the clock: the daemon and `spiked eval` do the same.
A question costs an inference of its window; memory is the budget, a quarter of it for the quarantine.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiked.learners.aside import aside
from spiked.learners.contract import CLOSE, Steps, silent_cues
from spiked.learners.open_window import OpenWindow
from spiked.learners.reservoir import Reservoir, pack_steps, unpack_steps
from spiked.service.build import AnyLearner

QUARANTINE = 20
"""Taught windows that a sample waits before it may join."""
MOST = 200
"""Samples in the exam at most: more would take too long to ask."""
LEAST = 5
"""Answers of a class before its accuracy may be its best."""
RECENT = 20
"""Latest answers that say how the exam goes at present."""
NOT_ASKED = -1
RIGHT, WHEN = range(2)


class Graded(Reservoir):
    """A reservoir that knows of each window whether the last answer was right, and when that was."""

    def __init__(self, budget_bytes: int, n_out: int, seed: int = 0) -> None:
        super().__init__(budget_bytes, n_out, seed)
        self._table = self._table[:MOST]
        self.grade = np.zeros((len(self._table), 2), np.int64)
        self.grade[:, RIGHT] = NOT_ASKED

    def _remove(self, which: int) -> None:
        n = len(self)
        super()._remove(which)
        self.grade[which : n - 1] = self.grade[which + 1 : n].copy()
        self.grade[n - 1] = NOT_ASKED, 0

    @property
    def right(self) -> NDArray[np.int64]:
        """Latest answer of each window: 1 right, 0 wrong, `NOT_ASKED`."""
        return self.grade[: len(self), RIGHT]


class Exam:
    """The samples of one stream, and how they were answered.

    Parameters
    ----------
    budget_bytes : size of everything that is kept.
    n_out : classes at present.
    every : taught windows between two questions.
    seed : of which samples stay.

    Attributes
    ----------
    store : the samples.
    class_accuracy : of each class that was asked, the share of right answers, the latest of each sample.
    accuracy : mean of these; NaN before the first answer.
    forgetting : mean over classes of best minus present accuracy; 0 before any class has a best.
    best : float64[n_out]; best accuracy of each class so far; `NOT_ASKED` before it had `LEAST` answers.
    asked : questions so far.
    """

    def __init__(self, budget_bytes: int, n_out: int, every: int, seed: int = 0) -> None:
        self.store = Graded(budget_bytes * 3 // 4, n_out, seed)
        self.every, self.asked = every, 0
        self.best = np.full(n_out, float(NOT_ASKED))
        self.recent: deque[int] = deque(maxlen=RECENT)
        self._room = budget_bytes // 4
        self._open = OpenWindow(self.store.largest)
        self._waiting: deque[tuple[int, int, int, NDArray[np.uint8]]] = deque()  # when it joins, steps, label, packed
        self._taught = 0
        self._count()

    @property
    def samples(self) -> int:
        """How many are kept."""
        return len(self.store)

    def note(self, steps: Steps) -> None:
        """Take in steps that have run."""
        self._open.note(steps)

    def drop(self) -> None:
        """Let the open window go: it taught nothing."""
        self._open.drop()

    def take_open(self) -> Steps | None:
        """Give the open window away; None where there is none, or one that is too large."""
        window = self._open.take(self.store)
        return None if window is None else unpack_steps(*window)[0]

    def taught(self, label: int, learner: AnyLearner, doubtful: bool) -> None:
        """Take the window that ends here, which taught class `label`, and ask where it is time.

        Parameters
        ----------
        label : class that it taught.
        learner : who is asked.
        doubtful : whether the labels are in doubt at present: then all that waits is let go.
        """
        self.grow(label + 1)
        if doubtful:
            self._waiting.clear()
            self.drop()
        else:
            self._wait(label)
        self._taught += 1
        if self._taught % self.every == 0 and self.samples:
            self.ask(learner)

    def take(self, steps: Steps, label: int, learner: AnyLearner, doubtful: bool) -> None:
        """Take a window that taught late, beside the open one."""
        with self._open.aside():
            self._open.note(steps)
            self.taught(label, learner, doubtful)

    def _wait(self, label: int) -> None:
        while self._waiting and self._waiting[0][0] <= self._taught:
            _, n, its_label, packed = self._waiting.popleft()
            self.store.add(packed, n, its_label)
        window = self._open.take(self.store)
        if window is not None and sum(len(w[3]) for w in self._waiting) + len(window[0]) <= self._room:
            self._waiting.append((self._taught + QUARANTINE, window[1], label, window[0]))

    def ask(self, learner: AnyLearner) -> None:
        """Ask the next sample."""
        labels, when = self.store.labels, self.store.grade[: self.samples, WHEN]
        classes = np.unique(labels)
        mine = np.flatnonzero(labels == classes[self.asked % len(classes)])
        which = int(mine[np.argmin(when[mine])])
        packed, n_steps, label = self.store.get(which)
        right = int(answer(learner, unpack_steps(packed, n_steps)[0]) == label)
        self.asked += 1
        self.store.grade[which] = right, self.asked
        self.recent.append(right)
        of_class = self.store.right[labels == label]
        of_class = of_class[of_class != NOT_ASKED]
        if len(of_class) >= LEAST:
            self.best[label] = max(self.best[label], of_class.mean())
        self._count()

    def try_out(self, learner: AnyLearner) -> None:
        """Put a question that does not count, so that all that one needs is compiled."""
        steps = Steps(0, np.array([0, 1], np.int64), np.zeros(1, np.int32), np.ones(1, np.float32))
        packed = np.zeros(64, np.uint8)
        packed = packed[: pack_steps(steps, packed)]
        answer(learner, unpack_steps(packed, steps.n)[0])

    def _count(self) -> None:
        """Work out the figures, here and once: who scrapes them reads from another thread."""
        labels, right = self.store.labels, self.store.right
        answered = np.unique(labels[right != NOT_ASKED]).tolist()
        now = {k: float(right[(labels == k) & (right != NOT_ASKED)].mean()) for k in answered}
        lost = [float(self.best[k]) - share for k, share in now.items() if self.best[k] != NOT_ASKED]
        self.class_accuracy = now
        self.accuracy = float(np.mean(list(now.values()))) if now else float("nan")
        self.forgetting = float(np.mean(lost)) if lost else 0.0

    def look_anew(self) -> None:
        """Forget the latest answers, not the samples: another state of the learner answers from here on."""
        self.recent.clear()

    def grow(self, n_out: int) -> None:
        """Make room for classes up to `n_out`."""
        if n_out > len(self.best):
            self.store.grow(n_out)
            self.best = np.concatenate([self.best, np.full(n_out - len(self.best), float(NOT_ASKED))])

    def state(self) -> dict[str, NDArray]:
        """Copies of all that the future depends on."""
        waiting = [(when, n, label, len(packed)) for when, n, label, packed in self._waiting]
        arrays = {f"store.{k}": v.copy() for k, v in self.store.arrays().items()}
        arrays["store.bytes"] = arrays["store.bytes"][: int(self.store.arrays()["tally"][1])]
        arrays |= {f"open.{k}": v.copy() for k, v in self._open.arrays().items()}
        arrays["open.bytes"] = arrays["open.bytes"][: max(0, int(arrays["open.at"][0]))]
        none = np.zeros(0, np.uint8)
        return arrays | {
            "grade": self.store.grade.copy(), "best": self.best.copy(), "recent": np.array(self.recent, np.int64),
            "clock": np.array([self._taught, self.asked], np.int64),
            "waiting": np.array(waiting, np.int64).reshape(-1, 4),
            "waiting_bytes": np.concatenate([none, *(packed for *_, packed in self._waiting)]),
        }  # fmt: skip

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`; ValueError, and nothing has changed, where it is of an exam of another size."""
        self.grow(len(state["best"]))
        store, window = self.store.arrays(), self._open.arrays()
        used, opened = state["store.bytes"], state["open.bytes"]
        if len(store["table"]) != len(state["store.table"]) or len(used) > len(store["bytes"]):
            raise ValueError(f"an exam of {len(state['store.table'])} samples; this one holds {len(store['table'])}")
        if len(opened) > len(window["bytes"]):
            raise ValueError(f"an open window of {len(opened)} bytes; at most {len(window['bytes'])}")
        store["bytes"][:] = 0
        store["bytes"][: len(used)] = used
        window["bytes"][: len(opened)] = opened
        window["at"][:] = state["open.at"]
        store["table"][...], store["tally"][...] = state["store.table"], state["store.tally"]
        store["seen"][: len(state["store.seen"])] = state["store.seen"]
        self.store.grade[...] = state["grade"]
        self.best[: len(state["best"])] = state["best"]
        self.recent = deque(state["recent"].tolist(), RECENT)
        self._taught, self.asked = state["clock"].tolist()
        ends = np.cumsum(state["waiting"][:, 3])
        self._waiting = deque(
            (when, n, label, state["waiting_bytes"][end - size : end].copy())
            for (when, n, label, size), end in zip(state["waiting"].tolist(), ends.tolist())
        )
        self._count()

    def summary(self, names: list[str]) -> dict[str, Any]:
        """What it says at present, as plain data."""
        right = self.store.right
        return {
            "samples": self.samples, "answered": int(np.count_nonzero(right != NOT_ASKED)), "asked": self.asked,
            "refused": self.store.refused,
            "accuracy": round(self.accuracy, 4) if self.class_accuracy else None,
            "forgetting": round(self.forgetting, 4),
            "classes": {names[k]: round(v, 4) for k, v in self.class_accuracy.items()},
        }  # fmt: skip


def answer(learner: AnyLearner, steps: Steps) -> int:
    """Class that the learner takes these steps for, from rest; nothing of it moves."""
    cues = silent_cues(steps.n)
    cues.flags[-1] = CLOSE
    with aside(learner):
        said = learner.run(steps, cues, learn=False)
    return int(np.argmax(said.scores[-1]))
