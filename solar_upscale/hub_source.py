"""A model on the Hub as a Source: one commit, its small files from the cache, its weights downloaded or by ranges.

An id is resolved once; every byte comes from the commit that it stood for then. ``open_source`` decides whether a
text is a folder or an id. What a file means is not known here, except that weights are not small files.
"""

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from solar_upscale import __version__
from solar_upscale.errors import CheckpointError, HubError
from solar_upscale.hub import LIBRARY, Patience, connection_errors, hub_errors, patiently, side_by_side
from solar_upscale.source import FolderSource, Source, SourceFile

__all__ = ["HubSource", "open_source"]

Mode = Literal["download", "stream", "headers"]

_WINDOW_NBYTES = 8 << 20
_WINDOWS_IN_FLIGHT = 4
_CHUNK_NBYTES = 1 << 20
_FILES_AT_ONCE = 8
_SMALL_NBYTES = 64 << 20
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
_COMMIT = re.compile(r"[0-9a-f]{40}")

_log = logging.getLogger("solar_upscale")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A model repository at one commit.

    ``mode`` says how weights are had: "download" puts a whole file into the cache when it is asked for by path,
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
        if whole and file.nbytes <= _SMALL_NBYTES and not filename.endswith(_WEIGHT_SUFFIXES):
            self.download([filename])
        return self._read_range(file, start, stop)

    def stream(self, filename: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) of a file in order, several ranges in flight; a cut is taken up where it happened.

        Raises:
            CheckpointError: there is no such file, or it ends before ``stop``.
            HubError: the Hub refused or did not answer as it must.
        """
        file = self._file(filename, start, stop)
        path = self.local_path_if_cached(filename)
        if path is not None:
            yield from _read_local(path, file, start, stop)
        elif stop - start <= _WINDOW_NBYTES:
            yield from self._fetch(file, start, stop)
        else:
            yield from self._fetch_side_by_side(file, start, stop)

    def local_path(self, filename: str) -> Path | None:
        """The cached file; where files are downloaded, it is put there now. None where only ranges can be read.

        Raises:
            CheckpointError: there is no such file.
            HubError: the Hub refused, or did not answer as it must.
        """
        if self.mode == "download":
            self.download([filename])
        return self.local_path_if_cached(filename)

    def local_path_if_cached(self, filename: str) -> Path | None:
        """The cached file at this commit, or None; nothing is fetched."""
        from huggingface_hub import try_to_load_from_cache

        self._file(filename)
        found = try_to_load_from_cache(self.repo_id, filename, cache_dir=self.cache_dir, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def download(self, filenames: Sequence[str]) -> None:
        """Put the named files into the cache, those that are not there already.

        Raises:
            CheckpointError: there is no such file, or what arrived has another size than the listing says.
            HubError: the Hub refused or could not be reached.
        """
        missing = [name for name in filenames if self.local_path_if_cached(name) is None]
        if missing:
            with hub_errors(self.repo_id, revision=self.revision):
                patiently(self.repo_id, lambda: self._download(missing))
        for name in missing:
            path = self.local_path_if_cached(name)
            nbytes = None if path is None else path.stat().st_size
            if nbytes != self.listing[name].nbytes:
                raise CheckpointError(
                    f"{name}: expected {self.listing[name].nbytes} bytes, got {nbytes or 0}; run the same command again"
                )

    def _download(self, missing: list[str]) -> None:
        from huggingface_hub import hf_hub_download

        how: dict[str, Any] = {
            "revision": self.revision,
            "cache_dir": self.cache_dir,
            "token": self.token,
            "local_files_only": self.local_files_only,
            "library_name": LIBRARY,
            "library_version": __version__,
        }
        for _ in side_by_side(
            lambda name: hf_hub_download(self.repo_id, name, **how), missing, in_flight=_FILES_AT_ONCE
        ):
            pass

    # Ranges

    def _file(self, filename: str, start: int = 0, stop: int = 0) -> SourceFile:
        file = self.listing.get(filename)
        if file is None:
            raise CheckpointError(f"{self.repo_id}: no {filename} at revision {self.revision}")
        if not 0 <= start <= stop <= file.nbytes:
            raise CheckpointError(f"{filename}: ends at byte {file.nbytes}; expected bytes {start} to {stop}")
        return file

    def _read_range(self, file: SourceFile, start: int, stop: int) -> bytes:
        path = self.local_path_if_cached(file.name)
        chunks = self._fetch(file, start, stop) if path is None else _read_local(path, file, start, stop)
        return b"".join(chunks)

    def _fetch_side_by_side(self, file: SourceFile, start: int, stop: int) -> Iterator[bytes]:
        """Windows of the range, in order, the next few being fetched while one is used."""
        gone = threading.Event()
        windows = ((at, min(at + _WINDOW_NBYTES, stop)) for at in range(start, stop, _WINDOW_NBYTES))
        try:
            yield from side_by_side(
                lambda window: self._fetch_window(file, *window, gone), windows, in_flight=_WINDOWS_IN_FLIGHT
            )
        finally:
            gone.set()

    def _fetch_window(self, file: SourceFile, start: int, stop: int, gone: threading.Event) -> bytes:
        return b"".join(self._fetch(file, start, stop, gone=gone))

    def _fetch(
        self, file: SourceFile, start: int, stop: int, *, gone: threading.Event | None = None
    ) -> Iterator[bytes]:
        """The range as it arrives; after a cut, the rest of it. ``gone`` says that nobody waits for it any more."""
        from huggingface_hub import constants, get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented there

        gone = gone or threading.Event()
        url = hf_hub_url(self.repo_id, file.name, revision=self.revision)
        headers = build_hf_headers(token=self.token, library_name=LIBRARY, library_version=__version__)
        headers["Accept-Encoding"] = "identity"
        patience = Patience(file.name, sleep=gone.wait)
        with hub_errors(self.repo_id, revision=self.revision):
            while start < stop and not gone.is_set():
                headers["Range"] = f"bytes={start}-{stop - 1}"
                try:
                    with get_session().stream(
                        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
                    ) as response:
                        self._check(response, file, start, stop)
                        for chunk in response.iter_raw(_CHUNK_NBYTES):
                            start += len(chunk)
                            if start > stop:
                                raise self._wrong(file, "more bytes came than were asked for")
                            patience.progress()
                            yield chunk
                            if gone.is_set():
                                return
                    if start < stop:  # a body that ends early without saying so is a cut like any other
                        raise connection_errors()[0](f"the answer ended {stop - start} bytes early")
                except connection_errors() as error:
                    patience.wait(error)

    def _check(self, response: Any, file: SourceFile, start: int, stop: int) -> None:
        """The answer is these bytes of this file at this commit, and nothing else will do.

        Raises:
            HubError: it is not.
        """
        from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # documented there

        hf_raise_for_status(response)
        if response.status_code != 206:
            raise self._wrong(
                file, f"answer {response.status_code} to a request for a range, which needs 206; leave --stream out"
            )
        wanted, got = f"bytes {start}-{stop - 1}/{file.nbytes}", response.headers.get("Content-Range", "none")
        if got != wanted:
            raise self._wrong(file, f"expected Content-Range {wanted}, got {got}")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise self._wrong(file, f"expected plain bytes, got {response.headers['Content-Encoding']}")
        hub = response.history[0] if response.history else response
        commit = hub.headers.get("X-Repo-Commit", self.revision)
        if commit != self.revision:
            raise self._wrong(file, f"expected commit {self.revision}, got {commit}")
        etag = hub.headers.get("X-Linked-Etag") or (None if response.history else hub.headers.get("ETag"))
        if etag is not None and etag.removeprefix("W/").strip('"') != file.state:
            raise self._wrong(file, f"expected content {file.state}, got {etag}")

    def _wrong(self, file: SourceFile, what: str) -> HubError:
        return HubError(f"{self.repo_id}: {file.name}: {what}")


def open_source(
    text: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    stream: bool = False,
    headers_only: bool = False,
) -> Source:
    """The source that ``text`` names: a folder if there is one of that name, else a model on the Hub.

    Args:
        text: A path or a repo id.
        revision: Branch, tag or commit of a model on the Hub.
        token: As the client takes it: a token, None for the one that is logged in, False for none.
        cache_dir: The Hub cache to use instead of the usual one.
        local_files_only: Use the cache and ask nobody.
        stream: Read weights by ranges, so that no copy of them lands on disk.
        headers_only: Nothing but headers and small files will be read.

    Raises:
        CheckpointError: the text is neither a folder nor a repo id, or the repository is not a model.
        HubError: the Hub refused or could not be reached.
    """
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"{text}: a folder has no revisions; leave --revision out")
        return FolderSource(folder)
    if text.startswith((".", "/", "~")) or not text or text.count("/") > 1 or "\\" in text or folder.exists():
        raise CheckpointError(f"{text}: no such folder; expected a folder with a checkpoint, or a model id USER/NAME")
    mode: Mode = "headers" if headers_only else "stream" if stream else "download"
    cache = Path(cache_dir).expanduser() if cache_dir is not None else None
    with hub_errors(text, revision=revision):
        config = _find_config(text, revision, token, cache, local_files_only=local_files_only)
        commit = config.parent.name
        if not _COMMIT.fullmatch(commit):
            raise HubError(f"{text}: the Hub names a commit that is none: {commit}")
        listing = _list_files(text, commit, token, config.parent, local_files_only=local_files_only)
    return HubSource(text, commit, listing, mode, token, cache, local_files_only)


def _find_config(
    repo_id: str, revision: str | None, token: str | bool | None, cache: Path | None, *, local_files_only: bool
) -> Path:
    """The cached config.json, whose folder is named after the commit that ``revision`` stands for now.

    Asking for it is how the client resolves a revision: by the Hub, or by what the cache remembers when the Hub cannot
    be asked, and it remembers this answer.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    try:
        found = patiently(
            repo_id,
            lambda: hf_hub_download(
                repo_id,
                "config.json",
                revision=revision,
                token=token,
                cache_dir=cache,
                local_files_only=local_files_only,
                library_name=LIBRARY,
                library_version=__version__,
            ),
        )
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError as error:
        raise CheckpointError(f"{repo_id}: no config.json; expected a checkpoint that transformers can load") from error
    except HFValidationError as error:
        raise CheckpointError(f"{repo_id}: neither a folder nor a model id USER/NAME") from error
    return Path(found)


def _list_files(
    repo_id: str, commit: str, token: str | bool | None, snapshot: Path, *, local_files_only: bool
) -> dict[str, SourceFile]:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if local_files_only or constants.HF_HUB_OFFLINE:
        return _list_snapshot(snapshot)

    def ask() -> Any:
        api = HfApi(library_name=LIBRARY, library_version=__version__)
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        return api.model_info(repo_id, revision=commit, files_metadata=True, token=token, timeout=timeout)

    try:
        info = ask()
    except connection_errors() as error:
        if not isinstance(error, HfHubHTTPError) and any(snapshot.glob("*.safetensors")):
            _log.warning("%s: the Hub is out of reach; going on with what the cache holds of it", repo_id)
            return _list_snapshot(snapshot)
        info = patiently(repo_id, ask)
    listing = {}
    for sibling in info.siblings or ():
        name, state = sibling.rfilename, sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        _check_name(repo_id, name)
        if not isinstance(sibling.size, int) or sibling.size < 0 or not isinstance(state, str):
            raise CheckpointError(f"{repo_id}: {name}: the Hub tells no size or no hash of it")
        listing[name] = SourceFile(name, sibling.size, state)
    return listing


def _list_snapshot(snapshot: Path) -> dict[str, SourceFile]:
    """What the cache holds of a commit. A cached file's link leads to a blob that is named after its content hash."""
    listing = {}
    for path in sorted(snapshot.rglob("*")):
        if path.is_file():
            name = path.relative_to(snapshot).as_posix()
            status = path.stat()
            state = path.readlink().name if path.is_symlink() else f"{status.st_size}:{status.st_mtime_ns}"
            listing[name] = SourceFile(name, status.st_size, state)
    return listing


def _check_name(repo_id: str, name: object) -> None:
    parts = name.split("/") if isinstance(name, str) else [""]
    if not isinstance(name, str) or not name.isprintable() or "\\" in name or {"", ".", ".."} & set(parts):
        raise CheckpointError(f"{repo_id}: a file is named {name!r}, which could lead out of its folder; refused")


def _read_local(path: Path, file: SourceFile, start: int, stop: int) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as opened:
            opened.seek(start)
            while start < stop:
                chunk = opened.read(min(_CHUNK_NBYTES, stop - start))
                if not chunk:
                    raise CheckpointError(f"{file.name}: the cached copy ends at byte {start} of {file.nbytes}")
                start += len(chunk)
                yield chunk
    except OSError as error:
        raise CheckpointError(f"{file.name}: cannot be read: {error.strerror or error}") from error
