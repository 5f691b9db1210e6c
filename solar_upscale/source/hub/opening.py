"""Opens a repo id as a model at one commit: resolves the revision, then lists the files."""

import re
from contextlib import suppress
from pathlib import Path

from solar_upscale._version import __version__
from solar_upscale.errors import CheckpointError, HubError
from solar_upscale.request import HubOptions
from solar_upscale.source.hub.client import (
    LIBRARY,
    check_reachable,
    check_token,
    connection_errors,
    hub_errors,
    with_retries,
)
from solar_upscale.source.hub.listing import list_files
from solar_upscale.source.hub.model import HubSource, Mode

__all__ = ["open_model"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


def open_model(repo_id: str, hub: HubOptions, *, headers_only: bool) -> HubSource:
    """Return the model as a source, with its revision resolved to a commit and its files listed.

    Raises:
        CheckpointError: the id is malformed, or the repository is not a model.
        HubError: the Hub refused or could not be reached.
    """
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    mode: Mode = "headers" if headers_only else "stream" if hub.stream else "download"
    cache = hub.cache_dir.expanduser() if hub.cache_dir is not None else None
    try:
        with hub_errors(repo_id, revision=hub.revision):
            check_token(hub.token)
            config = _find_config(repo_id, hub, cache)
    except HubError as error:
        if isinstance(error.__cause__, GatedRepoError | RevisionNotFoundError):
            raise
        raise HubError(f"{error}; no folder has that name either") from error.__cause__
    with hub_errors(repo_id, revision=hub.revision):
        commit = config.parent.name
        if not _COMMIT.fullmatch(commit):
            raise HubError(f"{repo_id}: the Hub returned an invalid commit hash: {commit}")
        listing = list_files(repo_id, commit, hub.token, config.parent, local_files_only=hub.local_files_only)
    return HubSource(repo_id, commit, listing, mode, hub.token, cache, hub.local_files_only)


def _find_config(repo_id: str, hub: HubOptions, cache: Path | None) -> Path:
    """The cached config.json, in a snapshot folder that is named after the commit.

    Downloading it makes the client resolve the revision: with the Hub, or offline from the ref in the cache. It also
    writes that ref.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented there

    def find(*, local_files_only: bool) -> str:
        return hf_hub_download(
            repo_id,
            "config.json",
            revision=hub.revision,
            token=hub.token,
            cache_dir=cache,
            local_files_only=local_files_only,
            library_name=LIBRARY,
            library_version=__version__,
        )

    try:
        validate_repo_id(repo_id)
        # What is cached is read without a connection; for all else the client would try for half a minute.
        is_cached = isinstance(try_to_load_from_cache(repo_id, "config.json", cache, hub.revision), str)
        if not hub.local_files_only and not is_cached:
            check_reachable(repo_id)
        try:
            found = with_retries(repo_id, lambda: find(local_files_only=hub.local_files_only))
        except connection_errors() as error:
            # The client falls back to the cache where it cannot connect, but not where a connection drops.
            if isinstance(error, HfHubHTTPError | LocalEntryNotFoundError):
                raise
            with suppress(LocalEntryNotFoundError):
                return Path(find(local_files_only=True))
            raise
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError as error:
        raise CheckpointError(f"{repo_id}: no config.json; expected a checkpoint that transformers can load") from error
    except HFValidationError as error:
        raise CheckpointError(f"{repo_id}: neither a folder nor a model id USER/NAME") from error
    return Path(found)
