"""The whole package in two functions: plan a job, and do it. Read this first.

source --> checkpoint --> plan --> execute --> the finished folder
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solar_upscale.checkpoint import open_checkpoint
from solar_upscale.commit import refuse_overlap
from solar_upscale.errors import OutputError
from solar_upscale.execute import ShardDone, execute, forget_leftovers
from solar_upscale.hub_source import open_source
from solar_upscale.plan import UpscalePlan
from solar_upscale.planner import make_plan
from solar_upscale.source import FolderSource, Source
from solar_upscale.verify import is_finished

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["parse_nbytes", "plan_checkpoint", "plan_source", "upscale_checkpoint", "write_plan"]

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def upscale_checkpoint(
    source: str | Path | Source,
    output: str | Path,
    layers: Any,
    *,
    overwrite: bool = False,
    executor: "Executor | None" = None,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
    **options: Any,
) -> UpscalePlan:
    """Write the checkpoint whose layers are the source's in the order that ``layers`` says, and return the plan.

    ``output`` appears whole or not at all; a run that was stopped is taken up where it stood. ``options`` are those
    of ``plan_checkpoint``.

    Args:
        source: A folder, a Hub repo id, or a Source.
        output: The folder to write; must not exist, or be empty, unless ``overwrite``.
        layers: Entries of the layer index language, e.g. ``["range(0,24)", "range(8,32)"]``.
        overwrite: Replace what ``output`` holds, at the end and in one step.
        executor: Runs the passes side by side; by default they run one after another in this thread.
        on_bytes: Called with the number of bytes each time some were written.

    Raises:
        PatternError: the pattern is malformed or does not fit the model.
        CheckpointError: a source file is missing or damaged.
        UnsupportedError: the depth of this model cannot be changed truthfully in this way.
        OutputError: ``output`` holds something else, or cannot be written.
        HubError: the Hub refused.
    """
    opened = _opened(source, options)
    plan = plan_source(opened, layers, **options)
    write_plan(plan, opened, Path(output), overwrite=overwrite, executor=executor, on_bytes=on_bytes)
    return plan


def plan_checkpoint(source: str | Path | Source, layers: Any, **options: Any) -> UpscalePlan:
    """The plan that ``upscale_checkpoint`` would carry out, from headers and config.json alone.

    Args:
        source: A folder, a Hub repo id, or a Source.
        layers: Entries of the layer index language.
        options: ``init`` ("copy", "identity", "split", "scale=F1,F2,..."), ``entry_scales`` (one factor or None for
            each entry), ``stack``, ``max_shard_size`` (bytes, or text such as "5GB"), ``drop_mtp``,
            ``assume_uniform``; and, for a Hub id, ``revision``, ``token``, ``cache_dir``, ``local_files_only``,
            ``stream``.

    Raises:
        PatternError, CheckpointError, UnsupportedError, HubError: as ``upscale_checkpoint``.
    """
    return plan_source(_opened(source, options, headers_only=True), layers, **options)


def plan_source(
    source: Source,
    layers: Any,
    *,
    init: str = "copy",
    entry_scales: Sequence[float | None] | None = None,
    stack: str | None = None,
    max_shard_size: int | str | None = None,
    drop_mtp: bool = False,
    assume_uniform: bool = False,
) -> UpscalePlan:
    """The plan for a source that is open, with the documents that tell about it.

    Raises:
        PatternError, CheckpointError, UnsupportedError, HubError: as ``upscale_checkpoint``.
    """
    return make_plan(
        open_checkpoint(source),
        layers,
        init=init,
        entry_scales=entry_scales,
        stack=stack,
        max_shard_nbytes=None if max_shard_size is None else parse_nbytes(max_shard_size),
        drop_mtp=drop_mtp,
        assume_uniform=assume_uniform,
    )


def write_plan(
    plan: UpscalePlan,
    source: Source,
    output: Path,
    *,
    overwrite: bool = False,
    executor: "Executor | None" = None,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
) -> tuple[ShardDone, ...]:
    """Carry a plan out and return how each shard came to be; none if ``output`` already was the finished result.

    Raises:
        OutputError, CheckpointError, HubError: as ``upscale_checkpoint``.
    """
    if isinstance(source, FolderSource):
        refuse_overlap(source.path, output)
        source = replace(source, path=source.path.absolute())  # a worker may stand in another folder
    if is_finished(output, plan, source):
        forget_leftovers(plan, output)
        return ()
    return tuple(execute(plan, source, output, overwrite=overwrite, executor=executor, on_bytes=on_bytes))


def parse_nbytes(size: int | str) -> int:
    """A size in bytes from a number, or from text such as "5GB" (10^9) or "512MiB" (2^20).

    Raises:
        OutputError: it is neither, or not positive.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?I?B?)\s*", str(size).upper(), re.ASCII)
    unit = match[2] if match else ""
    unit = unit if unit in _UNITS else unit + "B"
    if match is None or (match[2] and match[2] != "B" and unit not in _UNITS):
        raise OutputError(f'max_shard_size: "{size}" is not a size; expected bytes, or text such as 5GB or 512MiB')
    nbytes = int(float(match[1]) * _UNITS.get(unit, 1))
    if nbytes <= 0:
        raise OutputError(f'max_shard_size: "{size}" is not positive')
    return nbytes


def _opened(source: str | Path | Source, options: dict[str, Any], *, headers_only: bool = False) -> Source:
    """Open a source, taking the options that say how out of ``options``."""
    names = ("revision", "token", "cache_dir", "local_files_only", "stream")
    how = {name: options.pop(name) for name in names if name in options}
    if isinstance(source, str | Path):
        return open_source(str(source), headers_only=headers_only, **how)
    return source
