"""Depth upscaling of a model in memory, with the same rules and the same bits as for a checkpoint on disk.

``layers`` upscales a bare list of layers, ``model`` a whole transformers model; ``fresh`` builds the model's own class
at the new depth, to see what it changes. torch is imported only when a function is called; files are never touched.
"""

from solar_upscale.memory.layers import upscale_layers
from solar_upscale.memory.model import DepthUpscalingAlgorithm, upscale_model

__all__ = ["DepthUpscalingAlgorithm", "upscale_layers", "upscale_model"]
