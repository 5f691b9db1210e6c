"""Ranges of a file on the Hub, by the client's own session: several in flight, resumed after a cut, and checked.

Every request goes to the Hub itself, which sends it on to where the bytes are: an address there is signed for a while
only, so it is asked for anew each time. Whether a file is in the cache instead is model.py.
"""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from solar_upscale._version import __version__
from solar_upscale.errors import HubError
from solar_upscale.source.hub.client import (
    LIBRARY,
    Retries,
    connection_errors,
    hub_errors,
    map_concurrently,
    same_origin,
)
from solar_upscale.source.protocol import SourceFile

__all__ = ["NoRangesError", "RangeReader"]

_WINDOW_NBYTES = 8 << 20
_WINDOWS_IN_FLIGHT = 4
_CONTENT_RANGE = re.compile(r"\s*bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\s*", re.IGNORECASE)
_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")


class NoRangesError(HubError):
    """The whole file would have come where a range of it was asked for; no byte of it was used."""


@dataclass(frozen=True, slots=True)
class RangeReader:
    """Reads ranges of the files of one commit."""

    repo_id: str
    revision: str
    token: str | bool | None = field(default=None, repr=False)

    def read(self, file: SourceFile, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) in order.

        Raises:
            NoRangesError: whoever answers does not know of ranges.
            HubError: the Hub refused, or its answer is not these bytes of this file at this commit.
        """
        if stop - start <= _WINDOW_NBYTES:
            return self._fetch(file, start, stop, threading.Event())
        return self._fetch_concurrently(file, start, stop)

    def _fetch_concurrently(self, file: SourceFile, start: int, stop: int) -> Iterator[bytes]:
        """Windows of the range, in order, the next few being fetched while one is used."""
        gone = threading.Event()

        def fetch(at: int) -> bytes:
            return b"".join(self._fetch(file, at, min(at + _WINDOW_NBYTES, stop), gone))

        try:
            yield from map_concurrently(fetch, range(start, stop, _WINDOW_NBYTES), in_flight=_WINDOWS_IN_FLIGHT)
        finally:
            gone.set()

    def _fetch(self, file: SourceFile, start: int, stop: int, gone: threading.Event) -> Iterator[bytes]:
        """The range as it arrives; after a cut, the rest of it. ``gone`` says that nobody waits for it any more."""
        from huggingface_hub import constants, get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented there

        url = hf_hub_url(self.repo_id, file.name, revision=self.revision)
        retries = Retries(file.name, sleep=gone.wait)
        with hub_errors(self.repo_id, revision=self.revision):
            headers = build_hf_headers(token=self.token, library_name=LIBRARY, library_version=__version__)
            headers["Accept-Encoding"] = "identity"
            while start < stop and not gone.is_set():
                headers["Range"] = f"bytes={start}-{stop - 1}"
                try:
                    with get_session().stream(
                        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
                    ) as response:
                        end = self._check(response, file, start, stop)
                        # As it comes, not in chunks of a size: what a cut leaves behind would be lost with its chunk.
                        for chunk in response.iter_raw():
                            start += len(chunk)
                            if start > end:
                                raise self._wrong(file, "more bytes came than were asked for")
                            retries.reset()
                            yield chunk
                            if gone.is_set():
                                return
                    if start < end:  # a body that ends early without saying so is a cut like any other
                        raise connection_errors()[0](f"the answer ended {end - start} bytes early")
                except connection_errors() as error:
                    retries.wait(error)

    def _check(self, response: Any, file: SourceFile, start: int, stop: int) -> int:
        """See that the answer is bytes of this file at this commit from ``start`` on, and return where it ends.

        It may end early: a server may send less than was asked for.

        Raises:
            HubError: it is not.
        """
        from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # documented there

        hf_raise_for_status(response)
        if response.status_code != 206:
            status = response.status_code
            raise NoRangesError(
                f"{self.repo_id}: {file.name}: answer {status} to a request for a range, which needs 206"
            )
        said = response.headers.get("Content-Range", "none")
        found = _CONTENT_RANGE.fullmatch(said)
        end = int(found[2]) + 1 if found else 0
        if not found or int(found[1]) != start or not start < end <= stop or found[3] not in ("*", str(file.nbytes)):
            raise self._wrong(file, f"expected Content-Range bytes {start}-{stop - 1}/{file.nbytes}, got {said}")
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise self._wrong(file, f"expected plain bytes, got {encoding}")
        self._check_content(response, file)
        return end

    def _check_content(self, response: Any, file: SourceFile) -> None:
        """What the Hub's answers on the way say of commit and content must be what was asked for.

        The Hub may send us on within itself first, as to a new name; only where the bytes come from it does its own
        ETag speak of them, and a tag that is no hash of the listed kind says nothing.
        """
        answers = [*response.history, response]
        for commit in (answer.headers.get("X-Repo-Commit") for answer in answers):
            if commit is not None and commit.strip().lower() != self.revision:
                raise self._wrong(file, f"expected commit {self.revision}, got {commit}")
        tags = [answer.headers["X-Linked-Etag"] for answer in answers if "X-Linked-Etag" in answer.headers]
        if not tags and same_origin(response.url, answers[0].url):
            tags = [response.headers.get("ETag", "")]
        for tag in tags:
            said = _HASH.search(tag.lower())
            if said and len(said[0]) == len(file.state) and said[0] != file.state:
                raise self._wrong(file, f"expected content {file.state}, got {tag}")

    def _wrong(self, file: SourceFile, what: str) -> HubError:
        return HubError(f"{self.repo_id}: {file.name}: {what}")
