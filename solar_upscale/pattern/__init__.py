"""The layer index language: which source layer each target layer comes from.

``entries`` reads what the user wrote, ``functions`` evaluates one text without executing it, ``guess`` looks for what
was meant, ``layer_pattern`` is the resolved value. What becomes of a repeated layer's tensors is not decided here.
"""

from solar_upscale.pattern.entries import parse_layers, resolve_entries, resolve_layer_indices
from solar_upscale.pattern.layer_pattern import LayerPattern

__all__ = ["LayerPattern", "parse_layers", "resolve_entries", "resolve_layer_indices"]
