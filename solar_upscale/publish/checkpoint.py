"""Publishes a plan or a finished folder on the Hub: everything is verified first, and one commit makes it visible.

A plan's shards are verified one by one as they are finished, a finished folder as a whole. publication.py uploads and
commits; this module protects private models and the source repository.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from solar_upscale._version import __version__
from solar_upscale.errors import CheckpointError, HubError, OutputError, printable
from solar_upscale.plan.types import UpscalePlan
from solar_upscale.publish.folder import push_folder
from solar_upscale.publish.publication import Publication
from solar_upscale.report.provenance import PROVENANCE_NAME
from solar_upscale.request import Destination, HubOptions, check_destination
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.source.hub.client import LIBRARY, check_token, hub_errors, with_retries
from solar_upscale.source.opening import did_you_mean_folder, open_source
from solar_upscale.source.protocol import Source
from solar_upscale.verify.against_source import expected_output, is_finished
from solar_upscale.verify.output import VerifyReport, recorded_source, verify_checkpoint
from solar_upscale.verify.shard import check_shard
from solar_upscale.write.output import forget_leftovers, open_output, refuse_overlap_with_source
from solar_upscale.write.shards import FinishedShard, OnBytes
from solar_upscale.write.work_files import RECORD_NAME

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["Published", "publish_folder", "publish_plan", "refuse_source"]

_log = logging.getLogger("solar_upscale")


@dataclass(frozen=True, slots=True)
class Published:
    """A published model: its URL, its finished shards, and the report of its verification.

    ``shards`` is empty if the output was finished before. ``verified`` is None if each shard was verified on its own.
    """

    url: str
    shards: tuple[FinishedShard, ...] = ()
    verified: VerifyReport | None = None


def publish_folder(
    output: Path,
    destination: Destination,
    *,
    source: str | Path | Source | None = None,
    on_bytes: OnBytes = lambda nbytes: None,
) -> Published:
    """Verify a finished output, and publish it.

    Args:
        output: A folder that ``upscale_checkpoint`` wrote.
        destination: Where to publish it.
        source: The checkpoint it was made from. By default it is read from the Hub cache if it is complete there; if
            not, the output is verified without its source.
        on_bytes: Called with the number of tensor bytes compared since the last call.

    Raises:
        CheckpointError: the output does not match its provenance.
        OutputError: the output is not finished, or the destination is its source.
        HubError: the Hub refused or could not be reached; nothing became visible.
    """
    if not output.is_dir():
        raise OutputError(f"{output}: no such folder; expected an output{did_you_mean_folder(str(output))}")
    if output.name.endswith(".incomplete"):
        raise OutputError(f"{output}: is unfinished; expected an output")
    if (output / RECORD_NAME).exists():
        raise OutputError(
            f"{output}: the shards were deleted after publishing, so it cannot be pushed elsewhere; run the command "
            "that made it with another --push-to-hub and another OUT"
        )
    made_from = recorded_source(output)
    source_id = made_from.name if made_from.is_on_hub else None
    refuse_source(source_id, destination)
    token = destination.token
    report = verify_checkpoint(output, source or _cached_source(output, token), token=token, on_bytes=on_bytes)
    return Published(push_folder(output, _as_private_as(source_id, destination)), verified=report)


def publish_plan(
    plan: UpscalePlan,
    source: Source,
    output: Path,
    destination: Destination,
    *,
    overwrite: bool = False,
    executor: "Executor | None" = None,
    on_bytes: OnBytes = lambda nbytes: None,
) -> Published:
    """Write a plan and publish the result; each shard is verified before it is uploaded.

    With ``delete_local_shards`` the disk holds the shards of one pass at a time, and ``output`` keeps only the small
    files. Either way one final commit makes everything visible, and an interrupted run resumes where it left off.

    Raises:
        CheckpointError: the source is incomplete, or a shard is not as planned.
        OutputError: ``output`` cannot be written, holds something else, or the options exclude each other.
        HubError: the Hub refused or could not be reached; nothing became visible.
    """
    check_destination(destination, plan.request, concurrent_passes=executor is not None)
    refuse_overlap_with_source(source, output)
    source_id = source.name if source.is_on_hub else None
    refuse_source(source_id, destination)
    destination = _as_private_as(source_id, destination)
    if destination.delete_local_shards and _is_uploaded(plan, source, output, destination):
        return Published(Publication(destination, record=output / RECORD_NAME).finish(output))
    if is_finished(output, plan, source, on_bytes):
        forget_leftovers(plan, output)
        is_local = source.local_path(plan.source_shards[0].filename) is not None
        report = verify_checkpoint(output, source if is_local else None)
        return Published(push_folder(output, destination), verified=report)
    Publication(destination).check_rights()  # fail now rather than after hours of work
    if destination.delete_local_shards:
        return _write_and_send(plan, source, output, destination, overwrite=overwrite, on_bytes=on_bytes)
    planned = {shard.filename: shard for shard in plan.shards}
    finished = []
    with open_output(plan, source, output, overwrite=overwrite) as work:
        for shard in work.shards(executor=executor, on_bytes=on_bytes):
            check_shard(planned[shard.filename], shard.path, source, shard.digests)
            finished.append(shard)
        work.finish()
    return Published(push_folder(output, destination), tuple(finished))


def refuse_source(source_id: str | None, destination: Destination) -> None:
    """Check that the result does not take the place of its source on the Hub.

    Raises:
        OutputError: it would.
    """
    if source_id == destination.repo_id:
        raise OutputError(f"{destination.repo_id}: is the source; publish the result under another name")


def _write_and_send(
    plan: UpscalePlan, source: Source, output: Path, destination: Destination, *, overwrite: bool, on_bytes: OnBytes
) -> Published:
    """Upload and delete each shard once it is verified, so that the disk need not hold them all."""
    planned = {shard.filename: shard for shard in plan.shards}
    with open_output(plan, source, output, overwrite=overwrite) as work:
        publication = Publication(destination, record=work.folder / RECORD_NAME)
        finished = []
        for name in planned.keys() & publication.sent.keys():
            path, nbytes = work.folder / name, planned[name].data_nbytes
            path.unlink(missing_ok=True)  # the last run may have been killed before deleting it
            on_bytes(nbytes)
            finished.append(FinishedShard(name, path, nbytes, kept=True))
        for shard in work.shards(skip=set(publication.sent), shards_stay=False, on_bytes=on_bytes):
            check_shard(planned[shard.filename], shard.path, source, shard.digests)
            if publication.send(shard.path, shard.filename) is not None:
                shard.path.unlink()
            finished.append(shard)
        work.finish(without=publication.sent, extra=[RECORD_NAME])
    return Published(publication.moved_to(output).finish(output), tuple(finished))


def _as_private_as(source_id: str | None, destination: Destination) -> Destination:
    """The destination, made private if the source is, so that private weights do not become public unnoticed.

    This applies to a repository that does not exist yet; if it exists and is public, the user is warned.
    """
    if source_id is None or destination.private or not _is_private(source_id, destination):
        return destination
    repo_id = destination.repo_id
    is_private = _is_private(repo_id, destination)
    if is_private is None:
        _log.warning("%s is private, so %s is made private", printable(source_id), printable(repo_id))
        return replace(destination, private=True)
    if not is_private:
        _log.warning("%s is private, and %s is public", printable(source_id), printable(repo_id))
    return destination


def _is_private(repo_id: str, destination: Destination) -> bool | None:
    """Whether a model on the Hub is private; None if it does not exist or cannot be accessed."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi(token=destination.token, library_name=LIBRARY, library_version=__version__)
    with hub_errors(destination.repo_id, writes=True):
        check_token(destination.token)
        try:
            return bool(with_retries(repo_id, lambda: api.model_info(repo_id)).private)
        except RepositoryNotFoundError:
            return None


def _is_uploaded(plan: UpscalePlan, source: Source, output: Path, destination: Destination) -> bool:
    """Whether ``output`` is from an earlier run that uploaded all shards to this destination and deleted them."""
    try:
        if not (output / RECORD_NAME).is_file():
            return False
        written = (output / PROVENANCE_NAME).read_bytes()
    except OSError:
        return False
    if written != expected_output(plan, source).rendered[PROVENANCE_NAME]:
        return False
    sent = Publication(destination, record=output / RECORD_NAME).sent
    return all(shard.filename in sent or (output / shard.filename).is_file() for shard in plan.shards)


def _cached_source(output: Path, token: str | bool | None) -> Source | None:
    """The recorded source, if it is a model on the Hub whose needed files are all in the cache."""
    made_from = recorded_source(output)
    if not made_from.is_on_hub:
        return None
    try:
        source = open_source(made_from.name, HubOptions(made_from.revision, token, local_files_only=True))
        checkpoint = open_checkpoint(source)
        return source if all(source.local_path(shard.filename) for shard in checkpoint.shards) else None
    except (CheckpointError, HubError):
        return None
