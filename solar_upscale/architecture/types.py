"""The values that the architecture tables answer with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["DepthChange", "FieldChange", "GatherRule", "ResidualRule", "Stack"]


class Stack(NamedTuple):
    """One list of layers in a model.

    ``prefixes`` are what stands before a layer's number in tensor names ("model.layers"); usually one, several where
    modules share one numbering. ``config_path`` leads to the part of config.json that owns the stack: () or
    ("text_config",).
    """

    name: str
    prefixes: tuple[str, ...]
    num_layers: int
    config_path: tuple[str, ...] = ()
    role: str = "decoder"


class FieldChange(NamedTuple):
    """One field of a JSON file that the new depth changes: a dotted path, both values (None: absent), and why."""

    path: str
    before: Any
    after: Any
    reason: str


class GatherRule(NamedTuple):
    """A tensor outside the layers with one equal slice a layer along ``axis``: slice j becomes slice ``sources[j]``."""

    axis: int
    source_slices: int
    sources: tuple[int, ...]


class ResidualRule(NamedTuple):
    """How a factor on a layer's contribution is put on one tensor: w becomes ``(w + offset) * factor - offset``.

    ``only_zero`` marks a tensor through which no other factor can be expressed: a scalar on the whole stream, which a
    zero sends to 1 (offset -1), or packed elements whose zero bytes are zeros.
    """

    offset: float = 0.0
    only_zero: bool = False


@dataclass(frozen=True, slots=True)
class DepthChange:
    """What a pattern does to a model, bytes apart.

    ``numbering`` maps each tensor-name prefix to the source index of every target index, layers that stand after the
    stack (MTP heads) included; a tensor whose index a numbering leaves out is dropped. ``gathers`` and ``dropped`` are
    by source tensor name; ``files`` holds small files that name layers by number, rewritten.
    """

    config: Mapping[str, Any]
    changes: tuple[FieldChange, ...]
    numbering: Mapping[str, tuple[int, ...]]
    gathers: Mapping[str, GatherRule] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    assumed_uniform: bool = False
