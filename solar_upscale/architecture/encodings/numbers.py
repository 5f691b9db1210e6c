"""Numbers from which code computes what each layer is: prefixes, periods, suffixes, factors."""

# ruff: noqa: ARG002 (an encoding implements its protocol, whether or not it uses every argument)

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from solar_upscale.architecture.attribute import Attribute, OneField, Updates, Vector, View

__all__ = ["Constant", "EveryExcept", "KvSuffix", "Prefix", "RootScaled", "Searched"]


@dataclass(frozen=True, slots=True)
class Searched:
    """Numbers from which the code computes each layer's value; to write, ``candidates`` are tried until one fits."""

    numbers: tuple[str, ...]
    compute: Callable[[View, int, int], Any]
    candidates: Callable[[View, Vector], Iterable[tuple[Any, ...]]]

    @property
    def fields(self) -> tuple[str, ...]:
        """The numbers."""
        return self.numbers

    def read(self, view: View, n: int) -> Vector | None:
        """The computed values."""
        return tuple(self.compute(view, i, n) for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The first numbers that give the vector; the old ones are tried first."""
        for values in ((), *self.candidates(view, vector)):
            updates = dict(zip(self.numbers, values, strict=False))
            if self.read(view.updated(updates), len(vector)) == vector:
                return updates
        return None


@dataclass(frozen=True, slots=True)
class Prefix:
    """A count k: the first k layers are ``inside``, the others ``outside``."""

    field: str
    inside: Any
    outside: Any
    default: int | None = None
    frequency: str | None = None  # a second field: of the others only every f-th (index % f == 0) is outside

    @property
    def fields(self) -> tuple[str, ...]:
        """The count, and the frequency where there is one."""
        return (self.field,) if self.frequency is None else (self.field, self.frequency)

    def read(self, view: View, n: int) -> Vector | None:
        """``inside`` or ``outside`` for each layer."""
        k = view.get(self.field, self.default)
        if k is None:
            return None
        step = 1 if self.frequency is None else view.get(self.frequency, 1)
        if isinstance(step, list | tuple):
            return (
                tuple(self.outside if i >= k and step[i] else self.inside for i in range(n)) if len(step) >= n else None
            )
        return tuple(self.outside if i >= k and i % step == 0 else self.inside for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The new count, if the layers inside are still a prefix."""
        k = len(list(takewhile(lambda value: value == self.inside, vector)))
        updates: Updates = {self.field: k}
        if self.frequency is not None and isinstance(view.get(self.frequency), list | tuple):
            updates = {self.frequency: [0 if value == self.inside else 1 for value in vector]}
            updates |= {self.field: k}
            return updates
        if any(value == self.inside for value in vector[k:]):
            return None
        old = view.get(self.field, self.default)
        if isinstance(old, int) and old >= len(vector) == k:
            return {}
        return {} if old == k else updates


@dataclass(frozen=True, slots=True)
class EveryExcept:
    """Qwen's pair: sparse where (i + 1) % step == 0, except the listed layers; always expressible."""

    step: str = "decoder_sparse_step"
    exceptions: str = "mlp_only_layers"
    default_exceptions: tuple[int, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The step and the exceptions."""
        return (self.step, self.exceptions)

    def read(self, view: View, n: int) -> Vector | None:
        """Sparse or dense."""
        step, exceptions = view.get(self.step, 1), view.get(self.exceptions, self.default_exceptions)
        return tuple(i not in exceptions and (i + 1) % step == 0 for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """New exceptions with the old step if they suffice, else step 1 with every dense layer as an exception."""
        if self.read(view, len(vector)) == vector and max(view.get(self.exceptions, ()), default=0) < len(vector):
            return {}
        step = view.get(self.step, 1)
        if all((i + 1) % step == 0 for i, sparse in enumerate(vector) if sparse):
            listed = [i for i, sparse in enumerate(vector) if not sparse and (i + 1) % step == 0]
            return {self.exceptions: listed}
        return {self.step: 1, self.exceptions: [i for i, sparse in enumerate(vector) if not sparse]}


@dataclass(frozen=True, slots=True)
class KvSuffix(OneField):
    """Gemma 3n's count k: the last k layers read the keys of the last layer of their kind before them."""

    kinds: Attribute
    default: int = 0

    def read(self, view: View, n: int) -> Vector | None:
        """The layer whose keys each layer reads; None if its own."""
        shared: int = min(view.get(self.field, self.default), n)
        if shared < 0:
            raise ValueError("expected 0 or more")
        kinds = self.kinds.read(view, n) or ("",) * n
        last = {kind: i for i, kind in enumerate(kinds[: n - shared])}
        # -1 if no earlier layer has the kind: it equals no source layer.
        return (None,) * (n - shared) + tuple(last.get(kind, -1) for kind in kinds[n - shared :])

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The number of last layers that read another layer's keys."""
        return {self.field: len(list(takewhile(lambda value: value is not None, reversed(vector))))}


@dataclass(frozen=True, slots=True)
class RootScaled(OneField):
    """A factor that the code divides by the square root of the depth; the quotient is kept."""

    default: float

    def read(self, view: View, n: int) -> Vector | None:
        """The quotient; null in the config means a quotient of 1."""
        if self.field in view.section and view.section[self.field] is None:
            return (1.0,) * n
        factor: float = view.get(self.field, self.default)
        return (factor / math.sqrt(n),) * n

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The factor for the new depth."""
        if self.field in view.section and view.section[self.field] is None:
            return {}
        return {self.field: vector[0] * math.sqrt(len(vector))}


@dataclass(frozen=True, slots=True)
class Constant(OneField):
    """One value for all layers whose default depends on the depth: if absent, the old default is written down."""

    default: Callable[[View, int], Any]

    def read(self, view: View, n: int) -> Vector | None:
        """The value, for every layer."""
        value = view.get(self.field)
        return (self.default(view, n) if value is None else value,) * n

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The value, unless the config already has it."""
        return {} if view.get(self.field) is not None else {self.field: vector[0]}
