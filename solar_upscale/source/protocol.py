"""The interface between the rest of the package and a checkpoint's storage. Nothing is interpreted here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

__all__ = ["MAX_FILES", "STREAM_NBYTES", "Source", "SourceFile"]

# Size of a stream's chunks, in bytes. Larger ones are slower: the C library maps new memory for each, and data has left
# the CPU cache by the time it is used.
STREAM_NBYTES = 128 * 2**10


# A folder with more files than this is not a checkpoint.
MAX_FILES = 100_000


class SourceFile(NamedTuple):
    """A file of a source: its relative name (with ``/``), its size in bytes, and a fingerprint of its content.

    ``state`` changes whenever the content may have: size and mtime of a local file, the content hash on the Hub.
    """

    name: str
    nbytes: int
    state: str


class Source(Protocol):
    """What planning and writing ask of a checkpoint's storage. Implementations can be pickled."""

    @property
    def name(self) -> str:
        """The name that users see: a Hub repo id, or the folder's own name."""

    @property
    def revision(self) -> str | None:
        """The commit hash of all files; None for a folder."""

    @property
    def is_on_hub(self) -> bool:
        """Whether the files belong to a commit on the Hub, even if all of them are cached."""

    def files(self) -> Mapping[str, SourceFile]:
        """Every file of the source by name."""

    def fetch(self, filenames: Sequence[str]) -> None:
        """Download the named files concurrently, if this source downloads; otherwise do nothing."""

    def read(self, filename: str, start: int, stop: int) -> bytes:
        """Exactly the bytes [start, stop) of a file; CheckpointError if they cannot be read."""

    def stream(self, filename: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) of a file in order, in chunks of bounded size; CheckpointError if they end early."""

    def local_path(self, filename: str) -> Path | None:
        """A local file with the same bytes, to clone or copy from, or None. Nothing is downloaded."""
