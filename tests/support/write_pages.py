"""``make docs``: write the pages, and the parts of pages, that follow from the program.

docs/cli.md comes from the parsers; the outputs in docs/python.md are printed by its examples. Tests check both.
"""

import contextlib
import os
import sys
import tempfile

from tests.support.cli_page import cli_page
from tests.support.pages import run_examples
from tests.support.processes import ROOT

__all__ = ["main"]


def main() -> None:
    (ROOT / "docs" / "cli.md").write_text(cli_page(), "utf-8")
    page = ROOT / "docs" / "python.md"
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        os.environ["HF_HUB_OFFLINE"] = "1"
        page.write_text(run_examples(page, {}), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
