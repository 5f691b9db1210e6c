"""What an architecture ties to its depth, as tables: stacks, config fields, residual writers, quantisation lists.

Everything here works on names, shapes and config.json; no tensor data is read.
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
