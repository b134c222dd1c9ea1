"""Slow oracle of made-up windows: the same numbers, a Bernoulli trial at a time where gaps were drawn."""

from __future__ import annotations

import numpy as np

MASK = (1 << 64) - 1


def word(key: int, counter: int) -> int:
    """Splitmix64 (Steele, Lea and Flood 2014), in whole numbers."""
    z = (key + (counter + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def mean_activity(
    x: np.ndarray, labels: np.ndarray, ends: np.ndarray, n_out: int, stretches: int, stretch: int, keep: float
) -> tuple[np.ndarray, np.ndarray]:
    """Sums and steps of each class over a stream ``x[t, channel]`` of which windows end at `ends`."""
    sums, steps = np.zeros((n_out, stretches, x.shape[1])), np.zeros((n_out, stretches))
    at = 0
    for t in range(len(x)):
        k = labels[t]
        if k >= 0:
            b = min(at // stretch, stretches - 1)
            at += 1
            sums[k, b] += x[t]
            steps[k, b] += 1
        if t in ends:
            if k >= 0 and at > 0:
                sums[k] *= keep
                steps[k] *= keep
            at = 0
    return sums, steps


def window(sums: np.ndarray, steps: np.ndarray, n: int, stretch: int, key: int) -> np.ndarray:
    """Made-up ``x[t, channel]``: the gap before an event is the number of misses that a uniform number stands for."""
    x = np.zeros((n, sums.shape[1]))
    drawn = 0
    for i in range(sums.shape[1]):
        for b in range(len(sums)):
            begin = b * stretch
            end = n if b == len(sums) - 1 else min(n, begin + stretch)
            if begin >= n or steps[b] <= 0:
                continue
            f = sums[b, i] / steps[b]
            if f >= 1:
                x[begin:end, i] = f
            elif f >= 1e-9:
                t = begin
                while True:
                    u = ((word(key, drawn) >> 11) + 1) * 2.0**-53
                    drawn += 1
                    misses, chance = 0, 1 - f  # so many misses, and one more: with a chance that is still above u?
                    while misses < end - t and chance >= u:
                        misses += 1
                        chance *= 1 - f
                    t += misses
                    if t >= end:
                        break
                    x[t, i] = 1
                    t += 1
    return x
