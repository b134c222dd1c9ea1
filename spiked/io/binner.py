"""From events to steps: delta-binning (3.1.3) up to the watermark, empty steps included.

An event waits until the watermark passes the end of its step; then its step is filtered (refractory period, hot
pixels), downsampled, counted and emitted. Filters see events in time order, ties in order of arrival, and only when
their step runs: how a stream is cut into messages never changes what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spiked.io.binner_kernels import CLAMPED, LATE, Memory, Rules, bin_events
from spiked.io.channel_set import make_channel_set
from spiked.io.events import EVENT_DTYPE, Events, Geometry
from spiked.learners.bundle import Bundles
from spiked.learners.contract import Steps

COUNT_MODES = ("binary", "sum", "clip")
_NEVER = -(1 << 61)  # stream time stays below 2^62: the difference fits 63 bits


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
        g, sensor = spec.grid, spec.geometry
        pixels = sensor.width * sensor.height
        self.next_step: int | None = None
        self._rules = Rules(
            column=(np.arange(sensor.width) // spec.downsample).astype(np.int32),
            row=(np.arange(sensor.height) // spec.downsample * g.width).astype(np.int32),
            plane=g.width * g.height if g.planes == 2 else 0,
            dt_us=spec.dt_us,
            count_mode=COUNT_MODES.index(spec.count),
            threshold=spec.threshold,
            clip_at=spec.clip_at,
            refractory_us=spec.refractory_us,
            clamp=spec.late == "clamp",
            hot_pixel_hz=float(spec.hot_pixel_hz),
        )
        rated = pixels if spec.hot_pixel_hz else 1
        self._memory = Memory(
            seen_us=np.full(pixels if spec.refractory_us else 1, _NEVER, np.int64),
            rate=np.zeros(rated),
            rate_us=np.zeros(rated, np.int64),
            tally=np.zeros(0 if spec.count == "binary" and spec.threshold == 1 else spec.n_channels, np.int64),
            dropped=np.zeros(4, np.int64),
        )
        self._channels = make_channel_set(spec.n_channels)
        self._room = np.zeros(4096, EVENT_DTYPE)
        self._bundles = Bundles()
        self._n = 0

    @property
    def waiting(self) -> int:
        """Events whose step has not run yet."""
        return self._n

    @property
    def dropped(self) -> dict[str, int]:
        """Events left out so far, by reason."""
        return {reason: int(self._memory.dropped[k]) for k, reason in enumerate(self.REASONS)}

    @property
    def clamped(self) -> int:
        """Late events that were moved to the present step so far."""
        return int(self._memory.dropped[CLAMPED])

    def start(self, t_us: int) -> None:
        """Begin stream time at `t_us`, forgetting events and filters of the time before.

        Events that still waited are counted as late: their steps will never run.
        """
        self._memory.dropped[LATE] += self._n
        self.next_step = t_us // self.spec.dt_us
        self._n = 0
        self._memory.seen_us.fill(_NEVER)
        self._memory.rate.fill(0.0)
        self._memory.rate_us.fill(0)

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
        if n > len(self._room):
            grown = np.zeros(max(n, 2 * len(self._room)), EVENT_DTYPE)
            grown[: self._n] = self._room[: self._n]
            self._room = grown
        indptr = np.empty(end_step - first + 1, np.int64)
        indices, counts = np.empty(n, np.int32), np.empty(n, np.float32)
        if events.flags.writeable:  # one array type for the kernel, whoever made them
            events = events.view()
            events.flags.writeable = False
        bundle = self._bundles.of(self._room, self._rules, self._memory, self._channels)
        self._n = bin_events(bundle, self._n, events, first, end_step, indptr, indices, counts)
        self.next_step = end_step
        nnz = int(indptr[-1])
        return Steps(first, indptr, indices[:nnz], counts[:nnz])

    def cut(self, t_us: int) -> Steps:
        """Emit the present step from its events before `t_us` alone; after it the step begins anew."""
        assert self.next_step is not None, "start() comes first"
        step, waiting = self.next_step, self._room[: self._n].copy()
        self._n = 0
        steps = self.push(waiting[waiting["t"] < t_us], step + 1)
        later = waiting[waiting["t"] >= t_us]
        self._room[: len(later)] = later
        self._n, self.next_step = len(later), step
        return steps

    def state(self) -> dict[str, NDArray]:
        """Copies of everything that the future depends on."""
        waiting = self._room[: self._n]
        return {
            "next_step": np.array([-1 if self.next_step is None else self.next_step], np.int64),
            "waiting_t": waiting["t"].copy(),
            "waiting_xy": np.stack([waiting["x"], waiting["y"], waiting["on"].astype(np.uint16)]),
            "seen_us": self._memory.seen_us.copy(),
            "rate": self._memory.rate.copy(),
            "rate_us": self._memory.rate_us.copy(),
            "dropped": self._memory.dropped.copy(),
        }

    def load_state(self, state: dict[str, NDArray]) -> None:
        """Continue from `state`, bit for bit."""
        for name in ("seen_us", "rate", "rate_us"):
            mine = getattr(self._memory, name)
            if state[name].shape != mine.shape:
                raise ValueError(f"binner {name}: {state[name].shape} in the state, {mine.shape} in this configuration")
            mine[...] = state[name]
        self._memory.dropped[...] = state["dropped"]
        step = int(state["next_step"][0])
        self.next_step = None if step < 0 else step
        self._n = len(state["waiting_t"])
        self._room = np.zeros(max(4096, self._n), EVENT_DTYPE)
        waiting = self._room[: self._n]
        waiting["t"] = state["waiting_t"]
        waiting["x"], waiting["y"], waiting["on"] = state["waiting_xy"]
