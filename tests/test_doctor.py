"""``spiked doctor`` on this machine, and on machines that lack something."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live import SPIKED

from spiked.service import cmd_doctor, machine
from spiked.service.machine import Finding


def doctor(tmp_path: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), **env}
    return subprocess.run([*SPIKED, "doctor", *argv], capture_output=True, text=True, env=environment, timeout=60)


def faults(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [f for f in found if f["state"] == "fault"]


def test_it_runs_and_its_code_follows_from_what_it_says(tmp_path: Path) -> None:
    said = doctor(tmp_path)
    lines = said.stdout.splitlines()
    assert said.stderr == "" and all(line.split()[0] in ("ok", "note", "fault") for line in lines)
    # Somebody else may hold a default port on the machine that runs this; nothing else may be wrong with it
    assert {line.split()[1] for line in lines if line.startswith("fault")} <= {"ports"}
    assert said.returncode == int(any(line.startswith("fault") for line in lines))
    areas = {line.split()[1] for line in lines}
    assert areas == {"versions", "wheels", "extras", "cpu", "memory", "cache", "state", "ports", "cameras", "clock"}
    assert not (tmp_path / "state").exists(), "looking makes nothing"


def test_json_says_the_same(tmp_path: Path) -> None:
    said = doctor(tmp_path, "--json")
    told = json.loads(said.stdout)
    assert set(told) == {"ok", "findings"} and told["ok"] is (said.returncode == 0)
    for f in told["findings"]:
        assert set(f) == {"area", "state", "said", "see"}
        assert f["said"] and "\n" not in f["said"] and not f["said"].endswith(".")
        assert f["see"] == ("" if f["state"] == "ok" else f"docs/first-run.md#{f['area']}")
    said_of = {f["said"].split()[0] for f in told["findings"] if f["area"] == "versions"}
    assert {"spiked", "python", "numpy", "numba", "llvmlite", "pyzmq"} <= said_of


def test_a_state_directory_that_cannot_be_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = doctor(tmp_path, "--json", XDG_STATE_HOME=str(tmp_path / "file"))
    state = [f for f in json.loads(said.stdout)["findings"] if f["area"] == "state"]
    assert said.returncode == 1 and state[0]["state"] == "fault" and "set daemon.state_dir" in state[0]["said"]


def test_a_cache_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = doctor(tmp_path, "--json", SPIKED_CACHE_DIR=str(tmp_path / "file" / "cache"))
    cache = [f for f in json.loads(said.stdout)["findings"] if f["area"] == "cache"]
    assert cache[0]["state"] == "note" and "SPIKED_CACHE_DIR" in cache[0]["said"]


def test_a_taken_port_names_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    from spiked.service import config

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        monkeypatch.setattr(config.Metrics, "__init__", lambda self: None)
        monkeypatch.setattr(config.Metrics, "port", port)
        found = [f for f in machine.ports() if str(port) in f.said]
    assert [f.state for f in found] == ["fault"]
    assert "set metrics.port to another" in found[0].said
    if Path("/proc/self/fd").is_dir():
        assert f"pid {os.getpid()} " in found[0].said


def test_missing_parts_are_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    found = [f for f in cmd_doctor.versions() if f.state == "fault"]
    assert len(found) == 1 and found[0].said.startswith("safetensors (checkpoints) cannot be loaded")
    monkeypatch.setattr(cmd_doctor, "EXTRAS", {"no_such_module": ("plots", "pictures")})
    assert list(cmd_doctor.extras()) == [
        Finding("extras", "note", "no_such_module is not there (pictures); pip install 'spiked[plots]'")
    ]


@pytest.mark.parametrize(
    ("vendor", "product", "found"),
    [
        ("152a", "841a", True),
        ("04b4", "00f5", True),
        ("04b4", "1234", False),
        ("03fd", "5832", True),
        ("1d6b", "0002", False),
    ],
)
def test_cameras_are_told_by_vendor_and_product(
    vendor: str, product: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "usb" / "1-1"
    device.mkdir(parents=True)
    for name, text in (("idVendor", vendor), ("idProduct", product), ("busnum", "1"), ("devnum", "999")):
        (device / name).write_text(text + "\n")
    monkeypatch.setattr(machine, "USB", tmp_path / "usb")
    monkeypatch.setattr(machine, "VIDEO", tmp_path / "none")
    said = list(machine.cameras())
    assert len(said) == 1 and said[0].state == "note"
    if found:
        assert f"{vendor}:{product}" in said[0].said and "udev rule" in said[0].said
    else:
        assert said[0].said.startswith("none found")


@pytest.mark.parametrize(
    ("machine_", "bits", "libc", "lacks"),
    [
        ("x86_64", 64, ("glibc", "2.36"), ""),
        ("aarch64", 64, ("glibc", "2.41"), ""),
        ("armv7l", 32, ("glibc", "2.36"), "python of 32 bits on armv7l"),
        ("aarch64", 32, ("glibc", "2.36"), "python of 32 bits on aarch64"),  # a 64-bit kernel under a 32-bit system
        ("riscv64", 64, ("glibc", "2.41"), "riscv64: Numba"),
        ("aarch64", 64, ("", ""), "no glibc (Alpine, musl)"),
        ("aarch64", 64, ("glibc", "2.24"), "glibc 2.24: NumPy and Numba come ready-made for 2.28 or later"),
    ],
)
def test_missing_wheels_are_explained(
    machine_: str, bits: int, libc: tuple[str, str], lacks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    (found,) = machine.wheels(machine_, bits, libc)
    assert found.state == ("note" if lacks else "ok") and found.said.startswith(lacks)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (found,) = machine.wheels(machine_, bits, libc)
    assert found.state == ("fault" if lacks else "ok"), "without them, Numba is not there either"


def test_a_cache_of_somebody_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels-0").mkdir()
    uid = os.getuid()
    monkeypatch.setattr("os.getuid", lambda: uid + 1)
    assert cmd_doctor._unusable(tmp_path).endswith(f"belongs to uid {uid}, and machine code of others is not run")


def test_the_page_that_helps_has_a_section_for_each_area(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parent.parent / machine.HELP).read_text()
    headings = re.findall(r"^## (\w+)$", page, re.MULTILINE)
    areas = dict.fromkeys(f["area"] for f in json.loads(doctor(tmp_path, "--json").stdout)["findings"])
    assert headings == list(areas)
