"""A local folder as a Source, and local files read in chunks. The Hub is in hub/; nothing is interpreted here."""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from solar_upscale.errors import CheckpointError, printable
from solar_upscale.source.protocol import MAX_FILES, STREAM_NBYTES, SourceFile

__all__ = ["FolderSource", "next_chunks", "read_local"]

_XET_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A checkpoint in a local folder, which may be a snapshot in the Hub cache.

    A file must be a regular file whose real path is in the folder. In a Hub cache snapshot the real path may also be in
    the repository's ``blobs`` or in the cache's shared store. Any other symlink is refused when it is opened.
    """

    path: Path

    def __post_init__(self) -> None:  # a worker may have another working directory
        object.__setattr__(self, "path", self.path.absolute())

    @property
    def name(self) -> str:
        """The folder's own name, without its parents."""
        return printable(self.path.resolve().name) or "/"

    @property
    def revision(self) -> str | None:
        """None: a folder has no commits."""
        return None

    @property
    def is_on_hub(self) -> bool:
        """False."""
        return False

    def fetch(self, filenames: Sequence[str]) -> None:
        """Do nothing: the files are local."""

    def files(self) -> Mapping[str, SourceFile]:
        """Every regular file by name; hidden files and folders, FIFOs and devices are passed over.

        Raises:
            CheckpointError: the folder cannot be listed.
        """
        found: dict[str, SourceFile] = {}
        for name in sorted(_walk(self.path)):
            try:
                status = (self.path / name).stat()
            except OSError:
                continue  # a dangling symlink is no file; a weight map that names it is refused as missing
            if stat.S_ISREG(status.st_mode):
                found[name] = SourceFile(name, status.st_size, f"{status.st_size}:{status.st_mtime_ns}")
        return found

    def read(self, filename: str, start: int, stop: int) -> bytes:
        """Exactly the bytes [start, stop) of a file.

        Raises:
            CheckpointError: the file cannot be opened, is outside the folder, or ends before ``stop``.
        """
        return b"".join(self.stream(filename, start, stop))

    def stream(self, filename: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) of a file, in chunks of at most STREAM_NBYTES.

        Raises:
            CheckpointError: the file cannot be opened, is outside the folder, or ends before ``stop``.
        """
        return read_local(self.local_path(filename), filename, start, stop)

    def local_path(self, filename: str) -> Path:
        """The file itself.

        Raises:
            CheckpointError: its real path is neither in the folder nor among the Hub cache's blobs.
        """
        root = self.path.resolve()
        path = self.path / filename
        real = path.resolve()
        allowed = [root]
        if root.parent.name == "snapshots":
            allowed.append(root.parent.parent / "blobs")
        inside = any(real.is_relative_to(each) for each in allowed)
        if not inside and not (root.parent.name == "snapshots" and _is_shared_blob(real, root.parent.parent.parent)):
            raise CheckpointError(f"{filename}: links to a file outside the checkpoint's folder; copy the file into it")
        if real.exists() and not real.is_file():
            raise CheckpointError(f"{filename}: is not a regular file")
        return path


def read_local(path: Path, name: str, start: int, stop: int) -> Iterator[bytes]:
    """The bytes [start, stop) of a local file, in chunks of at most STREAM_NBYTES; ``name`` is for messages.

    Raises:
        CheckpointError: the file cannot be read, or ends before ``stop``.
    """
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            for chunk in next_chunks(file, stop - start):
                start += len(chunk)
                yield chunk
            if start < stop:
                raise CheckpointError(f"{name}: ends at byte {start}; expected {stop} bytes or more")
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be read: {error.strerror or error}") from error


def next_chunks(file: IO[bytes], nbytes: int) -> Iterator[bytes]:
    """Up to ``nbytes`` of an open file from its current offset, in chunks of at most STREAM_NBYTES."""
    while nbytes > 0 and (chunk := file.read(min(STREAM_NBYTES, nbytes))):
        nbytes -= len(chunk)
        yield chunk


def _is_shared_blob(path: Path, cache: Path) -> bool:
    """Whether a path is a blob that the repositories of a Hub cache share: CACHE/blobs/HA/HASH.

    Source: huggingface_hub 2.4, utils/_shared_blobs.py; the client's marker file identifies the store.
    """
    store = cache / "blobs"
    is_blob_path = _XET_HASH.fullmatch(path.name) is not None and path == store / path.name[:2] / path.name
    return is_blob_path and (store / ".huggingface-shared-blobs").is_file()


def _walk(folder: Path) -> Iterator[str]:
    """Relative names of the files below a folder, except hidden ones. Symlinked folders are not followed."""
    pending = [""]
    count = 0
    while pending:
        below = pending.pop()
        try:
            with os.scandir(folder / below) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    count += 1
                    if count > MAX_FILES:
                        raise CheckpointError(f"{folder.name}: more than {MAX_FILES} files; this is not a checkpoint")
                    name = f"{below}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{name}/")
                    else:
                        yield name
        except OSError as error:
            raise CheckpointError(f"{folder}: cannot be listed: {error.strerror or error}") from error
