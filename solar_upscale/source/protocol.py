"""What the rest of the package asks of a checkpoint's storage. Nothing is interpreted here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

__all__ = ["MAX_FILES", "STREAM_NBYTES", "Source", "SourceFile"]

# The size of one chunk of a stream, in bytes. Larger ones are slower: the C library maps new memory for each, and what
# is read is out of the processor's cache before it is used.
STREAM_NBYTES = 128 * 2**10


# A folder with more files than this is not a checkpoint.
MAX_FILES = 100_000


class SourceFile(NamedTuple):
    """A file of a source: its name relative to the source (with ``/``), size in bytes, and a word for its state.

    ``state`` changes whenever the content may have: size and times of a local file, the content hash on the Hub.
    """

    name: str
    nbytes: int
    state: str


class Source(Protocol):
    """What planning and writing ask of a checkpoint's storage. Implementations can be pickled."""

    @property
    def name(self) -> str:
        """What the user calls it: a Hub repo id, or the folder's own name."""

    @property
    def revision(self) -> str | None:
        """The commit hash that every file comes from; None for a folder."""

    @property
    def is_on_hub(self) -> bool:
        """Whether the files are those of a commit on the Hub, even where all of them are cached."""

    def files(self) -> Mapping[str, SourceFile]:
        """Every file of the source by name."""

    def fetch(self, filenames: Sequence[str]) -> None:
        """Make local what this source can make local of the named files, side by side; the rest stays where it is."""

    def read(self, filename: str, start: int, stop: int) -> bytes:
        """Exactly the bytes [start, stop) of a file; CheckpointError if they cannot be had."""

    def stream(self, filename: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) of a file in order, in chunks of bounded size; CheckpointError if they end early."""

    def local_path(self, filename: str) -> Path | None:
        """A local file with these bytes, to clone or copy from; None where there is none. Nothing is fetched."""
