"""Where predictions leave: an XPUB socket that never blocks, and counts what a slow subscriber did not get."""

from __future__ import annotations

import contextlib

import zmq

from spiked.io.endpoint import bind
from spiked.io.gate import Gate

MAX_TOPIC_BYTES = 1024
"""Longest frame taken from a subscriber: a topic, or a step of the handshake."""
MAX_ASKED = 256
"""Subscriptions that one connection may make and end; one that goes on is disconnected, and may come again."""
ASKED_A_TURN = 64


class Sink:
    """The predictions' socket. One thread owns it.

    Attributes
    ----------
    subscribers : subscriptions at present.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, queue: int, gate: Gate | None = None
    ) -> None:
        self.socket = context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.LINGER, 200)
        self.socket.setsockopt(zmq.SNDHWM, queue)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_TOPIC_BYTES)
        self.socket.setsockopt(zmq.XPUB_NODROP, 1)  # tells when a subscriber is full, instead of dropping in silence
        self.socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self.subscribers = 0
        self._gate = gate
        bind(self.socket, endpoint, gate)

    def follow_subscriptions(self) -> None:
        """Take note of who came and went, and cut off who asks for more than anybody needs."""
        for _ in range(ASKED_A_TURN):  # then messages have their turn
            try:
                said = self.socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            first = said.bytes[:1]
            if first in (b"\0", b"\1"):
                self.subscribers = max(0, self.subscribers + (1 if first == b"\1" else -1))
            if self._gate is not None and (connection := self._gate.of(said)):
                connection.heard = True
                connection.asked += 1
                if connection.asked == MAX_ASKED:
                    self._gate.cut(said.get(zmq.SRCFD), "flood")

    def send(self, stream: str, payload: bytes) -> bool:
        """Publish; False where some subscriber was full and missed it. The others get it all the same."""
        frames = [f"{stream}/".encode(), payload]
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
            return True
        except zmq.Again:
            pass
        self.socket.setsockopt(zmq.XPUB_NODROP, 0)
        with contextlib.suppress(zmq.Again):
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        self.socket.setsockopt(zmq.XPUB_NODROP, 1)
        return False

    def close(self) -> None:
        """Close the socket; what it still holds has 0.2 s to leave."""
        if self._gate is not None:
            self._gate.detach()
        self.socket.close()
