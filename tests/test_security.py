"""An encrypted daemon from outside: who gets in, who does not, and that each refusal is counted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import attacks
import pytest
import zmq
from live import CAM0, CAM0_TEXT, SPIKED, Live, drain, wait_for
from test_readme import ROOT, c_compiler

from spiked.io.keys import ROLES, Keys, load_client, load_server, new_keys
from spiked.io.sender import Sender
from spiked.service.cli import main

TEXT = """
[security]
curve = true
server_secret_key_file = %s
authorized_keys_dir = %s
"""
KINDS = {"ingest": zmq.PUSH, "predictions": zmq.SUB, "control": zmq.REQ}
ENTERS = {"ingest": {"send", "teach"}, "predictions": {"subscribe"}, "control": {"control"}}


def spiked(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SPIKED, *args], capture_output=True, text=True, timeout=60)


class Town:
    """A daemon, and a client for each role; `all` has all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authorized = folder / "keys", folder / "keys" / "authorized"
        for role in ROLES:
            self.admit(role, role)
        self.admit("all", ",".join(ROLES))
        places = [json.dumps(str(p)) for p in (self.folder / "server.secret.toml", self.authorized)]
        self.live = Live(folder, TEXT % tuple(places) + CAM0_TEXT, keys=self.keys("all"))

    def admit(self, name: str, roles: str) -> Keys:
        out = spiked("keys", str(self.folder), "--client", name, "--roles", roles)
        assert out.returncode == 0, out.stderr
        return self.keys(name)

    def expel(self, name: str) -> None:
        (self.authorized / f"{name}.toml").unlink()
        (self.folder / f"{name}.secret.toml").unlink()

    def keys(self, name: str) -> Keys:
        return load_client(self.folder / f"{name}.secret.toml")

    def rises(self, where: str, *reasons: str) -> Callable[[], bool]:
        """A condition: one more connection was refused than now, for one of these reasons."""

        def refused() -> float:
            return sum(self.live.metric("spiked_connections_refused_total", socket=where, reason=r) for r in reasons)

        before = refused()
        return lambda: refused() > before

    def visit(self, where: str, keys: Keys | None) -> zmq.Socket[bytes]:
        """Connect to a socket of the daemon, and knock."""
        s: zmq.Socket[bytes] = self.live.context.socket(KINDS[where])
        s.setsockopt(zmq.LINGER, 0)
        if keys is not None:
            s.curve_publickey, s.curve_secretkey, s.curve_serverkey = keys.public, keys.secret, keys.server
        if where == "predictions":
            s.setsockopt(zmq.SUBSCRIBE, b"")
        s.connect(getattr(self.live, where))
        if where == "control":
            s.send(b'{"do":"status"}')
        return s


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("town"))
    with town.live:
        yield town


def test_who_has_all_roles_is_served(town: Town) -> None:
    live, sender = town.live, Sender("cam0", CAM0, epoch=1)
    with closing(live.subscribe("cam0/")) as subscriber, closing(live.push()) as push:
        for frames in (sender.reset(0), sender.target("a", 0, 500_000), sender.reset(500_000)):
            push.send_multipart(frames)
        assert drain(subscriber, 1)[-1]["final"]
        assert live.wait_seq(2)["updates"] == 1
        assert live.ask(do="status")["connections"]["ingest"] == 1
        assert live.metric("spiked_connections", socket="ingest") == 1


@pytest.mark.parametrize("where", KINDS)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_enters_its_own_socket_and_no_other(town: Town, where: str, role: str) -> None:
    live = town.live
    if role not in ENTERS[where]:
        counted = town.rises(where, "role")
        with town.visit(where, town.keys(role)) as s:
            wait_for(counted, f"{role} is refused at {where}")
            assert where == "ingest" or not s.poll(0), "nothing comes"
    elif where == "control":
        with town.visit(where, town.keys(role)) as s:
            assert s.poll(10_000) and json.loads(s.recv())["ok"]
    elif where == "predictions":
        wait_for(lambda: live.ask(do="status")["subscribers"] == 0, "those before have gone")
        with town.visit(where, town.keys(role)):
            wait_for(lambda: live.ask(do="status")["subscribers"] == 1, "the subscription has arrived")
    else:  # that messages are taken from it is the next test's
        before = live.metric("spiked_messages_rejected_total", reason="frames")
        with town.visit(where, town.keys(role)) as s:
            s.send(b"no message of ours")
            wait_for(
                lambda: live.metric("spiked_messages_rejected_total", reason="frames") > before, "its message has come"
            )


def test_sending_and_teaching_are_two_rights_on_one_socket(town: Town) -> None:
    live, sender = town.live, Sender("cam0", CAM0, epoch=2)

    def unauthorised() -> float:
        return live.metric("spiked_messages_rejected_total", stream="cam0", reason="unauthorised")

    taught = live.status()["updates"]
    with town.visit("ingest", town.keys("send")) as send, town.visit("ingest", town.keys("teach")) as teach:
        send.send_multipart(sender.reset(0))
        live.wait_seq(0)
        before = unauthorised()
        teach.send_multipart(Sender("cam0", CAM0, epoch=3).reset(0))
        wait_for(lambda: unauthorised() == before + 1, "a reset of who may only teach is refused")
        assert live.status()["epoch"] == 2, "and has changed nothing"
        send.send_multipart(sender.target("a", 0, 500_000))
        wait_for(lambda: unauthorised() == before + 2, "a target of who may only send is refused")
        said = live.ask(do="status")
        assert "target message from 'send', whose key has no role 'teach'" in said["last_refusal"]
        teach.send_multipart(sender.target("b", 0, 500_000))
        live.wait_seq(2)
        send.send_multipart(sender.reset(500_000))
        assert live.wait_seq(3)["updates"] == taught + 1, "what each may do is done"
        assert live.status()["lost"] == 0


@pytest.mark.parametrize("where", KINDS)
def test_a_key_that_is_on_no_list_is_refused(town: Town, where: str) -> None:
    counted, keys = town.rises(where, "key"), new_keys(load_server(town.folder / "server.secret.toml").public)
    with town.visit(where, keys):
        wait_for(counted, "it is refused and counted")
    assert keys.public.decode() in town.live.log(), "whom to let in, should it be a friend"
    assert town.live.ask(do="status")["connections_refused"][f"{where}/key"] >= 1


@pytest.mark.parametrize("where", KINDS)
def test_a_plain_client_is_refused(town: Town, where: str) -> None:
    # either side may be the first to see that they do not fit; where it was the client, it left in the middle
    counted = town.rises(where, "plain", "unfinished")
    with town.visit(where, None):
        wait_for(counted, "it is refused and counted")


def test_what_says_that_it_is_plain_is_counted_as_plain(town: Town) -> None:
    counted = town.rises("ingest", "plain")
    with attacks.dial(town.live.ingest, attacks.GREETING) as s:
        wait_for(counted, "it is refused and counted")
        wait_for(lambda: attacks.ended(s), "it is hung up on")


@pytest.mark.parametrize("where", KINDS)
def test_a_client_of_another_server_is_refused(town: Town, where: str) -> None:
    counted, own = town.rises(where, "handshake"), town.keys("all")
    with town.visit(where, Keys(own.public, own.secret, new_keys().public)):
        wait_for(counted, "it is refused and counted")


@pytest.mark.parametrize("first", [attacks.OLDEST, attacks.OLDER, b"GET / HTTP/1.1\r\n\r\n" * 9], ids=str)
def test_no_older_protocol_is_a_way_around(town: Town, first: bytes) -> None:
    counted, taken = town.rises("ingest", "handshake"), town.live.metric("spiked_messages_rejected_total")
    with attacks.dial(town.live.ingest, first) as s:
        wait_for(lambda: attacks.ended(s), "it is hung up on")
    wait_for(counted, "it is counted")
    assert town.live.metric("spiked_messages_rejected_total") == taken, "no message of it came through"


def test_a_key_that_is_taken_away_counts_no_more(town: Town) -> None:
    live, keys = town.live, town.admit("guest", ",".join(ROLES))
    sender = Sender("cam0", CAM0, epoch=4)
    with (
        town.visit("ingest", keys) as push,
        town.visit("predictions", keys) as subscriber,
        town.visit("control", keys) as control,
    ):
        assert control.poll(10_000) and json.loads(control.recv())["ok"]
        push.send_multipart(sender.reset(0))
        live.wait_seq(0)
        push.send_multipart(sender.reset(500_000))
        assert drain(subscriber, 1)
        refused = [town.rises(where, "key") for where in KINDS]
        town.expel("guest")
        wait_for(refused[1], "the subscriber is cut off, and does not get in again")
        push.send_multipart(sender.reset(1_000_000))
        wait_for(lambda: "message from 'guest'" in (live.ask(do="status")["last_refusal"] or ""), "it sends in vain")
        assert live.status()["next_seq"] == 2
        control.send(b'{"do":"stop"}')
        assert control.poll(10_000) and json.loads(control.recv()) == {
            "ok": False, "error": "your key has no role control any more",
        }  # fmt: skip
    with town.visit("ingest", keys), town.visit("control", keys):
        wait_for(refused[0], "its next connection is refused")
        wait_for(refused[2], "there too")
    assert "keys: 5 clients are let in: all, control, send, subscribe, teach" in live.log()


def test_a_file_that_cannot_be_used_shuts_nobody_else_out(town: Town) -> None:
    bad = town.authorized / "bad.toml"
    bad.write_text("roles = 3\n")
    try:
        wait_for(lambda: "bad.toml: roles: 3; one or more of send, teach" in town.live.log(), "it is said")
        assert town.live.ask(do="status")["ok"]
    finally:
        bad.unlink()


def test_the_commands_go_in_with_keys_and_say_what_is_wrong_without(town: Town, tmp_path: Path) -> None:
    live, key_file = town.live, str(town.folder / "all.secret.toml")
    out = spiked("ctl", live.control, "status", "--keys", key_file)
    assert out.returncode == 0 and "cam0" in out.stdout
    out = spiked("ctl", live.control, "status", "--timeout", "5")
    assert out.returncode == 1 and "use --keys FILE" in out.stderr
    send = str(town.folder / "send.secret.toml")
    out = spiked("ctl", live.control, "status", "--timeout", "5", "--keys", send)
    assert out.returncode == 1 and f"it does not know the key in {send}, or that key's roles" in out.stderr
    wait_for(lambda: live.ask(do="status")["subscribers"] == 0, "those before have gone")
    with subprocess.Popen(
        [*SPIKED, "watch", live.predictions, "--count", "1", "--keys", key_file], stdout=subprocess.PIPE
    ) as watch:
        wait_for(lambda: live.ask(do="status")["subscribers"] == 1, "it watches")
        recording = tmp_path / "a.csv"
        recording.write_text("t,x,y,on\n" + "".join(f"{1000 * k},{k % 34},{k % 34},1\n" for k in range(100)))
        out = spiked(
            "replay", str(recording), "--to", live.ingest, "--stream", "cam0", "--speed", "max", "--keys", key_file
        )
        assert out.returncode == 0, out.stderr
        assert watch.wait(20) == 0 and watch.stdout and b"cam0" in watch.stdout.read()


def with_keys(town: Town, sender: str, keys: str, before: str) -> str:
    """A sender of the README with the lines for keys that the page on security gives."""

    def block(path: str, name: str) -> str:
        found = re.search(rf"^<!-- run: {name} -->\n```\w+\n(.*?)^```$", (ROOT / path).read_text(), re.M | re.S)
        assert found is not None
        return found[1]

    text, endpoint = block("README.md", sender), "tcp://127.0.0.1:5570"
    assert text.count(before) == text.count(endpoint) == 1
    text = text.replace(before, block("docs/security.md", keys) + before).replace(endpoint, town.live.ingest)
    return text.replace("    time.sleep(0.01)\n", "")


def test_the_python_lines_of_the_page_send(town: Town, tmp_path: Path) -> None:
    shutil.copy(town.folder / "send.secret.toml", tmp_path / "cam0.secret.toml")
    text = with_keys(town, "python-sender", "python-keys", "push.connect(")
    (tmp_path / "send.py").write_text("import tomllib\n" + text)
    before = town.live.status()["events"]
    subprocess.run([sys.executable, "send.py", "left"], cwd=tmp_path, check=True, timeout=60)
    wait_for(lambda: town.live.status()["events"] == before + 100_000, "all its events have come")


def test_the_c_lines_of_the_page_send(town: Town, tmp_path: Path) -> None:
    cc, flags = c_compiler(tmp_path)
    shutil.copy(town.folder / "send.secret.toml", tmp_path / "cam0.secret.toml")
    text = with_keys(town, "c-sender", "c-keys", "  if (zmq_connect")
    (tmp_path / "send.c").write_text("#include <stdio.h>\n" + text)
    build = [cc, "-std=c11", "-Wall", "-Wextra", "-Werror", "send.c", "-o", "send", *flags]
    subprocess.run(build, cwd=tmp_path, check=True, timeout=60)
    before = town.live.status()["events"]
    subprocess.run([tmp_path / "send"], cwd=tmp_path, check=True, timeout=60)
    wait_for(lambda: town.live.status()["events"] == before + 100_000, "all its events have come")


def test_what_is_wrong_with_keys_is_one_line(town: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, keys = tmp_path / "c.toml", tmp_path / "keys"
    shutil.copytree(town.folder, keys)
    config.write_text(town.live.config.read_text().replace(str(town.folder), str(keys)))
    assert main(["run", str(config), "--check"]) == 0
    capsys.readouterr()
    server = keys / "server.secret.toml"
    for wrong, said in (
        (lambda: server.chmod(0o644), f"{server}: mode 0644 lets others at a secret key; run: chmod 600 {server}"),
        (lambda: server.chmod(0o640), "mode 0640"),
        (server.unlink, "cannot be read: No such file"),
        (lambda: (keys / "authorized").chmod(0o777), "anybody may add keys there"),
        (lambda: shutil.rmtree(keys / "authorized"), "authorized_keys_dir: " + str(keys / "authorized")),
    ):
        wrong()
        assert main(["run", str(config), "--check"]) == 2
        out, err = capsys.readouterr()
        assert said in err and err.count("\n") == 1 and not out, err
        if not server.exists():
            shutil.copy(town.folder / server.name, server)
        server.chmod(0o600)


def test_secrets_are_shown_nowhere(town: Town) -> None:
    secrets = [load_server(town.folder / "server.secret.toml").secret, *(town.keys(r).secret for r in (*ROLES, "all"))]
    live = town.live
    shown = [
        live.log(), json.dumps(live.ask(do="status")), live.get("/metrics")[1],
        spiked("run", str(live.config), "--check").stdout, repr(town.keys("all")), str(town.keys("all")),
        spiked("ctl", live.control, "status", "--keys", str(town.folder / "all.secret.toml")).stdout,
    ]  # fmt: skip
    assert all(len(text) > 50 for text in shown)
    assert not [s for s in secrets for text in shown if s.decode() in text]
