"""Warnings about patterns and starts that made a measured model worse."""

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

from solar_upscale.pattern import LayerPattern
from solar_upscale.start.factors import is_identity
from solar_upscale.start.init import Init
from solar_upscale.start.measured import REVERSALS, SOURCE, WINDOWS, Window, nearest_window

__all__ = ["pattern_warnings"]

# In a shallower model the first two layers and the last are half or more; figures from 30 layers do not apply to it.
_MIN_LAYERS = 6
_WHERE = f"({SOURCE})"
# Ratios from which a repeated window is warned about, and from which the warning is a severe one.
_WORTH_SAYING, _SEVERE = 1.3, 2.0
# Descending steps in a row: two neighbours that are exchanged make one, and cost little.
_MIN_DESCENT = 3


def pattern_warnings(pattern: LayerPattern, start: Init, factors: Sequence[float]) -> Iterable[str]:
    """Warnings with the measured figure and its source (docs/starts.md)."""
    rows = list(zip(pattern.sources, pattern.occurrences, factors, strict=True))
    if pattern.num_source_layers >= _MIN_LAYERS:
        yield from _hurtful(pattern, rows)
        yield from _windows(pattern, factors)
        yield from _reversed(pattern)
    if start.kind == "identity" and not is_identity(pattern, factors):
        order, scale = "the originals are not all present in source order", "an entry has a scale of its own"
        reason = scale if pattern.keeps_source_order else order
        yield f"not an identity: {reason}, so the model computes something else"


def _hurtful(pattern: LayerPattern, rows: Sequence[tuple[int, int, float]]) -> Iterable[str]:
    """Warnings about ``rows`` of (source layer, occurrence, factor) in target order."""
    sensitive = (0, 1, pattern.num_source_layers - 1)
    if lost := [layer for layer in sensitive if layer in pattern.dropped]:
        yield (
            f"drops source layer {_listed(lost)}: the first two layers and the last matter most; "
            f"perplexity rose by a factor of 5 to 1,700 when one was dropped {_WHERE}"
        )
    elif lost := [layer for layer in (2, pattern.num_source_layers - 2) if layer in pattern.dropped]:
        yield (
            f"drops source layer {_listed(lost)}: perplexity rose by a factor of 2.1 to 2.6 when the third layer or "
            f"the last but one was dropped {_WHERE}"
        )
    first = {source: factor for source, occurrence, factor in rows if not occurrence}
    strong = {source for source, occurrence, factor in rows if occurrence and abs(factor) > 0.25}
    if hurt := [layer for layer in sensitive if layer in strong and first[layer] == 1]:
        yield (
            f"repeats source layer {_listed(hurt)}: perplexity rose by a factor of 2 to 10 when one of the first two "
            f"layers or the last was repeated unscaled, by 1.01 to 1.15 with --init scale=1,0.25 {_WHERE}"
        )
    if 0 in strong and first[0] != 1:
        yield f"divides source layer 0: perplexity rose by a factor of 49 when the first layer was split {_WHERE}"
    in_place = sum(one[0] == other[0] and one[2] == other[2] == 1 for one, other in pairwise(rows))
    if in_place > 1:  # a single one costs little, unless it is one of those above
        yield (
            f"{in_place} layers follow a plain copy of themselves: with 2 to 28 such layers of 30, perplexity rose by "
            f"a factor of 1.2 to 2.8, by 1.03 to 1.2 with --init split, not at all with --init identity {_WHERE}"
        )


def _windows(pattern: LayerPattern, factors: Sequence[float]) -> Iterable[str]:
    """The worst repeated window, by the measured one nearest to it."""
    found: list[tuple[float, str]] = []
    for start, stop, kind in _repeated_windows(pattern, factors):
        nearest = nearest_window(WINDOWS[kind], start, stop, pattern.num_source_layers)
        if nearest is not None and nearest.ratio >= _WORTH_SAYING:
            found.append((nearest.ratio, _window_text(range(start, stop), kind, nearest)))
    if found:
        more = f"; the worst of {len(found)} such windows" if len(found) > 1 else ""
        yield max(found)[1] + more


def _repeated_windows(pattern: LayerPattern, factors: Sequence[float]) -> Iterable[tuple[int, int, str]]:
    """Source layers [start, stop) that two stretches without a seam share, and how both of their passes start.

    A window whose second pass is weakened and whose first is not costs little. A single layer is no window.
    """
    edges = (0, *pattern.seams, len(pattern))
    stretches = [(first, pattern.sources[first], stop - first) for first, stop in pairwise(edges)]
    for (target, source, length), (next_target, next_source, next_length) in pairwise(stretches):
        start, stop = max(source, next_source), min(source + length, next_source + next_length)
        if stop - start < 2:
            continue
        first = factors[target + start - source : target + stop - source]
        second = factors[next_target + start - next_source : next_target + stop - next_source]
        if all(factor == 1 for factor in first) and min(map(abs, second)) > 0.5:
            yield start, stop, "copy"
        elif all(0 < abs(factor) <= 0.5 for factor in (*first, *second)):
            yield start, stop, "split"


def _window_text(layers: range, kind: str, nearest: Window) -> str:
    rose = f"perplexity rose by a factor of {nearest.ratio:g} with the nearest window measured, {nearest.text} of 30"
    window = f"layers {layers.start} to {layers.stop - 1}"
    if kind == "split":
        return f"splits a repeated window, {window}: {rose}, since the first pass is weakened too {_WHERE}"
    if nearest.ratio >= _SEVERE:
        gently = "by 1.19 to 1.25 with --init scale=1,0.25"
        return f"repeats {window} as they are, which does severe damage: {rose}; {gently} {_WHERE}"
    gently = "by 1.05 to 1.06 with --init scale=1,0.25"
    return f"repeats {window} as they are, which needs further training: {rose}; {gently} {_WHERE}"


def _reversed(pattern: LayerPattern) -> Iterable[str]:
    """Layers that stand in descending order."""
    steps = [after == before - 1 for before, after in pairwise(pattern.sources)]
    longest = max((len(list(same)) for down, same in groupby(steps) if down), default=0)
    if longest >= _MIN_DESCENT:
        low, high = REVERSALS
        yield (
            f"reverses {longest + 1} layers: perplexity rose by a factor of {low:,.0f} to {high:,.0f} when 14 of 30 "
            f"layers in the middle or all of them stood in reverse {_WHERE}"
        )


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))
