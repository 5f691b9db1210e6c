"""A finished folder as one publication: what it must hold to be one, and its large files sent ahead of the rest."""

from pathlib import Path

from solar_upscale.errors import CheckpointError, OutputError
from solar_upscale.publish.publication import WEIGHT_SUFFIXES, Publication
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.source.folder import FolderSource

__all__ = ["push_folder"]


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
) -> str:
    """Publish a finished checkpoint folder; return the page where it can be seen.

    Args:
        folder: The checkpoint; hidden files are not published.
        repo_id: USER/NAME; made if it does not exist.
        token: As the client takes it: a token, None for the one that is logged in.
        private: Make the repository private; refused if it exists and is public.
        revision: The branch to write, made from main if it does not exist; main by default.
        create_pr: Open a pull request instead of writing to the branch.
        commit_message: The first line of the commit.

    Raises:
        OutputError: the folder is not a finished checkpoint.
        HubError: the Hub refused or could not be reached; nothing became visible.
    """
    _check_finished(folder)
    publication = Publication(repo_id, token=token, private=private, revision=revision, create_pr=create_pr)
    source = FolderSource(folder)
    for name in sorted(source.files()):
        if name.endswith(WEIGHT_SUFFIXES):
            publication.send(source.local_path(name), name)
    return publication.finish(folder, commit_message=commit_message)


def _check_finished(folder: Path) -> None:
    """Headers, index and config of the folder make a checkpoint, and nothing in it is unfinished."""
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder")
    for name in (folder.resolve().name, *FolderSource(folder).files()):
        if name.endswith(".incomplete") or ".incomplete/" in name:
            raise OutputError(f"{folder}: {name} is unfinished; run the command that makes it again, then publish")
    try:
        open_checkpoint(FolderSource(folder))
    except CheckpointError as error:
        raise OutputError(f"{folder}: not a finished checkpoint: {error}") from error
