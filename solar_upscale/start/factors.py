"""The factor of each target layer, and the source tensors that it scales."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from solar_upscale.architecture import ResidualRule, Stack
from solar_upscale.errors import PatternError
from solar_upscale.pattern import LayerPattern, resolve_entries
from solar_upscale.request import UpscaleRequest
from solar_upscale.source.header import TensorInfo
from solar_upscale.start.init import Init, check_factor
from solar_upscale.start.residual import residual_writers

__all__ = ["factor_rules", "is_identity", "layer_factors"]


def layer_factors(pattern: LayerPattern, request: UpscaleRequest, start: Init) -> tuple[float, ...]:
    """The factor on each target layer's contribution to the residual stream; an entry's scale overrides ``start``.

    Raises:
        PatternError: the numbers of scales and entries differ, or a scale is not a number that float32 can hold.
    """
    scales: Sequence[float | None] = (None,) * len(pattern)
    entry_scales = request.entry_scales
    if entry_scales is not None:
        entries = resolve_entries(request.layers, pattern.num_source_layers)
        if len(entries) != len(entry_scales):
            raise PatternError(f"layers: {len(entries)} entries have {len(entry_scales)} scales; expected one for each")
        for number, scale in enumerate(entry_scales):
            if scale is not None:
                _check_scale(scale, f"layers: entry {number}: scale")
        scales = [scale for entry, scale in zip(entries, entry_scales, strict=True) for _ in entry]
    counts = Counter(pattern.sources)
    return tuple(
        start.factor(occurrence, counts[source]) if scale is None else scale
        for source, occurrence, scale in zip(pattern.sources, pattern.occurrences, scales, strict=True)
    )


def is_identity(pattern: LayerPattern, factors: Sequence[float]) -> bool:
    """Whether the first occurrences are all source layers in order, unscaled, and every repeat adds nothing.

    ``factors`` is empty where all are 1.
    """
    repeats = zip(factors or (1.0,) * len(pattern), pattern.occurrences, strict=True)
    return pattern.keeps_source_order and all(factor == (not occurrence) for factor, occurrence in repeats)


def _check_scale(scale: float, where: str) -> None:
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise PatternError(f"{where}: expected a number, got {type(scale).__name__}")
    check_factor(scale, where)


def factor_rules(
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorInfo],
    stack: Stack,
    pattern: LayerPattern,
    factors: Sequence[float],
) -> dict[str, ResidualRule]:
    """The rule for each tensor that a factor scales, by source tensor name; empty if all factors are 1.

    Raises:
        UnsupportedError: where the layers write into the residual stream is not known, or cannot be scaled.
    """
    layers = {source for source, factor in zip(pattern.sources, factors, strict=True) if factor != 1}
    if not layers:
        return {}
    found = residual_writers(config, tensors, stack, layers)
    return {name: rule for rules in found.values() for name, rule in rules.items()}
