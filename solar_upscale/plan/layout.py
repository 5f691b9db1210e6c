"""How output tensors are laid out in shards.

The mirror layout follows the source's shards so that source and target offsets agree modulo 4096. Then a file system
that shares blocks moves no data, and reading one source shard once completes its output shards. The model layout is
the conventional one: tensors in natural order of their names, in shards of a maximum size.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

from solar_upscale.errors import UnsupportedError
from solar_upscale.plan.transform import Transform
from solar_upscale.plan.types import Pass, Piece, ShardPlan, WriteItem
from solar_upscale.source.header import (
    BLOCK_NBYTES,
    DTYPE_BITS,
    MAX_HEADER_NBYTES,
    MAX_TENSORS,
    TensorInfo,
    build_header,
)

__all__ = ["Target", "mirror_layout", "model_layout"]

# A shorter run, in bytes, does not get a shard of its own: it is appended to one, and copied if it cannot be cloned.
SHORT_RUN_NBYTES = 64 * 2**20

# Maximum number of output shards for one source shard, as a multiple of the fewest that could hold its bytes.
MAX_SPREAD = 2

# Maximum number of tensors in an output shard; with names of ordinary length, its header stays far below the limit.
MAX_SHARD_TENSORS = MAX_TENSORS // 2


class Target(NamedTuple):
    """An output tensor not yet assigned to a shard. ``occurrence`` counts the uses of its source tensor, from 0."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    source: str
    occurrence: int
    pieces: tuple[Piece, ...]
    transform: Transform = None

    @property
    def start(self) -> int:
        """Offset of its first byte in the source file."""
        return self.pieces[0].start


@dataclass(slots=True)
class _OpenShard:
    """A shard being laid out: the residue of its data start modulo the block size, and its tensors so far."""

    residue: int
    targets: list[Target]
    nbytes: int = 0


def mirror_layout(targets: Iterable[Sequence[Target]], source_nbytes: Sequence[int]) -> tuple[Pass, ...]:
    """One pass for each source shard that is used, from its targets and its size in bytes.

    First occurrences come in source order, then second ones, and so on. A run (tensors adjacent in the source) goes to
    the first open shard where its offset agrees with the source's modulo 4096, or else to a new shard; a short run, or
    one that would spread the output over too many shards, is appended instead. No shard outgrows its source shard.

    Raises:
        UnsupportedError: the names are so long that a shard's header would exceed the limit of the format's readers.
    """
    shards_of = [_mirror(group, limit) for group, limit in zip(targets, source_nbytes, strict=True)]
    count = sum(map(len, shards_of))
    passes, number = [], 0
    for shards in shards_of:
        plans = []
        for shard in shards:
            number += 1
            plans.append(_shard_plan(_shard_name(number, count), shard.targets, residue=shard.residue))
        if plans:
            passes.append(Pass(tuple(plans)))
    return tuple(passes)


def model_layout(targets: Iterable[Target], max_shard_nbytes: int) -> tuple[Pass, ...]:
    """Tensors in natural order of their names, a new shard whenever the next would exceed the limit, a pass per shard.

    A tensor larger than the limit gets a shard of its own.

    Raises:
        UnsupportedError: as ``mirror_layout``.
    """
    shards: list[list[Target]] = []
    room = 0
    for target in sorted(targets, key=lambda target: _natural(target.name)):
        if not shards or target.nbytes > room or len(shards[-1]) == MAX_SHARD_TENSORS:
            shards.append([])
            room = max_shard_nbytes
        shards[-1].append(target)
        room -= target.nbytes
    for shard in shards:
        _sort_by_element(shard)
    return tuple(
        Pass((_shard_plan(_shard_name(number, len(shards)), shard, residue=None),))
        for number, shard in enumerate(shards, start=1)
    )


def _mirror(targets: Sequence[Target], source_nbytes: int) -> list[_OpenShard]:
    total = sum(target.nbytes for target in targets)
    room = max(source_nbytes, SHORT_RUN_NBYTES)
    spread = MAX_SPREAD * max(1, -(-total // room))
    shards: list[_OpenShard] = []
    for run in _runs(targets):
        _append_run(run, shards, room=room, spread=spread)
    for shard in shards:
        if not _keeps_alignment(shard.targets, 0):
            _sort_by_element(shard.targets)
    return shards


def _runs(targets: Sequence[Target]) -> Iterable[list[Target]]:
    """Tensors that are adjacent in the source and stay so, in groups: their values may change, but not their sizes."""
    run: list[Target] = []
    for target in sorted(targets, key=lambda target: (target.occurrence, target.start)):
        if run and (len(run) == MAX_SHARD_TENSORS or not _follows(run[-1], target)):
            yield run
            run = []
        run.append(target)
    if run:
        yield run


def _follows(before: Target, target: Target) -> bool:
    return (
        before.occurrence == target.occurrence
        and before.pieces[-1].stop == target.start
        and _keeps_size(before)
        and _keeps_size(target)
    )


def _keeps_size(target: Target) -> bool:
    return len(target.pieces) == 1 and target.nbytes == target.pieces[0].nbytes


def _append_run(run: list[Target], shards: list[_OpenShard], *, room: int, spread: int) -> None:
    nbytes = sum(target.nbytes for target in run)
    residue = run[0].start % BLOCK_NBYTES
    fitting = [
        shard
        for shard in shards
        if shard.nbytes + nbytes <= room and len(shard.targets) + len(run) <= MAX_SHARD_TENSORS
    ]
    agreeing = [shard for shard in fitting if (shard.residue + shard.nbytes) % BLOCK_NBYTES == residue]
    aligned = [shard for shard in fitting if _keeps_alignment(run, shard.nbytes)]
    is_spread_out = len(shards) >= spread
    if agreeing:
        shard = agreeing[0]
    elif aligned and (nbytes < SHORT_RUN_NBYTES or residue % 8 or is_spread_out):
        shard = aligned[-1]
    elif fitting and is_spread_out:
        shard = fitting[-1]  # misaligned until _mirror sorts the shard
    else:
        shard = _OpenShard(residue - residue % 8, [])
        shards.append(shard)
    shard.targets.extend(run)
    shard.nbytes += nbytes


def _keeps_alignment(run: Sequence[Target], start: int) -> bool:
    """Whether every tensor would start at a multiple of its element size, as using its data in place requires."""
    for target in run:
        if start % _element_nbytes(target.dtype):
            return False
        start += target.nbytes
    return True


def _sort_by_element(targets: list[Target]) -> None:
    """Sort larger elements first, as safetensors itself does: then every tensor is aligned, whatever its size."""
    targets.sort(key=lambda target: -_element_nbytes(target.dtype))


def _element_nbytes(dtype: str) -> int:
    return max(1, DTYPE_BITS[dtype] // 8)


def _shard_plan(filename: str, targets: Sequence[Target], *, residue: int | None) -> ShardPlan:
    items, start = [], 0
    for target in targets:
        info = TensorInfo(target.name, target.dtype, target.shape, (start, start + target.nbytes))
        items.append(WriteItem(info, target.source, target.pieces, target.transform))
        start += target.nbytes
    header = build_header([item.target for item in items], residue=residue)
    if len(header) > MAX_HEADER_NBYTES:
        raise UnsupportedError(
            f"{filename}: its header would have {len(header)} bytes; the limit is {MAX_HEADER_NBYTES} (25 MiB); use a "
            "smaller --max-shard-size"
        )
    return ShardPlan(filename, header, tuple(items))


def _shard_name(number: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """A sort key that puts layer 2 before layer 10: numbers compare by their length, then by their digits."""
    parts = re.split(r"0*([0-9]+)", name)  # text and digits alternate
    is_number = cycle((False, True))
    return tuple((len(part) if number else 0, part) for part, number in zip(parts, is_number, strict=False))
