"""What a model ties to its depth: stacks of layers, config fields, residual writers, module lists of quantised weights.

Everything here works on names, shapes and config.json; no tensor data is read. Each model type is described by one
record (record.py) in a file of families/; registry.py looks it up by name. stacks.py finds the layers, type_facts.py
applies the record to a config, refusals.py refuses, and depth.py rewrites the config for a pattern.

An attribute (attribute.py) is what differs from layer to layer; encodings/ are the ways in which configs describe one.
shared_attributes.py and formulas.py are for several families, universal_attributes.py for any model type.
"""

from solar_upscale.architecture.depth import change_depth
from solar_upscale.architecture.stacks import choose_stack, find_stacks, name_splitter
from solar_upscale.architecture.type_facts import DepthField, depth_fields
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
