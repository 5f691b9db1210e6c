"""Depth upscaling of a model that is in memory: the same tables and the same bits as the checkpoint on disk.

``layers`` is for a bare list of layers, ``model`` for a whole transformers model, ``fresh`` for what the model's own
code says of the new depth. torch is imported when a function is called, never before. Files have no part here.
"""

from solar_upscale.memory.layers import upscale_layers
from solar_upscale.memory.model import DepthUpscalingAlgorithm, upscale_model

__all__ = ["DepthUpscalingAlgorithm", "upscale_layers", "upscale_model"]
