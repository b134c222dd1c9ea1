"""Which configurations make sense: what is refused, beyond the type and range of a single key."""

from __future__ import annotations

import ipaddress
import re

from spiked.service.config import Config, ConfigError, Learning, Network, Stream

MAX_ARRAY_BYTES = 1 << 30
"""Largest single array (weights of a layer, precision of a head) that a configuration may ask for."""


def is_loopback(host: str) -> bool:
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_endpoint(place: str, endpoint: str, allow_insecure: bool) -> None:
    match = re.fullmatch(r"tcp://(\[[^\]]+\]|[^:]+):(\d{1,5})|(ipc)://(.+)", endpoint)
    if match is None or (match[2] and not 0 < int(match[2]) <= 65535):
        raise ConfigError(f"{place}: {endpoint!r} is no endpoint; allowed: tcp://ADDRESS:PORT or ipc://PATH")
    if match[1] and not is_loopback(match[1]) and not allow_insecure:
        raise ConfigError(
            f"{place}: {endpoint!r} is open to the network without encryption; use a loopback address, or set "
            "security.allow_insecure = true"
        )


def check_stream(place: str, stream: Stream, config: Config) -> None:
    dt_us = stream.dt_ms * 1000
    if abs(dt_us - round(dt_us)) > 1e-9:
        raise ConfigError(f"{place}.dt_ms: {stream.dt_ms}; a whole number of microseconds")
    if config.predictions.every_ms < stream.dt_ms:
        raise ConfigError(
            f"predictions.every_ms: {config.predictions.every_ms}; at least {place}.dt_ms, {stream.dt_ms}"
        )
    if max(stream.width, stream.height) < stream.downsample:
        raise ConfigError(f"{place}.downsample: {stream.downsample}; at most the sensor's size")
    _check_memory(place, stream)
    if not stream.learning.rule:
        stream.learning.rule = "rtrl" if stream.network.head == "gradient" else "none"
    _check_network(f"{place}.network", stream.network)
    _check_learning(f"{place}.learning", stream.learning, stream.network)
    if stream.memory.methods:
        raise ConfigError(
            f"{place}.memory.methods: {stream.memory.methods[0]!r} is not available in this version; allowed: []"
        )


def _check_memory(place: str, stream: Stream) -> None:
    """Refuse what would not fit a small machine before any of it is taken."""
    d, network = stream.downsample, stream.network
    below = stream.planes * -(-stream.width // d) * -(-stream.height // d)
    for k, layer in enumerate(network.layers):
        n_bytes = 4 * below * layer.neurons
        if n_bytes > MAX_ARRAY_BYTES:
            raise ConfigError(
                f"{place}.network.layers[{k}].neurons: {layer.neurons} neurons on {below} channels take "
                f"{n_bytes / 1e9:.1f} GB of weights; at most {MAX_ARRAY_BYTES / 1e9:.1f}: fewer neurons, or a larger "
                f"{place}.downsample than {d}"
            )
        below = layer.neurons
    features = below * len(network.trace_ms)
    if network.head == "discriminant" and 4 * features**2 > MAX_ARRAY_BYTES:
        raise ConfigError(
            f"{place}.network.trace_ms: {len(network.trace_ms)} traces of {below} neurons are {features} features; the "
            f"discriminant takes {4 * features**2 / 1e9:.1f} GB; at most {MAX_ARRAY_BYTES / 1e9:.1f}: fewer of either"
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
