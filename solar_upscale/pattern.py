"""The layer index language: which source layer each target layer comes from."""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["LayerPattern"]


@dataclass(frozen=True, slots=True)
class LayerPattern:
    """A resolved pattern: ``sources[i]`` is the source layer of target layer ``i`` (layers, from 0)."""

    sources: tuple[int, ...]
    num_source_layers: int

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[int]:
        return iter(self.sources)
