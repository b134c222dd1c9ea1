"""The writer thread, and the store under kills, full disks and folders that cannot be written."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from spiked.service.checkpoint_writer import CheckpointWriter
from spiked.service.checkpoints import CheckpointError, CheckpointStore, Saved

ENDLESS = """
import sys
import numpy as np
from spiked.service.checkpoints import CheckpointStore
store = CheckpointStore(sys.argv[1], keep=3)
loaded = store.load()
n = 0 if loaded is None else loaded.record["n"]
print("ready", flush=True)
while True:
    n += 1
    store.save({"a": np.full(50_000, n), "b": np.full(3, n, np.float32)}, {"n": n})
"""

FULL = """
import resource, sys
import numpy as np
from spiked.service.checkpoints import CheckpointError, CheckpointStore
store = CheckpointStore(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    store.save({"a": np.zeros(int(sys.argv[3]))}, {"text": "x" * int(sys.argv[4])})
except CheckpointError as error:
    print(error)
"""


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


class CrashError(BaseException):
    """Ends a save where it stands: nothing is tidied up, as after a kill."""


@pytest.mark.parametrize("crash_at", range(7))
def test_cut_short_before_each_step_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int) -> None:
    store = CheckpointStore(tmp_path)
    first = store.save({"a": np.ones(3)}, {"n": 1}).name
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def step(what: str) -> None:
        if len(done) == crash_at:
            raise CrashError
        done.append(what)

    def counted_fsync(handle: int) -> None:
        step("fsync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync file")
        fsync(handle)

    def counted_rename(path: Path, target: Path) -> Path:
        step("rename " + target.suffix)
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", counted_fsync)
        patched.setattr(Path, "rename", counted_rename)
        with contextlib.suppress(CrashError):
            store.save({"a": np.full(3, 2.0)}, {"n": 2})
    order = ["fsync file", "fsync file", "rename .safetensors", "fsync folder", "rename .json", "fsync folder"]
    assert done == order[:crash_at]
    store = CheckpointStore(tmp_path)
    loaded = store.load()
    assert loaded is not None and loaded.record["n"] == (2 if crash_at > 4 else 1)
    assert (loaded.arrays["a"] == loaded.record["n"]).all()
    assert first in store.names() and not [f for f in files(tmp_path) if f.endswith((".tmp", ".damaged"))]


def test_killed_at_any_moment_the_store_loads(tmp_path: Path) -> None:
    rng = random.Random(1)
    reached = 0
    for _ in range(15):
        with subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.0, 0.08))
            process.kill()
        store = CheckpointStore(tmp_path, keep=3)
        loaded = store.load()
        if loaded is None:
            assert reached == 0
            continue
        n = loaded.record["n"]
        assert n >= reached
        assert (loaded.arrays["a"] == n).all() and (loaded.arrays["b"] == n).all()
        assert not [f for f in files(tmp_path) if f.endswith((".tmp", ".damaged"))]
        reached = n
    assert reached > 15


@pytest.mark.parametrize(("floats", "text"), [(10_000, 10), (10, 20_000)], ids=["arrays", "json"])
def test_no_room(tmp_path: Path, floats: int, text: int) -> None:
    store = CheckpointStore(tmp_path)
    name = store.save({"a": np.ones(3)}, {"n": 1}).name
    before = files(tmp_path)
    command = [sys.executable, "-c", FULL, str(tmp_path), "8000", str(floats), str(text)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.startswith(f"{tmp_path}/000002-") and said.stdout.endswith(": File too large\n")
    assert said.stdout.count("\n") == 1
    assert files(tmp_path) == before
    loaded = CheckpointStore(tmp_path).load()
    assert loaded is not None and loaded.name == name


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="file/checkpoints: Not a directory"):
        CheckpointStore(tmp_path / "file" / "checkpoints")
    store = CheckpointStore(tmp_path / "gone")
    shutil.rmtree(store.directory)
    with pytest.raises(CheckpointError, match="gone: No such file or directory"):
        store.save({}, {})
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc, which even root cannot write into")
    with pytest.raises(CheckpointError, match=r"/proc/self/000001-\w+: "):
        CheckpointStore("/proc/self").save({}, {})


class SlowStore(CheckpointStore):
    """A store whose saves wait until they are let through."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.began, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def save(self, arrays: dict, record: dict) -> Saved:
        self.began.release()
        assert self.go.acquire(timeout=20)
        return super().save(arrays, record)


def test_the_newest_that_waits_replaces_the_others(tmp_path: Path) -> None:
    store = SlowStore(tmp_path)
    writer = CheckpointWriter(store)
    writer.submit({}, {"n": 0})
    assert store.began.acquire(timeout=20)
    for n in (1, 2, 3):
        writer.submit({}, {"n": n})
    assert writer.skipped == 2
    assert not writer.flush(0.01)
    assert not writer.close(0.01)
    store.go.release(2)
    assert writer.flush(20) and writer.close(20)
    assert (writer.successes, writer.failures, writer.last_error) == (2, 0, "")
    assert writer.last is not None and store.names()[-1] == writer.last.name
    loads = [store.load(name) for name in store.names()]
    assert [loaded.record["n"] for loaded in loads if loaded is not None] == [0, 3]


def test_failures_are_counted_and_do_not_end_the_thread(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "store")
    writer = CheckpointWriter(store)
    for arrays, record in (({}, {"n": 1j}), ({"a": np.array(["text"])}, {})):
        writer.submit(arrays, record)
        assert writer.flush(20)
        assert str(store.directory) in writer.last_error
    shutil.rmtree(store.directory)
    writer.submit({}, {})
    assert writer.flush(20)
    assert "No such file or directory" in writer.last_error
    store.directory.mkdir()
    writer.submit({}, {"n": 1})
    assert writer.close(20)
    assert (writer.successes, writer.failures, writer.last_error, writer.skipped) == (1, 3, "", 0)
    writer.submit({}, {"n": 2})
    assert writer.skipped == 1 and writer.flush(0) and len(store.names()) == 1
