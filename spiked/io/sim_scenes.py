"""What the simulated sensors look at and listen to: digits and shapes under saccades, spoken vowels.

All generators are endless, seeded, and balanced: they go through the classes in rounds, each in a new random order.
``split`` is ``"train"`` or ``"test"``. For the digits these are different images: of scikit-learn's 1,797, in the
order in which they are stored, the first 1,437 are for training and the last 360 for testing. Shapes and vowels are
drawn afresh each time, from random streams of their own.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.io.events import Events
from spiked.learners.jit import kernel

Frames = Iterator[tuple[int, NDArray[np.float32]]]
"""Time since the scene began in us, and linear intensity [height, width]; the first at 0, the last at the end."""

SACCADE_US = 100_000
N_SACCADES = 3
TEST_DIGITS = 360
SHAPES = ("disc", "square", "triangle", "cross", "bar", "ring")
SPLITS = ("train", "test")

VOWELS = {
    "a": (730.0, 1090.0, 2440.0),
    "e": (530.0, 1840.0, 2480.0),
    "i": (270.0, 2290.0, 3010.0),
    "o": (570.0, 840.0, 2410.0),
    "u": (300.0, 870.0, 2240.0),
}
"""First three formants in Hz, means of the men of Peterson and Barney, J. Acoust. Soc. Am. 24(2), 1952."""


class Sample(NamedTuple):
    """One labelled recording; the events' times start at 0 and are less than `duration_us`."""

    label: int
    name: str
    events: Events
    duration_us: int


def _generator(seed: int, split: str) -> np.random.Generator:
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; allowed: {', '.join(SPLITS)}")
    return np.random.default_rng([seed, SPLITS.index(split)])


def _labels(rng: np.random.Generator, n: int) -> Iterator[int]:
    while True:
        yield from rng.permutation(n).tolist()


@kernel
def _shift(image: NDArray[np.float32], dx: float, dy: float, out: NDArray[np.float32]) -> None:
    """Sample `image` bilinearly at `out`'s grid moved by (dx, dy) >= 0; `image` is larger by the largest move + 1."""
    x0, y0 = int(dx), int(dy)
    fx, fy = np.float32(dx - x0), np.float32(dy - y0)
    gx, gy = np.float32(1.0) - fx, np.float32(1.0) - fy
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            upper = gx * image[y0 + y, x0 + x] + fx * image[y0 + y, x0 + x + 1]
            lower = gx * image[y0 + y + 1, x0 + x] + fx * image[y0 + y + 1, x0 + x + 1]
            out[y, x] = gy * upper + fy * lower


def _margin(width: int, height: int) -> int:
    """Pixels by which a scene is wider than the sensor on every side: the eye's largest move, and some."""
    return int(0.15 * min(width, height)) + 2


def _saccades(image: NDArray[np.float32], margin: int, step_us: int, rng: np.random.Generator) -> Frames:
    """Move the eye over `image` along a triangle, as N-MNIST does (Orchard et al., Front. Neurosci. 9:437, 2015)."""
    if not 0 < step_us <= SACCADE_US:
        raise ValueError(f"step_us is {step_us}; allowed: 1 to {SACCADE_US}")
    height, width = image.shape[0] - 2 * margin, image.shape[1] - 2 * margin
    reach = 0.13 * min(width, height)
    corners = np.array([[0.0, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.0, -0.5]]) * reach * rng.uniform(0.9, 1.1)
    end_us = N_SACCADES * SACCADE_US
    for t_us in [*range(0, end_us, step_us), end_us]:
        leg = min(t_us // SACCADE_US, N_SACCADES - 1)
        way = 0.5 - 0.5 * np.cos(np.pi * (t_us - leg * SACCADE_US) / SACCADE_US)  # the eye speeds up and brakes
        dx, dy = corners[leg] + (corners[leg + 1] - corners[leg]) * way + margin
        frame = np.empty((height, width), np.float32)
        _shift(image, dx, dy, frame)
        yield t_us, frame


def _lit(cover: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
    """Light of a figure that covers 0 to 1 of each pixel: a bright figure on darker ground."""
    return (rng.uniform(20.0, 40.0) * (1.0 + rng.uniform(3.0, 5.0) * cover)).astype(np.float32)


def _grid(width: int, height: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Coordinates of a scene's pixels from a random centre, in halves of the sensor's smaller side; that unit."""
    margin, unit = _margin(width, height), 0.5 * min(width, height)
    x = np.arange(width + 2 * margin) - (width - 1) / 2 - margin - rng.uniform(-0.08, 0.08) * unit
    y = np.arange(height + 2 * margin) - (height - 1) / 2 - margin - rng.uniform(-0.08, 0.08) * unit
    across, down = np.meshgrid(x / unit, y / unit)
    return across, down, unit


@functools.cache
def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """scikit-learn's handwritten digits, [1797, 8, 8] from 0 to 1, and their labels."""
    if not digits_available():
        raise ModuleNotFoundError("scikit-learn is not installed; pip install 'spiked[digits]' brings the digits")
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images / 16.0, data.target


def digits_available() -> bool:
    """Whether scikit-learn, which carries the digits, is installed."""
    return importlib.util.find_spec("sklearn") is not None


def digit_scenes(
    seed: int, width: int = 34, height: int = 34, *, split: str = "train", step_us: int = 2000
) -> Iterator[tuple[int, str, Frames]]:
    """Handwritten digits under three saccades of 100 ms: label 0 to 9, its name, frames every `step_us`.

    Raises
    ------
    ModuleNotFoundError
        Without scikit-learn (the extra ``digits``).
    ValueError
        Unknown `split`, or `step_us` out of range.
    """
    rng = _generator(seed, split)
    images, targets = _digits()
    index = np.arange(len(targets))
    index = index[:-TEST_DIGITS] if split == "train" else index[-TEST_DIGITS:]
    of_label = [index[targets[index] == label] for label in range(10)]
    for label in _labels(rng, 10):
        x, y, _ = _grid(width, height, rng)
        image = np.pad(images[rng.choice(of_label[label])], 1)
        size = rng.uniform(0.6, 0.7)  # of the digit's 8 cells over the sensor's smaller side
        u, v = np.clip(x[0] * 4 / size + 4.5, 0, 8.999), np.clip(y[:, 0] * 4 / size + 4.5, 0, 8.999)
        i, j = u.astype(int), v.astype(int)
        columns = image[:, i] * (1 - (u - i)) + image[:, i + 1] * (u - i)
        cover = columns[j] * (1 - (v - j))[:, None] + columns[j + 1] * (v - j)[:, None]
        cover = np.clip(1.6 * cover - 0.25, 0, 1)  # sharpens the strokes that 8 x 8 cells left blurred
        yield label, str(label), _saccades(_lit(cover, rng), _margin(width, height), step_us, rng)


def shape_scenes(
    seed: int, width: int = 34, height: int = 34, *, split: str = "train", step_us: int = 2000
) -> Iterator[tuple[int, str, Frames]]:
    """Plain shapes of random size, place and rotation, else as `digit_scenes`; needs nothing but NumPy."""
    rng = _generator(seed, split)
    for label in _labels(rng, len(SHAPES)):
        x, y, unit = _grid(width, height, rng)
        angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.6)
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        radius, box = np.hypot(u, v), np.maximum(np.abs(u), np.abs(v))
        arms = np.minimum(np.abs(u), np.abs(v))
        sides = [np.cos(a) * u + np.sin(a) * v for a in (np.pi / 2, np.pi * 7 / 6, np.pi * 11 / 6)]
        outside = {  # distance by which a point lies outside the shape
            "disc": radius - size,
            "square": box - 0.9 * size,
            "triangle": np.maximum.reduce(sides) - 0.6 * size,
            "cross": np.maximum(box - 1.1 * size, arms - 0.25 * size),
            "bar": np.maximum(np.abs(u) - 1.3 * size, np.abs(v) - 0.25 * size),
            "ring": np.abs(radius - size) - 0.2 * size,
        }[SHAPES[label]]
        cover = np.clip(0.5 - outside * unit / 1.5, 0, 1)
        yield label, SHAPES[label], _saccades(_lit(cover, rng), _margin(width, height), step_us, rng)


def scenes(
    seed: int, width: int = 34, height: int = 34, *, split: str = "train", step_us: int = 2000
) -> Iterator[tuple[int, str, Frames]]:
    """Digits where scikit-learn is installed, else shapes."""
    choose = digit_scenes if digits_available() else shape_scenes
    return choose(seed, width, height, split=split, step_us=step_us)


def vowel_sounds(
    seed: int, *, split: str = "train", duration_ms: float = 300.0, sample_rate_hz: int = 16000
) -> Iterator[tuple[int, str, NDArray[np.float32]]]:
    """Vowels a, e, i, o, u of ever new speakers: label 0 to 4, name, samples within -1 .. 1.

    Source and filter (Fant 1960; Klatt, J. Acoust. Soc. Am. 67(3), 1980): glottal pulses whose pitch drifts and
    jitters, through a cascade of five formant resonators of which the speaker's vocal tract scales the frequencies;
    softly on and off, over a floor of noise 45 dB below.
    """
    rng = _generator(seed, split)
    n = round(duration_ms * 1e-3 * sample_rate_hz)
    if n < sample_rate_hz // 20:
        raise ValueError(f"duration_ms is {duration_ms}; allowed: 50 or more")
    names = list(VOWELS)
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(2 * n))  # twice the length, so that nothing wraps around
    ramp = np.minimum(1.0, np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.02 * sample_rate_hz))
    for label in _labels(rng, len(names)):
        tract = rng.uniform(0.95, 1.2)  # of a tall man, of a small woman
        pitch_hz = 110.0 * tract**4 * rng.uniform(0.85, 1.2)
        glide = rng.uniform(-0.15, 0.1)
        source, at = np.zeros(n), rng.uniform(0, sample_rate_hz / pitch_hz)
        while at < n:
            source[int(at)] += rng.uniform(0.9, 1.1)
            at += sample_rate_hz / (pitch_hz * (1 + glide * at / n)) * (1 + 0.01 * rng.standard_normal())
        spectrum = np.fft.rfft(source, 2 * n) / (1 - 0.9 * z)  # glottis -12 dB and lips +6 dB per octave
        formants = np.array([*VOWELS[names[label]], 3500.0, 4500.0]) * tract * rng.normal(1.0, 0.05, 5)
        for centre_hz, width_hz in zip(formants, (80.0, 90.0, 120.0, 180.0, 250.0), strict=True):
            radius = np.exp(-np.pi * width_hz / sample_rate_hz)
            turn = 2 * radius * np.cos(2 * np.pi * centre_hz / sample_rate_hz)
            spectrum *= (1 - turn + radius**2) / (1 - turn * z + radius**2 * z**2)
        voice = np.fft.irfft(spectrum)[:n] * ramp
        voice *= 0.1 * rng.uniform(0.8, 1.25) / np.sqrt(np.mean(voice**2))
        yield (
            label,
            names[label],
            np.clip(voice + 0.1 * 10 ** (-45 / 20) * rng.standard_normal(n), -1, 1).astype(np.float32),
        )
