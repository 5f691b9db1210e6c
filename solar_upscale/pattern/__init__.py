"""The layer index language: which source layer each target layer comes from.

``entries`` resolves what the user wrote, ``functions`` evaluates one text without executing it, ``guess`` suggests
corrections, and ``layer_pattern`` is the resolved value. How repeated layers are initialised is decided elsewhere.
"""

from solar_upscale.pattern.entries import (
    entry_warnings,
    parse_layers,
    repeat_every,
    resolve_entries,
    resolve_layer_indices,
)
from solar_upscale.pattern.layer_pattern import LayerPattern

__all__ = [
    "LayerPattern",
    "entry_warnings",
    "parse_layers",
    "repeat_every",
    "resolve_entries",
    "resolve_layer_indices",
]
