"""Reading a configuration file: TOML in, a checked `Config` out, errors that say where, what, and what is allowed."""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import math
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from spiked.service.config import Config, Learning, Network, Section, Stream

PER_STREAM = ("network", "learning", "memory")


class ConfigError(ValueError):
    """A configuration that cannot be used: one line with the place, the value and what is allowed."""


def load_config(path: str | Path) -> Config:
    """Read and check a configuration file.

    Raises
    ------
    ConfigError
        For a missing file, bad TOML, an unknown key (naming the nearest), a value outside what is allowed, or a
        combination that makes no sense.
    """
    try:
        text = Path(path).read_bytes().decode()
        raw = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    try:
        return parse_config(raw)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_config(raw: dict[str, Any]) -> Config:
    """Check a configuration given as plain dictionaries, as `tomllib` returns them."""
    _check_keys(raw, Config, "")
    streams = raw.get("stream")
    if not isinstance(streams, list) or not streams or not all(isinstance(s, dict) for s in streams):
        raise ConfigError("stream: none given; write a [[stream]] table with id, width and height")
    merged = {name: value for name, value in raw.items() if name != "stream"}  # what holds for all is checked first
    merged["stream"] = [
        {**s, **{name: _overlay(raw.get(name, {}), s.get(name, {})) for name in PER_STREAM}} for s in streams
    ]
    try:
        config = msgspec.convert(merged, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), merged)) from None
    _check_finite("", merged)
    for place, endpoint in (
        ("ingest", config.ingest.endpoint),
        ("predictions", config.predictions.endpoint),
        ("control", config.control.endpoint),
    ):
        _check_endpoint(f"{place}.endpoint", endpoint, config.security.allow_insecure)
    if not config.security.allow_insecure and not _is_loopback(config.metrics.host):
        raise ConfigError(
            f"metrics.host: {config.metrics.host!r} is not a loopback address; use one, or set "
            "security.allow_insecure = true"
        )
    if config.security.curve:
        raise ConfigError("security.curve: true is not available in this version; allowed: false, on loopback")
    seen: set[str] = set()
    for k, stream in enumerate(config.stream):
        place = f"stream[{k}]"
        if stream.id in seen or stream.id == "unknown":
            raise ConfigError(f"{place}.id: {stream.id!r} is taken; every stream has its own")
        seen.add(stream.id)
        _check_stream(place, stream, config)
    return config


def _overlay(common: Any, own: Any) -> Any:
    """A stream's own table laid over the one that holds for all; what is no table is left for the check to name."""
    if not isinstance(common, dict) or not isinstance(own, dict):
        return own if isinstance(common, dict) else common
    return {**common, **own}


def _fields(kind: type[Section]) -> dict[str, Any]:
    return {f.encode_name: f.type for f in msgspec.structs.fields(kind)}


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The section types inside an annotation: itself, or the items of a list, or one side of a union."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _sections(argument)


def _check_keys(raw: dict[str, Any], kind: type[Section], place: str) -> None:
    known = _fields(kind)
    for key, value in raw.items():
        where = f"{place}.{key}" if place else key
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; allowed: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key{hint}")
        for section in _sections(known[key]):
            for k, item in enumerate(value) if isinstance(value, list) else ((None, value),):
                if isinstance(item, dict):
                    _check_keys(item, section, where if k is None else f"{where}[{k}]")


def _check_finite(place: str, value: Any) -> None:
    """Refuse ``inf`` and ``nan``, which TOML can write."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{place}: {value}; a finite number")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_finite(f"{place}.{key}" if place else key, item)
    elif isinstance(value, list):
        for k, item in enumerate(value):
            _check_finite(f"{place}[{k}]", item)


def _explain(message: str, raw: Any) -> str:
    """Turn msgspec's message and path into place, value, and what is allowed."""
    match = re.fullmatch(r"(.*?)(?: - at `\$(.*)`)?", message, re.DOTALL)
    assert match is not None
    text, path = match[1], (match[2] or "").lstrip(".")
    value: Any = raw
    for part in re.findall(r"[^.\[\]]+", path):
        value = value[int(part)] if isinstance(value, list) else value.get(part) if isinstance(value, dict) else None
    shown = "" if isinstance(value, (dict, list)) or value is None else f"{value!r}: "
    text = re.sub(r"^Invalid enum value .*", "not one of those allowed", text)
    return f"{path or 'file'}: {shown}{text[:1].lower() + text[1:]}{_allowed(path)}"


def _allowed(path: str) -> str:
    """Spell out the values that a choice allows."""
    kind: Any = Config
    for part in re.findall(r"[^.\[\]]+", path):
        if part.isdigit():
            continue
        sections = list(_sections(kind))
        if not sections or part not in _fields(sections[0]):
            return ""
        kind = _fields(sections[0])[part]
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    return f"; allowed: {', '.join(repr(c) for c in choices if c)}" if choices else ""


def _is_loopback(host: str) -> bool:
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_endpoint(place: str, endpoint: str, allow_insecure: bool) -> None:
    match = re.fullmatch(r"tcp://(\[[^\]]+\]|[^:]+):(\d{1,5})|(ipc)://(.+)", endpoint)
    if match is None or (match[2] and not 0 < int(match[2]) <= 65535):
        raise ConfigError(f"{place}: {endpoint!r} is no endpoint; allowed: tcp://ADDRESS:PORT or ipc://PATH")
    if match[1] and not _is_loopback(match[1]) and not allow_insecure:
        raise ConfigError(
            f"{place}: {endpoint!r} is open to the network without encryption; use a loopback address, or set "
            "security.allow_insecure = true"
        )


def _check_stream(place: str, stream: Stream, config: Config) -> None:
    dt_us = stream.dt_ms * 1000
    if abs(dt_us - round(dt_us)) > 1e-9:
        raise ConfigError(f"{place}.dt_ms: {stream.dt_ms}; a whole number of microseconds")
    if config.predictions.every_ms < stream.dt_ms:
        raise ConfigError(
            f"predictions.every_ms: {config.predictions.every_ms}; at least {place}.dt_ms, {stream.dt_ms}"
        )
    if max(stream.width, stream.height) < stream.downsample:
        raise ConfigError(f"{place}.downsample: {stream.downsample}; at most the sensor's size")
    if not stream.learning.rule:
        stream.learning.rule = "rtrl" if stream.network.head == "gradient" else "none"
    _check_network(f"{place}.network", stream.network)
    _check_learning(f"{place}.learning", stream.learning, stream.network)
    if stream.memory.methods:
        raise ConfigError(
            f"{place}.memory.methods: {stream.memory.methods[0]!r} is not available in this version; allowed: []"
        )


def _check_network(place: str, network: Network) -> None:
    later = {
        "recurrent": False, "tau_syn_ms": 0.0, "refractory_ms": 0.0, "adaptive": None, "delay_ms": 0.0,
    }  # fmt: skip
    for k, layer in enumerate(network.layers):
        for name, off in later.items():
            if getattr(layer, name) != off:
                raise ConfigError(f"{place}.layers[{k}].{name}: not available in this version; leave it out")
    if len(set(network.classes)) != len(network.classes):
        raise ConfigError(f"{place}.classes: a name stands twice")
    for k, name in enumerate(network.classes):
        if len(name.encode()) > 64:
            raise ConfigError(f"{place}.classes[{k}]: {name!r} has {len(name.encode())} bytes; at most 64")
    if network.classes and network.outputs:
        raise ConfigError(f"{place}.outputs: {network.outputs}, but classes are given too; give one of the two")
    if len(network.classes) > network.max_classes:
        raise ConfigError(f"{place}.classes: {len(network.classes)}; at most max_classes, {network.max_classes}")
    if network.outputs and network.head != "gradient":
        raise ConfigError(f'{place}.head: {network.head!r} tells classes apart; outputs need head = "gradient"')
    if network.decoder not in ("rate", "membrane"):
        raise ConfigError(
            f"{place}.decoder: {network.decoder!r} is not available in this version; allowed: 'rate', 'membrane'"
        )
    if network.population != 1:
        raise ConfigError(f"{place}.population: {network.population} is not available in this version; allowed: 1")


def _check_learning(place: str, learning: Learning, network: Network) -> None:
    if learning.rule in ("eprop", "stdp"):
        raise ConfigError(f"{place}.rule: {learning.rule!r} is not available in this version; allowed: 'rtrl', 'none'")
    if learning.rule == "rtrl" and network.head != "gradient":
        raise ConfigError(
            f'{place}.rule: "rtrl" moves the features under head = {network.head!r}, whose statistics then go stale; '
            'use head = "gradient", or rule = "none"'
        )
    if learning.rule == "none" and network.head == "gradient":
        raise ConfigError(
            f'{place}.rule: "none", but head = "gradient" learns by a rule; use "rtrl", or enabled = false'
        )
    if learning.feedback == "local":
        raise ConfigError(
            f"{place}.feedback: 'local' is not available in this version; allowed: 'symmetric', 'random', 'direct'"
        )
    if learning.update == "step":
        if learning.objective == "rate_ce":
            raise ConfigError(f'{place}.update: "step", but objective "rate_ce" is known only at a window\'s end')
        if learning.optimizer != "sgd":
            raise ConfigError(
                f'{place}.optimizer: {learning.optimizer!r} needs whole windows; update "step" goes with "sgd"'
            )
    if network.outputs and learning.objective != "membrane_mse":
        raise ConfigError(f'{place}.objective: {learning.objective!r} is for classes; outputs go with "membrane_mse"')


def effective_toml(config: Config) -> str:
    """The configuration with all defaults filled in, as TOML; the global tables are written into each stream."""
    raw = msgspec.to_builtins(config)
    for name in PER_STREAM:
        del raw[name]
    lines: list[str] = []
    for name, table in raw.items():
        if name == "stream":
            for stream in table:
                lines.append("[[stream]]")
                nested = {k: stream.pop(k) for k in PER_STREAM}
                lines += [f"{k} = {_toml(v)}" for k, v in stream.items()] + [""]
                for key, inner in nested.items():
                    lines += [f"[stream.{key}]"] + [f"{k} = {_toml(v)}" for k, v in inner.items()] + [""]
        else:
            lines += [f"[{name}]"] + [f"{k} = {_toml(v)}" for k, v in table.items()] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")  # the one character that TOML alone escapes


def learner_digest(stream: Stream) -> str:
    """Digest of what a stream's learner is made from: a checkpoint of another learner must not be loaded."""
    what = {
        k: v
        for k, v in msgspec.to_builtins(stream).items()
        if k not in ("learning", "memory", "network", "jitter_us", "late")
    }
    what["network"] = {
        k: v for k, v in msgspec.to_builtins(stream.network).items() if k not in ("classes", "max_classes")
    }
    learning = stream.learning
    what["learning"] = [learning.rule, learning.feedback, learning.update, learning.optimizer, learning.objective]
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()[:16]
