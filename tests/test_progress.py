"""The progress bar, with a clock in hand."""

from __future__ import annotations

import io

from spiked.service.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(file: io.StringIO, seconds_each: float, n: int, total: int | None = None) -> list[str]:
    clock = Clock()
    with Progress("set.npz", total, "samples", file, clock) as progress:
        for k in range(n):
            clock.now += seconds_each
            progress.advance(note=f"at {k}")
    return file.getvalue().splitlines()


def test_short_work_says_nothing() -> None:
    assert work(io.StringIO(), 0.01, 20, 20) == []
    assert work(Terminal(), 0.01, 20, 20) == []


def test_long_work_elsewhere_says_plain_lines_now_and_then() -> None:
    lines = work(io.StringIO(), 1.0, 40, 80)
    assert lines[0] == "set.npz  5/80 samples  at 4  6%, 5 s, 75 s left"
    assert [line.split()[1] for line in lines] == ["5/80", "15/80", "25/80", "35/80", "40/80"]
    assert all("\x1b" not in line and "\r" not in line for line in lines)


def test_a_terminal_gets_one_line_that_is_drawn_again() -> None:
    terminal = Terminal()
    work(terminal, 1.0, 4, 4)
    text = terminal.getvalue()
    assert text.count("\n") == 1 and text.endswith("\n") and text.count("\r\x1b[K") == 5
    assert f"[{'#' * 30}]" in text.rpartition("\r")[2] and "100%" in text


def test_without_a_total_it_counts() -> None:
    lines = work(io.StringIO(), 60.0, 3)
    assert lines[-1] == "set.npz  3 samples  at 2  3 min"
