"""From a plan or a folder to a model on the Hub: what is sent was proved right before, and shows in one commit.

What a publication is made of is push/, how shards are proved one by one is witness.py, whole outputs verify.py.
"""

import logging
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from solar_upscale._version import __version__
from solar_upscale.errors import CheckpointError, HubError, OutputError, printable
from solar_upscale.plan.types import UpscalePlan
from solar_upscale.publish.folder import push_folder
from solar_upscale.publish.publication import Publication
from solar_upscale.report.output_files import render_output_files
from solar_upscale.report.provenance import PROVENANCE_NAME
from solar_upscale.request import HubOptions
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.hub.client import LIBRARY, check_token, hub_errors, patiently
from solar_upscale.source.opening import open_source
from solar_upscale.source.protocol import Source
from solar_upscale.verify.output import VerifyReport, is_finished, recorded_source, sidecar_digests, verify_checkpoint
from solar_upscale.verify.witness import Witness
from solar_upscale.write.commit import refuse_overlap
from solar_upscale.write.execute import ShardDone, execute, fetch_needed, forget_leftovers
from solar_upscale.write.work_files import RECORD_NAME

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["Destination", "Pushed", "push_checkpoint", "upscale_and_push"]

OnBytes = Callable[[int], None]

_log = logging.getLogger("solar_upscale")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to publish: USER/NAME, and how, in the words of ``push_folder``."""

    repo_id: str
    token: str | bool | None = field(default=None, repr=False)
    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    commit_message: str | None = None

    def open(self, record: Path | None = None) -> Publication:
        """Make the repository if it is not there, and see that it may be written.

        Raises:
            HubError: it may not, or the Hub could not be reached.
        """
        return Publication(
            self.repo_id,
            token=self.token,
            private=self.private,
            revision=self.revision,
            create_pr=self.create_pr,
            record=record,
        )

    def push(self, folder: Path) -> str:
        """Publish a finished folder; see ``push_folder``."""
        return push_folder(
            folder,
            self.repo_id,
            token=self.token,
            private=self.private,
            revision=self.revision,
            create_pr=self.create_pr,
            commit_message=self.commit_message,
        )


@dataclass(frozen=True, slots=True)
class Pushed:
    """The page where the model can be seen, and how each shard came to be; none where the output was finished."""

    url: str
    done: tuple[ShardDone, ...] = ()


def push_checkpoint(
    output: Path,
    to: Destination,
    *,
    source: str | Path | Source | None = None,
    on_bytes: OnBytes = lambda nbytes: None,
) -> tuple[str, VerifyReport]:
    """Verify a finished output, publish it, and return its page and what was proved.

    Args:
        output: A folder that ``upscale_checkpoint`` wrote.
        to: Where to publish it.
        source: What it was made from. Left out, it is taken from the Hub cache if all of it is there; if not, the
            output is held against itself and its provenance.
        on_bytes: Called with the number of tensor bytes each time some were compared.

    Raises:
        CheckpointError: the output is not what its provenance says.
        OutputError: the output is not finished, or would take its source's place.
        HubError: the Hub refused or could not be reached; nothing became visible.
    """
    if not output.is_dir() or output.name.endswith(".incomplete"):
        raise OutputError(f"{output}: {'is unfinished' if output.is_dir() else 'no such folder'}; expected an output")
    if (output / RECORD_NAME).exists():
        raise OutputError(
            f"{output}: its shards were deleted once they were published, so it cannot be pushed elsewhere; "
            "run the command that made it with another --push-to-hub and another OUT"
        )
    made_from = recorded_source(output)
    source_id = made_from.name if made_from.is_on_hub else None
    _refuse_source(source_id, to)
    report = verify_checkpoint(output, source or _cached_source(output, to.token), token=to.token, on_bytes=on_bytes)
    return _as_private_as(source_id, to).push(output), report


def upscale_and_push(
    plan: UpscalePlan,
    source: Source,
    output: Path,
    to: Destination,
    *,
    delete_local_shards: bool = False,
    overwrite: bool = False,
    executor: "Executor | None" = None,
    on_bytes: OnBytes = lambda nbytes: None,
) -> Pushed:
    """Carry a plan out and publish the result; each shard is proved right before it is sent.

    With ``delete_local_shards`` each shard is sent and deleted as soon as it is finished: the disk holds those of one
    pass at a time, and ``output`` at the end only the small files. Either way the commit that shows anything comes
    last, and a run that was stopped is taken up where it stood.

    Raises:
        CheckpointError: the source is missing something, or a shard is not what the plan says.
        OutputError: ``output`` cannot be written, or holds something else.
        HubError: the Hub refused or could not be reached; nothing became visible.
    """
    if isinstance(source, FolderSource):
        refuse_overlap(source.path, output)
    source_id = source.name if source.is_on_hub else None
    _refuse_source(source_id, to)
    to = _as_private_as(source_id, to)
    if delete_local_shards and _is_sent(plan, source, output, to):
        return Pushed(to.open(output / RECORD_NAME).finish(output, commit_message=to.commit_message))
    if is_finished(output, plan, source, on_bytes):
        forget_leftovers(plan, output)
        verify_checkpoint(output, None if source.local_path(plan.source_shards[0].filename) is None else source)
        return Pushed(to.push(output))
    first = to.open()  # before hours of work: may this be written at all?
    first.check_rights()
    fetch_needed(plan, source)
    depot = _Depot(Witness(source, plan), plan, to if delete_local_shards else None)
    done = []
    for each in execute(
        plan, depot.witness, output, overwrite=overwrite, depot=depot, executor=executor, on_bytes=on_bytes
    ):
        depot.bring(each)
        done.append(each)
    if depot.publication is None:
        return Pushed(to.push(output), tuple(done))
    return Pushed(depot.publication.moved_to(output).finish(output, commit_message=to.commit_message), tuple(done))


def _refuse_source(source_id: str | None, to: Destination) -> None:
    if source_id == to.repo_id:
        raise OutputError(f"{to.repo_id}: is the source; publish the result under another name")


def _as_private_as(source_id: str | None, to: Destination) -> Destination:
    """A destination that does not make a private model's weights public without a word.

    Where the source is private, a repository that does not exist yet is made private; of one that is public already
    the user is told.
    """
    if source_id is None or to.private or not _is_private(source_id, to):
        return to
    is_private = _is_private(to.repo_id, to)
    if is_private is None:
        _log.warning("%s is private, so %s is made private", printable(source_id), printable(to.repo_id))
        return replace(to, private=True)
    if not is_private:
        _log.warning("%s is private, and %s is public", printable(source_id), printable(to.repo_id))
    return to


def _is_private(repo_id: str, to: Destination) -> bool | None:
    """Whether a model on the Hub is private; None where there is none, or none that may be seen."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi(token=to.token, library_name=LIBRARY, library_version=__version__)
    with hub_errors(to.repo_id, writes=True):
        check_token(to.token)
        try:
            return bool(patiently(repo_id, lambda: api.model_info(repo_id)).private)
        except RepositoryNotFoundError:
            return None


class _Depot:
    """Proves each finished shard; where there is a destination, sends it there and deletes it here."""

    def __init__(self, witness: Witness, plan: UpscalePlan, to: Destination | None) -> None:
        self.witness = witness
        self.publication: Publication | None = None
        self._shards = {shard.filename: shard for shard in plan.shards}
        self._to = to

    @property
    def record(self) -> str | None:
        return None if self._to is None else RECORD_NAME

    def open(self, folder: Path) -> Set[str]:
        self.witness.resume(folder)
        if self._to is not None:
            self.publication = self._to.open(folder / RECORD_NAME)
        away = {} if self.publication is None else self.publication.sent
        for name, shard in self._shards.items():
            if name not in away and not self.witness.can_check(shard):
                (folder / name).unlink(missing_ok=True)  # nobody can tell any more whether it is right
        return away.keys()

    def bring(self, done: ShardDone) -> None:
        if self.publication is None:
            self.witness.check(self._shards[done.filename], done.path)
            return
        if done.filename not in self.publication.sent:
            self.witness.check(self._shards[done.filename], done.path)
            if self.publication.send(done.path, done.filename) is None:
                return
        done.path.unlink(missing_ok=True)


def _is_sent(plan: UpscalePlan, source: Source, output: Path, to: Destination) -> bool:
    """Whether ``output`` is what an earlier run with deleted shards left, all of which are at the destination."""
    try:
        if not (output / RECORD_NAME).is_file():
            return False
        written = (output / PROVENANCE_NAME).read_bytes()
    except OSError:
        return False
    if written != render_output_files(plan, sidecar_digests(plan, source))[PROVENANCE_NAME]:
        return False
    sent = to.open(output / RECORD_NAME).sent
    return all(shard.filename in sent or (output / shard.filename).is_file() for shard in plan.shards)


def _cached_source(output: Path, token: str | bool | None) -> Source | None:
    """The recorded source, if it is a model on the Hub and all of it that is needed is in the cache."""
    made_from = recorded_source(output)
    if not made_from.is_on_hub:
        return None
    try:
        source = open_source(made_from.name, HubOptions(made_from.revision, token, local_files_only=True))
        checkpoint = open_checkpoint(source)
        return source if all(source.local_path(shard.filename) for shard in checkpoint.shards) else None
    except (CheckpointError, HubError):
        return None
