"""LIF layers against a dense simulation, the closed form of the passive membrane, and stated facts."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest

from spiked.learners.contract import Steps
from spiked.learners.dynamics import LEAST, lif_step
from spiked.learners.lif import LayerSpec, Lif, LifState, decay, layer_weight, make_lif, make_lif_state
from spiked.learners.trials import random_steps


def stack_of(net: Lif) -> naive.Stack:
    depth = len(net.threshold)
    return naive.Stack(
        [layer_weight(net, i).copy() for i in range(depth)],
        [float(b) for b in net.beta[net.u_at[:-1]]],
        [float(t) for t in net.threshold],
        [bool(z) for z in net.to_zero],
    )


def simulate(net: Lif, state: LifState, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """Membranes and spikes, ``[t, neuron]`` over all layers."""
    membranes, spikes = [], []
    for t in range(steps.n):
        here = slice(steps.indptr[t], steps.indptr[t + 1])
        lif_step(net, state, steps.indices[here], steps.counts[here])
        membranes.append(state.membrane.copy())
        spikes.append(state.spike.copy())
    return np.array(membranes), np.array(spikes)


def one_neuron(weight: float, **spec: object) -> Lif:
    net = make_lif(1, [LayerSpec(1, **spec)], 1.0, np.float64)  # type: ignore[arg-type]
    net.weight[:] = weight
    return net


def drive(counts: list[float]) -> Steps:
    return Steps(0, np.arange(len(counts) + 1), np.zeros(len(counts), np.int32), np.array(counts, np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("resets", [("subtract",), ("zero",), ("subtract", "zero"), ("zero", "subtract", "subtract")])
def test_equals_the_dense_simulation(resets: tuple[str, ...], dtype: type) -> None:
    rng = np.random.default_rng(len(resets))
    layers = [LayerSpec(24, 5.0 + 10 * i, 1.0 - 0.2 * i, reset) for i, reset in enumerate(resets)]
    net = make_lif(40, layers, 1.0, dtype)
    net.weight[:] = rng.normal(0, 0.4, net.weight.shape)
    steps = random_steps(rng, 1000, 40, 8, counts=(0.5, 3))
    state = make_lif_state(net)
    membranes, spikes = simulate(net, state, steps)

    x = naive.densify(steps.indptr, steps.indices, steps.counts, 40).astype(dtype)
    want_u, want_s = naive.simulate(stack_of(net), x)
    np.testing.assert_array_equal(spikes, np.concatenate(want_s, 1))
    tolerance = 1e-5 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose(membranes, np.concatenate(want_u, 1), atol=tolerance, rtol=tolerance)
    np.testing.assert_array_equal(state.total, [s.sum() for s in want_s])
    assert all(0.005 < s.mean() < 0.6 for s in want_s)  # the comparison has spikes to compare
    last = [np.flatnonzero(s) for s in np.concatenate(want_s, 1).T]
    np.testing.assert_array_equal(state.quiet, [steps.n - 1 - at[-1] if len(at) else steps.n for at in last])


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_equals_the_dense_simulation_bit_for_bit_where_sums_are_exact(reset: str) -> None:
    """Weights, decay and threshold are dyadic and few steps pass, so float64 rounds nothing, in any order."""
    rng = np.random.default_rng(1)
    net = make_lif(
        16, [LayerSpec(8, 1 / math.log(2), 1.0, reset), LayerSpec(4, 1 / math.log(2), 0.75, reset)], 1.0, np.float64
    )
    assert abs(net.beta - 0.5).max() < 1e-15
    net.beta[:] = 0.5
    net.weight[:] = rng.integers(-8, 12, net.weight.shape) / 16
    steps = random_steps(rng, 40, 16, 4)
    membranes, spikes = simulate(net, make_lif_state(net), steps)
    want_u, want_s = naive.simulate(stack_of(net), naive.densify(steps.indptr, steps.indices, steps.counts, 16))
    np.testing.assert_array_equal(membranes, np.concatenate(want_u, 1))
    np.testing.assert_array_equal(spikes, np.concatenate(want_s, 1))
    assert spikes.sum() > 20


@pytest.mark.parametrize("tau", [0.5, 20.0, 1000.0])
def test_passive_membrane_follows_its_closed_form(tau: float) -> None:
    """Eq. 2 and 17: relaxation to a constant drive (through Eq. 16's 1 - beta), then leak to rest."""
    resistance_times_current, on, off = 0.9, 200, 300
    net = one_neuron((1 - decay(tau, 1.0)) * resistance_times_current, tau_mem_ms=tau, threshold=np.inf)
    state = make_lif_state(net)
    rise, _ = simulate(net, state, drive([1.0] * on))
    t = np.arange(1, on + 1)
    np.testing.assert_allclose(rise[:, 0], naive.passive_membrane(0, 0.9, tau, t), rtol=1e-12)
    fall, _ = simulate(net, state, drive([0.0] * off))
    want = naive.passive_membrane(rise[-1, 0], 0, tau, np.arange(1, off + 1))
    np.testing.assert_allclose(fall[:, 0], want, rtol=1e-12, atol=LEAST)


def test_the_drive_of_a_silent_step_is_nothing() -> None:
    """A step without an entry equals one with a count of 0."""
    net = one_neuron(0.3)
    empty = Steps(0, np.zeros(6, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    a, b = make_lif_state(net), make_lif_state(net)
    simulate(net, a, drive([1, 1, 1]))
    simulate(net, b, drive([1, 1, 1]))
    np.testing.assert_array_equal(simulate(net, a, empty)[0], simulate(net, b, drive([0] * 5))[0])


def test_threshold_is_strict() -> None:
    at, above = one_neuron(1.0), one_neuron(np.nextafter(1.0, 2))
    assert simulate(at, make_lif_state(at), drive([1.0]))[1].sum() == 0
    assert simulate(above, make_lif_state(above), drive([1.0]))[1].sum() == 1


def test_resets_do_what_they_say() -> None:
    beta = decay(20.0, 1.0)
    for reset, after in (("subtract", beta * 2.5 - 1.0), ("zero", 0.0)):
        net = one_neuron(2.5, reset=reset)
        membranes, spikes = simulate(net, make_lif_state(net), drive([1.0, 0.0]))
        assert membranes[0, 0] == 2.5 and spikes[0, 0] == 1  # the reset comes a step later (Eq. 4)
        assert membranes[1, 0] == pytest.approx(after, abs=1e-15)


def test_an_infinite_threshold_only_integrates() -> None:
    net = one_neuron(1e6, threshold=np.inf)
    membranes, spikes = simulate(net, make_lif_state(net), drive([1e6] * 50))
    assert spikes.sum() == 0 and np.isfinite(membranes).all()


def test_resets_converge_as_the_step_shrinks() -> None:
    """With ever less drive per step both resets leave the same rate (Appendix S.1)."""
    rates = []
    for reset in ("subtract", "zero"):
        net = make_lif(1, [LayerSpec(1, 20.0, 1.0, reset)], 0.01, np.float64)
        net.weight[:] = (1 - decay(20.0, 0.01)) * 1.5  # drive 1.5 of threshold
        rates.append(simulate(net, make_lif_state(net), drive([1.0] * 20_000))[1].sum())
    period = 20.0 * math.log(1.5 / 0.5)  # from Eq. 2
    assert abs(rates[0] - rates[1]) <= 1
    assert rates[0] == pytest.approx(200 / period, abs=1)
