"""The commands as a user runs them: demo, run, replay, watch, ctl."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from live import SPIKED, Live, free_ports_in_a_row, wait_for

from spiked.io.events import EVENT_DTYPE, make_events
from spiked.service.cli import COMMANDS
from spiked.service.cmd_replay import PACKET_US, slices

TEXT = """
[network]
layers = [{ neurons = 32 }]

[[stream]]
id = "cam0"
width = 34
height = 34
"""


def spiked(*args: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SPIKED, *args], capture_output=True, text=True, timeout=timeout_s)


def nmnist_bytes(n: int, step_us: int = 100) -> bytes:
    """An N-MNIST file of `n` events that walk over the sensor."""
    out = bytearray()
    for k in range(n):
        t = k * step_us
        out += bytes([k % 34, k // 34 % 34, (k % 2) << 7 | t >> 16 & 0x7F, t >> 8 & 255, t & 255])
    return bytes(out)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    done = spiked(command, "--help")
    assert done.returncode == 0 and re.search(rf"example:\n +spiked {command} ?", done.stdout)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ((), 2, "required: COMMAND"),
        (("fly",), 2, "invalid choice: 'fly'"),
        (("run", "missing.toml"), 2, "missing.toml: cannot be read: No such file or directory"),
        (("demo", "--seconds", "-3"), 2, "--seconds: -3; more than 0"),
        (("demo", "--port", "70000"), 2, "--port: 70000; 0 to 65532"),
        (("watch", "nonsense"), 2, "'nonsense' is no endpoint"),
        (("ctl", "tcp://127.0.0.1:9", "status", "--timeout", "0.2"), 1, "within 0.2 s; is the daemon running?"),
        (("ctl", "tcp://127.0.0.1:9", "fly"), 2, "invalid choice: 'fly'"),
        (("ctl", "tcp://127.0.0.1:9", "status", "--timeout", "nan"), 2, "--timeout: nan; more than 0"),
        (("ctl", "tcp://127.0.0.1:99999", "status"), 2, "port 99999; 1 to 65535"),
        (("ctl", "tcp://127.0.0.1:9", "teach", "--class", "\udcff"), 2, "not valid text in UTF-8"),
        (("replay", "a.bin", "--to", "tcp://127.0.0.1:9", "--stream", "a b"), 2, "--stream: 'a b'; 1-64 characters"),
        (("replay", "a.bin", "--to", "tcp://127.0.0.1:9", "--stream", "a", "--label", "x" * 65), 2, "1-64 bytes"),
        (("replay", "missing.bin", "--to", "tcp://127.0.0.1:9", "--stream", "a"), 2, "missing.bin"),
        (("replay", __file__, "--to", "tcp://127.0.0.1:9", "--stream", "a"), 2, "test_commands.py"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_and_a_code(args: tuple[str, ...], code: int, says: str) -> None:
    done = spiked(*args)
    assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr
    if args and args[0] != "fly" and "fly" not in args:
        assert len(done.stderr.strip().splitlines()) == 1


def test_check_prints_a_configuration_that_checks(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TEXT)
    first = spiked("run", str(tmp_path / "a.toml"), "--check")
    (tmp_path / "b.toml").write_text(first.stdout)
    second = spiked("run", str(tmp_path / "b.toml"), "--check")
    assert first.returncode == second.returncode == 0 and first.stdout == second.stdout
    assert "neurons = 32" in first.stdout


def test_replay_watch_and_ctl(tmp_path: Path) -> None:
    recording = tmp_path / "walk.bin"
    recording.write_bytes(nmnist_bytes(5000))
    with Live(tmp_path / "d", TEXT) as live:
        watch = subprocess.Popen(
            [*SPIKED, "watch", live.predictions, "--stream", "cam0", "--json", "--count", "3"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for(lambda: live.ask(do="status")["subscribers"] == 1, "watch has subscribed")
        to = ("--to", live.ingest, "--stream", "cam0")
        done = spiked("replay", str(recording), str(recording), *to, "--speed", "max", "--label", "walk")
        assert done.returncode == 0 and done.stdout.startswith("10000 events, 1.000 s of stream time"), done
        said = [json.loads(line) for line in watch.communicate(timeout=30)[0].splitlines()]
        assert watch.returncode == 0 and [p["label"] for p in said] == ["walk"] * 3
        live.wait_seq(105)  # 2 x (a target, 50 packets, a reset, a target)
        assert live.metric("spiked_events_total", stream="cam0") == 10_000
        assert live.metric("spiked_messages_rejected_total") == live.metric("spiked_events_dropped_total") == 0
        assert live.metric("spiked_updates_total") == 2
        shown = spiked("ctl", live.control, "status")
        assert shown.returncode == 0 and "classes: walk" in shown.stdout
        taught = spiked("ctl", live.control, "teach", "--class", "other", "--ms", "300")
        assert taught.returncode == 0 and "label: other" in taught.stdout
        refused = spiked("ctl", live.control, "rollback", "--name", "nothing")
        assert refused.returncode == 1 and "spiked ctl: name: 'nothing'" in refused.stderr
        assert json.loads(spiked("ctl", live.control, "checkpoint", "--json").stdout)["ok"]
        assert spiked("ctl", live.control, "stop").returncode == 0
        assert live.process is not None and live.process.wait(10) == 0


def test_replay_at_real_time_ends_with_ctrl_c(tmp_path: Path) -> None:
    recording = tmp_path / "walk.bin"
    recording.write_bytes(nmnist_bytes(100_000, 80))
    with Live(tmp_path / "d", TEXT) as live:
        args = ["replay", str(recording), "--to", live.ingest, "--stream", "cam0", "--loop"]
        replay = subprocess.Popen([*SPIKED, *args], stdout=subprocess.PIPE, text=True)
        wait_for(lambda: live.metric("spiked_events_total") > 1000, "events come")
        replay.send_signal(signal.SIGINT)
        assert "events" in replay.communicate(timeout=15)[0] and replay.returncode == 0


def test_replay_of_every_real_recording(tmp_path: Path, data_dir: Path) -> None:
    """What a file holds is what the daemon counts, whatever the format and the payload."""
    from spiked.io.recordings import open_recording, summary

    names = ["files/sample_nmnist.bin", "files/dat_test_NCARS.dat", "files/grasp2007-04-23.dat", "cochlea/130.aedat"]
    codecs = ["rel8", "evt2", "evt3", "txyp13"]
    for name, codec in zip(names, codecs):
        path = data_dir / name
        facts = summary(open_recording(path))
        planes = open_recording(path).geometry.planes
        text = TEXT.replace("width = 34", f"width = {facts['width']}").replace(
            "height = 34", f"height = {facts['height']}"
        )
        with Live(tmp_path / codec, text + f"planes = {planes}\n") as live:
            args = ("--to", live.ingest, "--stream", "cam0", "--speed", "max", "--codec", codec)
            done = spiked("replay", str(path), *args)
            assert done.returncode == 0, done.stderr
            wait_for(lambda: live.metric("spiked_events_total") == facts["events"], f"all events of {name}", 20)  # noqa: B023
            assert live.metric("spiked_messages_rejected_total") == 0


def test_who_waits_says_so_and_loses_nothing(tmp_path: Path) -> None:
    """A replay begun before its daemon waits for it, and everything arrives."""
    recording = tmp_path / "walk.bin"
    recording.write_bytes(nmnist_bytes(500))
    live = Live(tmp_path / "d", TEXT)
    args = ["replay", str(recording), "--to", live.ingest, "--stream", "cam0", "--speed", "max", "--label", "walk"]
    replay = subprocess.Popen([*SPIKED, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = subprocess.Popen([*SPIKED, "watch", live.predictions], stderr=subprocess.PIPE, text=True)
    assert replay.stderr is not None and watch.stderr is not None
    assert replay.stderr.readline() == f"spiked replay: waiting for a daemon at {live.ingest}\n"
    assert watch.stderr.readline() == f"spiked watch: waiting for a daemon at {live.predictions}\n"
    with live:
        assert replay.wait(30) == 0
        wait_for(lambda: live.metric("spiked_events_total") == 500, "all events arrive")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(10) == 0


@pytest.mark.parametrize("where", [">&-", "> /dev/full"])
def test_output_that_cannot_be_written_is_no_traceback(where: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TEXT)
    command = f"{' '.join(SPIKED)} run {tmp_path / 'a.toml'} --check {where}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 1
    assert done.returncode == (0 if where == ">&-" else 1)


def test_slices_keep_every_event_in_order() -> None:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(5000, 400_000, 3000)) - rng.integers(0, 200, 3000)  # it steps back, as real sensors do
    events = make_events(t, 1, 2, 0)
    packets = np.array_split(events, 17)
    parts = list(slices(iter([*packets[:5], np.zeros(0, EVENT_DTYPE), *packets[5:]]), PACKET_US))
    assert np.array_equal(np.concatenate([p for p, _ in parts]), events)
    assert all(p["t"].max() < end for p, end in parts)
    ends = [end for _, end in parts]
    assert ends == sorted(set(ends)), "one slice, one promise"
    assert {(e - int(t[0])) % PACKET_US for e in ends} == {0}


def test_demo_learns_while_you_watch() -> None:
    port = free_ports_in_a_row(4)
    demo = subprocess.Popen(
        [*SPIKED, "demo", "--seconds", "8", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )

    def scrape() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    wait_for(lambda: 'spiked_accuracy{stream="camera"}' in scrape(), "the demo can be scraped while it runs")
    out = demo.communicate(timeout=90)[0]
    assert demo.returncode == 0, out
    shares = [int(n) for n in re.findall(r"right (\d+)% of the first fifth, (\d+)%", out) for n in n]
    assert len(shares) == 4 and shares[1] > shares[0] and shares[1] > 50, out
    assert re.search(r"first prediction after \d+\.\d s", out) and "times real time" in out


def test_demo_ends_with_ctrl_c_and_a_summary() -> None:
    demo = subprocess.Popen([*SPIKED, "demo", "--seconds", "600"], stdout=subprocess.PIPE, text=True, bufsize=1)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "samples" in line:
            break
    demo.send_signal(signal.SIGINT)
    out = demo.communicate(timeout=20)[0]
    assert demo.returncode == 0 and "of the first fifth" in out
