"""What can be told of this machine without asking for more than any user may see: `spiked doctor` looks at it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

State = Literal["ok", "note", "fault"]

CAMERAS = {
    "152a": ("iniVation", None), "04b4": ("Prophesee EVK3 or EVK4", ("00f4", "00f5")),
    "03fd": ("Prophesee EVK2", ("5832",)), "31f7": ("CenturyArks SilkyEvCam", None),
}  # fmt: skip
"""Event cameras by USB vendor, and which of its products (None: all); 04b4 and 03fd sell their chips to everybody."""
USB, VIDEO = Path("/sys/bus/usb/devices"), Path("/sys/class/video4linux")


HELP = "docs/first-run.md"
"""The page that helps; it has a section for each area."""
OLDEST_GLIBC = (2, 28)
"""Of the wheels that are needed."""


class Finding(NamedTuple):
    """One thing that was looked at; a fault would stop the daemon."""

    area: str
    state: State
    said: str

    @property
    def see(self) -> str:
        """Where help is, if any is needed."""
        return "" if self.state == "ok" else f"{HELP}#{self.area}"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().splitlines()[0].strip()
    except (OSError, IndexError, UnicodeDecodeError):
        return ""


def _from(path: str, key: str) -> str:
    """What stands behind `key` in a file of ``key : value`` lines."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def wheels(
    machine: str = "", bits: int = 64 if sys.maxsize > 1 << 32 else 32, libc: tuple[str, str] | None = None
) -> Iterator[Finding]:
    """Look at whether pip finds all that is needed ready-made for this processor and C library."""
    machine, (name, version) = machine or platform.machine(), libc or platform.libc_ver()
    lacks = ""
    if bits < 64:
        lacks = f"python of {bits} bits on {machine}: NumPy, Numba and ZeroMQ come for 64 bits alone; a 64-bit system"
    elif machine not in ("x86_64", "aarch64", "arm64", "AMD64"):
        lacks = f"{machine}: Numba comes ready-made for x86_64 and aarch64 alone"
    elif platform.system() == "Linux" and name != "glibc":
        lacks = "no glibc (Alpine, musl): Numba comes ready-made for glibc alone; a Debian, or python:3.13-slim"
    elif name == "glibc" and tuple(map(int, version.split(".")[:2])) < OLDEST_GLIBC:
        lacks = f"glibc {version}: NumPy and Numba come ready-made for {'.'.join(map(str, OLDEST_GLIBC))} or later"
    if lacks:
        there = importlib.util.find_spec("numba") is not None
        yield Finding("wheels", "note" if there else "fault", lacks)
    else:
        yield Finding(
            "wheels", "ok", f"{machine}{f', glibc {version}' if version else ''}: all comes ready-made by pip"
        )


def processor() -> Iterator[Finding]:
    """Look at cores and vector units."""
    model = _from("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    try:
        llvm = importlib.import_module("llvmlite.binding")
        name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
        have = [f for f in ("avx512f", "avx2", "fma", "neon", "sve") if features.get(f)]
        yield Finding(
            "cpu", "ok" if {"avx2", "neon"} & set(have) else "note",
            f"{model} ({name}), {', '.join(have) or 'neither avx2 nor neon: steps run slower'}",
        )  # fmt: skip
    except (ImportError, OSError, RuntimeError) as error:
        yield Finding("cpu", "note", f"{model}, features unknown: {str(error).splitlines()[0]}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _first_line("/sys/fs/cgroup/cpu.max").split()
    share = f", limited to {int(quota[0]) / int(quota[1]):g}" if len(quota) == 2 and quota[0].isdigit() else ""
    few = cores < 2
    yield Finding(
        "cpu", "note" if few else "ok",
        f"{cores} cores{share}" + ("; a second one keeps checkpoints and metrics off the steps" if few else ""),
    )  # fmt: skip


def memory() -> Iterator[Finding]:
    """Look at how much memory is left."""
    free_kb = _from("/proc/meminfo", "MemAvailable").split()
    limit = _first_line("/sys/fs/cgroup/memory.max")
    if not free_kb:
        yield Finding("memory", "note", "cannot tell: /proc/meminfo has no MemAvailable")
        return
    free_gb = int(free_kb[0]) / 1e6
    said = f"{free_gb:.1f} GB available" + (f", limited to {int(limit) / 1e9:.1f} GB" if limit.isdigit() else "")
    low = free_gb < 0.5
    yield Finding("memory", "note" if low else "ok", said + ("; the daemon takes 0.2 GB or more" if low else ""))


def ports() -> Iterator[Finding]:
    """Look at whether the default ports are free, and who has them if not."""
    from spiked.service.config import Control, Ingest, Metrics, Predictions

    places = {
        f"{c.__name__.lower()}.endpoint": int(c().endpoint.rpartition(":")[2]) for c in (Ingest, Predictions, Control)
    }
    for name, port in {**places, "metrics.port": Metrics().port}.items():
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as libzmq and the HTTP server bind
            try:
                s.bind(("127.0.0.1", port))
            except OSError as error:
                pid, words = _holder(port)
                # The command itself, or the interpreter that runs it
                ours = any(Path(word).name == "spiked" for word in words[:4])
                what = "a daemon is running" if ours else f"set {name} to another"
                who = f" by pid {pid} ({' '.join(words)[:60]})" if pid else f" ({error.strerror})"
                yield Finding("ports", "note" if ours else "fault", f"{port} ({name}) is taken{who}; {what}")
                continue
        yield Finding("ports", "ok", f"{port} ({name}) is free")


def _holder(port: int) -> tuple[str, list[str]]:
    """Pid and command of who listens on a TCP port, as far as /proc tells us."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
        except OSError:
            continue
        inodes |= {r[9] for r in rows if len(r) > 9 and r[3] == "0A" and int(r[1].rpartition(":")[2], 16) == port}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in wanted for link in (process / "fd").iterdir()):
                return process.name, (process / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:  # another user's, or gone
            continue
    return "", []


def cameras() -> Iterator[Finding]:
    """Look for event cameras on USB and V4L."""
    found = 0
    for device in sorted(USB.glob("*")):
        vendor, product = _first_line(f"{device}/idVendor"), _first_line(f"{device}/idProduct")
        name, products = CAMERAS.get(vendor, ("", None))
        if not name or (products is not None and product not in products):
            continue
        found += 1
        bus, number = _first_line(f"{device}/busnum"), _first_line(f"{device}/devnum")
        node = f"/dev/bus/usb/{int(bus or 0):03d}/{int(number or 0):03d}"
        what = f"{_first_line(f'{device}/product') or name}, {vendor}:{product} ({name})"
        if os.access(node, os.R_OK | os.W_OK):
            yield Finding("cameras", "ok", f"{what} at {node}")
        else:
            rule = f'SUBSYSTEM=="usb", ATTRS{{idVendor}}=="{vendor}", MODE="0666"'
            yield Finding("cameras", "note", f"{what} at {node} may not be opened; add the udev rule {rule}")
    for device in sorted(VIDEO.glob("*")):
        name = _first_line(f"{device}/name")
        if any(mark in name.lower() for mark in ("prophesee", "psee", "genx320", "imx636", "inivation")):
            found += 1
            yield Finding("cameras", "ok", f"{name} at /dev/{device.name}")
    if not found:
        yield Finding("cameras", "note", "none found on USB or V4L; spiked demo and spiked replay need none")


def clock() -> Iterator[Finding]:
    """Look at whether time can be trusted."""
    ticks = time.get_clock_info("monotonic")
    source = _first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    slow = source in ("hpet", "acpi_pm", "jiffies")
    said = f"monotonic, {ticks.resolution * 1e9:.0f} ns" + (f", from {source}" if source else "")
    yield Finding("clock", "note" if slow else "ok", said + ("; a slow source, latencies read high" if slow else ""))
    now = time.gmtime()
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", now)
    wrong = now.tm_year < 2024
    yield Finding(
        "clock", "note" if wrong else "ok", told + ("; set it, or checkpoint names and lag are wrong" if wrong else "")
    )
