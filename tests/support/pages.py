"""Markdown pages for tests: fenced blocks, and Python examples that are run and compared with the output shown."""

import contextlib
import errno
import importlib
import io
import itertools
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from solar_upscale import cli
from solar_upscale.architecture import families, registry
from solar_upscale.errors import PatternError
from solar_upscale.recipe import load_recipe
from solar_upscale.report.output_files import REPORTS
from solar_upscale.start.init import STARTS
from tests.support.checkpoints import write_checkpoint
from tests.support.processes import ROOT

__all__ = ["EXAMPLES", "Block", "fenced_blocks", "pages", "run_examples"]

EXAMPLES = ("CONTRIBUTING.md", "README.md", "docs/from-mergekit.md", "docs/provenance.md", "docs/python.md")
"""The pages whose examples run. Those that do not make a model of their own find two tiny ones by these names."""

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
    """The page's fenced blocks in order, of one language if given."""
    text = page.read_text("utf-8")
    blocks = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        headings = re.findall(r"^#+ (.*)$", before, re.MULTILINE)
        block = Block(match[1], match[2], match.start(2), before.count("\n") + 2, headings[-1] if headings else "")
        if language in (None, block.language):
            blocks.append(block)
    return blocks


def run_examples(page: Path) -> str:
    """Run the page's examples in order and return the page with the output that they print.

    They run in the current folder, which should be empty. Python blocks share one namespace; a ``text`` block that
    follows one shows its output, and one that follows a ``yaml`` block shows why that recipe is refused. A Python block
    that starts with the path of a file of the package stands in for that file. A ``console`` block is run if it shows
    output: lines that start with ``$`` are commands. What examples add to the package's tables is gone afterwards.
    """
    if "save_pretrained" not in page.read_text("utf-8"):
        write_checkpoint(Path("mistralai/Mistral-7B-v0.1"), layers=32)  # a folder comes before a Hub id
        write_checkpoint(Path("tiny-mistral"), layers=8, shards=3, hidden=64, inner=160, vocab=512)
    clock = mock.patch("solar_upscale.cli.commands.monotonic", side_effect=itertools.count(0, 0.1).__next__)
    # Reports give the seconds, which must be the same on any machine.
    with mock.patch.dict(STARTS), mock.patch.dict(REPORTS), _fresh_records(), clock:
        return _run_examples(page)


def _run_examples(page: Path) -> str:
    text = page.read_text("utf-8")
    blocks = fenced_blocks(page)
    names: dict[str, Any] = {}
    outputs: list[tuple[Block, str]] = []
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language == "console" and re.search(r"^[^$]", block.text, re.MULTILINE):
            outputs.append((block, _run_commands(block.text)))
        if block.language == "yaml" and following is not None and following.language == "text":
            outputs.append((following, _refusal(block.text)))
        if block.language != "python":
            continue
        if path := re.match(r"# solar_upscale/(.*/)(\w+\.py)\n", block.text):
            _add_to_package(f"solar_upscale/{path[1]}", path[2], block.text)
            continue
        # Line numbers of a traceback are those of the page.
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)  # noqa: S102 - the project's own pages
        if following is not None and following.language == "text":
            outputs.append((following, printed.getvalue()))
        else:
            assert not printed.getvalue(), f"{page.name}:{block.line} prints what the page does not show"
    for block, output in reversed(outputs):
        text = text[: block.start] + output.rstrip() + "\n" + text[block.start + len(block.text) :]
    return text


def _add_to_package(folder: str, filename: str, text: str) -> None:
    """Make one more file importable from the package in ``folder``."""
    Path(folder).mkdir(parents=True)
    Path(folder, filename).write_text(text)
    package = importlib.import_module(folder.rstrip("/").replace("/", "."))
    package.__path__.append(str(Path(folder).absolute()))


@contextlib.contextmanager
def _fresh_records() -> Iterator[None]:
    """Clear the caches of model type records before and after."""
    path = list(families.__path__)
    caches = (registry.find_type, registry._family)
    for each in caches:
        each.cache_clear()
    try:
        yield
    finally:
        families.__path__[:] = path
        for each in caches:
            each.cache_clear()
        sys.modules.pop(f"{families.__name__}.acme", None)


def _refusal(recipe: str) -> str:
    Path("recipe.yaml").write_text(recipe)
    try:
        load_recipe("recipe.yaml")
    except PatternError as error:
        return str(error)
    raise AssertionError(f"this recipe is not refused:\n{recipe}")


def _run_commands(text: str) -> str:
    """A console block with the output of its commands, separated by empty lines; seconds are always the same."""
    parts = []
    for line in re.findall(r"^\$ .*", text, re.MULTILINE):
        program, *words = shlex.split(line.removeprefix("$ "))
        assert program == "solar-upscale", f"{line}: only solar-upscale is run here"
        printed = io.TextIOWrapper(io.BytesIO(), "utf-8")
        with contextlib.redirect_stdout(printed), _without_clones():
            assert cli.main(words) == 0, line
        shown = re.sub(r"in \d+\.\d s", "in 0.1 s", printed.buffer.getvalue().decode())
        parts.append(f"{line}\n{shown.rstrip()}\n")
    return "\n".join(parts)


def _without_clones() -> contextlib.AbstractContextManager[object]:
    """Bytes are copied, so that reports do not depend on the file system of the scratch folder."""
    refusal = OSError(errno.ENOTTY, "no clones here")
    return mock.patch("fcntl.ioctl", side_effect=refusal) if sys.platform == "linux" else contextlib.nullcontext()
