"""Binding a socket, with an error that says which endpoint and why."""

from __future__ import annotations

import contextlib
import os
import socket as sockets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import zmq


class EndpointError(OSError):
    """An endpoint that cannot be bound."""


class Guard(Protocol):
    """What looks after a socket: sets it up before it listens."""

    def attach(self, socket: zmq.Socket[Any], endpoint: str) -> None:
        """Set `socket` up, before it listens at `endpoint`."""
        ...


def bind(socket: zmq.Socket[Any], endpoint: str, guard: Guard | None = None) -> None:
    """Bind, or raise `EndpointError` naming the endpoint. Of an ipc endpoint, only this user can connect."""
    try:
        if endpoint.startswith("tcp://["):
            socket.setsockopt(zmq.IPV6, 1)
        if guard is not None:
            guard.attach(socket, endpoint)
        with _private(endpoint):
            socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close(0)
        raise EndpointError(f"{endpoint}: cannot listen there: {zmq.strerror(error.errno or 0)}") from None
    except OSError as error:
        socket.close(0)
        raise EndpointError(f"{endpoint}: cannot listen there: {error.strerror or error}") from None


@contextlib.contextmanager
def _private(endpoint: str) -> Iterator[None]:
    """Let a socket in the file system belong to this user alone.

    ZeroMQ deletes what lies at the path, whatever it is: so first it must be nothing, or what a daemon that has died
    left behind.
    """
    if not endpoint.startswith("ipc://") or endpoint.startswith("ipc://@"):
        yield
        return
    path = Path(endpoint.removeprefix("ipc://"))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(0, "something else than a socket lies there")
        with sockets.socket(sockets.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
            probe.settimeout(1)
            probe.connect(str(path))
            raise OSError(0, "Address already in use")
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
