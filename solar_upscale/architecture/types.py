"""The values that this package returns: stacks, config changes and rules for tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["DepthChange", "FieldChange", "GatherRule", "ResidualRule", "Stack"]


class Stack(NamedTuple):
    """One list of layers in a model.

    ``prefixes`` come before the layer index in tensor names ("model.layers"); usually one, several if modules share one
    numbering. ``config_path`` is the path of the section of config.json that describes the stack: () or
    ("text_config",).
    """

    name: str
    prefixes: tuple[str, ...]
    num_layers: int
    config_path: tuple[str, ...] = ()
    role: str = "decoder"


class FieldChange(NamedTuple):
    """A changed field of a JSON file: dotted path, both values (None: absent), and the reason."""

    path: str
    before: Any
    after: Any
    reason: str


class GatherRule(NamedTuple):
    """A tensor outside the layers with one slice per layer along ``axis``: target slice j is slice ``sources[j]``."""

    axis: int
    source_slices: int
    sources: tuple[int, ...]


class ResidualRule(NamedTuple):
    """How one tensor is scaled by the factor on its layer's contribution: w becomes ``(w + offset) * factor - offset``.

    ``only_zero`` marks a tensor that can express no factor but 0: a scalar on the whole stream, which becomes 1 (offset
    -1), or packed elements whose zero bytes mean zero.
    """

    offset: float = 0.0
    only_zero: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class DepthChange:
    """What a pattern changes in a model, except tensor bytes.

    ``numbering`` maps each tensor-name prefix to the source index of every target index, including layers after the
    stack (MTP heads); tensors of other indices are dropped. ``gathers`` and ``dropped`` are keyed by source tensor
    name; ``files`` are the rewritten small files that refer to layers by number.
    """

    config: Mapping[str, Any]
    changes: tuple[FieldChange, ...]
    numbering: Mapping[str, tuple[int, ...]]
    gathers: Mapping[str, GatherRule] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    assumed_uniform: bool = False

    def __repr__(self) -> str:
        changed = ", ".join(change.path for change in self.changes)
        return f"<DepthChange of {changed or 'no field'}>"
