"""docs/models.md is what the records and the last sweep give, and says nothing that they do not."""

import re

from solar_upscale.architecture.registry import all_types
from tests.support.models_page import models_page, sweep_rows
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")
LINES = dict(re.findall(r"^\| `(.+?)` \| (.*) \|$", PAGE.partition("| --- |")[2], re.MULTILINE))


def test_models_page_is_what_the_records_and_the_sweep_give() -> None:
    assert models_page() == PAGE, "`make docs` writes the page anew"


def test_every_known_type_and_every_swept_type_has_one_line() -> None:
    assert set(LINES) == {*all_types(), *(row.model_type for row in sweep_rows())}
    assert PAGE.count("\n| `") == len(LINES) + 1  # the head of the table


def test_type_is_called_any_only_where_the_sweep_refused_nothing() -> None:
    for row in sweep_rows():
        if row.variant or row.outcome == "not built":
            continue
        layers = LINES[row.model_type].partition(" |")[0]
        if row.refused:
            assert layers in ("some", "refused"), row
        if not row.right:
            assert layers == "refused", row


def test_well_known_types_say_what_they_are_known_for() -> None:
    assert LINES["llama"].startswith("any | all |")
    assert LINES["deepseek_v3"].startswith("some | all | ")
    assert "dense layers must stay in front" in LINES["deepseek_v3"]
    assert LINES["bert"].startswith("any | copy | `--init`: ")
    assert LINES["albert"].startswith("refused |")
