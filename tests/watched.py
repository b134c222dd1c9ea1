"""A real Prometheus for tests, on a loopback port, with the rules of `deploy/prometheus` and quick scrapes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
import zmq
from live import Live, free_ports, sample_messages, wait_for

from spiked.io.events import Geometry
from spiked.io.sender import Sender
from spiked.io.sim_scenes import Sample

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "rules"
VARIABLES = {"$__rate_interval": "6s", "$instance": ".*", "$stream": ".*"}


def rules() -> list[dict[str, Any]]:
    """All rules, recording and alerting."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def dashboards() -> dict[str, dict[str, Any]]:
    """The committed dashboards by name."""
    return {p.stem: json.loads(p.read_text()) for p in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))}


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Title of the panel and expression of each query, with Grafana's variables filled in."""
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expr = target["expr"]
            for name, value in VARIABLES.items():
                expr = expr.replace(name, value)
            assert "$" not in expr, expr
            yield panel["title"], expr


class Prometheus:
    """A server of its own, with the shipped configuration but for targets and pace."""

    def __init__(self, folder: Path, target: str, every: str = "500ms") -> None:
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": every, "evaluation_interval": every}
        config["rule_files"] = [str(RULES / "*.yml")]
        (scrape,) = config["scrape_configs"]
        scrape["static_configs"] = [{"targets": [target]}]
        folder.mkdir(parents=True)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (port,) = free_ports(1)
        self.target = target
        self.url, self.log = f"http://127.0.0.1:{port}", folder / "log"
        program = shutil.which("prometheus")
        assert program, "look for it before"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log,
            )  # fmt: skip

    def __enter__(self) -> Prometheus:
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            try:
                return self._get("/-/ready") is not None
            except OSError:
                return False

        wait_for(ready, "Prometheus is ready")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)

    def _get(self, path: str, **parameters: str) -> bytes:
        query = "?" + urllib.parse.urlencode(parameters) if parameters else ""
        with urllib.request.urlopen(self.url + path + query, timeout=10) as answer:
            return bytes(answer.read())

    def api(self, path: str, **parameters: str) -> Any:
        try:
            return json.loads(self._get(f"/api/v1/{path}", **parameters))["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Series of an instant query."""
        return list(self.api("query", query=expr)["result"])

    def series(self, expr: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """Series of a range query."""
        said = self.api("query_range", query=expr, start=f"{start_s:.3f}", end=f"{end_s:.3f}", step=f"{step_s:g}")
        return list(said["result"])


class Sensor(threading.Thread):
    """Shows labelled samples to one stream until it is told to stop, at about `speed` times real time."""

    def __init__(self, live: Live, stream: str, geometry: Geometry, samples: Iterator[Sample], speed: float) -> None:
        super().__init__(daemon=True)
        self.live, self.samples, self.speed = live, samples, speed
        self.sender, self.over = Sender(stream, geometry), threading.Event()

    def run(self) -> None:
        now_us = 0
        with self.live.push(zmq.PUSH) as push:
            for sample in self.samples:
                for frames in sample_messages(self.sender, sample.events, now_us, sample.duration_us, sample.name):
                    push.send_multipart(frames)
                now_us += sample.duration_us
                if self.over.wait(sample.duration_us * 1e-6 / self.speed):
                    return

    def stop(self) -> None:
        self.over.set()
        self.join(10)


def bool_of(expr: str) -> str:
    """An alert's expression that says 0 where the alert is quiet, instead of nothing."""
    return re.sub(r" (==|!=|>=|<=|>|<) ", r" \1 bool ", expr)
