import re
import time
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar_upscale.pattern import LayerPattern
from solar_upscale.plan.layer_map.picture import svg_map
from solar_upscale.plan.layer_map.runs import Run, runs
from solar_upscale.plan.layer_map.terminal import terminal_map

SOLAR = LayerPattern((*range(24), *range(8, 32)), 32)
LLAMA_PRO = LayerPattern(tuple(x for b in range(8) for x in (*range(4 * b, 4 * b + 4), 4 * b + 3)), 32)
IN_PLACE = LayerPattern((*range(5), *(x for x in range(5, 20) for _ in range(2)), *range(20, 30)), 30)
SVG = "{http://www.w3.org/2000/svg}"
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@st.composite
def patterns(draw):
    depth = draw(st.integers(1, 300))
    blocks = draw(
        st.lists(
            st.tuples(st.integers(0, depth - 1), st.integers(1, depth), st.integers(1, 3)), min_size=1, max_size=12
        )
    )
    sources = [x for start, stop, times in blocks for x in range(start, min(depth, start + stop)) for _ in range(times)]
    return LayerPattern(tuple(sources), depth)


def test_solar_map_is_shown_whole():
    assert terminal_map(SOLAR) == (
        "48 layers from 32: 32 first uses, 16 repeats, 0 dropped, 1 seam\n"
        "\n"
        "   target    source  0                             31\n"
        "     0-23 <-   0-23  ████████████████████████........\n"
        " ~  24-47 <-   8-31  ........▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒████████\n"
        "               uses  11111111222222222222222211111111\n"
        "\n"
        "█ first use   ▒ repeat   . not in this row   ~ seam\n"
    )


def test_runs_of_llama_pro_end_where_a_layer_repeats():
    assert runs(LLAMA_PRO.sources)[:3] == (Run(0, 0, 4), Run(4, 3, 5), Run(9, 7, 5))
    assert LLAMA_PRO.repeats == (4, 9, 14, 19, 24, 29, 34, 39)


def test_layers_repeated_in_place_are_one_run():
    assert runs(IN_PLACE.sources) == (Run(0, 0, 5), Run(5, 5, 15, (1.0, 1.0)), Run(35, 20, 10))
    assert "x0.5, each twice" in terminal_map(IN_PLACE, factors=[1.0] * 5 + [0.5] * 30 + [1.0] * 10)


@given(patterns())
def test_runs_reconstruct_the_pattern(pattern):
    rebuilt = [s for run in runs(pattern.sources) for s in range(run.source, run.source_stop) for _ in range(run.times)]
    assert tuple(rebuilt) == pattern.sources
    assert runs(pattern.sources)[0].target == 0
    assert runs(pattern.sources)[-1].target_stop == len(pattern)


@given(patterns(), st.integers(40, 200), st.sampled_from(["utf-8", "cp1252", "ascii", None]), st.booleans())
def test_map_fits_the_width_and_few_lines(pattern, width, encoding, scaled):
    factors = [1 / (1 + n % 3) for n in range(len(pattern))] if scaled else []
    lines = terminal_map(pattern, factors=factors, width=width, encoding=encoding).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 40
    "\n".join(lines).encode(encoding or "ascii")


@given(patterns(), st.integers(40, 120))
def test_colour_adds_only_escape_codes(pattern, width):
    coloured = terminal_map(pattern, width=width, colour=True)
    assert ESCAPE.sub("", coloured) == terminal_map(pattern, width=width)
    assert "\x1b" in coloured


@given(patterns())
def test_bar_cells_match_the_pattern_when_each_column_is_a_layer(pattern):
    text = terminal_map(pattern, width=500, encoding="ascii").splitlines()
    uses = next(line for line in text if line.strip().startswith("uses")).split()[1]
    each = max(1, min(4, 32 // pattern.num_source_layers))
    counts = [pattern.sources.count(layer) for layer in range(pattern.num_source_layers)]
    assert uses == "".join(("+" if count > 9 else str(count)) * each for count in counts)


def test_dropped_layers_are_named():
    assert "\ndropped: 20-23\n" in terminal_map(LayerPattern((*range(20), *range(24, 32)), 32))


def test_one_layer_model_is_drawn():
    assert "      0 <-      0  ████\n" in terminal_map(LayerPattern((0,), 1))


def test_zeroed_repeats_are_labelled():
    factors = [0.0 if layer in LLAMA_PRO.repeats else 1.0 for layer in range(40)]
    assert " ~      4 <-      3  ...▒............................  x0\n" in terminal_map(LLAMA_PRO, factors=factors)
    assert ">4 ← 3 (×0)<" in svg_map(LLAMA_PRO, factors=factors, title="t")


def test_ten_thousand_layers_are_drawn_quickly_in_few_rows():
    scattered = LayerPattern(tuple(n * 7919 % 5000 for n in range(10_000)), 5000)
    start = time.process_time()
    assert len(terminal_map(scattered).splitlines()) <= 40
    assert len(svg_map(scattered, title="many")) < 200_000
    assert time.process_time() - start < 5


@settings(max_examples=30)
@given(patterns(), st.text(max_size=120))
def test_svg_is_well_formed_for_any_title(pattern, title):
    root = ET.fromstring(svg_map(pattern, title=title).encode())  # noqa: S314 - our own output
    assert root.tag == f"{SVG}svg"
    assert float(root.get("height")) <= 640
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "rect", "path", "text"}
    for rect in root.iter(f"{SVG}rect"):
        assert float(rect.get("height")) >= 0
        assert float(rect.get("y")) + float(rect.get("height")) <= float(root.get("height")) + 0.01


def test_svg_has_no_external_references():
    text = svg_map(SOLAR, title='<script>alert("x")</script> & more')
    assert "<script" not in text
    assert text.count("http") == 1
    assert not re.search(r"href|url\(|<style|<image", text)


def test_svg_shows_each_run_of_solar():
    texts = [element.text for element in ET.fromstring(svg_map(SOLAR, title="t")).iter(f"{SVG}text")]  # noqa: S314
    assert {"0-23 ← 0-23", "24-47 ← 8-31", "8-23 ×2", "seam", "repeat"} <= set(texts)


@pytest.mark.parametrize("depth", [1, 2, 48, 140, 10_000])
def test_identity_pattern_has_one_row(depth):
    text = terminal_map(LayerPattern(tuple(range(depth)), depth))
    assert sum(" <- " in line for line in text.splitlines()) == 1
    assert "~" not in text
