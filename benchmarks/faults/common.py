"""What the fault programs share: the daemon of the tests, a stream without end, and the memory of a process."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spiked.io.events import Events, Geometry, make_events
from spiked.io.sender import Sender
from spiked.io.sim_dvs import dvs_samples

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from live import Live as Live  # noqa: E402 -- the daemon as the tests start it

CAM0 = Geometry(34, 34, 2)
DVS128 = Geometry(128, 128, 2)
Frames = list[bytes]


def looks(n: int, seed: int = 3) -> list[tuple[str, Events, int]]:
    """Looks at moving things: name, events, and how long each lasts in us."""
    samples = itertools.islice(dvs_samples(seed=seed, split="train"), n)
    return [(s.name, s.events, s.duration_us) for s in samples]


def endless(
    samples: list[tuple[str, Events, int]], epoch: int = 7, stream: str = "cam0", crc: bool = True
) -> Iterator[Frames]:
    """Messages of samples in turn, each with its label and its end, for ever and always the same but for the clock."""
    sender, t0 = Sender(stream, CAM0, epoch, crc), 0
    for name, events, duration_us in itertools.cycle(samples):
        moved = events.copy()
        moved["t"] += np.uint64(t0)
        end = t0 + duration_us
        yield sender.target(name, t0, end)
        half = np.searchsorted(moved["t"], np.uint64(t0 + duration_us // 2))
        yield sender.events(moved[:half], t0 + duration_us // 2)
        yield sender.events(moved[half:], end)
        yield sender.reset(end)
        t0 = end


def random_events(rng: np.random.Generator, n: int, t0_us: int, t1_us: int, g: Geometry = CAM0) -> Events:
    """Events anywhere in a stretch of time, in order."""
    t = np.sort(rng.integers(t0_us, t1_us, n))
    return make_events(t, rng.integers(0, g.width, n), rng.integers(0, g.height, n), rng.integers(0, 2, n))


def process_figures(pid: int) -> dict[str, float]:
    """Resident memory in MB, descriptors and threads of a process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "resident_mb": int(fields["VmRSS"].split()[0]) * 1024e-6,
        "descriptors": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        "threads": int(fields["Threads"]),
    }


def learns(names: list[str], head: str = "discriminant") -> str:
    """A network of 64 neurons that knows these classes, and the stream ``cam0``, as a configuration file has them."""
    network = f'[network]\nlayers = [{{ neurons = 64 }}]\nclasses = {json.dumps(names)}\nhead = "{head}"\n'
    return network + '[[stream]]\nid = "cam0"\nwidth = 34\nheight = 34\n'


def report(figures: dict[str, Any], args: argparse.Namespace) -> None:
    """Print figures a line each, and write them all where ``--json`` says."""
    for name, value in figures.items():
        if not isinstance(value, list):
            print(f"{name:20} {value:.3f}" if isinstance(value, float) else f"{name:20} {value}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
