"""The schedule of targets against an oracle that paints one step at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from spiked.learners.contract import CLOSE, READ, UNLABELLED
from spiked.service.targets import FINAL, Interval, Schedule

HORIZON = 60


class Painted:
    """Who owns each step: targets painted over one another, the last one said on top."""

    def __init__(self) -> None:
        self.owner: list[int | None] = [None] * HORIZON
        self.said: list[tuple[int, int | None, int]] = []

    def starts(self, step: int) -> bool:
        return self.owner[step] is not None and (step == 0 or self.owner[step] != self.owner[step - 1])

    def add(self, first: int, end: int | None, label: int) -> None:
        me, stop = len(self.said), end
        self.said.append((first, end, label))
        if stop is None:  # until the next one
            stop = next((s for s in range(first + 1, HORIZON) if self.starts(s)), HORIZON)
        last = self.owner[-1]
        if last is not None and all(o == last for o in self.owner[first:]):  # one without an end: the next one ends it
            self.owner[first:] = [None] * (HORIZON - first)
        for step in range(first, stop):
            self.owner[step] = me

    def labels(self) -> list[int]:
        return [UNLABELLED if o is None else self.said[o][2] for o in self.owner]

    def runs(self) -> list[tuple[int, int, int]]:
        """(first, end, label) of each stretch of one owner; one that reaches the horizon has no end yet."""
        edges = [s for s in range(HORIZON) if s == 0 or self.owner[s] != self.owner[s - 1]] + [HORIZON]
        return [(a, b, self.said[self.owner[a]][2]) for a, b in pairwise(edges) if self.owner[a] is not None]


def targets():
    finite = st.tuples(st.integers(0, HORIZON - 2), st.integers(1, 30)).map(
        lambda p: (p[0], min(p[0] + p[1], HORIZON - 1))
    )
    endless = st.integers(0, HORIZON - 2).map(lambda a: (a, None))
    return st.lists(st.tuples(st.one_of(finite, endless), st.sampled_from([UNLABELLED, 0, 1, 2])), max_size=7)


def schedule_of(said, window=7, every=10):
    schedule = Schedule(window, every)
    for (first, end), label in said:
        schedule.add(first, end, label)
    return schedule


@settings(max_examples=400, deadline=None)
@given(targets(), st.integers(1, 40))
def test_labels_and_ends_are_those_of_the_oracle(said, window):
    painted, schedule = Painted(), schedule_of(said, window)
    for (first, end), label in said:
        painted.add(first, end, label)
    assert [schedule.label_at(s) for s in range(HORIZON)] == painted.labels()
    flags, labels = schedule.cues(0, HORIZON)
    assert labels.tolist() == painted.labels()
    runs = painted.runs()
    closed = [(a, b) for a, b, label in runs if label != UNLABELLED and b < HORIZON]
    assert np.flatnonzero(flags & FINAL).tolist() == [b - 1 for _, b in closed]
    closings = set(np.flatnonzero(flags & CLOSE).tolist())
    for a, b, label in runs:
        mine = sorted(c for c in closings if a <= c < b)
        closings -= set(mine)
        if label == UNLABELLED:
            assert mine == []
        elif b < HORIZON:  # equal windows, the last of which ends with the target
            assert len(mine) == max(1, round((b - a) / window)) and mine[-1] == b - 1
            lengths = np.diff([a - 1, *mine])
            assert lengths.max() - lengths.min() <= 1
        else:
            assert mine == [c for c in range(a + window - 1, HORIZON, window) if c < b]
    assert closings == set()


@settings(max_examples=300, deadline=None)
@given(
    targets(), st.integers(1, 40), st.integers(1, 20), st.lists(st.integers(0, HORIZON), max_size=8), st.integers(0, 9)
)
def test_cutting_does_not_matter(said, window, every, cuts, start):
    whole, pieces = schedule_of(said, window, every), schedule_of(said, window, every)
    flags, labels = whole.cues(start, HORIZON)
    got_flags, got_labels, at = [], [], start
    for cut in [*sorted(c + start for c in cuts), start + HORIZON]:
        f, n = pieces.cues(at, cut - at)
        got_flags += f.tolist()
        got_labels += n.tolist()
        at = cut
    assert got_flags == flags.tolist() and got_labels == labels.tolist()
    assert pieces.state() == whole.state()


@settings(max_examples=100, deadline=None)
@given(targets(), targets(), st.integers(0, 40))
def test_state_round_trip(said, later, at):
    one = schedule_of(said)
    one.cues(0, at)
    two = Schedule(7, 10)
    two.load_state(one.state())
    for (first, end), label in later:
        one.add(at + first, None if end is None else at + end, label)
        two.add(at + first, None if end is None else at + end, label)
    for a, b in zip(one.cues(at, HORIZON), two.cues(at, HORIZON)):
        assert (a == b).all()


def test_a_prediction_every_so_often_counted_from_the_beginning_of_time():
    schedule = Schedule(500, 10)
    flags = np.concatenate([schedule.cues(first, n)[0] for first, n in ((3, 4), (7, 3), (10, 0), (10, 25))])
    assert (np.flatnonzero(flags & READ) + 3).tolist() == [9, 19, 29]


def test_a_nested_target_interrupts_the_outer_one():
    schedule = schedule_of([((0, 30), 1), ((10, 20), 2)], window=100)
    flags, labels = schedule.cues(0, 40)
    assert labels.tolist() == [1] * 10 + [2] * 10 + [1] * 10 + [UNLABELLED] * 10
    assert np.flatnonzero(flags & FINAL).tolist() == [9, 19, 29]


def test_what_ended_before_the_run_is_not_on():
    """A target may be known before a stream begins, and the stream may begin after its end."""
    flags, labels = schedule_of([((0, 5), 1)]).cues(10, 20)
    assert (labels == UNLABELLED).all() and not (flags & CLOSE).any()


def test_what_was_cut_in_the_past_is_not_on():
    schedule = schedule_of([((0, None), 1)])
    schedule.cues(0, 20)
    schedule.add(15, None, UNLABELLED)
    assert (schedule.cues(20, 20)[1] == UNLABELLED).all()


def test_an_unlabelled_target_ends_an_open_one_whichever_came_first():
    for said in ([((0, None), 1), ((8, None), -1)], [((8, None), -1), ((0, None), 1)]):
        flags, labels = schedule_of(said, window=100).cues(0, 20)
        assert labels.tolist() == [1] * 8 + [UNLABELLED] * 12
        assert np.flatnonzero(flags & (CLOSE | FINAL)).tolist() == [7]


def test_closings_far_out_are_exact_and_cheap():
    first = 1 << 50
    interval = Interval(0, first + 10, 1)
    found = interval.closings(3, first, first + 10)
    assert found[-1] == first + 9 and 2 <= len(found) <= 5
    assert Interval(0, None, 1).closings(3, first, first + 7) == [
        c for c in range(first, first + 7) if (c + 1) % 3 == 0
    ]


def test_forgetting():
    schedule = schedule_of([((0, 10), 1), ((20, 30), 2), ((40, None), 0)])
    schedule.let_go(10)
    assert [i.label for i in schedule.intervals] == [2, 0]
    schedule.let_go(10, since=30)
    assert [i.label for i in schedule.intervals] == [0]
    schedule.clear()
    assert len(schedule) == 0 and schedule.label_at(50) == UNLABELLED
