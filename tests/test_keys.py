"""Files of keys: what `spiked keys` writes is read again; what is wrong with one is one line without a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from spiked.io.keys import KeyFileError, Keyring, load_authorized, load_client, load_server, new_keys
from spiked.service.cli import main


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["keys", str(tmp_path / "k"), "--client", "cam0", "--client", "desk", "--roles", "send,teach"]) == 0
    (tmp_path / "said").write_text(capsys.readouterr().out)
    return tmp_path / "k"


def test_what_is_made_is_read_and_nobody_else_can(folder: Path) -> None:
    server, cam0 = load_server(folder / "server.secret.toml"), load_client(folder / "cam0.secret.toml")
    assert cam0.server == server.public == zmq.curve_public(server.secret)
    public, client = load_authorized(folder / "authorized" / "cam0.toml")
    assert (public, client.name, client.roles) == (cam0.public, "cam0", {"send", "teach"})
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in folder.glob("*.secret.toml"))
    said = (folder.parent / "said").read_text()
    assert "curve = true" in said and server.public.decode() in said
    for secret in (server.secret, cam0.secret):
        assert secret.decode() not in said and secret.decode() not in "".join(
            p.read_text() for p in (folder / "authorized").iterdir()
        )


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.read_bytes() for p in folder.rglob("*.toml")}
    assert main(["keys", str(folder), "--client", "cam0"]) == 2
    assert main(["keys", str(folder), "--client", "new", "--client", "desk"]) == 2, "not even half of what was asked"
    assert main(["keys", str(folder)]) == 0
    assert "is there already, and stays" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in folder.rglob("*.toml")} == before
    assert main(["keys", str(folder), "--client", "late"]) == 0
    assert load_client(folder / "late.secret.toml").server == load_server(folder / "server.secret.toml").public


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--client", "a", "--roles", "send,all"], "--roles: 'all'; of send, teach, subscribe, control"),
        (["--client", "../a"], "--client: '../a'; 1-64 characters"),
        (["--client", "server"], "--client: 'server'"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path, args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", str(tmp_path / "k"), *args]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not (tmp_path / "k").exists()


KEYS = new_keys(new_keys().public)
PUBLIC, SECRET = KEYS.public.decode(), KEYS.secret.decode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "public_key is missing; 40 characters of Z85"),
        (f'public_key = "{PUBLIC[:-1]}"\nroles = ["send"]', "public_key is no key"),
        (f'public_key = "{PUBLIC[:-1]}\'"\nroles = ["send"]', "public_key is no key"),
        ('public_key = "' + "#" * 40 + '"\nroles = ["send"]', "public_key is no key"),
        ('public_key = 3\nroles = ["send"]', "public_key is no key"),
        (f'public_key = "{PUBLIC}"', "roles: None; one or more of send, teach, subscribe, control"),
        (f'public_key = "{PUBLIC}"\nroles = []', "roles: []"),
        (f'public_key = "{PUBLIC}"\nroles = "send"', "roles: 'send'"),
        (f'public_key = "{PUBLIC}"\nroles = [["send"]]', "roles: [['send']]"),
        (f'public_key = "{PUBLIC}"\nrole = ["send"]', "'role' is unknown; allowed: public_key, roles"),
        (f'public_key = "{PUBLIC}"\nsecret_key = "{SECRET}"\nroles = ["send"]', "holds a secret key"),
        (f"secret_key = {SECRET}", "not a file of keys"),
        ("\xff", "not a file of keys"),
        ("#" * 70_000, "not a file of keys"),
    ],
    ids=map(str, range(14)),  # keys are drawn anew in each process
)
def test_an_entry_that_is_wrong_says_so_and_shows_no_secret(tmp_path: Path, text: str, said: str) -> None:
    if "roles" not in text and said.startswith("public_key"):
        text += '\nroles = ["send"]'
    path = tmp_path / "cam0.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(KeyFileError) as error:
        load_authorized(path)
    assert str(error.value).startswith(f"{path}: {said}") and SECRET not in str(error.value)


def test_a_secret_that_others_can_read_or_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text(f'public_key = "{PUBLIC}"\nsecret_key = "{SECRET}"\n')
    for mode in (0o604, 0o640, 0o602, 0o660):
        path.chmod(mode)
        with pytest.raises(KeyFileError, match=f"mode 0{mode:o} lets others at a secret key; run: chmod 600"):
            load_server(path)
    path.chmod(0o600)
    assert load_server(path).secret == KEYS.secret
    with pytest.raises(KeyFileError, match="server_key is missing"):
        load_client(path)
    path.write_text(path.read_text().replace(PUBLIC, new_keys().public.decode()))
    with pytest.raises(KeyFileError, match="public_key is not that of secret_key"):
        load_server(path)


def test_systemd_may_hand_a_secret_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    path.write_text(f'public_key = "{PUBLIC}"\nsecret_key = "{SECRET}"\n')
    path.chmod(0o440)  # the group's bit is the mask of the list that lets the service's user read
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_server(path).secret == KEYS.secret
    path.chmod(0o444)
    with pytest.raises(KeyFileError, match="mode 0444"):
        load_server(path)


def test_the_ring_follows_its_folder(folder: Path) -> None:
    ring = Keyring(folder / "authorized")
    assert set(ring.roles) == {"cam0", "desk"} and not ring.refresh()
    (folder / "authorized" / "cam0.toml").unlink()
    assert ring.refresh() and set(ring.roles) == {"desk"}
    desk = folder / "authorized" / "desk.toml"
    desk.write_text(desk.read_text().replace('["send", "teach"]', '["control"]'))
    assert ring.refresh() and ring.roles == {"desk": {"control"}}
    twin = folder / "authorized" / "twin.toml"
    twin.write_text(desk.read_text())
    assert ring.refresh() and set(ring.roles) == {"desk"} and "is that of 'desk' too" in ring.errors[0]
    twin.unlink()
    (folder / "authorized").rename(folder / "gone")
    assert ring.refresh() and not ring.roles and "cannot be read" in ring.errors[0]
    (folder / "gone").rename(folder / "authorized")
    ring.reload()
    assert set(ring.roles) == {"desk"} and not ring.errors
    twin.write_text("x")
    with pytest.raises(KeyFileError):
        Keyring(folder / "authorized")
