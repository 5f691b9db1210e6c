"""docs/cli.md is what the parsers give."""

from solar_upscale.cli.parsers import PARSERS
from tests.support.cli_page import INTRODUCTIONS, cli_page
from tests.support.processes import ROOT


def test_cli_page_matches_the_parsers() -> None:
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == cli_page(), "`make docs` writes the page anew"


def test_every_command_has_an_introduction() -> None:
    assert list(INTRODUCTIONS) == list(PARSERS)
