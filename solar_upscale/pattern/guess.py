"""Suggests what the user may have meant by an entry that is refused. The caller drops invalid suggestions."""

import ast
import re
from collections.abc import Iterator, Sequence

from solar_upscale.errors import PatternError
from solar_upscale.pattern.syntax import MAX_CHARS, parse_parts

__all__ = ["dash_as_slice", "entry_as_text", "forwards", "layer_range", "separate_entries", "within_depth"]

_DASHED = re.compile(r"\s*([0-9]{1,6})\s*(?:-|–|—|~|\.\.\.?|…|to)\s*([0-9]{1,6})\s*")
_LISTED_PAIR = re.compile(r"\s*\[\s*([0-9]{1,6})\s*,\s*([0-9]{1,6})\s*\]\s*")
_ENTRY = re.compile(r"range\([^()]*\)|[-0-9n:]+", re.ASCII)
_PAIR = 2
_SIXTY = 60


def dash_as_slice(text: str, depth: int) -> str | None:
    """The slices that ``0-23``, ``0..23`` or ``0 to 23`` were meant to be.

    0-23 is also valid arithmetic for layer -23, but nobody writes a layer that way.
    """
    if len(text) > MAX_CHARS:
        return None
    matches = [_DASHED.fullmatch(part) for part in text.split(",")]
    words = [f"{match[1]}:{_stop(int(match[1]), int(match[2]), depth)}" for match in matches if match]
    return ", ".join(words) if len(words) == len(matches) else None


def _stop(start: int, last: int, depth: int) -> int:
    """The stop of ``start-last``: people cut even numbers of layers, so 0-24 excludes its end, and 0-23 includes it."""
    includes_end = last == depth - 1 or (last != depth and (last - start) % 2 == 1)
    return last + includes_end


def separate_entries(text: str) -> list[str] | None:
    """The entries that stand in one text with nothing but space between them; None if it is anything else."""
    if len(text) > MAX_CHARS:
        return None
    words = _ENTRY.findall(text)
    return words if len(words) >= _PAIR and " ".join(words).split() == text.split() else None


def layer_range(entry: str | int) -> str | None:
    """The slice that mergekit's layer_range of two layers, ``[0,24]``, stands for; as an entry it is a list of two."""
    match = _LISTED_PAIR.fullmatch(entry) if isinstance(entry, str) and len(entry) <= MAX_CHARS else None
    return f"{int(match[1])}:{int(match[2])}" if match and int(match[2]) - int(match[1]) >= _PAIR else None


def entry_as_text(entry: object) -> str | None:
    """The text for a mergekit pair ``[0, 24]`` or a Python ``range`` that was passed as an entry."""
    if isinstance(entry, range) and abs(entry.start) < 10**6 and abs(entry.stop) < 10**6:
        return repr(entry).replace(" ", "")
    if isinstance(entry, Sequence) and len(entry) == _PAIR and all(type(bound) is int for bound in entry):
        start, stop = entry
        return f"{start}:{stop}" if 0 <= start < stop < 10**6 else None
    return None


def within_depth(entry: str | int, depth: int) -> Iterator[str]:
    """``entry`` with each range cut to ``depth`` layers, the likeliest first."""
    if meant := layer_range(entry):
        yield meant
    if isinstance(entry, int):
        # YAML 1.1 reads 8:32 without quotes in base sixty.
        start, stop = divmod(entry, _SIXTY)
        if 0 < start < stop <= depth:
            yield f"{start}:{stop}"
        return
    ranges = [(start, stop) for start, stop in _bounds(entry) if stop[0].isdigit() and int(stop[0], 0) > depth]
    counted_from_1 = [start for start, stop in ranges if start[0] == "1" and stop[0] == str(depth + 1)]
    stops = [(span, str(depth)) for _, (_, span) in ranges]
    if counted_from_1:
        yield _edited(entry, [*stops, *((span, "0") for _, span in counted_from_1)])
    if stops:
        yield _edited(entry, stops)


def forwards(text: str) -> Iterator[str]:
    """``text`` with the bounds of each backward range swapped, and ``range(0-24)`` with a comma."""
    swapped = []
    for (start, start_span), (stop, stop_span) in _bounds(text):
        if start.isdigit() and stop.isdigit() and int(start, 0) > int(stop, 0):
            swapped += [(start_span, stop), (stop_span, start)]
    if swapped:
        yield _edited(text, swapped)
    with_comma = re.sub(r"range\(\s*([0-9]+)\s*(?:-|\.\.\.?|:)\s*([0-9]+)\s*\)", r"range(\1,\2)", text)
    if with_comma != text:
        yield with_comma


_Span = tuple[int, int]


def _bounds(text: str) -> list[tuple[tuple[str, _Span], tuple[str, _Span]]]:
    """Start and stop, each with its span in ``text``, of every range and slice that has both."""
    if "\n" in text or "\r" in text:
        return []
    try:
        parts = parse_parts(text, "")
    except PatternError:
        return []
    found = []
    for node in (node for part in parts for node in ast.walk(part)):
        pair: tuple[ast.expr | None, ast.expr | None] = (None, None)
        if isinstance(node, ast.Slice):
            pair = (node.lower, node.upper)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
            pair = (node.args[0], node.args[1]) if len(node.args) >= _PAIR else (None, None)
        if pair[0] is not None and pair[1] is not None:
            found.append((_word(text, pair[0]), _word(text, pair[1])))
    return found


def _word(text: str, node: ast.expr) -> tuple[str, _Span]:
    assert node.end_col_offset is not None
    span = (node.col_offset - 2, node.end_col_offset - 2)
    return text[slice(*span)], span


def _edited(text: str, edits: Sequence[tuple[_Span, str]]) -> str:
    """``text`` with each span replaced, the last first, so that the earlier spans stay valid."""
    for (start, stop), word in sorted(edits, reverse=True):
        text = text[:start] + word + text[stop:]
    return text
