"""Markdown pages as tests read them: fenced blocks, and Python examples run with the output that they show."""

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT

__all__ = ["Block", "fenced_blocks", "pages", "run_examples"]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, where the text starts, and the heading above it."""

    language: str
    text: str
    start: int
    line: int
    heading: str


def pages() -> list[Path]:
    """Every page that a reader of the project sees."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def fenced_blocks(page: Path, language: str | None = None) -> list[Block]:
    """The page's fenced blocks in order; of one language if one is named."""
    text = page.read_text("utf-8")
    blocks = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        headings = re.findall(r"^#+ (.*)$", before, re.MULTILINE)
        block = Block(match[1], match[2], match.start(2), before.count("\n") + 2, headings[-1] if headings else "")
        if language in (None, block.language):
            blocks.append(block)
    return blocks


def run_examples(page: Path, names: dict[str, Any]) -> str:
    """Run the page's Python blocks in order, in one namespace, and return the page with the output that they print.

    A ``text`` block that follows a Python block shows its output; a block that prints must be followed by one.
    """
    text = page.read_text("utf-8")
    blocks = fenced_blocks(page)
    outputs: list[tuple[Block, str]] = []
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language != "python":
            continue
        printed = io.StringIO()
        # Line numbers of a traceback are those of the page.
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, names)  # noqa: S102 - the project's own pages
        if following is not None and following.language == "text":
            outputs.append((following, printed.getvalue()))
        else:
            assert not printed.getvalue(), f"{page.name}:{block.line} prints what the page does not show"
    for block, output in reversed(outputs):
        text = text[: block.start] + output.rstrip() + "\n" + text[block.start + len(block.text) :]
    return text
