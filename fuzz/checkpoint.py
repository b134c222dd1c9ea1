"""Coverage-guided fuzzing of checkpoints: whatever the files hold, they are loaded, or damaged for a stated reason.

    python fuzz/checkpoint.py [-max_total_time=60] [FOLDER ...]      libFuzzer's options; needs `pip install atheris`

The input is both files, the JSON text first, after its length. Sums guard against accidents, and would keep the fuzzer
from all that lies behind them: two bits of the first byte say whether each is mended before the files are read.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["spiked.service", "safetensors"]):
    from spiked.service import checkpoint_format as form
    from spiked.service.checkpoints import CheckpointError, CheckpointStore

import numpy as np

NAME = "000001-20260101T000000Z"
SEALS, NAMES_DATA = 1, 2


def files(data: bytes) -> tuple[bytes, bytes]:
    """The JSON file and the arrays' file of an input."""
    how, n, rest = (data[0], int.from_bytes(data[1:3], "little"), data[3:]) if len(data) > 2 else (0, 0, b"")
    text, arrays = rest[:n], rest[n:]
    if how & NAMES_DATA:
        text = re.sub(rb'"data_bytes":\d+', b'"data_bytes":%d' % len(arrays), text)
        text = re.sub(rb'"data_crc32":"\w*"', b'"data_crc32":"%s"' % form.crc32([arrays]).encode(), text)
    if how & SEALS:
        text = form._with_sum(text.rpartition(b',"crc32":"')[0] or text)
    return text, arrays


def main() -> None:
    """Fuzz until the options say that it is enough."""
    logging.disable()
    with tempfile.TemporaryDirectory() as seeds, tempfile.TemporaryDirectory(dir=memory()) as folder:
        store = CheckpointStore(Path(folder))

        def one_input(data: bytes) -> None:
            for suffix, content in zip((form.JSON, form.DATA), files(data)):
                store.directory.joinpath(NAME + suffix).write_bytes(content)
            form.describe(store.directory / (NAME + form.JSON))
            try:
                loaded = store.load()
                assert loaded is None or all(isinstance(a, np.ndarray) for a in loaded.arrays.values())
            except CheckpointError as error:
                assert "\n" not in str(error)
            for file in store.directory.iterdir():
                file.unlink()

        made = CheckpointStore(Path(seeds) / "made")
        made.save({"cam0/learner.net.weight": np.ones((3, 4), np.float32), "b": np.zeros(0, bool)}, {"streams": {}})
        text, arrays = (next(made.directory.glob(f"*{s}")).read_bytes() for s in (form.JSON, form.DATA))
        for how in range(4):
            (Path(seeds) / f"{how}").write_bytes(bytes([how]) + len(text).to_bytes(2, "little") + text + arrays)
        atheris.Setup([*sys.argv, seeds], one_input)
        atheris.Fuzz()


def memory() -> str | None:
    """A file system in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    main()
