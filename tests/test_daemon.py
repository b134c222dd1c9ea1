"""The daemon from outside: real processes, sockets and signals."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from live import CAM0, Live, drain, sample_messages, wait_for

from spiked.io.sender import Sender
from spiked.io.sim_dvs import dvs_samples
from spiked.io.sim_scenes import Sample
from spiked.io.wire import HEADER, EventCodec

CONFIG = """
[network]
layers = [{ neurons = 64 }]
classes = [%s]

[[stream]]
id = "cam0"
width = 34
height = 34
"""


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """A few dozen looks at moving things."""
    return list(itertools.islice(dvs_samples(seed=3, split="train"), 60))


@pytest.fixture(scope="module")
def text(samples: list[Sample]) -> str:
    names = sorted({s.name for s in samples})
    return CONFIG % ", ".join(json.dumps(n) for n in names)


@pytest.fixture
def live(tmp_path: Path, text: str) -> Iterator[Live]:
    with Live(tmp_path, text) as daemon:
        yield daemon


def messages_of(samples: list[Sample], epoch: int, taught: bool = True) -> list[list[bytes]]:
    sender, out, t0 = Sender("cam0", CAM0, epoch), [], 0
    codecs = itertools.cycle(EventCodec)
    for sample in samples:
        out += sample_messages(
            sender, sample.events, t0, sample.duration_us, sample.name if taught else None, next(codecs)
        )
        t0 += sample.duration_us
    return out


def send_all(live: Live, messages: list[list[bytes]]) -> None:
    push = live.push()
    for frames in messages:
        push.send_multipart(frames)
    push.close()


def test_it_learns_from_a_live_stream_and_says_so(live: Live, samples: list[Sample]) -> None:
    subscriber = live.subscribe("cam0/")
    send_all(live, messages_of(samples, 1))
    said = drain(subscriber, len(samples))
    final = [p for p in said if p.get("final")]
    right = [p["label"] == s.name for p, s in zip(final, samples)]
    assert np.mean(right[-20:]) > 2 / len({s.name for s in samples}), "it does better than chance"
    assert [p["seq"] for p in said] == list(range(len(said)))
    assert all(p["t_us"] == p["step"] * 1000 and p["v"] == 1 and p["latency_us"] >= 0 for p in said)
    every = [p["t_us"] for p in said if not p.get("final")]
    assert set(np.diff(every)) <= {10_000, 20_000}  # a final one stands in where the two fall together
    assert final[-1]["updates"] == len(samples)
    assert live.status()["updates"] == len(samples)
    assert live.metric("spiked_events_total", stream="cam0") == sum(len(s.events) for s in samples)
    assert live.metric("spiked_steps_total") == sum(s.duration_us for s in samples) / 1000
    assert live.metric("spiked_messages_total", kind="target") == len(samples)
    assert live.metric("spiked_messages_lost_total") == live.metric("spiked_messages_rejected_total") == 0
    assert live.metric("spiked_accuracy") == pytest.approx(np.mean(right))


def test_every_metric_of_the_contract_is_there(live: Live, samples: list[Sample]) -> None:
    send_all(live, messages_of(samples[:3], 1))
    live.wait_seq(8)
    assert live.ask(do="checkpoint")["ok"]
    live.push().send_multipart([b"nobody/", b"", b""])
    wait_for(
        lambda: live.metric("spiked_messages_rejected_total", stream="unknown") == 1, "the stray message is counted"
    )
    page = live.get("/metrics")[1]
    names = [
        "events_total", "messages_total", "messages_rejected_total", "messages_lost_total", "events_dropped_total",
        "steps_total", "step_seconds_bucket", "latency_seconds_bucket", "lag_seconds", "spikes_total",
        "firing_rate_hz", "silent_neurons", "predictions_total", "targets_total", "accuracy", "class_accuracy",
        "forgetting", "loss", "updates_total", "weight_norm", "update_norm", "threshold_mean", "learning_enabled",
        "checkpoint_age_seconds", "checkpoint_bytes", "checkpoint_seconds", "checkpoints_total", "compile_seconds",
        "start_time_seconds", "build_info",
    ]  # fmt: skip
    missing = [n for n in names if f"\nspiked_{n}{{" not in page and f"\nspiked_{n} " not in page]
    assert not missing
    assert "# TYPE spiked_rollbacks_total counter" in page


def test_health_and_unknown_pages(live: Live) -> None:
    assert live.get("/healthz") == (200, "alive\n")
    assert live.get("/readyz") == (200, "ready\n")
    assert live.get("/passwd")[0] == 404


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_checkpoints_and_exits_0_within_2_s(
    tmp_path: Path, text: str, samples: list[Sample], number: int
) -> None:
    with Live(tmp_path, text) as live:
        send_all(live, messages_of(samples[:5], 1))
        before = live.wait_seq(14)
        began = time.monotonic()
        assert live.stop(number) == 0
        assert time.monotonic() - began < 2
    with Live(tmp_path / "again", text, state_dir=live.state_dir) as again:
        after = again.status()
        assert "continuing from checkpoint" in again.log()
    for key in ("weights_crc", "next_seq", "epoch", "watermark_us", "step", "updates", "classes"):
        assert after[key] == before[key], key


def test_a_signal_while_it_compiles_ends_it_too(tmp_path: Path, text: str) -> None:
    live = Live(tmp_path, text, env={"SPIKED_CACHE_DIR": str(tmp_path / "cache")})  # nothing is compiled yet
    live.spawn()
    wait_for(lambda: live.get("/healthz") == (200, "starting\n"), "it is starting")
    assert live.get("/readyz") == (503, "starting\n")
    began = time.monotonic()
    assert live.stop() == 0
    assert time.monotonic() - began < 2
    assert "Traceback" not in live.log()
    live.__exit__()


def test_a_signal_ends_it_also_where_the_compiler_does_not_hear_it() -> None:
    code = """
import signal, socket, time
from spiked.service.compiling import ends_in_time
wake, sender = socket.socketpair()
wake.setblocking(False), sender.setblocking(False)
signal.signal(signal.SIGTERM, lambda *_: None)
signal.set_wakeup_fd(sender.fileno())
with ends_in_time(wake, 0.2):
    print("inside", flush=True)
    while True:
        time.sleep(1)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"inside\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_kill_9_costs_nothing_that_was_checkpointed(tmp_path: Path, text: str, samples: list[Sample]) -> None:
    messages = messages_of(samples, epoch=7)
    with Live(tmp_path / "straight", text) as live:
        send_all(live, messages)
        straight = live.wait_seq(len(messages) - 1)
    every = "[checkpoint]\nevery_s = 0.2\n" + text
    killer = random.Random(5)
    with Live(tmp_path / "broken", every) as broken:
        done = 0
        for cut in (killer.randrange(30, 60), killer.randrange(80, 140)):
            send_all(broken, messages[done : cut + 1])
            broken.wait_seq(cut)
            names = broken.ask(do="status")["checkpoints"]
            wait_for(lambda: broken.ask(do="status")["checkpoints"] != names, "a checkpoint is written")  # noqa: B023
            send_all(broken, messages[cut + 1 : cut + 9])
            assert broken.stop(signal.SIGKILL) == -signal.SIGKILL
            broken.start()
            done = broken.status()["next_seq"]
            assert 0 < done <= cut + 9, "it goes on from the checkpoint"
        send_all(broken, messages[done:])
        resumed = broken.wait_seq(len(messages) - 1)
    assert resumed["weights_crc"] == straight["weights_crc"], "the same weights, bit for bit"
    assert resumed["updates"] == straight["updates"] and resumed["lost"] == 0


def test_malformed_messages_are_counted_and_the_next_good_one_is_served(live: Live, samples: list[Sample]) -> None:
    good = messages_of(samples[:2], 1, taught=False)
    topic, header, payload = good[0]
    wrong = {
        "frames": [topic, header], "topic": [b"cam0", header, payload], "magic": [topic, b"XPK1" + header[4:], payload],
        "kind": [topic, header[:4] + b"\x09" + header[5:], payload],
        "codec": [topic, header[:5] + b"\x09" + header[6:], payload],
        "size": [topic, header[:40], payload], "crc": [topic, header[:-4] + b"\0\0\0\0", payload],
        "count": [topic, header[:40] + struct.pack("<I", 1) + header[44:], payload],
        "geometry": [topic, header[:48] + struct.pack("<H", 35) + header[50:], payload],
        "flags": [topic, header[:54] + struct.pack("<H", 3) + header[56:], payload],
    }  # fmt: skip
    subscriber = live.subscribe()
    push = live.push()
    for frames in wrong.values():
        push.send_multipart(frames)
    push.send_multipart([b"cam9/", header, payload])
    push.send_multipart([os.urandom(40) for _ in range(3)])
    for frames in good:
        push.send_multipart(frames)
    assert len([p for p in drain(subscriber, 2) if p.get("final")]) == 2
    for reason in wrong:
        stream = "unknown" if reason in ("frames", "topic") else "cam0"
        expected = 2 if reason == "topic" else 1  # random bytes are no topic either
        assert live.metric("spiked_messages_rejected_total", stream=stream, reason=reason) == expected, reason
    assert live.metric("spiked_messages_rejected_total", reason="unknown_stream") == 1
    assert live.metric("spiked_messages_lost_total") == 0
    assert HEADER.size == 64


def test_stray_tcp_connections_do_no_harm(live: Live, samples: list[Sample]) -> None:
    host, port = live.ingest.removeprefix("tcp://").split(":")
    for k in range(50):
        with socket.create_connection((host, int(port)), timeout=5) as s:
            s.sendall(os.urandom(20 * k) if k % 2 else b"GET / HTTP/1.0\r\n\r\n")
    subscriber = live.subscribe()
    send_all(live, messages_of(samples[:1], 1, taught=False))
    assert drain(subscriber, 1)[-1]["final"]


def test_the_control_socket_survives_everything(live: Live, samples: list[Sample]) -> None:
    for frames in ([b"{"], [b""], [b"[]"], [b"\xff\xfe"], [b'{"do": 3}'], [b'{"do":', b'"status"}'], [b"null"]):
        assert b'"ok"' in live.ask_raw(*frames)
    assert live.ask(do="fly")["error"] == (
        "do: 'fly'; allowed: checkpoint, status, rollback, freeze, unfreeze, set, reset, teach, stop"
    )
    assert "allowed: cam0" in live.ask(do="freeze", stream="nobody")["error"]
    assert "a number >= 0" in live.ask(do="set", rate="fast")["error"]
    assert "nothing to set" in live.ask(do="set")["error"]
    assert "unknown key" in live.ask(do="status", verbose=True)["error"]
    assert "none written yet" in live.ask(do="rollback", name="x")["error"]
    assert "shown nothing yet" in live.ask(do="teach", **{"class": "wave"})["error"]
    assert "wave" not in live.status()["classes"], "a refused request changes nothing"
    send_all(live, messages_of(samples[:2], 1))
    live.wait_seq(5)
    assert "up to learning.memory_ms" in live.ask(do="teach", **{"class": "wave", "ms": 1e9})["error"]
    first = live.ask(do="checkpoint")
    digest = live.status()["weights_crc"]
    taught = live.ask(do="teach", **{"class": "wave", "ms": 200})
    assert taught["ok"] and taught["label"] == "wave" and live.status()["classes"][-1] == "wave"
    assert live.ask(do="rollback", name=first["name"])["ok"]
    assert live.status()["classes"][-1] == "wave", "a name outlives what was known of it"
    assert live.ask(do="freeze")["learning"] is False and live.status()["learning"] is False
    assert live.ask(do="unfreeze")["learning"] is True
    assert live.ask(do="reset")["ok"] and live.ask(do="set", rate=0.1)["ok"]
    assert live.metric("spiked_rollbacks_total", stream="cam0") == 1
    assert digest
    assert live.ask(do="stop")["ok"]
    assert live.process is not None and live.process.wait(10) == 0


def test_rollback_brings_old_knowledge_back(live: Live, samples: list[Sample]) -> None:
    messages = messages_of(samples[:20], 1)
    send_all(live, messages[:30])
    live.wait_seq(29)
    name = live.ask(do="checkpoint")["name"]
    digest = live.status()["weights_crc"]
    send_all(live, messages[30:])
    live.wait_seq(59)
    assert live.status()["weights_crc"] != digest
    assert live.ask(do="rollback", name=name)["ok"]
    status = live.status()
    assert status["weights_crc"] == digest and status["next_seq"] == 60


def test_a_second_daemon_is_refused_with_the_pid(live: Live, tmp_path: Path, text: str) -> None:
    second = Live(tmp_path / "second", text, state_dir=live.state_dir)
    with pytest.raises(AssertionError, match="exited 1"):
        second.start()
    assert live.process is not None
    assert f"in use by the daemon with pid {live.process.pid}" in second.log()
    second.__exit__()


def test_a_taken_port_is_one_line(live: Live, tmp_path: Path, text: str) -> None:
    second = Live(tmp_path / "second", text)
    second.config.write_text(second.config.read_text().replace(second.ingest, live.ingest))
    with pytest.raises(AssertionError, match="exited 1"):
        second.start()
    assert (
        second.log().strip().splitlines()[-1]
        == f"spiked run: {live.ingest}: cannot listen there: Address already in use; see docs/first-run.md#ports"
    )
    second.__exit__()


def test_another_network_is_not_loaded_over_what_was_learnt(tmp_path: Path, text: str, samples: list[Sample]) -> None:
    with Live(tmp_path, text) as live:
        send_all(live, messages_of(samples[:1], 1))
        live.wait_seq(2)
        assert live.stop() == 0
    other = Live(tmp_path / "other", text.replace("neurons = 64", "neurons = 65"), state_dir=live.state_dir)
    with pytest.raises(AssertionError, match="exited 2"):
        other.start()
    assert "the checkpoint holds another network than the configuration" in other.log()
    other.__exit__()


def test_what_another_configuration_learnt_is_kept(tmp_path: Path, text: str, samples: list[Sample]) -> None:
    with Live(tmp_path, text) as live:
        send_all(live, messages_of(samples[:2], 1))
        digest = live.wait_seq(5)["weights_crc"]
        assert live.stop() == 0
    with Live(tmp_path / "other", text.replace("cam0", "cam1"), state_dir=live.state_dir) as other:
        assert "stream 'cam0' of the checkpoint is not configured; what it learnt is kept as it is" in other.log()
        assert other.status("cam1")["updates"] == 0
        assert other.stop() == 0
    with Live(tmp_path / "again", text, state_dir=live.state_dir) as again:
        assert again.status()["weights_crc"] == digest and again.status()["updates"] == 2


def test_a_last_checkpoint_that_fails_is_a_failure(tmp_path: Path, text: str, samples: list[Sample]) -> None:
    with Live(tmp_path, text) as live:
        send_all(live, messages_of(samples[:1], 1))
        live.wait_seq(2)
        checkpoints = live.state_dir / "checkpoints"
        checkpoints.rename(live.state_dir / "gone")
        checkpoints.write_text("in the way")
        assert not live.ask(do="checkpoint")["ok"]
        assert live.status()["updates"] == 1, "it lives on"
        assert live.stop() == 1
    assert "checkpoint failed" in live.log()


def test_sub_mode_counts_what_it_misses(tmp_path: Path, text: str, samples: list[Sample]) -> None:
    with Live(tmp_path, '[ingest]\nmode = "sub"\n' + text) as live:
        publisher = live.context.socket(zmq.XPUB)
        publisher.setsockopt(zmq.LINGER, 0)
        publisher.connect(live.ingest)
        assert publisher.poll(10_000) and publisher.recv() == b"\x01cam0/"
        messages = messages_of(samples[:4], 1)
        for k, frames in enumerate(messages):
            if k not in (4, 5):  # lost on the way
                publisher.send_multipart(frames)
        live.wait_seq(len(messages) - 1)
        assert live.metric("spiked_messages_lost_total", stream="cam0") == 2


def test_a_slow_subscriber_stalls_nobody(tmp_path: Path, text: str, samples: list[Sample]) -> None:
    with Live(tmp_path, "[predictions]\nqueue_messages = 5\n" + text) as live:
        slow = live.context.socket(zmq.SUB)
        slow.setsockopt(zmq.RCVHWM, 1)
        slow.setsockopt(zmq.RCVBUF, 4096)
        slow.setsockopt_string(zmq.SUBSCRIBE, "")
        slow.connect(live.predictions)
        wait_for(lambda: live.ask(do="status")["subscribers"] == 1, "the subscription has arrived")
        messages = messages_of(list(itertools.islice(itertools.cycle(samples), 200)), 1)
        send_all(live, messages)
        live.wait_seq(len(messages) - 1)
        made = live.status()["predictions"]
        assert made >= 6000
        assert 0 < live.metric("spiked_predictions_dropped_total", stream="cam0") < made
        slow.close(0)


def test_a_truncated_kernel_cache_is_rebuilt(tmp_path: Path) -> None:
    code = "import numpy as np; from spiked.learners.surrogates import surrogate; print(surrogate(2, 0.25, 2.0))"
    env = {**os.environ, "SPIKED_CACHE_DIR": str(tmp_path)}

    def run() -> str:
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert run() == "0.5"
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files, "kernels are cached"
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert run() == "0.5"
    assert list(tmp_path.rglob("*.nbi"))
    assert run() == "0.5"


def test_an_unwritable_cache_means_uncached(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    code = "from spiked.learners.jit import CACHE_DIR as c; from spiked.learners.surrogates import surrogate as s; "
    code += "print(c, s(2, 0., 1.))"
    env = {**os.environ, "SPIKED_CACHE_DIR": str(blocked / "below")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None 1.0"
