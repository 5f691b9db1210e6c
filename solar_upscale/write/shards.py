"""Writes an output shard from local files, and describes finished shards.

A shard whose source is not local is written by streamed.py, together with the others of its pass.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from solar_upscale.errors import CheckpointError
from solar_upscale.plan.transform import Zero, transform_chunks
from solar_upscale.plan.types import Move, ShardPlan
from solar_upscale.source.protocol import Source
from solar_upscale.write.commit import has_file, write_bytes, write_file
from solar_upscale.write.move import Moved, Mover, WriteBehind, write_all, zero_range
from solar_upscale.write.work_files import DIGESTS_SUFFIX

__all__ = [
    "Digests",
    "FinishedShard",
    "OnBytes",
    "find_finished",
    "is_local",
    "nbytes_by_method",
    "planned_bytes",
    "save_digests",
    "source_moves",
    "write_chunks",
    "write_shard",
]

OnBytes = Callable[[int], None]
"""Is called with a number of bytes each time some were moved, and may raise to stop."""

Digests = tuple[str, ...]
"""The SHA-256 of the bytes that each of ``source_moves(shard)`` wrote, in that order."""


@dataclass(frozen=True, slots=True)
class FinishedShard:
    """A shard that is complete, on disk, and has its final name in the work folder.

    ``kept`` means that an earlier run wrote it; ``moved`` is then empty. ``digests`` are those of the bytes received
    from a streamed source; None if the source is local and can be compared with.
    """

    filename: str
    path: Path
    data_nbytes: int
    moved: Moved = field(default_factory=Moved)
    kept: bool = False
    digests: Digests | None = None


def write_shard(
    shard: ShardPlan, source: Source, folder: Path, mover: Mover, *, output_nbytes: int, on_bytes: OnBytes
) -> FinishedShard:
    """Write a shard front to back from local files; ``output_nbytes`` is the size of the whole output.

    Raises:
        OutputError: the shard cannot be written.
        CheckpointError: a source file cannot be read, or ends early.
    """
    total = Moved()
    with ExitStack() as opened, write_file(folder, shard.filename, shard.nbytes) as target_fd:
        behind = WriteBehind(target_fd, output_nbytes)
        source_fds: dict[str, int] = {}
        write_all(target_fd, 0, shard.header, on_bytes=lambda nbytes: None)
        for move in shard.moves():
            report_progress = _write_behind(behind, move.target_start, on_bytes)
            if isinstance(move.transform, Zero):
                total += zero_range(target_fd, move.target_start, move.target_nbytes, on_bytes=report_progress)
            elif move.transform is not None:
                total += write_chunks(target_fd, move.target_start, planned_bytes(source, move), report_progress)
            else:
                if move.filename not in source_fds:
                    source_fds[move.filename] = _open_source(source, move.filename, opened)
                total += mover.move_range(
                    source_fds[move.filename],
                    move.source_start,
                    target_fd,
                    move.target_start,
                    move.target_nbytes,
                    on_bytes=report_progress,
                    source_name=move.filename,
                )
    return FinishedShard(shard.filename, folder / shard.filename, shard.data_nbytes, total)


def find_finished(shard: ShardPlan, source: Source, folder: Path) -> FinishedShard | None:
    """The shard as an earlier run finished it; None if it must be written, or written again since it cannot be checked.

    Raises:
        OutputError: the disk fails.
    """
    if not has_file(folder, shard.filename, shard.nbytes, shard.header):
        return None
    digests = _load_digests(shard, folder)
    if digests is None and not is_local(source, shard):
        return None
    return FinishedShard(shard.filename, folder / shard.filename, shard.data_nbytes, kept=True, digests=digests)


def is_local(source: Source, shard: ShardPlan) -> bool:
    """Whether all source files of a shard are local."""
    names = {move.filename for move in source_moves(shard)}
    return all(source.local_path(name) is not None for name in names)


def source_moves(shard: ShardPlan) -> Iterator[Move]:
    """The moves of a shard that read the source, one per piece of each tensor."""
    return (move for _, move in shard.tensor_moves() if not isinstance(move.transform, Zero))


def planned_bytes(source: Source, move: Move) -> Iterable[bytes | memoryview]:
    """The bytes that a move writes, computed from the source in chunks of bounded size."""

    def read(start: int, stop: int) -> Iterator[bytes]:
        return source.stream(move.filename, move.source_start + start, move.source_start + stop)

    return transform_chunks(move.transform, move.dtype, move.source_nbytes, read)


def nbytes_by_method(shards: Iterable[FinishedShard]) -> dict[str, int]:
    """How many bytes of tensor data were cloned, copied, changed, zeroed, or kept from an earlier run."""
    shards = list(shards)
    return {
        "cloned": sum(shard.moved.cloned for shard in shards),
        "copied": sum(shard.moved.copied for shard in shards),
        "changed": sum(shard.moved.changed for shard in shards),
        "zeroed": sum(shard.moved.zeroed for shard in shards),
        "kept": sum(shard.data_nbytes for shard in shards if shard.kept),
    }


def write_chunks(target_fd: int, start: int, chunks: Iterable[bytes | memoryview], on_bytes: OnBytes) -> Moved:
    """Write computed chunks one after another, starting at an offset of the target.

    Raises:
        OSError: the disk is full or failing.
    """
    offset = start
    for chunk in chunks:
        write_all(target_fd, offset, chunk, on_bytes=on_bytes)
        offset += len(chunk)
    return Moved(changed=offset - start)


def save_digests(shard: ShardPlan, folder: Path, digests: Digests) -> None:
    """Save the digests of a streamed shard, so that a run that resumes can check it without fetching it again.

    Call this before the shard gets its name, so that a finished shard always has digests.

    Raises:
        OutputError: the disk fails.
    """
    write_bytes(folder, _digests_name(shard), json.dumps(digests).encode())


def _load_digests(shard: ShardPlan, folder: Path) -> Digests | None:
    try:
        values = json.loads((folder / _digests_name(shard)).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(values, list) or len(values) != sum(1 for _ in source_moves(shard)):
        return None
    is_valid = all(isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) for value in values)
    return tuple(values) if is_valid else None


def _digests_name(shard: ShardPlan) -> str:
    return f".{shard.filename}{DIGESTS_SUFFIX}"


def _write_behind(behind: WriteBehind, start: int, on_bytes: OnBytes) -> OnBytes:
    """``on_bytes``, which also starts writing out the bytes from ``start`` on."""
    offset = start

    def report_progress(nbytes: int) -> None:
        nonlocal offset
        offset += nbytes
        behind.written(offset)
        on_bytes(nbytes)

    return report_progress


def _open_source(source: Source, filename: str, opened: ExitStack) -> int:
    path = source.local_path(filename)
    assert path is not None, "callers check that the pass is local"
    try:
        return opened.enter_context(path.open("rb", buffering=0)).fileno()
    except OSError as error:
        raise CheckpointError(f"{filename}: cannot be read: {error.strerror or error}") from error
