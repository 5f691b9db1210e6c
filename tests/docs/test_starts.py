"""The figures that the program quotes are those that docs/starts.md shows, which ``make quality`` measured."""

import re

import pytest

import solar_upscale as su
from tests.support.checkpoints import write_checkpoint
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "starts.md"


@pytest.fixture(scope="module")
def measured():
    """The ratios of the table by what was done and how it started."""
    page = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| ([^|]+) \| ([\d.]+) \| [\d.]* ?\|$", page, re.MULTILINE)
    assert len(rows) > 50
    return {(what, init): float(ratio) for what, _, init, ratio in rows}


def warned(source, layers, init="copy", **options):
    return su.plan_checkpoint(source, layers, init=init, **options).warnings


def figures(warning):
    """The ranges of figures that a warning quotes."""
    words = re.sub(r"scale=[\d.,]+|SmolLM2.*", "", warning).replace(",", "")
    spans = re.findall(r"\bby (?:a factor of )?([\d.]+)(?: to ([\d.]+))?", words)
    return [(float(low), float(high or low)) for low, high in spans]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("source"))


def assert_spans(span, ratios):
    """The quoted range is that of the ratios, rounded to two figures."""
    for end, ratio in zip(span, (min(ratios), max(ratios)), strict=True):
        assert end == pytest.approx(ratio, rel=0.07)


def test_warning_for_dropped_layers_gives_the_measured_figure(measured, source):
    (warning,) = warned(source, ["1:8"])
    assert warning.startswith("drops source layer 0: ")
    (span,) = figures(warning)
    assert_spans(span, [measured[f"layer {layer} dropped", "copy"] for layer in (0, 1, 29)])


@pytest.mark.parametrize("init", ["copy", "scale=1,0.5"])
def test_warning_for_repeated_layers_gives_the_measured_figures(measured, source, init):
    (warning,) = warned(source, ["0:8", "6", "7"], init)
    assert warning.startswith("repeats source layer 7: ")
    copies, gentle = figures(warning)
    for span, start in ((copies, "copy"), (gentle, "scale=1,0.25")):
        assert_spans(span, [measured[f"layer {layer} repeated", start] for layer in (0, 1, 29)])


def test_warning_for_a_split_first_layer_gives_the_measured_figure(measured, source):
    (warning,) = warned(source, ["0", "0:8"], "split")
    assert warning.startswith("divides source layer 0: ")
    (span,) = figures(warning)
    assert_spans(span, [measured["layer 0 repeated", "split"]])


def test_warning_for_copies_in_place_gives_the_measured_figures(measured, source):
    (warning,) = warned(source, ["0:4", "3:5", "4:8"])
    assert warning.startswith("2 layers follow a plain copy")
    copies, split = figures(warning)
    in_place = [what for what, init in measured if what.endswith("twice in place") and init == "split"]
    assert len(in_place) > 4
    assert_spans(copies, [measured[what, "copy"] for what in in_place])
    assert_spans(split, [measured[what, "split"] for what in in_place])


@pytest.mark.parametrize(
    ("layers", "init"),
    [
        (["0:6", "2:8"], "copy"),
        (["0:4", "3:8"], "copy"),
        (["0:6", "2:8"], "scale=1,0.25"),
        (["[i for i in range(8) for _ in range(2)]"], "identity"),
        (["[i for i in range(8) for _ in range(2)]"], "scale=1,0.25"),
        (["0", "[i for i in range(1,8) for _ in range(2)]"], "split"),
    ],
)
def test_cheap_changes_are_not_warned_about(source, layers, init):
    assert warned(source, layers, init) == ()


def test_small_model_is_not_judged_by_figures_of_a_larger_one(tmp_path):
    shallow = write_checkpoint(tmp_path / "shallow", layers=3)
    assert warned(shallow, ["0", "0", "1", "1"]) == ()


def test_copies_in_place_are_warned_about_in_every_spelling(source):
    layers = ["0:4", "3:5", "4:8"]
    assert warned(source, layers) == warned(source, layers, "scale=1,1") == warned(source, layers, entry_scales=[1] * 3)


@pytest.mark.parametrize("scales", [[None, 0.5], [0.5, None]])
def test_identity_with_an_entry_scale_is_not_called_identity(source, scales):
    (warning,) = warned(source, ["0:6", "4:8"], "identity", entry_scales=scales)
    assert warning.startswith("not an identity: an entry has a scale of its own")
    assert warned(source, ["0:6", "4:8"], "identity") == ()


def test_identity_was_measured_as_no_change_at_all(measured):
    assert {ratio for (_, init), ratio in measured.items() if init == "identity"} == {1.0}


def test_images_on_the_page_exist():
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE.read_text("utf-8")):
        assert (PAGE.parent / name).read_text("utf-8").startswith("<svg")
