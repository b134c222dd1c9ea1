"""From events to steps: delta-binning (3.1.3) up to the watermark, empty steps included.

An event waits until the watermark passes the end of its step; then its step is filtered (refractory period, hot
pixels), downsampled, counted and emitted. Filters see events in time order, ties in order of arrival, and only when
their step runs: how a stream is cut into messages never changes what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiked.io.binner_kernels import (
    BINNED,
    GIVEN_UP,
    MISCOUNTED,
    NO_ROOM,
    NO_STASH,
    OUTSIDE,
    bin_by_stash,
    bin_straight,
)
from spiked.io.binner_parts import CLAMPED, LATE, Memory, Rules, make_emitted, make_space
from spiked.io.channel_set import make_channel_set
from spiked.io.events import Events, Geometry
from spiked.io.packed import Packed, PackedError, check_count, miscounted, outside, packed_events
from spiked.learners.bundle import Bundles
from spiked.learners.contract import Steps

COUNT_MODES = ("binary", "sum", "clip")
MAX_WAITING = 4_000_000
"""Events that may wait for their step (52 MB): a watermark that stands still must not fill the memory."""
ROOM = 4096
"""Events and steps that there is room for at the start."""
KEPT = 1 << 19
"""Events (or entries) that room is kept for; what a message takes beyond is given back after it."""
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


def _more(have: int, need: int) -> int:
    """How much room to make where there is too little; what there is if it is enough."""
    return have if need <= have else max(need, 3 * have // 2)


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
        self._straight = not (spec.refractory_us or spec.hot_pixel_hz)  # filters remember: it cannot be taken back
        self._bundles = Bundles()
        self._space = make_space(ROOM, ROOM)
        self._emitted = make_emitted(ROOM, ROOM)
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

    def push(self, events: Events | Packed, end_step: int, at_most: int = 1 << 62) -> Steps:
        """Take `events` in and emit all steps before `end_step`.

        Parameters
        ----------
        events : in any order; those before `next_step` are late.
        end_step : first step that cannot run yet. A value at or before `next_step` emits nothing.
        at_most : steps to emit; more events may wait then than could for the watermark.

        Returns
        -------
        Steps
            Lie where the next call's will: keep a `Steps.copy`.

        Raises
        ------
        PackedError
            ``count`` or ``range`` if the events cannot be used, or too many would wait; nothing has changed.
        """
        assert self.next_step is not None, "start() comes first"
        packed = events if isinstance(events, Packed) else packed_events(events, self.spec.geometry)
        first = self.next_step
        end_step = max(end_step, first)
        stop = min(end_step, first + at_most)
        check_count(packed)
        bundle = self._bundle(stop - first, self._n + packed.count)
        way = bin_straight if self._straight else bin_by_stash
        while True:
            status, number = way(bundle, *packed, self._n, first, stop, end_step, MAX_WAITING)
            if status == BINNED:
                break
            if status == GIVEN_UP:
                way = bin_by_stash
            elif status in (NO_ROOM, NO_STASH):
                bundle = self._grown(status, number)
            else:
                try:
                    raise self._refusal(packed, status, number)
                finally:
                    del bundle
                    self._give_back()
        self._n, self.next_step = number, stop
        indptr, indices, counts = self._emitted
        entries = int(indptr[stop - first])
        self._give_back()
        return Steps(first, indptr[: stop - first + 1], indices[:entries], counts[:entries])

    def _refusal(self, packed: Packed, status: int, number: int) -> PackedError:
        """Why events are not taken in."""
        if status == MISCOUNTED:
            return miscounted(packed, number)
        if status == OUTSIDE:
            return outside(packed, number, self._space.stash[self._n + number])
        return PackedError("count", f"{number} events would wait for their step; at most {MAX_WAITING}")

    def _bundle(self, n_steps: int, n_events: int) -> Any:
        """What the kernel works on, with room for so much to be emitted."""
        steps, entries = len(self._emitted.indptr), len(self._emitted.indices)
        if n_events > entries:
            n_events = min(
                n_events, (n_steps + 1) * self.spec.n_channels
            )  # with the open step, which may be taken back
        if n_steps >= steps or n_events > entries:
            self._emitted = make_emitted(_more(steps, n_steps + 1), _more(entries, n_events))
        return self._bundles.of(self._space, self._rules, self._memory, self._channels, self._emitted)

    def _grown(self, status: int, n: int) -> Any:
        """`_bundle`, with room for `n` events where there was none."""
        room, stash = len(self._space.room), len(self._space.stash)
        if status == NO_ROOM:
            self._make_space(max(n, min(_more(room, n), MAX_WAITING)), stash)
        else:
            self._make_space(room, _more(stash, n))
        return self._bundle(0, 0)

    def _make_space(self, room: int, stash: int) -> None:
        """Room for so many events, with those in it that wait."""
        space = make_space(room, stash)
        space.room[: self._n] = self._space.room[: self._n]
        self._space = space

    def _give_back(self) -> None:
        """Let go of what a large message alone needed."""
        room, stash, entries = len(self._space.room), len(self._space.stash), len(self._emitted.indices)
        idle = room > KEPT and self._n <= ROOM
        if not (idle or stash > KEPT or entries > KEPT):
            return
        self._make_space(ROOM if idle else room, min(stash, ROOM))
        self._emitted = make_emitted(ROOM, ROOM)  # the steps that were emitted keep the arrays that they lie in
        self._bundle(0, 0)  # the last one would hold on to them

    def cut(self, t_us: int) -> Steps:
        """Emit the present step from its events before `t_us` alone; after it the step begins anew."""
        assert self.next_step is not None, "start() comes first"
        step, waiting = self.next_step, self._space.room[: self._n].copy()
        self._n = 0
        steps = self.push(waiting[waiting["t"] < t_us], step + 1)
        later = waiting[waiting["t"] >= t_us]
        self._space.room[: len(later)] = later
        self._n, self.next_step = len(later), step
        return steps

    def state(self) -> dict[str, NDArray]:
        """Copies of everything that the future depends on."""
        waiting = self._space.room[: self._n]
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
        self._space = make_space(max(ROOM, self._n), ROOM)
        waiting = self._space.room[: self._n]
        waiting["t"] = state["waiting_t"]
        waiting["x"], waiting["y"], waiting["on"] = state["waiting_xy"]
