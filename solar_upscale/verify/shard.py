"""Reads a finished shard back and verifies it before anything depends on it.

If it was streamed, each tensor must match the digest of the bytes received, so the source is not read again; if the
source is local, the bytes are compared. source/hub/ checks what is received against the Hub's own hashes.
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
        shard: The planned shard.
        path: The finished file.
        source: The source; read only if there are no digests.
        digests: ``FinishedShard.digests``.

    Raises:
        CheckpointError: a byte is not as planned; names the tensor.
        HubError: the source cannot be read.
    """
    remaining = None if digests is None else iter(digests)
    try:
        with path.open("rb", buffering=0) as file:
            if path.stat().st_size != shard.nbytes or file.read(len(shard.header)) != shard.header:
                raise CheckpointError(f"{shard.filename}: the header or the size is not as planned")
            for item, move in shard.tensor_moves():
                if not _is_as_planned(file, move, source, remaining):
                    raise CheckpointError(
                        f"{shard.filename}: {item.target.name}: the bytes on disk differ from the source's; check the "
                        "disk, remove the file, and run the same command again"
                    )
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def _is_as_planned(file: BinaryIO, move: Move, source: Source, digests: Iterator[str] | None) -> bool:
    """Whether the next bytes of the file are those of the move."""
    written = next_chunks(file, move.target_nbytes)
    if digests is not None and not isinstance(move.transform, Zero):
        return digest_chunks(written) == next(digests, None)
    return same_bytes(written, planned_bytes(source, move))
