"""Charts show every line, also where two coincide."""

import re
from itertools import combinations

from benchmarks.chart import line_chart
from tests.support.processes import ROOT

PATH = re.compile(r'<path d="M([\d.]+ [\d.]+(?:L[\d.]+ [\d.]+)+)" fill="none" stroke="(#\w+)" stroke-width="(\d+)"/>')


def test_line_below_another_is_wider_where_they_coincide() -> None:
    same = [(1.0, 2.0), (2.0, 3.0), (3.0, 2.5)]
    chart = line_chart("", "x", "y", {"a": same, "b": same, "c": same, "d": [(1, 4), (2, 4.5), (3, 4)]}, [1, 3, 5])
    assert [int(width) for _, _, width in PATH.findall(chart)] == [10, 6, 2, 2]


def test_lines_that_only_cross_have_the_same_width() -> None:
    chart = line_chart("", "x", "y", {"up": [(1, 1), (2, 2), (3, 3)], "down": [(1, 3), (2, 2), (3, 1)]}, [1, 2, 3])
    assert [int(width) for _, _, width in PATH.findall(chart)] == [2, 2]


def test_chart_of_the_benchmarks_hides_no_line() -> None:
    lines = PATH.findall((ROOT / "docs" / "benchmarks.svg").read_text("utf-8"))
    assert len(lines) == 4
    for (under, _, wide), (over, _, narrow) in combinations(lines, 2):
        apart = [abs(a - b) for a, b in zip(_numbers(under), _numbers(over), strict=True)]
        assert max(apart) > 2 or int(wide) > int(narrow)


def _numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"[\d.]+", path)]
