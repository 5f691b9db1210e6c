"""A publication in progress: large files are uploaded one by one, and one commit makes everything visible."""

import hashlib
import io
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solar_upscale._version import __version__
from solar_upscale.errors import HubError, OutputError, printable
from solar_upscale.publish.record import SentFile, load_record, save_record
from solar_upscale.report.card import named
from solar_upscale.report.provenance import PROVENANCE_NAME
from solar_upscale.request import Destination
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.hub.client import (
    LIBRARY,
    MAX_CLIENT_ATTEMPTS,
    check_reachable,
    check_token,
    hub_errors,
    redact_userinfo,
    with_retries,
)
from solar_upscale.source.weight_files import READABLE_SUFFIXES
from solar_upscale.text import listed

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

__all__ = ["Publication"]

_log = logging.getLogger("solar_upscale")

DEFAULT_MESSAGE = "Upload model with solar-upscale"

_CARD = "README.md"

LARGEST_IN_COMMIT = 10 << 20
"""Maximum size in bytes of a weight file in the commit request itself, which is built in memory."""

_NOT_IMPLEMENTED = (404, 405, 501)
"""Responses of a Hub without a check of rights; there the upload itself will fail."""

_OUR_WEIGHTS = re.compile(
    r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
    r"|pytorch_model(-\d+-of-\d+)?\.bin|pytorch_model\.bin\.index\.json"
)
"""Weight files that transformers would load instead of, or along with, the new ones."""


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    nbytes: int
    blob_id: str
    sha256: str | None


class Publication:
    """A publication in progress: ``send`` each large file once it is finished, then ``finish``.

    ``record`` is a small file next to the unfinished output that records every uploaded file with its hash. A recorded
    file may be deleted locally: the next Publication with the same record finishes without it.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        record: Path | None = None,
    ) -> None:
        """Create the repository and the branch if they do not exist, and list their files.

        Raises:
            HubError: the Hub refused or could not be reached.
        """
        from huggingface_hub import HfApi

        self._api = HfApi(token=destination.token, library_name=LIBRARY, library_version=__version__)
        self.repo_id = destination.repo_id
        self._revision = destination.revision
        self._create_pr = destination.create_pr
        self._message = destination.commit_message or DEFAULT_MESSAGE
        self._record = record
        self._operations: dict[str, CommitOperationAdd] = {}
        with hub_errors(self.repo_id, revision=self._revision, writes=True):
            check_token(destination.token)
            check_reachable(self.repo_id)
            self.repo_id = self._make_repository(private=destination.private)
            self._parent, self._remote = with_retries(self.repo_id, self._list_branch)
        self._warn_of_foreign_weights()
        self.sent: dict[str, SentFile] = {} if record is None else load_record(record, self._endpoint, self.repo_id)

    def send(self, path: Path, name: str) -> SentFile | None:
        """Upload a finished file before the commit, unless the Hub already has it; return its size and hash.

        Returns None for a small file that the Hub wants in the commit itself: it must not be deleted before.

        Raises:
            HubError: the Hub refused or could not be reached.
        """
        nbytes = path.stat().st_size
        with hub_errors(self.repo_id, revision=self._revision, writes=True):
            sha256 = self._remote_hash(path, name) or self._upload(path, name, nbytes)
        if sha256 is not None:
            self.sent[name] = SentFile(nbytes, sha256)
        if self._record is not None:
            save_record(self._record, self._endpoint, self.repo_id, self.sent)
        return self.sent[name] if sha256 is not None else None

    def _upload(self, path: Path, name: str, nbytes: int) -> str | None:
        from huggingface_hub import CommitOperationAdd

        operation = CommitOperationAdd(name, path)
        with_retries(
            name,
            lambda: self._api.preupload_lfs_files(
                self.repo_id, [operation], revision=self._revision, create_pr=self._create_pr
            ),
            max_attempts=MAX_CLIENT_ATTEMPTS,
        )
        if operation.path_or_fileobj == b"":  # the client drops the content once it is uploaded
            self._operations[name] = operation
            return operation.upload_info.sha256.hex()
        if nbytes <= LARGEST_IN_COMMIT and not getattr(operation, "_should_ignore", False):
            return None
        raise HubError(
            f"{self.repo_id}: {name}: the repository does not accept it as a large file; change its .gitattributes or "
            ".gitignore"
        )

    def finish(self, folder: Path) -> str:
        """Make everything visible in one commit: the uploaded files and every other file of ``folder``.

        Nothing is committed if the branch already has it all.

        Raises:
            OutputError: a shard in the index is neither in the folder nor uploaded.
            HubError: the Hub refused, the branch changed meanwhile, or the network failed; nothing became visible.
        """
        names = sorted(FolderSource(folder).files())
        _check_complete(folder, {*names, *self.sent})
        with hub_errors(self.repo_id, revision=self._revision, writes=True):
            return self._commit(folder, names)

    def check_rights(self) -> None:
        """Check that the branch may be written, before there is anything to upload.

        Raises:
            HubError: it may not be written.
        """
        import inspect

        from huggingface_hub.errors import HfHubHTTPError as Refusal

        can_check = "write" in inspect.signature(self._api.auth_check).parameters  # not before huggingface_hub 1.4
        if can_check and not self._create_pr:  # anybody may open a pull request
            with hub_errors(self.repo_id, revision=self._revision, writes=True):
                try:
                    with_retries(self.repo_id, lambda: self._api.auth_check(self.repo_id, write=True))
                except Refusal as error:
                    if error.response.status_code not in _NOT_IMPLEMENTED or "X-Error-Code" in error.response.headers:
                        raise

    def moved_to(self, folder: Path) -> "Publication":
        """This publication, with its record in ``folder`` from now on."""
        self._record = None if self._record is None else folder / self._record.name
        return self

    # The repository

    @property
    def _endpoint(self) -> str:
        return redact_userinfo(self._api.endpoint)

    @property
    def url(self) -> str:
        """The URL of the branch."""
        url = f"{self._endpoint}/{self.repo_id}"
        return url if self._revision is None else f"{url}/tree/{self._revision}"

    def _warn_of_foreign_weights(self) -> None:
        """Warn if weights that this program did not upload are replaced; the repository's history keeps them."""
        weights = sorted(name for name in self._remote if _OUR_WEIGHTS.fullmatch(name))
        if weights and PROVENANCE_NAME not in self._remote:
            _log.warning(
                "%s: replacing %s, which solar-upscale did not upload",
                printable(self.repo_id),
                printable(listed(weights)),
            )

    def _make_repository(self, *, private: bool) -> str:
        visibility: dict[str, Any] = {"private": True} if private else {}
        made = with_retries(self.repo_id, lambda: self._api.create_repo(self.repo_id, exist_ok=True, **visibility))
        repo_id = made.repo_id
        if private and not with_retries(repo_id, lambda: self._api.model_info(repo_id)).private:
            raise HubError(
                f"{repo_id}: exists and is public; make it private on {redact_userinfo(made)}/settings, "
                "or leave --private out"
            )
        branch = self._revision
        if branch is not None and not self._create_pr and not branch.startswith("refs/"):
            with_retries(repo_id, lambda: self._api.create_branch(repo_id, branch=branch, exist_ok=True))
        return repo_id

    def _list_branch(self) -> tuple[str | None, dict[str, _RemoteFile]]:
        """The newest commit of the branch, or None if there is none yet, and its files."""
        from huggingface_hub.errors import EntryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        commit = self._api.model_info(self.repo_id, revision=self._revision).sha
        if commit is None:
            return None, {}
        try:
            entries = list(self._api.list_repo_tree(self.repo_id, recursive=True, revision=commit))
        except EntryNotFoundError:  # a commit without any file
            entries = []
        return commit, {
            entry.path: _RemoteFile(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
            for entry in entries
            if isinstance(entry, RepoFile)
        }

    # The commit

    def _commit(self, folder: Path, names: list[str]) -> str:
        from huggingface_hub.errors import HfHubHTTPError as Refusal

        operations = self._operations_needed(folder, names)
        if not operations:
            return self.url

        def commit() -> Any:
            return self._api.create_commit(
                self.repo_id,
                operations,
                commit_message=self._message,
                revision=self._revision,
                create_pr=self._create_pr,
                parent_commit=self._parent,
            )

        with_retries(self.repo_id, lambda: self._refuse_ignored(operations), max_attempts=MAX_CLIENT_ATTEMPTS)
        try:
            # A pull request is not retried: if only the response was lost, a retry would open a second one.
            info = commit() if self._create_pr else with_retries(self.repo_id, commit)
        except (Refusal, LookupError, TypeError, ValueError) as error:
            # The commit may have succeeded even so, if its response was lost or the client could not parse it.
            if isinstance(error, Refusal) and error.response.status_code not in (409, 412):
                raise self._explained(error) from error
            self._parent, self._remote = with_retries(self.repo_id, self._list_branch)
            if self._operations_needed(folder, names):
                raise
            return self.url
        return str(info.pr_url or self.url)

    def _refuse_ignored(self, operations: "list[CommitOperationAdd | CommitOperationDelete]") -> None:
        """Upload large files that are missing, and check that no file is excluded from the commit.

        The client silently skips files that match the repository's .gitignore, which could lose the model's config.
        """
        from huggingface_hub import CommitOperationAdd

        additions = [each for each in operations if isinstance(each, CommitOperationAdd)]
        self._api.preupload_lfs_files(
            self.repo_id, additions, revision=self._revision, create_pr=self._create_pr, free_memory=False
        )
        ignored = [each.path_in_repo for each in additions if getattr(each, "_should_ignore", False)]
        if ignored:
            raise HubError(
                f"{self.repo_id}: the repository's .gitignore excludes {', '.join(ignored[:3])}; change it there, and "
                "run the same command again"
            )

    def _explained(self, error: "HfHubHTTPError") -> Exception:
        """The error, or its likely cause if the commit has files that were deleted locally."""
        if self._record is None or error.response.status_code != 400:
            return error
        return HubError(
            f"{self.repo_id}: the commit was refused; if the Hub has dropped files that were uploaded before it, "
            f"remove {self._record} and run the same command again"
        )

    def _operations_needed(self, folder: Path, names: list[str]) -> "list[CommitOperationAdd | CommitOperationDelete]":
        """Add the files that the branch lacks, and delete weights that would be mixed with the new ones."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        source = FolderSource(folder)
        wanted = {*names, *self.sent}
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationDelete(name)
            for name in sorted(self._remote)
            if name not in wanted and _OUR_WEIGHTS.fullmatch(name)
        ]
        for name in sorted(wanted):
            remote = self._remote.get(name)
            if name in self.sent:
                if remote is None or remote.sha256 != self.sent[name].sha256:
                    operations.append(self._operations.get(name) or _uploaded(name, self.sent[name]))
                continue
            path = source.local_path(name)
            content = named(path.read_bytes(), self.repo_id) if name == _CARD and PROVENANCE_NAME in wanted else path
            if remote is None or not _is_same(content, remote):
                operations.append(CommitOperationAdd(name, content))
        return operations

    def _remote_hash(self, path: Path, name: str) -> str | None:
        """The hash of a file, if the branch has it with the same content; None if not."""
        remote = self._remote.get(name)
        return remote.sha256 if remote is not None and _is_same(path, remote) else None


def _uploaded(name: str, sent: SentFile) -> "CommitOperationAdd":
    """The operation that commits a large file which is on the Hub and may have been deleted locally.

    The client leaves an operation in this state once it has uploaded and dropped its content.

    Source: huggingface_hub 2.4, ``HfApi.preupload_lfs_files(..., free_memory=True)``.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.lfs import UploadInfo

    operation = CommitOperationAdd(name, b"")
    if not (hasattr(operation, "_upload_mode") and hasattr(operation, "_is_uploaded")):
        raise HubError(f"{name}: this huggingface_hub cannot commit a file that was deleted locally; use version 2.4")
    operation.upload_info = UploadInfo(size=sent.nbytes, sha256=bytes.fromhex(sent.sha256), sample=b"")
    operation._upload_mode = "lfs"
    operation._is_uploaded = True
    return operation


def _is_same(content: Path | bytes, remote: _RemoteFile) -> bool:
    nbytes = len(content) if isinstance(content, bytes) else content.stat().st_size
    if nbytes != remote.nbytes:
        return False
    if remote.sha256 is not None:
        return _hash(content, hashlib.sha256) == remote.sha256
    return _hash(content, lambda: hashlib.sha1(b"blob %d\0" % nbytes, usedforsecurity=False)) == remote.blob_id


def _hash(content: Path | bytes, new_hash: "Callable[[], hashlib._Hash]") -> str:
    """The hash of a file or of bytes."""
    if isinstance(content, bytes):
        return hashlib.file_digest(io.BytesIO(content), new_hash).hexdigest()
    try:
        with content.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, new_hash).hexdigest()
    except OSError as error:
        raise OutputError(f"{content}: cannot be read: {error.strerror or error}") from error


def _check_complete(folder: Path, names: set[str]) -> None:
    """Check that config.json and every weight file in the index is in the folder or uploaded."""
    index = folder / "model.safetensors.index.json"
    needed = {"config.json"}
    try:
        needed |= set(json.loads(index.read_bytes())["weight_map"].values()) if index.exists() else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{index}: not an index of weights") from error
    missing = sorted(needed - names)
    if missing or not any(name.endswith(READABLE_SUFFIXES) for name in names):
        raise OutputError(f"{folder}: not a finished checkpoint: {', '.join(missing[:3]) or 'weights'} missing")
