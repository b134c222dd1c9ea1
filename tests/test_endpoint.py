"""Where a socket listens: of an ipc endpoint only this user can connect, and nothing that lies there is lost."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from spiked.io.endpoint import EndpointError, bind

Listen = Callable[[str], None]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Binds a socket that stays."""
    context = zmq.Context()
    kept: list[zmq.Socket[bytes]] = []

    def listen(endpoint: str) -> None:
        kept.append(context.socket(zmq.PULL))
        bind(kept[-1], endpoint)

    yield listen
    context.destroy(0)


def test_an_ipc_socket_and_its_folder_are_this_users_alone(listen: Listen, tmp_path: Path) -> None:
    before, path = os.umask(0o000), tmp_path / "new" / "s"
    try:
        listen(f"ipc://{path}")
        assert os.umask(0o000) == 0o000, "what the process does elsewhere is as it was"
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o177 == 0
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_cannot_connect(listen: Listen, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    path = tmp_path / "s"
    listen(f"ipc://{path}")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            socket.socket(socket.AF_UNIX).connect(str(path))
        except PermissionError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_a_dead_daemon_left_is_replaced_and_a_living_one_is_not(listen: Listen, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    listen(f"ipc://{path}")
    with pytest.raises(EndpointError, match="cannot listen there: Address already in use"):
        listen(f"ipc://{path}")


def test_a_file_is_not_deleted(listen: Listen, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(EndpointError, match="something else than a socket lies there"):
        listen(f"ipc://{path}")
    assert path.read_text() == "data"


def test_ipv6_is_listened_on_where_it_is_asked_for(listen: Listen) -> None:
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
            port = s.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    listen(f"tcp://[::1]:{port}")
    socket.create_connection(("::1", port), timeout=5).close()
