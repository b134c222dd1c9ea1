"""Decoders against brute force over the whole history of an output layer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spiked.learners.contract import Cues, silent_cues
from spiked.learners.decoders import (
    DECODERS,
    Decoder,
    decode_close,
    decode_rest,
    decode_scores,
    decode_step,
    grow_decoder,
    make_decoder,
)
from spiked.learners.lif import LayerSpec, make_lif
from spiked.learners.rtrl import RtrlLearner, RtrlSpec
from spiked.learners.trials import random_steps

TAU_MS, DT_MS, K = 30.0, 0.5, 4


def history(rng: np.random.Generator, n: int, neurons: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and membranes, ``[t, neuron]``."""
    return (rng.random((n, neurons)) < rate).astype(np.float64), rng.normal(0, 1, (n, neurons))


def brute(kind: str, population: int, spikes: np.ndarray, membranes: np.ndarray, window: int) -> list[float]:
    """Score of each class from everything since rest; the window began at step `window`. Plain sums over time."""
    n, neurons = spikes.shape
    d = math.exp(-DT_MS / TAU_MS)
    by_spikes = kind in ("rate", "population")
    scores = []
    fired = [[t for t in range(window, n) if spikes[t, j]] for j in range(neurons)]
    for j in range(neurons):
        if kind == "latency" and any(fired):
            elapsed_ms = (fired[j][0] - window) * DT_MS if fired[j] else math.inf
            scores.append(TAU_MS / (TAU_MS + elapsed_ms))
        else:
            said = spikes[:, j] if by_spikes else membranes[:, j]
            scores.append(sum((1 - d) * d ** (n - 1 - t) * said[t] for t in range(n)))
    return [sum(scores[k * population : (k + 1) * population]) / population for k in range(neurons // population)]


def feed(dec: Decoder, spikes: np.ndarray, membranes: np.ndarray) -> None:
    for s, u in zip(spikes, membranes):
        decode_step(dec, s, u)


def scores_of(dec: Decoder) -> np.ndarray:
    out = np.full(len(dec.score) // dec.population, np.nan)
    decode_scores(dec, out)
    return out


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("population", [1, 3])
@pytest.mark.parametrize("kind", DECODERS)
def test_scores_are_those_of_the_whole_history(kind: str, population: int, rate: float) -> None:
    population += kind == "population" and population == 1
    rng = np.random.default_rng(1)
    dec = make_decoder(kind, K, population, TAU_MS, DT_MS)
    spikes, membranes = history(rng, 120, K * population, rate)
    window = 0
    for a, b in ((0, 1), (1, 40), (40, 80), (80, 120)):
        feed(dec, spikes[a:b], membranes[a:b])
        want = brute(kind, population, spikes[:b], membranes[:b], window)
        np.testing.assert_allclose(scores_of(dec), want, rtol=1e-12, atol=1e-15)
        assert int(scores_of(dec).argmax()) == want.index(max(want))
        if b == 40:
            decode_close(dec)
            window = 40


@pytest.mark.parametrize("kind", DECODERS)
def test_at_rest_a_decoder_is_as_made(kind: str) -> None:
    dec = make_decoder(kind, K, 2, TAU_MS, DT_MS)
    feed(dec, *history(np.random.default_rng(2), 50, 2 * K, 0.2))
    decode_rest(dec)
    for mine, made in zip(dec, make_decoder(kind, K, 2, TAU_MS, DT_MS)):
        np.testing.assert_array_equal(mine, made)


def test_of_equal_counts_the_lowest_class_wins() -> None:
    dec = make_decoder("rate", K)
    feed(dec, np.array([[0.0, 1, 1, 0]] * 5), np.zeros((5, K)))
    scores = scores_of(dec)
    assert scores[1] == scores[2] and scores.argmax() == 1


def test_the_first_to_fire_wins_and_the_silent_come_last() -> None:
    dec = make_decoder("latency", K, tau_ms=TAU_MS)
    spikes = np.zeros((2000, K))
    spikes[3, 2] = spikes[4, 0] = spikes[5:, :3] = 1  # the most spikes do not matter, nor do later ones
    spikes[1999, 1] = 1
    spikes[5:1999, 1] = 0
    feed(dec, spikes, np.full((2000, K), [0.0, 0.0, 0.0, 99.0]))
    scores = scores_of(dec).astype(np.float32)
    assert scores[2] > scores[0] > scores[1] > scores[3] == 0, "whatever the membrane of the silent one"


def test_a_class_of_few_early_neurons_still_beats_one_that_is_silent() -> None:
    dec = make_decoder("latency", 2, 3)
    spikes = np.zeros((10_000, 6))
    spikes[-1, 4] = 1
    feed(dec, spikes, np.ones((10_000, 6)))
    scores = scores_of(dec).astype(np.float32)
    assert scores[1] > scores[0] == 0


def test_after_a_long_silence_the_next_spike_is_the_first() -> None:
    dec = make_decoder("latency", 2, tau_ms=10.0)
    spikes = np.zeros((200, 2))
    spikes[5, 0] = spikes[56, 1] = 1  # 50 silent steps between, five time constants: not yet forgotten
    feed(dec, spikes[:57], np.zeros((57, 2)))
    assert scores_of(dec).tolist() == [10 / 15, 10 / 66]
    feed(dec, np.zeros((51, 2)), np.zeros((51, 2)))  # one more than that
    assert scores_of(dec).tolist() == [0.0, 0.0]
    feed(dec, spikes[55:60], np.zeros((5, 2)))
    assert scores_of(dec).tolist() == [0.0, 10 / 11], "the window began when the silence became too long"
    decode_rest(dec)
    feed(dec, np.zeros((10_000, 2)), np.zeros((10_000, 2)))
    feed(dec, spikes[5:6], np.zeros((1, 2)))
    assert scores_of(dec)[0] > 10 / 62, "silence before the first spike does not blur its time"


def test_while_all_are_silent_latency_falls_back_to_the_membrane() -> None:
    rng = np.random.default_rng(3)
    spikes, membranes = history(rng, 60, K, 0.0)
    latency, membrane = (make_decoder(kind, K, 1, TAU_MS, DT_MS) for kind in ("latency", "membrane"))
    feed(latency, spikes, membranes)
    feed(membrane, spikes, membranes)
    np.testing.assert_array_equal(scores_of(latency), scores_of(membrane))


@pytest.mark.parametrize("population", [1, 2])
@pytest.mark.parametrize("kind", DECODERS)
def test_growth_leaves_old_scores_as_they_are(kind: str, population: int) -> None:
    population += kind == "population"
    rng = np.random.default_rng(4)
    dec = make_decoder(kind, K, population, TAU_MS, DT_MS)
    feed(dec, *history(rng, 30, K * population, 0.1))
    grown = grow_decoder(Decoder(*(x.copy() if isinstance(x, np.ndarray) else x for x in dec)), K + 2)
    np.testing.assert_array_equal(scores_of(grown), [*scores_of(dec), 0.0, 0.0])
    spikes, membranes = history(rng, 30, K * population, 0.1)
    quiet = np.zeros((30, 2 * population))
    feed(dec, spikes, membranes)
    feed(grown, np.hstack([spikes, quiet]), np.hstack([membranes, quiet]))
    np.testing.assert_array_equal(scores_of(grown), [*scores_of(dec), 0.0, 0.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["rate", "membrane"])
def test_rate_and_membrane_are_what_influence_traces_read(kind: str, dtype: type) -> None:
    """Bit for bit: a learner may change over to these kernels, and its checkpoints go on."""
    rng = np.random.default_rng(5)
    net = make_lif(12, [LayerSpec(K, 20.0)], DT_MS, dtype)
    net.weight[:] = rng.normal(0.1, 0.4, net.weight.shape)
    learner = RtrlLearner(net, RtrlSpec(decoder=kind, decoder_tau_ms=TAU_MS, rate=0.0), DT_MS)
    dec = make_decoder(kind, K, 1, TAU_MS, DT_MS)
    steps, cues = random_steps(rng, 200, 12, 5), silent_cues(1)
    fired = 0
    for t in range(steps.n):
        learner.step(steps.slice(t, t + 1), Cues(cues.flags, cues.labels, cues.values))
        state = learner._live.state
        decode_step(dec, state.spike, state.membrane)
        fired += int(state.spike.sum())
        assert scores_of(dec).tobytes() == learner._live.work.score.tobytes()
    assert fired > 0


@pytest.mark.parametrize(
    ("kind", "population", "tau_ms", "match"),
    [
        ("vote", 1, 1.0, "rate, latency"),
        ("population", 1, 1.0, "2 or more"),
        ("rate", 0, 1.0, "1 or more"),
        ("latency", 1, math.inf, "memory of inf"),
        ("rate", 1, 0.0, "memory of 0"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, population: int, tau_ms: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make_decoder(kind, K, population, tau_ms)
