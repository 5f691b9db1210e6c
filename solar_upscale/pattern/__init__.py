"""The layer index language: which source layer each target layer comes from.

``entries`` reads what the user wrote, ``expression`` evaluates one text without executing it, ``guess`` looks for what
was meant, ``layer_pattern`` is the resolved value. What becomes of a repeated layer's tensors is not decided here.
"""

from solar_upscale.pattern.entries import Layers, parse_layers, resolve_entries, resolve_layer_indices
from solar_upscale.pattern.layer_pattern import LayerPattern

__all__ = ["LayerPattern", "Layers", "parse_layers", "resolve_entries", "resolve_layer_indices"]
