"""The whole package in two functions: plan a job, and do it. Read this first.

source --> checkpoint --> plan --> execute --> the finished folder
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solar_upscale.checkpoint import open_checkpoint
from solar_upscale.commit import refuse_overlap
from solar_upscale.errors import OutputError
from solar_upscale.execute import ShardDone, execute, forget_leftovers
from solar_upscale.hub_source import HubSource, open_source
from solar_upscale.plan import UpscalePlan
from solar_upscale.planner import make_plan
from solar_upscale.recipe import Recipe
from solar_upscale.source import FolderSource, Source
from solar_upscale.verify import is_finished

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["download_needed", "parse_nbytes", "plan_checkpoint", "recipe_options", "upscale_checkpoint", "write_plan"]

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

Layers = Any  # what the layer index language takes: an entry, or a list, tuple, range or ListConfig of entries


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
    if isinstance(source, str | Path):
        source = open_source(
            _place(source),
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            stream=stream,
        )
    plan = plan_checkpoint(
        source,
        layers,
        init=init,
        entry_scales=entry_scales,
        stack=stack,
        max_shard_size=max_shard_size,
        drop_mtp=drop_mtp,
        assume_uniform=assume_uniform,
        dtype=dtype,
        scale_filters=scale_filters,
    )
    write_plan(plan, source, Path(output), overwrite=overwrite, executor=executor, on_bytes=on_bytes)
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
    if isinstance(source, str | Path):
        source = open_source(
            _place(source),
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            headers_only=True,
        )
    return make_plan(
        open_checkpoint(source),
        layers,
        init=init,
        entry_scales=entry_scales,
        stack=stack,
        max_shard_nbytes=None if max_shard_size is None else parse_nbytes(max_shard_size),
        drop_mtp=drop_mtp,
        assume_uniform=assume_uniform,
        dtype=dtype,
        scale_filters=scale_filters,
    )


def recipe_options(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says of the job, as keyword arguments of ``plan_checkpoint``, ``layers`` included.

    Its source and revision are not among them: they belong together, and the caller may have a source of their own.
    """
    return {
        "layers": list(recipe.layers),
        "init": recipe.init or "copy",
        "entry_scales": recipe.entry_scales,
        "stack": recipe.stack,
        "max_shard_size": recipe.max_shard_size,
        "dtype": recipe.dtype,
        "scale_filters": recipe.scale_filters,
    }


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
    download_needed(plan, source)
    return tuple(execute(plan, source, output, overwrite=overwrite, executor=executor, on_bytes=on_bytes))


def _place(source: str | Path) -> str:
    """The text for ``open_source``: a Path is a folder, even where a Hub id is spelled the same."""
    return source if isinstance(source, str) else str(source.absolute())


def download_needed(plan: UpscalePlan, source: Source) -> None:
    """Have the weight files that a plan uses downloaded side by side, where the source is one that downloads.

    Raises:
        CheckpointError, HubError: as ``upscale_checkpoint``.
    """
    if isinstance(source, HubSource) and source.mode == "download":
        pieces = (piece for shard in plan.shards for item in shard.items for piece in item.pieces)
        source.download(sorted({*(piece.filename for piece in pieces), *(file.name for file in plan.sidecars)}))


def parse_nbytes(size: int | str) -> int:
    """A size in bytes from a number, or from text such as "5GB" (10^9) or "512MiB" (2^20).

    Raises:
        OutputError: it is neither, or not positive.
    """
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([KMGT]?I?B?)\s*", str(size)[:80].upper(), re.ASCII)
    unit = match[2] if match else ""
    unit = unit if unit in _UNITS else unit + "B"
    if match is None or (match[2] and match[2] != "B" and unit not in _UNITS):
        raise OutputError(
            f'max_shard_size: "{str(size)[:80]}" is not a size; expected bytes, or text such as 5GB or 512MiB'
        )
    nbytes = int(Decimal(match[1]) * _UNITS.get(unit, 1))
    if not 0 < nbytes < 2**63:
        raise OutputError(f'max_shard_size: "{size}" is not a size that a file can have')
    return nbytes
