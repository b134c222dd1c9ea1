"""Neurons with every part switched on or off, against a dense simulation, closed forms and stated facts."""

from __future__ import annotations

import itertools
import math
from typing import Any

import naive
import naive_neurons
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from silence import subnormal_after_silence

from spiked.learners import checks
from spiked.learners.contract import Learner, Steps
from spiked.learners.dynamics import LEAST, lif_step
from spiked.learners.fixed import FixedLearner, FixedSpec
from spiked.learners.lif import LayerSpec, Lif, LifState, decay, layer_weight, make_lif, make_lif_state, rest_lif
from spiked.learners.trials import random_steps

N_IN = 12


def oracle_of(net: Lif) -> list[naive_neurons.Layer]:
    layers = []
    for i in range(len(net.threshold)):
        weight, here = layer_weight(net, i).copy(), slice(int(net.u_at[i]), int(net.u_at[i + 1]))
        n_in = int(net.sizes[i])
        layers.append(
            naive_neurons.Layer(
                w_in=weight[:n_in],
                w_rec=weight[n_in:] if net.recurrent[i] else None,
                beta=net.beta[here],
                theta=float(net.threshold[i]),
                to_zero=bool(net.to_zero[i]),
                alpha=float(net.alpha[i]),
                refractory=int(net.hold[i]),
                rho=float(net.rho[i]),
                jump=float(net.jump[i]),
                delays=net.delay[here],
            )
        )
    return layers


def simulate(net: Lif, steps: Steps, state: LifState | None = None) -> LifState:
    """Membranes, currents, adaptations and spikes over time, ``[t, neuron]``, in the fields of a state."""
    state = make_lif_state(net) if state is None else state
    rows = []
    for t in range(steps.n):
        here = slice(steps.indptr[t], steps.indptr[t + 1])
        lif_step(net, state, steps.indices[here], steps.counts[here])
        rows.append((state.membrane.copy(), state.current.copy(), state.adaptation.copy(), state.spike.copy()))
    u, i, b, s = (np.array(column) for column in zip(*rows))
    return state._replace(membrane=u, current=i, adaptation=b, spike=s)


def build(specs: list[LayerSpec], seed: int = 0, n_in: int = N_IN, dt_ms: float = 1.0) -> Lif:
    net = make_lif(n_in, specs, dt_ms, np.float64)
    net.weight[:] = np.random.default_rng(seed).normal(0.1, 0.45, net.weight.shape)
    return net


def drive(x: np.ndarray) -> Steps:
    """Dense rows as steps."""
    rows = [np.flatnonzero(row) for row in x]
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    counts = np.concatenate([row[r] for row, r in zip(x, rows)]).astype(np.float32)
    return Steps(0, indptr, np.concatenate(rows).astype(np.int32), counts)


def constant(n: int) -> Steps:
    return drive(np.ones((n, 1)))


def one_neuron(weight: float, dt_ms: float = 1.0, **spec: Any) -> Lif:
    net = make_lif(1, [LayerSpec(1, **spec)], dt_ms, np.float64)
    net.weight[:] = weight
    return net


def spike_times(net: Lif, steps: Steps) -> np.ndarray:
    return np.flatnonzero(simulate(net, steps).spike[:, 0])


def assert_equals_dense(net: Lif, steps: Steps) -> np.ndarray:
    """The spikes, which are equal to the oracle's to the bit; empty where rounding decided one."""
    courses = naive_neurons.simulate(oracle_of(net), naive.densify(steps.indptr, steps.indices, steps.counts, N_IN))
    if min(c.margin for c in courses) < 1e-9:
        return np.zeros((0, 0))
    got = simulate(net, steps)
    np.testing.assert_array_equal(got.spike, np.concatenate([c.spikes for c in courses], 1))
    for name in ("membrane", "adaptation"):
        want = np.concatenate([getattr(c, name) for c in courses], 1)
        np.testing.assert_allclose(getattr(got, name), want, atol=1e-12, rtol=1e-12)
    for i, course in enumerate(courses):
        here = slice(int(net.u_at[i]), int(net.u_at[i + 1]))
        want = course.current if net.alpha[i] > 0 else np.zeros_like(course.current)
        np.testing.assert_allclose(got.current[:, here], want, atol=1e-12, rtol=1e-12)
    np.testing.assert_array_equal(got.total, [c.spikes.sum() for c in courses])
    return np.asarray(got.spike)


# Against the dense simulation.

PARTS: dict[str, dict[str, Any]] = {
    "current": {"tau_syn_ms": 6.0},
    "coupled": {"tau_adapt_ms": 40.0},
    "decoupled": {"tau_adapt_ms": 60.0, "jump": 0.3},
    "refractory": {"refractory_ms": 3.0},
    "delay": {"delay_ms": 4.0},
    "recurrent": {"recurrent": True},
    "decays": {"tau_mem_ms": np.linspace(2.0, 80.0, 9)},
    "delays": {"delay_ms": np.arange(9) % 5.0},
    "zero": {"reset": "zero"},
}


@pytest.mark.parametrize(
    "names", [(), *itertools.combinations(PARTS, 1), *itertools.combinations(PARTS, 2), tuple(PARTS)], ids="-".join
)
def test_every_pair_of_parts_equals_the_dense_simulation(names: tuple[str, ...]) -> None:
    spec = {k: v for name in names for k, v in PARTS[name].items()}
    net = build([LayerSpec(9, **spec), LayerSpec(5, 15.0)], seed=len(names))
    steps = random_steps(np.random.default_rng(1), 150, N_IN, 5, (0.5, 2.0))
    spikes = assert_equals_dense(net, steps)
    assert spikes[:, :9].mean() > 0.02 and spikes[:, 9:].sum() > 0  # there is something to compare


@st.composite
def layer_specs(draw: st.DrawFn) -> LayerSpec:
    n = draw(st.integers(1, 7))
    per_neuron = st.lists(st.floats(0.3, 60.0), min_size=n, max_size=n).map(np.array)
    delays = st.lists(st.integers(0, 6).map(float), min_size=n, max_size=n).map(np.array)
    return LayerSpec(
        n,
        draw(st.one_of(st.floats(0.3, 60.0), per_neuron)),
        draw(st.floats(0.2, 1.5)),
        draw(st.sampled_from(["subtract", "zero"])),
        draw(st.booleans()),
        draw(st.one_of(st.just(0.0), st.floats(0.5, 20.0))),
        draw(st.integers(0, 5).map(float)),
        draw(st.one_of(st.just(0.0), st.floats(1.0, 100.0))),
        draw(st.one_of(st.none(), st.floats(0.0, 1.0))),
        draw(st.one_of(st.integers(0, 5).map(float), delays)),
    )


@settings(max_examples=60, deadline=None)
@given(specs=st.lists(layer_specs(), min_size=1, max_size=3), seed=st.integers(0, 2**32 - 1))
def test_any_stack_equals_the_dense_simulation(specs: list[LayerSpec], seed: int) -> None:
    steps = random_steps(np.random.default_rng(seed), 60, N_IN, 6, (0.5, 2.0))
    assume(len(assert_equals_dense(build(specs, seed), steps)))


# Closed forms.


@pytest.mark.parametrize("tau_syn", [2.0, 10.0, 30.0])
@pytest.mark.parametrize("tau_mem", [5.0, 10.0])
def test_a_spike_through_a_current_has_a_double_exponential_response(tau_mem: float, tau_syn: float) -> None:
    net = one_neuron(0.7, tau_mem_ms=tau_mem, tau_syn_ms=tau_syn, threshold=np.inf)
    x = np.zeros((200, 1))
    x[0] = 1
    got = simulate(net, drive(x))
    t = np.arange(200)
    alpha, beta = decay(tau_syn, 1.0), decay(tau_mem, 1.0)
    np.testing.assert_allclose(got.current[:, 0], 0.7 * alpha**t, rtol=1e-12, atol=LEAST)
    want = 0.7 * naive_neurons.second_order_response(alpha, beta, t.astype(float))
    np.testing.assert_allclose(got.membrane[:, 0], want, rtol=1e-10, atol=20 * LEAST)
    peak = int(got.membrane[:, 0].argmax())
    assert peak > 0  # it rises before it falls, as the first-order membrane does not
    if tau_mem == tau_syn:  # Eq. 43's kernel peaks at tau
        assert abs(peak - tau_mem) <= 1


def test_the_response_converges_to_the_continuous_alpha_kernel() -> None:
    """Eq. 43, ``t/tau e^(1 - t/tau)`` after the onset, for equal time constants as dt -> 0."""
    errors = []
    for dt in (1.0, 0.1, 0.01):
        n = round(50 / dt)
        net = one_neuron(dt * math.e / 10.0, dt, tau_mem_ms=10.0, tau_syn_ms=10.0, threshold=np.inf)
        x = np.zeros((n, 1))
        x[0] = 1
        t = np.arange(n) * dt
        errors.append(np.abs(simulate(net, drive(x)).membrane[:, 0] - t / 10 * np.exp(1 - t / 10)).max())
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


@pytest.mark.parametrize("jump", [None, 0.05, 0.8])
def test_adaptation_is_the_sum_over_past_spikes(jump: float | None) -> None:
    net = build([LayerSpec(9, 10.0, tau_adapt_ms=30.0, jump=jump)])
    got = simulate(net, random_steps(np.random.default_rng(2), 300, N_IN, 6))
    rho = decay(30.0, 1.0)
    rise = 1 - rho if jump is None else jump  # Eq. 52 couples them
    assert got.spike.sum() > 50
    for t in (0, 1, 57, 299):
        want = naive_neurons.adaptation_sum(got.spike[:t], rho, rise)
        np.testing.assert_allclose(got.adaptation[t], want, rtol=1e-12, atol=1e-13)


def test_the_threshold_follows_its_recursion_and_decides_the_spikes() -> None:
    """Eq. 51 and 52 as printed: ``b[t+1] = rho b[t] + (1 - rho) S[t]``, strictly above ``theta + b``."""
    net = build([LayerSpec(9, 10.0, 0.7, tau_adapt_ms=30.0)])
    got = simulate(net, random_steps(np.random.default_rng(3), 300, N_IN, 6))
    rho = decay(30.0, 1.0)
    np.testing.assert_allclose(got.adaptation[1:], rho * got.adaptation[:-1] + (1 - rho) * got.spike[:-1], rtol=1e-12)
    np.testing.assert_array_equal(got.spike, got.membrane > 0.7 + got.adaptation)
    assert ((got.membrane > 0.7) & (got.spike == 0)).any()  # the fixed threshold would have fired


def test_a_jump_of_nothing_is_a_fixed_threshold() -> None:
    steps = random_steps(np.random.default_rng(4), 200, N_IN, 6)
    plain, still = (simulate(build([LayerSpec(9, **s)]), steps) for s in ({}, {"tau_adapt_ms": 50.0, "jump": 0.0}))
    np.testing.assert_array_equal(plain.spike, still.spike)


# Refractory period and rates.


@pytest.mark.parametrize("hold", [0, 1, 2, 7])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_no_interval_is_shorter_than_the_refractory_period(reset: str, hold: int) -> None:
    net = one_neuron(50.0, reset=reset, refractory_ms=float(hold))
    times = spike_times(net, constant(60))
    np.testing.assert_array_equal(np.diff(times), hold + 1)  # the drive crosses in the first step that it may
    weak = build([LayerSpec(9, 30.0, 0.3, reset, refractory_ms=float(hold))])
    spikes = simulate(weak, random_steps(np.random.default_rng(5), 600, N_IN, 8)).spike
    gaps = np.concatenate([np.diff(np.flatnonzero(s)) for s in spikes.T])
    assert gaps.min() == hold + 1 and gaps.max() > hold + 1


@pytest.mark.parametrize("hold", [0, 3, 10])
@pytest.mark.parametrize("factor", [1.02, 1.2, 2.0, 5.0, 30.0])
def test_intervals_under_a_constant_drive(factor: float, hold: int) -> None:
    """The f-I curve in discrete time: the refractory period, then the steps that the membrane needs from rest."""
    beta = decay(20.0, 1.0)
    current = factor * (1 - beta)  # its membrane settles at `factor`
    net = one_neuron(current, reset="zero", refractory_ms=float(hold))
    times = spike_times(net, constant(800))
    want = naive_neurons.steps_to_threshold(float(net.weight[0]), beta, 1.0)
    assert times[0] == want - 1
    np.testing.assert_array_equal(np.diff(times), hold + want)
    assert len(times) > 5


def test_the_rate_converges_to_the_continuous_curve() -> None:
    for factor in (1.1, 1.5, 3.0):
        want = naive_neurons.continuous_interval(factor, 20.0, 1.0, 5.0)
        errors = []
        for dt in (1.0, 0.1, 0.01):
            net = one_neuron(factor * (1 - decay(20.0, dt)), dt, reset="zero", refractory_ms=5.0)
            times = spike_times(net, constant(round(150 / dt)))
            errors.append(abs(np.diff(times).mean() * dt - want))
            assert errors[-1] <= dt + 1e-9  # a spike waits for the end of its step
        assert errors[-1] < 0.01 + 1e-9


def test_a_drive_below_threshold_never_fires() -> None:
    assert len(spike_times(one_neuron(0.999 * (1 - decay(20.0, 1.0))), constant(2000))) == 0


def test_adaptation_slows_a_constant_drive_down() -> None:
    """Intervals grow, and the rate settles where drive and threshold meet."""
    current = 6.0 * (1 - decay(20.0, 1.0))
    plain = spike_times(one_neuron(current, reset="zero"), constant(1500))
    adaptive = spike_times(one_neuron(current, reset="zero", tau_adapt_ms=200.0, jump=0.3), constant(1500))
    gaps = np.diff(adaptive)
    assert np.ptp(np.diff(plain)) == 0
    assert adaptive[0] == plain[0]
    assert (np.diff(gaps[:6]) >= 0).all()
    assert gaps[-5:].mean() > 2.5 * gaps[0]
    assert np.ptp(gaps[-8:]) <= 1


# Delays.


@pytest.mark.parametrize("d", [1, 2, 9])
def test_a_delay_shifts_what_the_next_layer_hears(d: int) -> None:
    steps = random_steps(np.random.default_rng(6), 200, N_IN, 6)
    plain, late = (build([LayerSpec(9, delay_ms=ms), LayerSpec(5)], 7) for ms in (0.0, float(d)))
    a, b = simulate(plain, steps).spike, simulate(late, steps).spike
    np.testing.assert_array_equal(a[:, :9], b[:, :9])  # the layer itself fires as before
    np.testing.assert_array_equal(a[:-d, 9:], b[d:, 9:])
    assert b[:d, 9:].sum() == 0 and a[:, 9:].sum() > 20


def test_a_delay_of_nothing_is_no_delay() -> None:
    """Also where the line of delayed spikes is in use."""
    steps = random_steps(np.random.default_rng(10), 150, N_IN, 6)
    specs = [LayerSpec(9, recurrent=True), LayerSpec(5, recurrent=True)]
    plain = build(specs)
    zeros = build([LayerSpec(9, recurrent=True, delay_ms=np.zeros(9)), specs[1]])
    lined = plain._replace(longest=np.array([4, 4]))
    want = simulate(plain, steps)
    assert want.spike.sum() > 100
    for net in (zeros, lined):
        np.testing.assert_array_equal(simulate(net, steps).membrane, want.membrane)


def test_each_neuron_has_its_own_delay() -> None:
    delays = np.array([0.0, 3.0, 1.0, 6.0])
    net = make_lif(
        4, [LayerSpec(4, 1.0, 1.0, "zero", delay_ms=delays), LayerSpec(4, 1.0, 1.0, "zero")], 1.0, np.float64
    )
    for layer in range(2):
        layer_weight(net, layer)[:] = 5 * np.eye(4)
    x = np.zeros((20, 4))
    x[2] = x[5] = x[6] = 1
    spikes = simulate(net, drive(x)).spike
    for j, d in enumerate(delays.astype(int)):
        np.testing.assert_array_equal(np.flatnonzero(spikes[:, j]), [2, 5, 6])
        np.testing.assert_array_equal(np.flatnonzero(spikes[:, 4 + j]), [2 + d, 5 + d, 6 + d])


def test_a_recurrent_delay_closes_a_loop_of_that_length() -> None:
    """A neuron that excites itself fires again one step and the delay later."""
    for d in (0, 1, 5):
        net = make_lif(1, [LayerSpec(1, 0.5, recurrent=True, delay_ms=float(d))], 1.0, np.float64)
        layer_weight(net, 0)[:] = 3.0
        x = np.zeros((40, 1))
        x[0] = 1
        np.testing.assert_array_equal(np.diff(np.flatnonzero(simulate(net, drive(x)).spike[:, 0])), d + 1)


def test_spikes_on_their_way_are_forgotten_at_rest() -> None:
    net = build([LayerSpec(9, delay_ms=5.0), LayerSpec(5)])
    state = make_lif_state(net)
    steps = random_steps(np.random.default_rng(8), 50, N_IN, 6)
    first = simulate(net, steps, state)
    assert state.line.sum() > 0
    rest_lif(state)
    np.testing.assert_array_equal(simulate(net, steps, state).spike, first.spike)


# Recurrence.


def test_an_excitatory_clique_remembers_after_its_input_ends() -> None:
    """Two cliques that excite themselves and inhibit each other hold which of them was shown, and switch."""
    net = make_lif(2, [LayerSpec(10, 10.0, recurrent=True, tau_syn_ms=10.0, refractory_ms=2.0)], 1.0, np.float64)
    weight = layer_weight(net, 0)
    mine = np.repeat(np.eye(2), 5, 1)  # channel by neuron
    weight[:2] = 3.0 * mine
    weight[2:] = np.where(mine.T @ mine > 0, 0.2, -0.4) * (1 - np.eye(10))
    x = np.zeros((700, 2))
    x[50:60, 0] = 1
    x[350:360, 1] = 1
    spikes = simulate(net, drive(x)).spike
    a, b = spikes[:, :5].sum(1), spikes[:, 5:].sum(1)
    assert spikes[:50].sum() == 0
    assert a[60:350].sum() > 200 and b[60:350].sum() == 0
    assert a[370:].sum() == 0 and b[360:].sum() > 200
    weight[2:] = 0  # without recurrence it forgets
    assert simulate(net, drive(x)).spike[150:350].sum() == 0


def test_recurrent_weights_of_zero_are_no_recurrence() -> None:
    steps = random_steps(np.random.default_rng(9), 200, N_IN, 6)
    plain = build([LayerSpec(9)])
    own = make_lif(N_IN, [LayerSpec(9, recurrent=True)], 1.0, np.float64)
    layer_weight(own, 0)[:N_IN] = layer_weight(plain, 0)
    np.testing.assert_array_equal(simulate(plain, steps).spike, simulate(own, steps).spike)


# As features of a learner.

FEATURES = {
    "recurrent": [LayerSpec(12, 10.0, recurrent=True)],
    "adaptive": [LayerSpec(12, 10.0, tau_adapt_ms=100.0), LayerSpec(8, 20.0, tau_adapt_ms=50.0, jump=0.2)],
    "current": [LayerSpec(12, 10.0, tau_syn_ms=5.0), LayerSpec(8, 20.0, reset="zero", tau_syn_ms=20.0)],
    "refractory": [LayerSpec(12, 10.0, refractory_ms=4.0)],
    "delay": [LayerSpec(12, 10.0, delay_ms=np.arange(12.0)), LayerSpec(8, 20.0, recurrent=True, delay_ms=3.0)],
    "everything": [
        LayerSpec(
            12, np.linspace(5, 50, 12), 1.0, "zero", True, 5.0, 2.0, 80.0, None, np.arange(12) % 4.0
        ),
        LayerSpec(8, 20.0, 0.8, "subtract", True, 3.0, 1.0, 30.0, 0.1, 2.0),
    ],
}  # fmt: skip


def features(name: str) -> Learner:
    net = make_lif(20, FEATURES[name], 1.0, np.float32)
    rng = np.random.default_rng(3)
    for i, recurrent in enumerate(net.recurrent):
        weight, n_in = layer_weight(net, i), int(net.sizes[i])
        weight[:] = rng.normal(0.05, 0.4, weight.shape)
        if recurrent:  # weak: what silence must put to rest
            weight[n_in:] *= 0.3
    return FixedLearner(net, 3, FixedSpec(trace_ms=(20.0, 100.0)))


@pytest.mark.parametrize("name", FEATURES)
def test_a_learner_on_such_neurons_keeps_its_contract(name: str) -> None:
    checks.check_learner(lambda: features(name))


@pytest.mark.parametrize("name", FEATURES)
def test_silence_costs_no_more_than_events(name: str) -> None:
    assert subnormal_after_silence(features(name)) == []


@pytest.mark.parametrize("name", FEATURES)
def test_weights_are_shown_whole(name: str) -> None:
    learner = features(name)
    for i in range(len(FEATURES[name])):
        rows = int(learner.net.rows[i])  # type: ignore[attr-defined]
        assert learner.weights(i).shape == (rows, FEATURES[name][i].neurons)  # type: ignore[attr-defined]
