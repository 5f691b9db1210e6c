"""What a model ties to its depth: stacks of layers, config fields, residual writers, module lists of quantised weights.

Everything here works on names, shapes and config.json; no tensor data is read. What is known of a model type is one
record (record.py) in a file of families/; registry.py finds it by name. stacks.py finds the layers, known.py puts the
record beside a config, refusals.py refuses, and depth.py expresses a pattern. encodings/ are the ways in which configs
say something of each layer, attributes.py and formulas.py what several types say by them.
"""

from solar_upscale.architecture.depth import change_depth
from solar_upscale.architecture.known import DepthField, depth_fields
from solar_upscale.architecture.stacks import choose_stack, find_stacks, name_splitter
from solar_upscale.architecture.types import DepthChange, FieldChange, GatherRule, ResidualRule, Stack

__all__ = [
    "DepthChange",
    "DepthField",
    "FieldChange",
    "GatherRule",
    "ResidualRule",
    "Stack",
    "change_depth",
    "choose_stack",
    "depth_fields",
    "find_stacks",
    "name_splitter",
]
