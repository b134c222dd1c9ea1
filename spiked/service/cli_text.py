"""What the commands' help texts share."""

from __future__ import annotations

import argparse
from typing import Any


def example(lines: str) -> dict[str, Any]:
    """Arguments of `add_parser` that show an example below the options."""
    return {"epilog": f"example:\n{lines}", "formatter_class": argparse.RawDescriptionHelpFormatter}
