"""``spiked inspect``: what a recording or a checkpoint holds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiked.service.cli_text import example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spiked.io.recordings import Recording

EXAMPLES = """\
  spiked inspect hand.aedat4 --plot hand.png
  spiked inspect ~/.local/state/spiked/checkpoints --json"""

MEMORY_MS = 1000
"""Counts per ms are kept so far back; an event that is later by more does not count towards the peak."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``inspect`` to the command line."""
    parser = commands.add_parser(
        "inspect", help="what a recording or a checkpoint holds",
        description="Tell what a recording holds, or a checkpoint (either of its files, or their folder: the newest). "
        "Exit code 1 if a checkpoint does not verify.",
        **example(EXAMPLES),
    )  # fmt: skip
    parser.add_argument("file", metavar="FILE|CHECKPOINT", help="the recording or checkpoint")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", metavar="FILE", help="draw it (.png, .pdf, .svg)")


def run(args: argparse.Namespace) -> int:
    """Read, and tell."""
    from spiked.service.plots import check_plot

    path, picture = Path(args.file), check_plot(args.plot) if args.plot else None
    name = path.name.removesuffix(".damaged")
    if path.is_dir() or name.endswith((".safetensors", ".json")):
        return _checkpoint(path, args.json, picture)
    return _recording(path, args.json, picture)


class Peak:
    """Most events in one millisecond, counted from the first event, without keeping them all."""

    def __init__(self) -> None:
        self.most = 0
        self._origin_us: int | None = None
        self._counts: dict[int, int] = {}

    def add(self, t_us: NDArray[np.uint64]) -> None:
        """Take the times of some events in."""
        import numpy as np

        t = t_us.astype(np.int64)
        if self._origin_us is None:
            self._origin_us = int(t[0])
        for ms, n in zip(*(a.tolist() for a in np.unique((t - self._origin_us) // 1000, return_counts=True))):
            self._counts[ms] = self._counts.get(ms, 0) + n
        self.most = max(self.most, max(self._counts.values(), default=0))
        newest = max(self._counts, default=0)
        self._counts = {ms: n for ms, n in self._counts.items() if ms > newest - MEMORY_MS}


def survey(recording: Recording) -> dict[str, Any]:
    """Read a recording once: what `spiked.io.recordings.summary` tells, and more."""
    import numpy as np

    events = on = 0
    first: int | None = None
    last, peak = 0, Peak()
    for packet in recording.packets():
        events += len(packet)
        on += int(np.count_nonzero(packet["on"]))
        low, last = int(packet["t"].min()), max(last, int(packet["t"].max()))
        first = low if first is None else min(first, low)
        peak.add(packet["t"])
    span_us = last - (first or 0)
    return {
        "format": recording.format, "width": recording.geometry.width, "height": recording.geometry.height,
        "planes": recording.geometry.planes, "events": events, "on": on, "t_first_us": first or 0, "t_last_us": last,
        "duration_us": span_us, "mean_rate_hz": events / span_us * 1e6 if span_us else None,
        "peak_events_per_ms": peak.most, "warnings": list(recording.warnings),
    }  # fmt: skip


def _recording(path: Path, as_json: bool, picture: Path | None) -> int:
    import msgspec

    from spiked.io.recordings import RecordingError, open_recording
    from spiked.service.cli_errors import RunError, UsageError
    from spiked.service.plots import plot_recording

    try:
        recording = open_recording(path)
        told = {"kind": "recording", "path": str(path), **survey(recording)}
        if picture:
            plot_recording(picture, recording, told["t_first_us"], told["t_last_us"])
    except RecordingError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}") from None
    if as_json:
        print(msgspec.json.encode(told).decode())
        return 0
    rate = told["mean_rate_hz"]
    share = f" ({told['on'] / told['events']:.1%})" if told["events"] else ""
    rows = {
        "format": told["format"], "size": f"{told['width']} x {told['height']}, {told['planes']} polarities",
        "events": told["events"], "on": f"{told['on']}{share}", "t_first_us": told["t_first_us"],
        "t_last_us": told["t_last_us"], "duration": f"{told['duration_us'] / 1e6:.6f} s",
        "mean rate": f"{rate:.0f} events per s" if rate else "-", "peak": f"{told['peak_events_per_ms']} events per ms",
    }  # fmt: skip
    for key, value in rows.items():
        print(f"{key:<11} {value}")
    for warning in told["warnings"]:
        print(f"spiked inspect: {warning}", file=sys.stderr)
    return 0


def _checkpoint(path: Path, as_json: bool, picture: Path | None) -> int:
    import msgspec

    from spiked.service.checkpoint_format import DATA, read_arrays, read_manifest
    from spiked.service.checkpoints import describe
    from spiked.service.cli_errors import UsageError
    from spiked.service.plots import plot_checkpoint

    if path.is_dir() and (path / "checkpoints").is_dir():
        path = path / "checkpoints"  # a daemon's state_dir
    try:
        told = {"kind": "checkpoint", "path": str(path), **describe(path)}
    except OSError as error:  # CheckpointError is one
        raise UsageError(str(error) if error.strerror is None else f"{path}: {error.strerror}") from None
    if as_json:
        print(msgspec.json.encode(told).decode())
    else:
        print(f"checkpoint  {told['name']}, {told['bytes']} bytes, by spiked {told['version']}, {told['created']}")
        print(f"verified    {'yes' if told['verified'] else 'no: ' + told['reason']}")
        for name, stream in told["streams"].items():
            seconds = (stream["watermark_us"] or 0) / 1e6
            print(f"stream      {name}: {seconds:.3f} s, classes {', '.join(stream['classes'] or []) or 'none'}")
        for name, array in told["arrays"].items():
            print(f"  {name:<40} {array['dtype']:<8} {' x '.join(map(str, array['shape'])) or 'one'}")
    if picture and told["verified"]:
        folder = path if path.is_dir() else path.parent
        ending = ".damaged" if path.name.endswith(".damaged") else ""
        manifest = read_manifest(folder / f"{told['name']}.json{ending}")
        plot_checkpoint(picture, told, read_arrays(folder / f"{told['name']}{DATA}{ending}", manifest))
    return 0 if told["verified"] else 1
