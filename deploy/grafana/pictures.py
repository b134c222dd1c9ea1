"""Pictures of the dashboards, from real data: `python deploy/grafana/pictures.py [--seconds 180]`.

A daemon learns from a simulated camera and a simulated cochlea; at half time the camera is turned by a quarter. A real
Prometheus scrapes it, and every panel of the committed dashboards is drawn from what the server answers to the panel's
own queries. Needs `prometheus` and matplotlib.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from live import CAM0, Live  # noqa: E402
from watched import VARIABLES, Prometheus, Sensor, dashboards  # noqa: E402

from spiked.io.events import Geometry  # noqa: E402
from spiked.io.sim_cochlea import cochlea_samples  # noqa: E402
from spiked.io.sim_dvs import dvs_samples  # noqa: E402
from spiked.io.sim_scenes import Sample  # noqa: E402

CONFIG = """
[checkpoint]
every_s = 20

[[stream]]
id = "camera"
width = 34
height = 34

[[stream]]
id = "cochlea"
width = 64
height = 1
network.layers = [{ neurons = 128 }]
"""
WIDE, HIGH = 0.42, 0.27
"""Inches of a unit of Grafana's grid."""
MOST_SERIES = 12
COLOURS = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#b877d9", "#5794f2", "#fade2a"]
STYLE = {
    "figure.facecolor": "#111217", "axes.facecolor": "#181b1f", "text.color": "#ccccdc", "axes.edgecolor": "#2c3235",
    "axes.labelcolor": "#ccccdc", "xtick.color": "#9a9aa8", "ytick.color": "#9a9aa8", "grid.color": "#2c3235",
    "font.size": 8, "axes.grid": True, "axes.spines.top": False, "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
}  # fmt: skip


def shown(value: float, unit: str) -> str:
    """A number as a panel says it."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        for factor, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
            if abs(value) >= factor or name == "us":
                return "0" if value == 0 else f"{value / factor:.3g} {name}"
    for factor, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {name}{'B' if unit == 'bytes' else ''}"
    return f"{value:.3g}{' Hz' if unit == 'hertz' else '/s' if unit == 'cps' else ''}"


def legend(template: str, labels: dict[str, str]) -> str:
    """Grafana's legend: names in double braces are labels."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda m: labels.get(m[1], ""), template).strip()


def panel(axes: Axes, spec: dict[str, Any], prometheus: Prometheus, start_s: float, end_s: float) -> None:
    """Draw one panel from what its queries say."""
    unit = spec["fieldConfig"]["defaults"].get("unit", "none")
    axes.set_title(spec["title"], loc="left", fontsize=9, fontweight="bold")
    lines = []
    for target in spec["targets"]:
        expr = target["expr"]
        for name, value in VARIABLES.items():
            expr = expr.replace(name, value)
        for series in prometheus.series(expr, start_s, end_s, max(1.0, (end_s - start_s) / 200)):
            t, values = np.array(series["values"], float).T
            lines.append((legend(target["legendFormat"], series["metric"]), t - start_s, values))
    if spec["type"] == "stat":
        axes.axis("off")
        text = "\n".join(shown(v[-1], unit) if unit != "none" or len(lines) == 1 else n for n, _, v in lines[:2])
        if spec["title"] == "Version":
            text = lines[0][0]
        axes.text(0.5, 0.4, text, ha="center", va="center", fontsize=15, color=COLOURS[0], transform=axes.transAxes)
        return
    for name, t, values in lines:
        axes.plot(t, values, lw=1, label=name.replace(prometheus.target, "").strip() or "all")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: shown(v, unit)))
    axes.set_xlim(0, end_s - start_s)
    if spec["fieldConfig"]["defaults"].get("min") == 0:
        axes.set_ylim(bottom=0)
    if len(lines) <= MOST_SERIES:
        axes.legend(fontsize=6, loc="best", frameon=False, ncols=2 if len(lines) > 4 else 1)
    else:
        axes.text(0.02, 0.9, f"{len(lines)} series", fontsize=6, transform=axes.transAxes)


def draw(board: dict[str, Any], prometheus: Prometheus, start_s: float, end_s: float, path: Path) -> None:
    """Draw a dashboard as it is laid out, and write it as a small PNG."""
    high = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"])
    width, height = 24 * WIDE, (high + 1) * HIGH
    figure = plt.figure(figsize=(width, height))

    def place(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """A box in inches from the upper left corner, as parts of the figure."""
        return left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height

    figure.text(0.01, 1 - 0.06 / height, f"{board['title']}, {end_s - start_s:.0f} s", va="top", fontsize=9)
    for spec in board["panels"]:
        g = spec["gridPos"]
        left, top = g["x"] * WIDE, (g["y"] + 1) * HIGH
        right, bottom = left + g["w"] * WIDE, top + g["h"] * HIGH
        if spec["type"] == "row":
            figure.text(0.01, 1 - (top + 0.04) / height, spec["title"], va="top", fontsize=10, color="#8ab8ff")
            continue
        axes = figure.add_axes(place(left + 0.56, top + 0.24, right - 0.1, bottom - 0.2))
        panel(axes, spec, prometheus, start_s, end_s)
    figure.savefig(path, dpi=96)
    plt.close(figure)
    Image.open(path).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


def turned(samples: Iterator[Sample], now: threading.Event) -> Iterator[Sample]:
    """The samples, as a camera sees them that is turned by a quarter from some moment on."""
    for sample in samples:
        if now.is_set():
            events = sample.events.copy()
            events["x"], events["y"] = sample.events["y"], 33 - sample.events["x"]
            sample = sample._replace(events=events)
        yield sample


def main() -> None:
    """Run, watch, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long to learn (180)")
    parser.add_argument("--speed", type=float, default=4.0, help="times real time (4)")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "img", help="folder of the pictures")
    args = parser.parse_args()
    mpl.use("agg")
    with tempfile.TemporaryDirectory() as name, mpl.rc_context(STYLE):
        folder = Path(name)
        with Live(folder / "d", CONFIG) as live:
            target = live.http.removeprefix("http://")
            with Prometheus(folder / "p", target, "1s") as prometheus:
                turn = threading.Event()
                sensors = [
                    Sensor(live, "camera", CAM0, turned(dvs_samples(0), turn), args.speed),
                    Sensor(live, "cochlea", Geometry(64, 1, 2), cochlea_samples(0), args.speed),
                ]
                start_s = time.time()
                for sensor in sensors:
                    sensor.start()
                time.sleep(args.seconds / 2)
                turn.set()
                live.push().send_multipart([b"camera/", b"a stray message", b""])
                assert live.process is not None
                live.process.send_signal(signal.SIGHUP)
                time.sleep(args.seconds / 2)
                end_s = time.time()
                for name, board in dashboards().items():
                    draw(board, prometheus, start_s, end_s, args.to / f"dashboard-{name}.png")
                for sensor in sensors:
                    sensor.stop()


if __name__ == "__main__":
    main()
