"""The store: what was saved comes back to the bit, or is noticed as damaged and an older one comes back."""

from __future__ import annotations

import json
import logging
import math
import os
import stat
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spiked.service.checkpoint_format import pack
from spiked.service.checkpoints import CheckpointError, CheckpointStore, describe

DTYPES = [np.dtype(d) for d in "?bBhHiIqQefd"]
KEYS = st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda k: k != "__metadata__")
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
RECORD = {"streams": {"cam0": {"classes": ["left", "right"], "epoch": 7, "watermark_us": 12_000, "loss": None}}}


def small(value: int) -> dict[str, np.ndarray]:
    return {"cam0/w": np.full((2, 3), value, np.float32), "cam0/n": np.array(value, np.int64)}


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def pair(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.safetensors", folder / f"{name}.json"


@given(arrays=st.dictionaries(KEYS, ARRAYS, max_size=4), record=st.dictionaries(KEYS, st.integers(-(2**130), 2**130)))
def test_everything_comes_back(tmp_path_factory: pytest.TempPathFactory, arrays: dict, record: dict) -> None:
    store = CheckpointStore(tmp_path_factory.mktemp("store"))
    saved = store.save(arrays, record)
    loaded = store.load()
    assert loaded is not None and (loaded.name, loaded.record) == (saved.name, record)
    assert loaded.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        back = loaded.arrays[name]
        assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert back.flags.aligned and back.flags.writeable


@given(arrays=st.dictionaries(KEYS, ARRAYS, max_size=4))
def test_data_file_is_what_the_library_reads(arrays: dict) -> None:
    back = safetensors.numpy.load(b"".join(pack(arrays)))
    assert back.keys() == arrays.keys()
    assert all(back[k].tobytes() == a.tobytes() and back[k].dtype == a.dtype for k, a in arrays.items())


def test_arrays_that_are_not_contiguous_or_not_native(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.int32).reshape(4, 6)
    arrays = {
        "t": base.T,
        "step": base[::2, ::-3],
        "big": base.astype(">i4"),
        "one": np.broadcast_to(np.float32(3), (2, 2)),
    }
    store = CheckpointStore(tmp_path)
    store.save(arrays, {})
    loaded = store.load()
    assert loaded is not None
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array)
    assert loaded.arrays["big"].dtype == np.dtype("<i4")


@pytest.mark.parametrize(
    ("arrays", "record", "words"),
    [
        ({"w": np.array(["a"])}, {}, "array 'w' of type <U1"),
        ({"w": np.array([None])}, {}, "array 'w' of type object"),
        ({"w": np.zeros(1, [("t", "<i8")])}, {}, "array 'w' of type"),
        ({"w": np.zeros(1, np.complex128)}, {}, "array 'w' of type complex128"),
        ({"__metadata__": np.zeros(1)}, {}, "__metadata__"),
        ({}, {"x": object()}, "record cannot be written as JSON"),
        ({}, {"x": 1j}, "record cannot be written as JSON"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, arrays: dict, record: dict, words: str) -> None:
    store = CheckpointStore(tmp_path)
    with pytest.raises(CheckpointError, match=words):
        store.save(arrays, record)
    assert files(tmp_path) == []


def test_names_modes_and_what_the_json_says(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "state" / "checkpoints", clock=lambda: 1767323045.5)
    saved = store.save(small(1), RECORD)
    assert saved.name == "000001-20260102T030405Z"
    data, text = pair(store.directory, saved.name)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (store.directory, data, text)] == [0o700, 0o600, 0o600]
    told = json.loads(text.read_bytes())
    assert told["created"] == "2026-01-02T03:04:05.500+00:00"
    assert told["data_bytes"] == data.stat().st_size
    assert told["data_crc32"] == f"{zlib.crc32(data.read_bytes()):08x}"
    assert told["record"] == RECORD
    assert saved.bytes == store.size_bytes() == data.stat().st_size + text.stat().st_size


def test_age_and_size_before_and_after_a_restart(tmp_path: Path) -> None:
    now = 1_000_000.0
    store = CheckpointStore(tmp_path, clock=lambda: now)
    assert (store.age_s(), store.size_bytes()) == (math.inf, 0)
    saved = store.save(small(1), {})
    now += 90
    for again in (store, CheckpointStore(tmp_path, clock=lambda: now)):
        assert (again.age_s(), again.size_bytes()) == (90, saved.bytes)


def test_load_by_name(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    names = [store.save(small(k), {"n": k}).name for k in range(3)]
    loaded = store.load(names[1])
    assert loaded is not None and loaded.record == {"n": 1}
    for wrong in ("000009-20260102T030405Z", f"../{tmp_path.name}/{names[0]}", ""):
        with pytest.raises(CheckpointError, match="no checkpoint"):
            store.load(wrong)
    pair(tmp_path, names[1])[0].write_bytes(b"x")
    with pytest.raises(CheckpointError, match="1 bytes, "):
        store.load(names[1])
    assert store.names() == [names[0], names[2]]


def test_pruning_keeps_the_newest_by_number_not_by_clock(tmp_path: Path) -> None:
    times = iter(range(1_000_000, 0, -1000))  # a clock that runs backwards
    store = CheckpointStore(tmp_path, keep=3, clock=lambda: next(times))
    names = [store.save(small(k), {"n": k}).name for k in range(7)]
    assert store.names() == names[-3:]
    assert len(files(tmp_path)) == 6
    loaded = store.load()
    assert loaded is not None and loaded.record == {"n": 6}
    with pytest.raises(ValueError, match="keep = 0"):
        CheckpointStore(tmp_path, keep=0)


def test_numbers_beyond_six_digits_keep_their_order(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    name = store.save(small(1), {}).name
    for path in pair(tmp_path, name):
        path.rename(tmp_path / path.name.replace("000001-", "999999-"))
    assert store.save(small(2), {}).name.startswith("1000000-")
    assert [n.split("-")[0] for n in store.names()] == ["999999", "1000000"]


def test_opening_sweeps_temporary_files_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = CheckpointStore(tmp_path).save(small(1), {}).name
    ours = [".000002-20260102T030405Z.safetensors.tmp", ".000002-20260102T030405Z.json.tmp"]
    others = ["notes.txt", "old.json", "old.safetensors", ".x.tmp"]
    for file in ours + others:
        (tmp_path / file).write_bytes(b"x")
    with caplog.at_level(logging.INFO, "spiked.checkpoints"):
        store = CheckpointStore(tmp_path)
    assert files(tmp_path) == sorted([*others, f"{name}.json", f"{name}.safetensors"])
    assert store.names() == [name]
    assert len(caplog.records) == 2


@pytest.mark.parametrize(("orphan", "with_json", "stays"), [(1, False, False), (9, True, False), (9, False, True)])
def test_arrays_alone_are_removed_where_a_save_explains_them(
    tmp_path: Path, orphan: int, with_json: bool, stays: bool
) -> None:
    """Older than all others: it was being pruned. Beside a temporary JSON: being saved. Else its JSON was lost."""
    store = CheckpointStore(tmp_path, keep=2)
    names = [store.save(small(k), {}).name for k in range(4)]
    name = f"{orphan:06d}-20260102T030405Z"
    (tmp_path / f"{name}.safetensors").write_bytes(b"x")
    if with_json:
        (tmp_path / f".{name}.json.tmp").write_bytes(b"x")
    again = CheckpointStore(tmp_path)
    assert again.names() == names[-2:]
    assert [f for f in files(tmp_path) if name in f] == ([f"{name}.safetensors.damaged"] if stays else [])


def test_describe(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        describe(tmp_path)
    store.save(small(1), RECORD)
    saved = store.save(small(2), RECORD)
    data, text = pair(tmp_path, saved.name)
    for path in (tmp_path, data, text):
        told = describe(path)
        assert (told["name"], told["bytes"], told["verified"], told["reason"]) == (saved.name, saved.bytes, True, "")
        assert told["streams"] == {"cam0": {"classes": ["left", "right"], "epoch": 7, "watermark_us": 12_000}}
        assert told["arrays"]["cam0/w"] == {"dtype": "float32", "shape": [2, 3]}
        assert told["arrays"]["cam0/n"] == {"dtype": "int64", "shape": []}
    os.truncate(data, 9)
    before = files(tmp_path)
    told = describe(text)
    assert not told["verified"] and "9 bytes" in told["reason"] and told["streams"]
    assert files(tmp_path) == before
    store.load()
    assert not describe(data.with_name(data.name + ".damaged"))["verified"]
    for wrong in (tmp_path / "none.json", Path(__file__)):
        with pytest.raises(CheckpointError, match="no checkpoint"):
            describe(wrong)
