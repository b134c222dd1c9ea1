"""A page of docs/ followed to the letter: its files are saved, its commands run in order, its outputs compared.

What a fenced block is stands in the comment above it. ``sh`` without one is run and has to succeed; ``terminal`` is a
command that goes on by itself; ``file: NAME`` is saved; ``output`` is what the block before it printed,
``output: COMMAND`` what that terminal did; ``shown: WHY`` is for the reader alone. A block that is none of these is an
error. Addresses are replaced by those of a daemon with ports of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

from live import free_ports, wait_for

from spiked.learners import jit

DOCS = Path(__file__).resolve().parent.parent / "docs"
_FENCE = re.compile(r"(?:^<!-- ([a-z]+)(?:: (.*?))? -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SAVED = ("file", "shown")
_KINDS = {"sh": ("", "install", "terminal", "shown"), "text": ("output",), "python": _SAVED, "toml": _SAVED}


class Block(NamedTuple):
    kind: str
    argument: str
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, each of a kind that is known."""
    text = (DOCS / page).read_text()
    found = [Block(*groups) for groups in _FENCE.findall(text)]
    assert len(found) == text.count("\n```") // 2, f"{page}: a block that was not recognised"
    for block in found:
        assert block.kind in _KINDS[block.language], f"{page}: nobody runs {block.text!r}"
    return found


def plain(line: str) -> str:
    """A line without what differs from run to run: numbers, bars, the home folder, and how wide columns are."""
    line = re.sub(r"weights [0-9a-f]{8}", "weights 0", re.sub(r"#+", "#", line)).replace("/home/you", "~")
    line = re.sub(r"\d+(?:[.:T]\d+)*Z?(?:e-\d+)?", "0", line)
    return " ".join(line.split())


class Follower:
    """Somebody who does what pages say, in a folder and a home of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = free_ports(4)
        self.moved = {str(k): str(p) for k, p in zip((5570, 5571, 5572, 9570), ports)}
        self.http = f"http://127.0.0.1:{ports[3]}"
        programs = folder / "bin"
        programs.mkdir()
        commands = {"spiked": "-P -m spiked", "python": ""}
        if shutil.which("curl") is None:
            commands["curl"] = "-c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[2]).read().decode())'"
        for name, arguments in commands.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
            (programs / name).chmod(0o755)
        self.env = {**os.environ, "HOME": str(folder), "PATH": f"{programs}:{os.environ['PATH']}"}
        for name in ("XDG_STATE_HOME", "STATE_DIRECTORY"):
            self.env.pop(name, None)
        self.env["SPIKED_CACHE_DIR"] = str(jit.cache_root())
        self.terminals: dict[str, subprocess.Popen[bytes]] = {}
        self.said: list[str] = []  # by the blocks that were run, one after the other
        self.played = 0

    def here(self, text: str) -> str:
        """A page's text with the addresses of this follower's daemon."""
        return re.sub(r"(?<=127\.0\.0\.1:)\d{4}", lambda port: self.moved[port[0]], text)

    def there(self, text: str) -> str:
        """What was printed here, as the page would have it."""
        for page, port in self.moved.items():
            text = text.replace(port, page)
        return text.replace(str(self.folder), "~")

    def follow(self, page: str) -> None:
        """Do what a page says, and compare what comes out."""
        last = ""
        for block in blocks(page):
            if block.kind == "file":
                own = {
                    table: f'endpoint = "tcp://127.0.0.1:{port}"'
                    for table, port in zip(("ingest", "predictions", "control"), (5570, 5571, 5572))
                } | {"metrics": "port = " + self.moved["9570"]}
                more = "".join(f"\n[{table}]\n{key}\n" for table, key in own.items())
                text = block.text + (more if "[[stream]]" in block.text else "")
                (self.folder / block.argument).write_text(self.here(text))
            elif block.kind == "terminal":
                last = self.open(block.text.strip())
            elif block.kind == "output":
                self.compare(page, block, block.argument or last)
            elif block.kind == "":
                last = ""
                self.run(page, block.text)

    def open(self, line: str) -> str:
        """Start a command that goes on; returns its name. ``run`` is ready when the page goes on, ``watch`` heard."""
        name = line.split()[1]
        if name in self.terminals:
            assert self.terminals[name].wait(20) == 0, "the one before has ended in good order"
        log = (self.folder / f"{name}.log").open("wb")
        words = self.here(line).split()
        self.terminals[name] = subprocess.Popen(words, cwd=self.folder, env=self.env, stdout=log, stderr=log)
        if name == "run":
            wait_for(lambda: self.get("/readyz") == "ready\n" or self.ended(name), "the daemon is ready")
        else:
            wait_for(lambda: self.status()["subscribers"] == 1, "the subscription has arrived")
        return name

    def ended(self, name: str) -> None:
        assert self.terminals[name].poll() is None, (self.folder / f"{name}.log").read_text()

    def get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(self.http + path, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def status(self) -> dict[str, int]:
        return dict(json.loads(self.shell("spiked ctl tcp://127.0.0.1:5572 status --json").stdout))

    def taken(self) -> bool:
        """Whether all that was played has been taken in: each recording ends with a reset."""
        return f'spiked_messages_total{{kind="reset",stream="cam0"}} {self.played}.0' in self.get("/metrics")

    def shell(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-ec", self.here(text)], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120
        )

    def run(self, page: str, text: str) -> None:
        """Run a block, and let the daemon take in what it sent: a reader is slower than a test."""
        self.said.append("")
        for line in text.splitlines():
            done = self.shell(line)
            # another daemon on this machine is no fault of the page's
            allowed = (0, 1) if line == "spiked doctor" else (0,)
            assert done.returncode in allowed, f"{page}: {line}\n{done.stdout}{done.stderr}"
            self.said[-1] += self.there(done.stdout + done.stderr)
            sent = re.findall(r"(\d+) recordings played", done.stdout) or [line.startswith("spiked replay")]
            if int(sent[0]):
                self.played += int(sent[0])
                wait_for(self.taken, f"{self.played} recordings have been taken in")

    def compare(self, page: str, block: Block, terminal: str) -> None:
        """Each line of an output that a page shows has been printed, but for its numbers."""

        def missing() -> list[str]:
            text = self.there((self.folder / f"{terminal}.log").read_text()) if terminal else self.said[-1]
            lines = [plain(line) for line in text.splitlines()]
            wanted = [line for line in block.text.splitlines() if line.strip() != "..."]
            return [w for w in wanted if plain(w) not in lines]

        if terminal:
            wait_for(lambda: not missing(), f"{page}: {missing()}", 20)
        assert not missing(), f"{page}: never printed: {missing()}; but {self.said[-1]}"

    def close(self) -> None:
        for process in self.terminals.values():
            process.kill()
            process.wait()
