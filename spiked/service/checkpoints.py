"""The checkpoint store: pairs of files in one directory, the newest of which that verifies is loaded.

A kill or a power cut at any moment leaves the older checkpoints whole: both files are written under temporary names
and fsynced; the arrays' file is renamed and the directory fsynced before the JSON file, the commit point, is renamed.
A directory belongs to one daemon at a time: opening it sweeps what an interrupted save left behind.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from spiked import __version__
from spiked.service.checkpoint_format import (
    DAMAGED,
    DATA,
    FORMAT,
    JSON,
    NAME,
    CheckpointError,
    DamagedError,
    Manifest,
    counter,
    crc32,
    describe,
    pack,
    read_arrays,
    read_manifest,
    seal,
)

__all__ = ["CheckpointError", "CheckpointStore", "Loaded", "Saved", "describe"]

log = logging.getLogger("spiked.checkpoints")

TEMPORARY = ".tmp"


@dataclass(frozen=True)
class Saved:
    """A checkpoint that has reached the disk: bytes of both files, seconds that it took."""

    name: str
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that verified."""

    name: str
    arrays: dict[str, NDArray]
    record: dict[str, Any]


class CheckpointStore:
    """Checkpoints of one daemon, ``<counter>-<UTC time>`` each.

    Parameters
    ----------
    directory : made where it is missing (mode 0700).
    keep : how many of the newest stay; one more where none of them is good.
    clock : Unix time in seconds.

    Raises
    ------
    CheckpointError : the directory cannot be made or listed.
    """

    def __init__(self, directory: Path | str, keep: int = 5, clock: Callable[[], float] = time.time) -> None:
        if keep < 1:
            raise ValueError(f"keep = {keep}; at least 1")
        self.directory, self.keep, self._clock = Path(directory), keep, clock
        self._lock = threading.RLock()  # a save's pruning must not take a checkpoint away that is being loaded
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _failed(self.directory, error) from error
        self._sweep()
        self._note_newest()

    def names(self) -> list[str]:
        """Names of the checkpoints, oldest first; not yet verified."""
        found = [Path(f).stem for f in self._listed() if f.endswith(JSON) and NAME.fullmatch(Path(f).stem)]
        return sorted(found, key=counter)

    def save(self, arrays: dict[str, NDArray], record: dict[str, Any]) -> Saved:
        """Write a checkpoint and prune the oldest; on CheckpointError the older ones are as they were."""
        began = time.perf_counter()
        with self._lock:
            now = datetime.fromtimestamp(self._clock(), UTC)
            # Names set aside count too, so that none is ever used twice
            number = 1 + max((counter(f.lstrip(".")) for f in self._listed()), default=0)
            name = f"{number:06d}-{now:%Y%m%dT%H%M%SZ}"
            data_path, json_path = self.directory / (name + DATA), self.directory / (name + JSON)
            data_temporary, json_temporary = _temporary(data_path), _temporary(json_path)
            try:
                data = pack(arrays)
                size = sum(map(len, data))
                created = now.isoformat(timespec="milliseconds")
                text = seal(Manifest(FORMAT, name, created, __version__, size, crc32(data), record))
                _write(data_temporary, data)
                _write(json_temporary, [text])
                data_temporary.rename(data_path)
                _sync(self.directory)
                json_temporary.rename(json_path)
                _sync(self.directory)
            except (OSError, ValueError) as error:
                for path in (json_path, data_path, json_temporary, data_temporary):
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
                raise _failed(self.directory / name, error) from error
            self._prune()
            self._note_newest()
        return Saved(name, size + len(text), time.perf_counter() - began)

    def load(self, name: str | None = None) -> Loaded | None:
        """Load the named checkpoint or the newest that verifies; damaged ones are set aside on the way.

        Returns
        -------
        The checkpoint; None where no name was given and there is none, or none that was not damaged.

        Raises
        ------
        CheckpointError : the named one is not there or not whole, or files are there but cannot be read (whoever
            started afresh on that would lose what they hold).
        """
        with self._lock:
            names = self.names()
            if name is not None and name not in names:
                known = f"the newest is {names[-1]}" if names else "there are none"
                raise CheckpointError(f"{self.directory}: no checkpoint {name!r}; {known}")
            unreadable: CheckpointError | None = None
            for candidate in [name] if name is not None else reversed(names):
                path = self.directory / candidate
                try:
                    manifest = read_manifest(path.with_name(candidate + JSON))
                    return Loaded(candidate, read_arrays(path.with_name(candidate + DATA), manifest), manifest.record)
                except DamagedError as error:
                    log.warning("%s: damaged, set aside: %s", path, error)
                    self._set_aside(candidate)
                    if name is not None:
                        raise _failed(path, error) from error
                except OSError as error:
                    log.warning("%s: cannot be read: %s", path, error)
                    unreadable = unreadable or _failed(path, error)
            if unreadable is not None:
                raise unreadable
            return None

    def load_good(self) -> Loaded | None:
        """Load the newest checkpoint that is labelled good and verifies, or the newest where none is."""
        with self._lock:
            for name in reversed(self.names()):
                if self._is_good(name):
                    with suppress(CheckpointError):  # damaged, and set aside by now: the next older one
                        return self.load(name)
            return self.load()

    def _is_good(self, name: str) -> bool:
        """Whether a checkpoint's record says that it is good; one that says nothing is."""
        try:
            return bool(read_manifest(self.directory / (name + JSON)).record.get("good", True))
        except (DamagedError, OSError):
            return False

    def size_bytes(self) -> int:
        """Bytes of the newest checkpoint, both files; 0 where there is none."""
        return self._newest_bytes

    def age_s(self) -> float:
        """Seconds since the newest checkpoint was made; infinite where there is none."""
        return max(0.0, self._clock() - self._newest_s)

    def _listed(self) -> list[str]:
        try:
            return [path.name for path in self.directory.iterdir()]
        except OSError as error:
            raise _failed(self.directory, error) from error

    def _note_newest(self) -> None:
        """Keep size and time of the newest in memory: whoever scrapes metrics must not wait for a disk."""
        self._newest_bytes, self._newest_s = 0, -math.inf
        if names := self.names():
            stamp = datetime.strptime(names[-1].partition("-")[2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            self._newest_s = stamp.timestamp()
            for suffix in (DATA, JSON):
                with suppress(OSError):
                    self._newest_bytes += (self.directory / (names[-1] + suffix)).stat().st_size

    def _sweep(self) -> None:
        """Remove what an interrupted save left. Arrays whose JSON is gone though it was written are set aside."""
        listed = self._listed()
        oldest = min(map(counter, self.names()), default=0)
        for file in listed:
            name = Path(file.removesuffix(TEMPORARY)).stem.lstrip(".")
            if not NAME.fullmatch(name):
                continue
            alone = file == name + DATA and name + JSON not in listed
            saving = alone and _temporary(Path(name + JSON)).name in listed  # it ended between its two renames
            pruning = alone and counter(name) < oldest  # it ended between its two removals
            if file.endswith(TEMPORARY) or saving or pruning:
                log.info("%s: left by an interrupted save, removed", self.directory / file)
                _try(self.directory / file, lambda path: path.unlink(missing_ok=True))
            elif alone:
                log.warning("%s: has no %s, set aside", self.directory / file, JSON)
                self._set_aside(name)

    def _set_aside(self, name: str) -> None:
        for suffix in (JSON, DATA):
            path = self.directory / (name + suffix)
            if path.exists():
                _try(path, lambda path: path.rename(path.with_name(path.name + DAMAGED)))
        self._note_newest()

    def _prune(self) -> None:
        """Keep the newest, and, where none of them is good, the newest good one."""
        names = self.names()
        old, kept = names[: -self.keep], names[-self.keep :]
        if old and not any(map(self._is_good, reversed(kept))):
            spared = next((name for name in reversed(old) if self._is_good(name)), None)
            old = [name for name in old if name != spared]
        for name in old:
            for suffix in (JSON, DATA):  # the commit point first, so that no half looks whole
                _try(self.directory / (name + suffix), lambda path: path.unlink(missing_ok=True))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}{TEMPORARY}")


def _write(path: Path, pieces: list[bytes | memoryview]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """Make the renames in `directory` last."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _try(path: Path, action: Callable[[Path], Any]) -> None:
    """Tidy up; where that fails it is no reason to stop."""
    try:
        action(path)
    except OSError as error:
        log.warning("%s: %s", path, error.strerror)


def _failed(path: Path, error: OSError | ValueError) -> CheckpointError:
    cause = error.strerror if isinstance(error, OSError) and error.strerror else error
    return CheckpointError(f"{path}: {cause}")
