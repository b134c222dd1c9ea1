"""While kernels are compiled: the service manager is told, and waits for as long as it goes on; a signal ends it.

A first start compiles for ten seconds on a desktop and for minutes on a small board. Each kernel that begins or ends
asks for more time; a compiler that hangs does not, and is given up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from numba.core import event

from spiked.service.notify import is_managed, notify

PATIENCE_S = 180
"""What one kernel may take."""


class _Teller(event.Listener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.kernels = 0

    def on_start(self, event: Any) -> None:
        notify(f"EXTEND_TIMEOUT_USEC={PATIENCE_S * 1_000_000}", f"STATUS=compiling: {self.kernels} kernels so far")

    def on_end(self, event: Any) -> None:
        self.kernels += 1
        self.on_start(event)


@contextlib.contextmanager
def told_to_the_manager() -> Iterator[None]:
    """Tell of each kernel that is compiled inside; nothing where there is no service manager."""
    if not is_managed():
        yield
        return
    notify("STATUS=loading the kernels")
    with event.install_listener("numba:compile", _Teller()):
        yield


@contextlib.contextmanager
def ends_in_time(wake: socket.socket, within_s: float) -> Iterator[None]:
    """End the process where a signal wants that and what goes on inside does not come to an end.

    Python hears of a signal between two of its own instructions, and the compiler of a large kernel is away for longer
    than stopping may take. There is nothing to save yet, and what is compiled is written whole or not at all.

    Parameters
    ----------
    wake : to which the number of each signal is written, at once.
    within_s : time that is left to whatever is inside.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            with contextlib.suppress(BlockingIOError):
                if {signal.SIGINT, signal.SIGTERM} & set(wake.recv(64, socket.MSG_PEEK)) and not over.wait(within_s):
                    os._exit(0)

    threading.Thread(target=watch, name="compiling", daemon=True).start()
    try:
        yield
    finally:
        over.set()
