"""A model repository at one commit as a Source. How its files are found is opening.py and listing.py."""

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from solar_upscale._version import __version__
from solar_upscale.digest import digest_file
from solar_upscale.errors import CheckpointError, HubError
from solar_upscale.source.folder import read_local
from solar_upscale.source.header import MAX_HEADER_NBYTES
from solar_upscale.source.hub.client import LIBRARY, hub_errors, map_concurrently, with_retries
from solar_upscale.source.hub.ranges import NoRangesError, RangeReader
from solar_upscale.source.protocol import SourceFile
from solar_upscale.source.weight_files import WEIGHT_SUFFIXES

__all__ = ["HubSource", "Mode"]

Mode = Literal["download", "stream", "headers"]

_FILES_AT_ONCE = 8
_SMALL_NBYTES = 64 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")

_log = logging.getLogger("solar_upscale")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A model repository at one commit.

    ``mode`` says how weights are read: "download" puts a whole file into the cache when it is asked for by path,
    "stream" and "headers" read ranges and cache nothing but small files. A file that is in the cache already is read
    there in every mode.
    """

    repo_id: str
    revision: str
    listing: Mapping[str, SourceFile] = field(repr=False)
    mode: Mode = "download"
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    local_files_only: bool = False

    @property
    def name(self) -> str:
        """The repo id."""
        return self.repo_id

    @property
    def is_on_hub(self) -> bool:
        """True."""
        return True

    def files(self) -> Mapping[str, SourceFile]:
        """Every file of the commit by name."""
        return self.listing

    def read(self, filename: str, start: int, stop: int) -> bytes:
        """Exactly the bytes [start, stop) of a file; a small file that is wanted whole goes through the cache.

        Raises:
            CheckpointError: there is no such file, or it ends before ``stop``.
            HubError: the Hub refused or did not answer as it must.
        """
        file = self._file(filename, start, stop)
        whole = start == 0 and stop == file.nbytes
        if whole and file.nbytes <= _SMALL_NBYTES and not filename.endswith(WEIGHT_SUFFIXES):
            self.download([filename])
        try:
            return b"".join(self._chunks(file, start, stop))
        except NoRangesError as error:
            if self.mode != "download":
                raise self._explained(error) from error
        _log.warning("%s: ranges of it cannot be had; downloading %s whole", self.repo_id, filename)
        self.download([filename])
        return b"".join(self._chunks(file, start, stop))

    def stream(self, filename: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) of a file in order, several ranges in flight and resumed after a cut.

        Raises:
            CheckpointError: there is no such file, it ends before ``stop``, or, where all of its data was read, the
                whole of it does not have the hash that the Hub lists; the last chunk is held back then.
            HubError: the Hub refused or did not answer as it must.
        """
        file = self._file(filename, start, stop)
        chunks = self._chunks(file, start, stop)
        try:
            if start < stop == file.nbytes and _SHA256.fullmatch(file.state) and self._is_all_data(file, start):
                chunks = _checked(file, self._chunks(file, 0, start), chunks)
            yield from chunks
        except NoRangesError as error:
            raise self._explained(error) from error

    def local_path(self, filename: str) -> Path | None:
        """The cached file at this commit, or None; nothing is fetched.

        Raises:
            CheckpointError: there is no such file.
        """
        from huggingface_hub import try_to_load_from_cache

        self._file(filename)
        found = try_to_load_from_cache(self.repo_id, filename, cache_dir=self.cache_dir, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def fetch(self, filenames: Sequence[str]) -> None:
        """Put the named files into the cache where this source downloads; where it reads ranges, do nothing.

        Raises:
            CheckpointError, HubError: as ``download``.
        """
        if self.mode == "download":
            self.download(filenames)

    def download(self, filenames: Sequence[str]) -> None:
        """Put the named files into the cache, those that are not there already.

        Raises:
            CheckpointError: there is no such file, or what arrived is not what the Hub lists; it is not kept then.
            HubError: the Hub refused or could not be reached.
        """
        missing = [name for name in filenames if self.local_path(name) is None]
        if missing:
            with hub_errors(self.repo_id, revision=self.revision):
                with_retries(self.repo_id, lambda: self._download(missing))

    def _download(self, missing: list[str]) -> None:
        for _ in map_concurrently(self._download_one, missing, in_flight=_FILES_AT_ONCE):
            pass

    def _download_one(self, filename: str) -> None:
        from huggingface_hub import hf_hub_download

        if self.local_path(filename) is not None:  # an earlier try fetched it
            return
        path = hf_hub_download(
            self.repo_id,
            filename,
            revision=self.revision,
            cache_dir=self.cache_dir,
            token=self.token,
            local_files_only=self.local_files_only,
            library_name=LIBRARY,
            library_version=__version__,
        )
        _keep_if_right(Path(path), self.listing[filename])

    def _file(self, filename: str, start: int = 0, stop: int = 0) -> SourceFile:
        file = self.listing.get(filename)
        if file is None:
            raise CheckpointError(f"{self.repo_id}: no {filename} at revision {self.revision}")
        if not 0 <= start <= stop <= file.nbytes:
            raise CheckpointError(f"{filename}: ends at byte {file.nbytes}; expected bytes {start} to {stop}")
        return file

    def _chunks(self, file: SourceFile, start: int, stop: int) -> Iterator[bytes]:
        path = self.local_path(file.name)
        if path is not None:
            return read_local(path, file.name, start, stop)
        return RangeReader(self.repo_id, self.revision, self.token).read(file, start, stop)

    def _is_all_data(self, file: SourceFile, start: int) -> bool:
        """Whether a file that is fetched from ``start`` on is fetched whole but for its safetensors header."""
        if self.local_path(file.name) is not None:
            return False
        if not 8 <= start <= 8 + MAX_HEADER_NBYTES:
            return start == 0
        return start == 8 + int.from_bytes(b"".join(self._chunks(file, 0, 8)), "little")

    def _explained(self, error: NoRangesError) -> HubError:
        step = "leave --stream out" if self.mode == "stream" else f"run `hf download {self.repo_id}` first"
        return HubError(f"{error}; {step}")


def _checked(file: SourceFile, head: Iterator[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    """``rest``, its last chunk only once ``head`` and all of it have the hash that is listed.

    Raises:
        CheckpointError: they have another.
    """
    digest = hashlib.sha256()
    for chunk in head:
        digest.update(chunk)
    last = b""
    for chunk in rest:
        digest.update(chunk)
        if last:
            yield last
        last = chunk
    _refuse_other(file, digest.hexdigest())
    yield last


def _keep_if_right(path: Path, file: SourceFile) -> None:
    """Remove a file from the cache where it is not what the Hub lists: nobody looks at a cached file again.

    Raises:
        CheckpointError: it is not.
    """
    try:
        nbytes = path.stat().st_size
        if nbytes != file.nbytes:
            raise CheckpointError(
                f"{file.name}: expected {file.nbytes} bytes, got {nbytes}; run the same command again"
            )
        if _SHA256.fullmatch(file.state):
            _refuse_other(file, digest_file(path))
    except CheckpointError:
        while path.is_symlink():  # from the snapshot to the blob, which may be a link into the shared store
            link, path = path, path.parent / path.readlink()
            link.unlink()
        path.unlink(missing_ok=True)
        raise


def _refuse_other(file: SourceFile, sha256: str) -> None:
    if sha256 != file.state:
        raise CheckpointError(
            f"{file.name}: the bytes that came have sha256 {sha256}; expected {file.state}; run the command again"
        )
