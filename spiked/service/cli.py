"""The command line: one module per command, errors of one line, exit codes 0 (done), 1 (failed), 2 (wrong usage)."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

import spiked
from spiked.service.cli_errors import RunError, UsageError

COMMANDS = ("demo", "run", "replay", "watch", "ctl", "inspect", "eval", "keys", "doctor")


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``spiked`` and all its commands."""
    parser = argparse.ArgumentParser(
        prog="spiked", description=spiked.__doc__.splitlines()[0] if spiked.__doc__ else ""
    )
    parser.add_argument("--version", action="version", version=f"spiked {spiked.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"spiked.service.cmd_{name}").add_parser(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    args = build_parser().parse_args(argv)
    try:
        code = import_module(f"spiked.service.cmd_{args.command}").run(args)
        sys.stdout.flush()
        return int(code)
    except UsageError as error:
        print(f"spiked {args.command}: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"spiked {args.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has gone: nothing is wrong with us
        _discard_output()
        return 0
    except OSError as error:
        print(f"spiked {args.command}: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        _discard_output()
        return 1
    except KeyboardInterrupt:
        if args.command == "watch":  # that is how watching ends
            return 0
        print(f"spiked {args.command}: interrupted", file=sys.stderr)
        return 1


def _discard_output() -> None:
    """Let what is still buffered go nowhere: flushing it at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
