"""Writes a pass from a source that is read by ranges: every byte that its shards need is fetched once, for all of them.

A transform needs its tensor more than once or out of order, so such a tensor is kept in a scratch file meanwhile.
Everything written is hashed on the way, so that the shards can be verified without the source.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from solar_upscale.plan.transform import Transform, Zero, transform_chunks
from solar_upscale.plan.types import Move, Pass, ShardPlan
from solar_upscale.source.folder import next_chunks
from solar_upscale.source.protocol import Source
from solar_upscale.write.commit import write_file
from solar_upscale.write.move import Moved, WriteBehind, write_all
from solar_upscale.write.shards import Digests, FinishedShard, OnBytes, save_digests, source_moves

__all__ = ["write_streamed"]


def write_streamed(
    each: Pass, source: Source, folder: Path, *, output_nbytes: int, on_bytes: OnBytes
) -> list[FinishedShard]:
    """Write the shards of a pass simultaneously; ``output_nbytes`` is the size of the whole output.

    Raises:
        OutputError: a shard cannot be written.
        CheckpointError, HubError: the source cannot be read as planned.
    """
    with ExitStack() as opened:
        ranges = _Ranges()
        for shard in each.shards:
            ranges.add(shard, _open_target(shard, folder, output_nbytes, opened, on_bytes))
        for span in _spans(ranges.in_source_order()):
            _stream_span(source, span, folder, on_bytes)
        finished = [_finished(shard, folder, ranges.digests(shard)) for shard in each.shards]
        for shard, done in zip(each.shards, finished, strict=True):
            assert done.digests is not None, "streamed shards have digests"
            save_digests(shard, folder, done.digests)
    return finished


@dataclass(frozen=True, slots=True)
class _Target:
    """An open shard that is written from many ranges."""

    fd: int
    behind: WriteBehind

    def write(self, offset: int, chunk: bytes | memoryview, on_bytes: OnBytes) -> None:
        write_all(self.fd, offset, chunk, on_bytes=on_bytes)
        self.behind.written(offset + len(chunk))


@dataclass(slots=True)
class _Use:
    """One transform of a range, and the targets that its bytes are written to."""

    transform: Transform
    dtype: str
    targets: list[tuple[_Target, int]] = field(default_factory=list)
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def write(self, offset: int, chunk: bytes | memoryview, on_bytes: OnBytes) -> None:
        """Write a chunk to each target, ``offset`` bytes after the target's start."""
        self.digest.update(chunk)
        for target, start in self.targets:
            target.write(start + offset, chunk, on_bytes)


@dataclass(slots=True)
class _Range:
    """Bytes [start, stop) of a source file that the pass needs as one piece."""

    filename: str
    start: int
    stop: int
    uses: dict[tuple[Transform, str], _Use] = field(default_factory=dict)

    @property
    def is_transformed(self) -> bool:
        return any(use.transform is not None for use in self.uses.values())


class _Ranges:
    """The ranges that a pass reads, each once, with all their uses."""

    def __init__(self) -> None:
        self._ranges: dict[tuple[str, int, int], _Range] = {}

    def add(self, shard: ShardPlan, target: _Target) -> None:
        for move in source_moves(shard):
            self._use(move).targets.append((target, move.target_start))

    def digests(self, shard: ShardPlan) -> Digests:
        """``FinishedShard.digests``, once everything has been read."""
        return tuple(self._use(move).digest.hexdigest() for move in source_moves(shard))

    def in_source_order(self) -> list[_Range]:
        return sorted(self._ranges.values(), key=lambda each: (each.filename, each.start, each.stop))

    def _use(self, move: Move) -> _Use:
        stop = move.source_start + move.source_nbytes
        key = move.filename, move.source_start, stop
        found = self._ranges.setdefault(key, _Range(*key))
        return found.uses.setdefault((move.transform, move.dtype), _Use(move.transform, move.dtype))


def _open_target(shard: ShardPlan, folder: Path, output_nbytes: int, opened: ExitStack, on_bytes: OnBytes) -> _Target:
    target_fd = opened.enter_context(write_file(folder, shard.filename, shard.nbytes))
    write_all(target_fd, 0, shard.header, on_bytes=lambda nbytes: None)
    os.ftruncate(target_fd, shard.nbytes)  # bytes that are not written below are zero
    on_bytes(_zero_nbytes(shard))
    return _Target(target_fd, WriteBehind(target_fd, output_nbytes))


def _finished(shard: ShardPlan, folder: Path, digests: Digests) -> FinishedShard:
    zeroed = _zero_nbytes(shard)
    changed = sum(move.target_nbytes for move in source_moves(shard) if move.transform is not None)
    moved = Moved(copied=shard.data_nbytes - changed - zeroed, changed=changed, zeroed=zeroed)
    return FinishedShard(shard.filename, folder / shard.filename, shard.data_nbytes, moved, digests=digests)


def _zero_nbytes(shard: ShardPlan) -> int:
    return sum(move.target_nbytes for _, move in shard.tensor_moves() if isinstance(move.transform, Zero))


def _spans(ranges: Iterable[_Range]) -> Iterator[Sequence[_Range]]:
    """Ranges in source order, in groups without gaps: each group is one request."""
    span: list[_Range] = []
    stop = 0
    for each in ranges:
        if span and (each.filename != span[0].filename or each.start > stop):
            yield span
            span = []
        stop = max(stop, each.stop) if span else each.stop
        span.append(each)
    if span:
        yield span


def _stream_span(source: Source, span: Sequence[_Range], folder: Path, on_bytes: OnBytes) -> None:
    """Read a span once, and write each of its ranges to its targets."""
    start = span[0].start
    pending = list(reversed(span))
    active: list[tuple[_Range, IO[bytes] | None]] = []
    with ExitStack() as opened:
        for chunk in source.stream(span[0].filename, start, max(each.stop for each in span)):
            stop = start + len(chunk)
            while pending and pending[-1].start < stop:
                each = pending.pop()
                active.append((each, _open_scratch(each, folder, opened)))
            for each, scratch in active:
                offset = max(0, start - each.start)
                part = memoryview(chunk)[max(0, each.start - start) : each.stop - start]
                _write_part(each, scratch, offset, part, on_bytes)
                if each.stop <= stop and scratch is not None:
                    _write_transformed(each, scratch, on_bytes)
                    scratch.close()
            active = [pair for pair in active if pair[0].stop > stop]
            start = stop


def _open_scratch(each: _Range, folder: Path, opened: ExitStack) -> IO[bytes] | None:
    if not each.is_transformed:
        return None
    import tempfile

    return opened.enter_context(tempfile.TemporaryFile(dir=folder))


def _write_part(each: _Range, scratch: IO[bytes] | None, offset: int, part: memoryview, on_bytes: OnBytes) -> None:
    if scratch is not None:
        scratch.write(part)
    for use in each.uses.values():
        if use.transform is None:
            use.write(offset, part, on_bytes)


def _write_transformed(each: _Range, scratch: IO[bytes], on_bytes: OnBytes) -> None:
    """Write the transforms of a range, which is complete in the scratch file."""

    def read(start: int, stop: int) -> Iterator[bytes]:
        scratch.seek(start)
        return next_chunks(scratch, stop - start)

    for use in each.uses.values():
        if use.transform is not None:
            offset = 0
            for chunk in transform_chunks(use.transform, use.dtype, each.stop - each.start, read):
                use.write(offset, chunk, on_bytes)
                offset += len(chunk)
