"""The whole package in a few short functions: everything that is done with a checkpoint. Read this first.

source --> checkpoint --> plan --> write --> publish
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solar_upscale.errors import OutputError, PatternError
from solar_upscale.plan.planner import make_plan
from solar_upscale.plan.types import UpscalePlan
from solar_upscale.request import (
    Destination,
    HubOptions,
    Layers,
    UpscaleRequest,
    check_destination,
    destination_from,
    request_from,
)
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.source.opening import open_source
from solar_upscale.source.protocol import Source
from solar_upscale.verify.against_source import is_finished, looks_finished
from solar_upscale.write.output import check_output, forget_leftovers, open_output, refuse_overlap_with_source
from solar_upscale.write.shards import FinishedShard
from solar_upscale.write.work_files import RECORD_NAME

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from solar_upscale.publish.checkpoint import Published
    from solar_upscale.recipe import Recipe

__all__ = [
    "carry_out",
    "inspect_checkpoint",
    "plan_checkpoint",
    "plan_recipe",
    "plan_source",
    "preview_output",
    "publish_checkpoint",
    "upscale_checkpoint",
    "upscale_recipe",
    "write_plan",
]


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
    scale_filters: str | Sequence[str] = (),
    base_model: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    stream: bool = False,
    overwrite: bool = False,
    push_to_hub: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    commit_message: str | None = None,
    delete_local_shards: bool = False,
    executor: "Executor | None" = None,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
) -> UpscalePlan:
    """Write a checkpoint with the source's layers in the order given by ``layers``, and return the plan.

    ``output`` appears whole or not at all; an interrupted run resumes where it left off.

    Args:
        source: A folder, a Hub repo id, or a Source.
        output: The folder to write; must not exist, or be empty, unless ``overwrite``.
        layers: Entries of the layer index language, e.g. ``["range(0,24)", "range(8,32)"]``.
        init: How repeated layers start: "copy", "identity", "split" or "scale=F1,F2,...".
        entry_scales: A factor or None for each entry; overrides ``init``.
        stack: Which stack of layers; by default the text decoder.
        max_shard_size: Write shards in model order, each of at most this many bytes (or text such as "5GB"); by
            default they mirror the source's shards.
        drop_mtp: Drop next-token heads numbered after the last layer.
        assume_uniform: Accept an unknown model type whose layers look alike.
        dtype: Refuse tensors of any other dtype (a safetensors name such as "BF16"); nothing is ever converted.
        scale_filters: Refuse unless these parts of tensor names match exactly the tensors that ``entry_scales`` scale.
        base_model: For the card of a local source: the id of the model on the Hub that it comes from.
        revision: Branch, tag or commit of a Hub source.
        token: A Hub token; True or None for the one you are logged in with, False for none.
        cache_dir: The download cache.
        local_files_only: Use only the cache, no network.
        stream: Read a Hub source with range requests, each needed byte once, without a copy on disk.
        overwrite: Replace ``output``, at the end and in one step.
        push_to_hub: Also publish the result as USER/NAME, once every shard has been verified.
        private: Make that repository private; an error if it exists and is public.
        create_pr: Open a pull request there instead of writing to main.
        commit_message: The first line of the commit.
        delete_local_shards: Upload each shard as soon as it is finished, then delete it locally; ``output`` keeps the
            small files.
        executor: Runs the passes in parallel; by default they run one after another in this thread.
        on_bytes: Called with the number of bytes written since the last call.

    Raises:
        PatternError: the pattern is malformed or does not fit the model.
        CheckpointError: a source file is missing or damaged.
        UnsupportedError: the depth of this model cannot be changed truthfully in this way.
        OutputError: ``output`` holds something else or cannot be written, or options exclude each other.
        HubError: the Hub refused.
    """
    request = request_from(
        layers,
        init=init,
        entry_scales=entry_scales,
        stack=stack,
        max_shard_size=max_shard_size,
        drop_mtp=drop_mtp,
        assume_uniform=assume_uniform,
        dtype=dtype,
        scale_filters=scale_filters,
        base_model=base_model,
    )
    destination = destination_from(
        push_to_hub,
        token=token,
        private=private,
        create_pr=create_pr,
        commit_message=commit_message,
        delete_local_shards=delete_local_shards,
    )
    check_destination(destination, request, concurrent_passes=executor is not None)
    hub = HubOptions(revision, token, _path(cache_dir), local_files_only, stream)
    opened = open_source(source, hub)
    plan = plan_source(opened, request)
    carry_out(plan, opened, Path(output), destination, overwrite=overwrite, executor=executor, on_bytes=on_bytes)
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
    scale_filters: str | Sequence[str] = (),
    base_model: str | None = None,
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
        entry_scales: A factor or None for each entry; overrides ``init``.
        stack: Which stack of layers; by default the text decoder.
        max_shard_size: Write shards in model order, each of at most this many bytes (or text such as "5GB"); by
            default they mirror the source's shards.
        drop_mtp: Drop next-token heads numbered after the last layer.
        assume_uniform: Accept an unknown model type whose layers look alike.
        dtype: Refuse tensors of any other dtype (a safetensors name such as "BF16"); nothing is ever converted.
        scale_filters: Refuse unless these parts of tensor names match exactly the tensors that ``entry_scales`` scale.
        base_model: For the card of a local source: the id of the model on the Hub that it comes from.
        revision: Branch, tag or commit of a Hub source.
        token: A Hub token; True or None for the one you are logged in with, False for none.
        cache_dir: The download cache.
        local_files_only: Use only the cache, no network.

    Raises:
        PatternError, CheckpointError, UnsupportedError, HubError: as ``upscale_checkpoint``.
    """
    request = request_from(
        layers,
        init=init,
        entry_scales=entry_scales,
        stack=stack,
        max_shard_size=max_shard_size,
        drop_mtp=drop_mtp,
        assume_uniform=assume_uniform,
        dtype=dtype,
        scale_filters=scale_filters,
        base_model=base_model,
    )
    hub = HubOptions(revision, token, _path(cache_dir), local_files_only)
    return plan_source(open_source(source, hub, headers_only=True), request)


def inspect_checkpoint(
    source: str | Path | Source,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> dict[str, Any]:
    """What ``inspect --json`` prints, from headers and config.json alone; sizes in bytes.

    Args:
        source: A folder, a Hub repo id, or a Source.
        revision: Branch, tag or commit of a Hub source.
        token: A Hub token; True or None for the one you are logged in with, False for none.
        cache_dir: The download cache.
        local_files_only: Use only the cache, no network.

    Raises:
        CheckpointError, HubError: as ``upscale_checkpoint``.
    """
    from solar_upscale.report.inspection import inspection

    hub = HubOptions(revision, token, _path(cache_dir), local_files_only)
    return inspection(open_checkpoint(open_source(source, hub, headers_only=True)))


def publish_checkpoint(  # noqa: PLR0913 - one keyword for each option of the command
    output: str | Path,
    repo_id: str,
    *,
    source: str | Path | Source | None = None,
    token: str | bool | None = None,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
) -> "Published":
    """Verify a finished output and publish it; nothing is visible before the single final commit.

    To upscale and publish in one go, use ``push_to_hub`` of ``upscale_checkpoint``.

    Args:
        output: A folder that ``upscale_checkpoint`` wrote.
        repo_id: USER/NAME; created if it does not exist.
        source: The checkpoint the output was made from, to verify it byte by byte. By default it is read from the Hub
            cache if it is complete there; if not, the output is verified without its source.
        token: A Hub token; True or None for the one you are logged in with, False for none.
        private: Make the repository private; an error if it exists and is public.
        revision: The branch to write, main by default; created from main if it does not exist.
        create_pr: Open a pull request instead of writing to the branch.
        commit_message: The first line of the commit.
        on_bytes: Called with the number of tensor bytes compared since the last call.

    Raises:
        CheckpointError: the output does not match its provenance.
        OutputError: the output is not finished, or the destination is its source.
        HubError: the Hub refused or could not be reached; nothing became visible.
    """
    from solar_upscale.publish.checkpoint import publish_folder

    destination = Destination(repo_id, token, private, revision, create_pr, commit_message)
    return publish_folder(Path(output), destination, source=source, on_bytes=on_bytes)


def upscale_recipe(  # noqa: PLR0913 - as above
    recipe: "Recipe | str | Path",
    output: str | Path,
    *,
    source: str | Path | Source | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    stream: bool = False,
    overwrite: bool = False,
    executor: "Executor | None" = None,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
) -> UpscalePlan:
    """Write the checkpoint that a recipe describes, and return the plan.

    Args:
        recipe: A recipe, or what ``load_recipe`` reads: a file, or the name of a shipped recipe.
        output: The folder to write, as in ``upscale_checkpoint``.
        source: Replaces the recipe's own source and its revision.
        revision: Branch, tag or commit of a Hub source; by default the recipe's.
        token: A Hub token; True or None for the one you are logged in with, False for none.
        cache_dir: The download cache.
        local_files_only: Use only the cache, no network.
        stream: Read a Hub source with range requests, each needed byte once, without a copy on disk.
        overwrite: Replace ``output``, at the end and in one step.
        executor: Runs the passes in parallel; by default they run one after another in this thread.
        on_bytes: Called with the number of bytes written since the last call.

    Raises:
        PatternError: there is no such recipe, or it names no source and none is given.
        CheckpointError, UnsupportedError, OutputError, HubError: as ``upscale_checkpoint``.
    """
    hub = HubOptions(revision, token, _path(cache_dir), local_files_only, stream)
    loaded, opened = _open_recipe(recipe, source, hub, headers_only=False)
    plan = plan_source(opened, loaded.request)
    carry_out(plan, opened, Path(output), None, overwrite=overwrite, executor=executor, on_bytes=on_bytes)
    return plan


def plan_recipe(
    recipe: "Recipe | str | Path",
    *,
    source: str | Path | Source | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> UpscalePlan:
    """The plan that ``upscale_recipe`` would carry out, from headers and config.json alone.

    Args:
        recipe: A recipe, or what ``load_recipe`` reads: a file, or the name of a shipped recipe.
        source: Replaces the recipe's own source and its revision.
        revision: Branch, tag or commit of a Hub source; by default the recipe's.
        token: A Hub token; True or None for the one you are logged in with, False for none.
        cache_dir: The download cache.
        local_files_only: Use only the cache, no network.

    Raises:
        PatternError, CheckpointError, UnsupportedError, HubError: as ``upscale_recipe``.
    """
    hub = HubOptions(revision, token, _path(cache_dir), local_files_only)
    loaded, opened = _open_recipe(recipe, source, hub, headers_only=True)
    return plan_source(opened, loaded.request)


def _open_recipe(
    recipe: "Recipe | str | Path", source: str | Path | Source | None, hub: HubOptions, *, headers_only: bool
) -> "tuple[Recipe, Source]":
    """The recipe, and its source or the one that replaces it."""
    if isinstance(recipe, str | Path):
        from solar_upscale.recipe import load_recipe

        recipe = load_recipe(recipe)
    if source is None:
        if recipe.source is None:
            raise PatternError(f"{recipe.name}: the recipe names no source; give source=")
        source, hub = recipe.source, replace(hub, revision=hub.revision or recipe.revision)
    return recipe, open_source(source, hub, headers_only=headers_only)


def plan_source(source: Source, request: UpscaleRequest) -> UpscalePlan:
    """The plan for a source that is open.

    Raises:
        OutputError: the request has a base model, and the source, being on the Hub, is itself the base model.
        PatternError, CheckpointError, UnsupportedError, HubError: as ``upscale_checkpoint``.
    """
    if request.base_model is not None and source.is_on_hub:
        raise OutputError(f"{source.name}: is on the Hub, so the card names it; --base-model is for a local source")
    return make_plan(open_checkpoint(source), request)


def preview_output(
    plan: UpscalePlan, source: Source, output: Path, destination: Destination | None, *, overwrite: bool = False
) -> str:
    """What ``carry_out`` would make of ``output``, in words; no tensor is read, and nothing is written.

    Raises:
        OutputError: ``carry_out`` would refuse to write there.
    """
    if destination is not None:
        from solar_upscale.publish.checkpoint import refuse_source

        refuse_source(source.name if source.is_on_hub else None, destination)
    refuse_overlap_with_source(source, output)
    if (output / RECORD_NAME).is_file():
        return "its shards were deleted once they were published"
    if looks_finished(output, plan, source):
        return "holds this result already"
    shards_stay = destination is None or not destination.delete_local_shards
    return check_output(plan, source, output, overwrite=overwrite, shards_stay=shards_stay)


def carry_out(
    plan: UpscalePlan,
    source: Source,
    output: Path,
    destination: Destination | None,
    *,
    overwrite: bool = False,
    executor: "Executor | None" = None,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
) -> tuple[tuple[FinishedShard, ...], str | None]:
    """Write a plan and publish the result if there is a destination; return the shards, and the URL or None.

    Raises:
        OutputError, CheckpointError, HubError: as ``upscale_checkpoint``.
    """
    if destination is None:
        return write_plan(plan, source, output, overwrite=overwrite, executor=executor, on_bytes=on_bytes), None
    from solar_upscale.publish.checkpoint import publish_plan

    published = publish_plan(
        plan, source, output, destination, overwrite=overwrite, executor=executor, on_bytes=on_bytes
    )
    return published.shards, published.url


def write_plan(
    plan: UpscalePlan,
    source: Source,
    output: Path,
    *,
    overwrite: bool = False,
    executor: "Executor | None" = None,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
) -> tuple[FinishedShard, ...]:
    """Write a plan and return its finished shards, or none if ``output`` is the finished result already.

    Raises:
        OutputError, CheckpointError, HubError: as ``upscale_checkpoint``.
    """
    refuse_overlap_with_source(source, output)
    if is_finished(output, plan, source, on_bytes):
        forget_leftovers(plan, output)
        return ()
    with open_output(plan, source, output, overwrite=overwrite) as work:
        shards = tuple(work.shards(executor=executor, on_bytes=on_bytes))
        work.finish()
    return shards


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
