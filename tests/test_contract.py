"""The outside client, written from the contract alone, is served as it is; and real sensors are learnt from."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

CLIENT = ROOT.parent / "shared" / "contract" / "client.py"
NETWORK = {"layers": [{"neurons": 256}], "classes": list("01234567")}
STREAM = {"id": "cam0", "width": 34, "height": 34, "planes": 2}


@pytest.fixture(scope="module")
def client() -> ModuleType:
    if not CLIENT.exists():
        pytest.skip("the outside client is not beside the checkout: ../shared/contract/client.py")
    spec = importlib.util.spec_from_file_location("outside_client", CLIENT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def spiked(tmp_path: Path) -> str:
    """A command of one word that runs this checkout."""
    path = tmp_path / "spiked"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m spiked "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def daemon(client: ModuleType, tmp_path: Path, spiked: str) -> Iterator[Any]:
    with client.Daemon(STREAM, NETWORK, state_dir=tmp_path / "d", spiked=spiked) as d:
        yield d


def finals(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [p for p in predictions if p.get("final")]


def test_nmnist_over_the_wire(client: ModuleType, daemon: Any, data_dir: Path) -> None:
    """A part of N-MNIST, single pass; benchmarks/nmnist.py measures the whole."""
    data = client.NMnist(data_dir / "nmnist8" / "nmnist8.npz")
    subscriber, sender = client.Subscriber(daemon.predictions), client.Sender(daemon.ingest, "cam0", 34, 34)
    train, test = data.pick(0, 90, seed=1), data.pick(1, 25)
    end = data.send(sender, train)
    data.send(sender, test, end, teach=False)
    said = finals(subscriber.drain())
    assert len(said) == len(train) + len(test)
    right = np.array([p["class"] == data.label[i] for p, i in zip(said, [*train, *test])])
    assert right[: len(train) // 5].mean() < right[len(train) * 4 // 5 : len(train)].mean(), "it learns"
    assert right[len(train) :].mean() >= 0.9
    assert daemon.total("spiked_messages_rejected_total") == daemon.total("spiked_messages_lost_total") == 0


def test_rel8_heartbeats_and_a_new_class_by_name(client: ModuleType, daemon: Any) -> None:
    subscriber, sender = client.Subscriber(daemon.predictions, "cam0/"), client.Sender(daemon.ingest, "cam0", 34, 34)
    sender.events([5, 1500, 2500], [1, 2, 3], [4, 5, 6], [0, 1, 0], 20_000, codec=2)
    sender.events([], [], [], [], 40_000)
    sender.raw(*sender.message(2, 4, 40_000, 60_000, b"wave", 1))
    sender.events([40_001], [1], [1], [1], 60_000)
    sender.reset(60_000)
    said = subscriber.drain()
    assert [p["t_us"] for p in said] == [10_000 * k for k in range(1, 7)]
    assert len(finals(said)) == 1
    assert daemon.ctl(do="status")["streams"]["cam0"]["classes"][-1] == "wave"
    assert daemon.total("spiked_events_total", stream="cam0") == 4


def test_malformed_messages(client: ModuleType, daemon: Any) -> None:
    subscriber, sender = client.Subscriber(daemon.predictions), client.Sender(daemon.ingest, "cam0", 34, 34)
    payload = bytes(13)
    for reason, change in {
        "magic": {"magic": b"JUNK"}, "codec": {"codec": 77}, "count": {"count": 2}, "geometry": {"w": 35},
        "crc": {"crc": 1}, "size": {"nbytes": 14},
    }.items():  # fmt: skip
        kind, codec = 1, change.pop("codec", 1)
        sender.raw(*sender.message(kind, codec, 0, 1000, payload, **{"count": 1, **change}))  # type: ignore[arg-type]
        sender.events([1], [1], [1], [1], 1_000)
        client_wait(lambda r=reason: daemon.total("spiked_messages_rejected_total", stream="cam0", reason=r) == 1)
    sender.events([1500], [34], [1], [1], 10_000)
    sender.events([1500], [1], [1], [1], 20_000)
    assert subscriber.drain()[-1]["t_us"] == 20_000
    assert daemon.total("spiked_messages_rejected_total", reason="range") == 1
    assert daemon.total("spiked_messages_lost_total") == 0


def client_wait(condition: Any) -> None:
    from live import wait_for

    wait_for(condition, "the refusal is counted", 20)


def test_a_crash_and_a_restart(client: ModuleType, tmp_path: Path, spiked: str) -> None:
    d = client.Daemon(STREAM, NETWORK, state_dir=tmp_path / "d", spiked=spiked)
    with d:
        sender = client.Sender(d.ingest, "cam0", 34, 34)
        sender.target(3, 0, 50_000)
        sender.events(np.arange(0, 50_000, 100), np.arange(500) % 34, np.arange(500) // 34, np.arange(500) % 2, 50_000)
        sender.reset(50_000)
        client_wait(lambda: d.ctl(do="status")["streams"]["cam0"]["next_seq"] == 3)
        assert d.ctl(do="checkpoint")["ok"]
        assert d.stop(signal.SIGKILL) == -9
        d.start()
        status = d.ctl(do="status")["streams"]["cam0"]
        assert status["updates"] == 1 and status["next_seq"] == 3
        assert d.stop() == 0
    assert (tmp_path / "d" / "state" / "checkpoints").exists()


def test_cochlea_tones_are_told_apart(client: ModuleType, tmp_path: Path, spiked: str, data_dir: Path) -> None:
    """Four pure tones through a real silicon cochlea, 2 s of each taught, then played again untold."""
    from spiked.io.recordings import open_recording

    tones = ["130", "349", "698", "1396"]
    stream = {"id": "ear", "width": 64, "height": 1, "planes": 2}
    network = {"layers": [{"neurons": 64}], "classes": tones}
    sounds = {}
    for tone in tones:
        recording = open_recording(data_dir / "cochlea" / f"{tone}.aedat")
        events = np.concatenate(list(recording.packets()))
        events["t"] -= events["t"].min()
        sounds[tone] = events
    with client.Daemon(stream, network, state_dir=tmp_path / "d", spiked=spiked) as d:
        subscriber, sender = client.Subscriber(d.predictions), client.Sender(d.ingest, "ear", 64, 1)
        t0 = 0

        def play(tone: str, seconds: int, taught: bool) -> None:
            nonlocal t0
            events = sounds[tone]
            if taught:
                sender.target(tones.index(tone), t0, t0 + seconds * 1_000_000)
            for _ in range(seconds * 2):
                first, end = t0, t0 + 500_000
                t = first + np.minimum(events["t"].astype(np.int64), 499_999)
                for part in np.array_split(np.arange(len(t)), 50):  # as a sensor sends: small messages, jitter and all
                    last = int(t[part].max()) if part[-1] != len(t) - 1 else end
                    sender.raw(*rel8(sender, t[part], events[part], last))
                t0 = end
            sender.reset(t0)

        def rel8(sender: Any, t: Any, e: Any, last: int) -> list[bytes]:
            packed = np.zeros(len(t), client.REL8)
            packed["dt"], packed["x"], packed["y"] = t - t.min(), e["x"], e["y"] | (e["on"].astype("u2") << 15)
            return list(sender.message(1, 2, int(t.min()), int(last), packed.tobytes(), len(t)))

        for tone in tones:
            play(tone, 2, True)
        for tone in [*tones, *reversed(tones)]:
            play(tone, 1, False)
        said = subscriber.drain(2.0)
        untold = [p for p in said if p["t_us"] > 8_000_000]
        assert [p["label"] for p in finals(untold)] == [*tones, *reversed(tones)]
        settled = [p for p in untold if p["t_us"] % 1_000_000 >= 500_000]
        names = [*tones, *reversed(tones)]
        right = [p["label"] == names[(p["t_us"] - 8_000_000) // 1_000_000] for p in settled]
        assert np.mean(right) > 0.95
        assert d.total("spiked_messages_rejected_total") == 0
        assert d.total("spiked_events_total") == sum(len(s) for s in sounds.values()) * 8
        assert d.total("spiked_events_dropped_total") < 0.01 * d.total("spiked_events_total")
