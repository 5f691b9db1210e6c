"""The Python examples of the pages run, and print what the pages show."""

import re
from pathlib import Path

import pytest

import solar_upscale
from tests.support.pages import fenced_blocks, run_examples
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "python.md"


def test_python_page_shows_what_its_examples_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    assert len(fenced_blocks(PAGE, "python")) > 8
    assert run_examples(PAGE, {}) == PAGE.read_text("utf-8"), "`make docs` writes what the examples print"


def test_python_page_names_everything_public() -> None:
    named = set(re.findall(r"\w+", PAGE.read_text("utf-8")))
    assert set(solar_upscale.__all__) - named == set()
