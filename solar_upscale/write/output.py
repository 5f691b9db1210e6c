"""Writes a plan to OUT: a locked folder, shards that are finished one by one, and one rename at the end."""

import json
import logging
import os
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from solar_upscale._version import __version__
from solar_upscale.digest import digest_bytes, digest_chunks
from solar_upscale.errors import CheckpointError, printable
from solar_upscale.plan.types import Pass, ShardPlan, UpscalePlan
from solar_upscale.report.output_files import output_filenames, render_output_files
from solar_upscale.source.protocol import Source, SourceFile
from solar_upscale.source.second_reader import check_with_safetensors
from solar_upscale.write.commit import (
    Unfinished,
    check_room,
    output_errors,
    refuse_overlap,
    remove_leftovers,
    unfinished,
    would_resume,
    write_bytes,
    write_file,
)
from solar_upscale.write.move import can_clone, write_all
from solar_upscale.write.passes import run_passes
from solar_upscale.write.shards import FinishedShard, OnBytes, find_finished

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["OpenOutput", "check_output", "forget_leftovers", "open_output", "refuse_overlap_with_source"]

_log = logging.getLogger("solar_upscale")


@contextmanager
def open_output(plan: UpscalePlan, source: Source, output: Path, *, overwrite: bool = False) -> Iterator["OpenOutput"]:
    """The locked folder in which ``output`` is written; if it exits without ``finish``, the next run resumes.

    Raises:
        OutputError: ``output`` cannot be written, holds something else, or is being written by another run.
    """
    refuse_overlap_with_source(source, output)
    with unfinished(output, job=_job_text(plan), state=_state_text(plan), overwrite=overwrite) as work:
        if work.restarted:
            _log.warning(
                "%s: the source or solar-upscale has changed since the interrupted run; starting over",
                printable(str(output)),
            )
        with ExitStack() as running:
            yield OpenOutput(plan, source, work, running)


@dataclass(frozen=True, slots=True)
class OpenOutput:
    """An output being written: iterate over its ``shards``, then ``finish`` it."""

    plan: UpscalePlan
    source: Source
    work: Unfinished
    running: ExitStack  # ends the passes before the folder's lock is released

    @property
    def folder(self) -> Path:
        """The folder of the finished shards until ``finish``."""
        return self.work.folder

    def shards(
        self,
        *,
        skip: Collection[str] = (),
        shards_stay: bool = True,
        executor: "Executor | None" = None,
        on_bytes: OnBytes = lambda nbytes: None,
    ) -> Iterator[FinishedShard]:
        """Yield each shard once it is finished, first those of an earlier run. Stopping early leaves work to resume.

        Args:
            skip: Names of shards that are no longer needed here.
            shards_stay: Whether shards stay in the folder. If not, disk space is needed for one pass at a time only.
            executor: Runs the passes in parallel; by default they run one after another in this thread.
            on_bytes: Called with the number of bytes written since the last call, and with the size of each shard that
                an earlier run wrote.

        Raises:
            OutputError: the disk is too small, full or failing.
            CheckpointError, HubError: the source cannot be read as planned.
        """
        shards = self._shards(skip, shards_stay, executor, on_bytes)
        self.running.callback(shards.close)
        return shards

    def finish(self, *, without: Collection[str] = (), extra: Sequence[str] = ()) -> None:
        """Write the small files and rename the folder to OUT, which is then complete.

        Args:
            without: Names of shards that are not in the folder and need not be.
            extra: Names of other files in the folder that become part of the output.

        Raises:
            OutputError: a file is missing, or the disk fails.
            CheckpointError: the source has changed since the plan was made.
        """
        digests = {file.name: self._copy(file) for file in self.plan.copied_files}
        for name, data in render_output_files(self.plan, digests).items():
            write_bytes(self.folder, name, data)
        self._refuse_changed_source()
        self.work.publish([*(name for name in output_filenames(self.plan) if name not in without), *extra])

    def _shards(
        self, skip: Collection[str], shards_stay: bool, executor: "Executor | None", on_bytes: OnBytes
    ) -> Generator[FinishedShard, None, None]:
        planned = {shard.filename: shard for shard in self.plan.shards}
        needed = [_without(each, skip) for each in self.plan.passes]
        self._fetch(needed)
        kept = self._kept(needed)
        for shard in kept.values():
            _log.info("%s: kept from an earlier run", shard.filename)
            on_bytes(shard.data_nbytes)
            yield _checked(shard, planned[shard.filename])
        passes = [each for each in (_without(each, kept) for each in needed) if each.shards]
        on_disk_together = passes if shards_stay else sorted(passes, key=lambda each: each.nbytes)[-1:]
        check_room(self.folder, self._needed_nbytes(on_disk_together))
        finished = run_passes(
            passes, self.source, self.folder, output_nbytes=self.plan.nbytes, executor=executor, on_bytes=on_bytes
        )
        with closing(finished):
            for shard in finished:
                _log.info("%s: written", shard.filename)
                yield _checked(shard, planned[shard.filename])

    def _fetch(self, passes: Sequence[Pass]) -> None:
        """Download the needed files concurrently, if the source is one that downloads."""
        items = (item for each in passes for shard in each.shards for item in shard.items)
        weights = {piece.filename for item in items for piece in item.pieces}
        self.source.fetch(sorted({*weights, *(file.name for file in self.plan.copied_files)}))

    def _kept(self, passes: Sequence[Pass]) -> dict[str, FinishedShard]:
        found = (find_finished(shard, self.source, self.folder) for each in passes for shard in each.shards)
        return {shard.filename: shard for shard in found if shard is not None}

    def _needed_nbytes(self, passes: Sequence[Pass]) -> int:
        """Disk space that the passes still need, in bytes: none for what can be cloned, as one real clone shows."""
        shards = [shard for each in passes for shard in each.shards]
        needed = sum(shard.nbytes for shard in shards)
        clonable = sum(move.clonable_nbytes for shard in shards for move in shard.moves())
        if clonable and _clones_into(self.folder, self.plan, self.source):
            needed -= clonable
        small = sum(file.nbytes for file in self.plan.copied_files) + sum(map(len, self.plan.model_files.values()))
        return needed + small

    def _copy(self, file: SourceFile) -> str:
        """Copy a file of the source unchanged, and return the digest of the bytes written."""

        def copied(target_fd: int) -> Iterator[bytes]:
            offset = 0
            for chunk in self.source.stream(file.name, 0, file.nbytes):
                write_all(target_fd, offset, chunk, on_bytes=lambda nbytes: None)
                offset += len(chunk)
                yield chunk

        with write_file(self.folder, file.name, file.nbytes) as target_fd:
            return digest_chunks(copied(target_fd))

    def _refuse_changed_source(self) -> None:
        """Refuse a source that changed while it was read: the output could be a mix of old and new."""
        files, states = self.source.files(), self.plan.source_state
        changed = [name for name, state in states.items() if name not in files or files[name].state != state]
        if changed:
            raise CheckpointError(
                f"{self.source.name}: {changed[0]} changed while it was read; run the same command again to start over"
            )


def check_output(
    plan: UpscalePlan, source: Source, output: Path, *, overwrite: bool = False, shards_stay: bool = True
) -> str:
    """What ``open_output`` would find at ``output``, in words; nothing is locked, and no file stays.

    Raises:
        OutputError: it would refuse, or the disk is too small for shards that stay.
    """
    refuse_overlap_with_source(source, output)
    if would_resume(output, job=_job_text(plan), overwrite=overwrite):
        return "an interrupted run of this job will be resumed"
    existing = next(path for path in (output, *output.absolute().parents) if path.is_dir())
    if shards_stay:
        saved = plan.clonable_nbytes if _clones_into(existing, plan, source) else 0
        check_room(existing, plan.nbytes - saved)
    if not os.path.lexists(output):
        return "does not exist yet"
    return "will be replaced" if overwrite and any(output.iterdir()) else "is empty"


def forget_leftovers(plan: UpscalePlan, output: Path) -> None:
    """Remove leftovers of a run that was killed just after the final rename; OUT is the finished result of ``plan``."""
    remove_leftovers(output, job=_job_text(plan))


def refuse_overlap_with_source(source: Source, output: Path) -> None:
    """Check that ``output`` neither is in a local source's folder nor contains it.

    Raises:
        OutputError: it does.
    """
    config = source.local_path("config.json")
    if config is not None:
        refuse_overlap(config.parent, output)


def _clones_into(folder: Path, plan: UpscalePlan, source: Source) -> bool:
    """Whether files in ``folder`` can share blocks with the source, as one real clone shows."""
    path = source.local_path(plan.source_shards[0].filename)
    if path is None:
        return False
    with output_errors(folder), path.open("rb", buffering=0) as file:
        return can_clone(file.fileno(), folder)


def _checked(shard: FinishedShard, planned: ShardPlan) -> FinishedShard:
    """The shard, once the safetensors library has opened it and read the planned tensors.

    Raises:
        CheckpointError: it read something else; the file is removed, so that no later run keeps it.
    """
    try:
        note = check_with_safetensors(shard.path, shard.filename, (item.target for item in planned.items))
    except CheckpointError:
        shard.path.unlink(missing_ok=True)
        raise
    if note:
        _log.warning("%s", printable(note))
    return shard


def _without(each: Pass, filenames: Collection[str]) -> Pass:
    return Pass(tuple(shard for shard in each.shards if shard.filename not in filenames))


def _job_text(plan: UpscalePlan) -> str:
    """Identifies the job: what is made from which source, whatever state the source's files are in."""
    return json.dumps([asdict(plan.source), asdict(plan.request), sorted(output_filenames(plan))])


def _state_text(plan: UpscalePlan) -> str:
    """Identifies the state of the source's files, and the bytes that this version of the program makes from them."""
    return json.dumps(
        {
            "version": __version__,
            "source": dict(plan.source_state),
            "headers": {shard.filename: shard.header_digest for shard in plan.source_shards},
            "shards": {shard.filename: digest_bytes(shard.header) for shard in plan.shards},
            "files": {name: digest_bytes(data) for name, data in plan.model_files.items()},
        },
        sort_keys=True,
    )
