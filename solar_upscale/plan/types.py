"""The plan: which bytes of which source file become which tensor of which output file.

A plan is a frozen value made from headers and config.json alone. It is the dry run, what execution follows, and what
verify compares an output with. Nothing here opens tensor data; architecture/ decides which layers and fields change,
and layout.py lays out the shards.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from solar_upscale.architecture import DepthChange, Stack
from solar_upscale.pattern import LayerPattern
from solar_upscale.plan.transform import Transform
from solar_upscale.request import UpscaleRequest
from solar_upscale.source.header import BLOCK_NBYTES, Shard, TensorInfo
from solar_upscale.source.protocol import SourceFile
from solar_upscale.strict_json import json_bytes
from solar_upscale.text import counted, nbytes_text

__all__ = [
    "INDEX_NAME",
    "LAYER_NOT_USED",
    "Move",
    "Pass",
    "Piece",
    "ShardPlan",
    "SourceIdentity",
    "Summary",
    "UpscalePlan",
    "WriteItem",
]

INDEX_NAME = "model.safetensors.index.json"
# Why a tensor of a layer that the pattern does not name is dropped.
LAYER_NOT_USED = "its layer is not in the pattern"


class Piece(NamedTuple):
    """Bytes [start, stop) of a source file, from the start of the file."""

    filename: str
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Size, in bytes."""
        return self.stop - self.start


class WriteItem(NamedTuple):
    """One output tensor: its range in its shard's data region, and the source bytes that it is made from."""

    target: TensorInfo
    source: str
    pieces: tuple[Piece, ...]
    transform: Transform = None


class Move(NamedTuple):
    """Bytes of a source file that become bytes of an output file; offsets are from the start of each file."""

    filename: str
    source_start: int
    source_nbytes: int
    target_start: int
    target_nbytes: int
    transform: Transform = None
    dtype: str = "U8"

    @property
    def clonable_nbytes(self) -> int:
        """Size of the block-aligned interior, which a file system that shares blocks can clone, in bytes."""
        if self.transform is not None or (self.source_start - self.target_start) % BLOCK_NBYTES:
            return 0
        first = -(-self.source_start // BLOCK_NBYTES)
        last = (self.source_start + self.source_nbytes) // BLOCK_NBYTES
        return max(0, last - first) * BLOCK_NBYTES


class ShardPlan(NamedTuple):
    """One output shard: its exact header bytes, and its tensors in the order of their data."""

    filename: str
    header: bytes
    items: tuple[WriteItem, ...]

    def __repr__(self) -> str:
        return f"<ShardPlan {self.filename}: {counted(len(self.items), 'tensor')}, {nbytes_text(self.nbytes)}>"

    @property
    def nbytes(self) -> int:
        """Size of the whole file, in bytes."""
        return len(self.header) + self.data_nbytes

    @property
    def data_nbytes(self) -> int:
        """Size of its tensors, in bytes."""
        return self.items[-1].target.data_offsets[1] if self.items else 0

    @property
    def source_filenames(self) -> tuple[str, ...]:
        """The source files that its tensors are made from, sorted."""
        return tuple(sorted({piece.filename for item in self.items for piece in item.pieces}))

    def moves(self) -> Iterator[Move]:
        """The moves that fill the data region, in target order; moves adjacent in both files are merged."""
        pending: Move | None = None
        for _, move in self.tensor_moves():
            if pending is not None and _continues(pending, move):
                pending = Move(
                    pending.filename,
                    pending.source_start,
                    pending.source_nbytes + move.source_nbytes,
                    pending.target_start,
                    pending.target_nbytes + move.target_nbytes,
                )
                continue
            if pending is not None:
                yield pending
            pending = move
        if pending is not None:
            yield pending

    def tensor_moves(self) -> Iterator[tuple[WriteItem, Move]]:
        """Each tensor with the moves that fill it, one per piece, in target order."""
        for item in self.items:
            start = len(self.header) + item.target.data_offsets[0]
            if item.transform is not None:
                (piece,) = item.pieces
                nbytes = item.target.nbytes
                dtype = item.target.dtype
                yield item, Move(piece.filename, piece.start, piece.nbytes, start, nbytes, item.transform, dtype)
                continue
            for piece in item.pieces:
                if piece.nbytes:
                    yield item, Move(piece.filename, piece.start, piece.nbytes, start, piece.nbytes)
                start += piece.nbytes


def _continues(before: Move, move: Move) -> bool:
    return (
        before.transform is None
        and move.transform is None
        and before.filename == move.filename
        and before.source_start + before.source_nbytes == move.source_start
        and before.target_start + before.target_nbytes == move.target_start
    )


class Pass(NamedTuple):
    """The shards that one sweep over a source shard completes. Passes are independent and picklable."""

    shards: tuple[ShardPlan, ...]

    def __repr__(self) -> str:
        return f"<Pass: {counted(len(self.shards), 'shard')}, {nbytes_text(self.nbytes)}>"

    @property
    def nbytes(self) -> int:
        """Number of bytes that the pass writes."""
        return sum(shard.nbytes for shard in self.shards)


@dataclass(frozen=True, slots=True)
class Summary:
    """A model's size. ``kv_cache_nbytes`` is the size of a bf16 KV cache per token, or None if it is not known."""

    layers: int
    parameters: int
    nbytes: int
    kv_cache_nbytes: int | None

    @property
    def bf16_nbytes(self) -> int:
        """Memory that the parameters take in bfloat16, in bytes."""
        return 2 * self.parameters


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """What a plan records of its source, in the source's own words: name, revision, and whether it is on the Hub."""

    name: str
    revision: str | None = None
    is_on_hub: bool = False


@dataclass(frozen=True, repr=False)
class UpscalePlan:
    """Everything that will be written, and why.

    ``request`` is in canonical form. ``model_files`` are the small files that a model needs and whose bytes follow from
    the plan: config.json, the index, and files that refer to layers by number. The card, the layer map and provenance
    are rendered from the plan by report/. ``source_card`` is the source's README.md, if it has one.
    """

    request: UpscaleRequest
    source: SourceIdentity
    pattern: LayerPattern
    stack: Stack
    change: DepthChange
    factors: tuple[float, ...]
    passes: tuple[Pass, ...]
    copied_files: tuple[SourceFile, ...]
    skipped_files: Mapping[str, str]
    dropped: Mapping[str, str]
    before: Summary
    after: Summary
    warnings: tuple[str, ...]
    source_shards: tuple[Shard, ...]
    source_state: Mapping[str, str]
    model_files: Mapping[str, bytes] = field(default_factory=dict)
    source_card: bytes | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        shards = counted(len(self.shards), "shard")
        depth = f"{self.before.layers} -> {self.after.layers} layers"
        return f"<UpscalePlan {self.source.name}: {depth}, {nbytes_text(self.total_size)} in {shards}>"

    def __str__(self) -> str:
        """The report that ``solar-upscale plan`` prints."""
        from solar_upscale.plan.report import plan_report  # which is about this class

        return plan_report(self)

    def _repr_html_(self) -> str:
        """The report and the layer map, for a notebook."""
        from solar_upscale.plan.html import plan_html  # as above

        return plan_html(self)

    @property
    def shards(self) -> tuple[ShardPlan, ...]:
        """Every output shard, in the order of their names."""
        return tuple(shard for each in self.passes for shard in each.shards)

    @cached_property
    def weight_map(self) -> dict[str, str]:
        """Tensor name to shard filename, sorted by tensor name as transformers writes it."""
        pairs = ((item.target.name, shard.filename) for shard in self.shards for item in shard.items)
        return dict(sorted(pairs))

    @property
    def total_size(self) -> int:
        """Size of the tensor data in all shards, without headers, in bytes."""
        return sum(shard.data_nbytes for shard in self.shards)

    @property
    def nbytes(self) -> int:
        """Size of the model's files in bytes: shards, copied files, config and index."""
        weights = sum(shard.nbytes for shard in self.shards)
        return weights + sum(file.nbytes for file in self.copied_files) + sum(map(len, self.model_files.values()))

    @cached_property
    def clonable_nbytes(self) -> int:
        """Number of bytes that a file system that shares blocks can clone instead of copying."""
        return sum(move.clonable_nbytes for shard in self.shards for move in shard.moves())

    def index(self) -> bytes:
        """The bytes of model.safetensors.index.json."""
        metadata = {"total_parameters": self.after.parameters, "total_size": self.total_size}
        return json_bytes({"metadata": metadata, "weight_map": self.weight_map})
