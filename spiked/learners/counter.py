"""Random numbers that are a function of a key and a counter, so that how a run is cut into chunks cannot show.

The numbers of a key are those of a splitmix64 generator (Steele, Lea and Flood, OOPSLA 2014) that begins there, each
reached at once: ``word(key, k) = mix(key + (k + 1) gamma)``. A word is itself a good key, which gives keys of keys.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiked.learners.jit import kernel

_GAMMA, _MIX1, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE, _S11, _S27, _S30, _S31 = (np.uint64(s) for s in (1, 11, 27, 30, 31))


def _word(key: Any, counter: Any) -> Any:
    z = key + (counter + _ONE) * _GAMMA
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


word = kernel(_word)
"""Number `counter` of `key`, 64 random bits; compiled, all three uint64."""


def words(key: NDArray[np.uint64], counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`word` of arrays (a scalar would warn that it overflows): uint64, broadcast."""
    return np.asarray(_word(key, counters), np.uint64)


def make_key(seed: int) -> NDArray[np.uint64]:
    """Key of a seed, uint64[1]: seeds side by side give keys far apart."""
    return words(np.array([seed % (1 << 64)], np.uint64), np.zeros(1, np.uint64))


def uniforms(key: NDArray[np.uint64], counters: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers in [0, 1), multiples of 2^-53: the upper bits of `words`."""
    return (words(key, counters) >> _S11).astype(np.float64) * 2.0**-53
