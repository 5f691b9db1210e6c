"""Lists and strings with one entry per layer, and lists of layer indices."""

# ruff: noqa: ARG002 (an encoding implements its protocol, whether or not it uses every argument)

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from solar_upscale.architecture.attribute import OneField, Updates, Vector, View

__all__ = ["Cycle", "Indices", "Pointers", "Repeated", "Text"]


@dataclass(frozen=True, slots=True)
class Indices(OneField):
    """A list of layer indices counted from ``base``: the value is ``inside`` for layers in it, else ``outside``."""

    inside: Any
    outside: Any
    base: int = 0

    def read(self, view: View, n: int) -> Vector | None:
        """The value of each layer, by membership."""
        value = view.get(self.field)
        if not isinstance(value, list | tuple):
            return None
        return tuple(self.inside if i + self.base in value else self.outside for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The indices of the target layers that are ``inside``."""
        old = view.get(self.field)
        n = view.num_layers
        # An index beyond the stack (an MTP layer) moves with the end of the stack.
        tail = [x - n + len(vector) for x in old if x - self.base >= n] if isinstance(old, list | tuple) else []
        return {self.field: [j + self.base for j, value in enumerate(vector) if value == self.inside] + tail}


@dataclass(frozen=True, slots=True)
class Pointers(OneField):
    """A list with one layer index per layer: its own if it has its own keys, else that of the layer whose it reads."""

    def read(self, view: View, n: int) -> Vector | None:
        """The layer whose keys each layer reads; None if its own."""
        value = view.get(self.field)
        if not isinstance(value, list | tuple) or len(value) < n:
            return None
        return tuple(None if value[i] == i else value[i] for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """Each reader points to the latest earlier copy of the layer it read."""
        if view.get(self.field) is None:
            return None
        new: list[int] = []
        for j, owner in enumerate(vector):
            earlier = [p for p in range(j) if sources[p] == owner and vector[p] is None]
            if owner is not None and not earlier:
                return None
            new.append(j if owner is None else earlier[-1])
        return {self.field: new}


@dataclass(frozen=True, slots=True)
class Text(OneField):
    """A string with one character per layer; ``letters`` maps characters to the words of the other encodings."""

    letters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def read(self, view: View, n: int) -> Vector | None:
        """The meaning of each character."""
        value = view.get(self.field)
        if not isinstance(value, str) or len(value) != n:
            return None
        return tuple(self.letters.get(char, char) for char in value)

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The characters, in the new order."""
        value = view.get(self.field)
        if not isinstance(value, str) or not sources or len(value) <= max(sources):
            return None
        return {self.field: "".join(value[index] for index in sources)}


@dataclass(frozen=True, slots=True)
class Cycle(OneField):
    """A list that is repeated until every layer has an entry."""

    default: tuple[Any, ...] | None = None

    def read(self, view: View, n: int) -> Vector | None:
        """The entries, repeated."""
        value = view.get(self.field, self.default)
        return tuple(value[i % len(value)] for i in range(n)) if value else None

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The full list, unless the old one still gives the same values."""
        return {} if self.read(view, len(vector)) == vector else {self.field: list(vector)}


@dataclass(frozen=True, slots=True)
class Repeated(OneField):
    """GPT-Neo's [[[kind, kind], times], ...]: the kinds in a group, repeated."""

    default: tuple[Any, ...] | None = None

    def read(self, view: View, n: int) -> Vector | None:
        """The groups, expanded."""
        value = view.get(self.field, self.default)
        if not value:
            return None
        groups = ((kinds, times) for kinds, times in value if kinds)  # an empty group would never fill the list
        flat = tuple(islice((kind for kinds, times in groups for _ in range(times) for kind in kinds), n))
        return flat if len(flat) == n else None

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """One group, once."""
        return {self.field: [[list(vector), 1]]}
