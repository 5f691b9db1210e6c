"""What an architecture ties to its depth, as tables: stacks, config fields, residual writers, quantisation lists.

Everything here works on names, shapes and config.json; no tensor data is read.
"""

from solar_upscale.architecture.types import DepthChange, FieldChange, GatherRule, ResidualRule, Stack

__all__ = ["DepthChange", "FieldChange", "GatherRule", "ResidualRule", "Stack"]
