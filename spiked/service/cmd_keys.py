"""``spiked keys``: CURVE key pairs for a daemon and its clients."""

from __future__ import annotations

import argparse
from pathlib import Path

from spiked.service.cli_text import example

EXAMPLES = """\
  spiked keys keys --client cam0 --roles send,teach
  spiked keys keys --client desk --roles subscribe,control"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``keys`` to the command line."""
    parser = commands.add_parser(
        "keys", help="make key pairs for encryption",
        description="Make key pairs: the daemon's, where DIR has none yet, and one for each client. Nothing is ever "
        "overwritten.", **example(EXAMPLES),
    )  # fmt: skip
    parser.add_argument("dir", metavar="DIR", help="where the files go; made if it is not there")
    parser.add_argument("--client", action="append", metavar="NAME", help="make keys for this client; may be repeated")
    parser.add_argument(
        "--roles", default="send,teach,subscribe,control", metavar="R,R,...",
        help="what these clients may do, of send, teach, subscribe, control (all)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Make what is not there yet, and say what goes where."""
    from spiked.io.keys import NAME, ROLES, KeyFileError, load_server, new_keys, write_new
    from spiked.service.cli_errors import UsageError

    roles = args.roles.split(",")
    for role in roles:
        if role not in ROLES:
            raise UsageError(f"--roles: {role!r}; of {', '.join(ROLES)}, with commas between them")
    folder, clients = Path(args.dir), args.client or []
    authorized, server_file = folder / "authorized", folder / "server.secret.toml"
    for name in clients:
        if NAME.fullmatch(name) is None or name == "server":
            raise UsageError(f"--client: {name!r}; 1-64 characters of A-Z a-z 0-9 . _ -, and not server")
        for path in (authorized / f"{name}.toml", folder / f"{name}.secret.toml"):
            if path.exists():
                raise UsageError(f"--client: {name!r}: {path} is there already; delete it first to make new keys")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authorized.mkdir(mode=0o755, exist_ok=True)
    if server_file.exists():
        try:
            server = load_server(server_file)
        except KeyFileError as error:
            raise UsageError(str(error)) from None
        print(f"{server_file} is there already, and stays")
    else:
        server = new_keys()
        write_new(
            server_file, {"public_key": server.public.decode(), "secret_key": server.secret.decode()}, 0o600
        )  # fmt: skip
        print(f"{server_file}: the daemon's own; it stays on its machine")
    for name in clients:
        keys = new_keys(server.public)
        secret_file, public_file = folder / f"{name}.secret.toml", authorized / f"{name}.toml"
        write_new(
            secret_file,
            {
                "public_key": keys.public.decode(), "secret_key": keys.secret.decode(),
                "server_key": server.public.decode(),
            },
            0o600,
        )  # fmt: skip
        write_new(public_file, {"public_key": keys.public.decode(), "roles": roles}, 0o644)
        print(f"{secret_file}: move it to the client {name!r}, and delete it here")
        print(f"{public_file}: lets {name!r} {', '.join(roles)}; delete it to shut {name!r} out")
    print(
        f"\nFor the daemon's configuration:\n\n[security]\ncurve = true\n"
        f'server_secret_key_file = "{server_file.resolve()}"\nauthorized_keys_dir = "{authorized.resolve()}"\n\n'
        f"The server's public key is {server.public.decode()}"
    )
    return 0
