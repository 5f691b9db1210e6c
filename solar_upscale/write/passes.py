"""Runs passes one after another in this thread, or in parallel in any ``concurrent.futures.Executor``.

An executor may use threads, processes, or other machines that see the same paths. Its workers stop when the file
RUNNING_NAME disappears from the work folder, which all of them can see.
"""

from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from solar_upscale.errors import OutputError
from solar_upscale.plan.types import Pass
from solar_upscale.source.protocol import Source
from solar_upscale.write.move import Mover
from solar_upscale.write.shards import FinishedShard, OnBytes, is_local, write_shard
from solar_upscale.write.streamed import write_streamed
from solar_upscale.write.work_files import RUNNING_NAME

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = ["run_passes", "write_pass"]


def run_passes(
    passes: Sequence[Pass],
    source: Source,
    folder: Path,
    *,
    output_nbytes: int,
    executor: "Executor | None",
    on_bytes: OnBytes,
) -> Generator[FinishedShard, None, None]:
    """Write passes into the work folder and yield each shard once it is finished; without executor, in this thread.

    However this ends, no worker is writing afterwards, so the folder's lock can be released.

    Raises:
        OutputError, CheckpointError, HubError: as ``write_pass``, or a worker died.
    """
    if executor is None:
        for each in passes:
            yield from write_pass(each, source, folder, output_nbytes=output_nbytes, on_bytes=on_bytes)
        return
    from concurrent.futures import BrokenExecutor, as_completed

    running = folder / RUNNING_NAME
    running.touch()
    futures: list[Future[list[FinishedShard]]] = []
    try:
        futures += (executor.submit(_write_while_running, each, source, folder, output_nbytes) for each in passes)
        for future in as_completed(futures):
            for shard in future.result():
                on_bytes(shard.data_nbytes)
                yield shard
    except BrokenExecutor as error:
        raise OutputError(f"{folder}: a worker died; run the same command again to resume") from error
    finally:
        with suppress(FileNotFoundError):
            running.unlink()
        for future in futures:
            future.cancel()
        for future in futures:
            if not future.cancelled():
                future.exception()


def _write_while_running(each: Pass, source: Source, folder: Path, output_nbytes: int) -> list[FinishedShard]:
    """``write_pass`` in a worker, which stops once the run that submitted it has ended.

    Raises:
        OutputError, CheckpointError, HubError: as ``write_pass``.
    """

    def stop_unless_running(_nbytes: int) -> None:
        if not (folder / RUNNING_NAME).exists():
            raise OutputError(f"{folder}: the run that started this worker has ended; run the same command again")

    return write_pass(each, source, folder, output_nbytes=output_nbytes, on_bytes=stop_unless_running)


def write_pass(
    each: Pass, source: Source, folder: Path, *, output_nbytes: int, on_bytes: OnBytes
) -> list[FinishedShard]:
    """Write the shards of a pass into the work folder; ``output_nbytes`` is the size of the whole output.

    Raises:
        OutputError: a shard cannot be written.
        CheckpointError, HubError: the source cannot be read as planned.
    """
    if not all(is_local(source, shard) for shard in each.shards):
        return write_streamed(each, source, folder, output_nbytes=output_nbytes, on_bytes=on_bytes)
    mover = Mover()
    return [
        write_shard(shard, source, folder, mover, output_nbytes=output_nbytes, on_bytes=on_bytes)
        for shard in each.shards
    ]
