"""The examples of the pages run, and print what the pages show."""

import json
import re
import sys
from pathlib import Path

import pytest

import solar_upscale as su
from tests.support.checkpoints import write_checkpoint
from tests.support.pages import EXAMPLES, fenced_blocks, run_examples
from tests.support.processes import ROOT


@pytest.mark.parametrize("name", EXAMPLES)
def test_page_shows_what_its_examples_print(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / name
    assert fenced_blocks(page, "text") or fenced_blocks(page, "console")
    if "save_pretrained" in page.read_text("utf-8"):
        pytest.importorskip("transformers")
    if name == "CONTRIBUTING.md" and sys.platform != "linux":
        pytest.skip("sendfile writes to files on Linux only")
    monkeypatch.chdir(tmp_path)
    assert run_examples(page) == page.read_text("utf-8"), "`make docs` writes what the examples print"


def test_python_page_names_everything_public() -> None:
    named = set(re.findall(r"\w+", (ROOT / "docs" / "python.md").read_text("utf-8")))
    assert set(su.__all__) - named == set()


def test_provenance_page_explains_every_field(tmp_path: Path) -> None:
    su.upscale_checkpoint(write_checkpoint(tmp_path / "source"), tmp_path / "out", ["0:6", "2:8"])
    record = json.loads((tmp_path / "out" / "solar_upscale.json").read_text("utf-8"))
    table = (ROOT / "docs" / "provenance.md").read_text("utf-8").partition("## Fields")[2].partition("##")[0]
    first_cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(first_cells))) == sorted(record)
    for section in ("job", "before"):
        row = next(line for line in table.splitlines() if f"`{section}`" in line)
        assert {key for key in record[section] if f"`{key}`" not in row} == set()
