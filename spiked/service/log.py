"""Logs: one line each, as text or as JSON, to standard error."""

from __future__ import annotations

import logging
import sys
import time

import msgspec

ROOT = "spiked"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(said).decode()


def set_up(level: str, form: str) -> None:
    """Send spiked's logs to standard error in the given form."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(_Json() if form == "json" else text)
    root = logging.getLogger(ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


class Decades:
    """Says yes to the 1st, 10th, 100th, ... of each key: a flood of one complaint is a handful of lines."""

    def __init__(self) -> None:
        self._seen: dict[object, int] = {}

    def __call__(self, key: object) -> int:
        """Count `key`; returns how many there were if this one is to be logged, else 0."""
        n = self._seen[key] = self._seen.get(key, 0) + 1
        return n if str(n).strip("0") == "1" else 0
