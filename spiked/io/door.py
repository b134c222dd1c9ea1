"""Who may come in: one thread that answers ZeroMQ's questions about keys, and looks after every socket's connections.

ZeroMQ asks about each client of an encrypted socket by a request on ``inproc://zeromq.zap.01`` (ZAP, its RFC 27):
domain (here the socket's name), address, public key. pyzmq's `ThreadAuthenticator` answers such requests too, but has
one list of keys for a domain, without roles, reads it only when told, and sends what it refuses to a log alone: here
one key has several roles, a file that goes takes its key along, and refusals are counted. The name that goes back
comes with every frame of that client, so roles are looked up again where messages are taken.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import resource
import socket as sockets
import struct
import threading
import time
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from spiked.io.gate import REASONS, SUSPECT_BYTES, Gate
from spiked.io.keys import Keyring, Keys

log = logging.getLogger("spiked.door")

ZAP = "inproc://zeromq.zap.01"
MAY_ENTER = {"ingest": {"send", "teach"}, "predictions": {"subscribe"}, "control": {"control"}}
"""Roles of which a client needs one, by socket."""
HURRY_S, LOOK_S = 0.03, 0.2
REREAD_S = 1.0
NEW_S = 2.0
EVENTS_A_TURN = 256
SWOLLEN_BYTES = 100_000_000
"""Growth of the process that makes the door suspicious, where it is more than its peers' bytes explain."""

Counts = dict[tuple[str, str], int]


def no_refusals() -> Counts:
    """Counts of refused connections, by socket and reason, before the first."""
    return {(name, reason): 0 for name in (*MAY_ENTER, "http") for reason in REASONS}


class Door:
    """Guards the sockets of one context.

    Parameters
    ----------
    context : of the sockets. The door is made before them and closed after them.
    refused : where refusals are counted.
    keys, keyring : the server's keys and the clients'; None where nothing is encrypted.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], refused: Counts, keys: Keys | None = None,
        keyring: Keyring | None = None,
    ) -> None:  # fmt: skip
        self.gates: dict[str, Gate] = {}
        self.refused, self.keyring = refused, keyring
        self._secret = keys.secret if keys else b""
        self._adopted: queue.SimpleQueue[tuple[Gate, zmq.Socket[Any]]] = queue.SimpleQueue()
        self._zap: zmq.Socket[bytes] | None = None
        if keyring is not None:  # before any socket listens: without it ZeroMQ would have nobody to ask
            self._zap = context.socket(zmq.REP)
            self._zap.setsockopt(zmq.LINGER, 0)
            self._zap.bind(ZAP)
        self._wake, self._woken = sockets.socketpair()
        self._woken.setblocking(False)
        self._stopping = False
        self._calm, self._faults, self._next_reading = 1 << 62, 0, 0.0
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)
        self._thread.start()

    def gate(self, name: str, most: int, quota: int, always: bool = False) -> Gate:
        """A gate for the socket `name`: at most so many connections, each with so many bytes that wait."""
        gate = self.gates[name] = Gate(name, most, quota, self.count, self._adopt, self._secret, always)
        return gate

    def count(self, socket: str, reason: str, who: str = "") -> None:
        """Count a refused connection; the 1st, 10th, 100th ... of a kind are logged."""
        n = self.refused[socket, reason] = self.refused[socket, reason] + 1
        if str(n).strip("0") == "1":
            log.warning("connection %d refused at %s: %s%s", n, socket, reason, f" ({who})" if who else "")

    def connections(self) -> dict[str, int]:
        """How many are connected, by socket."""
        return {name: len(gate.open) for name, gate in self.gates.items()}

    def reload(self) -> None:
        """Read the clients' keys again, now."""
        if self.keyring is not None:
            before = self.keyring.clients
            self.keyring.reload()
            self._follow_keys(before)

    def close(self) -> None:
        """Guard nothing any more."""
        self._stopping = True
        self._wake.send(b"x")
        self._thread.join(2)
        self._wake.close()
        self._woken.close()

    def _adopt(self, gate: Gate, pair: zmq.Socket[Any]) -> None:
        self._adopted.put((gate, pair))
        self._wake.send(b"x")

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._woken, zmq.POLLIN)
        monitors: dict[zmq.Socket[Any], Gate] = {}
        if self._zap is not None:
            poller.register(self._zap, zmq.POLLIN)
        try:
            while not self._stopping:
                ready = dict(poller.poll(int(1000 * self._pause_s())))
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(64)
                while not self._adopted.empty():
                    gate, pair = self._adopted.get()
                    monitors[pair] = gate
                    poller.register(pair, zmq.POLLIN)
                self._turn(ready, monitors)
        except zmq.ContextTerminated:
            pass
        finally:
            for socket in (*monitors, *([self._zap] if self._zap else [])):
                socket.close(0)

    def _turn(self, ready: dict[Any, int], monitors: dict[zmq.Socket[Any], Gate]) -> None:
        """One round: the clients' keys, requests about them, and what monitors say."""
        try:
            asked = self._zap is not None and self._zap in ready
            if self.keyring is not None and (asked or time.monotonic() > self._next_reading):
                self._next_reading = time.monotonic() + REREAD_S
                before = self.keyring.clients
                if self.keyring.refresh():
                    self._follow_keys(before)
            if self._zap is not None and asked:
                self._answer(self._zap)
            for pair, gate in monitors.items():
                for _ in range(EVENTS_A_TURN):
                    if pair not in ready or not pair.poll(0):
                        break
                    gate.follow(*struct.unpack("=HI", pair.recv_multipart()[0]))
            swells = self._swells()
            for gate in list(self.gates.values()):
                gate.look(swells)
        except zmq.ContextTerminated:
            raise
        except Exception:  # who stands outside stays there; those who come later must be answered
            self._faults += 1
            if str(self._faults).strip("0") == "1":
                log.exception("the door could not do its work (%d): this is a fault of spiked", self._faults)

    def _pause_s(self) -> float:
        """How long until the next look: soon where somebody has just come, or sends what nobody takes."""
        gates = list(self.gates.values())
        if any(gate.newest > time.monotonic() - NEW_S or gate.unheard > SUSPECT_BYTES for gate in gates):
            return HURRY_S
        return LOOK_S if any(gate.open for gate in gates) else REREAD_S

    def _swells(self) -> bool:
        """Whether the process has grown by more than what its peers have brought can be, wherever it lies."""
        unheard, now = sum(gate.unheard for gate in self.gates.values()), _resident()
        if unheard < SUSPECT_BYTES or now < self._calm:
            self._calm = now
        return now - self._calm > SWOLLEN_BYTES and now - self._calm > 4 * unheard

    def _answer(self, zap: zmq.Socket[bytes]) -> None:
        frames = zap.recv_multipart()
        name, good = b"", False
        if len(frames) >= 7 and frames[0] == b"1.0" and frames[5] == b"CURVE" and len(frames[6]) == 32:
            name, good = self._known(
                frames[2].decode("ascii", "replace"), frames[3].decode("ascii", "replace"), frames[6]
            )
        request = frames[1] if len(frames) > 1 else b""
        zap.send_multipart([b"1.0", request, b"200" if good else b"400", b"OK" if good else b"refused", name, b""])

    def _known(self, socket: str, address: str, key: bytes) -> tuple[bytes, bool]:
        """The client's name, if its key is on the list with a role that enters `socket`."""
        assert self.keyring is not None
        public = z85.encode(key)
        client = self.keyring.clients.get(public)
        if socket not in MAY_ENTER:
            return b"", False
        if client is None:
            self.count(socket, "key", f"public key {public.decode()} from {address}")
            return b"", False
        if not client.roles & MAY_ENTER[socket]:
            self.count(socket, "role", f"{client.name} may {', '.join(sorted(client.roles))}")
            return b"", False
        return client.name.encode(), True

    def _follow_keys(self, before: dict[bytes, Any]) -> None:
        """Say what has changed. Who was shut out of predictions must not go on listening."""
        assert self.keyring is not None
        now = self.keyring.clients
        for error in self.keyring.errors:
            log.error("keys: %s", error)
        if now != before:
            log.info("keys: %d clients are let in: %s", len(now), ", ".join(sorted(c.name for c in now.values())))
        lost = any(
            "subscribe" in c.roles and "subscribe" not in getattr(now.get(k), "roles", ()) for k, c in before.items()
        )
        if lost and "predictions" in self.gates:
            self.gates["predictions"].drop_all()


def _resident() -> int:
    """Bytes of memory that this process holds."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0
