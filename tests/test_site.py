"""The site: every page has its place, and what is written for a forge is made fit. The gate builds it strictly."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """The hooks as mkdocs loads them: by path."""
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_has_its_place_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    pages = re.findall(r": (\S+\.md)$", nav, re.MULTILINE)
    assert sorted(pages) == sorted([p.name for p in DOCS.glob("*.md")] + ["changelog.md"])


def test_links_out_of_docs_lead_to_the_repository_or_become_text(hooks: ModuleType) -> None:
    page = "[`a`](../configs/a.toml#x), [b](wire.md#y), [c](https://c.org), ![d](img/d.png), [why [e]](../e/e.py)"
    assert hooks.relink(page, None) == "`a`, [b](wire.md#y), [c](https://c.org), ![d](img/d.png), why [e]"
    there = hooks.relink(page, "https://forge.org/us/spiked/")
    assert "[`a`](https://forge.org/us/spiked/blob/main/configs/a.toml#x)" in there and "blob/main/e/e.py" in there
    assert hooks.relink("[r](../README.md#read-on) [c](../CHANGELOG.md)", None) == "r [c](changelog.md)"
    code = "```md\n[x](../y)\n```\n"
    assert hooks.relink(code + "[x](../y)", None) == code + "x"


def test_no_link_of_a_page_leaves_docs_after_that(hooks: ModuleType) -> None:
    pages = [p.read_text() for p in DOCS.glob("*.md")]
    assert any("](../" in page for page in pages)
    assert not any("](../" in hooks.relink(page, repo) for page in pages for repo in (None, "https://forge.org/x"))


def test_the_change_log_moves_into_docs(hooks: ModuleType) -> None:
    moved = hooks.from_root("[a](docs/a.md#b) [c](configs/c.toml) [d](https://d.org) [e](#e)")
    assert moved == "[a](a.md#b) [c](../configs/c.toml) [d](https://d.org) [e](#e)"


def test_formulas_become_mathml(hooks: ModuleType) -> None:
    def convert(tex: str, display: str = "inline") -> str:
        return f"<{display}:{tex}>"

    page = "a\n\n```math\ny\n  = 1\n```\n\nb"
    assert hooks.formulas(page, convert) == 'a\n\n<div class="formula"><block:y = 1></div>\n\nb'
    assert (
        hooks.inline_formulas("a $<code>x &lt; y</code>$, <code>$</code>", convert)
        == "a <inline:x < y>, <code>$</code>"
    )


def test_every_formula_can_be_converted(hooks: ModuleType) -> None:
    convert = pytest.importorskip("latex2mathml.converter", reason="latex2mathml is of the extra docs").convert
    for page in DOCS.glob("*.md"):
        made = hooks.formulas(page.read_text(), convert)
        made += "".join(convert(tex) for tex in re.findall(r"\$`(.*?)`\$", page.read_text()))
        assert "```math" not in made and not re.search(r"<m[ion]>[\\&](?!#)", made), f"{page.name}: TeX is left"


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    picture = (DOCS / "img" / "architecture.svg").read_text()
    links = re.findall(r"""(?:href=|src=|url\()["']?([^"')]+)""", picture)
    assert (
        links and all(link.startswith("#") for link in links) and "@import" not in picture and "<image" not in picture
    )
