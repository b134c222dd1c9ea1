"""How far long work has come: a bar on a terminal, plain lines elsewhere. Short work says nothing."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

BAR_AFTER_S, BAR_EVERY_S = 0.3, 0.1
LINE_AFTER_S, LINE_EVERY_S = 5.0, 10.0
BAR_CHARACTERS = 30


class Progress:
    """Counts units of work, and shows them on standard error.

    Parameters
    ----------
    title : what is being done.
    total : units in all, where that is known.
    unit : what is counted, in the plural.
    file : where to write.
    clock : seconds, monotonic.
    """

    def __init__(
        self, title: str, total: int | None = None, unit: str = "", file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.title, self.total, self.unit = title, total, unit
        self.done = 0
        self.note = ""
        self._file = sys.stderr if file is None else file
        self._clock = clock
        self._bar = self._file.isatty()
        self._began = clock()
        self._next = self._began + (BAR_AFTER_S if self._bar else LINE_AFTER_S)
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def advance(self, n: int = 1, note: str | None = None) -> None:
        """Count `n` more units; `note` is shown behind the count."""
        self.done += n
        self.note = self.note if note is None else note
        now = self._clock()
        if now >= self._next:
            self._next = now + (BAR_EVERY_S if self._bar else LINE_EVERY_S)
            self._show(now)

    def close(self) -> None:
        """Leave the last state standing, if anything was shown."""
        if self._shown:
            self._show(self._clock())
            if self._bar:
                self._file.write("\n")
                self._file.flush()
            self._shown = False

    def _show(self, now: float) -> None:
        text = self._text(now - self._began)
        if self._bar:
            columns = shutil.get_terminal_size().columns
            self._file.write(f"\r\x1b[K{text[: columns - 1]}")
        else:
            self._file.write(text + "\n")
        self._file.flush()
        self._shown = True

    def _text(self, seconds: float) -> str:
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        parts = [self.title, f"{count} {self.unit}".rstrip(), self.note]
        if self.total:
            share = min(1.0, self.done / self.total)
            if self._bar:
                parts.insert(1, f"[{'#' * round(share * BAR_CHARACTERS):<{BAR_CHARACTERS}}]")
            left = f", {_span(seconds / share - seconds)} left" if 0 < share < 1 else ""
            parts.append(f"{share:.0%}, {_span(seconds)}{left}")
        else:
            parts.append(_span(seconds))
        return "  ".join(p for p in parts if p)


def _span(seconds: float) -> str:
    """A time span as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
