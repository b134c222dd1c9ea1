"""The example that sends analogue channels is run against a daemon, which learns to tell its two signals apart."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from live import Live, drain

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "send_analogue.py"
SAMPLES, TAUGHT = 20, 12


def configuration() -> str:
    """The one that the example's docstring names."""
    docstring = EXAMPLE.read_text().split('"""')[1]
    return textwrap.dedent(docstring.split("::\n", 1)[1])


def test_the_example_teaches_and_is_told(tmp_path: Path) -> None:
    with Live(tmp_path / "d", configuration()) as live:
        subscriber = live.subscribe("probe/")
        done = subprocess.run(
            [sys.executable, EXAMPLE, live.ingest], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        said = [p for p in drain(subscriber, SAMPLES) if p.get("final")]
        assert [p["label"] for p in said[TAUGHT:]] == ["slow", "fast"] * ((SAMPLES - TAUGHT) // 2)
        status = live.status("probe")
        assert status["events"] > 10_000 and status["lost"] == 0
        assert live.ask(do="status")["rejected"] == {}
        assert live.metric("spiked_events_dropped_total") == 0, "no event came later than t_last had promised"
