"""SIGHUP: the configuration is read again, and what may change while the daemon runs is changed.

What a network is made of, where sockets are bound and what a stream remembers cannot change under a running stream:
each such key is named in the log, and waits for a restart. A file that cannot be used changes nothing at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from spiked.service import log as logs
from spiked.service.config import Config, ConfigError
from spiked.service.config import Stream as StreamConfig
from spiked.service.configfile import PER_STREAM, load_config
from spiked.service.notify import notify, reloading
from spiked.service.overload import FREE
from spiked.service.pipeline import Stream

if TYPE_CHECKING:
    from spiked.service.daemon import Daemon

log = logging.getLogger("spiked.reload")

Result = Literal["ok", "partly", "refused"]
RESULTS: tuple[Result, ...] = ("ok", "partly", "refused")
"""All was applied; something waits for a restart; the file could not be used."""
SHOWN = 40
"""Characters of a value in the log."""


def reload(daemon: Daemon) -> Result:
    """Read the daemon's file again, apply what may be, and tell log and service manager."""
    reloading()
    result, said = _reload(daemon)
    daemon.stats.reloads[result] += 1
    notify("READY=1", f"STATUS={said}")
    return result


def _reload(daemon: Daemon) -> tuple[Result, str]:
    if daemon.path is None:
        log.error("reload: this daemon was not started from a file")
        return "refused", "reload refused: not started from a file"
    try:
        wanted = load_config(daemon.path)
    except ConfigError as error:
        log.error("reload refused, everything stays as it was: %s", error)
        return "refused", f"reload refused: {error}"
    applied = waiting = 0
    for place, now, then in differences(daemon.config, wanted):
        change = f"{_shown(then)} (was {_shown(now)})"
        if _apply(daemon, place, then):
            applied += 1
            log.info("reload: %s: %s", place, change)
        else:
            waiting += 1
            log.warning("reload: %s: %s: needs a restart", place, change)
    said = f"reloaded: {applied} changed" + (f", {waiting} need a restart, see the log" if waiting else "")
    log.info("%s", said)
    return "partly" if waiting else "ok", said


def differences(now: Config, then: Config) -> list[tuple[str, Any, Any]]:
    """Keys whose values differ: place, value now, value then. Those of a stream are called ``stream.ID.KEY``."""
    a, b = _flat(now), _flat(then)
    alone = {s.id for s in now.stream} ^ {s.id for s in then.stream}  # of these, only that they come or go
    hidden = tuple(f"stream.{name}." for name in alone)
    places = [place for place in {**a, **b} if not place.startswith(hidden)]
    return [(place, a.get(place), b.get(place)) for place in places if a.get(place) != b.get(place)]


def _flat(config: Config) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, table in msgspec.to_builtins(config).items():
        if section == "stream":
            for stream in table:
                flat[f"stream.{stream['id']}"] = "configured"
                for key, value in stream.items():
                    inner = {f"{key}.{k}": v for k, v in value.items()} if key in PER_STREAM else {key: value}
                    flat |= {f"stream.{stream['id']}.{k}": v for k, v in inner.items()}
        elif section not in PER_STREAM:  # laid over each stream's own, which are compared
            flat |= {f"{section}.{key}": value for key, value in table.items()}
    return flat


def _apply(daemon: Daemon, place: str, value: Any) -> bool:
    """Change one key here and in the configuration in force; False where it may not change while the daemon runs."""
    section, _, rest = place.partition(".")
    if section != "stream":
        if place not in DAEMON_KEYS:
            return False
        setattr(getattr(daemon.config, section), rest, value)
        DAEMON_KEYS[place](daemon)
        return True
    for stream in daemon.config.stream:
        for key, change in STREAM_KEYS.items():
            if rest == f"{stream.id}.{key}":  # an id may hold dots itself
                table, _, inner = key.partition(".")
                setattr(getattr(stream, table), inner, value)
                change(daemon.pipeline.streams[stream.id], stream)
                return True
    return False


def _shown(value: Any) -> str:
    text = "not there" if value is None else repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _log(daemon: Daemon) -> None:
    logs.set_up(daemon.config.daemon.log_level, daemon.config.daemon.log_format)


def _every(daemon: Daemon) -> None:
    for stream in daemon.pipeline.streams.values():
        every = round(daemon.config.predictions.every_ms / stream.config.dt_ms)
        stream.schedule.every_steps = max(1, every)


def _max_lag(daemon: Daemon) -> None:
    for stream in daemon.pipeline.streams.values():
        stream.overload.max_lag_s = daemon.config.ingest.max_lag_ms * 1e-3
        if not stream.overload.max_lag_s:  # nothing gives way any more
            stream.overload.level = FREE


def _checkpoint_every(daemon: Daemon) -> None:
    daemon.next_checkpoint = min(daemon.next_checkpoint, time.monotonic() + daemon.config.checkpoint.every_s)


def _keep(daemon: Daemon) -> None:
    daemon.store.keep = daemon.config.checkpoint.keep


def _nothing(*_: Any) -> None:
    """It is read where it is used."""


def _rate(stream: Stream, config: StreamConfig) -> None:
    stream.learner.rate = config.learning.rate


def _enabled(stream: Stream, config: StreamConfig) -> None:
    if stream.care:
        stream.care.learning_set(stream, config.learning.enabled)
    stream.learning = config.learning.enabled


DAEMON_KEYS: dict[str, Callable[[Daemon], None]] = {
    "daemon.log_level": _log, "daemon.log_format": _log, "ingest.max_lag_ms": _max_lag,
    "predictions.every_ms": _every, "checkpoint.every_s": _checkpoint_every, "checkpoint.keep": _keep,
    "checkpoint.on_stop": _nothing,
}  # fmt: skip
STREAM_KEYS: dict[str, Callable[[Stream, StreamConfig], None]] = {
    "learning.rate": _rate, "learning.enabled": _enabled, "memory.on_harm": _nothing,
}  # fmt: skip
"""What may change while the daemon runs, and how it gets there."""
