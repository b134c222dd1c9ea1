"""The client side of the daemon's sockets, for the commands that speak to one."""

from __future__ import annotations

from typing import Any

import msgspec
import zmq

from spiked.service.cli_errors import RunError, UsageError


def connect(kind: int, endpoint: str) -> zmq.Socket[bytes]:
    """Connect a socket to an endpoint; an endpoint that cannot be one is wrong usage."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise UsageError(f"{endpoint!r} is no endpoint ({error.strerror}); like tcp://127.0.0.1:5570") from None
    return socket


def wait_readable(socket: zmq.Socket[bytes], timeout_ms: int = 200) -> bool:
    """Wait in short turns, so that Ctrl-C is heard."""
    return bool(socket.poll(timeout_ms))


def request(endpoint: str, what: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Ask the control socket, and return its answer."""
    socket = connect(zmq.REQ, endpoint)
    try:
        socket.send(msgspec.json.encode(what))
        if not socket.poll(int(timeout_s * 1000)):
            raise RunError(f"{endpoint}: no answer within {timeout_s:g} s; is the daemon running?")
        answer: dict[str, Any] = msgspec.json.decode(socket.recv())
        return answer
    finally:
        socket.close()
