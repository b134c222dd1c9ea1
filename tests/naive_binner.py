"""Slow oracle of delta-binning: one event at a time, dictionaries, no code of the package."""

from __future__ import annotations

import math

Event = tuple[int, int, int, int]  # t, x, y, on
Step = dict[int, float]  # channel -> count


class NaiveBinner:
    def __init__(
        self, width, height, planes, dt_us, downsample, count, threshold, clip_at, refractory_us, hot_hz, late
    ):
        self.width, self.planes, self.dt_us, self.downsample = width, planes, dt_us, downsample
        self.count, self.threshold, self.clip_at = count, threshold, clip_at
        self.refractory_us, self.hot_hz, self.late = refractory_us, hot_hz, late
        self.grid_width, self.grid_height = math.ceil(width / downsample), math.ceil(height / downsample)
        self.waiting: list[Event] = []
        self.last_counted: dict[tuple[int, int], int] = {}
        self.rate: dict[tuple[int, int], tuple[float, int]] = {}
        self.dropped = {"late": 0, "refractory": 0, "hot_pixel": 0}
        self.clamped = 0

    def start(self, t_us: int) -> None:
        self.next_step = t_us // self.dt_us

    def push(self, events: list[Event], end_step: int) -> list[Step]:
        begin_us = self.next_step * self.dt_us
        for t, x, y, on in events:
            if t < begin_us and self.late == "drop":
                self.dropped["late"] += 1
                continue
            if t < begin_us:
                self.clamped += 1
            self.waiting.append((max(t, begin_us), x, y, on))
        steps = []
        while self.next_step < end_step:
            end_us = (self.next_step + 1) * self.dt_us
            mine = sorted((e for e in self.waiting if e[0] < end_us), key=lambda e: e[0])  # sorted() is stable
            self.waiting = [e for e in self.waiting if e[0] >= end_us]
            steps.append(self.step_of(mine))
            self.next_step += 1
        return steps

    def step_of(self, events: list[Event]) -> Step:
        tally: dict[int, int] = {}
        for t, x, y, on in events:
            if self.refractory_us:
                if (x, y) in self.last_counted and t - self.last_counted[x, y] < self.refractory_us:
                    self.dropped["refractory"] += 1
                    continue
                self.last_counted[x, y] = t
            if self.hot_hz:
                before, at = self.rate.get((x, y), (0.0, t))
                now = before * math.exp(-(t - at) / 1e6) + 1.0
                self.rate[x, y] = now, t
                if now > self.hot_hz:
                    self.dropped["hot_pixel"] += 1
                    continue
            plane = on if self.planes == 2 else 0
            channel = (plane * self.grid_height + y // self.downsample) * self.grid_width + x // self.downsample
            tally[channel] = tally.get(channel, 0) + 1
        said = {"binary": lambda c: 1, "sum": lambda c: c, "clip": lambda c: min(c, self.clip_at)}[self.count]
        return {channel: float(said(c)) for channel, c in sorted(tally.items()) if c >= self.threshold}
