"""What is kept of a stream's last moments: against a list of single steps, and in memory that does not grow."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiked.learners.contract import Steps
from spiked.service import recall
from spiked.service.block_queue import BLOCK, BlockQueue
from spiked.service.recall import Recall


def steps_from(first: int, rows: list[list[int]]) -> Steps:
    """Steps with these channels; a channel's count says when it was."""
    indices = np.array([c for row in rows for c in row], np.int32)
    counts = np.array([first + k for k, row in enumerate(rows) for _ in row], np.float32)
    return Steps(first, np.cumsum([0, *map(len, rows)]).astype(np.int64), indices, counts)


def rows_of(steps: Steps) -> list[tuple[int, list[int], list[float]]]:
    """Number, channels and counts of each step."""
    bounds = zip(steps.indptr[:-1], steps.indptr[1:])
    return [
        (steps.first + k, steps.indices[a:b].tolist(), steps.counts[a:b].tolist()) for k, (a, b) in enumerate(bounds)
    ]


class NaiveRecall:
    """Every step by itself."""

    def __init__(self, memory: int) -> None:
        self.memory, self.kept, self.rest = memory, [], True

    def add(self, steps: Steps) -> None:
        for row in rows_of(steps):
            self.kept.append((*row, self.rest))
            self.rest = False
        self.kept = [row for row in self.kept if row[0] >= self.kept[-1][0] + 1 - self.memory]

    def spans(self, first: int, end: int) -> list[list]:
        if end - 1 not in [row[0] for row in self.kept]:
            return []
        runs = [[]]
        for number, channels, counts, rest in self.kept:
            if number >= end:
                break
            if rest:
                runs = [*([] if number <= first else runs), []]
            runs[-1].append((number, channels, counts))
        return [run for run in runs if run]


ROWS = st.lists(st.lists(st.integers(0, 50), max_size=4), min_size=1, max_size=9)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 12), st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=12), st.data())
def test_the_same_steps_as_a_list_of_them(memory, parts, data):
    naive, kept, at = NaiveRecall(memory), Recall(memory), 7
    for rows, resets in parts:
        if resets:
            kept.mark_reset()
            naive.rest = True
        steps = steps_from(at, rows)
        kept.add(steps)
        naive.add(steps)
        for array in steps[1:]:
            array.fill(-1)  # the caller's memory is the caller's
        at += len(rows)
        first = data.draw(st.integers(at - memory - 3, at))
        end = data.draw(st.integers(first + 1, at + 2))
        again = Recall(memory)
        again.load_state(kept.state())
        for each in (kept, again):
            assert [rows_of(steps) for steps in each.spans(first, end)] == naive.spans(first, end)
            assert each.holds(end) == bool(naive.spans(first, end))


def test_a_step_that_a_reset_cut_in_two_is_kept_as_two():
    kept = Recall(10)
    kept.add(steps_from(0, [[1], [2]]))
    kept.mark_reset()
    kept.add(steps_from(1, [[3], [4]]))
    assert [rows_of(s) for s in kept.spans(0, 3)] == [
        [(0, [1], [0.0]), (1, [2], [1.0])],
        [(1, [3], [1.0]), (2, [4], [2.0])],
    ]


def test_more_than_may_be_kept_is_let_go_from_the_oldest_on(monkeypatch):
    monkeypatch.setattr(recall, "MAX_ENTRIES", 10)
    kept = Recall(100)
    for k in range(8):
        kept.add(steps_from(2 * k, [[1, 2], [3]]))
    assert [number for number, *_ in rows_of(kept.spans(0, 16)[0])] == list(range(10, 16))  # a part at a time
    kept.add(steps_from(16, [list(range(11))]))
    assert not kept.holds(17) and not kept.holds(16)
    kept.add(steps_from(17, [[5]]))
    assert kept.state()["marks"].tolist() == [[17, 1, 0]]  # not at rest: there were steps before


def test_no_memory_is_taken_once_as_much_was_kept():
    kept, part = Recall(50), steps_from(0, [list(range(1000))] * 5)
    for k in range(40):
        kept.add(part._replace(first=5 * k))
    later = [part._replace(first=5 * k) for k in range(40, 400)]
    tracemalloc.start()
    try:
        for steps in later:
            kept.add(steps)
        assert tracemalloc.get_traced_memory()[1] < 5_000  # a part has 40 KB
    finally:
        tracemalloc.stop()
    assert [number for number, *_ in rows_of(kept.spans(1990, 2000)[0])] == list(range(1950, 2000))


SIZES = st.one_of(st.integers(0, 3 * BLOCK), st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(SIZES, SIZES), max_size=15), st.data())
def test_blocks_are_a_queue(turns, data):
    queue, numbers, at = BlockQueue(), [], 0
    for n_in, n_out in turns:
        put = np.arange(at, at + n_in)
        queue.put(put.astype(np.int32), -put.astype(np.float32))
        numbers += put.tolist()
        at += n_in
        n_out = min(n_out, len(numbers))
        queue.let_go(n_out)
        numbers = numbers[n_out:]
        a = data.draw(st.integers(0, len(numbers)))
        b = data.draw(st.integers(a, len(numbers)))
        indices, counts = queue.copy(a, b)
        assert queue.n == len(numbers)
        assert indices.tolist() == numbers[a:b] and counts.tolist() == [-x for x in numbers[a:b]]


@pytest.mark.parametrize("steps", [steps_from(0, [[1]]), steps_from(0, [])])
def test_nothing_is_kept_without_memory(steps):
    kept = Recall(0)
    kept.add(steps)
    assert not kept.holds(1) and kept.spans(0, 1) == []
