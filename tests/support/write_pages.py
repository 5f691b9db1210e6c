"""``make docs``: write the pages, and the parts of pages, that follow from the program.

docs/cli.md comes from the parsers, docs/models.md from the records and the last sweep, and an example's output from the
example. Tests check all of it.
"""

import contextlib
import os
import sys
import tempfile

from tests.support.cli_page import cli_page
from tests.support.models_page import models_page
from tests.support.pages import EXAMPLES, run_examples
from tests.support.processes import ROOT

__all__ = ["main"]


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    (ROOT / "docs" / "cli.md").write_text(cli_page(), "utf-8")
    (ROOT / "docs" / "models.md").write_text(models_page(), "utf-8")
    for name in EXAMPLES:
        with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
            (ROOT / name).write_text(run_examples(ROOT / name), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
