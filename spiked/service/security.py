"""From the configuration to the door: keys, and how much each socket takes from how many."""

from __future__ import annotations

import resource
from typing import Any

import zmq

from spiked.io.door import Counts, Door
from spiked.io.gate import Gate
from spiked.io.keys import KeyFileError, Keyring, load_server
from spiked.service.config import Config, ConfigError, Ingest
from spiked.service.control import MAX_REQUEST_BYTES

SMALL_BYTES = 4 * MAX_REQUEST_BYTES
"""What a client of control, or of predictions, may bring without a whole message."""
LEAST_QUEUE = 2
"""Messages; of an encrypted sender libzmq 4.3 counts one that is none, and with 1 nothing would ever come."""
SLACK_BYTES = 1_000_000
OWN_FILES = 256
"""Descriptors beside those of connections: checkpoints, libraries, and connections that are about to be refused."""


def load_keys(config: Config) -> tuple[Any, Keyring | None]:
    """The server's keys and the clients', or None and None where nothing is encrypted.

    Raises
    ------
    ConfigError : a file that cannot be used.
    """
    security = config.security
    if not security.curve:
        return None, None
    try:
        place = "server_secret_key_file"
        keys = load_server(security.server_secret_key_file)
        place = "authorized_keys_dir"
        return keys, Keyring(security.authorized_keys_dir)
    except KeyFileError as error:
        raise ConfigError(f"security.{place}: {error}") from None


def open_door(config: Config, context: zmq.Context[zmq.Socket[bytes]], refused: Counts) -> Door:
    """The door of a daemon, with the keys that its configuration names, and room for all whom it lets in."""
    make_room(config)
    return Door(context, refused, *load_keys(config))


def ingest_gate(door: Door, ingest: Ingest) -> Gate:
    """The gate of the ingest socket: a sender may have a queue in ZeroMQ, and the message that it is sending."""
    waiting_mb = max(ingest.queue_mb, (LEAST_QUEUE + 1) * ingest.max_message_mb)
    return door.gate("ingest", ingest.max_connections, int(waiting_mb * 1e6) + SLACK_BYTES)


def queue_length(ingest: Ingest) -> int:
    """Messages that may wait for each sender: ZeroMQ counts messages, not bytes, so the longest is assumed."""
    by_size = int(ingest.queue_mb / ingest.max_message_mb) - 1  # one more is on its way in
    return max(LEAST_QUEUE, min(ingest.queue_messages, by_size))


def make_room(config: Config) -> None:
    """Have enough descriptors for all connections at once: who can connect must not keep checkpoints from the disk."""
    sections = config.ingest, config.predictions, config.control, config.metrics
    needed = OWN_FILES + sum(s.max_connections for s in sections)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigError(
            f"ingest.max_connections: with those of predictions, control and metrics {needed} descriptors are needed; "
            f"this system allows {hard}"
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
