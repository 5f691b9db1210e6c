"""The layer map as text: one row per run, each a bar across the depth of the source.

Together the bars form a dot plot: a straight staircase is the source's order, a step back is a repeat. Long patterns
share rows and deep sources share columns, so that the number of lines and their width are bounded.
"""

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from solar_upscale.pattern import LayerPattern
from solar_upscale.plan.layer_map.runs import Run, as_ranges, factor_text, factors_text, range_text, runs
from solar_upscale.text import counted

__all__ = ["terminal_map"]

MIN_WIDTH = 40
MAX_ROWS = 24
MAX_RANGES = 6

# Not used, first use, repeat, both in one column. The glyphs differ, so that the map reads without colour.
GLYPHS = ".█▒▓"
PLAIN_GLYPHS = ".#+*"
COLOURS = {"first": "36", "repeat": "33", "both": "33;1", "none": "2", "dropped": "31", "heading": "1"}
KINDS = ("none", "first", "repeat", "both")
MEANINGS = ("not in this row", "first use", "repeat", "both")


class _Row(NamedTuple):
    """Adjacent runs that share a line; one run, unless the pattern has too many."""

    runs: tuple[Run, ...]

    @property
    def targets(self) -> range:
        return range(self.runs[0].target, self.runs[-1].target_stop)

    @property
    def sources(self) -> range:
        return range(min(run.source for run in self.runs), max(run.source_stop for run in self.runs))


def terminal_map(
    pattern: LayerPattern,
    *,
    factors: Sequence[float] = (),
    width: int = 80,
    colour: bool = False,
    encoding: str | None = "utf-8",
) -> str:
    """The map as lines of at most ``width`` columns (at least 40), at most 40 lines whatever the depth.

    ``factors`` has one factor per target layer, or is empty where all are 1. If ``encoding`` lacks the block glyphs,
    the map is plain ASCII.
    """
    width = max(width, MIN_WIDTH)
    glyphs = GLYPHS if _can_encode(GLYPHS, encoding) else PLAIN_GLYPHS
    copies = pattern.occurrences
    seam_set = frozenset(pattern.seams)
    rows = _rows(runs(pattern.sources, factors))
    targets = [range_text(row.targets) for row in rows]
    sources = [range_text(row.sources) for row in rows]
    notes = [_note(row, factors, seam_set) for row in rows]
    note_width = max(len(", ".join(words)) for words in notes)
    target_width = max(len("target"), *map(len, targets))
    source_width = max(len("source"), *map(len, sources))
    left = target_width + source_width + 9
    columns = _columns(
        pattern.num_source_layers, width - left, note_width, scaled=any(factor != 1 for factor in factors)
    )
    span = max(columns, len(f"0 {pattern.num_source_layers - 1}"))

    lines = [*_summary(pattern, copies, seam_set, width), ""]
    lines.append(_paint(_axis(pattern.num_source_layers, columns, target_width, source_width), "heading", colour))
    drawn: set[int] = set()
    for row, target, source, note in zip(rows, targets, sources, notes, strict=True):
        mark = "~" if row.targets.start in seam_set else " "
        kinds = _kinds(row, pattern, copies, columns)
        drawn.update(kinds)
        bar = _painted((glyphs[kind] for kind in kinds), (KINDS[kind] for kind in kinds), colour)
        words = _fitting(note, width - left - span - 2)
        tail = f"{' ' * (span - columns + 2)}{words}" if words else ""
        lines.append(f" {mark} {target:>{target_width}} <- {source:>{source_width}}  {bar}{tail}")
    lines.append(f"{'uses':>{left - 2}}  {_uses(pattern, columns, colour)}")
    legend = [(f"{glyphs[kind]} {MEANINGS[kind]}", KINDS[kind]) for kind in (1, 2, 3, 0) if kind in drawn]
    if seam_set:
        legend.append(("~ seam", ""))
    if columns < pattern.num_source_layers:
        legend.append((f"a column is {pattern.num_source_layers / columns:.3g} source layers", ""))
    return "\n".join([*lines, "", *_legend(legend, width, colour)]) + "\n"


def _rows(all_runs: tuple[Run, ...]) -> list[_Row]:
    size = -(-len(all_runs) // MAX_ROWS)
    return [_Row(all_runs[start : start + size]) for start in range(0, len(all_runs), size)]


def _columns(depth: int, room: int, note_width: int, *, scaled: bool) -> int:
    """How many columns the bar takes: one to four per layer, fewer than one only where they do not fit.

    Factors are never cut, so with them the notes come first.
    """
    per_layer = max(1, min(4, 32 // depth))
    if scaled:
        room = max(8, room - note_width - 2)
        note_width = 0
    if depth * per_layer <= room:
        return depth * per_layer
    if depth <= room:
        return depth
    return max(8, min(room - note_width - 2, room)) if room > note_width + 24 else max(8, room)


def _axis(depth: int, columns: int, target_width: int, source_width: int) -> str:
    last = str(depth - 1) if depth > 1 else ""
    ends = f"0{last:>{max(columns - 1, len(last) + 1)}}"
    return f"   {'target':>{target_width}}    {'source':>{source_width}}  {ends}".rstrip()


def _cells(source: int, depth: int, columns: int) -> range:
    """The columns that show a source layer."""
    start = source * columns // depth
    return range(start, max(start + 1, (source + 1) * columns // depth))


def _kinds(row: _Row, pattern: LayerPattern, copies: Sequence[int], columns: int) -> list[int]:
    """What each column of a row's bar shows, as an index of KINDS."""
    kinds = [0] * columns
    for target in row.targets:
        for cell in _cells(pattern.sources[target], pattern.num_source_layers, columns):
            kinds[cell] |= 2 if copies[target] else 1
    return kinds


def _uses(pattern: LayerPattern, columns: int, colour: bool) -> str:
    """How often each source layer is used, as a digit per column; 0 if all of it is dropped, + beyond nine."""
    counts = Counter(pattern.sources)
    most = [0] * columns
    for source, count in counts.items():
        for cell in _cells(source, pattern.num_source_layers, columns):
            most[cell] = max(most[cell], count)
    kinds = ("dropped" if not count else "repeat" if count > 1 else "first" for count in most)
    return _painted(("+" if count > 9 else str(count) for count in most), kinds, colour)


def _summary(pattern: LayerPattern, copies: Sequence[int], seam_set: frozenset[int], width: int) -> list[str]:
    used = frozenset(pattern.sources)
    dropped = [layer for layer in range(pattern.num_source_layers) if layer not in used]
    repeats = sum(1 for copy in copies if copy)
    words = [f"{counted(len(copies), 'layer')} from {pattern.num_source_layers}: {counted(len(used), 'first use')}"]
    words += [counted(repeats, "repeat"), f"{len(dropped)} dropped", counted(len(seam_set), "seam")]
    lines = textwrap.wrap(", ".join(words), width, subsequent_indent="  ")
    if dropped:
        lines += textwrap.wrap(
            f"dropped: {_some_ranges(dropped)}", width, subsequent_indent="  ", break_on_hyphens=False
        )
    return lines


def _some_ranges(layers: Sequence[int]) -> str:
    ranges = as_ranges(layers)
    shown = [range_text(each) for each in ranges[:MAX_RANGES]]
    rest = sum(map(len, ranges[MAX_RANGES:]))
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _note(row: _Row, factors: Sequence[float], seam_set: frozenset[int]) -> list[str]:
    """What is said beside a row's bar, the factors first."""
    if len(row.runs) > 1:
        inner = sum(1 for target in row.targets if target in seam_set)
        return [*(_factors_note(row.targets, factors) if factors else ()), counted(inner, "seam")]
    (run,) = row.runs
    each = "" if run.times == 1 else "each twice" if run.times == 2 else f"each {run.times} times"
    return [word for word in (factors_text(run.factors), each) if word]


def _factors_note(targets: range, factors: Sequence[float]) -> list[str]:
    """The factors of a row of several runs, and which layers have them."""
    layers_by_factor: dict[float, list[int]] = {}
    for target in targets:
        layers_by_factor.setdefault(factors[target], []).append(target)
    if len(layers_by_factor) == 1:
        return [text for text in (factors_text(tuple(layers_by_factor)),) if text]
    words = []
    for factor, layers in layers_by_factor.items():
        if factor != 1:
            contiguous = layers[-1] - layers[0] + 1 == len(layers)
            scope = f"at {range_text(range(layers[0], layers[-1] + 1))}" if contiguous else f"on {len(layers)}"
            words.append(f"{factor_text(factor)} {scope}")
    return [*words[:2], *(["..."] if len(words) > 2 else [])]


def _fitting(words: Sequence[str], room: int) -> str:
    """The words that fit, whole; "..." for the rest where it fits too."""
    for count in range(len(words), 0, -1):
        text = ", ".join((*words[:count], *(["..."] if count < len(words) else [])))
        if len(text) <= room:
            return text
    return "..." if words and room >= 3 else ""


def _legend(items: Sequence[tuple[str, str]], width: int, colour: bool) -> list[str]:
    """The items separated by three spaces, wrapped only between items."""
    lines, used = [""], 0
    for text, kind in items:
        if used and used + 3 + len(text) > width:
            lines.append("")
            used = 0
        lines[-1] += ("   " if used else "") + (_paint(text, kind, colour) if kind else text)
        used += len(text) + (3 if used else 0)
    return lines


def _painted(glyphs: Iterable[str], kinds: Iterable[str], colour: bool) -> str:
    """Glyphs as one string; adjacent ones of one kind share their colour codes."""
    stretches = groupby(zip(kinds, glyphs, strict=True), key=lambda pair: pair[0])
    return "".join(_paint("".join(glyph for _, glyph in pairs), kind, colour) for kind, pairs in stretches)


def _paint(text: str, kind: str, colour: bool) -> str:
    return f"\x1b[{COLOURS[kind]}m{text}\x1b[0m" if colour else text


def _can_encode(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
