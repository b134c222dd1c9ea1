"""Writes the dashboards as JSON: `python deploy/grafana/generate.py [FOLDER]`. Needs the extra `deploy`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from boards import BOARDS
from grafana_foundation_sdk.cog.encoder import JSONEncoder

FOLDER = Path(__file__).resolve().parent / "dashboards"


def main(folder: Path) -> None:
    """Write each dashboard into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, board in BOARDS.items():
        text = json.dumps(board.build(), cls=JSONEncoder, indent=1, sort_keys=True)
        (folder / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
