"""Opens a source by name: a folder, or a model on the Hub.

The Hub client is imported only when the name is a model's, so that jobs on folders start faster.
"""

from pathlib import Path

from solar_upscale.errors import CheckpointError
from solar_upscale.request import HubOptions
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.protocol import Source
from solar_upscale.source.weight_files import MERGE_ADAPTER

__all__ = ["open_source"]

DEFAULT = HubOptions()


def open_source(source: str | Path | Source, hub: HubOptions = DEFAULT, *, headers_only: bool = False) -> Source:
    """Return the source with this name: the folder if it exists, else the model on the Hub.

    Args:
        source: A path, a repo id, or a Source, which is returned as is. A Path is always a folder, even if it could be
            a repo id.
        hub: Options for reading from the Hub.
        headers_only: Only headers and small files will be read.

    Raises:
        CheckpointError: it is neither a folder nor a repo id, the repository is not a model, or ``hub`` sets an option
            that does not apply to a folder.
        HubError: the Hub refused or could not be reached.
    """
    if not isinstance(source, str | Path):
        return source
    text = source if isinstance(source, str) else str(source.absolute())
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        if hub.revision is not None:
            raise CheckpointError(f"{text}: a folder has no revisions; leave --revision out")
        if hub.stream:
            raise CheckpointError(f"{text}: a folder cannot be streamed; leave --stream out")
        return FolderSource(folder)
    if text and folder.is_file():
        raise CheckpointError(f"{text}: {_about_file(folder)}")
    if "://" in text:  # not quoted: it may contain a token
        raise CheckpointError("SOURCE: URLs are not supported; expected a folder, or a model id USER/NAME")
    if text.startswith((".", "/", "~")) or not text or text.count("/") > 1 or "\\" in text or folder.exists():
        raise CheckpointError(f"{text}: no such folder; expected a folder with a checkpoint, or a model id USER/NAME")
    from solar_upscale.source.hub.opening import open_model

    return open_model(text, hub, headers_only=headers_only)


def _about_file(path: Path) -> str:
    """What a file that was given in place of a folder is, and what to give."""
    suffix = path.suffix.lower()
    if path.name.startswith("adapter_"):
        return f"is part of an adapter, not a checkpoint; {MERGE_ADAPTER}"
    if suffix == ".gguf":
        return "is a GGUF file, which is not supported; give the safetensors checkpoint that it was converted from"
    if suffix in (".safetensors", ".bin") or path.name.endswith(".index.json"):
        return "is one file of a checkpoint; give the folder that holds it and its config.json"
    return "is a file; expected a folder with a checkpoint, or a model id USER/NAME"
