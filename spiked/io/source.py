"""Where messages come in: a PULL socket (a full daemon slows its sender) or SUB (it loses, and counts by the gaps)."""

from __future__ import annotations

import zmq

from spiked.io.endpoint import bind

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
    queue : messages that may wait in the socket.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, mode: str, streams: list[str], max_bytes: int,
        queue: int,
    ) -> None:  # fmt: skip
        self.socket = context.socket(zmq.PULL if mode == "pull" else zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, queue)
        self.socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
        if mode == "sub":
            for stream in streams:
                self.socket.setsockopt_string(zmq.SUBSCRIBE, f"{stream}/")
        bind(self.socket, endpoint)

    def receive(self) -> list[bytes | memoryview] | None:
        """Take the next message's frames, at most `MAX_FRAMES` of them; None where none waits."""
        try:
            frames: list[bytes | memoryview] = [self.socket.recv(zmq.NOBLOCK)]
        except zmq.Again:
            return None
        while self.socket.getsockopt(zmq.RCVMORE):
            frame = self.socket.recv() if len(frames) < FRAMES_COPIED else self.socket.recv(copy=False).buffer
            if len(frames) < MAX_FRAMES:
                frames.append(frame)
        return frames

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
