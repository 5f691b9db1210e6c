"""Warnings about patterns and starts that made a measured model worse."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from solar_upscale.pattern import LayerPattern
from solar_upscale.start.factors import is_identity
from solar_upscale.start.init import Init

__all__ = ["pattern_warnings"]

# In a shallower model the first two layers and the last are half or more; figures from 30 layers do not apply to it.
_MIN_LAYERS = 6
_WHERE = "(SmolLM2-135M, docs/starts.md)"


def pattern_warnings(pattern: LayerPattern, start: Init, factors: Sequence[float]) -> Iterable[str]:
    """Warnings with the measured figure and its source (docs/starts.md)."""
    rows = list(zip(pattern.sources, pattern.occurrences, factors, strict=True))
    if pattern.num_source_layers >= _MIN_LAYERS:
        yield from _hurtful(pattern, rows)
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


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))
