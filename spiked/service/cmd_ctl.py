"""``spiked ctl``: ask a running daemon for something."""

from __future__ import annotations

import argparse
from typing import Any

from spiked.service.cli_text import add_keys, example

EXAMPLES = """\
  spiked ctl tcp://127.0.0.1:5572 status
  spiked ctl tcp://127.0.0.1:5572 teach --stream cam0 --class wave --ms 500
  spiked ctl tcp://127.0.0.1:5572 set --rate 0.0005"""

VERBS = {
    "status": "what it is, and where every stream stands",
    "checkpoint": "write a checkpoint now",
    "rollback": "go back to the last good checkpoint, or a named one",
    "freeze": "stop learning",
    "unfreeze": "learn again",
    "set": "change the learning rate",
    "reset": "dynamics to rest, weights stay",
    "teach": "name what the stream showed just now",
    "stop": "checkpoint and stop",
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``ctl`` to the command line."""
    what = "\n".join(f"  {verb:<11} {text}" for verb, text in VERBS.items())
    parser = commands.add_parser(
        "ctl", help="ask a running daemon for something",
        description=f"Ask a running daemon for something:\n{what}", **example(EXAMPLES),
    )  # fmt: skip
    parser.add_argument("endpoint", metavar="ENDPOINT", help="control.endpoint of the daemon")
    parser.add_argument("do", choices=VERBS, metavar="|".join(VERBS))
    parser.add_argument("--stream", metavar="ID", help="only this stream (teach: needed where there are several)")
    parser.add_argument("--name", help="rollback: to this checkpoint")
    parser.add_argument("--rate", type=float, help="set: the learning rate")
    parser.add_argument("--class", dest="class_", metavar="CLASS", help="teach: what it was, by name")
    parser.add_argument("--ms", type=float, help="teach: how much of the past")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="how long to wait (10)")
    add_keys(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def run(args: argparse.Namespace) -> int:
    """Ask, and print the answer."""
    import msgspec

    from spiked.service.cli_errors import RunError
    from spiked.service.client import request

    what: dict[str, Any] = {"do": args.do}
    for key, value in (
        ("stream", args.stream), ("name", args.name), ("rate", args.rate), ("class", args.class_), ("ms", args.ms),
    ):  # fmt: skip
        if value is not None:
            what[key] = value
    answer = request(args.endpoint, what, args.timeout, args.keys)
    if args.json:
        print(msgspec.json.encode(answer).decode())
        return 0 if answer["ok"] else 1
    if not answer.pop("ok"):
        raise RunError(answer["error"])
    _print(answer, "")
    return 0


def _print(answer: dict[str, Any], indent: str) -> None:
    for key, value in answer.items():
        if isinstance(value, dict) and value:
            print(f"{indent}{key}:")
            _print(value, indent + "  ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{indent}{key}: {'-' if shown in (None, {}, '') else shown}")
    if not answer:
        print(f"{indent}done")
