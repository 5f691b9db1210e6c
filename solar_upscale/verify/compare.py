"""Byte streams against each other, and what a comparison reports."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from solar_upscale.write.shards import OnBytes

__all__ = ["Finding", "Findings", "first_difference", "same_bytes"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference, named by the file it is in; ``is_note`` where it does no harm."""

    text: str
    is_note: bool = False


Findings = Iterator[Finding]


def same_bytes(left: Iterable[bytes | memoryview], right: Iterable[bytes | memoryview]) -> bool:
    """Whether two streams hold the same bytes, however they are cut into chunks."""
    return first_difference(left, right, lambda nbytes: None) is None


def first_difference(
    left: Iterable[bytes | memoryview], right: Iterable[bytes | memoryview], on_bytes: OnBytes
) -> int | None:
    """The offset at which two streams first differ, in bytes from their start; None if they are equal."""
    lefts, rights = iter(left), iter(right)
    offset = 0
    one = other = b""
    while True:
        one = one or bytes(next(lefts, b""))  # bytes, since comparing memoryviews goes element by element
        other = other or bytes(next(rights, b""))
        size = min(len(one), len(other))
        if not size:
            return None if len(one) == len(other) else offset
        left_part, right_part = one[:size], other[:size]
        if left_part != right_part:
            return offset + next(index for index in range(size) if left_part[index] != right_part[index])
        on_bytes(size)
        offset += size
        one, other = one[size:], other[size:]
