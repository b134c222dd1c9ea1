"""Reading a configuration file: TOML in, a checked `Config` out, errors that say where, what, and what is allowed."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from spiked.service.config import Config, Section, Stream
from spiked.service.config import ConfigError as ConfigError
from spiked.service.configcheck import check_endpoint, check_security, check_stream, is_loopback

PER_STREAM = ("network", "learning", "memory")
BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that are written as they are."""


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
    taken = {str(config.metrics.port): "metrics"}
    for place, endpoint in (
        ("ingest", config.ingest.endpoint),
        ("predictions", config.predictions.endpoint),
        ("control", config.control.endpoint),
    ):
        check_endpoint(f"{place}.endpoint", endpoint, config.security)
        where = endpoint.rpartition(":")[2] if endpoint.startswith("tcp") else endpoint
        if taken.setdefault(where, place) != place:
            raise ConfigError(f"{place}.endpoint: {endpoint!r} is that of [{taken[where]}] too; each has its own")
    if not config.security.allow_insecure and not is_loopback(config.metrics.host):
        raise ConfigError(
            f"metrics.host: {config.metrics.host!r} is not a loopback address, and HTTP is never encrypted; use one, "
            "or set security.allow_insecure = true"
        )
    check_security(config.security)
    seen: set[str] = set()
    for k, stream in enumerate(config.stream):
        place = f"stream[{k}]"
        if stream.id in seen or stream.id == "unknown":
            raise ConfigError(f"{place}.id: {stream.id!r} is taken; every stream has its own")
        seen.add(stream.id)
        check_stream(place, stream, config)
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
        name = key if BARE.fullmatch(key) else repr(key)
        where = f"{place}.{name}" if place else name
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
    if path.endswith("]") and typing.get_origin(kind) is list:  # an entry of a list of choices
        kind = typing.get_args(kind)[0]
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    return f"; allowed: {', '.join(repr(c) for c in choices if c)}" if choices else ""


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
                lines += [*_entries(stream), ""]
                for key, inner in nested.items():
                    lines += [f"[stream.{key}]", *_entries(inner), ""]
        else:
            lines += [f"[{name}]", *_entries(table), ""]
    return "\n".join(lines).rstrip() + "\n"


def _entries(table: dict[str, Any]) -> list[str]:
    return [f"{k} = {_toml(v)}" for k, v in table.items() if v is not None]


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
    if stream.memory.methods:
        m = stream.memory
        what["memory"] = [sorted(m.methods), m.copies_px, m.budget_mb if "replay" in m.methods else 0]
        what["memory"] += [m.copies_drawn] if m.copies_drawn else []
    what["learning"] = [
        learning.rule, learning.feedback, learning.update, learning.optimizer, learning.objective,
        learning.decays_rate > 0, learning.sparse_steps, learning.perturbation,
        msgspec.to_builtins(learning.stdp) if learning.rule == "stdp" else None,
    ]  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()[:16]
