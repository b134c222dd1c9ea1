"""What the site needs beyond its pages: links that leave docs/, formulas, and the change log as a page.

The pages are written for a forge first: their links lead to files of the repository, their formulas are TeX (fenced as
``math``, or within a line as a code span between dollars). mkdocs calls the three functions ``on_...``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGES_ELSEWHERE = {"../CHANGELOG.md": "changelog.md"}
"""Files outside docs/ that are pages of the site all the same."""

_FENCES = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LEAVES = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)")
_BLOCK = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"\$<code>(.*?)</code>\$", re.DOTALL)


def relink(markdown: str, repo_url: str | None) -> str:
    """Make links out of docs/ links to the repository, or plain text where its address is not known."""

    def one(link: re.Match[str]) -> str:
        text, path, anchor = link[1], link[2], link[3] or ""
        if path in PAGES_ELSEWHERE:
            return f"[{text}]({PAGES_ELSEWHERE[path]})"
        return f"[{text}]({repo_url.rstrip('/')}/blob/main/{path[3:]}{anchor})" if repo_url else text

    parts = _FENCES.split(markdown)
    parts[::2] = [_LEAVES.sub(one, prose) for prose in parts[::2]]
    return "".join(parts)


def from_root(markdown: str) -> str:
    """Move a page from the repository's root into docs/: its links begin there."""
    moved = re.sub(r"\]\((?!https?://|#|docs/)", "](../", markdown)
    return moved.replace("](docs/", "](")


def formulas(markdown: str, convert: Callable[..., str]) -> str:
    """Make fenced formulas blocks of MathML."""

    def block(found: re.Match[str]) -> str:
        return f'<div class="formula">{convert(" ".join(found[1].split()), display="block")}</div>'

    return _BLOCK.sub(block, markdown)


def inline_formulas(page: str, convert: Callable[..., str]) -> str:
    """Make formulas within a line MathML, in the page's HTML."""
    return _INLINE.sub(lambda found: convert(html.unescape(found[1])), page)


def _converter() -> Callable[..., str]:
    from latex2mathml.converter import convert

    return convert  # type: ignore[no-any-return]


def on_files(files: Any, config: Any) -> Any:
    """Add the change log as a page."""
    from mkdocs.structure.files import File

    text = (Path(config["config_file_path"]).parent / "CHANGELOG.md").read_text()
    files.append(File.generated(config, "changelog.md", content=from_root(text)))
    return files


def on_page_markdown(markdown: str, /, *, config: Any, **_: Any) -> str:
    """Prepare a page's text."""
    return formulas(relink(markdown, config["repo_url"]), _converter())


def on_page_content(page_html: str, /, **_: Any) -> str:
    """Finish a page's HTML."""
    return inline_formulas(page_html, _converter())
