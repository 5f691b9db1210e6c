"""A small line chart as SVG, so that the benchmarks need no plotting library."""

import math
from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["Points", "line_chart", "line_svg"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 420, 64, 250, 40, 48
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#555555")

Points = Sequence[tuple[float, float]]


def line_chart(
    title: str, x_label: str, y_label: str, series: Mapping[str, Points], y_ticks: Sequence[float], *, log: bool = False
) -> str:
    """The chart's text. Values outside ``y_ticks`` are drawn at the edge."""
    xs = [x for points in series.values() for x, _ in points]
    place_x = _scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    bend = math.log if log else float
    height = _scale(bend(y_ticks[0]), bend(y_ticks[-1]), _HEIGHT - _BOTTOM, _TOP)

    def place_y(value: float) -> float:
        return height(bend(min(max(value, y_ticks[0]), y_ticks[-1])))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"',
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(16 {(_HEIGHT - _BOTTOM + _TOP) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>",
    ]
    for tick in y_ticks:
        y = place_y(tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in sorted(set(xs)) if len(set(xs)) <= 16 else sorted(set(xs))[:: math.ceil(len(set(xs)) / 12)]:
        parts.append(f'<text x="{place_x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    lines = [[(place_x(x), place_y(y)) for x, y in points] for points in series.values()]
    for number, (name, line) in enumerate(zip(series, lines, strict=True)):
        colour = _COLOURS[number % len(_COLOURS)]
        parts += line_svg(line, colour, lines[number + 1 :])
        y = _TOP + 12 + 20 * number
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 14}" y="{y - 9}" width="12" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 32}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def line_svg(line: Points, colour: str, later: Sequence[Points]) -> list[str]:
    """A line in pixels with a dot at each point, wider for each of the ``later`` lines that would cover it."""
    covers = sum(_coincide(line, other) for other in later)
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in line)
    return [
        f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{2 + 4 * covers}"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3 + 3 * covers}" fill="{colour}"/>' for x, y in line),
    ]


def _coincide(line: Points, other: Points) -> bool:
    """Whether two lines share a stretch: two or more points that are less than two pixels apart."""
    return sum(any(math.dist(point, near) < 2 for near in other) for point in line) >= 2


def _scale(low: float, high: float, start: float, stop: float):
    return lambda value: start + (value - low) / ((high - low) or 1) * (stop - start)
