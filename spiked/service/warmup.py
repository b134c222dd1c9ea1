"""Compile everything before the daemon says that it is ready: a scratch copy of each stream sees a short life."""

from __future__ import annotations

import contextlib
import ctypes
import gc

import msgspec
import numpy as np

from spiked.io.events import make_events
from spiked.io.sender import Sender
from spiked.io.wire import EventCodec, Target
from spiked.service.config import Config
from spiked.service.pipeline import Pipeline

_NONE = make_events([], [], [], [])


def warm_up(config: Config) -> None:
    """Run every kernel that `config` can reach, on scratch state: prompt and late targets, every codec, both ends."""
    for stream in config.stream:
        scratch = Pipeline(msgspec.structs.replace(config, stream=[stream]))
        live = scratch.streams[stream.id]
        sender, dt_us = Sender(stream.id, live.geometry, epoch=0), live.dt_us
        n_out = stream.network.outputs
        target: Target = "warm-up" if not live.classes else 0
        if n_out:
            target = np.zeros(n_out, np.float32)
        elif live.teaching.by_reward:
            target = 0.0
        scratch.handle(sender.target(target, 0, 2 * dt_us))
        for k, codec in enumerate(EventCodec):
            events = make_events([(k + 1) * dt_us, k * dt_us + 1], [0, 0], [0, 0], [1, 0])
            scratch.handle(sender.events(events, (k + 1) * dt_us, codec))
        scratch.handle(sender.events(_NONE, 5 * dt_us))  # those before were out of order: another way into steps
        scratch.handle(sender.target(target, 2 * dt_us, 3 * dt_us))  # late
        scratch.handle(sender.target(target, 4 * dt_us))
        scratch.handle(sender.reset(6 * dt_us))  # while a label is on
        live.learning = False
        scratch.handle(sender.reset(7 * dt_us))
        if live.care and live.care.exam:
            live.care.exam.try_out(live.learner)


def give_back() -> None:
    """Collect what scratch and compiler have left, and hand it to the system: glibc would keep it, some 10 MB."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such function
        ctypes.CDLL(None).malloc_trim(0)
