"""STDP against Eq. 50, explicit sums over pairs and triplets, and a dense simulation of every option."""

from __future__ import annotations

import itertools
from dataclasses import replace

import naive_stdp
import numpy as np
import pytest

from spiked.learners.contract import CLOSE, READ, UNLABELLED, Cues, Steps, silent_cues
from spiked.learners.lif import LayerSpec, decay, layer_weight, make_lif
from spiked.learners.stdp import StdpLearner
from spiked.learners.stdp_rules import StdpSpec
from spiked.learners.trials import random_steps


def steps_of(x: np.ndarray) -> Steps:
    """Steps from ``x[t, channel]``."""
    t, channel = np.nonzero(x)
    indptr = np.searchsorted(t, np.arange(len(x) + 1)).astype(np.int64)
    return Steps(0, indptr, channel.astype(np.int32), x[t, channel].astype(np.float32))


def dense(steps: Steps, n_in: int) -> np.ndarray:
    x = np.zeros((steps.n, n_in))
    for t in range(steps.n):
        here = slice(steps.indptr[t], steps.indptr[t + 1])
        x[t, steps.indices[here]] = steps.counts[here]
    return x


def one_synapse(pre: list[int], post: list[int], n: int, dtype: type = np.float64, **spec: object) -> float:
    """Change of one weight, with the neuron made to fire at the steps `post` by a second input."""
    net = make_lif(2, [LayerSpec(1, 0.01, 5e4)], 1.0, dtype)
    layer_weight(net, 0)[:, 0] = 10.0, 1e5  # the first alone does not reach the threshold
    chosen = {"a_plus": 1.0, "a_minus": -0.7, "rate": 1.0, "w_min": -1e9, "w_max": 1e9} | spec
    learner = StdpLearner(net, 1, StdpSpec(**chosen))  # type: ignore[arg-type]
    x = np.zeros((n, 2))
    x[pre, 0] = 1
    x[post, 1] = 1
    cues = silent_cues(n)
    cues.flags[-1] = READ
    assert learner.run(steps_of(x), cues).spikes.sum() == len(post)
    return (learner.weights(0)[0, 0] - 10.0) / float(chosen["rate"])  # type: ignore[arg-type]


@pytest.mark.parametrize("taus", [(20.0, 20.0), (10.0, 35.0), (2.0, 100.0), (300.0, 1.0)])
def test_one_pair_changes_the_weight_as_equation_50_says(taus: tuple[float, float]) -> None:
    dts = np.arange(-100, 101)
    changes = []
    for dt in dts:
        changes.append(one_synapse([110], [110 - dt], 220, tau_plus_ms=taus[0], tau_minus_ms=taus[1]))
    want = naive_stdp.window(dts.astype(float), 1.0, -0.7, *taus)
    assert want[dts == 0] == 1.0 and want[dts == 1] < 0  # a pair in one step: pre before post
    np.testing.assert_allclose(changes, want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("pairing", ["all", "nearest"])
@pytest.mark.parametrize("tau", [1.0, 20.0, 200.0])
@pytest.mark.parametrize("a3", [0.0, 1.5])
def test_traces_are_the_sums_over_all_pairs_and_triplets(pairing: str, tau: float, a3: float) -> None:
    rng = np.random.default_rng(int(tau) + 7)
    n = 3000
    for density in (0.002, 0.03, 0.3):
        pre = sorted(rng.choice(n, max(1, int(n * density)), replace=False).tolist())
        post = sorted(rng.choice(n, 40, replace=False).tolist())
        rule = "triplet" if a3 else "pair"
        got = one_synapse(
            pre, post, n, rule=rule, pairing=pairing, a_triplet=a3, tau_triplet_ms=80.0, tau_plus_ms=tau,
            tau_minus_ms=25.0,
        )  # fmt: skip
        want = naive_stdp.triplet_sum(pre, post, 1.0, -0.7, tau, 25.0, a3, 80.0, pairing == "nearest")
        assert abs(got - want) < 1e-12 * (1 + abs(want)) * 40


def pair_of(spec: StdpSpec, n_in: int = 30, n: int = 12, **layer: object) -> tuple[StdpLearner, naive_stdp.DenseStdp]:
    """The learner, and the dense simulation of the same layer, in double precision."""
    net = make_lif(n_in, [LayerSpec(n, 15.0, THETA, **layer)], 1.0, np.float64)  # type: ignore[arg-type]
    rng = np.random.default_rng(5)
    weight = rng.uniform(max(spec.w_min, 0.1), 0.9 * spec.w_max, (n_in, n)) * (rng.random((n_in, n)) < 0.8)
    layer_weight(net, 0)[...] = weight if spec.w_min > 0 else np.where(weight == 0, 0.2, weight)
    oracle = naive_stdp.DenseStdp(
        layer_weight(net, 0).copy(), decay(15.0, 1.0), THETA, layer.get("reset") == "zero", spec.rule,
        spec.pairing == "nearest", spec.a_plus, spec.a_minus, spec.tau_plus_ms, spec.tau_minus_ms, spec.a_triplet,
        spec.tau_triplet_ms, spec.x_target, spec.bounds == "soft", spec.w_min, spec.w_max, spec.mu, spec.norm,
        spec.winners, spec.group, spec.inhibit, spec.compete == "learn",
        spec.theta_rise if spec.target_hz else 0.0, spec.target_hz * 1e-3,
        -0.9, spec.theta_max - 1, spec.modulation != "none", spec.tau_eligibility_ms, spec.rate,
    )  # fmt: skip
    return StdpLearner(net, 2, spec), oracle


THETA = 12.0
BASE = StdpSpec(
    settle_windows=0,
    x_target=0.3,
    rate=0.02,
    a_minus=-1.2,
    tau_plus_ms=12.0,
    tau_minus_ms=18.0,
    trace_ms=(50.0,),
    w_min=0.02,
)
DENSE: dict[str, StdpSpec] = {
    f"{rule}-{pairing}-{bounds}{mu:g}": replace(BASE, rule=rule, pairing=pairing, bounds=bounds, mu=mu)
    for rule, pairing, (bounds, mu) in itertools.product(
        ("pair", "triplet", "prototype"), ("all", "nearest"), (("hard", 1.0), ("soft", 1.0), ("soft", 0.4))
    )
}
DENSE |= {
    "signed": replace(BASE, w_min=-0.5),
    "sum": replace(BASE, norm="sum"),
    "l2-soft": replace(BASE, norm="l2", bounds="soft"),
    "winner": replace(BASE, winners=1),
    "winners-in-groups": replace(BASE, winners=2, group=5, inhibit=True),
    "inhibit": replace(BASE, inhibit=True, bounds="soft"),
    "winners-learn": replace(BASE, winners=2, group=5, compete="learn", target_hz=100.0),
    "homeostasis": replace(BASE, target_hz=20.0, theta_rise=0.1),
    "everything": replace(
        BASE, rule="triplet", norm="sum", winners=1, group=4, inhibit=True, target_hz=30.0, theta_rise=0.05
    ),
    "short-blocks": replace(BASE, tau_plus_ms=1.0, pairing="all"),
    "long-traces": replace(BASE, tau_plus_ms=400.0, rate=0.005),
}


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("name", DENSE)
def test_lazy_learning_is_the_dense_simulation(name: str, reset: str) -> None:
    learner, oracle = pair_of(DENSE[name], reset=reset)
    rng = np.random.default_rng(3)
    n = 900
    busy, calm = random_steps(rng, n, 30, 12, (0.5, 1.5)), random_steps(rng, n, 30, 1)
    start, fired, moved, spread = learner.weights(0), 0, 0.0, 0.0
    # rows that are read all the time, and rows that wait long; the first look comes before the bounds hold most
    for steps in (busy.slice(0, 80), busy.slice(80, n), calm, busy):
        cues = silent_cues(steps.n)
        cues.flags[39::150] = CLOSE
        cues.flags[-1] |= READ
        fired += learner.run(steps, cues).spikes.sum()
        for t, x in enumerate(dense(steps, 30)):
            oracle.step(x)
            if cues.flags[t] & CLOSE:
                oracle.close()
        assert fired == np.sum(oracle.spikes)
        now = learner.weights(0)
        np.testing.assert_allclose(now, oracle.weight, atol=1e-10)
        np.testing.assert_allclose(learner.theta, oracle.theta, atol=1e-10)
        there = now[oracle.there]
        assert there.min() >= DENSE[name].w_min and there.max() <= DENSE[name].w_max
        assert (now[~oracle.there] == 0).all()
        moved, spread = max(moved, np.abs(now - start).max()), max(spread, np.ptp(there))
    assert fired > 50 and moved > 0.1 and spread > 0.1


@pytest.mark.parametrize("reset_at", [0, 35, 36, 450])
def test_a_reset_keeps_what_was_learnt_and_drops_the_pairs(reset_at: int) -> None:
    learner, oracle = pair_of(BASE)
    steps = random_steps(np.random.default_rng(4), 500, 30, 12)
    for t, x in enumerate(dense(steps, 30)):
        if t == reset_at:
            learner.reset()
            oracle.rest()
        learner.step(steps.slice(t, t + 1))
        oracle.step(x)
    np.testing.assert_allclose(learner.weights(0), oracle.weight, atol=1e-10)


def test_single_precision_stays_near_the_dense_simulation() -> None:
    learner, oracle = pair_of(BASE)
    single = make_lif(30, [LayerSpec(12, 15.0, THETA)], 1.0, np.float32)
    single.weight[:] = learner.net.weight
    a = StdpLearner(single, 2, BASE)
    steps = random_steps(np.random.default_rng(6), 300, 30, 12)
    a.run(steps)
    for x in dense(steps, 30):
        oracle.step(x)
    np.testing.assert_allclose(a.weights(0), oracle.weight, atol=2e-6)


def test_only_the_layers_flagged_learn() -> None:
    for plastic in ((), (0,), (1,), (0, 1)):
        net = make_lif(20, [LayerSpec(10, threshold=0.8), LayerSpec(8, threshold=0.8)], 1.0)
        net.weight[:] = np.random.default_rng(1).uniform(0.1, 0.5, len(net.weight))
        learner = StdpLearner(net, 2, replace(BASE, plastic=plastic))
        before = [learner.weights(k) for k in range(2)]
        learner.run(random_steps(np.random.default_rng(2), 300, 20, 8))
        for k in range(2):
            assert np.array_equal(before[k], learner.weights(k)) == (k not in plastic)


def test_the_upper_of_two_plastic_layers_is_the_dense_simulation_too() -> None:
    net = make_lif(20, [LayerSpec(10, 15.0, 1.0), LayerSpec(8, 15.0, 1.0)], 1.0, np.float64)
    net.weight[:] = np.random.default_rng(1).uniform(0.1, 0.5, len(net.weight))
    learner = StdpLearner(net, 2, replace(BASE, plastic=(0, 1)))
    layers = [
        naive_stdp.DenseStdp(
            learner.weights(k),
            decay(15.0, 1.0),
            1.0,
            nearest=True,
            a_minus=-1.2,
            tau_plus=12.0,
            tau_minus=18.0,
            w_min=0.02,
            rate=0.02,
        )
        for k in range(2)
    ]
    steps = random_steps(np.random.default_rng(2), 400, 20, 6)
    learner.run(steps)
    for x in dense(steps, 20):
        layers[1].step(layers[0].step(x))
    for k in range(2):
        np.testing.assert_allclose(learner.weights(k), layers[k].weight, atol=1e-10)


def test_homeostasis_brings_the_rate_back_and_survives_a_reset() -> None:
    rng = np.random.default_rng(0)
    net = make_lif(40, [LayerSpec(20, 20.0, 1.0)], 1.0)
    net.weight[:] = rng.uniform(0.05, 0.4, len(net.weight))
    spec = replace(BASE, a_plus=0.0, a_minus=0.0, target_hz=25.0, theta_rise=0.5, theta_max=200.0)
    learner = StdpLearner(net, 2, spec)

    def rate_hz(active: int) -> float:
        n = 20_000
        cues = silent_cues(n)
        cues.flags[[n // 2, n - 1]] = READ
        said = learner.run(random_steps(rng, n, 40, active), cues)
        return float(said.spikes[-1, 0]) / 20 / (n // 2) * 1000

    assert rate_hz(10) == pytest.approx(25, rel=0.15)
    theta = learner.theta
    learner.reset()
    assert np.array_equal(theta, learner.theta) and theta.mean() > 0.5
    assert rate_hz(30) == pytest.approx(25, rel=0.15)  # three times the drive
    assert rate_hz(2) == pytest.approx(25, rel=0.15)


def test_thresholds_saturate() -> None:
    net = make_lif(4, [LayerSpec(3)], 1.0)
    net.weight[:] = 1.0
    learner = StdpLearner(net, 2, replace(BASE, a_plus=0.0, a_minus=0.0, target_hz=10.0, theta_rise=0.5, theta_max=3.0))
    learner.run(steps_of(np.ones((500, 4))))
    np.testing.assert_allclose(learner.theta, 2.0)
    learner.run(steps_of(np.zeros((1000, 4))))
    np.testing.assert_allclose(learner.theta, -0.9, rtol=1e-6)


def test_winners_take_all() -> None:
    rng = np.random.default_rng(1)
    net = make_lif(30, [LayerSpec(20, 20.0, 0.5)], 1.0)
    net.weight[:] = rng.uniform(0.1, 0.5, len(net.weight))
    for winners, group in ((1, 0), (2, 5), (3, 0)):
        learner = StdpLearner(net, 2, replace(BASE, rate=0.0, winners=winners, group=group, inhibit=True))
        cues = silent_cues(1)
        cues.flags[:] = READ
        counts = []
        for _ in range(100):
            learner.step(random_steps(rng, 1, 30, 20), cues)
            spike = learner.state()["state.spike"]
            counts.append(spike.reshape(-1, group or 20).sum(1))
            resting = learner.state()["state.membrane"].reshape(-1, group or 20)[counts[-1] > 0]
            assert ((resting == 0) | (spike.reshape(-1, group or 20)[counts[-1] > 0] == 1)).all()
        assert np.max(counts) == winners


def taught(spec: StdpSpec, cues: Cues, n: int = 300, **kw: object) -> StdpLearner:
    learner, _ = pair_of(spec)
    learner.run(random_steps(np.random.default_rng(9), n, 30, 12), cues, **kw)  # type: ignore[arg-type]
    return learner


@pytest.mark.parametrize("bounds", ["hard", "soft"])
@pytest.mark.parametrize("rule", ["pair", "triplet"])
@pytest.mark.parametrize("pairing", ["all", "nearest"])
def test_rewards_let_eligibility_through(bounds: str, rule: str, pairing: str) -> None:
    spec = replace(BASE, rule=rule, pairing=pairing, bounds=bounds, modulation="reward", tau_eligibility_ms=60.0)
    learner, oracle = pair_of(spec)
    rng = np.random.default_rng(2)
    rewards = rng.normal(0, 2, (8, 1)).astype(np.float32)
    n, mean, got = 700, 0.0, 0
    steps = random_steps(rng, n, 30, 12)
    cues = silent_cues(n)._replace(values=rewards)
    cues.flags[49::50] = CLOSE
    cues.labels[:] = np.repeat(rng.integers(0, 8, n // 50), 50)
    cues.labels[200:300] = UNLABELLED
    start = learner.weights(0)
    learner.run(steps, cues)
    for t, x in enumerate(dense(steps, 30)):
        oracle.step(x)
        if cues.flags[t]:
            modulator = None
            if cues.labels[t] >= 0:
                got += 1
                modulator = float(rewards[cues.labels[t], 0]) - mean
                mean += modulator / min(got, spec.reward_windows)
            oracle.close(modulator)
    np.testing.assert_allclose(learner.weights(0), oracle.weight, atol=1e-10)
    assert np.abs(learner.weights(0) - start).max() > 0.05
    assert learner.head.examples.sum() == 0  # a reward names no class


def test_without_a_label_what_waits_keeps_waiting() -> None:
    spec = replace(BASE, modulation="reward")
    cues = silent_cues(300)
    cues.flags[99::100] = CLOSE
    learner = taught(spec, cues)
    assert np.array_equal(learner.weights(0), taught(spec, cues, learn=False).weights(0))
    before = learner.weights(0)
    learner.conclude(0, np.ones((1, 1), np.float32))
    assert np.abs(learner.weights(0) - before).max() > 0.01


def test_eligibility_survives_without_a_label_for_very_long() -> None:
    """The scale that stands for its decay is taken back in time."""
    spec = replace(BASE, modulation="reward", tau_eligibility_ms=15.0)
    learner, oracle = pair_of(spec)
    steps = random_steps(np.random.default_rng(9), 1500, 30, 12)
    learner.run(steps)
    for x in dense(steps, 30):
        oracle.step(x)
    oracle.close(1.0)
    learner.conclude(0, np.ones((1, 1), np.float32))
    np.testing.assert_allclose(learner.weights(0), oracle.weight, atol=1e-10)


def error_cues(n: int) -> Cues:
    cues = silent_cues(n)
    cues.flags[29::30] = CLOSE
    cues.labels[:] = np.repeat(np.arange(n // 30) % 2, 30)
    return cues


def test_error_triggered_is_the_full_rule_at_threshold_0_and_nothing_above_1() -> None:
    spec = replace(BASE, modulation="error")
    cues = error_cues(600)
    full, never = (
        taught(replace(spec, error_threshold=0.0), cues, 600),
        taught(replace(spec, error_threshold=1.1), cues, 600),
    )
    untaught, oracle = pair_of(spec)
    assert np.array_equal(never.weights(0), untaught.weights(0))
    for t, x in enumerate(dense(random_steps(np.random.default_rng(9), 600, 30, 12), 30)):
        oracle.step(x)
        if cues.flags[t]:
            oracle.close(1.0)
    np.testing.assert_allclose(full.weights(0), oracle.weight, atol=1e-10)


def test_only_windows_in_which_the_head_erred_teach() -> None:
    spec = replace(BASE, modulation="error", error_threshold=0.5, head="prototype")
    learner, oracle = pair_of(spec)
    steps, cues = random_steps(np.random.default_rng(9), 900, 30, 12), error_cues(900)
    said = learner.run(steps, cues)
    x = dense(steps, 30)
    erred = []
    for row, at in enumerate(said.at):
        for t in range(at - 29, at + 1):
            oracle.step(x[t])
        z = said.scores[row].astype(float)
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        erred.append(1 - p[said.labels[row]] >= 0.5)
        oracle.close(1.0 if erred[-1] else 0.0)
    assert 3 < sum(erred) < len(erred) - 3
    np.testing.assert_allclose(learner.weights(0), oracle.weight, atol=1e-10)


def test_plasticity_settles_and_then_the_features_stand_still() -> None:
    spec = replace(BASE, settle_windows=4)
    cues = silent_cues(300)
    cues.flags[59::60] = CLOSE
    learner, oracle = pair_of(spec)
    steps = random_steps(np.random.default_rng(9), 300, 30, 12)
    learner.run(steps, cues)
    for t, x in enumerate(dense(steps, 30)):
        oracle.rate = spec.rate * max(0.0, 1 - (t // 60) / 4)
        oracle.step(x)
    np.testing.assert_allclose(learner.weights(0), oracle.weight, atol=1e-10)
    before = learner.weights(0)
    learner.run(steps, cues)
    assert np.array_equal(before, learner.weights(0))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rule": "hebb"}, "hebb"),
        ({"a_minus": 0.1}, "a_minus"),
        ({"w_min": 2.0}, "w_min"),
        ({"rule": "prototype", "modulation": "reward"}, "prototype"),
        ({"plastic": (1,)}, "plastic layer 1"),
        ({"w_max": 0.3}, "not in"),
    ],
)
def test_what_makes_no_rule_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        StdpLearner(pair_of(BASE)[0].net, 2, replace(BASE, **wrong))  # type: ignore[arg-type]
