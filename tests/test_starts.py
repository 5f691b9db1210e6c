"""The figures that the program quotes are those that docs/starts.md shows, which ``make quality`` measured."""

import re
from pathlib import Path

import pytest
from checkpoints import write_checkpoint

import solar_upscale as su

PAGE = Path(__file__).parents[1] / "docs" / "starts.md"


@pytest.fixture(scope="module")
def measured():
    """The ratios of the table by what was done and how it started."""
    page = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| ([^|]+) \| ([\d.]+) \| [\d.]* ?\|$", page, re.MULTILINE)
    assert len(rows) > 50
    return {(what, init): float(ratio) for what, _, init, ratio in rows}


def quoted(source, layers, init="copy"):
    """The ranges of figures in a plan's warnings."""
    words = " ".join(su.plan_checkpoint(source, layers, init=init).warnings).replace(",", "")
    spans = re.findall(r"(?:rose|that way) ([\d.]+)(?: to ([\d.]+))?", words)
    return [(float(low), float(high or low)) for low, high in spans]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("source"))


def assert_spans(span, ratios):
    """The quoted range is that of the ratios, rounded to two figures."""
    for end, ratio in zip(span, (min(ratios), max(ratios)), strict=True):
        assert end == pytest.approx(ratio, rel=0.07)


def test_the_figure_for_dropped_layers(measured, source):
    (span,) = quoted(source, ["1:8"])
    assert_spans(span, [measured[f"layer {layer} dropped", "copy"] for layer in (0, 1, 29)])


def test_the_figure_for_repeated_layers(measured, source):
    (span,) = quoted(source, ["0:8", "7"])[:1]
    assert_spans(span, [measured[f"layer {layer} repeated", "copy"] for layer in (0, 1, 29)])


def test_the_figures_for_copies_in_place(measured, source):
    copies, split = quoted(source, ["0:4", "3", "4:8"])
    in_place = [f"layers {layers} twice in place" for layers in ("5..19", "8..22", "1..28")]
    assert_spans(copies, [measured[what, "copy"] for what in in_place])
    assert_spans(split, [measured[what, "split"] for what in in_place])


def test_identity_was_measured_as_no_change_at_all(measured):
    assert {ratio for (_, init), ratio in measured.items() if init == "identity"} == {1.0}


def test_the_pictures_of_the_page_are_there():
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE.read_text("utf-8")):
        assert (PAGE.parent / name).read_text("utf-8").startswith("<svg")
