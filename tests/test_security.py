"""An encrypted daemon from outside: who gets in, who does not, and that each refusal is counted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from live import CAM0, SPIKED, Live, drain, wait_for

from spiked.io.keys import ROLES, Keys, load_client
from spiked.io.sender import Sender

TEXT = """
[security]
curve = true
server_secret_key_file = %s
authorized_keys_dir = %s

[network]
layers = [{ neurons = 64 }]
classes = ["a", "b"]

[[stream]]
id = "cam0"
width = 34
height = 34
"""


class Town:
    """A daemon, and clients with each role; `all` has all."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authorized = folder / "keys", folder / "keys" / "authorized"
        for role in ROLES:
            self.admit(role, role)
        self.admit("all", ",".join(ROLES))
        places = [json.dumps(str(p)) for p in (self.folder / "server.secret.toml", self.authorized)]
        self.live = Live(folder, TEXT % tuple(places), keys=self.keys("all"))

    def admit(self, name: str, roles: str) -> Keys:
        out = subprocess.run(
            [*SPIKED, "keys", str(self.folder), "--client", name, "--roles", roles], capture_output=True, timeout=60
        )
        assert out.returncode == 0, out.stderr
        return self.keys(name)

    def keys(self, name: str) -> Keys:
        return load_client(self.folder / f"{name}.secret.toml")

    def refused(self, where: str, reason: str) -> float:
        return self.live.metric("spiked_connections_refused_total", socket=where, reason=reason)

    def rises(self, where: str, reason: str) -> Callable[[], bool]:
        before = self.refused(where, reason)
        return lambda: self.refused(where, reason) > before


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("town"))
    with town.live:
        yield town


KINDS = {"ingest": zmq.PUSH, "predictions": zmq.SUB, "control": zmq.REQ}
ENTERS = {"ingest": {"send", "teach"}, "predictions": {"subscribe"}, "control": {"control"}}


def visit(town: Town, where: str, keys: Keys | None) -> zmq.Socket[bytes]:
    """Connect to a socket of the daemon and knock."""
    s: zmq.Socket[bytes] = town.live.context.socket(KINDS[where])
    s.setsockopt(zmq.LINGER, 0)
    if keys is not None:
        s.curve_publickey, s.curve_secretkey, s.curve_serverkey = keys.public, keys.secret, keys.server
    if where == "predictions":
        s.setsockopt(zmq.SUBSCRIBE, b"")
    s.connect(getattr(town.live, where))
    if where == "control":
        s.send(b'{"do":"status"}')
    return s


def test_everybody_with_all_roles_is_served(town: Town) -> None:
    live, sender = town.live, Sender("cam0", CAM0, epoch=1)
    subscriber, push = live.subscribe("cam0/"), live.push()
    for frames in (sender.target("a", 0, 500_000), sender.reset(0), sender.reset(500_000)):
        push.send_multipart(frames)
    said = drain(subscriber, 1)
    assert said[-1]["final"]
    assert live.wait_seq(2)["updates"] == 1
    assert live.ask(do="status")["connections"]["ingest"] == 1
    push.close()
    subscriber.close()


@pytest.mark.parametrize("where", KINDS)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_enters_its_own_socket_and_no_other(town: Town, where: str, role: str) -> None:
    if role in ENTERS[where]:

        def connected() -> int:
            return int(town.live.metric("spiked_connections", socket=where))

        before = wait_for(lambda: connected() == 0 or connected(), "connections are counted")
        with visit(town, where, town.keys(role)) as s:
            if where == "control":
                assert s.poll(10_000) and json.loads(s.recv())["ok"]
            elif where == "predictions":
                wait_for(lambda: town.live.ask(do="status")["subscribers"] >= 1, "the subscription has arrived")
            else:
                wait_for(lambda: connected() >= 1, "the sender is connected")
        assert before
        return
    counted = town.rises(where, "role")
    with visit(town, where, town.keys(role)) as s:
        wait_for(counted, f"{role} is refused at {where}")
        assert where == "ingest" or not s.poll(0), "nothing comes"
