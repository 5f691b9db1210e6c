"""A plan in a Python session and in a notebook."""

import xml.etree.ElementTree as ET

import pytest

import solar_upscale as su
from solar_upscale.plan.report import plan_report
from tests.support.checkpoints import write_checkpoint


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    source = write_checkpoint(tmp_path_factory.mktemp("plan") / "<b>&source", shards=3)
    return su.plan_checkpoint(source, ["0:6", "2:8"], init="scale=1,0.25")


def test_plan_and_its_parts_have_a_short_repr(plan):
    assert repr(plan).startswith("<UpscalePlan <b>&source: 8 -> 12 layers, ")
    parts = (plan.passes, plan.shards, plan.pattern, plan.change, plan.source_shards, plan.stack, plan.request)
    for part in (plan, *parts):
        assert len(repr(part)) < 600
    assert repr(plan.pattern) == "<LayerPattern 0:6 2:8: 12 layers from 8>"


def test_printing_a_plan_prints_the_report_of_the_command(plan):
    assert str(plan) == plan_report(plan)


def test_notebook_shows_the_map_and_the_report_in_the_page_s_colours(plan):
    html = plan._repr_html_()
    root = ET.fromstring(html)  # noqa: S314 - our own output
    assert [child.tag.rpartition("}")[2] for child in root] == ["svg", "pre"]
    assert "num_hidden_layers" in root[1].text
    assert "color:inherit" in root[1].get("style")
    assert "light dark" in root.get("style")
    assert "<b>" not in html


@pytest.mark.parametrize("sources", [("0:6", "2:8"), (0, 1.5), [0, 1], (0, True)])
def test_pattern_of_unresolved_entries_names_the_function_that_resolves_them(sources):
    with pytest.raises(su.PatternError, match="resolve_layer_indices"):
        su.LayerPattern(sources, 8)


def test_pattern_of_a_layer_that_does_not_exist_is_refused():
    with pytest.raises(su.PatternError, match="source layer 8 does not exist; expected 0 to 7"):
        su.LayerPattern((0, 8), 8)
