"""The systemd unit: what it promises is measured, and the README's commands install it; a stand-in starts it.

`deploy/rehearse` does the same under a real systemd, which a test cannot expect to find.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, wait_for
from test_readme import BLOCKS, README, sender_text
from test_service_manager import Manager

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "deploy" / "systemd" / "spiked@.service"
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()
EXPOSURE = 1.1
"""The most that `systemd-analyze security` may say, of 10."""


def service(unit: Path = UNIT, instance: str = "cam0") -> dict[str, list[str]]:
    """The keys of ``[Service]``, each with all its values, for one instance."""
    keys: dict[str, list[str]] = {}
    for line in unit.read_text().partition("[Service]")[2].partition("[Install]")[0].splitlines():
        if line and line[0] not in "#;":
            key, _, value = line.partition("=")
            keys.setdefault(key, []).append(value.replace("%i", instance))
    return keys


@pytest.fixture
def analyze(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """``systemd-analyze``, and the unit with a program that is there."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not there (Debian: systemd)")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/spiked/bin/spiked", "/bin/true"))
    yield program, unit


def test_the_unit_is_one(analyze: tuple[str, Path]) -> None:
    program, unit = analyze
    done = subprocess.run([program, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.splitlines() if "spiked" in line]
    assert done.returncode == 0 and not ours, done.stderr


def test_the_sandbox_is_as_tight_as_the_page_says(analyze: tuple[str, Path]) -> None:
    program, unit = analyze
    command = [program, "security", "--offline=yes", "--no-pager", unit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at a file (before 250)")
    said = re.search(r"Overall exposure level for .*: ([\d.]+) ", done.stdout)
    assert said is not None, done.stdout + done.stderr
    assert float(said[1]) <= EXPOSURE
    assert f"an exposure of {EXPOSURE} of 10" in DEPLOY
    for promised in ("DynamicUser=", "NoNewPrivileges=", "CapabilityBoundingSet=", "SystemCallFilter="):
        assert promised in UNIT.read_text()


def test_machine_code_cannot_be_made_without_memory_that_is_written_and_run() -> None:
    """What keeps MemoryDenyWriteExecute out of the unit; where this fails, put it in."""
    code = """
import ctypes, sys
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit(77)
import numba
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("the kernel cannot deny it (before 6.3)")
    assert done.returncode == 1 and "cannot allocate executable memory" in done.stderr
    assert "cannot allocate executable memory" in DEPLOY and "MemoryDenyWriteExecute" not in service()


def test_the_unit_fits_the_daemon() -> None:
    unit = service()
    assert unit["Type"] == ["notify"] and unit["StateDirectory"] == unit["CacheDirectory"] == ["spiked/cam0"]
    assert unit["RestartPreventExitStatus"] == ["2"]  # the exit code of a configuration that cannot be used
    assert float(unit["TimeoutStopSec"][0]) > 2 * 2.0
    assert f"`WatchdogSec={unit['WatchdogSec'][0]}`" in DEPLOY


STAND_INS = {
    "sudo": 'exec "$@"',
    "python3": '[ "$*" = "-m venv $ROOT/opt/spiked" ] && mkdir -p "$3/bin" && cp "$SHIMS"/spiked "$SHIMS"/pip "$3/bin"',
    "pip": '[ "$*" = "install ." ] && [ -e pyproject.toml ]',  # .ci/run and test_container.py install for real
    "spiked": f'exec {shlex.quote(sys.executable)} -P -m spiked "$@"',
    "systemctl": 'echo "$*" >>"$ROOT/systemctl"',
    "apt-get": 'echo "$*" >>"$ROOT/apt-get"',
}


def run_block(name: str, root: Path, folder: Path) -> None:
    """Run a block of the README literally, but for the root of the file system and for what needs a real one."""
    shims = root / "shims"
    shims.mkdir(parents=True, exist_ok=True)
    for command, body in STAND_INS.items():
        (shims / command).write_text(f"#!/bin/sh\n{body}\n")
        (shims / command).chmod(0o755)
    text = re.sub(r"(?<![\w.])/(opt|etc)/", rf"{root}/\1/", BLOCKS[name])
    for wanted in ("etc/systemd/system", "etc/prometheus"):  # of the packages
        (root / wanted).mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "ROOT": str(root), "SHIMS": str(shims), "PATH": f"{shims}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_commands_of_the_readme_end_with_a_daemon_that_learns(tmp_path: Path) -> None:
    root, clone = tmp_path / "root", tmp_path / "clone"
    clone.mkdir()
    for name in ("pyproject.toml", "deploy"):
        (clone / name).symlink_to(ROOT / name)
    manager = Manager(str(tmp_path / "notify"))
    live = Live(tmp_path / "live", BLOCKS["minimal-config"])
    (clone / "my.toml").write_text(live.config.read_text().replace(f'state_dir = "{live.state_dir}"\n', ""))

    run_block("service-install", root, clone)
    said = (root / "systemctl").read_text().splitlines()
    assert said == ["daemon-reload", "enable --now spiked@cam0", "status --no-pager spiked@cam0"]
    unit = service(root / "etc" / "systemd" / "system" / "spiked@.service")
    command = [f"{root}{word}" if word.startswith("/") else word for word in unit["ExecStart"][0].split()]
    state = root / "var" / "lib" / unit["StateDirectory"][0]
    env = {
        **live.env, "STATE_DIRECTORY": str(state), "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": f"{unit['WatchdogSec'][0]}000000",
    }  # fmt: skip
    with contextlib.closing(manager.socket), (tmp_path / "journal").open("wb") as journal:
        live.process = subprocess.Popen(command, env=env, cwd="/", stdout=journal, stderr=journal)
        try:
            manager.hear_of("READY")
            (tmp_path / "send.py").write_text(sender_text("python-sender", live, taught=True))
            assert subprocess.run([sys.executable, tmp_path / "send.py", "left"], timeout=60).returncode == 0
            wait_for(lambda: live.metric("spiked_updates_total", stream="cam0") == 1, "it has learnt")
            reload = shlex.split(unit["ExecReload"][0].replace("$MAINPID", str(live.process.pid)))
            assert subprocess.run(reload).returncode == 0
            manager.hear_of("RELOADING")
            assert manager.hear_of("READY")["STATUS"] == "reloaded: 0 changed"
            assert live.stop(signal.SIGTERM) == 0
            assert list((state / "checkpoints").glob("*.json"))
        finally:
            live.__exit__()


def test_the_commands_of_the_readme_configure_prometheus(tmp_path: Path) -> None:
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "deploy").symlink_to(ROOT / "deploy")
    root = tmp_path / "root"
    run_block("service-watch", root, tmp_path / "clone")
    assert (root / "apt-get").read_text() == "install -y prometheus\n"
    assert (root / "systemctl").read_text() == "restart prometheus\n"
    kept = {p.name for p in (ROOT / "deploy" / "prometheus" / "rules").iterdir()}
    assert {p.name for p in (root / "etc" / "prometheus" / "rules").iterdir()} == kept
    assert "9570" in (root / "etc" / "prometheus" / "prometheus.yml").read_text() and "9570" in README
    if promtool := shutil.which("promtool"):
        done = subprocess.run(
            [promtool, "check", "config", root / "etc/prometheus/prometheus.yml"], capture_output=True
        )
        assert done.returncode == 0, done.stderr
