"""The README is run as a newcomer would: its configuration, its senders, its commands; and its links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import zmq
from live import SPIKED, Live, wait_for

from spiked.service.cli import COMMANDS, build_parser
from spiked.service.configfile import load_config

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^<!-- (?:run: )?([a-z-]+) -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {name: text for name, _, text in BLOCK.findall(README)}
INGEST = "tcp://127.0.0.1:5570"
EVENTS = 100_000  # of one run of either sender


def test_every_block_that_is_meant_to_be_run_is_there() -> None:
    assert set(BLOCKS) == {
        "demo", "test", "minimal-config", "python-sender", "python-target", "c-sender", "c-build",
        "service-install", "service-watch",
    }  # fmt: skip


def test_two_commands_set_everything_up() -> None:
    """Each from nothing, in a fresh environment, on a line of its own; the extras that they name exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, last in (("demo", "spiked demo"), ("test", "pytest -n 2 --dist loadfile")):
        (line,) = BLOCKS[name].splitlines()
        venv, install, run = line.split(" && ")
        assert venv == "python3 -m venv .venv" and run == f".venv/bin/{last}"
        extra = re.fullmatch(r"\.venv/bin/pip install '\.\[(\w+)\]'", install)
        assert extra is not None and extra[1] in extras
    assert README.count("python3 -m venv .venv") == 2


def commands_of(page: Path) -> list[str]:
    """Command lines of ``spiked`` in a page's shell blocks and tables."""
    text = page.read_text()
    shell = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^(?:\.venv/bin/)?spiked (.*)$", shell.replace(" && ", "\n"), re.MULTILINE)
    tabled = re.findall(r"^\| `spiked ([^`]*)` \|", text, re.MULTILINE)
    return lines + [line.replace("FILE...", "FILE") for line in tabled]


def test_the_command_lines_parse() -> None:
    parser = build_parser()
    lines = [line for page in PAGES for line in commands_of(page)]
    for line in lines:
        parser.parse_args(shlex.split(line, comments=True))
    assert {line.split()[0] for line in commands_of(ROOT / "README.md")} == set(COMMANDS)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_the_pages_link_to_each_other() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)\)", README))
    assert linked == {f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")} - {
        "docs/index.md"
    }  # the site's own start


def test_the_examples_are_those_of_the_readme() -> None:
    assert (ROOT / "examples" / "send_events.py").read_text() == BLOCKS["python-sender"]
    assert (ROOT / "examples" / "send_events.c").read_text() == BLOCKS["c-sender"]
    shipped = tomllib.loads((ROOT / "configs" / "minimal.toml").read_text())
    assert tomllib.loads(BLOCKS["minimal-config"]) == shipped


def test_the_minimal_configuration_loads(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(BLOCKS["minimal-config"])
    config = load_config(tmp_path / "my.toml")
    for endpoint in (config.ingest.endpoint, config.predictions.endpoint, config.control.endpoint):
        assert endpoint in README
    assert f"http://127.0.0.1:{config.metrics.port}/metrics" in README


def sender_text(name: str, live: Live, taught: bool = False) -> str:
    """A sender of the README, for this daemon; it does not wait for a camera that is not there."""
    text = BLOCKS[name]
    assert text.count(INGEST) == 1
    text = text.replace(INGEST, live.ingest).replace("    time.sleep(0.01)\n", "")
    if taught:
        lines = text.splitlines(keepends=True)
        text = "".join([*lines[:-2], BLOCKS["python-target"], *lines[-2:]])
    return text


def predictions(subscriber: zmq.Socket[bytes], live: Live, n_events: int) -> list[str]:
    """Labels of all predictions, once the daemon has taken in so many events."""
    status = wait_for(lambda: (s := live.status())["events"] == n_events and s, f"{n_events} events came")
    said: list[str] = []
    while True:
        assert subscriber.poll(10_000), "a prediction comes"
        topic, payload = subscriber.recv_multipart()
        prediction = json.loads(payload)
        assert topic == b"cam0/"
        said.append(prediction["label"])
        if prediction["seq"] == status["predictions"] - 1:
            return said


def test_the_python_sender_teaches_and_is_told(tmp_path: Path) -> None:
    with Live(tmp_path / "d", BLOCKS["minimal-config"]) as live:
        subscriber = live.subscribe("cam0/")

        def run(side: str, taught: bool) -> None:
            (tmp_path / "send.py").write_text(sender_text("python-sender", live, taught))
            done = subprocess.run(
                [sys.executable, "send.py", side], cwd=tmp_path, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr

        run("left", taught=True)
        first = predictions(subscriber, live, EVENTS)
        assert len(first) == 200, "every 10 ms of the two seconds"
        assert live.wait_seq(200)["updates"] == 1  # the target came last
        run("right", taught=False)
        predictions(subscriber, live, 2 * EVENTS)
        done = subprocess.run(
            [*SPIKED, "ctl", live.control, "teach", "--stream", "cam0", "--class", "right"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0 and "label: right" in done.stdout, done.stderr
        for n, side in ((3, "left"), (4, "right")):
            run(side, taught=False)
            assert set(predictions(subscriber, live, n * EVENTS)[-180:]) == {side}
        assert live.ask(do="status")["rejected"] == {} and live.status()["lost"] == 0


def c_compiler(tmp_path: Path) -> tuple[str, list[str]]:
    """A C compiler, and what it needs for ``zmq.h``."""
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("no C compiler: cc is not there")
    found = shutil.which("pkg-config") and subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libzmq"], capture_output=True, text=True
    )
    flags = found.stdout.split() if found and found.returncode == 0 else ["-lzmq"]
    (tmp_path / "probe.c").write_text("#include <zmq.h>\nint main(void) { return !zmq_ctx_new(); }\n")
    probe = [cc, "probe.c", "-o", "probe", *flags]
    done = subprocess.run(probe, cwd=tmp_path, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("zmq.h and libzmq are not there (libzmq3-dev)")
    return cc, flags


def test_the_c_sender_is_understood(tmp_path: Path) -> None:
    cc, flags = c_compiler(tmp_path)
    line = BLOCKS["c-build"].split(" && ")[0].split()
    assert line[0] == "cc" and "send_events.c" in line and "-lzmq" in line
    with Live(tmp_path / "d", BLOCKS["minimal-config"]) as live:
        (tmp_path / "send_events.c").write_text(sender_text("c-sender", live))
        strict = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
        build = [cc, *strict, *(word for word in line[1:] if word != "-lzmq"), *flags]
        done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        subscriber = live.subscribe("cam0/")
        assert subprocess.run([tmp_path / "send_events"], timeout=60).returncode == 0
        assert len(predictions(subscriber, live, EVENTS)) == 200
        status = live.wait_seq(199)
        assert status["lost"] == 0 and status["watermark_us"] == 2_000_000
        assert live.metric("spiked_messages_rejected_total") == live.metric("spiked_events_dropped_total") == 0
