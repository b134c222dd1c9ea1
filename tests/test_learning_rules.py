"""The benchmark of learning rules: every row can be configured, no sample is in both parts, the page is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import learning_rules as bench
from rule_configs import ROWS
from rule_tasks import TASKS, CuesTask

from spiked.io.binner import BinnerSpec
from spiked.io.events import Geometry


@pytest.mark.parametrize(("task", "row"), [(t, r) for t, rows in ROWS.items() for r in rows], ids=lambda x: str(x)[:40])
def test_every_row_can_be_configured(task, row) -> None:
    stream = bench.configure(row, TASKS[task], 3)
    assert stream.network.seed == 3 and stream.network.classes == TASKS[task].classes


def test_nmnist_splits_share_nothing_and_are_stratified(data_dir, monkeypatch) -> None:
    monkeypatch.setenv("SPIKED_DATA", str(data_dir))
    spec = BinnerSpec(Geometry(34, 34, 2))
    train, test = TASKS["nmnist"].split(0, spec)
    assert (len(train), len(test)) == (900, 200)
    assert {id(s.steps) for s in train}.isdisjoint(id(s.steps) for s in test)
    share = np.bincount([s.label for s in train + test]) * 200 / 1100
    assert np.all(np.abs(np.bincount([s.label for s in test]) - share) <= 1)
    assert [s.label for s in TASKS["nmnist"].split(0, spec)[0]] == [s.label for s in train]
    assert {id(s.steps) for s in TASKS["nmnist"].split(1, spec)[1]} != {id(s.steps) for s in test}


def test_a_test_tells_no_label() -> None:
    train, test = CuesTask(3).split(0, BinnerSpec(Geometry(40, 1, 1)))
    assert len(train) == 3 and len(test) == 200
    for sample in test:
        assert (sample.asked.labels == -1).all() and sample.asked.flags[-1]


def test_the_table_goes_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A\n{bench.MARKS[0]}\nold\n{bench.MARKS[1]}\nb\n")
    bench.write_table(page, "new \\1")
    assert page.read_text() == f"# A\n{bench.MARKS[0]}\nnew \\1\n{bench.MARKS[1]}\nb\n"
    page.write_text("# A\n")
    with pytest.raises(ValueError, match="lacks"):
        bench.write_table(page, "new")
