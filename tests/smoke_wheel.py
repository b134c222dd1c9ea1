"""Run by the gate with the built wheel alone: no source, no extras. The command line works, and the demo learns."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import spiked

here = Path(__file__).resolve().parent
assert here not in Path(spiked.__file__).resolve().parents or "site-packages" in spiked.__file__, spiked.__file__
assert spiked.__version__ == importlib.metadata.version("spiked")
command = str(Path(sys.executable).parent / "spiked")
for name in ("demo", "run", "replay", "watch", "ctl", "inspect", "eval", "doctor"):
    text = subprocess.run([command, name, "--help"], check=True, capture_output=True, text=True).stdout
    assert "example" in text, name
out = subprocess.run([command, "demo", "--seconds", "6"], check=True, capture_output=True, text=True).stdout
print(out)
shares = [int(n) for n in re.findall(r"(\d+)% of the (?:first fifth|last)", out)]
assert len(shares) == 4 and shares[1] > shares[0], f"the camera's accuracy rises: {shares}"
installed = {d.metadata["Name"] for d in importlib.metadata.distributions()}
assert not installed & {"torch", "scikit-learn", "matplotlib", "faery", "aedat"}, installed
print("wheel: good")
