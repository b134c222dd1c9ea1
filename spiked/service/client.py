"""The client side of the daemon's sockets, for the commands that speak to one."""

from __future__ import annotations

import itertools
import re
import sys
import time
from typing import Any

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from spiked.io.keys import KeyFileError, load_client
from spiked.service.cli_errors import RunError, UsageError

PATIENCE_S = 2.0
"""A command that waits for a daemon for so long says that it does."""


_numbers = itertools.count()
REFUSED = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


def connect(
    kind: int, endpoint: str, keys: str | None = None, options: dict[int, int] | None = None
) -> zmq.Socket[bytes]:
    """Connect a socket to an endpoint, encrypted where there are `keys` (a file); wrong usage is told."""
    port = re.fullmatch(r"tcp://.+:(\d+)", endpoint)
    if port and not 0 < int(port[1]) <= 65535:
        raise UsageError(f"{endpoint!r}: port {port[1]}; 1 to 65535")
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    for option, value in {zmq.LINGER: 0, **(options or {})}.items():
        socket.setsockopt(option, value)
    if keys is not None:
        try:
            pair = load_client(keys)
        except KeyFileError as error:
            raise UsageError(f"--keys: {error}") from None
        socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = pair.public, pair.secret, pair.server
    try:
        socket.get_monitor_socket(REFUSED, f"inproc://refused-{next(_numbers)}")
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise UsageError(f"{endpoint!r} is no endpoint ({error.strerror}); like tcp://127.0.0.1:5570") from None
    return socket


def refusal(socket: zmq.Socket[bytes], keys: str | None) -> str:
    """Why the daemon does not let us in, if it said so; asked now and then while we wait."""
    monitor = socket.get_monitor_socket()
    said = ""
    while monitor.poll(0):
        event = recv_monitor_message(monitor)
        mismatch = event["value"] == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
        if event["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            said = f"it does not know the key in {keys}, or that key's roles are for other sockets"
        elif event["event"] == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and mismatch:
            said = "it is encrypted: use --keys FILE" if keys is None else "it is not encrypted: leave out --keys"
        elif not said:
            said = "it hangs up: " + (
                "if it is encrypted, use --keys FILE" if keys is None else f"is server_key in {keys} that daemon's?"
            )
    return said


def wait_readable(socket: zmq.Socket[bytes], timeout_ms: int = 200) -> bool:
    """Wait in short turns, so that Ctrl-C is heard."""
    return bool(socket.poll(timeout_ms))


class Patience:
    """Says once, on standard error, that nobody answers, or that the daemon refuses us, and why.

    `tick` while waiting, `done` when somebody answers.
    """

    def __init__(self, command: str, endpoint: str, socket: zmq.Socket[bytes], keys: str | None) -> None:
        self._command, self._endpoint, self._socket, self._keys = command, endpoint, socket, keys
        self._until = time.monotonic() + PATIENCE_S
        self._refused = ""

    def tick(self) -> None:
        """Count the time that passes in vain."""
        why = refusal(self._socket, self._keys)
        if why and not self._refused:
            self._say(f"the daemon at {self._endpoint} refuses us: {why}")
            self._refused = why
            self.done()
        elif time.monotonic() > self._until:
            self.done()
            self._say(f"waiting for a daemon at {self._endpoint}")

    def _say(self, what: str) -> None:
        print(f"spiked {self._command}: {what}", file=sys.stderr, flush=True)

    def done(self) -> None:
        """Say nothing from here on."""
        self._until = float("inf")


def request(endpoint: str, what: dict[str, Any], timeout_s: float, keys: str | None = None) -> dict[str, Any]:
    """Ask the control socket, and return its answer."""
    if not 0 < timeout_s < 1e6:
        raise UsageError(f"--timeout: {timeout_s:g}; more than 0, in seconds")
    try:
        body = msgspec.json.encode(what)
    except UnicodeEncodeError:
        raise UsageError("an argument is not valid text in UTF-8") from None
    socket = connect(zmq.REQ, endpoint, keys)
    try:
        socket.send(body)
        if not socket.poll(int(timeout_s * 1000)):
            why = refusal(socket, keys)
            raise RunError(f"{endpoint}: no answer within {timeout_s:g} s; {why or 'is the daemon running?'}")
        answer: dict[str, Any] = msgspec.json.decode(socket.recv())
        return answer
    finally:
        socket.disable_monitor()
        socket.close()
