"""Slow oracles of the simulated sensors, in plain Python: the camera microsecond by microsecond, the cochlea in direct
form with coefficients from the bilinear transform of the analogue band-pass."""

from __future__ import annotations

import math

MASK = (1 << 64) - 1


class SplitMix64:
    def __init__(self, state: int) -> None:
        self.state = state

    def uniform(self) -> float:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return ((z ^ (z >> 31)) >> 11) / 2**53

    def wait_us(self, rate_hz: float) -> int:
        return max(1, int(-math.log(1.0 - self.uniform()) / (rate_hz * 1e-6)))


class NaivePixel:
    """One pixel, stepped through every microsecond; within one, noise comes before crossings."""

    def __init__(self, on_by, off_by, *, refractory_us, leak_rate_hz, noise_hz, noise_on, state) -> None:
        self.on_by, self.off_by, self.refractory_us = float(on_by), float(off_by), refractory_us
        self.leak_per_us = leak_rate_hz * 1e-6 * self.on_by
        self.noise_hz, self.noise_on, self.random = noise_hz, noise_on, SplitMix64(int(state))
        self.t_us = None

    def see(self, intensity: float, t_us: int) -> list[tuple[int, bool]]:
        log_now = math.log(min(max(float(intensity), 1e-3), 1e6))
        if self.t_us is None:
            self.memory = log_now - (self.random.uniform() * self.on_by if self.leak_per_us else 0.0)
            self.due = t_us + self.random.wait_us(self.noise_hz) if self.noise_hz else math.inf
            self.ready, self.t_us, self.log = t_us, t_us, log_now
            return []
        out, begin, span = [], self.t_us, t_us - self.t_us

        def difference(t: int) -> float:
            light = self.log + (log_now - self.log) * (t - begin) / span
            return light - (self.memory - self.leak_per_us * (t - begin))

        for t in range(begin, t_us):
            if self.due == t:
                on = self.random.uniform() < self.noise_on
                self.due = t + self.random.wait_us(self.noise_hz)
                if t >= self.ready:
                    out.append((t, on))
                    self.ready = t + self.refractory_us
            while t >= self.ready:
                if difference(t) >= self.on_by or difference(t + 1) > self.on_by:
                    self.memory += self.on_by
                    out.append((t, True))
                elif difference(t) <= -self.off_by or difference(t + 1) < -self.off_by:
                    self.memory -= self.off_by
                    out.append((t, False))
                else:
                    break
                self.ready = t + self.refractory_us
        self.memory -= self.leak_per_us * span
        self.t_us, self.log = t_us, log_now
        return out


def naive_channel(samples, centre_hz, rate_hz, on_by, off_by, *, envelope_hz, reference):
    """Events [(t_us, on)] and levels [n] of one cochlea channel."""
    quality = centre_hz / (24.7 + 0.108 * centre_hz) * math.sqrt(math.sqrt(2) - 1)
    k = math.tan(math.pi * centre_hz / rate_hz)  # bilinear transform of (s/Q) / (s^2 + s/Q + 1), prewarped
    norm = 1 + k / quality + k * k
    b0, a1, a2 = k / quality / norm, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm

    def section(x):
        y = []
        for n, value in enumerate(x):
            x2 = x[n - 2] if n >= 2 else 0.0
            y1, y2 = (y[n - 1] if n >= 1 else 0.0), (y[n - 2] if n >= 2 else 0.0)
            y.append(b0 * (value - x2) - a1 * y1 - a2 * y2)
        return y

    keep = math.exp(-2 * math.pi * envelope_hz / rate_hz)
    envelope, memory, before, events, levels = 0.0, 0.0, 0.0, [], []
    for n, value in enumerate(section(section([float(s) for s in samples]))):
        envelope = keep * envelope + (1 - keep) * max(value, 0.0)
        level = math.log1p(envelope * centre_hz / 1000 / reference)
        begin, end = n * 1_000_000 // rate_hz, (n + 1) * 1_000_000 // rate_hz
        while level >= memory + on_by or level <= memory - off_by:
            on = level > memory
            memory = memory + on_by if on else memory - off_by
            part = (memory - before) / (level - before)
            events.append((min(begin + int(part * (end - begin)), end - 1), on))
        levels.append(level)
        before = level
    return events, levels
