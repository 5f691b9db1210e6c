"""The encodings that any model type may use: a list, a dict keyed by layer, and what the model's code computes."""

# ruff: noqa: ARG002 (an encoding implements its protocol, whether or not it uses every argument)

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solar_upscale.architecture.attribute import OneField, Updates, Vector, View

__all__ = ["Formula", "Keyed", "Listed"]


@dataclass(frozen=True, slots=True)
class Listed(OneField):
    """A list with one entry per layer; where allowed, a scalar that applies to all layers.

    Entries beyond the layers (MTP layers, padding) stay at the end.
    """

    scalar: bool = False

    def read(self, view: View, n: int) -> Vector | None:
        """The entries."""
        value = view.get(self.field)
        if isinstance(value, list | tuple):
            return tuple(value[:n]) if n and len(value) >= n else None
        return (value,) * n if self.scalar and value is not None else None

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The list in the new order."""
        old = view.get(self.field)
        if old is not None and not isinstance(old, list | tuple):
            return {}
        # A source list longer than the stack ends with entries for what follows the stack.
        tail = list(old[view.num_layers :]) if old else []
        return {self.field: list(vector) + tail}


@dataclass(frozen=True, slots=True)
class Keyed(OneField):
    """A dict keyed by layer index; other keys (such as the name of a layer kind) are kept."""

    def read(self, view: View, n: int) -> Vector | None:
        """Each layer's entry, None for a layer without one."""
        value = view.get(self.field)
        if not isinstance(value, Mapping):
            return None
        entries = {int(key): entry for key, entry in value.items() if _is_index(key)}
        return tuple(entries.get(i) for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The entries under their new indices, in the format of the old keys."""
        old = view.get(self.field)
        if not isinstance(old, Mapping):
            return None
        numbered = [key for key in old if _is_index(key)]
        padded = any(str(key) != str(int(key)) for key in numbered)
        width = max(len(str(len(vector) - 1)), max((len(str(key)) for key in numbered), default=1)) if padded else 1
        named = {key: entry for key, entry in old.items() if not _is_index(key)}
        integer = any(isinstance(key, int) for key in numbered)
        new = {j if integer else str(j).zfill(width): entry for j, entry in enumerate(vector) if entry is not None}
        return {self.field: named | new}


@dataclass(frozen=True, slots=True)
class Formula:
    """What the model's code computes from a layer's index and other fields; nothing is written."""

    compute: Callable[[View, int, int], Any]
    reads: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the formula reads."""
        return self.reads

    def read(self, view: View, n: int) -> Vector | None:
        """The formula's value for each layer."""
        return tuple(self.compute(view, i, n) for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """Nothing: the result of a formula cannot be set."""
        return {}


def _is_index(key: Any) -> bool:
    return isinstance(key, int) or (isinstance(key, str) and key.isascii() and key.isdigit())
