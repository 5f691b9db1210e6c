"""A model repository at one commit as a Source. Resolving the commit is in opening.py, listing files in listing.py."""

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

_CONCURRENT_DOWNLOADS = 8
_SMALL_NBYTES = 64 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")

_log = logging.getLogger("solar_upscale")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A model repository at one commit.

    ``mode`` says how weights are read: "download" caches whole files when they are fetched; "stream" and "headers" read
    byte ranges and cache only small files. A file that is cached already is read from the cache in every mode.
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
        """Exactly the bytes [start, stop) of a file; a small file that is read whole is cached.

        Raises:
            CheckpointError: there is no such file, or it ends before ``stop``.
            HubError: the Hub refused or returned an invalid response.
        """
        file = self._file(filename, start, stop)
        whole = start == 0 and stop == file.nbytes
        if whole and file.nbytes <= _SMALL_NBYTES and not filename.endswith(WEIGHT_SUFFIXES):
            self.download([filename])
        try:
            return b"".join(self._chunks(file, start, stop))
        except NoRangesError as error:
            if self.mode != "download":
                raise self._with_advice(error) from error
        _log.warning("%s: range requests are not supported here; downloading all of %s", self.repo_id, filename)
        self.download([filename])
        return b"".join(self._chunks(file, start, stop))

    def stream(self, filename: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) of a file in order, with several ranges in flight, resumed when a connection drops.

        Raises:
            CheckpointError: there is no such file, it ends before ``stop``, or all of its data was read and its hash is
                not the one that the Hub lists; the last chunk is then not yielded.
            HubError: the Hub refused or returned an invalid response.
        """
        file = self._file(filename, start, stop)
        chunks = self._chunks(file, start, stop)
        try:
            if start < stop == file.nbytes and _SHA256.fullmatch(file.state) and self._is_all_data(file, start):
                chunks = _check_hash(file, self._chunks(file, 0, start), chunks)
            yield from chunks
        except NoRangesError as error:
            raise self._with_advice(error) from error

    def local_path(self, filename: str) -> Path | None:
        """The cached file at this commit, or None; nothing is downloaded.

        Raises:
            CheckpointError: there is no such file.
        """
        from huggingface_hub import try_to_load_from_cache

        self._file(filename)
        found = try_to_load_from_cache(self.repo_id, filename, cache_dir=self.cache_dir, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def fetch(self, filenames: Sequence[str]) -> None:
        """Download the named files in mode "download"; do nothing in the modes that read ranges.

        Raises:
            CheckpointError, HubError: as ``download``.
        """
        if self.mode == "download":
            self.download(filenames)

    def download(self, filenames: Sequence[str]) -> None:
        """Download the named files to the cache, except those that are cached already.

        Raises:
            CheckpointError: there is no such file, or its size or hash is not the one listed; it is then removed.
            HubError: the Hub refused or could not be reached.
        """
        missing = [name for name in filenames if self.local_path(name) is None]
        if missing:
            with hub_errors(self.repo_id, revision=self.revision):
                with_retries(self.repo_id, lambda: self._download(missing))

    def _download(self, missing: list[str]) -> None:
        for _ in map_concurrently(self._download_one, missing, in_flight=_CONCURRENT_DOWNLOADS):
            pass

    def _download_one(self, filename: str) -> None:
        from huggingface_hub import hf_hub_download

        if self.local_path(filename) is not None:  # cached by an earlier attempt, which failed on another file
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
        _verify_download(Path(path), self.listing[filename])

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
        """Whether a read of a remote file from ``start`` to its end covers all but the safetensors header."""
        if self.local_path(file.name) is not None:
            return False
        if not 8 <= start <= 8 + MAX_HEADER_NBYTES:
            return start == 0
        return start == 8 + int.from_bytes(b"".join(self._chunks(file, 0, 8)), "little")

    def _with_advice(self, error: NoRangesError) -> HubError:
        advice = "leave --stream out" if self.mode == "stream" else f"run `hf download {self.repo_id}` first"
        return HubError(f"{error}; {advice}")


def _check_hash(file: SourceFile, head: Iterator[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    """Yield ``rest``, holding its last chunk back until ``head`` and ``rest`` together have the listed hash.

    Raises:
        CheckpointError: they do not.
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
    _compare_hash(file, digest.hexdigest())
    yield last


def _verify_download(path: Path, file: SourceFile) -> None:
    """Check a download against the Hub's listing, and remove it if it differs: cached files are not checked again.

    Raises:
        CheckpointError: it differs.
    """
    try:
        nbytes = path.stat().st_size
        if nbytes != file.nbytes:
            raise CheckpointError(
                f"{file.name}: expected {file.nbytes} bytes, got {nbytes}; run the same command again"
            )
        if _SHA256.fullmatch(file.state):
            _compare_hash(file, digest_file(path))
    except CheckpointError:
        while path.is_symlink():  # from the snapshot to the blob, which may itself link into the shared store
            link, path = path, path.parent / path.readlink()
            link.unlink()
        path.unlink(missing_ok=True)
        raise


def _compare_hash(file: SourceFile, sha256: str) -> None:
    if sha256 != file.state:
        raise CheckpointError(
            f"{file.name}: the received bytes have the wrong sha256; expected {file.state}, got {sha256}; run the same "
            "command again"
        )
