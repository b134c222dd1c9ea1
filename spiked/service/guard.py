"""When did learning do harm? What the labels and the exam say, weighed against chance; `vitals` is the network's part.

**Labels.** Each labelled window was predicted before it taught, so the share of agreements is that of a test. Only
windows of classes count that were found in half of `KNOWN` windows once, or have been taught often (`counts_after`): a
new class is allowed to be unknown, and under rehearsal, or where a mean of many windows predicts, it may take long.
What was usual is an exponential mean over windows that are older than the latest `LATELY`. Fewer agreements among
those than chance explains put the labels *in doubt*: until that has passed nothing enters the exam and nothing counts
as good. Agreements among the latest `LONG` that are no more than two draws without any relation would give are *harm*:
nobody can learn from these labels. A scene that becomes harder, or another one that can be learnt, is doubt and no
harm; a doubt that lasts for `ACCEPT` windows is how things are now.

**Exam.** Fewer right answers lately than chance explains, while the labels are in doubt: what was known is lost, and
bought nothing. New classes that displace old ones agree with their labels, so they are forgetting, not harm.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from spiked.service.config import Memory

KNOWN = 10
"""Windows that a class has taught before it may count."""
UNFOUND = 100
"""Windows that a class has taught before it counts though it was never found."""
LATELY = 20
"""Labelled windows that say how it goes at present."""
LONG = 40
"""Labelled windows without any relation to the predictions before that is harm."""
SETTLED = 30
"""Windows older than those before what is usual is known."""
USUAL = 100
"""Windows of the exponential mean of what is usual."""
ACCEPT = 200
"""Taught windows after which a doubt is how things are."""
DOUBT = 3e-3
"""Chance of so few agreements that puts the labels in doubt."""
HARM = 1e-6
"""Chance of so few agreements among `LONG` below which they are harm."""
NO_RELATION = 0.01
"""Chance of so many agreements of unrelated draws above which they may be just that."""
AGREES = 0.05
"""Chance of so few agreements above which the labels agree again."""
FALLEN = 1e-3
"""Chance of so few right answers that says that the exam has fallen."""


def known_after(memory: Memory) -> int:
    """Windows that a class has taught before it can be known: no fewer than a mean of the weights reaches back."""
    return max(KNOWN, math.ceil(memory.average_windows)) if "average" in memory.methods else KNOWN


def counts_after(memory: Memory) -> int:
    """Windows that a class has taught before it counts though it was never found."""
    return max(UNFOUND, known_after(memory))


def at_most(k: int, n: int, p: float) -> float:
    """Chance of at most `k` successes in `n` trials of chance `p`."""
    if k < 0:
        return 0.0
    return min(1.0, math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(min(k, n) + 1)))


def at_least(k: int, n: int, p: float) -> float:
    """Chance of at least `k` successes in `n` trials of chance `p`."""
    return at_most(n - k, n, 1 - p)


def by_chance(pairs: Iterable[tuple[int, int]]) -> float:
    """Share of pairs that would agree if their two sides had nothing to do with each other."""
    left, right = (np.array(side) for side in zip(*pairs))
    return sum(float(np.mean(left == k) * np.mean(right == k)) for k in np.unique(left))


class Guard:
    """What one stream's labels say.

    Parameters
    ----------
    known : windows that a class has taught before its agreements count, even if it was never found.

    Attributes
    ----------
    usual : share of agreements that is usual.
    seen : windows that each class has taught.
    found : agreements of each class among its latest `KNOWN`, one bit each; -1 once half of them were.
    in_doubt : whether there are fewer at present than chance explains.
    finite : whether the scores of the latest labelled window were.
    """

    def __init__(self, known: int = UNFOUND) -> None:
        self.known = known
        self.seen: dict[int, int] = {}
        self.found: dict[int, int] = {}
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what is usual: how things are from here on is how they are."""
        self.usual, self._settled = 0.0, 0
        self.finite = True
        self._lately: deque[tuple[int, int]] = deque(maxlen=LONG)  # label and what was said
        self.in_doubt, self._doubted = False, 0

    def look_anew(self) -> None:
        """Forget the latest labels, not what is usual: another state of the learner predicts from here on."""
        self._lately.clear()
        self.finite = True
        self.in_doubt, self._doubted = False, 0

    @property
    def settled(self) -> bool:
        """Whether it is known what is usual."""
        return self._settled >= SETTLED

    def judge(self, label: int, said: int, taught: bool) -> None:
        """Take in a labelled window, and what was said before its label was used."""
        seen = self.seen.get(label, 0)
        self.seen[label] = seen + taught
        if seen < self.known and not self._was_found(label, said == label, seen):
            return
        if taught and len(self._lately) >= LATELY and not self.in_doubt:
            its_label, was_said = self._lately[-LATELY]
            self._settled += 1
            self.usual += (float(its_label == was_said) - self.usual) / min(self._settled, USUAL)
        self._lately.append((label, said))
        self.in_doubt = self._few(DOUBT)
        self._doubted = self._doubted + 1 if self.in_doubt else max(0, self._doubted - 1)
        if taught and self._doubted > ACCEPT:
            self.begin_anew()

    def _was_found(self, label: int, agrees: bool, seen: int) -> bool:
        """Whether a class has been found in half of its latest windows once, this one excluded."""
        bits = self.found.get(label, 0)
        if bits >= 0:
            bits = -1 if seen >= KNOWN and 2 * bits.bit_count() >= KNOWN else (bits << 1 | agrees) & (1 << KNOWN) - 1
            self.found[label] = bits
        return bits < 0

    def _few(self, chance: float) -> bool:
        """Whether so few of the latest windows agree, where that is unlikely."""
        if not self.settled or len(self._lately) < LATELY:
            return False
        latest = list(self._lately)[-LATELY:]
        return at_most(sum(a == b for a, b in latest), LATELY, self._expected) < chance

    @property
    def _expected(self) -> float:
        return (self.usual * min(self._settled, USUAL) + 1) / (min(self._settled, USUAL) + 2)  # never 0 nor 1

    @property
    def unrelated(self) -> bool:
        """Whether the latest labels have no more to do with the predictions than chance has it, unlike before."""
        n, seen = len(self._lately), self.seen.items()
        known = sum(taught >= self.known or self.found.get(label) == -1 for label, taught in seen)
        if not self.in_doubt or n < LONG or known < 2:
            return False
        agree = sum(a == b for a, b in self._lately)
        chance = min(by_chance(self._lately), 1 / known)  # where one class alone is taught, all has to do with all
        return at_most(agree, n, self._expected) < HARM and at_least(agree, n, chance) > NO_RELATION

    @property
    def agrees_again(self) -> bool:
        """Whether the labels agree with the predictions as is usual."""
        return len(self._lately) >= LATELY and not self._few(AGREES)

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {
            "seen": [[k, n] for k, n in self.seen.items()], "found": [[k, n] for k, n in self.found.items()],
            "usual": self.usual, "settled": self._settled, "finite": self.finite,
            "lately": [list(pair) for pair in self._lately], "in_doubt": self.in_doubt, "doubted": self._doubted,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.seen, self.found = dict(state["seen"]), dict(state.get("found", []))
        self.usual, self._settled, self.finite = state["usual"], state["settled"], state["finite"]
        self._lately = deque(((a, b) for a, b in state["lately"]), LONG)
        self.in_doubt, self._doubted = state["in_doubt"], state["doubted"]


def has_fallen(right: int, answers: int, usual: float, of: int) -> bool:
    """Whether `right` of `answers` are fewer than chance explains where `usual`, a share of `of` answers, are right."""
    expected = (usual * of + 1) / (of + 2)
    return at_most(right, answers, expected) < FALLEN
