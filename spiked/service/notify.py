"""Telling systemd how we are: the notify protocol, in a few lines of standard library."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> bool:
    """Send e.g. ``READY=1`` to the service manager; False where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect("\0" + address[1:] if address.startswith("@") else address)
        s.sendall(state.encode())
        return True
    return False


def watchdog_interval_s() -> float | None:
    """How often the service manager wants a sign of life: half its limit."""
    try:
        return int(os.environ["WATCHDOG_USEC"]) / 2e6
    except (KeyError, ValueError):
        return None
