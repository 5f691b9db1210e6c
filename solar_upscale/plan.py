"""The plan: which bytes of which source file become which tensor of which output file.

A plan is a frozen value made from headers and config.json alone. It is the dry run, it is what execution follows,
and it is what verify compares with. Nothing here opens tensor data; which layers and fields change is decided in
architecture/, how a shard is laid out in layout.py.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from solar_upscale.architecture import DepthChange, Stack
from solar_upscale.header import Shard, TensorInfo
from solar_upscale.pattern import LayerPattern
from solar_upscale.source import SourceFile
from solar_upscale.transform import Gather, Scale, Transform, Zero

__all__ = [
    "BLOCK_NBYTES",
    "INDEX_NAME",
    "Job",
    "Move",
    "Pass",
    "Piece",
    "ShardPlan",
    "Summary",
    "UpscalePlan",
    "WriteItem",
]

# File systems that share blocks do so in units of this many bytes; offsets must agree modulo it.
BLOCK_NBYTES = 4096

INDEX_NAME = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes [start, stop) of a source file, from the start of the file."""

    filename: str
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Size, in bytes."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class WriteItem:
    """One output tensor: where it lies in its shard's data region, and which source bytes it is made of."""

    target: TensorInfo
    source: str
    pieces: tuple[Piece, ...]
    transform: Transform = None


@dataclass(frozen=True, slots=True)
class Move:
    """Bytes of one source file that become bytes of one output file; offsets count from the start of each file."""

    filename: str
    source_start: int
    source_nbytes: int
    target_start: int
    target_nbytes: int
    transform: Transform = None
    dtype: str = "U8"

    @property
    def clonable_nbytes(self) -> int:
        """How many bytes a file system that shares blocks need not move: the aligned interior, in bytes."""
        if self.transform is not None or (self.source_start - self.target_start) % BLOCK_NBYTES:
            return 0
        first = -(-self.source_start // BLOCK_NBYTES)
        last = (self.source_start + self.source_nbytes) // BLOCK_NBYTES
        return max(0, last - first) * BLOCK_NBYTES


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One output shard: its exact header bytes, then its tensors in the order of their data."""

    filename: str
    header: bytes
    items: tuple[WriteItem, ...]

    @property
    def nbytes(self) -> int:
        """Size of the whole file, in bytes."""
        return len(self.header) + self.data_nbytes

    @property
    def data_nbytes(self) -> int:
        """Size of its tensors, in bytes."""
        return self.items[-1].target.data_offsets[1] if self.items else 0

    def moves(self) -> Iterator[Move]:
        """The moves that fill the data region, in target order; neighbours in both files are one move."""
        pending: Move | None = None
        for move in self._moves_of_each_tensor():
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

    def _moves_of_each_tensor(self) -> Iterator[Move]:
        for item in self.items:
            start = len(self.header) + item.target.data_offsets[0]
            if item.transform is not None:
                (piece,) = item.pieces
                nbytes = item.target.nbytes
                yield Move(piece.filename, piece.start, piece.nbytes, start, nbytes, item.transform, item.target.dtype)
                continue
            for piece in item.pieces:
                if piece.nbytes:
                    yield Move(piece.filename, piece.start, piece.nbytes, start, piece.nbytes)
                start += piece.nbytes


def _continues(before: Move, move: Move) -> bool:
    return (
        before.transform is None
        and move.transform is None
        and before.filename == move.filename
        and before.source_start + before.source_nbytes == move.source_start
        and before.target_start + before.target_nbytes == move.target_start
    )


@dataclass(frozen=True, slots=True)
class Pass:
    """The shards that one sweep over their source completes. Passes are independent of one another and picklable."""

    shards: tuple[ShardPlan, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that the pass writes."""
        return sum(shard.nbytes for shard in self.shards)


@dataclass(frozen=True, slots=True)
class Summary:
    """A model's size. ``kv_cache_nbytes`` is what one token adds to a bf16 KV cache, None where it is not known."""

    layers: int
    parameters: int
    nbytes: int
    kv_cache_nbytes: int | None

    @property
    def bf16_nbytes(self) -> int:
        """Memory that the parameters take in bfloat16, in bytes."""
        return 2 * self.parameters


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for, in canonical words: enough to plan it again, and nothing of where or when.

    ``layers`` are the shortest entries that give the pattern, ``factors`` the factor on each target layer's
    contribution to the residual stream, ``max_shard_nbytes`` is None for the mirror layout.
    """

    source: str
    revision: str | None
    layers: tuple[str, ...]
    stack: str
    init: str = "copy"
    entry_scales: tuple[float | None, ...] | None = None
    max_shard_nbytes: int | None = None
    drop_mtp: bool = False
    assume_uniform: bool = False


@dataclass(frozen=True)
class UpscalePlan:
    """Everything that will be written, and why. ``documents`` are the small files whose bytes the plan makes itself."""

    job: Job
    pattern: LayerPattern
    stack: Stack
    change: DepthChange
    factors: tuple[float, ...]
    passes: tuple[Pass, ...]
    sidecars: tuple[SourceFile, ...]
    left_behind: Mapping[str, str]
    dropped: Mapping[str, str]
    before: Summary
    after: Summary
    warnings: tuple[str, ...]
    source_shards: tuple[Shard, ...]
    source_state: Mapping[str, str]
    documents: Mapping[str, bytes] = field(default_factory=dict)

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
        """Bytes of tensor data in all shards, headers apart."""
        return sum(shard.data_nbytes for shard in self.shards)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole output."""
        weights = sum(shard.nbytes for shard in self.shards)
        return weights + sum(file.nbytes for file in self.sidecars) + sum(map(len, self.documents.values()))

    @cached_property
    def clonable_nbytes(self) -> int:
        """Bytes that a file system which shares blocks need not move."""
        return sum(move.clonable_nbytes for shard in self.shards for move in shard.moves())

    @property
    def filenames(self) -> tuple[str, ...]:
        """The name of every file that the output holds."""
        return (*(shard.filename for shard in self.shards), *(file.name for file in self.sidecars), *self.documents)

    def index(self) -> bytes:
        """The bytes of model.safetensors.index.json."""
        metadata = {"total_parameters": self.after.parameters, "total_size": self.total_size}
        return json_bytes({"metadata": metadata, "weight_map": self.weight_map})

    def to_json(self) -> dict[str, Any]:
        """The whole plan as JSON values: every output tensor with the source bytes it is made of."""
        return {
            "source": self.job.source,
            "revision": self.job.revision,
            "layers": list(self.pattern.sources),
            "entries": list(self.job.layers),
            "stack": self.stack.name,
            "init": self.job.init,
            "factors": list(self.factors),
            "before": _summary_json(self.before),
            "after": _summary_json(self.after),
            "layout": "mirror" if self.job.max_shard_nbytes is None else "model order",
            "total_size": self.total_size,
            "clonable_nbytes": self.clonable_nbytes,
            "config_changes": [
                {"path": change.path, "before": change.before, "after": change.after, "reason": change.reason}
                for change in self.change.changes
            ],
            "shards": [_shard_json(shard) for shard in self.shards],
            "sidecars": [file.name for file in self.sidecars],
            "documents": list(self.documents),
            "dropped": dict(self.dropped),
            "left_behind": dict(self.left_behind),
            "warnings": list(self.warnings),
        }


def json_bytes(value: Any) -> bytes:
    """JSON as this project writes it: two spaces, UTF-8 as it is, keys in the order given, one newline at the end."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _summary_json(summary: Summary) -> dict[str, int | None]:
    return {
        "layers": summary.layers,
        "parameters": summary.parameters,
        "nbytes": summary.nbytes,
        "bf16_nbytes": summary.bf16_nbytes,
        "kv_cache_nbytes_per_token": summary.kv_cache_nbytes,
    }


def _shard_json(shard: ShardPlan) -> dict[str, Any]:
    return {
        "filename": shard.filename,
        "nbytes": shard.nbytes,
        "data_start": len(shard.header),
        "tensors": [
            {
                "name": item.target.name,
                "dtype": item.target.dtype,
                "shape": list(item.target.shape),
                "data_offsets": list(item.target.data_offsets),
                "source": item.source,
                "pieces": [[piece.filename, piece.start, piece.stop] for piece in item.pieces],
                "transform": _transform_json(item.transform),
            }
            for item in shard.items
        ],
    }


def _transform_json(transform: Transform) -> Any:
    match transform:
        case None:
            return None
        case Zero():
            return "zero"
        case Scale(factor, offset):
            return {"scale": factor, "offset": offset}
        case Gather(sources=sources):
            return {"gather": list(sources)}
