"""Labelled sets against what was written into them, and the real ones against an outside reader and stated facts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spiked.io.datasets import DatasetError, open_dataset
from spiked.io.events import Geometry


def step_arrays(seed: int = 0, n: int = 12) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 30, n)
    t_ms = np.concatenate([np.sort(rng.integers(0, 20, k)) for k in sizes]).astype(np.uint16)
    return {
        "t_ms": t_ms, "addr": rng.integers(0, 2312, len(t_ms)).astype(np.uint16),
        "offsets": np.concatenate([[0], np.cumsum(sizes)]), "n_bins": np.full(n, 20, np.uint16),
        "label": (np.arange(n) % 3).astype(np.uint8), "split": (np.arange(n) >= 9).astype(np.uint8),
    }  # fmt: skip


def event_arrays() -> dict[str, Any]:
    return {
        "t_us": np.array([5, 1999, 2000, 7], np.uint32), "x": np.array([0, 33, 4, 5], np.uint8),
        "y": np.array([33, 0, 6, 7], np.uint8), "on": np.array([1, 0, 1, 1], np.uint8),
        "offsets": np.array([0, 2, 3, 4, 4]), "label": np.array([1, 0, 1, 0]), "split": np.array([0, 0, 1, 1], bool),
    }  # fmt: skip


def write(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def nmnist_bytes(events: list[tuple[int, int, int, int]]) -> bytes:
    """x, y, polarity (1 bit) and time (23 bits, big-endian): five bytes an event."""
    return b"".join(bytes([x, y]) + (on << 23 | t).to_bytes(3, "big") for t, x, y, on in events)


SAMPLE = [(3654 + 10 * k, k % 34, (3 * k) % 34, k % 2) for k in range(60)]


def test_steps_hold_what_was_written(tmp_path: Path) -> None:
    arrays = step_arrays()
    dataset = open_dataset(write(tmp_path / "s.npz", arrays))
    assert dataset.name == "s.npz" and dataset.geometry == Geometry(34, 34, 2)
    assert dataset.class_names == ["0", "1", "2"]
    assert dataset.train.tolist() == list(range(9)) and dataset.test.tolist() == [9, 10, 11]
    for i in range(12):
        label, events, duration_us = dataset.sample(i)
        a, b = arrays["offsets"][i : i + 2]
        assert label == i % 3 and duration_us == 20_000
        address = events["on"].astype(int) * 1156 + events["y"].astype(int) * 34 + events["x"]
        assert address.tolist() == arrays["addr"][a:b].tolist()
        assert events["t"].tolist() == (arrays["t_ms"][a:b] * 1000).tolist()


def test_steps_of_another_sensor_with_names(tmp_path: Path) -> None:
    arrays = step_arrays() | {"width": np.int64(40), "height": np.int64(50), "class_names": np.array(["a", "b", "c"])}
    dataset = open_dataset(write(tmp_path / "s.npz", arrays))
    assert dataset.geometry == Geometry(40, 50, 2) and dataset.class_names == ["a", "b", "c"]
    events = dataset.sample(0).events
    address = (events["on"].astype(int) * 50 + events["y"]) * 40 + events["x"]
    assert address.tolist() == arrays["addr"][: arrays["offsets"][1]].tolist()


def test_events_hold_what_was_written(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path / "e.npz", event_arrays()))
    assert dataset.train.tolist() == [0, 1] and dataset.test.tolist() == [2, 3]
    label, events, duration_us = dataset.sample(0)
    assert label == 1 and events.tolist() == [(5, 0, 33, 1), (1999, 33, 0, 0)] and duration_us == 2000
    assert dataset.sample(1).duration_us == 3000  # an event at 2000 us belongs to the third millisecond
    assert len(dataset.sample(3).events) == 0 and dataset.sample(3).duration_us == 1000


def test_counts_become_as_many_events(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    counts = rng.poisson(0.7, (2, 3, 250, 8)).astype(np.uint16)
    counts[0, 0, 0, 0] = 900
    path = write(tmp_path / "c.npz", {"counts": counts, "tones_hz": np.array([130, 349, 1396])})
    dataset = open_dataset(path)
    assert dataset.geometry == Geometry(4, 1, 2) and dataset.class_names == ["130", "349", "1396"]
    assert len(dataset.train) + len(dataset.test) == 2 * 3 * 2  # 250 steps: two whole samples
    seen = np.zeros_like(counts)
    for i in range(12):
        label, events, duration_us = dataset.sample(i)
        condition, tone, piece = i // 6, i // 2 % 3, i % 2
        assert label == tone and duration_us == 100_000 and (i in dataset.test) == (piece == 1)
        assert np.all(np.diff(events["t"].astype(int)) >= 0)
        step = piece * 100 + events["t"].astype(int) // 1000
        np.add.at(seen[condition, tone], (step, 2 * events["x"].astype(int) + events["on"]), 1)
    assert np.array_equal(seen[:, :, :200], counts[:, :, :200])
    first = dataset.sample(0).events
    of_one = first["t"][(first["x"] == 0) & (first["on"] == 0) & (first["t"] < 1000)]
    assert len(np.unique(of_one)) == 900  # spread within the millisecond


def test_folder_with_a_split(tmp_path: Path) -> None:
    for part, count in (("Train", 3), ("Test", 1)):
        for name in ("10", "9"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for k in range(count):
                (folder / f"{k}.bin").write_bytes(nmnist_bytes(SAMPLE[k:]))
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ["9", "10"] and dataset.geometry == Geometry(34, 34, 2)
    assert len(dataset.train) == 6 and len(dataset.test) == 2
    assert dataset.labels[dataset.train].tolist() == [0, 0, 0, 1, 1, 1]
    label, events, duration_us = dataset.sample(int(dataset.train[3]))
    assert label == 1 and duration_us == 2000  # from 3654 us to 4244 us, begun with the whole millisecond 3000
    assert events.tolist() == [(t - 3000, x, y, on) for t, x, y, on in SAMPLE]
    assert dataset.warnings == []


def test_folder_without_a_split_is_all_for_training(tmp_path: Path) -> None:
    for name in ("wave", "fist"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.bin").write_bytes(nmnist_bytes(SAMPLE))
        (tmp_path / name / ".hidden").write_bytes(b"x")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ["fist", "wave"] and len(dataset.train) == 2 and len(dataset.test) == 0


def test_folder_of_text_takes_the_sensor_from_outside(tmp_path: Path) -> None:
    for name, line in (("a", "5,1,2,1\n"), ("b", "7,30,20,0\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "r.csv").write_text(line)
    dataset = open_dataset(tmp_path, Geometry(34, 34))
    assert dataset.geometry == Geometry(34, 34)
    assert [dataset.sample(i).events.tolist() for i in (0, 1)] == [[(5, 1, 2, 1)], [(7, 30, 20, 0)]]


def test_cut_off_recording_gives_its_good_part_and_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cut.bin").write_bytes(nmnist_bytes(SAMPLE)[:-3])
    dataset = open_dataset(tmp_path)
    assert len(dataset.sample(0).events) == len(SAMPLE) - 1
    assert len(dataset.warnings) == 1 and "cut.bin" in dataset.warnings[0]


def test_recordings_of_two_sensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.bin").write_bytes(nmnist_bytes(SAMPLE))
    (tmp_path / "a" / "2.csv").write_text("1,100,2,1\n")
    dataset = open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"2\.csv: .*34x34x2"):
        dataset.sample(1)


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("a column is missing", {"n_bins": None}, "a set holds t_ms, addr"),
    ("floats for integers", {"t_ms": np.zeros(3)}, "t_ms is float64"),
    ("two dimensions", {"label": np.zeros((12, 1), np.int64)}, "label is int64 of 2 dimensions"),
    ("columns of two lengths", {"addr": np.zeros(3, np.uint16)}, "addr has 3 entries"),
    ("too few offsets", {"offsets": np.zeros(4, np.int64)}, "offsets has 4 entries; 13"),
    ("offsets that fall", {"offsets": np.array([0, 5, 4, *[9] * 10])}, "offsets do not rise"),
    ("an address outside", {"width": np.int64(3), "height": np.int64(3)}, "addr "),
    ("a negative label", {"label": np.full(12, -1)}, "label -1"),
    ("a label beyond reason", {"label": np.full(12, 1 << 40)}, "0 to 4095"),
    ("a split that is none", {"split": np.full(12, 2)}, "split holds 2"),
    ("a split of another length", {"split": np.zeros(3, np.int64)}, "split has 3 entries"),
    ("too few names", {"class_names": np.array(["a"])}, "class_names has 1"),
    ("pickled objects", {"label": np.array([None] * 12, object)}, "label cannot be read"),
    ("no width", {"width": np.int64(0)}, "width is 0"),
    ("time past the last step", {"n_bins": np.full(12, 2)}, "t_ms "),
]


@pytest.mark.parametrize(("change", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_a_broken_set_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arrays = {k: v for k, v in (step_arrays() | change).items() if v is not None}
    path = write(tmp_path / "broken.npz", arrays)
    with pytest.raises(DatasetError) as caught:
        open_dataset(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "not a .npz"),
        (b"PK\x03\x04 not a zip", "not a .npz"),
        (b"\x80\x04K\x01.", "not a .npz"),
    ],
)
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        open_dataset(path)


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.npz", step_arrays())
    data = bytearray(path.read_bytes())
    data[200] ^= 1  # among the first array's values, under the CRC-32 of the zip file
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="t_ms cannot be read"):
        open_dataset(path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no recordings; write CLASS/FILE"):
        open_dataset(tmp_path)


def test_nmnist8_as_an_outside_client_reads_it(data_dir: Path) -> None:
    client = data_dir.parent / "contract" / "client.py"
    if not client.exists():
        pytest.skip("no outside client beside the recordings")
    spec = importlib.util.spec_from_file_location("outside_client", client)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs = module.NMnist(data_dir / "nmnist8" / "nmnist8.npz")
    ours = open_dataset(data_dir / "nmnist8" / "nmnist8.npz")
    assert len(ours.train) == 4000 and len(ours.test) == 800 and ours.class_names == list("01234567")
    for i in (0, 17, 2500, 4799):
        t, x, y, on, end = theirs.sample(i, 0)
        label, events, duration_us = ours.sample(i)
        assert label == theirs.label[i] and duration_us == end and 286_000 <= end <= 313_000
        for name, column in (("t", t), ("x", x), ("y", y), ("on", on)):
            assert events[name].tolist() == column.tolist()


def test_nmnist10_has_the_stated_size(data_dir: Path) -> None:
    dataset = open_dataset(data_dir / "nmnist10" / "nmnist10_small.npz")
    assert len(dataset.train) == 1000 and len(dataset.test) == 100 and len(dataset.class_names) == 10
    samples = [dataset.sample(i) for i in range(1100)]
    assert np.mean([len(s.events) for s in samples]) == pytest.approx(4130, rel=0.01)
    assert np.mean([s.duration_us for s in samples]) == pytest.approx(307_000, rel=0.01)


def test_nas_tones_keep_every_count(data_dir: Path) -> None:
    path = data_dir / "cochlea" / "nas_tones.npz"
    dataset = open_dataset(path)
    assert dataset.geometry == Geometry(64, 1, 2) and len(dataset.class_names) == 8
    assert len(dataset.train) == 7 * 8 * 4 and len(dataset.test) == 7 * 8
    counts = np.load(path)["counts"]
    for i in (0, 4, 123, 279):
        condition, tone, piece = i // 40, i // 5 % 8, i % 5
        label, events, _ = dataset.sample(i)
        assert label == tone and len(events) == counts[condition, tone, 100 * piece : 100 * (piece + 1)].sum()
