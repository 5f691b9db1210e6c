"""The ways in which configs say something about each layer, one class each.

None of them knows a model type: which type uses which is fields.py. What they have in common is rules.py.
"""

# ruff: noqa: ARG002 (an encoding has the methods of its protocol, whether or not it needs all that they are given)

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

from solar_upscale.architecture.rules import Attribute, Updates, Vector, View

__all__ = [
    "Constant",
    "Cycle",
    "EveryExcept",
    "Formula",
    "Indices",
    "Keyed",
    "KvSuffix",
    "Listed",
    "MoeSpan",
    "Period",
    "Pointers",
    "Prefix",
    "Repeated",
    "RootScaled",
    "Searched",
    "Text",
]


@dataclass(frozen=True, slots=True)
class Listed:
    """A list with one entry a layer; a scalar, where the field may be one, says the same of all layers.

    Entries beyond the layers (MTP layers, padding) stay at the end.
    """

    field: str
    scalar: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """The list's name."""
        return (self.field,)

    def read(self, view: View, n: int) -> Vector | None:
        """The entries."""
        value = view.get(self.field)
        if isinstance(value, list | tuple):
            return tuple(value[:n]) if n and len(value) >= n else None
        return (value,) * n if self.scalar and value is not None else None

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The permuted list."""
        old = view.get(self.field)
        if old is not None and not isinstance(old, list | tuple):
            return {}
        # A source list longer than the stack ends in entries for what stands after it.
        tail = list(old[view.num_layers :]) if old else []
        return {self.field: list(vector) + tail}


@dataclass(frozen=True, slots=True)
class Formula:
    """What the model's code computes from a layer's index and other fields; there is nothing to write."""

    compute: Callable[[View, int, int], Any]
    reads: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that enter the formula."""
        return self.reads

    def read(self, view: View, n: int) -> Vector | None:
        """The formula's value for each layer."""
        return tuple(self.compute(view, i, n) for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """Nothing: a formula cannot be told what to say."""
        return {}


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
        """One side of the boundary or the other."""
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
class Indices:
    """A list of layer indices, counted from ``base``: layers in it are ``inside``."""

    field: str
    inside: Any
    outside: Any
    base: int = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """The list's name."""
        return (self.field,)

    def read(self, view: View, n: int) -> Vector | None:
        """Membership of each layer."""
        value = view.get(self.field)
        if not isinstance(value, list | tuple):
            return None
        return tuple(self.inside if i + self.base in value else self.outside for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The indices of the target layers that are ``inside``."""
        old = view.get(self.field)
        n = view.num_layers
        # What points past the stack (an MTP layer) moves with it.
        tail = [x - n + len(vector) for x in old if x - self.base >= n] if isinstance(old, list | tuple) else []
        return {self.field: [j + self.base for j, value in enumerate(vector) if value == self.inside] + tail}


@dataclass(frozen=True, slots=True)
class Text:
    """A string with one character a layer; ``letters`` translates where the other encodings use words."""

    field: str
    letters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def fields(self) -> tuple[str, ...]:
        """The string's name."""
        return (self.field,)

    def read(self, view: View, n: int) -> Vector | None:
        """What each character stands for."""
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
class Cycle:
    """A list that is repeated until every layer has an entry."""

    field: str
    default: tuple[Any, ...] | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The list's name."""
        return (self.field,)

    def read(self, view: View, n: int) -> Vector | None:
        """The entries, repeated."""
        value = view.get(self.field, self.default)
        return tuple(value[i % len(value)] for i in range(n)) if value else None

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The whole list, unless the short one still says it."""
        return {} if self.read(view, len(vector)) == vector else {self.field: list(vector)}


@dataclass(frozen=True, slots=True)
class Repeated:
    """GPT-Neo's [[[kind, kind], times], ...]: the kinds in a group, repeated."""

    field: str
    default: tuple[Any, ...] | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The list's name."""
        return (self.field,)

    def read(self, view: View, n: int) -> Vector | None:
        """The groups, written out."""
        value = view.get(self.field, self.default)
        if not value:
            return None
        groups = ((kinds, times) for kinds, times in value if kinds)  # none is repeated without end
        flat = tuple(islice((kind for kinds, times in groups for _ in range(times) for kind in kinds), n))
        return flat if len(flat) == n else None

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """One group, said once."""
        return {self.field: [[list(vector), 1]]}


@dataclass(frozen=True, slots=True)
class Period:
    """Jamba's pair: layer i is ``inside`` where i % period == offset, and no list can say anything else."""

    period: str
    offset: str
    inside: Any
    outside: Any
    defaults: tuple[int, int]

    @property
    def fields(self) -> tuple[str, ...]:
        """The period and the offset."""
        return (self.period, self.offset)

    def read(self, view: View, n: int) -> Vector | None:
        """Where the period falls."""
        period, offset = view.get(self.period, self.defaults[0]), view.get(self.offset, self.defaults[1])
        return tuple(self.inside if i % period == offset else self.outside for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """A period and an offset that fall where the vector says, if there are any."""
        old = view.get(self.period, self.defaults[0])
        hits = [i for i, value in enumerate(vector) if value == self.inside]
        if not hits:
            return {self.period: len(vector) + 1, self.offset: len(vector)}
        periods = [old, *range(1, len(vector) + 1)]
        for period, offset in [(period, hits[0]) for period in periods if hits[0] < period]:
            if hits == [i for i in range(len(vector)) if i % period == offset]:
                return {self.period: period, self.offset: offset}
        return None


@dataclass(frozen=True, slots=True)
class MoeSpan:
    """Ernie 4.5's triple: sparse where start <= i <= end and (i + 1) % interval == 0."""

    start: str = "moe_layer_start_index"
    end: str = "moe_layer_end_index"
    interval: str = "moe_layer_interval"

    @property
    def fields(self) -> tuple[str, ...]:
        """The three numbers."""
        return (self.start, self.end, self.interval)

    def read(self, view: View, n: int) -> Vector | None:
        """Sparse or dense."""
        start, end, interval = view.get(self.start, 1), view.get(self.end, -1), view.get(self.interval, 1)
        last = n - 1 if end == -1 else end
        return tuple((i + 1) % interval == 0 and start <= i <= last for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """A triple that says the vector, keeping what it can of the old one."""
        hits = [i for i, value in enumerate(vector) if value]
        if not hits:
            return {self.start: len(vector), self.end: len(vector)}
        starts = (view.get(self.start, 1), hits[0])
        ends = (view.get(self.end, -1), -1 if view.get(self.end, -1) == -1 else len(vector) - 1, hits[-1])
        for interval in (view.get(self.interval, 1), *range(1, len(vector) + 1)):
            for start in starts:
                for end in ends:
                    updates = {self.start: start, self.end: end, self.interval: interval}
                    if self.read(view.updated(updates), len(vector)) == vector:
                        return updates
        return None


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
        """The exceptions under the old step if that is enough, else every dense layer as an exception."""
        if self.read(view, len(vector)) == vector and max(view.get(self.exceptions, ()), default=0) < len(vector):
            return {}
        step = view.get(self.step, 1)
        if all((i + 1) % step == 0 for i, sparse in enumerate(vector) if sparse):
            listed = [i for i, sparse in enumerate(vector) if not sparse and (i + 1) % step == 0]
            return {self.exceptions: listed}
        return {self.step: 1, self.exceptions: [i for i, sparse in enumerate(vector) if not sparse]}


@dataclass(frozen=True, slots=True)
class Keyed:
    """A dict keyed by layer number; other keys (a layer kind's name) are no layer's and stay."""

    field: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The dict's name."""
        return (self.field,)

    def read(self, view: View, n: int) -> Vector | None:
        """Each layer's entry, None where it has none."""
        value = view.get(self.field)
        if not isinstance(value, Mapping):
            return None
        entries = {int(key): entry for key, entry in value.items() if _is_index(key)}
        return tuple(entries.get(i) for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The entries under their new numbers, written as the old ones were."""
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
class KvSuffix:
    """Gemma 3n's count k: the last k layers read the keys of the last earlier layer of their own kind."""

    field: str = "num_kv_shared_layers"
    kinds: Attribute | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The count."""
        return (self.field,)

    def read(self, view: View, n: int) -> Vector | None:
        """The layer whose keys each layer reads; None for its own."""
        shared: int = min(view.get(self.field, 0), n)
        if shared < 0:
            raise ValueError("fewer than none")
        kinds = (self.kinds.read(view, n) if self.kinds else None) or ("",) * n
        last = {kind: i for i, kind in enumerate(kinds[: n - shared])}
        # A kind that no earlier layer has cannot be read: -1 is no layer of any source.
        return (None,) * (n - shared) + tuple(last.get(kind, -1) for kind in kinds[n - shared :])

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """How many of the last layers read another's keys."""
        return {self.field: len(list(takewhile(lambda value: value is not None, reversed(vector))))}


@dataclass(frozen=True, slots=True)
class Pointers:
    """A list with one layer index a layer: its own for a layer that keeps its keys, else an earlier owner's."""

    field: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The list's name."""
        return (self.field,)

    def read(self, view: View, n: int) -> Vector | None:
        """The layer whose keys each layer reads; None for its own."""
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
class RootScaled:
    """A factor that the code divides by the square root of the depth: the quotient is each layer's own."""

    field: str
    default: float

    @property
    def fields(self) -> tuple[str, ...]:
        """The factor."""
        return (self.field,)

    def read(self, view: View, n: int) -> Vector | None:
        """The quotient; None in the config means a quotient of 1."""
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
class Constant:
    """One value for all layers, with a default that depends on the depth: written out where the default would move."""

    field: str
    default: Callable[[View, int], Any]

    @property
    def fields(self) -> tuple[str, ...]:
        """The field."""
        return (self.field,)

    def read(self, view: View, n: int) -> Vector | None:
        """The value, for every layer."""
        value = view.get(self.field)
        return (self.default(view, n) if value is None else value,) * n

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The value itself, unless the config already says it."""
        return {} if view.get(self.field) is not None else {self.field: vector[0]}


@dataclass(frozen=True, slots=True)
class Searched:
    """Numbers from which the code computes each layer's value: other numbers are tried until they say it."""

    numbers: tuple[str, ...]
    compute: Callable[[View, int, int], Any]
    candidates: Callable[[View, int], Sequence[tuple[Any, ...]]]

    @property
    def fields(self) -> tuple[str, ...]:
        """The numbers."""
        return self.numbers

    def read(self, view: View, n: int) -> Vector | None:
        """The computed values."""
        return tuple(self.compute(view, i, n) for i in range(n))

    def write(self, view: View, vector: Vector, sources: Sequence[int]) -> Updates | None:
        """The first numbers that say the vector, the present ones first."""
        for values in ((), *self.candidates(view, len(vector))):
            updates = dict(zip(self.numbers, values, strict=False))
            if self.read(view.updated(updates), len(vector)) == vector:
                return updates
        return None


def _is_index(key: Any) -> bool:
    return isinstance(key, int) or (isinstance(key, str) and key.isascii() and key.isdigit())
