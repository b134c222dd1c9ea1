"""What a hostile peer does, in raw bytes: ZeroMQ's own clients are too polite for it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import zmq

GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)
OLDER = b"\xff\0\0\0\0\0\0\0\1\x7f\x01\x08\x00\x00" + b"\x00\x03abc"  # ZMTP 2.0, a PUSH socket, and a message
OLDEST = b"\x01\x00\x04\x00abc"  # ZMTP 1.0: no greeting at all


def dial(endpoint: str, first: bytes = b"") -> socket.socket:
    """A TCP connection, and the first bytes that it brings."""
    url = urlsplit(endpoint)
    s = socket.create_connection((url.hostname or "", url.port or 0), timeout=10)
    s.sendall(first)
    return s


def shake(endpoint: str, kind: bytes) -> socket.socket:
    """A plain connection as a socket of `kind`, past its handshake."""
    said = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    s = dial(endpoint, GREETING + b"\x04" + bytes([len(said)]) + said)
    got = b""
    while b"READY" not in got:
        piece = s.recv(4096)
        assert piece, "it hung up"
        got += piece
    return s


def ended(s: socket.socket) -> bool:
    """Whether the other side has ended the connection."""
    s.settimeout(0.05)
    try:
        while s.recv(65536):
            pass
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


def pour(s: socket.socket, piece: bytes, seconds: float, most: int = 1 << 40) -> int:
    """Send a piece again and again, until time, bytes or the connection end; returns how many bytes went."""
    end, sent = time.monotonic() + seconds, 0
    s.settimeout(1.0)
    with contextlib.suppress(OSError):
        while time.monotonic() < end and sent < most:
            sent += s.send(piece)
    return sent


def endless_frames(endpoint: str, kind: bytes, size: int, seconds: float) -> int:
    """One message whose frames never end; returns the bytes that were taken."""
    more = b"\x01" + bytes([size]) if size < 256 else b"\x03" + size.to_bytes(8, "big")
    with shake(endpoint, kind) as s:
        return pour(s, (more + bytes(size)) * max(1, 60_000 // (size + 9)), seconds)


def subscribe_to_everything(endpoint: str, seconds: float, length: int = 200) -> int:
    """Other topics without end; returns the bytes that were taken."""
    n, end, sent = 0, time.monotonic() + seconds, 0
    with shake(endpoint, b"SUB") as s, contextlib.suppress(OSError):
        s.settimeout(1.0)
        while time.monotonic() < end:
            topics = [b"%0*d" % (length, n + k) for k in range(200)]
            n += 200
            block = b"".join(b"\x00" + bytes([len(t) + 1]) + b"\x01" + t for t in topics)
            s.sendall(block)
            sent += len(block)
    return sent


def ask_without_end(endpoint: str, seconds: float, over: threading.Event | None = None) -> int:
    """Requests for the status, without waiting for an answer, until time or `over`; returns how many answers came."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as s:
        s.setsockopt(zmq.LINGER, 0)
        s.connect(endpoint)
        end, answers = time.monotonic() + seconds, 0
        while time.monotonic() < end and not (over and over.is_set()):
            with contextlib.suppress(zmq.Again):
                s.send_multipart([b"", b'{"do":"status"}'], zmq.NOBLOCK)
            with contextlib.suppress(zmq.Again):
                s.recv_multipart(zmq.NOBLOCK)
                answers += 1
        return answers


@contextlib.contextmanager
def crowd(endpoint: str, n: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections that stay."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(dial(endpoint, first)) for _ in range(n)]


def come_and_go(endpoint: str, seconds: float) -> int:
    """Connect and hang up as fast as it goes; returns how often."""
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            dial(endpoint).close()
            n += 1
    return n
