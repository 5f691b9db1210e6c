"""The whole package in a few short functions: what is done with a checkpoint, from top to bottom. Read this first.

source --> checkpoint --> plan --> write --> publish
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solar_upscale.plan.planner import make_plan
from solar_upscale.plan.types import UpscalePlan
from solar_upscale.request import (
    Destination,
    HubOptions,
    Layers,
    UpscaleRequest,
    check_destination,
    destination_from,
    parse_nbytes,
)
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.source.opening import open_source
from solar_upscale.source.protocol import Source
from solar_upscale.verify.against_source import is_finished
from solar_upscale.write.output import forget_leftovers, open_output, refuse_overlap_with_source
from solar_upscale.write.shards import FinishedShard

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from solar_upscale.publish.checkpoint import Published

__all__ = [
    "carry_out",
    "inspect_checkpoint",
    "plan_checkpoint",
    "publish_checkpoint",
    "upscale_checkpoint",
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
    scale_filters: Sequence[str] = (),
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
    """Write the checkpoint whose layers are the source's in the order that ``layers`` says, and return the plan.

    ``output`` appears whole or not at all; an interrupted run resumes where it left off.

    Args:
        source: A folder, a Hub repo id, or a Source.
        output: The folder to write; must not exist, or be empty, unless ``overwrite``.
        layers: Entries of the layer index language, e.g. ``["range(0,24)", "range(8,32)"]``.
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
        stream: Read a Hub source by ranges, each needed byte once, without a copy of it on disk.
        overwrite: Replace what ``output`` holds, at the end and in one step.
        push_to_hub: Publish the result as USER/NAME too, once every shard is proved right.
        private: Make that repository private; refused where it exists and is public.
        create_pr: Open a pull request there instead of writing to main.
        commit_message: The first line of the commit.
        delete_local_shards: Send and delete each shard as soon as it is finished; ``output`` keeps the small files.
        executor: Runs the passes side by side; by default they run one after another in this thread.
        on_bytes: Called with the number of bytes each time some were written.

    Raises:
        PatternError: the pattern is malformed or does not fit the model.
        CheckpointError: a source file is missing or damaged.
        UnsupportedError: the depth of this model cannot be changed truthfully in this way.
        OutputError: ``output`` holds something else or cannot be written, or options exclude one another.
        HubError: the Hub refused.
    """
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
    plan = make_plan(open_checkpoint(opened), request)
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
    hub = HubOptions(revision, token, _path(cache_dir), local_files_only)
    return make_plan(open_checkpoint(open_source(source, hub, headers_only=True)), request)


def inspect_checkpoint(
    source: str | Path | Source,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> dict[str, Any]:
    """What ``inspect --json`` prints of a checkpoint, from headers and config.json alone; sizes in bytes.

    Args:
        source: A folder, a Hub repo id, or a Source.
        revision: Branch, tag or commit of a Hub source.
        token: A Hub token; True or None for the one logged in with, False for none.
        cache_dir: Where downloads are kept.
        local_files_only: Only what is in the cache; no network.

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
    """Verify a finished output and publish it; the commit that shows anything comes last.

    To upscale and publish at once, give ``upscale_checkpoint`` the keyword ``push_to_hub``.

    Args:
        output: A folder that ``upscale_checkpoint`` wrote.
        repo_id: USER/NAME; made if it does not exist.
        source: What the output was made from, to verify it byte by byte. Left out, it is taken from the Hub cache if
            all of it is there; if not, the output is verified by itself.
        token: A Hub token; True or None for the one logged in with, False for none.
        private: Make the repository private; refused where it exists and is public.
        revision: The branch to write, made from main if it does not exist; main by default.
        create_pr: Open a pull request instead of writing to the branch.
        commit_message: The first line of the commit.
        on_bytes: Called with the number of tensor bytes each time some were compared.

    Raises:
        CheckpointError: the output is not what its provenance says.
        OutputError: the output is not finished, or would take its source's place.
        HubError: the Hub refused or could not be reached; nothing became visible.
    """
    from solar_upscale.publish.checkpoint import publish_folder

    destination = Destination(repo_id, token, private, revision, create_pr, commit_message)
    return publish_folder(Path(output), destination, source=source, on_bytes=on_bytes)


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
    """Write what is planned and publish it if there is a destination; return how each shard came to be, and the page.

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
    """Carry a plan out and return how each shard came to be; none if ``output`` already was the finished result.

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
