"""Where a checkpoint's bytes come from: a folder here, the Hub in hub_source.py. Nothing is interpreted here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Source", "SourceFile"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source: its name relative to the source (with ``/``), size in bytes, and a word for its state.

    ``state`` changes whenever the content may have changed: size and times of a local file, the content hash on the Hub.
    """

    name: str
    nbytes: int
    state: str


class Source(Protocol):
    """What planning and execution ask of a place that holds a checkpoint. Implementations can be pickled."""

    @property
    def name(self) -> str:
        """What the user calls it: a Hub repo id, or the folder's own name."""

    @property
    def revision(self) -> str | None:
        """The commit hash that every file comes from; None for a folder."""

    def files(self) -> Mapping[str, SourceFile]:
        """Every file of the source by name."""

    def read(self, filename: str, start: int, stop: int) -> bytes:
        """Exactly the bytes [start, stop) of a file; CheckpointError if they cannot be had."""

    def stream(self, filename: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) of a file in order, in chunks of bounded size; CheckpointError if they end early."""

    def local_path(self, filename: str) -> Path | None:
        """A local file with these bytes, to clone or copy from; None where only ranges can be read."""
