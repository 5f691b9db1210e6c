"""Comparison of byte streams, and the findings that comparisons report."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from solar_upscale.write.shards import OnBytes

__all__ = ["Finding", "Findings", "first_difference", "same_bytes"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference and the file it is in; ``is_note`` if it is harmless."""

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
    left_chunks, right_chunks = filter(len, left), filter(len, right)
    offset = 0
    left_chunk = right_chunk = b""
    while True:
        left_chunk = left_chunk or bytes(next(left_chunks, b""))  # bytes: memoryviews compare element by element
        right_chunk = right_chunk or bytes(next(right_chunks, b""))
        size = min(len(left_chunk), len(right_chunk))
        if not size:
            return None if len(left_chunk) == len(right_chunk) else offset
        left_part, right_part = left_chunk[:size], right_chunk[:size]
        if left_part != right_part:
            return offset + next(index for index in range(size) if left_part[index] != right_part[index])
        on_bytes(size)
        offset += size
        left_chunk, right_chunk = left_chunk[size:], right_chunk[size:]
