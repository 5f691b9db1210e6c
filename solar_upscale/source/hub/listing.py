"""The files of a commit with their sizes and content hashes, as listed by the Hub or found in the cache."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from solar_upscale._version import __version__
from solar_upscale.errors import CheckpointError
from solar_upscale.source.hub.client import LIBRARY, connection_errors, with_retries
from solar_upscale.source.protocol import MAX_FILES, SourceFile
from solar_upscale.source.weight_files import WEIGHT_SUFFIXES

__all__ = ["list_files"]

_log = logging.getLogger("solar_upscale")


def list_files(
    repo_id: str, commit: str, token: str | bool | None, snapshot: Path, *, local_files_only: bool
) -> dict[str, SourceFile]:
    """Every file of a commit by name; ``snapshot`` is its folder in the cache.

    Raises:
        CheckpointError: a filename is unsafe, or the Hub lists no size or no hash for a file.
        OSError, RuntimeError, ValueError: raised by the client, for ``hub_errors`` to translate.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    if local_files_only or constants.HF_HUB_OFFLINE:
        return _list_snapshot(snapshot)
    cached = any(path.name.endswith(WEIGHT_SUFFIXES) for path in snapshot.iterdir())
    try:
        try:
            return _fetch_listing(repo_id, commit, token)
        except connection_errors() as error:
            if cached and not isinstance(error, HfHubHTTPError):
                raise  # unreachable: use the cache at once instead of retrying
            return with_retries(repo_id, lambda: _fetch_listing(repo_id, commit, token))
    except connection_errors() as error:
        if not cached or (isinstance(error, HfHubHTTPError) and error.response.status_code < 500):
            raise
        _log.warning("%s: the Hub is unreachable; using the cached files", repo_id)
        return _list_snapshot(snapshot)


def _fetch_listing(repo_id: str, commit: str, token: str | bool | None) -> dict[str, SourceFile]:
    """The Hub's listing: from one request if that has every size and hash, else page by page."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(token=token, library_name=LIBRARY, library_version=__version__)
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        siblings = api.model_info(repo_id, revision=commit, files_metadata=True, timeout=timeout).siblings or ()
    except (LookupError, TypeError):  # a sibling lacks a field that the client requires
        siblings = ()
    listing = _checked(repo_id, ((each.rfilename, each.size, each.blob_id, each.lfs) for each in siblings))
    if listing and None not in listing.values():
        return {name: file for name, file in listing.items() if file is not None}
    entries = api.list_repo_tree(repo_id, recursive=True, revision=commit)
    files = (each for each in entries if isinstance(each, RepoFile))
    listing = _checked(repo_id, ((each.path, each.size, each.blob_id, each.lfs) for each in files))
    incomplete = next((name for name, file in listing.items() if file is None), None)
    if incomplete is not None:
        raise CheckpointError(f"{repo_id}: {incomplete}: the Hub lists no size or no hash for this file")
    return {name: file for name, file in listing.items() if file is not None}


def _checked(repo_id: str, entries: Iterable[tuple[str, Any, Any, Any]]) -> dict[str, SourceFile | None]:
    """Files by name, made from (name, size, git hash, LFS pointer); None where size or hash is missing."""
    listing: dict[str, SourceFile | None] = {}
    for name, size, blob_id, lfs in entries:
        _check_name(repo_id, name)
        nbytes, state = (lfs.size, lfs.sha256) if lfs else (size, blob_id)
        complete = isinstance(nbytes, int) and nbytes >= 0 and isinstance(state, str) and state
        listing[name] = SourceFile(name, nbytes, state.lower()) if complete else None
        if len(listing) > MAX_FILES:
            raise CheckpointError(f"{repo_id}: more than {MAX_FILES} files; this is not a checkpoint")
    return listing


def _check_name(repo_id: str, name: object) -> None:
    parts = name.split("/") if isinstance(name, str) else [""]
    if not isinstance(name, str) or not name.isprintable() or "\\" in name or {"", ".", ".."} & set(parts):
        raise CheckpointError(f"{repo_id}: unsafe filename {name!r}; expected a relative path inside the repository")


def _list_snapshot(snapshot: Path) -> dict[str, SourceFile]:
    """The cached files of a commit. Each is a symlink to a blob that is named after its content hash."""
    listing = {}
    for path in sorted(snapshot.rglob("*")):
        if path.is_file():
            name = path.relative_to(snapshot).as_posix()
            status = path.stat()
            state = path.readlink().name if path.is_symlink() else f"{status.st_size}:{status.st_mtime_ns}"
            listing[name] = SourceFile(name, status.st_size, state)
    return listing
