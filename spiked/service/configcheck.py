"""Which configurations make sense: what is refused, beyond the type and range of a single key."""

from __future__ import annotations

import ipaddress
import re

from spiked.service.config import Config, ConfigError, Network, Security, Stream
from spiked.service.memorycheck import check_memory
from spiked.service.rulecheck import check_rule

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


def check_endpoint(place: str, endpoint: str, security: Security) -> None:
    """Refuse what is no endpoint, and one that others than this machine, or this user, could reach unencrypted."""
    match = re.fullmatch(r"tcp://(\[[^\]\s]+\]|[^:;\s]+):(\d{1,5})|(ipc)://(\S+)", endpoint)
    if match is None or (match[2] and not 0 < int(match[2]) <= 65535) or match[4] == "*":
        raise ConfigError(f"{place}: {endpoint!r} is no endpoint; allowed: tcp://ADDRESS:PORT or ipc://PATH")
    if security.curve or security.allow_insecure:
        return
    if match[1] and not is_loopback(match[1]):
        raise ConfigError(
            f"{place}: {endpoint!r} is open to the network without encryption; use a loopback address, "
            "security.curve = true, or security.allow_insecure = true"
        )
    if match[4] and match[4].startswith("@"):
        raise ConfigError(
            f"{place}: {endpoint!r} is open to all users of this machine; use a path, security.curve = true, or "
            "security.allow_insecure = true"
        )


def check_security(security: Security) -> None:
    """Refuse encryption without keys, and keys without encryption."""
    for key in ("server_secret_key_file", "authorized_keys_dir"):
        if security.curve and not getattr(security, key):
            raise ConfigError(f"security.{key}: none given, and curve = true needs it; `spiked keys DIR` makes one")
        if getattr(security, key) and not security.curve:
            raise ConfigError(f"security.{key}: given, but security.curve is false; allowed: with curve = true")


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
    _check_size(place, stream)
    if not stream.learning.rule:
        stream.learning.rule = "rtrl" if stream.network.head == "gradient" else "none"
    _check_network(f"{place}.network", stream.network)
    check_rule(f"{place}.learning", stream.learning, stream.network)
    check_memory(f"{place}.memory", stream)


def _check_size(place: str, stream: Stream) -> None:
    """Refuse what would not fit a small machine before any of it is taken."""
    d, network = stream.downsample, stream.network
    below = stream.planes * -(-stream.width // d) * -(-stream.height // d)
    for k, layer in enumerate(network.layers):
        n_bytes = 4 * (below + layer.recurrent * layer.neurons) * layer.neurons
        if n_bytes > MAX_ARRAY_BYTES:
            raise ConfigError(
                f"{place}.network.layers[{k}].neurons: {layer.neurons} neurons on {below} channels take "
                f"{n_bytes / 1e9:.1f} GB of weights; at most {MAX_ARRAY_BYTES / 1e9:.1f}: fewer neurons, or a larger "
                f"{place}.downsample than {d}"
            )
        below = layer.neurons
    _check_influence(place, stream)
    features = below * len(network.trace_ms)
    if network.head == "discriminant" and 4 * features**2 > MAX_ARRAY_BYTES:
        raise ConfigError(
            f"{place}.network.trace_ms: {len(network.trace_ms)} traces of {below} neurons are {features} features; the "
            f"discriminant takes {4 * features**2 / 1e9:.1f} GB; at most {MAX_ARRAY_BYTES / 1e9:.1f}: fewer of either"
        )


def _check_influence(place: str, stream: Stream) -> None:
    """Refuse a full influence matrix that is larger than allowed; what a sparse one takes is known when it is drawn."""
    learning, layer, d = stream.learning, stream.network.layers[0], stream.downsample
    if learning.rule != "rtrl" or not layer.recurrent or learning.sparse_steps:
        return
    n, n_in = layer.neurons, stream.planes * -(-stream.width // d) * -(-stream.height // d)
    components = 1 + (layer.adaptive is not None) + (layer.tau_syn_ms > 0)
    needed_mb = 4 * n * n * (n + n_in) * components / 1e6
    if needed_mb > learning.influence_mb:
        raise ConfigError(
            f"{place}.network.layers[0].neurons: {n}; the influence of {n * (n + n_in)} weights on {n} neurons takes "
            f"{needed_mb:.0f} MB, at most learning.influence_mb, {learning.influence_mb:g}: fewer neurons, "
            'sparse_steps, or rule = "eprop"'
        )


def _check_network(place: str, network: Network) -> None:
    for k, layer in enumerate(network.layers):
        for name in ("tau_mem_ms", "delay_ms"):
            bounds = getattr(layer, name)
            if isinstance(bounds, list) and bounds[0] > bounds[1]:
                raise ConfigError(f"{place}.layers[{k}].{name}: {bounds}; the smaller bound first")
        if layer.weights == "edges" and k > 0:
            raise ConfigError(f'{place}.layers[{k}].weights: "edges" look at the sensor; layers above take "dense"')
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
