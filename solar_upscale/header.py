"""The safetensors header: parse it strictly, build it exactly. No tensor data passes through here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Shard", "TensorInfo"]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An entry of a header. ``data_offsets`` is [start, stop) in bytes, relative to the start of the data region."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Size of the tensor's data, in bytes."""
        return self.data_offsets[1] - self.data_offsets[0]


@dataclass(frozen=True, slots=True)
class Shard:
    """One weight file: where its data region starts (in bytes from the start of the file) and what lies in it."""

    filename: str
    tensors: tuple[TensorInfo, ...]
    data_start: int
    nbytes: int
    header_digest: str
    metadata: Mapping[str, str] = field(default_factory=dict)
