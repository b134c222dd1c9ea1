"""Binding a socket, with an error that says which endpoint and why."""

from __future__ import annotations

from typing import Any

import zmq


class EndpointError(OSError):
    """An endpoint that cannot be bound."""


def bind(socket: zmq.Socket[Any], endpoint: str) -> None:
    """Bind, or raise `EndpointError` naming the endpoint."""
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close(0)
        raise EndpointError(f"{endpoint}: cannot listen there: {zmq.strerror(error.errno or 0)}") from None
