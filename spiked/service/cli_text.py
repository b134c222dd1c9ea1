"""What the commands' help texts share."""

from __future__ import annotations

import argparse
from typing import Any


def example(lines: str) -> dict[str, Any]:
    """Arguments of `add_parser` that show an example below the options."""
    return {"epilog": f"example:\n{lines}", "formatter_class": argparse.RawDescriptionHelpFormatter}


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a client's keys."""
    parser.add_argument("--keys", metavar="FILE", help="this client's secret keys, for an encrypted daemon")
