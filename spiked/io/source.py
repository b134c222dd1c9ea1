"""Where messages come in: a PULL socket (a full daemon slows its sender) or SUB (it loses, and counts by the gaps)."""

from __future__ import annotations

import zmq

from spiked.io.endpoint import bind
from spiked.io.gate import Gate, user_of

MAX_FRAMES = 4
"""Frames kept of one message; a fourth is enough to know that it is not one of ours."""
FRAMES_COPIED = 2
"""Topic and header are small; what follows is read where ZeroMQ received it."""


class Source:
    """The ingest socket. One thread owns it.

    Parameters
    ----------
    context : of the process.
    endpoint : where to bind.
    mode : ``"pull"`` or ``"sub"``.
    streams : ids to subscribe to, in ``"sub"`` mode.
    max_bytes : longest frame taken; a peer that sends a longer one is cut off before memory is spent on it.
    queue : messages that may wait in the socket, for each sender.
    gate : looks after its connections.

    Attributes
    ----------
    user : name of the client that sent the message taken last; None where the socket is not encrypted.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, mode: str, streams: list[str], max_bytes: int,
        queue: int, gate: Gate | None = None,
    ) -> None:  # fmt: skip
        self.user: str | None = None
        self._gate, self._named = gate, gate is not None and gate.curve
        self.socket = context.socket(zmq.PULL if mode == "pull" else zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, queue)
        self.socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
        if mode == "sub":
            for stream in streams:
                self.socket.setsockopt_string(zmq.SUBSCRIBE, f"{stream}/")
        bind(self.socket, endpoint, gate)

    def receive(self) -> list[bytes | memoryview] | None:
        """Take the next message's frames, at most `MAX_FRAMES` of them; None where none waits."""
        try:
            frames: list[bytes | memoryview] = [self.socket.recv(zmq.NOBLOCK)]
        except zmq.Again:
            return None
        last: zmq.Frame | None = None
        while self.socket.getsockopt(zmq.RCVMORE):
            if len(frames) < FRAMES_COPIED:
                frames.append(self.socket.recv())
                continue
            last = self.socket.recv(copy=False)
            if len(frames) < MAX_FRAMES:
                frames.append(last.buffer)
        if self._named:
            self.user = "" if last is None else user_of(last)
        if self._gate is not None and self._gate.watching and last is not None:
            self._gate.heard(last)
        return frames

    def close(self) -> None:
        """Close the socket."""
        if self._gate is not None:
            self._gate.detach()
        self.socket.close()
