"""Opens a source by name: a folder, or a model on the Hub.

The Hub client is imported only when the name is a model's, so that jobs on folders start faster. A name that is a slip
away from a folder's is refused before the Hub is asked.
"""

import os
import re
from itertools import islice
from pathlib import Path

from solar_upscale.errors import CheckpointError
from solar_upscale.request import HubOptions
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.protocol import Source
from solar_upscale.source.weight_files import MERGE_ADAPTER
from solar_upscale.text import closest

__all__ = ["did_you_mean_folder", "open_source"]

DEFAULT = HubOptions()

# Folders in one place that a misspelt name is compared with.
_MAX_NEIGHBOURS = 5_000


def open_source(source: str | Path | Source, hub: HubOptions = DEFAULT, *, headers_only: bool = False) -> Source:
    """Return the source with this name: the folder if it exists, else the model on the Hub.

    Args:
        source: A path, a repo id, or a Source, which is returned as is. A Path is always a folder, even if it could be
            a repo id.
        hub: Options for reading from the Hub.
        headers_only: Only headers and small files will be read.

    Raises:
        CheckpointError: it is neither a folder nor a repo id, it is a slip away from a folder's name, the repository is
            not a model, or ``hub`` sets an option that does not apply to a folder.
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
        raise CheckpointError(
            f"{text}: no such folder; expected a folder with a checkpoint, or a model id USER/NAME"
            f"{did_you_mean_folder(text)}"
        )
    if hub.revision is None:
        _refuse_slip(text)
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


def did_you_mean_folder(text: str) -> str:
    """The end of a message about a folder that does not exist: the one that was probably meant, or nothing."""
    meant = _nearest_folder(text)
    return f'; did you mean "{meant}"?' if meant else ""


def _refuse_slip(text: str) -> None:
    """Refuse a name that may be a model's but is a slip of the fingers away from a folder with a checkpoint.

    Raises:
        CheckpointError: it is.
    """
    meant = _nearest_folder(text)
    if meant and (meant / "config.json").is_file() and _is_slip(text, str(meant)):
        raise CheckpointError(
            f'{text}: no such folder; did you mean "{meant}"? For a model of that name on the Hub, add --revision main'
        )


def _nearest_folder(text: str) -> Path | None:
    """The folder with this path but for misspelt names in it; None if there is none."""
    path = Path(text).expanduser()
    found = Path(path.anchor)
    for name in path.relative_to(path.anchor).parts:
        exists = (found / name).is_dir()
        nearest = name if exists else closest(name, _folders_in(found), cutoff=0.75)
        if nearest is None:
            return None
        found /= nearest
    return found


def _folders_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            few = islice(entries, _MAX_NEIGHBOURS)
            return [entry.name for entry in few if entry.is_dir() and not entry.name.endswith(".incomplete")]
    except OSError:
        return []


def _is_slip(written: str, name: str) -> bool:
    """Whether single letters apart the texts are the same; another number or another word is another model."""
    from difflib import SequenceMatcher

    written, name = written.casefold(), name.casefold()
    steps = SequenceMatcher(None, written, name, autojunk=False).get_opcodes()
    edits = [(written[at:end], name[start:stop]) for kind, at, end, start, stop in steps if kind != "equal"]
    single_letters = all(len(before) <= 1 and len(after) <= 1 for before, after in edits)
    return single_letters and not re.search(r"\d", "".join(before + after for before, after in edits))
