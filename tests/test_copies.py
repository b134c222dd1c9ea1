"""Learning from shifted copies: the shift against coordinates, the head against one taught by hand, the contract."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiked.learners import checks
from spiked.learners.contract import CLOSE, UNLABELLED, Learner, silent_cues
from spiked.learners.copies import CopiesLearner, neighbours, shift_steps, shift_table
from spiked.learners.fixed import FixedLearner, FixedSpec
from spiked.learners.lif import LayerSpec, make_lif
from spiked.learners.trials import random_steps

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

SIZE = (6, 5, 2)
N_IN = 60


def fixed(head: str = "discriminant", classes: int = 4) -> FixedLearner:
    net = make_lif(N_IN, [LayerSpec(12)], 1.0)
    net.weight[:] = np.random.default_rng(0).normal(0.1, 0.4, len(net.weight))
    return FixedLearner(net, classes, FixedSpec(head, (20.0, 60.0)))


def make(head: str = "discriminant") -> CopiesLearner:
    return CopiesLearner(fixed(head), SIZE, neighbours(SIZE[0], SIZE[1], 1)[:3])


@pytest.mark.parametrize("head", ["discriminant", "prototype"])
def test_keeps_the_contract(head: str) -> None:
    def build() -> Learner:
        return make(head)

    checks.check_learner(build)


@given(st.integers(1, 7), st.integers(1, 6), st.integers(1, 2), st.integers(-8, 8), st.integers(-8, 8), st.data())
def test_events_move_as_their_coordinates_do(
    width: int, height: int, planes: int, dx: int, dy: int, data: st.DataObject
) -> None:
    n_in = width * height * planes
    steps = random_steps(np.random.default_rng(data.draw(st.integers(0, 1 << 20))), 4, n_in, n_in, (0.5, 2.0))
    moved = shift_steps(steps, shift_table(width, height, planes, (dx, dy)))
    for t in range(4):
        want = {}
        for c, count in zip(
            *(a[steps.indptr[t] : steps.indptr[t + 1]].tolist() for a in (steps.indices, steps.counts))
        ):
            plane, rest = divmod(c, width * height)
            y, x = divmod(rest, width)
            if 0 <= x + dx < width and 0 <= y + dy < height:
                want[(plane * height + y + dy) * width + x + dx] = count
        row = slice(moved.indptr[t], moved.indptr[t + 1])
        assert dict(zip(moved.indices[row].tolist(), moved.counts[row].tolist())) == want
        assert (np.diff(moved.indices[row]) > 0).all()


def test_neighbours_surround_and_leave_out_the_middle() -> None:
    assert len(neighbours(34, 34, 1)) == 8 and (0, 0) not in neighbours(34, 34, 1)
    assert neighbours(64, 1, 2) == [(-2, 0), (2, 0)]


def test_head_knows_the_copies_as_examples_of_their_own() -> None:
    """The same statistics as those of a learner that is shown every shifted sample live, one after the other."""
    rng = np.random.default_rng(1)
    a, b = make(), fixed()
    tables = [shift_table(*SIZE, (0, 0)), *a._tables]
    for k in range(8):
        steps, cues = random_steps(rng, 50, N_IN, 20), silent_cues(50)
        cues.labels[:], cues.flags[-1] = k % 4, CLOSE
        a.run(steps, cues)
        a.reset()
        for table in tables:
            b.run(shift_steps(steps, table), cues)
            b.reset()
    for name, array in b.head._asdict().items():
        if name != "direction":
            np.testing.assert_array_equal(getattr(a.head, name), array, err_msg=name)
    assert a.head.examples.sum() == 8 * 4


def test_predictions_are_the_live_networks_own() -> None:
    rng = np.random.default_rng(2)
    a = make()
    steps, cues = random_steps(rng, 80, N_IN, 20), silent_cues(80)
    cues.labels[:], cues.flags[-1] = 1, CLOSE
    b = fixed()
    b.load_state({k: v for k, v in a.state().items() if not k.startswith("copies.")})
    assert np.array_equal(a.run(steps, cues).scores, b.run(steps, cues).scores)


def test_copies_that_were_left_behind_begin_at_rest() -> None:
    rng = np.random.default_rng(3)
    a = make()
    a.run(random_steps(rng, 60, N_IN, 20), None, learn=False)
    assert not a.copies[0]._state.membrane.any()
    steps, cues = random_steps(rng, 60, N_IN, 20), silent_cues(60)
    cues.labels[:], cues.flags[-1] = UNLABELLED, CLOSE
    a.run(steps, cues)
    assert a.copies[0]._state.membrane.any() and not a._lags[0]


def test_a_grid_that_is_not_the_sensors_is_refused() -> None:
    with pytest.raises(ValueError, match="has not 60 channels"):
        CopiesLearner(fixed(), (6, 5, 1), [(1, 0)])
