"""Links between the pages lead somewhere, and what docs/measured.md quotes stands where it says."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.pages import pages
from tests.support.processes import ROOT

MEASURED = ROOT / "docs" / "measured.md"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the page's headings."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


def test_figures_that_the_page_quotes_stand_on_the_pages_it_names() -> None:
    rows = re.findall(
        r"^\| (?!Question|---)([^|]+) \| ([^|]+) \| \[[^]]+\]\(([^)#]+)", MEASURED.read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) > 8
    for question, figure, name in rows:
        page = (MEASURED.parent / name).read_text("utf-8")
        for number in re.findall(r"\d+\.\d+|\d{3,}", figure):
            assert number in page, f"{question}: {number} is not in {name}"


def test_targets_that_pages_name_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for page in pages():
        named = set(re.findall(r"`make ([a-z-]+)", page.read_text("utf-8")))
        assert named <= targets, page.name


def test_contributing_names_every_room_in_the_order_of_the_import_contract() -> None:
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## The rooms")[2].partition("\n## ")[0]
    table = [re.findall(r"`(\w+)[/.]", row) for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)]
    layers = [[room.strip() for room in layer.split("|")] for layer in contract["layers"] if layer != "__main__"]
    assert [sorted(row) for row in table] == [sorted(layer) for layer in layers]
