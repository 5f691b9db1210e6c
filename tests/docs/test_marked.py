"""What commands write into Markdown pages stands between marks, and nothing else is touched."""

from pathlib import Path

import pytest

from benchmarks.marked import write_marked
from tests.support.processes import ROOT


def test_only_text_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n<!-- measured by make x -->\n\nold\n\n<!-- end of make x -->\n\nafter\n")
    write_marked(page, "x", "| new |\n")
    once = page.read_text()
    assert once == "# A\n\n<!-- measured by make x -->\n\n| new |\n\n<!-- end of make x -->\n\nafter\n"
    write_marked(page, "x", "| new |")
    assert page.read_text() == once


def test_page_without_marks_is_unchanged(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- measured by make x -->\n")
    with pytest.raises(ValueError, match="the marks of make x are missing"):
        write_marked(page, "x", "text")
    assert page.read_text() == "<!-- measured by make x -->\n"


@pytest.mark.parametrize(
    ("page", "target"),
    [("README.md", "peers"), ("README.md", "bench"), ("docs/starts.md", "quality"), ("docs/starts.md", "quality-heal")],
)
def test_pages_have_the_marks_of_their_commands(page: str, target: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    begin, end = f"<!-- measured by make {target} -->", f"<!-- end of make {target} -->"
    assert text.count(begin) == text.count(end) == 1
    assert "|" in text.partition(begin)[2].partition(end)[0]
