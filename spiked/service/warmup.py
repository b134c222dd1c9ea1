"""Compile everything before the daemon says that it is ready: a scratch copy of each stream sees a short life."""

from __future__ import annotations

import msgspec

from spiked.io.events import make_events
from spiked.io.sender import Sender
from spiked.io.wire import EventCodec
from spiked.service.config import Config
from spiked.service.pipeline import Pipeline


def warm_up(config: Config) -> None:
    """Run every kernel that `config` can reach, on scratch state."""
    for stream in config.stream:
        scratch = Pipeline(msgspec.structs.replace(config, stream=[stream]))
        live = scratch.streams[stream.id]
        sender = Sender(stream.id, live.geometry, epoch=0)
        late = 4 * live.dt_us
        if stream.network.outputs:
            scratch.handle(sender.target([0.0] * stream.network.outputs, 0, late))  # type: ignore[arg-type]
        else:
            scratch.handle(sender.target("warm-up" if not live.classes else 0, 0, late))
        for k, codec in enumerate(EventCodec):
            events = make_events([(k + 1) * live.dt_us, k * live.dt_us + 1], [0, 0], [0, 0], [1, 0])
            scratch.handle(sender.events(events, (k + 1) * live.dt_us, codec))
        live.learning = False
        scratch.handle(sender.reset(6 * live.dt_us))
