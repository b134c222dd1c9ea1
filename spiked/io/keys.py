"""CURVE keys in files: the server's, a client's, and who is allowed to do what.

Every file is a few lines of TOML, a key is 40 characters of Z85 (ZeroMQ's RFC 32) that need no escaping anywhere:

=========================== ============================================ ==========================================
file                        keys                                         who holds it
=========================== ============================================ ==========================================
``server.secret.toml``      ``public_key``, ``secret_key``               the daemon alone
``NAME.secret.toml``        ``public_key``, ``secret_key``, ``server_key`` that client alone
``authorized/NAME.toml``    ``public_key``, ``roles``                    the daemon; nothing in it is secret
=========================== ============================================ ==========================================

Secrets are in no error message and no `repr`.
"""

from __future__ import annotations

import os
import re
import struct
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

ROLES = ("send", "teach", "subscribe", "control")
"""What a client may do: send events and resets, send targets, receive predictions, make requests."""
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_BYTES = 65_536


class KeyFileError(ValueError):
    """A file of keys that cannot be used: one line with the file and what to do."""


@dataclass(frozen=True)
class Keys:
    """A key pair, and for a client the server's public key; all in Z85."""

    public: bytes
    secret: bytes = field(repr=False)
    server: bytes = b""


@dataclass(frozen=True)
class Client:
    """Somebody who is allowed in."""

    name: str
    roles: frozenset[str]


def new_keys(server: bytes = b"") -> Keys:
    """Draw a key pair."""
    public, secret = zmq.curve_keypair()
    return Keys(public, secret, server)


def load_server(path: str | Path) -> Keys:
    """Read the server's secret key; one that others can read is refused."""
    return _pair(Path(path), server=False)


def load_client(path: str | Path) -> Keys:
    """Read a client's secret key and its server's public key; one that others can read is refused."""
    return _pair(Path(path), server=True)


def _pair(path: Path, server: bool) -> Keys:
    raw = _read(path, secret=True)
    secret = _key(path, raw, "secret_key")
    public = zmq.curve_public(secret)
    if _key(path, raw, "public_key") != public:
        raise KeyFileError(f"{path}: public_key is not that of secret_key; make a new pair with `spiked keys`")
    return Keys(public, secret, _key(path, raw, "server_key") if server else b"")


def _read(path: Path, secret: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None
    # systemd hands credentials over in a folder of the service's own, where the group's bit is the mask of a list
    own = os.environ.get("CREDENTIALS_DIRECTORY")
    allowed = 0o740 if own and path.is_relative_to(own) else 0o700
    if secret and mode & 0o777 & ~allowed:
        raise KeyFileError(f"{path}: mode {mode & 0o777:04o} lets others at a secret key; run: chmod 600 {path}")
    if mode & 0o002:
        raise KeyFileError(f"{path}: mode {mode & 0o777:04o} lets anybody write it; run: chmod o-w {path}")
    try:
        if len(data) > MAX_BYTES:
            raise ValueError
        return tomllib.loads(data.decode())
    except ValueError:  # whose text might quote the file
        raise KeyFileError(f"{path}: not a file of keys as `spiked keys` writes them") from None


def _key(path: Path, raw: dict[str, Any], name: str) -> bytes:
    value = raw.get(name)
    try:
        key = value.encode("ascii") if isinstance(value, str) else b""
        if len(key) == 40 and len(z85.decode(key)) == 32:
            return key
    except (ValueError, KeyError, struct.error):
        pass
    raise KeyFileError(f"{path}: {name} is {'missing' if value is None else 'no key'}; 40 characters of Z85")


def load_authorized(path: Path) -> tuple[bytes, Client]:
    """Read one entry of the allow-list: a public key, and its owner's name (the file's) and roles."""
    raw = _read(path, secret=False)
    if NAME.fullmatch(path.stem) is None:
        raise KeyFileError(f"{path}: a client is called by 1-64 characters of A-Z a-z 0-9 . _ -")
    if "secret_key" in raw:
        raise KeyFileError(f"{path}: holds a secret key, which belongs to the client alone; leave public_key and roles")
    for key in raw:
        if key not in ("public_key", "roles"):
            raise KeyFileError(f"{path}: {key!r} is unknown; allowed: public_key, roles")
    roles = raw.get("roles")
    if not isinstance(roles, list) or not roles or not all(r in ROLES for r in roles):
        raise KeyFileError(f"{path}: roles: {roles!r}; one or more of {', '.join(ROLES)}")
    return _key(path, raw, "public_key"), Client(path.stem, frozenset(roles))


class Keyring:
    """Who is allowed in: the files of a folder, read again when they change.

    Parameters
    ----------
    folder : of `authorized` files.

    Attributes
    ----------
    clients : by public key (Z85). Replaced as a whole, never changed: any thread may look.
    roles : by client's name.
    errors : one line for each file that could not be used; its client is not let in.

    Raises
    ------
    KeyFileError : the folder cannot be used, or one of its files. Only when it is made: a running daemon goes on.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.clients: dict[bytes, Client] = {}
        self.roles: dict[str, frozenset[str]] = {}
        self.errors: list[str] = []
        self._seen: object = None
        self.reload()
        if self.errors:
            raise KeyFileError(self.errors[0])

    def _look(self) -> object:
        """What the folder looks like from outside: other where anything in it was written, added or taken away."""
        try:
            with os.scandir(self.folder) as entries:
                found = [(e.name, e.stat()) for e in entries if e.name.endswith(".toml")]
            return sorted((name, s.st_mtime_ns, s.st_ino, s.st_size, s.st_mode) for name, s in found)
        except OSError as error:
            return str(error.strerror)

    def refresh(self) -> bool:
        """Read the folder again if it looks otherwise than before; returns whether it did."""
        if self._look() == self._seen:
            return False
        self.reload()
        return True

    def reload(self) -> None:
        """Read the folder again. What cannot be read lets nobody in, and stands in `errors`."""
        self._seen = self._look()
        clients: dict[bytes, Client] = {}
        errors: list[str] = []
        try:
            if self.folder.stat().st_mode & 0o002:
                raise KeyFileError(f"{self.folder}: anybody may add keys there; run: chmod o-w {self.folder}")
            paths = sorted(p for p in self.folder.iterdir() if p.suffix == ".toml")
        except OSError as error:
            errors.append(f"{self.folder}: cannot be read: {error.strerror}")
            paths = []
        except KeyFileError as error:
            errors.append(str(error))
            paths = []
        for path in paths:
            try:
                key, client = load_authorized(path)
                if key in clients:
                    raise KeyFileError(f"{path}: its key is that of {clients[key].name!r} too; each client has its own")
                clients[key] = client
            except KeyFileError as error:
                errors.append(str(error))
        self.clients, self.roles, self.errors = clients, {c.name: c.roles for c in clients.values()}, errors


def write_new(path: Path, keys: dict[str, str | list[str]], mode: int) -> None:
    """Write a file of keys that is not there yet, with its mode from the first moment on."""
    lines = [
        f"{k} = " + (f'"{v}"' if isinstance(v, str) else "[" + ", ".join(f'"{x}"' for x in v) + "]")
        for k, v in keys.items()
    ]
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
