"""``spiked inspect``: figures against stated facts and a brute count; pictures that show something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiked.io.events import make_events
from spiked.io.recordings import open_recording, summary
from spiked.io.sender import Sender
from spiked.service.checkpoints import CheckpointStore
from spiked.service.cli import main
from spiked.service.cmd_inspect import Peak, survey
from spiked.service.configfile import parse_config
from spiked.service.knowledge import capture
from spiked.service.pipeline import Pipeline

EVENTS = [(654 + 37 * k, k % 34, (7 * k) % 34, int(k % 3 == 0)) for k in range(400)]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "sample.bin"
    path.write_bytes(b"".join(bytes([x, y]) + (on << 23 | t).to_bytes(3, "big") for t, x, y, on in EVENTS))
    return path


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    pipeline = Pipeline(
        parse_config(
            {
                "stream": [{"id": "cam0", "width": 8, "height": 8}],
                "network": {"layers": [{"neurons": 8}], "classes": ["left", "right"]},
            }
        )
    )
    sender = Sender("cam0", pipeline.streams["cam0"].geometry, epoch=1)
    events = make_events(np.arange(0, 5000, 50), 1, 2, 1)
    for frames in (sender.target("left", 0, 5000), sender.events(events, 5000), sender.reset(5000)):
        pipeline.handle(frames)
    assert not pipeline.wire.refused
    store = CheckpointStore(tmp_path / "state" / "checkpoints")
    store.save(*capture(pipeline))
    return store


def asked(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main(["inspect", *argv, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return dict(json.loads(out))


def assert_shows_something(path: Path) -> None:
    from matplotlib.image import imread

    picture = imread(path)
    assert picture.shape[0] > 200 and picture.shape[1] > 200
    assert len(np.unique(picture[..., :3].reshape(-1, 3), axis=0)) > 20, "a blank picture"


@given(
    st.lists(st.lists(st.integers(0, 20_000), min_size=1, max_size=40), min_size=1, max_size=6), st.integers(0, 10**15)
)
def test_peak_is_the_fullest_millisecond(packets: list[list[int]], start: int) -> None:
    peak = Peak()
    for packet in packets:
        peak.add(np.array(packet, np.uint64) + np.uint64(start))
    ms = [(t - packets[0][0]) // 1000 for packet in packets for t in packet]
    assert peak.most == max(ms.count(m) for m in ms)


def test_peak_keeps_a_bounded_memory() -> None:
    peak = Peak()
    for k in range(50):
        peak.add(np.arange(k * 10**6, (k + 1) * 10**6, 500, dtype=np.uint64))
    assert peak.most == 2 and len(peak._counts) <= 1001


def test_a_recording_in_figures(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = asked(capsys, str(recording))
    t = [e[0] for e in EVENTS]
    assert told["kind"] == "recording" and told["format"] == "nmnist" and (told["width"], told["height"]) == (34, 34)
    assert told["events"] == 400 and told["on"] == sum(e[3] for e in EVENTS)
    assert told["t_first_us"] == t[0] and told["t_last_us"] == t[-1] and told["duration_us"] == t[-1] - t[0]
    assert told["mean_rate_hz"] == pytest.approx(400 / (t[-1] - t[0]) * 1e6)
    assert told["peak_events_per_ms"] == max(np.bincount((np.array(t) - t[0]) // 1000))
    assert told["warnings"] == []


def test_a_recording_in_words_with_its_damage(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording.write_bytes(recording.read_bytes()[:-2])
    assert main(["inspect", str(recording)]) == 0
    out, err = capsys.readouterr()
    assert "events      399" in out and "t_first_us  654" in out
    assert err.startswith("spiked inspect: ") and err.count("\n") == 1


@pytest.mark.parametrize("height", [34, 1])
def test_a_picture_of_a_recording(height: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, picture = tmp_path / "events.csv", tmp_path / "events.png"
    path.write_text("".join(f"{t},{x},{y % height},{on}\n" for t, x, y, on in EVENTS))
    assert main(["inspect", str(path), "--plot", str(picture)]) == 0
    assert_shows_something(picture)


def test_one_event_is_drawn_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, picture = tmp_path / "one.csv", tmp_path / "one.png"
    path.write_text("5,1,1,1\n")
    assert main(["inspect", str(path), "--plot", str(picture)]) == 0
    assert picture.stat().st_size > 1000 and "mean rate   -" in capsys.readouterr().out


def test_a_checkpoint(store: CheckpointStore, capsys: pytest.CaptureFixture[str]) -> None:
    name = store.names()[0]
    stem = store.directory / name
    for path in (f"{stem}.json", f"{stem}.safetensors", str(store.directory), str(store.directory.parent)):
        told = asked(capsys, path)
        assert told["kind"] == "checkpoint" and told["name"] == name and told["verified"] and told["bytes"] > 1000
        assert told["streams"]["cam0"]["classes"] == ["left", "right"]
        assert any(key.startswith("cam0/learner.") for key in told["arrays"])
    assert main(["inspect", str(store.directory)]) == 0
    assert "stream      cam0: 0.005 s, classes left, right" in capsys.readouterr().out


def test_a_picture_of_a_checkpoint(store: CheckpointStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "c.png"
    assert main(["inspect", str(store.directory), "--plot", str(picture)]) == 0
    assert_shows_something(picture)


def test_a_damaged_checkpoint_fails(store: CheckpointStore, capsys: pytest.CaptureFixture[str]) -> None:
    path = store.directory / f"{store.names()[0]}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert main(["inspect", str(path)]) == 1
    assert "verified    no: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        ["missing.aedat4"], ["empty.bin"], ["none.json"], ["."],
        ["empty.bin", "--plot", "x.jpeg"], ["empty.bin", "--plot", "nowhere/x.png"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_one_line(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.bin").touch()
    assert main(["inspect", *argv]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("spiked inspect: ") and err.count("\n") == 1 and not err.endswith(".\n")


def test_matplotlib_is_asked_for_by_its_extra(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["inspect", str(recording), "--plot", "x.png"]) == 2
    assert "pip install 'spiked[plots]'" in capsys.readouterr().err


STATED: list[tuple[str, dict[str, Any]]] = [
    (
        "files/davis.aedat4",
        {
            "format": "aedat4", "width": 346, "height": 260, "events": 117_667, "on": 72_363,
            "t_first_us": 1633953690975950, "t_last_us": 1633953691105949,
        },
    ),
    (
        "files/evt2.raw",
        {
            "format": "evt2", "width": 640, "height": 480, "events": 521_252, "on": 185_861,
            "t_first_us": 913716224, "t_last_us": 913812095,
        },
    ),
    ("files/evt3_sample.raw", {"format": "evt3", "width": 1280, "height": 720, "events": 219_596}),
    ("files/dat_test_NCARS.dat", {"format": "dat", "events": 4407, "on": 1671, "t_first_us": 0, "t_last_us": 99937}),
    ("files/dvs.es", {"format": "es", "width": 320, "height": 240, "events": 473_225}),
    ("files/sample_nmnist.bin", {"width": 34, "events": 4325, "on": 2145, "t_first_us": 654, "t_last_us": 311175}),
    ("files/grasp2007-04-23.dat", {"format": "aedat1", "width": 128, "events": 48_100, "on": 18_729}),
    (
        "files/MovingDarkBox.aedat",
        {"format": "aedat2", "width": 128, "height": 128, "events": 489_834, "on": 246_923, "peak_events_per_ms": 406},
    ),
    ("cochlea/VowelSounds.aedat", {"format": "aedat2", "events": 111_318}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "facts"), STATED, ids=[s[0] for s in STATED])
def test_real_recordings_are_as_stated(
    name: str, facts: dict[str, Any], data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = asked(capsys, str(data_dir / name))
    assert {key: told[key] for key in facts} == facts


def test_survey_tells_what_summary_tells(data_dir: Path) -> None:
    recording = open_recording(data_dir / "cochlea" / "130.aedat")  # its time steps back
    told = survey(recording)
    expected = summary(recording)
    assert {key: told[key] for key in expected} == expected
