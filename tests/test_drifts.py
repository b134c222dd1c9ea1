"""What happens to a sensor's events: against positions counted one by one, and by what must hold of any events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiked.io import drifts
from spiked.io.drifts import KINDS, Drift, DriftError
from spiked.io.events import Events, Geometry, make_events
from spiked.io.samples import Sample

SQUARE = Geometry(9, 9)


@st.composite
def events_on(draw: st.DrawFn, geometry: Geometry = SQUARE) -> Events:
    n = draw(st.integers(0, 30))
    rows = [
        draw(st.lists(st.integers(0, top - 1), min_size=n, max_size=n))
        for top in (50_000, geometry.width, geometry.height, geometry.planes)
    ]
    return make_events(np.sort(rows[0]), *rows[1:]) if n else make_events([], [], [], [])


def rows_of(events: Events) -> list[tuple[int, ...]]:
    return [tuple(int(v) for v in e) for e in events]


@given(events_on())
def test_what_is_done_twice_or_four_times_is_undone(events: Events) -> None:
    before = events.copy()
    assert np.array_equal(drifts.mirror(drifts.mirror(events, SQUARE), SQUARE), events)
    assert np.array_equal(drifts.polarity(drifts.polarity(events)), events)
    turned = events
    for _ in range(4):
        turned = drifts.rotate(turned, SQUARE)
    assert np.array_equal(turned, events)
    assert np.array_equal(events, before), "the input is left alone"


@given(events_on())
def test_each_event_goes_where_it_should(events: Events) -> None:
    assert rows_of(drifts.mirror(events, SQUARE)) == [(t, 8 - x, y, on) for t, x, y, on in rows_of(events)]
    assert rows_of(drifts.polarity(events)) == [(t, x, y, 1 - on) for t, x, y, on in rows_of(events)]
    assert rows_of(drifts.shift(events, SQUARE)) == [(t, x + 4, y, on) for t, x, y, on in rows_of(events) if x <= 4]
    # clockwise: what was on top comes to the right
    picture = np.zeros((9, 9), int)
    for _, x, y, _ in rows_of(events):
        picture[y, x] += 1
    turned = np.zeros((9, 9), int)
    for _, x, y, _ in rows_of(drifts.rotate(events, SQUARE)):
        turned[y, x] += 1
    assert np.array_equal(turned, np.rot90(picture, -1))


@settings(max_examples=30)
@given(events_on(), st.sampled_from(["noise", "hot-pixels"]), st.integers(0, 5), st.integers(0, 1000))
def test_what_is_added_is_valid_and_leaves_the_rest(events: Events, kind: str, seed: int, i: int) -> None:
    sample = Sample(3, events, 50_000)
    out = Drift([kind], SQUARE, seed)(sample, i)
    assert (out.label, out.duration_us) == (3, 50_000)
    t = out.events["t"].astype(np.int64)
    assert np.all(np.diff(t) >= 0) and (not len(t) or t.max() < 50_000)
    for name, top in (("x", 9), ("y", 9), ("on", 2)):
        assert not len(t) or out.events[name].max() < top
    left = rows_of(out.events)
    for row in rows_of(events):
        left.remove(row)  # raises where an event was lost
    assert np.array_equal(out.events, Drift([kind], SQUARE, seed)(sample, i).events), "the same again"


def test_noise_has_its_rate_and_hot_pixels_have_theirs() -> None:
    big, silence = Geometry(50, 40), make_events([], [], [], [])
    noise = Drift(["noise"], big, 0)(Sample(0, silence, 2_000_000), 0).events
    expected = drifts.NOISE_HZ * 2000 * 2.0
    assert abs(len(noise) - expected) < 5 * np.sqrt(expected)
    counts = np.bincount(noise["y"].astype(int) * 50 + noise["x"], minlength=2000)
    assert counts.std() ** 2 == pytest.approx(counts.mean(), rel=0.2), "Poisson in each pixel"
    assert 0.45 < noise["on"].mean() < 0.55

    places = []
    for i in (0, 1):
        hot = Drift(["hot-pixels"], big, 7)(Sample(0, silence, 2_000_000), i).events
        assert abs(len(hot) - 40 * 400) < 5 * np.sqrt(40 * 400)
        places.append({(x, y, on) for _, x, y, on in rows_of(hot)})
    assert len(places[0]) == 40, "2 % of 2000 pixels, each of one polarity"
    assert places[0] == places[1], "they are the same in every sample"
    other = Drift(["hot-pixels"], big, 8)(Sample(0, silence, 2_000_000), 0).events
    assert {(x, y, on) for _, x, y, on in rows_of(other)} != places[0]


def test_samples_get_noise_of_their_own_whatever_the_order() -> None:
    drift, sample = Drift(["noise"], SQUARE, 0), Sample(0, make_events([], [], [], []), 500_000)
    first, second = drift(sample, 1).events, drift(sample, 2).events
    assert not np.array_equal(first, second)
    assert np.array_equal(drift(sample, 1).events, first)


@given(events_on())
def test_several_kinds_in_their_order(events: Events) -> None:
    sample = Sample(0, events, 50_000)
    both = Drift(["shift", "mirror"], SQUARE, 0)(sample, 0).events
    assert np.array_equal(both, drifts.mirror(drifts.shift(events, SQUARE), SQUARE))


@pytest.mark.parametrize(
    ("kinds", "geometry", "message"),
    [
        (["tilt"], SQUARE, "'tilt'; allowed: rotate, mirror, shift, polarity, noise, hot-pixels"),
        ([], SQUARE, "allowed"),
        (["mirror", "rotate"], Geometry(9, 8), "square sensor, not 9x8x2"),
        (["shift"], Geometry(4, 8), "by 4 px, but the sensor is 4x8x2"),
        (["polarity"], Geometry(9, 9, 1), "has none"),
    ],
)
def test_what_a_sensor_cannot_show_is_refused(kinds: list[str], geometry: Geometry, message: str) -> None:
    with pytest.raises(DriftError, match=message) as caught:
        Drift(kinds, geometry, 0)
    assert "\n" not in str(caught.value)


def test_every_kind_is_told() -> None:
    assert all(text in Drift(list(KINDS), SQUARE, 0).told for text in KINDS.values())
