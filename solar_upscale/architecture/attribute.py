"""What differs from layer to layer, read from a config as one value per layer and written back in another order.

An *attribute* is one thing that differs from layer to layer (its attention kind, dense or sparse, whose keys it
reads). An *encoding* is one way in which a config expresses it: a list, indices, a prefix, a period, a string. The
encodings are in encodings/; which model type uses which is data, in families/.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from solar_upscale.errors import CheckpointError

__all__ = ["Attribute", "Encoding", "OneField", "Updates", "Vector", "View", "same"]

Vector = tuple[Any, ...]
Updates = dict[str, Any]


class View(NamedTuple):
    """The section of config.json that describes a stack, and the whole config (``root``) for fields outside it.

    ``num_layers`` is the depth of the source. ``get`` takes a dotted name; as in transformers, null counts as absent.
    """

    section: Mapping[str, Any]
    root: Mapping[str, Any]
    num_layers: int

    def get(self, name: str, default: Any = None) -> Any:
        """The field's value, or ``default`` where it is absent or null."""
        return _lookup(self.section, name, default)

    def at_root(self, name: str, default: Any = None) -> Any:
        """The same, from the top of config.json."""
        return _lookup(self.root, name, default)

    def updated(self, updates: Mapping[str, Any]) -> "View":
        """A view in which the dotted names in ``updates`` have their new values."""
        return View(_assign(self.section, updates), self.root, self.num_layers)


class Encoding(Protocol):
    """One way to express an attribute. ``read`` returns None, and ``write`` {} or None, if a config does not use it."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The dotted names that this encoding reads."""

    def read(self, view: View, n: int) -> Vector | None:
        """One value per layer, or None if the config does not use this encoding."""

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The fields that express ``vector``, or None if this encoding cannot express it."""


@dataclass(frozen=True, slots=True)
class OneField:
    """Base of the encodings that read a single field, given by its dotted name."""

    field: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The one name."""
        return (self.field,)


class Attribute(NamedTuple):
    """One per-layer property and its encodings, in the order of precedence in the model's code.

    ``constraint`` is the reason that a refusal gives when an order cannot be expressed. ``pointer`` marks values that
    are themselves layer indices: they follow the layer they point to. ``optional`` marks a list without which the
    model's code treats all layers alike; a config that lacks any other list is refused.
    """

    name: str
    encodings: tuple[Encoding, ...]
    constraint: str = ""
    pointer: bool = False
    optional: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """Every dotted field name that any encoding reads."""
        return tuple(dict.fromkeys(name for encoding in self.encodings for name in encoding.fields))

    def read(self, view: View, n: int) -> Vector | None:
        """The value of each layer, from the first encoding that the config uses.

        Raises:
            CheckpointError: a field that is read has an invalid value.
        """
        for encoding in self.encodings:
            vector = self.read_by(encoding, view, n)
            if vector is not None:
                return vector
        return None

    def read_by(self, encoding: Encoding, view: View, n: int) -> Vector | None:
        """The value of each layer according to one encoding, None if the config does not use it.

        Raises:
            CheckpointError: as ``read``.
        """
        with self._computing(encoding, view):
            vector = encoding.read(view, n)
            if self.pointer and vector and not all(each is None or -1 <= each < n for each in vector):
                raise ValueError("some are not layer indices")
            return vector

    def mismatches(self, wanted: Vector, view: View, sources: Sequence[int]) -> list[int]:
        """The target layers whose value in ``view`` is not the ``wanted`` one."""
        got = self.read(view, len(sources))
        if got is None:
            return list(range(len(sources)))
        if self.pointer:
            got = tuple(None if value is None else sources[value] if value >= 0 else -1 for value in got)
        return [j for j, (a, b) in enumerate(zip(got, wanted, strict=True)) if not same(a, b)]

    def express(self, source: View, view: View, wanted: Vector, sources: Sequence[int]) -> Updates | None:
        """The fewest updates that make ``view``, derived from ``source``, express ``wanted``; None if none do."""
        used = [
            encoding for encoding in self.encodings if self.read_by(encoding, source, source.num_layers) is not None
        ]
        updates: Updates = {}
        for encoding in used:
            updates |= self._write(encoding, view, wanted, sources)
        if not self.mismatches(wanted, view.updated(updates), sources):
            return updates
        for encoding in self.encodings:
            if encoding in used:
                continue
            written = self._write(encoding, view, wanted, sources)
            if written and not self.mismatches(wanted, view.updated(updates | written), sources):
                return updates | written
        return None

    def _write(self, encoding: Encoding, view: View, wanted: Vector, sources: Sequence[int]) -> Updates:
        with self._computing(encoding, view):
            return encoding.write(view, wanted, sources) or {}

    @contextmanager
    def _computing(self, encoding: Encoding, view: View) -> Iterator[None]:
        """Turn the failure of an encoding on an invalid value into a refusal that names the fields.

        Raises:
            CheckpointError: a field has the wrong type, or a value for which its formula is undefined.
        """
        try:
            yield
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            given = [f"{name} {value!r:.60}" for name in encoding.fields if (value := view.get(name)) is not None]
            raise CheckpointError(
                f"config.json: {self.name} cannot be derived from {', '.join(given) or 'the other fields'} ({error}); "
                "expected values that the model's own code accepts; correct them in config.json"
            ) from error


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal; floats up to rounding."""
    if isinstance(a, float) or isinstance(b, float):
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        return numbers and math.isclose(a, b, rel_tol=1e-12)
    return bool(a == b)


def _lookup(mapping: Mapping[str, Any], name: str, default: Any) -> Any:
    value: Any = mapping
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return default
        value = value.get(part)
    return default if value is None else value


def _assign(mapping: Mapping[str, Any], updates: Mapping[str, Any]) -> dict[str, Any]:
    new = dict(mapping)
    for name, value in updates.items():
        head, _, rest = name.partition(".")
        new[head] = _assign(new.get(head) or {}, {rest: value}) if rest else value
    return new
