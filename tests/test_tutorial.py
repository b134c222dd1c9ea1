"""The tutorial and the how-to pages, followed to the letter by a newcomer with a daemon of their own."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import DOCS, Follower, blocks, plain


@pytest.fixture(scope="module")
def follower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Follower]:
    """Who has followed the tutorial: its daemon runs on, its recordings lie there."""
    somebody = Follower(tmp_path_factory.mktemp("newcomer"))
    try:
        somebody.follow("tutorial.md")
        yield somebody
    finally:
        somebody.close()


def test_the_tutorial_keeps_what_it_promises(follower: Follower) -> None:
    accuracies = [float(a) for said in follower.said for a in re.findall(r"^spiked_accuracy\S* (\S+)$", said, re.M)]
    first, second, third = accuracies
    assert first < second < third and third > 0.6, "it got better"
    finals = [line for line in (follower.folder / "watch.log").read_text().splitlines() if line.endswith("final")]
    assert [line.split()[3] for line in finals[-2:]] == ["cross", "square"], "it still knows, after a restart"


def test_the_tutorial_installs_as_the_readme_does() -> None:
    (install,) = (b for b in blocks("tutorial.md") if b.kind == "install")
    readme = (DOCS.parent / "README.md").read_text()
    first, second = install.text.splitlines()
    assert re.sub(r"'\.\[digits\]'", ".", readme).count(first) == 1 and second in readme
    assert "requires-python" in (DOCS.parent / "pyproject.toml").read_text()
    needs = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f"Python {needs.removeprefix('>=')} or later" in (DOCS / "tutorial.md").read_text()


@pytest.mark.parametrize("page", ["teaching.md", "tuning.md"])
def test_a_how_to_page_can_be_followed(follower: Follower, page: str) -> None:
    follower.follow(page)


def test_outputs_are_compared_but_for_numbers() -> None:
    shown = "cam0   0.300 s  cross  100.0%  ####  153 us"
    assert plain(shown) == plain("cam0  12.4 s  cross  9.5%  ##   7 us") != plain(shown.replace("cross", "disc"))
    assert plain("continuing from checkpoint 000001-20261129T102517Z") == "continuing from checkpoint 0-0"


def test_a_block_that_nobody_runs_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pages.DOCS", tmp_path)
    (tmp_path / "page.md").write_text("a\n\n```python\n1 / 0\n```\n")
    with pytest.raises(AssertionError, match="nobody runs"):
        blocks("page.md")


def test_figures_of_methods_are_those_of_the_page_that_measured_them() -> None:
    """Accuracy, time and memory of each row of the table stand together in one row of continual.md."""
    measured = [row.split("|") for row in (DOCS / "continual.md").read_text().splitlines() if row.count("±") > 1]
    rows = re.findall(r"^\| \w.* \| (\S+ ± \S+) % \| (\S+) \| (\d+) MB \|$", (DOCS / "tuning.md").read_text(), re.M)
    assert len(rows) == 7
    for accuracy, us, mb in rows:
        (row,) = [r for r in measured if r[3].strip() == accuracy and r[-4].strip() == us]
        assert round(int(row[-3].split()[0]) * 1024 / 1e6) == int(mb), row
