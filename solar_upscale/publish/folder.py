"""Publishes a finished folder: checks that it is complete, uploads its weight files, then commits everything."""

from pathlib import Path

from solar_upscale.errors import CheckpointError, OutputError
from solar_upscale.publish.publication import Publication
from solar_upscale.request import Destination
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.weight_files import READABLE_SUFFIXES

__all__ = ["push_folder"]


def push_folder(folder: Path, destination: Destination) -> str:
    """Publish a finished checkpoint folder without its hidden files, and return the URL.

    Raises:
        OutputError: the folder is not a finished checkpoint.
        HubError: the Hub refused or could not be reached; nothing became visible.
    """
    _check_finished(folder)
    publication = Publication(destination)
    source = FolderSource(folder)
    for name in sorted(source.files()):
        if name.endswith(READABLE_SUFFIXES):
            publication.send(source.local_path(name), name)
    return publication.finish(folder)


def _check_finished(folder: Path) -> None:
    """Check that the folder is a valid checkpoint and that nothing in it is unfinished."""
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder")
    for name in (folder.resolve().name, *FolderSource(folder).files()):
        if name.endswith(".incomplete") or ".incomplete/" in name:
            raise OutputError(f"{folder}: {name} is unfinished; run the command that makes it again, then publish")
    try:
        open_checkpoint(FolderSource(folder))
    except CheckpointError as error:
        raise OutputError(f"{folder}: not a finished checkpoint: {error}") from error
