"""One finished shard, read back and proved before anybody relies on it.

Where it was streamed, each tensor must have the digest of the bytes that arrived, so the source is not asked again;
where the source is local, its bytes are compared. That what arrives is what the Hub lists is source/hub/'s to check.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from solar_upscale.digest import digest_chunks
from solar_upscale.errors import CheckpointError
from solar_upscale.plan.transform import Zero
from solar_upscale.plan.types import Move, ShardPlan
from solar_upscale.source.folder import next_chunks
from solar_upscale.source.protocol import Source
from solar_upscale.verify.compare import same_bytes
from solar_upscale.write.shards import Digests, planned_bytes

__all__ = ["check_shard"]


def check_shard(shard: ShardPlan, path: Path, source: Source, digests: Digests | None = None) -> None:
    """Check every byte of a finished shard.

    Args:
        shard: What was planned.
        path: The file.
        source: What it was made from; only asked where there are no digests.
        digests: Those of a ``FinishedShard``.

    Raises:
        CheckpointError: a byte is not what the plan says; names the tensor.
        HubError: the source cannot be read.
    """
    known = None if digests is None else iter(digests)
    try:
        with path.open("rb", buffering=0) as file:
            if path.stat().st_size != shard.nbytes or file.read(len(shard.header)) != shard.header:
                raise CheckpointError(f"{shard.filename}: header or size are not what the plan says")
            for item, move in shard.tensor_moves():
                if not _is_right(file, move, source, known):
                    raise CheckpointError(
                        f"{shard.filename}: {item.target.name}: what was written is not the source's bytes; check the "
                        "disk, remove the file, and run the same command again"
                    )
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def _is_right(file: BinaryIO, move: Move, source: Source, digests: Iterator[str] | None) -> bool:
    """Whether the next bytes of the file are those of the move."""
    written = next_chunks(file, move.target_nbytes)
    if digests is not None and not isinstance(move.transform, Zero):
        return digest_chunks(written) == next(digests, None)
    return same_bytes(written, planned_bytes(source, move))
