"""One listening socket's connections: how many there are, how they shake hands, and what each has sent.

ZeroMQ bounds neither how many connect nor what one peer makes it hold: a message of endless frames is kept until it
ends, and does not count for the high-water mark. So a gate follows the socket's monitor, asks the kernel how many bytes
each connection has brought, and shuts the connection down where it is too much. What a connection may bring is counted
from the last whole message that the daemon took from it; to keep the usual path free of this, the daemon is asked to
say whose messages it takes only while a connection is under suspicion (`watching`). A frame of no bytes takes two on
the wire and 64 in memory: where the process grows by far more than was brought, suspicion begins early (`swells`).

Bytes are counted for tcp alone. An ipc endpoint is for this user's own processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket as sockets
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

import zmq

HANDSHAKE_S = 5.0
"""Who has not shaken hands by then is disconnected."""
EVENTS = (
    zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)  # fmt: skip
REASONS = ("plain", "handshake", "unfinished", "key", "role", "full", "flood")
"""Why a connection can be refused: no encryption where it is asked for; a handshake that failed (another server's key,
or no ZeroMQ) or ended before it was done; a key that is not on the list, or not for this socket; one more than
`max_connections`; more than may wait."""
SUSPECT_BYTES = 500_000
"""What one may bring before the daemon is asked whose messages it takes."""
SWELLING_BYTES = 100_000
"""What one may bring without a message that is taken, while the process swells."""
_RECEIVED_AT = 128  # tcpi_bytes_received in the kernel's struct tcp_info


class Connection:
    """What is known of one.

    Attributes
    ----------
    since : when it came, on the monotonic clock.
    brought : bytes, at the last look.
    base : bytes that it had brought when it last was beyond suspicion.
    heard : whether a message of it was taken since then.
    asked : subscriptions that it made and ended.
    """

    __slots__ = ("asked", "base", "brought", "heard", "marked", "since")

    def __init__(self, now: float) -> None:
        self.since, self.base, self.brought, self.asked = now, 0, 0, 0
        self.heard = self.marked = False


class Gate:
    """Looks after one listening socket. Its thread is the door's; `heard` and `ask` are for the socket's owner.

    Parameters
    ----------
    name : of the socket, as metrics call it.
    most : connections at a time.
    quota : bytes that one may bring without a message that is taken.
    count : is told the reason of each refusal.
    adopt : is handed the monitor's socket.
    secret : the server's secret key, where the socket is encrypted.
    always : whether every message is told by `heard`, so that nobody needs to be suspected first.
    """

    def __init__(
        self, name: str, most: int, quota: int, count: Callable[[str, str], None],
        adopt: Callable[[Gate, zmq.Socket[Any]], None], secret: bytes = b"", always: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.most, self.quota, self.curve, self.always = name, most, quota, bool(secret), always
        self.open: dict[int, Connection] = {}
        self.watching, self.newest = False, 0.0
        self._count, self._adopt, self._secret = count, adopt, secret
        self._cut: set[int] = set()
        self._left = False
        self._accepted = self._shaken = self._unseen = 0
        self._socket: zmq.Socket[Any] | None = None
        self._where: str | int = 0

    def attach(self, socket: zmq.Socket[Any], endpoint: str) -> None:
        """Set `socket` up before it listens: its monitor, its patience, and its encryption where there is one."""
        self._socket = socket
        self._where = int(endpoint.rpartition(":")[2]) if endpoint.startswith("tcp") else endpoint
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_S * 1000))
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)  # a peer that lost its power gives its place free
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 60)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 20)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
        if self._secret:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret)
            socket.setsockopt(zmq.ZAP_DOMAIN, self.name.encode())
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without an answer from the door nobody comes in
        address = f"inproc://monitor-{self.name}"
        socket.monitor(address, EVENTS)
        pair = socket.context.socket(zmq.PAIR)
        pair.setsockopt(zmq.LINGER, 0)
        pair.connect(address)
        self._adopt(self, pair)

    def detach(self) -> None:
        """Follow the socket no more; before it is closed, by its owner."""
        if self._socket is not None:
            self._socket.monitor(None, 0)
            self._socket = None

    def heard(self, frame: zmq.Frame) -> None:
        """Take note that a whole message came, whose last frame this is."""
        if connection := self.of(frame):
            connection.heard = True

    def of(self, frame: zmq.Frame) -> Connection | None:
        """The connection that a frame came by, if it is still there."""
        try:
            return self.open.get(frame.get(zmq.SRCFD))
        except zmq.ZMQError:
            return None

    def cut(self, fd: int, reason: str) -> None:
        """Shut a connection down, and count why, once."""
        if fd in self._cut:
            return
        self._cut.add(fd)
        self._count(self.name, reason)
        self._shut(fd)

    def drop_all(self) -> None:
        """Shut every connection down: who is still welcome comes again."""
        for fd in list(self.open):
            self._shut(fd)

    def follow(self, event: int, value: int) -> None:
        """Take in what the socket's monitor says."""
        now = time.monotonic()
        if event == zmq.EVENT_ACCEPTED:
            self._cut.discard(value)
            if len(self.open) >= self.most:
                self.cut(value, "full")
                return
            self._accepted += 1
            self.open[value] = Connection(now)
            self.newest = now
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._shaken += 1
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._shaken += 1
            mismatch = value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
            self._count(self.name, "plain" if mismatch and self.curve else "handshake")
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:  # the door refused it, and has counted why
            self._shaken += 1
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._left = True  # the end of this connection comes next
        elif event == zmq.EVENT_DISCONNECTED:
            left, self._left = self._left, False
            known = self.open.pop(value, None) is not None
            if left and known:
                self._shaken += 1
                if value not in self._cut:
                    self._count(self.name, "unfinished")
            self._cut.discard(value)

    @property
    def unheard(self) -> int:
        """Bytes that were brought without a message that was taken, at the last look."""
        return sum(c.brought - c.base for c in self.open.values())

    def look(self, swells: bool = False) -> None:
        """Look at what every connection has brought, and at handshakes that failed without a word."""
        now = time.monotonic()
        if self.curve:  # who speaks an older protocol, or none, is hung up on in silence
            young = sum(now - c.since < 2 * HANDSHAKE_S for c in self.open.values())
            while self._accepted - self._shaken - self._unseen > young:
                self._unseen += 1
                self._count(self.name, "handshake")
        watch, quota = False, min(self.quota, SWELLING_BYTES) if swells else self.quota
        for fd, connection in list(self.open.items()):
            connection.brought = brought = self._brought(fd)
            if connection.heard:
                connection.heard = connection.marked = False
                connection.base = brought
            elif (connection.marked or self.always) and brought - connection.base > quota:
                self.cut(fd, "flood")
            elif not connection.marked and brought - connection.base > min(SUSPECT_BYTES, quota // 2):
                connection.marked, connection.base = True, brought
            watch |= connection.marked
        self.watching = watch

    def _brought(self, fd: int) -> int:
        """Bytes that ZeroMQ has taken from a connection; 0 where nobody counts."""
        if isinstance(self._where, str) or not sys.platform.startswith("linux"):
            return 0
        with contextlib.suppress(OSError), _borrowed(fd) as s:
            info = s.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, 256)
            waiting = int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), "little")
            if len(info) >= _RECEIVED_AT + 8:
                return int(struct.unpack_from("<Q", info, _RECEIVED_AT)[0]) - waiting
        return 0

    def _shut(self, fd: int) -> None:
        """End a connection as its peer would. Its number may be another's by now: then it stands elsewhere."""
        with contextlib.suppress(OSError), _borrowed(fd) as s:
            here = s.getsockname()
            if isinstance(here, bytes):  # one without a file
                here = "@" + here[1:].decode(errors="replace")
            if (here[1] if isinstance(here, tuple) else f"ipc://{here}") == self._where:
                s.shutdown(sockets.SHUT_RDWR)


def user_of(frame: zmq.Frame) -> str:
    """Name of the client that sent a frame, as the door gave it; empty where it is not known."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


class _borrowed:
    """A descriptor of ZeroMQ's, as a socket that is not closed afterwards."""

    def __init__(self, fd: int) -> None:
        self._socket = sockets.socket(fileno=fd)

    def __enter__(self) -> sockets.socket:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.detach()
