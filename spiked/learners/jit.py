"""Compilation, owned in one place: how kernels are compiled, cached, and survive a broken cache.

Numba's own cache key holds a function's source file but not the functions it calls, so a changed callee runs stale
code. The cache folder is therefore named after a digest of every source file that holds kernels, the versions of
Numba and NumPy, and the processor. An unwritable folder means uncached; a damaged entry is dropped and rebuilt.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba.core.caching import FunctionCache

KEPT_VERSIONS = 2
"""Caches of other versions that are kept beside this one's: an update would leave its predecessor's for ever."""

_PACKAGE = Path(__file__).resolve().parent.parent


def source_digest() -> str:
    """Digest of all that a compiled kernel depends on: sources, versions, processor."""
    h = hashlib.sha256()
    for folder in ("learners", "io"):
        for path in sorted((_PACKAGE / folder).rglob("*.py")):
            h.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    machine = platform.machine(), llvmlite.binding.get_host_cpu_name(), numba.__version__, np.__version__
    h.update(repr(machine).encode())
    return h.hexdigest()[:20]


def cache_root() -> Path:
    """Folder under which all kernel caches lie; ``SPIKED_CACHE_DIR``, systemd's ``CACHE_DIRECTORY``, or XDG's."""
    for name in ("SPIKED_CACHE_DIR", "CACHE_DIRECTORY"):
        if os.environ.get(name):
            return Path(os.environ[name].split(":")[0])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "spiked"


def _open_cache() -> Path | None:
    """Create this version's cache folder; None where it cannot be written or belongs to somebody else."""
    try:
        path = cache_root() / f"kernels-{source_digest()}"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_uid != os.getuid():  # cached machine code is executed: only our own is trusted
            return None
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
        os.utime(path)
        others = sorted((p for p in path.parent.glob("kernels-*") if p != path), key=lambda p: p.stat().st_mtime)
        for old in others[:-KEPT_VERSIONS]:
            shutil.rmtree(old, ignore_errors=True)
    except (OSError, RuntimeError):
        return None
    return path


CACHE_DIR: Path | None = _open_cache()


def cache_is_cold() -> bool:
    """Whether kernels have yet to be compiled on this machine."""
    return CACHE_DIR is None or not any(CACHE_DIR.rglob("*.nbi"))


class _SafeCache(FunctionCache):  # type: ignore[misc]
    """Numba's function cache, except that no fault of the disk reaches the caller."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a truncated entry raises whatever unpickling garbage raises
            with contextlib.suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(Exception):  # a full disk costs the next start some seconds, nothing else
            super().save_overload(sig, data)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` for one core, without the interpreter lock, cached across starts.

    ``fastmath`` lets sums be vectorised, in one order for one compiled kernel, so results are the same bits for the
    same calls. For that a loop that sums floats must not store to an array as well: such a loop is compiled twice, in
    order and vectorised, and where the arrays happen to lie in memory decides which runs. Nor may an element be a sum
    of two products, ``a * b + c * d``: either may be the one that is fused with the sum, unrounded. Written as a chain,
    ``(x + a * b) + c * d``, there is one way. Nor may it be a sum of three terms of which one is the same for all
    elements: in the loop's copy that runs where arrays lie close together, two others may be added first. The flags
    that assume no NaN and no infinity stay off, and so does the one for reciprocals, for the same reason.
    """
    return _compile(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """`kernel` for what a kernel calls at every step or row: its code becomes part of the caller's.

    A call would put each tuple of arrays on the stack, four hundred words for the state of a network, and count a
    reference to each array, atomically: more than the work of most functions of a step. In return it only looks at
    arrays that the caller keeps: it makes none, returns none, and copies none by ``a[:] = b`` (they may overlap, for
    which Numba would make a third) but by a loop. Nor does it sum floats, as there is code of it in several kernels.
    """
    return _compile(function, forceinline=True, _nrt=False)


def _compile(function: Callable[..., Any], **options: bool) -> Callable[..., Any]:
    fastmath = {"reassoc", "contract", "nsz"}
    dispatcher = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, **options)(function)
    template = dispatcher.get_call_template
    # a constant that one kernel hands another is a type of its own to Numba, and worth another compilation; not to us
    dispatcher.get_call_template = lambda args, kws: template(tuple(map(numba.types.unliteral, args)), kws)
    if CACHE_DIR is not None and not numba.config.DISABLE_JIT:
        with contextlib.suppress(Exception):
            numba.config.CACHE_DIR = str(CACHE_DIR)
            dispatcher._cache = _SafeCache(dispatcher.py_func)
    return dispatcher
