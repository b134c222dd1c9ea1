"""``spiked doctor``: what this machine has, and what it lacks; reasons, not tracebacks."""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from spiked.service.cli_text import example
from spiked.service.machine import Finding, cameras, clock, memory, ports, processor, wheels

EXAMPLES = """\
  spiked doctor
  spiked doctor --json | jq '.findings[] | select(.state != "ok")'"""

NEEDED = {
    "numpy": "arrays", "numba": "compiles the kernels", "llvmlite": "numba's compiler", "zmq": "the sockets",
    "msgspec": "configuration and JSON", "safetensors": "checkpoints", "prometheus_client": "metrics",
}  # fmt: skip
EXTRAS = {
    "aedat": ("files", "AEDAT4 recordings"),
    "sklearn": ("digits", "the demo's handwritten digits; without it, plain shapes"),
    "matplotlib": ("plots", "--plot of inspect and eval"),
}  # fmt: skip
MIN_FREE_BYTES = 100_000_000


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``doctor`` to the command line."""
    parser = commands.add_parser(
        "doctor", help="what this machine has, and what it lacks",
        description="Look at everything that the daemon stands on. Exit code 1 if something would stop it.",
        **example(EXAMPLES),
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Look, and tell."""
    findings = list(examine())
    fault = any(f.state == "fault" for f in findings)
    if args.json:
        import json

        print(json.dumps({"ok": not fault, "findings": [{**f._asdict(), "see": f.see} for f in findings]}))
        return int(fault)
    for f in findings:
        print(f"{f.state:<5} {f.area:<8} {f.said}" + (f"; see {f.see}" if f.see else ""))
    return int(fault)


def examine() -> Iterator[Finding]:
    """Everything, in the order in which it is told."""
    for look in (versions, wheels, extras, processor, memory, kernel_cache, state_dir, ports, cameras, clock):
        yield from look()


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _version(module: str) -> str:
    names = _distributions().get(module, [module])
    try:
        return importlib.metadata.version(names[0])
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def versions() -> Iterator[Finding]:
    """Look at Python and what the daemon cannot do without."""
    import spiked

    yield Finding("versions", "ok", f"spiked {spiked.__version__}, {Path(spiked.__file__).parent}")
    python = f"python {platform.python_version()}, {platform.system()} {platform.release()}, {platform.machine()}"
    old = sys.version_info < (3, 11)
    yield Finding("versions", "fault" if old else "ok", python + ("; at least 3.11" if old else ""))
    for module, use in NEEDED.items():
        try:
            loaded = importlib.import_module(module)
        except (ImportError, OSError) as error:
            why = str(error).splitlines()[0]
            yield Finding(
                "versions", "fault", f"{module} ({use}) cannot be loaded: {why}; pip install --force-reinstall spiked"
            )
            continue
        under = f", libzmq {loaded.zmq_version()}" if module == "zmq" else ""
        yield Finding("versions", "ok", f"{'pyzmq' if module == 'zmq' else module} {_version(module)}{under}: {use}")


def extras() -> Iterator[Finding]:
    """Look at what may be there or not."""
    for module, (extra, use) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding("extras", "note", f"{module} is not there ({use}); pip install 'spiked[{extra}]'")
        else:
            yield Finding("extras", "ok", f"{module} {_version(module)}: {use}")


def kernel_cache() -> Iterator[Finding]:
    """Look at where compiled kernels are kept."""
    try:
        from spiked.learners import jit
    except (ImportError, OSError) as error:
        yield Finding("cache", "fault", f"kernels cannot be compiled: {str(error).splitlines()[0]}")
        return
    try:
        root = jit.cache_root()
    except RuntimeError as error:  # no home folder
        yield Finding("cache", "note", f"kernels are compiled at every start: {error}; set SPIKED_CACHE_DIR")
        return
    if jit.CACHE_DIR is None:
        yield Finding("cache", "note", f"{_unusable(root)}: kernels are compiled at every start; set SPIKED_CACHE_DIR")
        return
    kept = [p for p in root.iterdir() if p.name.startswith("kernels-")]
    size = sum(p.stat().st_size for k in kept for p in k.rglob("*") if p.is_file())
    old = len(kept) > 5
    yield Finding(
        "cache", "note" if old else "ok",
        f"{root}: {size / 1e6:.1f} MB in {len(kept)} versions of the kernels"
        + ("; older ones may be deleted" if old else ""),
    )  # fmt: skip


def _unusable(root: Path) -> str:
    """Why a folder does not do for compiled kernels."""
    nearest = next(p for p in (root, *root.absolute().parents) if p.exists())
    if not nearest.is_dir():
        return f"{root}: {nearest} is no folder"
    own = [p for p in (nearest, *nearest.glob("kernels-*")) if p.stat().st_uid != os.getuid()]
    if own and os.access(nearest, os.W_OK):
        return f"{own[-1]} belongs to uid {own[-1].stat().st_uid}, and machine code of others is not run"
    return f"{root}: {nearest} cannot be written"


def state_dir() -> Iterator[Finding]:
    """Look at where checkpoints go, without making anything."""
    try:
        from spiked.service.config import default_state_dir

        path = Path(default_state_dir())
    except (ImportError, RuntimeError) as error:
        yield Finding("state", "fault", f"no place for checkpoints: {error}; set daemon.state_dir")
        return
    nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("state", "fault", f"{path}: {nearest} cannot be written; set daemon.state_dir or XDG_STATE_HOME")
        return
    free = shutil.disk_usage(nearest).free
    told = f"{path}: {'is there' if nearest == path else 'will be made'}, {free / 1e9:.1f} GB free"
    low = free < MIN_FREE_BYTES
    yield Finding("state", "note" if low else "ok", told + ("; checkpoints may not fit" if low else ""))
