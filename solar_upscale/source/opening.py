"""From a text to a source: a folder, or a model on the Hub.

What talks to the Hub is imported where a text stands for a model: a job on a folder does not wait for it.
"""

from pathlib import Path

from solar_upscale.errors import CheckpointError
from solar_upscale.request import HubOptions
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.protocol import Source

__all__ = ["open_source"]

DEFAULT = HubOptions()


def open_source(source: str | Path | Source, hub: HubOptions = DEFAULT, *, headers_only: bool = False) -> Source:
    """The source that is meant: a folder if there is one of that name, else a model on the Hub.

    Args:
        source: A path, a repo id, or a Source, which is handed back. A Path is a folder, even where a Hub id is
            spelled the same.
        hub: How a model on the Hub is read.
        headers_only: Nothing but headers and small files will be read.

    Raises:
        CheckpointError: it is neither a folder nor a repo id, the repository is not a model, or ``hub`` asks of a
            folder what only the Hub has.
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
            raise CheckpointError(f"{text}: a folder is not streamed; leave --stream out")
        return FolderSource(folder)
    if "://" in text:  # not repeated: it may hold a token
        raise CheckpointError("SOURCE: a web address is no source; expected a folder, or a model id USER/NAME")
    if text.startswith((".", "/", "~")) or not text or text.count("/") > 1 or "\\" in text or folder.exists():
        raise CheckpointError(f"{text}: no such folder; expected a folder with a checkpoint, or a model id USER/NAME")
    from solar_upscale.source.hub.opening import open_model

    return open_model(text, hub, headers_only=headers_only)
