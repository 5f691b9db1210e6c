"""Terminal, picture, card and provenance name the same factor for each layer."""

import re
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from solar_upscale.pattern import parse_layers
from solar_upscale.plan.layer_map.picture import svg_map
from solar_upscale.plan.layer_map.runs import factor_text
from solar_upscale.plan.layer_map.terminal import terminal_map
from solar_upscale.report.card import model_card
from solar_upscale.report.provenance import provenance
from solar_upscale.request import UpscaleRequest
from solar_upscale.start.factors import layer_factors
from solar_upscale.start.init import parse_init
from tests.support.fuzz import fuzzed
from tests.support.plans import llama_pro_plan, make_plan

SVG = "{http://www.w3.org/2000/svg}"
FACTOR = re.compile(r"[x×](-?[\d.e+-]+)")
FACTORS = st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0, 2.0, -0.5])


@st.composite
def jobs(draw):
    depth = draw(st.integers(1, 90))
    layer = st.integers(0, depth - 1)
    slices = st.tuples(layer, st.integers(1, depth)).map(lambda pair: f"{pair[0]}:{min(depth, sum(pair))}")
    in_place = st.tuples(layer, st.integers(1, depth), st.integers(2, 3)).map(
        lambda each: f"[i for i in range({each[0]},{min(depth, each[0] + each[1])}) for _ in range({each[2]})]"
    )
    entries = draw(st.lists(slices | in_place | layer.map(str), min_size=1, max_size=8))
    some = st.lists(FACTORS, min_size=1, max_size=3).map(lambda factors: "scale=" + ",".join(map(repr, factors)))
    init = draw(st.sampled_from(["copy", "identity", "split"]) | some)
    one_each = st.lists(st.none() | FACTORS, min_size=len(entries), max_size=len(entries)).map(tuple)
    return depth, UpscaleRequest(tuple(entries), init, draw(st.none() | one_each))


def plan_of(depth, request):
    pattern = parse_layers(request.layers, depth)
    factors = layer_factors(pattern, request, parse_init(request.init))
    options = {"entries": request.layers, "init": request.init, "entry_scales": request.entry_scales}
    return make_plan(pattern.sources, depth, factors=factors, **options)


def layers_of(text):
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def spread(targets, sources, words):
    """A factor for each target layer of a run that names one factor, or one for each time a source layer stands."""
    factors = FACTOR.findall(words) or ["1"]
    assert len(factors) == 1 or len(targets) == len(factors) * len(sources)
    return {target: f"x{factors[at % len(factors)]}" for at, target in enumerate(targets)}


def of_terminal(plan):
    """What each line says, and how many layers have a factor where a line stands for several runs."""
    found, sums = {}, []
    # A bar has at most four columns for each of 90 layers, so at this width every note is whole.
    for line in terminal_map(plan.pattern, factors=plan.factors, width=500).splitlines():
        row = re.fullmatch(r"[ ~]*([\d-]+) <- +([\d-]+)  \S+ *(.*)", line)
        if row is not None and not re.search(r" at | on |seam", row[3]):
            found |= spread(layers_of(row[1]), layers_of(row[2]), re.sub(r"each \d+ times|each twice", "", row[3]))
        elif row is not None:
            counted = {word: int(count) for word, count in re.findall(r"(x\S+) on (\d+)", row[3])}
            counted |= {word: len(layers_of(layers)) for word, layers in re.findall(r"(x\S+) at ([\d-]+)", row[3])}
            sums.append((layers_of(row[1]), counted))
    return found, sums


def of_picture(plan, tag):
    found = {}
    for element in ET.fromstring(svg_map(plan.pattern, factors=plan.factors, title="t")).iter(f"{SVG}{tag}"):  # noqa: S314
        label = element.text if tag == "text" else element.findtext(f"{SVG}title")
        run = re.fullmatch(r"([\d-]+) ← ([\d-]+)(?:, each ×\d+)?( \(×.*\))?", label or "")
        if run is not None:
            found |= spread(layers_of(run[1]), layers_of(run[2]), run[3] or "")
    return found


def of_card(plan):
    found = {}
    line = re.compile(r"^\| ([\d-]+) \| ([\d-]+)(?:, each \d+ times)? \| \w+ \| (.*) \|$", re.MULTILINE)
    for row in line.findall(model_card(plan).decode()):
        found |= spread(layers_of(row[0]), layers_of(row[1]), row[2])
    return found


def check(plan):
    rows = provenance(plan, "0", {})["layers"]
    expected = {row["target"]: factor_text(row.get("factor", 1)) for row in rows}
    assert expected == {target: factor_text(factor) for target, factor in enumerate(plan.factors)}
    lines, sums = of_terminal(plan)
    for named in (lines, of_picture(plan, "rect"), of_picture(plan, "text"), of_card(plan)):
        assert named.items() <= expected.items()
    for targets, counted in sums:
        for word, count in counted.items():
            assert [expected[target] for target in targets].count(word) == count
    covered = set(lines) | {target for targets, _ in sums for target in targets}
    assert covered == set(expected)
    # The picture draws at most 240 pieces, the card has at most 40 rows; all of these patterns fit the first.
    if len(plan.factors) <= 240:
        assert of_picture(plan, "rect").keys() == expected.keys()
    if "more run" not in model_card(plan).decode():
        assert of_card(plan).keys() == expected.keys()


@fuzzed(150)
@given(jobs())
def test_terminal_picture_card_and_provenance_name_the_same_factors(job):
    check(plan_of(*job))


def test_factors_of_an_expanded_model_are_named_layer_by_layer():
    check(llama_pro_plan())


def test_run_whose_beginning_is_scaled_is_shown_in_two():
    factors = [0.25 if 52 <= target <= 58 else 1.0 for target in range(87)]
    plan = make_plan((*range(52), *range(45, 80)), 80, factors=factors)
    check(plan)
    assert "| 52-58 | 45-51 | 7 | x0.25 |\n| 59-86 | 52-79 | none | x1 |\n" in model_card(plan).decode()
    assert "52-58 ← 45-51 (×0.25)" in svg_map(plan.pattern, factors=factors, title="t")
