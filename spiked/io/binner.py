"""From events to steps: delta-binning (3.1.3) up to the watermark, empty steps included.

An event waits until the watermark passes the end of its step; then its step is filtered (refractory period, hot
pixels), downsampled, counted and emitted. Filters see events in time order, ties in order of arrival, and only when
their step runs: how a stream is cut into messages never changes what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spiked.io.events import EVENT_DTYPE, Events, Geometry
from spiked.learners.contract import Steps
from spiked.learners.jit import kernel

COUNT_MODES = ("binary", "sum", "clip")
HOT_WINDOW_US = 1_000_000.0  # memory of the hot-pixel rate estimate
_NEVER = -(1 << 61)  # stream time stays below 2^62: the difference fits 63 bits
_LATE, _REFRACTORY, _HOT, _CLAMPED = range(4)


@dataclass(frozen=True)
class BinnerSpec:
    """How a stream becomes steps.

    Parameters
    ----------
    geometry : of the sensor.
    dt_us : length of a step, in us.
    downsample : side of the square of pixels that share one channel.
    count : ``"binary"`` (active or not), ``"sum"`` (how many events), ``"clip"`` (the same, at most `clip_at`).
    threshold : events that a channel needs within a step to be active.
    clip_at : ceiling of the ``"clip"`` mode.
    refractory_us : a pixel is deaf for so long after an event that counted; 0 is off.
    hot_pixel_hz : events of a pixel above this mean rate (over about 1 s) are left out; 0 is off.
    late : what becomes of events whose step has already run: ``"drop"`` or ``"clamp"`` to the present step.
    """

    geometry: Geometry
    dt_us: int = 1000
    downsample: int = 1
    count: str = "binary"
    threshold: int = 1
    clip_at: int = 4
    refractory_us: int = 0
    hot_pixel_hz: float = 0.0
    late: str = "drop"

    @property
    def grid(self) -> Geometry:
        """The channels' own geometry, after downsampling."""
        d = self.downsample
        return Geometry(-(-self.geometry.width // d), -(-self.geometry.height // d), self.geometry.planes)

    @property
    def n_channels(self) -> int:
        """Channels of a step: ``on * width * height + y * width + x`` on the downsampled grid."""
        return self.grid.width * self.grid.height * self.grid.planes


@kernel
def _sorted_order(events, n):  # type: ignore[no-untyped-def]
    """Sort the first `n` events by time, ties in order of arrival; True if they were out of order."""
    ordered = True
    for k in range(1, n):
        if events[k].t < events[k - 1].t:
            ordered = False
            break
    if ordered:
        return False
    order = np.argsort(events.t[:n], kind="mergesort")
    copy = events[:n].copy()
    for k in range(n):
        events[k] = copy[order[k]]
    return True


@kernel
def _bin(  # type: ignore[no-untyped-def]
    events,
    n,
    n_waiting,
    next_step,
    end_step,
    grid,
    modes,
    hot_pixel_hz,
    seen_us,
    rate,
    rate_us,
    tally,
    indptr,
    indices,
    counts,
    dropped,
):
    """Emit steps `next_step` .. `end_step` - 1 from the first `n` events; returns how many events still wait.

    The first `n_waiting` events waited already; later ones that lie before `next_step` are late.
    """
    width, height, planes, downsample, sensor_width, dt_us = grid
    count_mode, threshold, clip_at, refractory_us, clamp = modes
    begin_us = np.uint64(next_step) * np.uint64(dt_us)
    kept = n_waiting
    for k in range(n_waiting, n):
        if events[k].t < begin_us:
            if not clamp:
                dropped[_LATE] += 1
                continue
            events[k].t = begin_us
            dropped[_CLAMPED] += 1
        if kept != k:
            events[kept] = events[k]
        kept += 1
    _sorted_order(events, kept)
    at = 0
    nnz = 0
    plane_size = width * height
    indptr[0] = 0
    for step in range(next_step, end_step):
        end_us = np.uint64(step + 1) * np.uint64(dt_us)
        first = nnz
        while at < kept and events[at].t < end_us:
            x, y, on = np.int64(events[at].x), np.int64(events[at].y), np.int64(events[at].on)
            t = np.int64(events[at].t)
            at += 1
            if refractory_us > 0 or hot_pixel_hz > 0:
                pixel = y * sensor_width + x
                if refractory_us > 0:
                    if t - seen_us[pixel] < refractory_us:
                        dropped[_REFRACTORY] += 1
                        continue
                    seen_us[pixel] = t
                if hot_pixel_hz > 0:
                    r = rate[pixel] * np.exp(-(t - rate_us[pixel]) / HOT_WINDOW_US) + 1.0
                    rate[pixel], rate_us[pixel] = r, t
                    if r > hot_pixel_hz * (HOT_WINDOW_US * 1e-6):
                        dropped[_HOT] += 1
                        continue
            channel = (y // downsample) * width + x // downsample
            if planes == 2:
                channel += on * plane_size
            if tally[channel] == 0:
                indices[nnz] = channel
                nnz += 1
            tally[channel] += 1
        indices[first:nnz].sort()
        active = first
        for k in range(first, nnz):
            channel = indices[k]
            c = tally[channel]
            tally[channel] = 0
            if c >= threshold:
                indices[active] = channel
                if count_mode == 0:
                    counts[active] = 1.0
                elif count_mode == 1:
                    counts[active] = c
                else:
                    counts[active] = min(c, clip_at)
                active += 1
        nnz = active
        indptr[step - next_step + 1] = nnz
    for k in range(at, kept):
        events[k - at] = events[k]
    return kept - at


class Binner:
    """Collects events and gives out the steps that the watermark has completed.

    Attributes
    ----------
    next_step : number of the next step to run (stream time // dt); None before the stream began.
    dropped : events left out so far, by reason.
    clamped : late events that were moved to the present step.
    """

    REASONS = ("late", "refractory", "hot_pixel")

    def __init__(self, spec: BinnerSpec) -> None:
        self.spec = spec
        g = spec.grid
        pixels = spec.geometry.width * spec.geometry.height
        self.next_step: int | None = None
        self._grid = (g.width, g.height, g.planes, spec.downsample, spec.geometry.width, spec.dt_us)
        self._modes = (
            COUNT_MODES.index(spec.count), spec.threshold, spec.clip_at, spec.refractory_us, spec.late == "clamp",
        )  # fmt: skip
        self._events = np.zeros(4096, EVENT_DTYPE)
        self._n = 0
        self._seen_us = np.full(pixels if spec.refractory_us else 1, _NEVER, np.int64)
        self._rate = np.zeros(pixels if spec.hot_pixel_hz else 1, np.float64)
        self._rate_us = np.zeros(len(self._rate), np.int64)
        self._tally = np.zeros(spec.n_channels, np.int64)
        self._dropped = np.zeros(4, np.int64)

    @property
    def waiting(self) -> int:
        """Events whose step has not run yet."""
        return self._n

    @property
    def dropped(self) -> dict[str, int]:
        """Events left out so far, by reason."""
        return {reason: int(self._dropped[k]) for k, reason in enumerate(self.REASONS)}

    @property
    def clamped(self) -> int:
        """Late events that were moved to the present step so far."""
        return int(self._dropped[_CLAMPED])

    def start(self, t_us: int) -> None:
        """Begin stream time at `t_us`, forgetting events and filters of the time before.

        Events that still waited are counted as late: their steps will never run.
        """
        self._dropped[_LATE] += self._n
        self.next_step = t_us // self.spec.dt_us
        self._n = 0
        self._seen_us.fill(_NEVER)
        self._rate.fill(0.0)
        self._rate_us.fill(0)

    def push(self, events: Events, end_step: int) -> Steps:
        """Take `events` in and emit all steps before `end_step`.

        Parameters
        ----------
        events : in any order; those before `next_step` are late.
        end_step : first step that cannot run yet. A value at or before `next_step` emits nothing.

        Returns
        -------
        Steps
            Newly allocated; the caller may keep them.
        """
        assert self.next_step is not None, "start() comes first"
        first = self.next_step
        end_step = max(end_step, first)
        n = self._n + len(events)
        if n > len(self._events):
            grown = np.zeros(max(n, 2 * len(self._events)), EVENT_DTYPE)
            grown[: self._n] = self._events[: self._n]
            self._events = grown
        self._events[self._n : n] = events
        indptr = np.empty(end_step - first + 1, np.int64)
        indices = np.empty(n, np.int32)
        counts = np.empty(n, np.float32)
        self._n = _bin(
            self._events, n, self._n, first, end_step, self._grid, self._modes, float(self.spec.hot_pixel_hz),
            self._seen_us, self._rate, self._rate_us, self._tally, indptr, indices, counts, self._dropped,
        )  # fmt: skip
        self.next_step = end_step
        nnz = int(indptr[-1])
        return Steps(first, indptr, indices[:nnz], counts[:nnz])

    def cut(self, t_us: int) -> Steps:
        """Emit the present step from its events before `t_us` alone; after it the step begins anew."""
        assert self.next_step is not None, "start() comes first"
        step, waiting = self.next_step, self._events[: self._n].copy()
        self._n = 0
        steps = self.push(waiting[waiting["t"] < t_us], step + 1)
        later = waiting[waiting["t"] >= t_us]
        self._events[: len(later)] = later
        self._n, self.next_step = len(later), step
        return steps

    def state(self) -> dict[str, NDArray]:
        """Copies of everything that the future depends on."""
        waiting = self._events[: self._n]
        return {
            "next_step": np.array([-1 if self.next_step is None else self.next_step], np.int64),
            "waiting_t": waiting["t"].copy(),
            "waiting_xy": np.stack([waiting["x"], waiting["y"], waiting["on"].astype(np.uint16)]),
            "seen_us": self._seen_us.copy(),
            "rate": self._rate.copy(),
            "rate_us": self._rate_us.copy(),
            "dropped": self._dropped.copy(),
        }

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`, bit for bit."""
        for name, mine in (("seen_us", self._seen_us), ("rate", self._rate), ("rate_us", self._rate_us)):
            if state[name].shape != mine.shape:
                raise ValueError(f"binner {name}: {state[name].shape} in the state, {mine.shape} in this configuration")
            mine[...] = state[name]
        self._dropped[...] = state["dropped"]
        step = int(state["next_step"][0])
        self.next_step = None if step < 0 else step
        self._n = len(state["waiting_t"])
        self._events = np.zeros(max(4096, self._n), EVENT_DTYPE)
        waiting = self._events[: self._n]
        waiting["t"] = state["waiting_t"]
        waiting["x"], waiting["y"], waiting["on"] = state["waiting_xy"]
