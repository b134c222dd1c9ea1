"""Where predictions leave: an XPUB socket that never blocks, and counts what a slow subscriber did not get."""

from __future__ import annotations

import contextlib

import zmq

from spiked.io.endpoint import bind


class Sink:
    """The predictions' socket. One thread owns it.

    Attributes
    ----------
    subscribers : subscriptions at present.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, queue: int) -> None:
        self.socket = context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.LINGER, 200)
        self.socket.setsockopt(zmq.SNDHWM, queue)
        self.socket.setsockopt(zmq.XPUB_NODROP, 1)  # tells when a subscriber is full, instead of dropping in silence
        self.socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self.subscribers = 0
        bind(self.socket, endpoint)

    def follow_subscriptions(self) -> None:
        """Take note of who came and went."""
        with contextlib.suppress(zmq.Again):
            while True:
                said = self.socket.recv(zmq.NOBLOCK)
                self.subscribers = max(0, self.subscribers + (1 if said[:1] == b"\x01" else -1))

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
        self.socket.close()
