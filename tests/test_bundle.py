"""A bundle hands the same arrays over as the tuples in it, lives as long as it is held, and is made once."""

from __future__ import annotations

import gc
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.bundle import Bundles
from spiked.learners.jit import kernel


class Pair(NamedTuple):
    """Two arrays."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]


@kernel
def _add(bundle, x):  # type: ignore[no-untyped-def]
    first, second = bundle.parts
    for j in range(len(first.a)):
        second.b[j] += first.a[j] * x
    return second.b.sum()


def pair(n: int, value: float) -> Pair:
    return Pair(np.full(n, value), np.zeros(n))


def test_what_happens_in_the_arrays_is_seen_on_both_sides() -> None:
    bundles, first, second = Bundles(), pair(3, 2.0), pair(3, 0.0)
    assert _add(bundles.of(first, second), 1.0) == 6.0
    np.testing.assert_array_equal(second.b, [2.0, 2.0, 2.0])
    first.a[:] = 1.0
    second.b[0] = 10.0
    assert _add(bundles.of(first, second), 1.0) == 17.0


def test_it_is_made_once_and_anew_for_other_parts() -> None:
    bundles, first, second = Bundles(), pair(3, 2.0), pair(3, 0.0)
    once = bundles.of(first, second)
    assert bundles.of(first, second) is once
    other = pair(4, 1.0)
    assert bundles.of(other, second._replace(b=np.zeros(4))) is not once
    assert _add(bundles.of(other, pair(4, 0.0)), 1.0) == 4.0


def test_arrays_live_as_long_as_their_bundle_and_no_longer() -> None:
    bundle = Bundles().of(pair(1000, 3.0), pair(1000, 0.0))
    gc.collect()
    junk = [np.full(1000, np.nan) for _ in range(100)]  # would take the place of what was let go
    assert _add(bundle, 1.0) == 3000.0 and len(junk) == 100


def test_bundles_that_are_let_go_keep_nothing() -> None:
    import resource

    bundles, first, second = Bundles(), pair(100_000, 1.0), pair(100_000, 0.0)
    _add(bundles.of(first, second), 0.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(300):
        _add(bundles.of(first, pair(100_000, 0.0)), 0.0)  # 1.6 MB each, another bundle each time
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; all of them would be 480,000
