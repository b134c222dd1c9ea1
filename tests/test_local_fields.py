"""First weights of STDP: local, non-negative, seeded, shared places within a group."""

from __future__ import annotations

import numpy as np

from spiked.learners.local_fields import local_fields


def fields(seed: int = 0, **kw: object) -> np.ndarray:
    weight = local_fields(np.random.default_rng(seed), 20, 16, 2, 12, **kw)  # type: ignore[arg-type]
    assert weight.shape == (2 * 16 * 20, 12) and weight.dtype == np.float32 and weight.flags.c_contiguous
    return weight.reshape(2, 16, 20, 12)


def test_weights_are_drawn_within_a_disc() -> None:
    weight = fields(field_px=4.0, spread=(0.3, 0.6))
    for j in range(12):
        plane, y, x = np.nonzero(weight[..., j])
        assert len(x) >= 2 * 12 and set(plane) == {0, 1}
        assert np.ptp(x) <= 8 and np.ptp(y) <= 8
        there = weight[..., j][weight[..., j] != 0]
        assert there.min() >= 0.3 and there.max() <= 0.6 and np.ptp(there) > 0.1
        assert not np.array_equal(weight[0, ..., j], weight[1, ..., j])


def test_a_group_shares_its_place_and_nothing_else() -> None:
    weight = fields(group=4)
    there = weight != 0
    for first in (0, 4, 8):
        assert (there[..., first : first + 4] == there[..., first : first + 1]).all()
        assert not np.array_equal(weight[..., first], weight[..., first + 1])
    assert not np.array_equal(there[..., 0], there[..., 4])


def test_the_seed_decides() -> None:
    assert np.array_equal(fields(3), fields(3))
    assert not np.array_equal(fields(3), fields(4))


def test_a_line_of_channels_has_fields_too() -> None:
    weight = local_fields(np.random.default_rng(0), 64, 1, 2, 5, field_px=3.0)
    assert (
        weight.shape == (128, 5) and (weight.max(axis=0) > 0).all() and (np.count_nonzero(weight, axis=0) <= 14).all()
    )
