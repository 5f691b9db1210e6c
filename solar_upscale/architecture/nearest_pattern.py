"""The nearest pattern that works, which a refusal suggests in place of the refused one."""

from collections.abc import Callable, Sequence
from itertools import product

__all__ = ["nearest_pattern", "runs"]

_REACH = 8


def nearest_pattern(
    sources: Sequence[int], num_layers: int, works: Callable[[Sequence[int]], bool]
) -> tuple[int, ...] | None:
    """The nearest pattern that works, found by shifting the ends of the runs at each seam a little; None if none does.

    Only patterns of a few ascending runs are tried; for others a user would not recognise the suggestion.
    """
    segments = _segments(sources)
    if len(segments) > 4:
        return None
    if len(segments) == 1:
        shapes = [[(start, stop)] for start in range(num_layers) for stop in range(num_layers, start, -1)]
        shapes.sort(key=lambda shape: _distance(shape, segments))
    else:
        moves = sorted(range(-_REACH, _REACH + 1), key=abs)
        shapes = []
        seams = len(segments) - 1
        for shift in product(moves, repeat=min(2 * seams, 2)):
            stop_shift, start_shift = (shift[0], shift[1])
            shape = [
                (start + (start_shift if i else 0), stop + (stop_shift if i < seams else 0))
                for i, (start, stop) in enumerate(segments)
            ]
            if all(0 <= start < stop <= num_layers for start, stop in shape):
                shapes.append(shape)
        shapes.sort(key=lambda shape: _distance(shape, segments))
    for shape in shapes[:400]:
        candidate = tuple(i for start, stop in shape for i in range(start, stop))
        if candidate != tuple(sources) and works(candidate):
            return candidate
    return None


def runs(sources: Sequence[int]) -> str:
    """The pattern as command-line entries: its ascending runs."""
    return " ".join(f'"range({start},{stop})"' for start, stop in _segments(sources))


def _segments(sources: Sequence[int]) -> list[tuple[int, int]]:
    segments: list[list[int]] = []
    for source in sources:
        if segments and segments[-1][1] == source:
            segments[-1][1] = source + 1
        else:
            segments.append([source, source + 1])
    return [(start, stop) for start, stop in segments]


def _distance(shape: Sequence[tuple[int, int]], segments: Sequence[tuple[int, int]]) -> int:
    return sum(abs(a - c) + abs(b - d) for (a, b), (c, d) in zip(shape, segments, strict=True))
