"""What becomes of a tensor's bytes on the way: nothing, zeros, a factor, or another order of its slices.

A transform is a value in the plan. The functions here are pure: bytes in, bytes out. Which tensor gets which
transform is decided in plan.py; how the bytes move is move.py.
"""

from dataclasses import dataclass

__all__ = ["Gather", "Scale", "Transform", "Zero"]


@dataclass(frozen=True, slots=True)
class Zero:
    """Every element is zero; the source is not read."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Every element w becomes ``(w + offset) * factor - offset``.

    ``offset`` is 0 for a projection or a gain stored as it is, and 1 for a norm gain stored as w in (1 + w).
    """

    factor: float
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Gather:
    """The tensor is [rows, slices, slice_nbytes] in memory; target slice j of every row is source slice ``sources[j]``."""

    rows: int
    source_slices: int
    slice_nbytes: int
    sources: tuple[int, ...]


Transform = Zero | Scale | Gather | None
