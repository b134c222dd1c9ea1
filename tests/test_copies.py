"""Around a head: warped copies against coordinates and a head taught by hand, fading against the algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiked.learners import checks
from spiked.learners.contract import CLOSE, UNLABELLED, Cues, Learner, Steps, silent_cues
from spiked.learners.copies import Warp, drawn_warps, neighbours, warp_steps, warp_table
from spiked.learners.discriminant import PASSING, fade, learn_example, score
from spiked.learners.distance_alarm import DistanceAlarm
from spiked.learners.fixed import FixedLearner, FixedSpec
from spiked.learners.head_memory import HeadMemoryLearner
from spiked.learners.lif import LayerSpec, make_lif
from spiked.learners.trials import random_steps

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

SIZE = (6, 5, 2)
N_IN = 60


def fixed(head: str = "discriminant", classes: int = 4) -> FixedLearner:
    net = make_lif(N_IN, [LayerSpec(12)], 1.0)
    net.weight[:] = np.random.default_rng(0).normal(0.1, 0.4, len(net.weight))
    return FixedLearner(net, classes, FixedSpec(head, (20.0, 60.0)))


def make(head: str = "discriminant", vote: bool = False) -> HeadMemoryLearner:
    drawn = drawn_warps(np.random.default_rng(6), SIZE[0], SIZE[1], 1)
    return HeadMemoryLearner(fixed(head), SIZE, neighbours(SIZE[0], SIZE[1], 1)[:3] + drawn, vote=vote)


@pytest.mark.parametrize("vote", [False, True])
@pytest.mark.parametrize("head", ["discriminant", "prototype"])
def test_keeps_the_contract(head: str, vote: bool) -> None:
    def build() -> Learner:
        return make(head, vote)

    checks.check_learner(build)


@given(st.integers(1, 7), st.integers(1, 6), st.integers(1, 2), st.integers(-8, 8), st.integers(-8, 8), st.data())
def test_events_move_as_their_coordinates_do(
    width: int, height: int, planes: int, dx: int, dy: int, data: st.DataObject
) -> None:
    n_in = width * height * planes
    steps = random_steps(np.random.default_rng(data.draw(st.integers(0, 1 << 20))), 4, n_in, n_in, (0.5, 2.0))
    room = np.zeros(n_in, np.float32)
    moved = warp_steps(steps, warp_table(width, height, planes, Warp(dx, dy)), room)
    assert not room.any()
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


@given(st.integers(1, 7), st.integers(1, 6), st.integers(0, 1 << 20))
def test_events_of_a_drawn_warp_land_where_the_matrix_says_and_add_up(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_in = 2 * width * height
    (warp,) = drawn_warps(rng, width, height, 1)
    steps = random_steps(rng, 3, n_in, n_in, (0.5, 2.0))
    sent = warp_steps(steps, warp_table(width, height, 2, warp), np.zeros(n_in, np.float32))
    for t in range(3):
        want = np.zeros((2, height, width))
        row = slice(steps.indptr[t], steps.indptr[t + 1])
        for c, count in zip(steps.indices[row].tolist(), steps.counts[row].tolist()):
            plane, y, x = np.unravel_index(c, want.shape)
            at = np.array([[warp.xx, warp.xy], [warp.yx, warp.yy]]) @ [x - (width - 1) / 2, y - (height - 1) / 2]
            to_x, to_y = np.round(at + np.array([warp.dx + (width - 1) / 2, warp.dy + (height - 1) / 2])).astype(int)
            if 0 <= to_x < width and 0 <= to_y < height:
                want[plane, to_y, to_x] += count
        row = slice(sent.indptr[t], sent.indptr[t + 1])
        assert (np.diff(sent.indices[row]) > 0).all() and (sent.counts[row] > 0).all()
        got = np.zeros(n_in)
        got[sent.indices[row]] = sent.counts[row]
        np.testing.assert_allclose(got, want.ravel(), rtol=1e-6)


def test_drawn_warps_are_small_and_stay_on_the_axis_of_a_sensor_of_one_row() -> None:
    for warp in drawn_warps(np.random.default_rng(0), 34, 34, 200):
        assert abs(warp.dx) <= 0.06 * 34 and 0.85 <= np.sqrt(warp.xx * warp.yy - warp.xy * warp.yx) <= 1.15
    for warp in drawn_warps(np.random.default_rng(0), 64, 1, 20):
        assert warp.dy == warp.xy == warp.yx == 0


def test_neighbours_surround_and_leave_out_the_middle() -> None:
    assert len(neighbours(34, 34, 1)) == 8 and Warp() not in neighbours(34, 34, 1)
    assert neighbours(64, 1, 2) == [Warp(-2), Warp(2)]


def test_head_knows_the_copies_as_examples_of_their_own() -> None:
    """The same statistics as those of a learner that is shown every shifted sample live, one after the other."""
    rng = np.random.default_rng(1)
    a, b = make(), fixed()
    tables = [warp_table(*SIZE, Warp()), *a._tables]
    for k in range(8):
        steps, cues = random_steps(rng, 50, N_IN, 20), silent_cues(50)
        cues.labels[:], cues.flags[-1] = k % 4, CLOSE
        a.run(steps, cues)
        a.reset()
        for table in tables:
            b.run(warp_steps(steps, table, np.zeros(N_IN, np.float32)), cues)
            b.reset()
    for name, array in b.head._asdict().items():
        if name not in PASSING:
            np.testing.assert_array_equal(getattr(a.head, name), array, err_msg=name)
    assert a.head.examples.sum() == 8 * 5


def test_predictions_are_the_live_networks_own() -> None:
    rng = np.random.default_rng(2)
    a = make()
    steps, cues = random_steps(rng, 80, N_IN, 20), silent_cues(80)
    cues.labels[:], cues.flags[-1] = 1, CLOSE
    b = fixed()
    b.load_state({k: v for k, v in a.state().items() if not k.startswith("copies.")})
    assert np.array_equal(a.run(steps, cues).scores, b.run(steps, cues).scores)


def test_votes_are_the_mean_of_what_each_warped_picture_would_have_been_called() -> None:
    """Before the label of its own window has taught anything, in a run and at the end of a window between two steps."""
    rng = np.random.default_rng(5)
    a = make(vote=True)
    for k in range(8):
        steps, cues = random_steps(rng, 50, N_IN, 20), silent_cues(50)
        cues.labels[:], cues.flags[-1], cues.flags[20] = k % 4, CLOSE, 1
        b = fixed()
        b.load_state({name: v for name, v in a.state().items() if not name.startswith("copies.")})
        said = []
        for table in [warp_table(*SIZE, Warp()), *a._tables]:
            b.reset()
            said.append(b.run(warp_steps(steps, table, np.zeros(N_IN, np.float32)), cues, learn=False).scores)
        assert len(said[0]) == 2
        a.reset()
        together = a.run(steps, cues, learn=k % 2 == 0)
        np.testing.assert_allclose(together.scores, np.mean(said, axis=0), rtol=1e-5, atol=1e-5)
        a.reset()
        a.run(steps, learn=False)
        at_last = a.conclude(k % 4, learn=False).scores
        assert at_last.shape == (1, 4) and (at_last[0].argmax() == together.scores[-1].argmax() or k % 2 == 0)


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
        HeadMemoryLearner(fixed(), (6, 5, 1), [Warp(1)])


def test_keeps_the_contract_while_it_watches_for_drift() -> None:
    def build() -> Learner:
        return HeadMemoryLearner(fixed(), SIZE, [Warp(1)], DistanceAlarm())

    checks.check_learner(build)


@pytest.mark.parametrize("head", ["discriminant", "prototype"])
def test_fading_moves_no_score_and_lets_the_new_count_for_more(head: str) -> None:
    rng = np.random.default_rng(4)
    a, b = fixed(head), fixed(head)

    def teach(each: FixedLearner, x: np.ndarray, label: int) -> None:
        learn_example(each.head, x.copy(), label)

    def scores(each: FixedLearner, x: np.ndarray) -> np.ndarray:
        out = np.zeros(4)
        score(each.head, x, out)
        return out

    examples = [(rng.normal(k % 4, 1.0, 24), k % 4) for k in range(80)]
    for x, label in examples:
        teach(a, x, label)
        teach(b, x, label)
    fade(a.head, 0.02)
    probes = rng.normal(1.5, 1.5, (20, 24))
    for x in probes:
        np.testing.assert_allclose(scores(a, x), scores(b, x), rtol=1e-9, atol=1e-9)
    # one more of class 2: the mean moves as if the class had been shown 0.02 * 20 times before
    x = rng.normal(9.0, 1.0, 24)
    before = a.head.mean[2].copy()
    teach(a, x, 2)
    np.testing.assert_allclose(a.head.mean[2], before + (x - before) / (0.02 * 20 + 1), rtol=1e-12)
    if head == "discriminant":  # and so does the inverse: faded scatter and ridge, and the example's own part
        means = [np.mean([v for v, k in examples if k == c], axis=0) for c in range(4)]
        scatter = sum(np.outer(v - means[k], v - means[k]) for v, k in examples) + 5.0 * np.eye(24)
        n, d = 0.02 * 20, x - before
        want = np.linalg.inv(0.02 * scatter + n / (n + 1) * np.outer(d, d))
        got = np.zeros((24, 24))
        got[np.tril_indices(24)] = a.head.precision
        got = got + np.tril(got, -1).T
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


def test_an_alarm_fades_the_statistics_and_new_classes_raise_none() -> None:
    rng = np.random.default_rng(5)
    a = HeadMemoryLearner(fixed(), SIZE, [], DistanceAlarm())

    def show(label: int, active: int) -> None:
        a.run(*closing(random_steps(rng, 60, N_IN, active), label))
        a.reset()

    for k in range(240):
        show(k % 4, 6 + 4 * (k % 4))  # more or less goes on, by class
    assert a.drift is not None and a.drift.alarms == 0
    a.grow(5)
    for _ in range(60):  # a class that nobody could tell from another: errors, but no drift
        k = int(rng.integers(4))
        show(4 if rng.random() < 0.5 else k, 6 + 4 * k)
    for k in range(240):
        show((k + 1) % 4, 6 + 4 * (k % 4))  # nor are labels that are wrong
    assert a.drift.alarms == 0
    for k in range(25):  # the world changes
        before = a.live.head.examples.sum()
        show(k % 4, 40 + 4 * (k % 4))
        if a.live.head.examples.sum() < before:
            break
    assert a.drift.alarms == 1 and k < 24


def closing(steps: Steps, label: int) -> tuple[Steps, Cues]:
    cues = silent_cues(steps.n)
    cues.labels[:], cues.flags[-1] = label, CLOSE
    return steps, cues
