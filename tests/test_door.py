"""The door in one process: what it hears and does, and what happens where nobody answers."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq
from live import free_ports, wait_for

from spiked.io.door import Door, no_refusals
from spiked.io.endpoint import bind
from spiked.io.gate import Gate
from spiked.io.keys import Keyring, Keys, new_keys
from spiked.io.source import Source

SERVER = new_keys()
CAM = new_keys(SERVER.public)


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    (tmp_path / "cam.toml").write_text(f'public_key = "{CAM.public.decode()}"\nroles = ["send"]\n')
    return Keyring(tmp_path)


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = zmq.Context()
    yield context
    context.destroy(0)


def client(context: zmq.Context[zmq.Socket[bytes]], kind: int, endpoint: str, keys: Keys = CAM) -> zmq.Socket[bytes]:
    s = context.socket(kind)
    s.setsockopt(zmq.LINGER, 0)
    s.curve_publickey, s.curve_secretkey, s.curve_serverkey = keys.public, keys.secret, keys.server
    s.connect(endpoint)
    return s


@pytest.mark.parametrize("mode", ["pull", "sub"])
def test_every_message_says_who_sent_it(context: zmq.Context[zmq.Socket[bytes]], ring: Keyring, mode: str) -> None:
    door, (port,) = Door(context, no_refusals(), SERVER, ring), free_ports(1)
    gate, endpoint = door.gate("ingest", 4, 1 << 20), f"tcp://127.0.0.1:{port}"
    source = Source(context, endpoint, mode, ["cam0"], 1 << 20, 2, gate)
    with ExitStack() as stack:
        stack.callback(door.close)
        stack.callback(source.close)
        sender = stack.enter_context(client(context, zmq.PUSH if mode == "pull" else zmq.XPUB, endpoint))
        if mode == "sub":
            # a socket of ZeroMQ's says what it subscribes to when its owner looks after it
            wait_for(lambda: source.receive() or sender.poll(10), "the subscription has come")
            assert sender.recv() == b"\x01cam0/"
        for frames in ([b"cam0/", b"header", b"payload"], [b"cam0/", b"header"], [b"cam0/"], [b"cam0/", *[b"x"] * 50]):
            sender.send_multipart(frames)
            assert source.socket.poll(10_000)
            taken = source.receive()
            assert taken is not None and [bytes(f) for f in taken] == frames[:4]
            # of a message that lacks its payload nobody asks: it is refused as one
            assert source.user == ("cam" if len(frames) > 2 else "")
        assert door.connections() == {"ingest": 1}


def test_where_nobody_answers_nobody_comes_in(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    refused, adopted = no_refusals(), []

    def count(socket: str, reason: str) -> None:
        refused[socket, reason] += 1

    def adopt(gate: Gate, pair: zmq.Socket[Any]) -> None:
        adopted.append(pair)

    gate, (port,) = Gate("ingest", 4, 1 << 20, count, adopt, SERVER.secret), free_ports(1)
    with context.socket(zmq.PULL) as server:
        bind(server, f"tcp://127.0.0.1:{port}", gate)
        with client(context, zmq.PUSH, f"tcp://127.0.0.1:{port}") as sender, adopted[0] as monitor:
            sender.send(b"x")
            seen: set[int] = set()
            while not seen & {zmq.EVENT_DISCONNECTED}:
                assert monitor.poll(10_000)
                event, _ = struct.unpack("=HI", monitor.recv_multipart()[0])
                seen.add(event)
            assert zmq.EVENT_HANDSHAKE_SUCCEEDED not in seen and not server.poll(100)
            gate.detach()


def heard(gate: Gate, *events: tuple[int, int]) -> None:
    for event, value in events:
        gate.follow(event, value)


@pytest.fixture
def counted() -> dict[str, int]:
    return {}


@pytest.fixture
def gate(counted: dict[str, int]) -> Gate:
    def count(socket: str, reason: str) -> None:
        counted[reason] = counted.get(reason, 0) + 1

    return Gate("ingest", 2, 1000, count, lambda gate, pair: None, SERVER.secret)


ACCEPTED, GONE, SHAKEN = zmq.EVENT_ACCEPTED, zmq.EVENT_DISCONNECTED, zmq.EVENT_HANDSHAKE_SUCCEEDED
PROTOCOL, LEFT = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
FAR = 1 << 20  # no descriptor of this process


def test_each_connection_is_counted_once(gate: Gate, counted: dict[str, int]) -> None:
    heard(gate, (ACCEPTED, FAR), (SHAKEN, 0), (GONE, FAR))
    assert counted == {}
    heard(gate, (ACCEPTED, FAR), (LEFT, 11), (GONE, FAR))
    assert counted == {"unfinished": 1}
    heard(gate, (ACCEPTED, FAR), (PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH), (GONE, FAR))
    heard(gate, (ACCEPTED, FAR), (PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC), (GONE, FAR))
    heard(gate, (ACCEPTED, FAR), (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400), (GONE, FAR))  # the door has counted it
    gate.look()
    assert counted == {"unfinished": 1, "plain": 1, "handshake": 1}
    heard(gate, (ACCEPTED, FAR), (ACCEPTED, FAR + 1), (ACCEPTED, FAR + 2), (LEFT, 104), (GONE, FAR + 2))
    assert counted == {"unfinished": 1, "plain": 1, "handshake": 1, "full": 1} and set(gate.open) == {FAR, FAR + 1}
    heard(gate, (SHAKEN, 0), (SHAKEN, 0), (GONE, FAR), (GONE, FAR + 1))
    gate.look()
    assert sum(counted.values()) == 4


def test_who_is_hung_up_on_without_a_word_is_counted_once_nobody_can_be_shaking_hands(
    gate: Gate, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard(gate, (ACCEPTED, FAR), (ACCEPTED, FAR + 1), (SHAKEN, 0), (GONE, FAR))  # was it this one, or is it the other?
    gate.look()
    assert counted == {}
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    gate.look()
    assert counted == {"handshake": 1}
    heard(gate, (GONE, FAR + 1))
    gate.look()
    assert counted == {"handshake": 1}


def test_another_descriptor_of_this_process_is_never_shut(gate: Gate, tmp_path: Path) -> None:
    """A number that the monitor named may have been given anew by the time it is looked at."""
    one, other = socket.socketpair()
    with one, other, (tmp_path / "x").open("w") as file:
        gate._where = 5570
        for fd in (one.fileno(), file.fileno(), FAR):
            gate.cut(fd, "flood")
        one.sendall(b"still there")
        assert other.recv(20) == b"still there"
        file.write("still there")


def test_a_ring_that_is_read_on_demand(context: zmq.Context[zmq.Socket[bytes]], ring: Keyring, tmp_path: Path) -> None:
    door = Door(context, no_refusals(), SERVER, ring)
    (tmp_path / "cam.toml").unlink()
    door.reload()
    assert ring.clients == {}
    (tmp_path / "desk.toml").write_text(f'public_key = "{CAM.public.decode()}"\nroles = ["subscribe"]\n')
    wait_for(lambda: ring.roles == {"desk": {"subscribe"}}, "it also looks by itself")
    door.close()


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:{}", "ipc://{}", "ipc://@spiked-test-{}"])
def test_one_connection_too_many_is_shut_wherever_it_came_from(
    context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path, endpoint: str
) -> None:
    (port,), refused = free_ports(1), no_refusals()
    where = endpoint.format(tmp_path / "s" if endpoint == "ipc://{}" else port)
    door = Door(context, refused)
    with ExitStack() as stack:
        stack.callback(door.close)
        source = Source(context, where, "pull", [], 1 << 20, 2, door.gate("ingest", 2, 1 << 20))
        stack.callback(source.close)
        senders = [stack.enter_context(context.socket(zmq.PUSH)) for _ in range(3)]
        for s in senders:
            s.setsockopt(zmq.LINGER, 0)
            s.connect(where)
        wait_for(lambda: source.receive() or refused["ingest", "full"], "one of three is refused")
        wait_for(lambda: door.connections()["ingest"] == 2, "two stay")
