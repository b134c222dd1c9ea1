"""Telling systemd how we are: the notify protocol, in standard library alone.

The watchdog is fed by progress and by nothing else. No thread feeds it: a loop that hangs, or that comes round while
messages wait and none is settled, starves it, and is started anew.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable

STATUS_S = 10.0
"""How often the line of ``systemctl status`` is renewed where no watchdog asks for more."""


def is_managed() -> bool:
    """Whether a service manager listens."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify(*lines: str) -> bool:
    """Send e.g. ``READY=1`` to the service manager, as one datagram; False where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        s.setblocking(False)  # a manager that does not read must not hold up a step
        s.connect("\0" + address[1:] if address.startswith("@") else address)
        s.sendall("\n".join(lines).encode())
        return True
    return False


def watchdog_interval_s() -> float | None:
    """How often the service manager wants a sign of life: half its limit; None where it wants none of this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        limit_us = int(os.environ["WATCHDOG_USEC"])
    except (KeyError, ValueError):
        return None
    return limit_us / 2e6 if limit_us > 0 else None


def reloading() -> None:
    """Say that the configuration is being read again; ``READY=1`` ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reading the configuration again")


class LifeSigns:
    """Feeds the watchdog, and tells how it goes.

    Parameters
    ----------
    messages : says how many messages have been taken so far.
    streams : how many there are.
    """

    def __init__(self, messages: Callable[[], int], streams: int) -> None:
        self._messages, self._what = messages, f"{streams} stream{'s' * (streams != 1)}"
        watchdog_s = watchdog_interval_s()
        self._signs = ["WATCHDOG=1"] if watchdog_s is not None else []
        self._every_s = min(STATUS_S, watchdog_s or STATUS_S) if is_managed() else float("inf")
        self._next_s = 0.0 if is_managed() else float("inf")
        self._before = time.monotonic(), messages()

    def progress(self, now_s: float) -> None:
        """Something was done, or nothing waited to be done; costs a comparison unless it is time for a sign."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._every_s
        (then_s, before), taken = self._before, self._messages()
        self._before = now_s, taken
        rate = (taken - before) / (now_s - then_s) if now_s > then_s else 0.0
        notify(*self._signs, f"STATUS={self._what}, {rate:.0f} messages/s")
