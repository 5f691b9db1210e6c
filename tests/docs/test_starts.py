"""The figures that the program quotes are those that docs/starts.md shows, which ``make quality`` measured."""

import re

import pytest

import solar_upscale as su
from solar_upscale.start.measured import REVERSALS, WINDOWS
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
    (warning,) = warned(source, ["0:8", "7"], init)
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


def layers_of(what):
    """The entries for a row of the table."""
    if match := re.fullmatch(r"m=(\d+)|SOLAR m=(\d+)", what):
        m = int(match[1] or match[2])
        return [f"0:{30 - m}", f"{m}:30"]
    if match := re.fullmatch(r"(?:window )?\[(\d+),(\d+)\)(?: repeated)?", what):
        return [f"0:{match[2]}", f"{match[1]}:30"]
    if match := re.fullmatch(r"layers (\d+)\.\.(\d+) twice in place", what):
        first, last = int(match[1]), int(match[2])
        return [x for x in range(30) for _ in range(2 if first <= x <= last else 1)]
    if match := re.fullmatch(r"layer (\d+) (repeated|dropped)", what):
        times = 2 if match[2] == "repeated" else 0
        return [x for x in range(30) for _ in range(times if x == int(match[1]) else 1)]
    orders = {
        "layers 3, 7, ..., 27 twice in place": [x for x in range(30) for _ in range(2 if x % 4 == 3 else 1)],
        "all layers reversed": ["::-1"],
        "layers 8..21 reversed": ["0:8", "21:7:-1", "22:30"],
        "layers 14 and 15 exchanged": ["0:14", 15, 14, "16:30"],
    }
    return orders[what]


@pytest.fixture(scope="module")
def as_measured(tmp_path_factory):
    """A model as deep as the measured one."""
    return write_checkpoint(tmp_path_factory.mktemp("deep"), layers=30)


def quoted(warnings):
    """Every range of figures that follows "perplexity rose by a factor of"."""
    found = re.findall(r"perplexity rose by a factor of ([\d.,]*\d)(?: to ([\d.,]*\d))?", " ".join(warnings))
    return [tuple(float((end or low).replace(",", "")) for end in (low, high)) for low, high in found]


def test_every_bad_row_of_the_table_is_warned_about_with_its_figure(measured, as_measured):
    for (what, init), ratio in measured.items():
        found = warned(as_measured, layers_of(what), init)
        if ratio >= 1.3 and init in ("copy", "split"):
            assert any(low * 0.93 <= ratio <= high * 1.07 for low, high in quoted(found)), (what, init, ratio, found)
        elif ratio < 1.15 and not re.match("layer (0|1|29) repeated", what):
            assert found == (), (what, init)


def test_measured_windows_are_the_rows_of_the_table(measured):
    listed = {}
    for init, windows in WINDOWS.items():
        listed |= {(window.start, window.stop, init): window.ratio for window in windows}
    rows = {}
    for (what, init), ratio in measured.items():
        if init in WINDOWS and re.match(r"m=|SOLAR m=|\[|window \[", what):
            *_, first, last = layers_of(what)
            rows[int(last.partition(":")[0]), int(first.partition(":")[2]), init] = ratio
    assert listed == rows


def test_measured_reversals_are_the_rows_of_the_table(measured):
    assert set(REVERSALS) == {ratio for (what, _), ratio in measured.items() if what.endswith(" reversed")}


@pytest.mark.parametrize(
    ("layers", "init", "words"),
    [
        (["0:26", "4:30"], "copy", "severe damage: perplexity rose by a factor of 4.3"),
        (["0:25", "10:30"], "copy", "severe damage: perplexity rose by a factor of 7.87"),
        (["0:27", "12:30"], "copy", "severe damage: perplexity rose by a factor of 2.24"),
        (["0:20", "5:30"], "split", "splits a repeated window, layers 5 to 19: perplexity rose by a factor of 1.758"),
        (["::-1"], "copy", "reverses 30 layers: "),
    ],
)
def test_patterns_known_to_be_bad_are_warned_about(as_measured, layers, init, words):
    assert any(words in warning for warning in warned(as_measured, layers, init))


@pytest.mark.parametrize("depth", [8, 32, 48, 80])
def test_solar_at_its_published_proportions_is_warned_about_mildly(tmp_path, depth):
    source = write_checkpoint(tmp_path / "source", layers=depth)
    (warning,) = warned(source, [f"0:{depth * 3 // 4}", f"{depth // 4}:{depth}"])
    assert "which needs further training: perplexity rose by a factor of 1.41" in warning
    assert "severe" not in warning


def test_windows_count_in_parts_of_the_depth(tmp_path):
    source = write_checkpoint(tmp_path / "source", layers=60)
    (warning,) = warned(source, ["0:52", "8:60"])
    assert "repeats layers 8 to 51 as they are, which does severe damage: perplexity rose by a factor of 4.3" in warning


@pytest.mark.parametrize(
    ("layers", "init"),
    [
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
