"""Carry a plan out, pass by pass. Every decision was taken in the plan; here bytes move and folders are committed.

A pass runs in this thread, or in any ``concurrent.futures.Executor``, threads, processes or other machines that see
the same paths. A worker is told to stop by a file in the unfinished folder, which all of them can see.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from solar_upscale.commit import Unfinished, check_room, unfinished
from solar_upscale.errors import CheckpointError
from solar_upscale.move import Moved, Mover, WriteBehind, can_clone, write_all, zero_range
from solar_upscale.plan import Move, Pass, ShardPlan, UpscalePlan
from solar_upscale.source import Source
from solar_upscale.transform import Zero, transform_chunks

__all__ = ["ShardDone", "execute", "planned_bytes"]


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard that has its final name in the unfinished folder. ``kept`` says that an earlier run wrote it."""

    shard: ShardPlan
    path: Path
    moved: Moved = field(default_factory=Moved)
    kept: bool = False


def execute(
    plan: UpscalePlan,
    source: Source,
    output: Path,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
) -> Iterator[ShardDone]:
    """Write ``output`` whole, yielding each shard when it is finished; the folder has its name after the last one.

    A consumer that stops early, or an error, leaves the unfinished folder for the next run to go on with.

    Raises:
        OutputError: ``output`` cannot be written, or holds something else.
        CheckpointError, HubError: the source cannot be read as planned.
    """
    with unfinished(output, job=_job_digest(plan), state=_state_digest(plan), overwrite=overwrite) as folder:
        todo = []
        for each in plan.passes:
            missing = []
            for shard in each.shards:
                if folder.has(shard.filename, shard.nbytes, shard.header):
                    on_bytes(shard.nbytes - len(shard.header))
                    yield ShardDone(shard, folder.path / shard.filename, kept=True)
                else:
                    missing.append(shard)
            if missing:
                todo.append(Pass(tuple(missing)))
        check_room(folder.path, _needed_nbytes(plan, todo, source, folder.path))
        yield from _run_passes(todo, source, folder, executor, on_bytes)
        for file in plan.sidecars:
            with folder.write(file.name) as target_fd:
                _write_stream(target_fd, 0, source.stream(file.name, 0, file.nbytes), _no_bytes)
        for name, data in plan.documents.items():
            folder.write_bytes(name, data)
        folder.publish(plan.filenames)


def write_pass(
    each: Pass, source: Source, folder: Path, on_bytes: Callable[[int], None] | None = None
) -> list[tuple[str, Moved]]:
    """Write one pass's shards into the unfinished folder: the unit of work for an executor.

    Raises:
        OutputError, CheckpointError, HubError: as ``execute``.
    """
