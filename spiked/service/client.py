"""The client side of the daemon's sockets, for the commands that speak to one."""

from __future__ import annotations

import re
import sys
import time
from typing import Any

import msgspec
import zmq

from spiked.service.cli_errors import RunError, UsageError

PATIENCE_S = 2.0
"""A command that waits for a daemon for so long says that it does."""


def connect(kind: int, endpoint: str, options: dict[int, int] | None = None) -> zmq.Socket[bytes]:
    """Connect a socket to an endpoint; an endpoint that cannot be one is wrong usage."""
    port = re.fullmatch(r"tcp://.+:(\d+)", endpoint)
    if port and not 0 < int(port[1]) <= 65535:
        raise UsageError(f"{endpoint!r}: port {port[1]}; 1 to 65535")
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    for option, value in {zmq.LINGER: 0, **(options or {})}.items():
        socket.setsockopt(option, value)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise UsageError(f"{endpoint!r} is no endpoint ({error.strerror}); like tcp://127.0.0.1:5570") from None
    return socket


def wait_readable(socket: zmq.Socket[bytes], timeout_ms: int = 200) -> bool:
    """Wait in short turns, so that Ctrl-C is heard."""
    return bool(socket.poll(timeout_ms))


class Patience:
    """Says once, on standard error, that nobody answers; `tick` while waiting, `done` when somebody does."""

    def __init__(self, command: str, endpoint: str) -> None:
        self._text = f"spiked {command}: waiting for a daemon at {endpoint}"
        self._until = time.monotonic() + PATIENCE_S

    def tick(self) -> None:
        """Count the time that passes in vain."""
        if time.monotonic() > self._until:
            self.done()
            print(self._text, file=sys.stderr, flush=True)

    def done(self) -> None:
        """Say nothing from here on."""
        self._until = float("inf")


def request(endpoint: str, what: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Ask the control socket, and return its answer."""
    if not 0 < timeout_s < 1e6:
        raise UsageError(f"--timeout: {timeout_s:g}; more than 0, in seconds")
    try:
        body = msgspec.json.encode(what)
    except UnicodeEncodeError:
        raise UsageError("an argument is not valid text in UTF-8") from None
    socket = connect(zmq.REQ, endpoint)
    try:
        socket.send(body)
        if not socket.poll(int(timeout_s * 1000)):
            raise RunError(f"{endpoint}: no answer within {timeout_s:g} s; is the daemon running?")
        answer: dict[str, Any] = msgspec.json.decode(socket.recv())
        return answer
    finally:
        socket.close()
