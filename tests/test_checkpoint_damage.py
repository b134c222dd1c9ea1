"""Damage is noticed, set aside with a warning, and the next older checkpoint is loaded."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import pytest

from spiked.service.checkpoints import CheckpointError, CheckpointStore, describe


def small(value: int) -> dict[str, np.ndarray]:
    return {"cam0/w": np.full((2, 3), value, np.float32), "cam0/n": np.array(value, np.int64)}


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def pair(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.safetensors", folder / f"{name}.json"


@pytest.mark.parametrize("which", [0, 1], ids=["arrays", "json"])
def test_truncation_at_every_length_is_noticed(tmp_path: Path, which: int) -> None:
    store = CheckpointStore(tmp_path)
    store.save(small(1), {"n": 1})
    newest = store.save(small(2), {"n": 2}).name
    paths = pair(tmp_path, newest)
    whole = [p.read_bytes() for p in paths]
    for length in range(len(whole[which])):
        for path, data in zip(paths, whole):
            path.write_bytes(data)
        paths[which].write_bytes(whole[which][:length])
        assert not describe(paths[which])["verified"]
        loaded = store.load()
        assert loaded is not None and loaded.record == {"n": 1}
        assert [p.exists() for p in paths] == [False, False]
        for path in paths:
            path.with_name(path.name + ".damaged").unlink()


@pytest.mark.parametrize("which", [0, 1], ids=["arrays", "json"])
def test_every_flipped_byte_is_noticed(tmp_path: Path, which: int, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(tmp_path)
    store.save(small(1), {"n": 1})
    newest = store.save(small(2), {"n": 2}).name
    paths = pair(tmp_path, newest)
    whole = [p.read_bytes() for p in paths]
    for at in range(len(whole[which])):
        for path, data in zip(paths, whole):
            path.write_bytes(data)
        spoilt = bytearray(whole[which])
        spoilt[at] ^= 1 << (at % 8)
        paths[which].write_bytes(spoilt)
        loaded = store.load()
        assert loaded is not None and loaded.record == {"n": 1}, f"byte {at}"
    assert len(caplog.records) == len(whole[which])
    assert {r.name for r in caplog.records} == {"spiked.checkpoints"}


def test_halves_of_two_checkpoints_do_not_pass_for_one(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    names = [store.save(small(k), {"n": k}).name for k in range(3)]
    (tmp_path / f"{names[1]}.safetensors").replace(tmp_path / f"{names[2]}.safetensors")
    loaded = store.load()
    assert loaded is not None and loaded.name == names[0]
    assert len([f for f in files(tmp_path) if f.endswith(".damaged")]) == 3  # two of the newest, one JSON alone


@pytest.mark.parametrize("lost", [".safetensors", ".json"])
def test_a_missing_half(tmp_path: Path, lost: str, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(tmp_path)
    first, second = (store.save(small(k), {"n": k}).name for k in range(2))
    (tmp_path / f"{second}{lost}").unlink()
    store = CheckpointStore(tmp_path)
    loaded = store.load()
    assert loaded is not None and loaded.name == first
    assert store.names() == [first]
    assert "set aside" in caplog.text
    assert store.save(small(5), {}).name.startswith("000003-")  # a name set aside is not used again


def test_an_empty_store_and_one_where_all_is_damaged_hold_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    assert store.load() is None
    for _ in range(2):
        data, _ = pair(tmp_path, store.save(small(1), {}).name)
        data.write_bytes(b"")
    assert store.load() is None
    assert (store.names(), store.size_bytes(), store.age_s()) == ([], 0, math.inf)


def test_what_cannot_be_read_is_not_taken_for_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    name = store.save(small(1), {}).name
    data, _ = pair(tmp_path, name)
    data.unlink()
    data.mkdir()  # root reads whatever its mode: a folder stands for a file that cannot be read
    with pytest.raises(CheckpointError, match=name):
        store.load()
    assert store.names() == [name]


def test_another_formats_checkpoint_is_left_alone(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    old, new = (store.save(small(k), {}).name for k in range(2))
    body = (tmp_path / f"{new}.json").read_bytes().replace(b'"format":1', b'"format":2').rpartition(b',"crc32"')[0]
    (tmp_path / f"{new}.json").write_bytes(body + b',"crc32":"%08x"}\n' % zlib.crc32(body))
    loaded = store.load()
    assert loaded is not None and loaded.name == old
    assert store.names() == [old, new]
    with pytest.raises(CheckpointError, match="checkpoint format 2; this version reads 1"):
        store.load(new)


def test_text_that_is_no_text_is_damage_even_with_the_right_sum(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    old, new = (store.save(small(k), {"note": "x"}).name for k in range(2))
    body = (tmp_path / f"{new}.json").read_bytes().replace(b'"note":"x"', b'"note":"\xd0"').rpartition(b',"crc32"')[0]
    (tmp_path / f"{new}.json").write_bytes(body + b',"crc32":"%08x"}\n' % zlib.crc32(body))
    loaded = store.load()
    assert loaded is not None and loaded.name == old
    assert store.names() == [old]
