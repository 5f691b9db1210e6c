"""Carry a plan out, pass by pass. Every decision was taken in the plan; here bytes move and the folder is committed.

A pass runs in this thread or in any ``concurrent.futures.Executor``: threads, processes, or other machines that see
the same paths. Workers stop when the file WANTED_NAME vanishes from the work folder, which all of them can see.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from solar_upscale._version import __version__
from solar_upscale.errors import CheckpointError, OutputError, printable
from solar_upscale.plan.transform import Zero, transform_chunks
from solar_upscale.plan.types import Move, Pass, ShardPlan, UpscalePlan
from solar_upscale.report.output_files import output_filenames, render_output_files
from solar_upscale.source.protocol import STREAM_NBYTES, Source, SourceFile
from solar_upscale.write.commit import (
    check_room,
    has_file,
    remove_leftovers,
    told_as_output_error,
    unfinished,
    write_bytes,
    write_file,
)
from solar_upscale.write.move import Moved, Mover, WriteBehind, can_clone, write_all, zero_range
from solar_upscale.write.work_files import WANTED_NAME

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = [
    "Depot",
    "ShardDone",
    "bytes_by_way",
    "execute",
    "fetch_needed",
    "forget_leftovers",
    "planned_bytes",
    "write_pass",
]


_log = logging.getLogger("solar_upscale")

OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard that has its final name in the work folder. ``kept`` says that an earlier run wrote it."""

    filename: str
    path: Path
    nbytes: int
    moved: Moved = field(default_factory=Moved)
    kept: bool = False


class Depot(Protocol):
    """Where finished shards may be brought instead of staying in the folder."""

    def open(self, folder: Path) -> Set[str]:
        """Look at the work folder, before anything is written, and return which shards are away; the set may grow."""

    @property
    def record(self) -> str | None:
        """The file in the folder that says what is away, which becomes part of the output."""


def execute(
    plan: UpscalePlan,
    source: Source,
    output: Path,
    *,
    overwrite: bool = False,
    depot: Depot | None = None,
    executor: "Executor | None" = None,
    on_bytes: OnBytes = lambda nbytes: None,
) -> Iterator[ShardDone]:
    """Write ``output`` whole, yielding each shard when it is finished; OUT appears after the last one.

    A consumer that stops early, or an error, leaves the unfinished folder for the next run to go on with.

    Raises:
        OutputError: ``output`` cannot be written, or holds something else.
        CheckpointError, HubError: the source cannot be read as planned.
    """
    with unfinished(output, job=_job_text(plan), state=_state_text(plan), overwrite=overwrite) as work:
        if work.restarted:
            _log.warning(
                "%s: the source or this program has changed since the run that was stopped; starting afresh",
                printable(str(output)),
            )
        away = depot.open(work.folder) if depot else frozenset[str]()
        done, todo = _what_is_left(plan, work.folder, away)
        for each in done:
            on_bytes(each.nbytes)
        yield from done
        at_once = [max(todo, key=lambda each: each.nbytes)] if todo and depot and depot.record else todo
        check_room(work.folder, _needed_nbytes(plan, at_once, source, work.folder))
        yield from _run(todo, source, work.folder, plan.nbytes, executor, on_bytes)
        digests = {file.name: _write_sidecar(work.folder, file, source) for file in plan.sidecars}
        for name, data in render_output_files(plan, digests).items():
            write_bytes(work.folder, name, data)
        _refuse_changed(plan, source)
        kept = [name for name in output_filenames(plan) if name not in away]
        work.publish([*kept, depot.record] if depot and depot.record else kept)


def fetch_needed(plan: UpscalePlan, source: Source) -> None:
    """Have the files that a plan uses made local side by side, where the source is one that downloads.

    Raises:
        CheckpointError, HubError: one cannot be had.
    """
    pieces = (piece for shard in plan.shards for item in shard.items for piece in item.pieces)
    source.fetch(sorted({*(piece.filename for piece in pieces), *(file.name for file in plan.sidecars)}))


def bytes_by_way(done: Iterable[ShardDone]) -> dict[str, int]:
    """How many bytes of tensor data were cloned, copied, made zero, or kept from an earlier run."""
    done = list(done)
    return {
        "cloned": sum(each.moved.cloned for each in done),
        "copied": sum(each.moved.copied for each in done),
        "zeroed": sum(each.moved.zeroed for each in done),
        "kept": sum(each.nbytes for each in done if each.kept),
    }


def forget_leftovers(plan: UpscalePlan, output: Path) -> None:
    """Remove what a stop just after the last rename left beside an OUT that is the finished result of ``plan``."""
    remove_leftovers(output, job=_job_text(plan))


def write_pass(
    each: Pass, source: Source, folder: Path, output_nbytes: int, on_bytes: OnBytes | None = None
) -> list[ShardDone]:
    """Write a pass's shards into the work folder: what an executor is given.

    Raises:
        OutputError, CheckpointError, HubError: as ``execute``.
    """
    heard = on_bytes or _while_wanted(folder)
    filenames = {move.filename for shard in each.shards for move in shard.moves()}
    if all(source.local_path(name) is not None for name in filenames):
        mover = Mover()
        return [_write_shard(shard, source, folder, mover, output_nbytes, heard) for shard in each.shards]
    return _write_streamed(each, source, folder, output_nbytes, heard)


def planned_bytes(source: Source, move: Move) -> Iterable[bytes | memoryview]:
    """The bytes that a move writes, from the source, in chunks of bounded size."""

    def read(start: int, stop: int) -> Iterator[bytes]:
        return source.stream(move.filename, move.source_start + start, move.source_start + stop)

    return transform_chunks(move.transform, move.dtype, move.source_nbytes, read)


# ---------------------------------------------------------------- what to do


def _job_text(plan: UpscalePlan) -> str:
    """What is made of which source: the same for every state that the source's files are in."""
    return json.dumps([asdict(plan.source), asdict(plan.request), sorted(output_filenames(plan))])


def _state_text(plan: UpscalePlan) -> str:
    """What the source's files are now, and what this version of the program makes of them to the byte."""
    return json.dumps(
        {
            "version": __version__,
            "source": dict(plan.source_state),
            "headers": {shard.filename: shard.header_digest for shard in plan.source_shards},
            "shards": {shard.filename: hashlib.sha256(shard.header).hexdigest() for shard in plan.shards},
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in plan.model_files.items()},
        },
        sort_keys=True,
    )


def _what_is_left(plan: UpscalePlan, folder: Path, away: Set[str]) -> tuple[list[ShardDone], list[Pass]]:
    done, todo = [], []
    for each in plan.passes:
        missing = []
        for shard in each.shards:
            if shard.filename in away or has_file(folder, shard.filename, shard.nbytes, shard.header):
                done.append(ShardDone(shard.filename, folder / shard.filename, shard.data_nbytes, kept=True))
            else:
                missing.append(shard)
        if missing:
            todo.append(Pass(tuple(missing)))
    return done, todo


def _needed_nbytes(plan: UpscalePlan, todo: Iterable[Pass], source: Source, folder: Path) -> int:
    """Bytes of disk that the rest of the work takes: none for what can be cloned, tried once on the real files."""
    shards = [shard for each in todo for shard in each.shards]
    needed = sum(shard.nbytes for shard in shards)
    clonable = sum(move.clonable_nbytes for shard in shards for move in shard.moves())
    path = source.local_path(plan.source_shards[0].filename)
    if clonable and path is not None:
        with told_as_output_error(folder), path.open("rb", buffering=0) as file:
            if can_clone(file.fileno(), folder):
                needed -= clonable
    return needed + sum(file.nbytes for file in plan.sidecars) + sum(map(len, plan.model_files.values()))


def _refuse_changed(plan: UpscalePlan, source: Source) -> None:
    """What was read while it changed may be neither the old nor the new."""
    files = source.files()
    changed = [name for name, state in plan.source_state.items() if name not in files or files[name].state != state]
    if changed:
        raise CheckpointError(
            f"{source.name}: {changed[0]} changed while it was read; run the same command again to start afresh"
        )


# ---------------------------------------------------------------- passes


def _run(
    todo: list[Pass], source: Source, folder: Path, output_nbytes: int, executor: "Executor | None", on_bytes: OnBytes
) -> Iterator[ShardDone]:
    if executor is None:
        for each in todo:
            yield from write_pass(each, source, folder, output_nbytes, on_bytes)
        return
    from concurrent.futures import BrokenExecutor, as_completed

    wanted = folder / WANTED_NAME
    wanted.touch()
    futures: list[Future[list[ShardDone]]] = []
    try:
        futures += (executor.submit(write_pass, each, source, folder, output_nbytes) for each in todo)
        for future in as_completed(futures):
            for done in future.result():
                on_bytes(done.nbytes)
                yield done
    except BrokenExecutor as error:
        raise OutputError(f"{folder}: a worker died; run the same command again to go on") from error
    finally:
        with suppress(FileNotFoundError):
            wanted.unlink()
        for future in futures:
            future.cancel()
        for future in futures:
            if not future.cancelled():
                future.exception()  # nobody may be writing here once the lock is given up


def _while_wanted(folder: Path) -> OnBytes:
    def heard(_nbytes: int) -> None:
        if not (folder / WANTED_NAME).exists():
            raise OutputError(f"{folder}: the run that asked for this has stopped")

    return heard


def _write_shard(
    shard: ShardPlan, source: Source, folder: Path, mover: Mover, output_nbytes: int, on_bytes: OnBytes
) -> ShardDone:
    """One shard from local files, front to back."""
    total = Moved()
    with ExitStack() as opened, write_file(folder, shard.filename, shard.nbytes) as target_fd:
        behind = WriteBehind(target_fd, output_nbytes)
        source_fds: dict[str, int] = {}
        write_all(target_fd, 0, shard.header, on_bytes=lambda nbytes: None)
        for move in shard.moves():
            place = move.target_start

            def heard(nbytes: int) -> None:
                nonlocal place
                place += nbytes
                behind.written(place)
                on_bytes(nbytes)

            if isinstance(move.transform, Zero):
                total += zero_range(target_fd, move.target_start, move.target_nbytes, on_bytes=heard)
            elif move.transform is not None:
                total += _write_stream(target_fd, move.target_start, planned_bytes(source, move), heard)
            else:
                if move.filename not in source_fds:
                    source_fds[move.filename] = _open_source(source, move.filename, opened)
                total += mover.move_range(
                    source_fds[move.filename],
                    move.source_start,
                    target_fd,
                    move.target_start,
                    move.target_nbytes,
                    on_bytes=heard,
                    source_name=move.filename,
                )
    return ShardDone(shard.filename, folder / shard.filename, shard.data_nbytes, total)


def _open_source(source: Source, filename: str, opened: ExitStack) -> int:
    path = source.local_path(filename)
    assert path is not None, "the pass was found to be local"
    try:
        return opened.enter_context(path.open("rb", buffering=0)).fileno()
    except OSError as error:
        raise CheckpointError(f"{filename}: cannot be read: {error.strerror or error}") from error


def _write_sidecar(folder: Path, file: SourceFile, source: Source) -> str:
    """Write a file that comes along byte for byte, and return the SHA-256 of what was written."""
    digest = hashlib.sha256()

    def read() -> Iterator[bytes]:
        for chunk in source.stream(file.name, 0, file.nbytes):
            digest.update(chunk)
            yield chunk

    with write_file(folder, file.name, file.nbytes) as target_fd:
        _write_stream(target_fd, 0, read(), lambda nbytes: None)
    return digest.hexdigest()


def _write_stream(target_fd: int, start: int, chunks: Iterable[bytes | memoryview], on_bytes: OnBytes) -> Moved:
    place = start
    for chunk in chunks:
        write_all(target_fd, place, chunk, on_bytes=on_bytes)
        place += len(chunk)
    return Moved(copied=place - start)


# ---------------------------------------------------------------- streamed passes


def _write_streamed(each: Pass, source: Source, folder: Path, output_nbytes: int, on_bytes: OnBytes) -> list[ShardDone]:
    """A pass's shards together, from a source that gives ranges: every needed byte is read once, for all its targets.

    What is changed on the way needs its tensor more than once or out of order; such a tensor is kept in a scratch file
    while it is worked on.
    """
    with ExitStack() as opened:
        files = []
        for shard in each.shards:
            target_fd = opened.enter_context(write_file(folder, shard.filename, shard.nbytes))
            write_all(target_fd, 0, shard.header, on_bytes=lambda nbytes: None)
            os.ftruncate(target_fd, shard.nbytes)  # what is not written below is zero
            files.append((shard, target_fd, WriteBehind(target_fd, output_nbytes)))
        for filename, start, stop, uses in _spans(files):
            _fan_out(source, filename, start, stop, uses, folder, on_bytes)
    return [
        ShardDone(shard.filename, folder / shard.filename, shard.data_nbytes, Moved(copied=shard.data_nbytes))
        for shard in each.shards
    ]


@dataclass(frozen=True, slots=True)
class _Use:
    """A move of the pass, and the open file that it goes to."""

    move: Move
    target_fd: int
    behind: WriteBehind

    @property
    def start(self) -> int:
        return self.move.source_start

    @property
    def stop(self) -> int:
        return self.move.source_start + self.move.source_nbytes


def _spans(files: Iterable[tuple[ShardPlan, int, WriteBehind]]) -> Iterator[tuple[str, int, int, list[_Use]]]:
    """The source ranges that a pass needs, each once, without gaps, with all uses of each in source order."""
    uses = [
        _Use(move, target_fd, behind)
        for shard, target_fd, behind in files
        for move in shard.moves()
        if not isinstance(move.transform, Zero)
    ]
    uses.sort(key=lambda use: (use.move.filename, use.start, use.stop))
    span: list[_Use] = []
    stop = 0
    for use in uses:
        if span and (use.move.filename != span[0].move.filename or use.start > stop):
            yield span[0].move.filename, span[0].start, stop, span
            span = []
        stop = max(stop, use.stop) if span else use.stop
        span.append(use)
    if span:
        yield span[0].move.filename, span[0].start, stop, span


def _fan_out(
    source: Source, filename: str, start: int, stop: int, uses: list[_Use], folder: Path, on_bytes: OnBytes
) -> None:
    """Read a span once and write it to every target that uses it."""
    import tempfile

    waiting = uses[::-1]
    active: list[_Use] = []
    with ExitStack() as opened:
        kept: dict[tuple[int, int], BinaryIO] = {}
        for chunk in source.stream(filename, start, stop):
            end = start + len(chunk)
            while waiting and waiting[-1].start < end:
                active.append(waiting.pop())
            for tensor in {(use.start, use.stop) for use in active if use.move.transform is not None}:
                if tensor not in kept:
                    kept[tensor] = opened.enter_context(tempfile.TemporaryFile(dir=folder))
                kept[tensor].write(_overlap(chunk, start, *tensor))
            for use in active:
                if use.move.transform is None:
                    part = _overlap(chunk, start, use.start, use.stop)
                    place = use.move.target_start + max(start, use.start) - use.start
                    write_all(use.target_fd, place, part, on_bytes=on_bytes)
                    use.behind.written(place + len(part))
                elif use.stop <= end:
                    _write_changed(use, kept[use.start, use.stop], on_bytes)
            active = [use for use in active if use.stop > end]
            for tensor in [tensor for tensor in kept if tensor[1] <= end]:
                kept.pop(tensor).close()
            start = end


def _overlap(chunk: bytes, chunk_start: int, start: int, stop: int) -> memoryview:
    return memoryview(chunk)[max(0, start - chunk_start) : max(0, stop - chunk_start)]


def _write_changed(use: _Use, scratch: BinaryIO, on_bytes: OnBytes) -> None:
    def read(start: int, stop: int) -> Iterator[bytes]:
        scratch.seek(start)
        while start < stop:
            chunk = scratch.read(min(STREAM_NBYTES, stop - start))
            start += len(chunk)
            yield chunk

    move = use.move
    chunks = transform_chunks(move.transform, move.dtype, move.source_nbytes, read)
    _write_stream(use.target_fd, move.target_start, chunks, on_bytes)
    use.behind.written(move.target_start + move.target_nbytes)
