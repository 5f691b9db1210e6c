"""docs/from-mergekit.md: the recipes of a row are one job, and a refused recipe is refused with the message shown."""

from itertools import pairwise
from pathlib import Path

import pytest

import solar_upscale as su
from solar_upscale.plan.planner import make_plan
from solar_upscale.recipe import Recipe, load_recipe
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.source.folder import FolderSource
from tests.support.checkpoints import write_checkpoint
from tests.support.pages import Block, fenced_blocks
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "from-mergekit.md"
YAML = fenced_blocks(PAGE, "yaml")
ROWS = [(left, right) for left, right in pairwise(YAML) if left.heading == right.heading]


def recipe_of(block: Block, folder: Path) -> Recipe:
    path = folder / f"line-{block.line}.yaml"
    path.write_text(block.text)
    return load_recipe(path)


@pytest.mark.parametrize(("left", "right"), ROWS, ids=[left.heading for left, _ in ROWS])
def test_both_sides_of_a_row_are_the_same_job(left: Block, right: Block, tmp_path: Path) -> None:
    theirs, ours = recipe_of(left, tmp_path), recipe_of(right, tmp_path)
    assert (theirs.dialect, ours.dialect) == ("mergekit", "solar-upscale")
    assert (theirs.source, theirs.revision) == (ours.source, ours.revision)
    source = FolderSource(write_checkpoint(tmp_path / "source", layers=32))
    recorded = theirs.request.expected_dtype
    if recorded is not None:  # the tests' model is stored in another dtype than the one of the page
        assert recorded == "BF16"
        with pytest.raises(su.UnsupportedError, match="expected dtype BF16 in every tensor"):
            make_plan(open_checkpoint(source), theirs.request)
    else:
        plans = [make_plan(open_checkpoint(source), recipe.request) for recipe in (theirs, ours)]
        assert plans[0].pattern == plans[1].pattern
        assert plans[0].factors == plans[1].factors
    assert su.resolve_layer_indices(theirs.request.layers, 32) == su.resolve_layer_indices(ours.request.layers, 32)


def test_page_has_rows_and_refusals() -> None:
    assert len(ROWS) > 4
    assert len(YAML) - 2 * len(ROWS) > 8


def test_patterns_that_mergekit_cannot_say_are_patterns() -> None:
    table = PAGE.read_text("utf-8").partition("## What mergekit cannot say")[2].partition("##")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `") and "Meaning" not in line]
    assert len(rows) > 3
    for row in rows:
        pattern = row.split("`")[1]
        entries = [pattern.strip('"')] if pattern.startswith('"') else pattern.split()
        assert su.resolve_layer_indices(entries, num_layers=32)
