"""The simulated event camera against a microsecond-stepping oracle and the stated facts of a pixel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_sensors import NaivePixel

from spiked.io import sim_scenes
from spiked.io.events import EVENT_DTYPE, Geometry
from spiked.io.sim_dvs import DvsCamera, dvs_samples
from spiked.io.sim_scenes import SHAPES, digit_scenes, scenes, shape_scenes

QUIET = {"leak_rate_hz": 0.0, "shot_noise_hz": 0.0}


def walk(seed: int, height: int, width: int, n: int):
    """Frames whose log intensity walks at random, at random times."""
    rng = np.random.default_rng(seed)
    t_us = 1000 + np.cumsum(rng.integers(1, 900, n))
    log = np.cumsum(rng.normal(0, 0.4, (n, height, width)), axis=0)
    return [(int(t), np.exp(np.clip(frame, -6, 12)).astype(np.float32)) for t, frame in zip(t_us, log, strict=True)]


def see_all(camera: DvsCamera, frames):
    return np.concatenate([camera.see(frame, t_us) for t_us, frame in frames])


@pytest.mark.parametrize(
    "options",
    [
        {**QUIET, "refractory_us": 0},
        {**QUIET, "refractory_us": 0, "threshold_on": 0.05, "threshold_off": 0.31, "mismatch": 0.2},
        {**QUIET, "refractory_us": 1},
        {**QUIET, "refractory_us": 350},
        {"refractory_us": 120, "leak_rate_hz": 300.0, "shot_noise_hz": 0.0},
        {"refractory_us": 0, "leak_rate_hz": 50.0, "shot_noise_hz": 2000.0, "hot_pixels": 4, "hot_rate_hz": 9000.0},
        {"refractory_us": 77, "leak_rate_hz": 200.0, "shot_noise_hz": 4000.0, "hot_pixels": 4, "hot_rate_hz": 9000.0},
    ],
)
def test_equals_the_oracle(options) -> None:
    height, width = 4, 5
    camera = DvsCamera(Geometry(width, height), 3, **options)
    full = {"hot_pixels": 0, "hot_rate_hz": 0.0, "shot_noise_hz": 0.0, **options}
    pixels = []
    for p in range(height * width):
        hot = full["hot_rate_hz"] if p in camera.hot else 0.0
        noise_hz = full["shot_noise_hz"] + hot
        part = (0.5 * full["shot_noise_hz"] + hot) / noise_hz if noise_hz else 0.5
        pixels.append(NaivePixel(camera.threshold_on[p], camera.threshold_off[p], state=camera._state[p],
                                 refractory_us=full["refractory_us"], leak_rate_hz=full["leak_rate_hz"],
                                 noise_hz=noise_hz, noise_on=part))  # fmt: skip
    total = 0
    for t_us, frame in walk(11, height, width, 12):
        got = camera.see(frame, t_us)
        expected = [
            (t, p % width, p // width, int(on))
            for p, pixel in enumerate(pixels)
            for t, on in pixel.see(frame.flat[p], t_us)
        ]
        expected.sort(key=lambda event: event[0])
        assert got.tolist() == expected
        total += len(got)
    assert total > 150
    np.testing.assert_allclose(camera.memory, [pixel.memory for pixel in pixels], atol=1e-9)


def test_same_seed_same_bytes() -> None:
    frames = walk(1, 8, 9, 30)
    runs = [see_all(DvsCamera(Geometry(9, 8), seed, shot_noise_hz=500.0), frames) for seed in (5, 5, 6)]
    assert runs[0].tobytes() == runs[1].tobytes()
    assert runs[0].tobytes() != runs[2].tobytes()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 3000), st.sampled_from([0.0, 3000.0]))
def test_times_and_refractory_period(seed: int, refractory_us: int, noise_hz: float) -> None:
    camera = DvsCamera(Geometry(6, 3), seed, refractory_us=refractory_us, shot_noise_hz=noise_hz)
    frames, parts = walk(seed, 3, 6, 15), []
    for i, (t_us, frame) in enumerate(frames):
        events = camera.see(frame, t_us)
        assert events.dtype == EVENT_DTYPE
        assert np.all(np.diff(events["t"].astype(np.int64)) >= 0)
        if i == 0:
            assert not len(events)
        elif len(events):
            assert frames[i - 1][0] <= events["t"][0] and events["t"][-1] < t_us
        parts.append(events)
    events = np.concatenate(parts)
    assert events["x"].max(initial=0) < 6 and events["y"].max(initial=0) < 3
    pixel = events["y"].astype(int) * 6 + events["x"]
    for p in range(18):
        assert np.all(np.diff(events["t"][pixel == p].astype(np.int64)) >= refractory_us)


def test_constant_scene_is_silent_without_noise() -> None:
    camera = DvsCamera(Geometry(7, 7), 0, **QUIET)
    frame = np.random.default_rng(0).uniform(0, 100, (7, 7)).astype(np.float32)
    assert all(not len(camera.see(frame, t_us)) for t_us in range(0, 100_000, 1000))


@pytest.mark.parametrize("contrast", [0.05, 0.19, 0.21, 0.99, 1.5, 2.41, -0.19, -0.29, -0.31, -0.7, -2.5])
def test_step_gives_floor_of_contrast_over_threshold(contrast: float) -> None:
    camera = DvsCamera(Geometry(3, 2), 0, threshold_off=0.3, mismatch=0.0, refractory_us=0, **QUIET)
    camera.see(np.full((2, 3), 10.0, np.float32), 5000)
    events = camera.see(np.full((2, 3), 10.0 * np.exp(contrast), np.float32), 6000)
    threshold = 0.2 if contrast > 0 else 0.3
    n = int(abs(contrast) / threshold)
    assert len(events) == 6 * n
    assert np.all(events["on"] == (contrast > 0))
    # Crossings of a straight line lie evenly; float32 light moves them by less than a microsecond
    times = 5000 + 1000 * threshold * np.arange(1, n + 1) / abs(contrast)
    one_pixel = events["t"][(events["x"] == 2) & (events["y"] == 1)]
    np.testing.assert_allclose(one_pixel, np.floor(times), atol=1)


def test_events_held_back_by_the_refractory_period_come_later() -> None:
    camera = DvsCamera(Geometry(1, 1), 0, mismatch=0.0, refractory_us=700, **QUIET)
    camera.see(np.full((1, 1), 1.0, np.float32), 0)
    events = [camera.see(np.full((1, 1), np.exp(1.1), np.float32), t_us) for t_us in range(1000, 9000, 1000)]
    times = np.concatenate(events)["t"].tolist()
    assert times == [181 + 700 * k for k in range(5)]


def test_memory_follows_the_light_within_a_threshold() -> None:
    camera = DvsCamera(Geometry(8, 8), 4, refractory_us=0, mismatch=0.1, **QUIET)
    frames = walk(9, 8, 8, 60)
    memory = np.log(frames[0][1].astype(float))
    on_by, off_by = camera.threshold_on.reshape(8, 8), camera.threshold_off.reshape(8, 8)
    for t_us, frame in frames:
        for _, x, y, on in camera.see(frame, t_us).tolist():
            memory[y, x] += on_by[y, x] if on else -off_by[y, x]
        error = np.log(frame.astype(float)) - memory
        assert np.all(error <= on_by + 1e-9) and np.all(-error <= off_by + 1e-9)
    np.testing.assert_allclose(memory.ravel(), camera.memory, atol=1e-9)


def rates(camera: DvsCamera, seconds: float):
    """Events of a constant scene."""
    frame = np.full((camera.geometry.height, camera.geometry.width), 5.0, np.float32)
    return see_all(camera, [(t_us, frame) for t_us in range(0, int(seconds * 1e6) + 1, 10_000)])


def test_leak_rate() -> None:
    events = rates(DvsCamera(Geometry(20, 20), 1, leak_rate_hz=3.3, shot_noise_hz=0.0), 3.0)
    expected = 400 * 3.3 * 3.0
    assert np.all(events["on"] == 1)
    assert abs(len(events) - expected) < 5 * np.sqrt(expected)
    counts = np.bincount(events["y"].astype(int) * 20 + events["x"], minlength=400)
    assert set(counts.tolist()) == {9, 10}  # a drift is regular: 9.9 periods
    assert len(np.unique(events["t"])) > 0.9 * len(events)  # at all phases, not in volleys


@pytest.mark.parametrize("refractory_us", [0, 5000])
def test_shot_noise_rate(refractory_us: int) -> None:
    noise = {"leak_rate_hz": 0.0, "shot_noise_hz": 40.0, "refractory_us": refractory_us}
    events = rates(DvsCamera(Geometry(20, 20), 1, **noise), 1.0)
    expected = 400 * 40.0 / (1 + 40.0 * refractory_us * 1e-6)
    assert abs(len(events) - expected) < 5 * np.sqrt(expected)
    assert abs(events["on"].sum() - 0.5 * len(events)) < 5 * np.sqrt(0.25 * len(events))


def test_hot_pixels() -> None:
    camera = DvsCamera(Geometry(20, 20), 1, hot_pixels=5, hot_rate_hz=300.0, refractory_us=0, **QUIET)
    events = rates(camera, 2.0)
    assert np.all(events["on"] == 1)
    pixel, counts = np.unique(events["y"].astype(int) * 20 + events["x"], return_counts=True)
    assert pixel.tolist() == camera.hot.tolist() and len(pixel) == 5
    assert np.all(np.abs(counts - 600) < 5 * np.sqrt(600))


def test_what_exceeds_the_cap_is_counted() -> None:
    frames = walk(2, 5, 5, 10)
    whole = DvsCamera(Geometry(5, 5), 0, refractory_us=0, **QUIET)
    small = DvsCamera(Geometry(5, 5), 0, refractory_us=0, max_events=7, **QUIET)
    n_whole, n_small = len(see_all(whole, frames)), len(see_all(small, frames))
    assert whole.dropped == 0 and small.dropped > 0
    assert n_small + small.dropped == n_whole
    np.testing.assert_array_equal(small.memory, whole.memory)


def test_reset_forgets_the_scene_but_not_the_random_state() -> None:
    frames = walk(2, 6, 6, 20)
    quiet, noisy = DvsCamera(Geometry(6, 6), 0, **QUIET), DvsCamera(Geometry(6, 6), 0, shot_noise_hz=900.0)
    runs = []
    for camera in (quiet, noisy):
        first = see_all(camera, frames)
        camera.reset()
        runs.append((first.tobytes(), see_all(camera, frames).tobytes()))
    assert runs[0][0] == runs[0][1]
    assert runs[1][0] != runs[1][1]


def test_impossible_light_is_clipped() -> None:
    camera = DvsCamera(Geometry(6, 1), 0, mismatch=0.0, refractory_us=0, **QUIET)
    camera.see(np.full((1, 6), 1.0, np.float32), 0)
    events = camera.see(np.array([[np.nan, np.inf, -np.inf, -1.0, 0.0, 1.0]], np.float32), 1000)
    dark, bright = int(np.log(1e3) / 0.2), int(np.log(1e6) / 0.2)
    assert np.bincount(events["x"], minlength=6).tolist() == [dark, bright, dark, dark, dark, 0]


def test_refusals() -> None:
    camera = DvsCamera(Geometry(4, 3), 0)
    with pytest.raises(ValueError, match=r"shape \(4, 3\); allowed: \(3, 4\)"):
        camera.see(np.ones((4, 3), np.float32), 0)
    with pytest.raises(ValueError, match="frame at -1 us"):
        camera.see(np.ones((3, 4), np.float32), -1)
    camera.see(np.ones((3, 4), np.float32), 10)
    with pytest.raises(ValueError, match="later than 10 us"):
        camera.see(np.ones((3, 4), np.float32), 10)
    for options in ({"threshold_on": 0.0}, {"threshold_off": float("nan")}, {"mismatch": -1.0}, {"refractory_us": -1},
                    {"leak_rate_hz": float("inf")}, {"hot_pixels": 13}):  # fmt: skip
        with pytest.raises(ValueError, match=f"{next(iter(options))} is .*; allowed"):
            DvsCamera(Geometry(4, 3), 0, **options)


@pytest.mark.parametrize("make", [digit_scenes, shape_scenes])
@pytest.mark.parametrize("size", [(34, 34), (20, 13)])
def test_scenes(make, size: tuple[int, int]) -> None:
    if make is digit_scenes:
        pytest.importorskip("sklearn")
    n_classes = 10 if make is digit_scenes else len(SHAPES)
    runs = [list(itertools.islice(make(4, *size, step_us=1500), 2 * n_classes)) for _ in range(2)]
    labels = [label for label, _, _ in runs[0]]
    assert sorted(labels[:n_classes]) == sorted(labels[n_classes:]) == list(range(n_classes))
    assert labels[:n_classes] != labels[n_classes:]
    for (_, name, frames), (_, name_again, again) in zip(*(run[:3] for run in runs), strict=True):
        assert name == name_again
        frames = list(frames)
        assert [t_us for t_us, _ in frames] == [*range(0, 300_000, 1500), 300_000]
        for (_, image), (_, image_again) in zip(frames, again, strict=True):
            assert image.shape == size[::-1] and image.dtype == np.float32
            assert image.tobytes() == image_again.tobytes()
            assert 15 < image.min() < 45 and image.max() > 3 * image.min()
        np.testing.assert_allclose(frames[0][1], frames[-1][1], rtol=1e-5)  # the triangle closes
        assert np.abs(frames[0][1] - frames[33][1]).max() > 10


def test_digits_of_the_two_splits_differ(monkeypatch) -> None:
    images = np.zeros((1797, 8, 8))
    images[: 1797 - 360] = 1.0  # the training digits, and only they, are bright
    monkeypatch.setattr(sim_scenes, "_digits", lambda: (images, np.arange(1797) % 10))
    for split, bright in (("train", True), ("test", False)):
        for _, _, frames in itertools.islice(digit_scenes(0, split=split), 50):
            frame = next(frames)[1]
            assert (frame.max() > 1.5 * frame.min()) == bright
    with pytest.raises(ValueError, match="split is 'all'; allowed: train, test"):
        next(digit_scenes(0, split="all"))


def test_shapes_stand_in_where_scikit_learn_is_absent(monkeypatch) -> None:
    monkeypatch.setattr(sim_scenes, "digits_available", lambda: False)
    sim_scenes._digits.cache_clear()
    assert next(scenes(0))[1] in SHAPES
    with pytest.raises(ModuleNotFoundError, match="spiked\\[digits\\]"):
        next(digit_scenes(0))


def counts_and_labels(samples, n: int):
    counts, labels = [], []
    for sample in itertools.islice(samples, n):
        events = sample.events
        assert events["t"][-1] < sample.duration_us == 300_000
        index = (events["y"].astype(int) * 34 + events["x"]) * 2 + events["on"]
        counts.append(np.sqrt(np.bincount(index, minlength=34 * 34 * 2)))
        labels.append(sample.label)
    return np.array(counts), np.array(labels)


def test_digits_are_separable() -> None:
    pytest.importorskip("sklearn")
    counts, labels = counts_and_labels(dvs_samples(5), 200)
    tested, truth = counts_and_labels(dvs_samples(5, split="test"), 100)
    assert 2000 < np.mean(np.sum(counts**2, axis=1)) < 8000
    centroids = np.array([counts[labels == k].mean(axis=0) for k in range(10)])
    guess = np.argmin(((tested[:, None] - centroids) ** 2).sum(axis=2), axis=1)
    assert np.mean(guess == truth) > 0.5  # chance: 0.1


def test_samples_are_reproducible_and_take_a_camera() -> None:
    geometry = Geometry(16, 12)
    runs = [next(dvs_samples(2, geometry)) for _ in range(2)]
    assert runs[0].events.tobytes() == runs[1].events.tobytes()
    assert runs[0].events["x"].max() < 16 and runs[0].events["y"].max() < 12
    blind = DvsCamera(geometry, 0, threshold_on=50.0, threshold_off=50.0, **QUIET)
    assert not len(next(dvs_samples(2, geometry, camera=blind)).events)
