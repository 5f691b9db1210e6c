"""The whole package in two functions: plan a job, and do it. Read this first.

source --> checkpoint --> plan --> execute --> the finished folder
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from solar_upscale.plan.planner import make_plan
from solar_upscale.plan.types import UpscalePlan
from solar_upscale.request import HubOptions, Layers, UpscaleRequest, parse_nbytes
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.opening import open_source
from solar_upscale.source.protocol import Source
from solar_upscale.verify.output import is_finished
from solar_upscale.write.commit import refuse_overlap
from solar_upscale.write.execute import ShardDone, execute, fetch_needed, forget_leftovers

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["plan_checkpoint", "upscale_checkpoint", "write_plan"]


def upscale_checkpoint(  # noqa: PLR0913 - one keyword for each option of the command
    source: str | Path | Source,
    output: str | Path,
    layers: Layers,
    *,
    init: str = "copy",
    entry_scales: Sequence[float | None] | None = None,
    stack: str | None = None,
    max_shard_size: int | str | None = None,
    drop_mtp: bool = False,
    assume_uniform: bool = False,
    dtype: str | None = None,
    scale_filters: Sequence[str] = (),
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    stream: bool = False,
    overwrite: bool = False,
    executor: "Executor | None" = None,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
) -> UpscalePlan:
    """Write the checkpoint whose layers are the source's in the order that ``layers`` says, and return the plan.

    ``output`` appears whole or not at all; a run that was stopped is taken up where it stood.

    Args:
        source: A folder, a Hub repo id, or a Source.
        output: The folder to write; must not exist, or be empty, unless ``overwrite``.
        layers: Entries of the layer index language, e.g. ``["range(0,24)", "range(8,32)"]``.
        init: As ``plan_checkpoint``, like all up to ``scale_filters``.
        entry_scales: See there.
        stack: See there.
        max_shard_size: See there.
        drop_mtp: See there.
        assume_uniform: See there.
        dtype: See there.
        scale_filters: See there.
        revision: Branch, tag or commit of a Hub source.
        token: A Hub token; True or None for the one logged in with, False for none.
        cache_dir: Where downloads are kept.
        local_files_only: Only what is in the cache; no network.
        stream: Read a Hub source by ranges, each needed byte once, without a copy of it on disk.
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
    hub = HubOptions(revision, token, _path(cache_dir), local_files_only, stream)
    request = UpscaleRequest(
        layers,
        init=init,
        entry_scales=None if entry_scales is None else tuple(entry_scales),
        stack=stack,
        max_shard_nbytes=None if max_shard_size is None else parse_nbytes(max_shard_size),
        drop_mtp=drop_mtp,
        assume_uniform=assume_uniform,
        expected_dtype=dtype,
        scale_filters=tuple(scale_filters),
    )
    opened = open_source(source, hub)
    plan = make_plan(open_checkpoint(opened), request)
    write_plan(plan, opened, Path(output), overwrite=overwrite, executor=executor, on_bytes=on_bytes)
    return plan


def plan_checkpoint(  # noqa: PLR0913 - as above
    source: str | Path | Source,
    layers: Layers,
    *,
    init: str = "copy",
    entry_scales: Sequence[float | None] | None = None,
    stack: str | None = None,
    max_shard_size: int | str | None = None,
    drop_mtp: bool = False,
    assume_uniform: bool = False,
    dtype: str | None = None,
    scale_filters: Sequence[str] = (),
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> UpscalePlan:
    """The plan that ``upscale_checkpoint`` would carry out, from headers and config.json alone.

    Args:
        source: A folder, a Hub repo id, or a Source.
        layers: Entries of the layer index language.
        init: How repeated layers start: "copy", "identity", "split" or "scale=F1,F2,...".
        entry_scales: A factor or None for each entry; it wins over ``init``.
        stack: Which stack of layers; by default the text decoder.
        max_shard_size: Shards in model order, at most so many bytes (text such as "5GB" too); by default they mirror
            the source's.
        drop_mtp: Leave out next-token heads numbered after the last layer.
        assume_uniform: Accept a model type that is not known, where its files agree.
        dtype: Refuse a tensor of another dtype (a safetensors word, "BF16"); nothing is ever converted.
        scale_filters: Refuse unless these parts of tensor names match just what ``entry_scales`` apply to.
        revision: Branch, tag or commit of a Hub source.
        token: A Hub token; True or None for the one logged in with, False for none.
        cache_dir: Where downloads are kept.
        local_files_only: Only what is in the cache; no network.

    Raises:
        PatternError, CheckpointError, UnsupportedError, HubError: as ``upscale_checkpoint``.
    """
    hub = HubOptions(revision, token, _path(cache_dir), local_files_only)
    request = UpscaleRequest(
        layers,
        init=init,
        entry_scales=None if entry_scales is None else tuple(entry_scales),
        stack=stack,
        max_shard_nbytes=None if max_shard_size is None else parse_nbytes(max_shard_size),
        drop_mtp=drop_mtp,
        assume_uniform=assume_uniform,
        expected_dtype=dtype,
        scale_filters=tuple(scale_filters),
    )
    return make_plan(open_checkpoint(open_source(source, hub, headers_only=True)), request)


def _path(cache_dir: str | Path | None) -> Path | None:
    return None if cache_dir is None else Path(cache_dir)


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
    if is_finished(output, plan, source, on_bytes):
        forget_leftovers(plan, output)
        return ()
    fetch_needed(plan, source)
    return tuple(execute(plan, source, output, overwrite=overwrite, executor=executor, on_bytes=on_bytes))
