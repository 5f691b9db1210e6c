"""Byte ranges of a file on the Hub, over the client's session: concurrent, resumed when a connection drops, checked.

Every request goes to the Hub and is redirected to storage from there: signed storage URLs expire, so none is kept.
Reading from the cache instead is up to model.py.
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
    """The server ignored the Range header and would have sent the whole file; none of it was read."""


@dataclass(frozen=True, slots=True)
class RangeReader:
    """Reads ranges of the files of one commit."""

    repo_id: str
    revision: str
    token: str | bool | None = field(default=None, repr=False)

    def read(self, file: SourceFile, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) in order.

        Raises:
            NoRangesError: the server does not support ranges.
            HubError: the Hub refused, or the response is not these bytes of this file at this commit.
        """
        if stop - start <= _WINDOW_NBYTES:
            return self._fetch(file, start, stop, threading.Event())
        return self._fetch_concurrently(file, start, stop)

    def _fetch_concurrently(self, file: SourceFile, start: int, stop: int) -> Iterator[bytes]:
        """The range in windows, in order, with the next few being fetched ahead."""
        cancelled = threading.Event()

        def fetch(offset: int) -> bytes:
            return b"".join(self._fetch(file, offset, min(offset + _WINDOW_NBYTES, stop), cancelled))

        try:
            yield from map_concurrently(fetch, range(start, stop, _WINDOW_NBYTES), in_flight=_WINDOWS_IN_FLIGHT)
        finally:
            cancelled.set()

    def _fetch(self, file: SourceFile, start: int, stop: int, cancelled: threading.Event) -> Iterator[bytes]:
        """The range as it arrives, resumed when the connection drops; it stops early once ``cancelled`` is set."""
        from huggingface_hub import constants, get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented there

        url = hf_hub_url(self.repo_id, file.name, revision=self.revision)
        retries = Retries(file.name, sleep=cancelled.wait)
        with hub_errors(self.repo_id, revision=self.revision):
            headers = build_hf_headers(token=self.token, library_name=LIBRARY, library_version=__version__)
            headers["Accept-Encoding"] = "identity"
            while start < stop and not cancelled.is_set():
                headers["Range"] = f"bytes={start}-{stop - 1}"
                try:
                    with get_session().stream(
                        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
                    ) as response:
                        end = self._check(response, file, start, stop)
                        # No chunk size: a partly filled chunk would be lost when the connection drops.
                        for chunk in response.iter_raw():
                            start += len(chunk)
                            if start > end:
                                raise self._invalid(file, "received more bytes than requested")
                            retries.reset()
                            yield chunk
                            if cancelled.is_set():
                                return
                    if start < end:  # a short body without an error is a dropped connection too
                        raise connection_errors()[0](f"the response ended {end - start} bytes early")
                except connection_errors() as error:
                    retries.wait(error)

    def _check(self, response: Any, file: SourceFile, start: int, stop: int) -> int:
        """Check that the response is bytes of this file at this commit from ``start`` on; return its end offset.

        The end may lie before ``stop``: a server may send less than requested.

        Raises:
            NoRangesError: the server ignored the Range header.
            HubError: it is something else.
        """
        from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # documented there

        hf_raise_for_status(response)
        if response.status_code != 206:
            status = response.status_code
            raise NoRangesError(
                f"{self.repo_id}: {file.name}: range requests are not supported; expected status 206, got {status}"
            )
        content_range = response.headers.get("Content-Range", "none")
        found = _CONTENT_RANGE.fullmatch(content_range)
        end = int(found[2]) + 1 if found else 0
        if not found or int(found[1]) != start or not start < end <= stop or found[3] not in ("*", str(file.nbytes)):
            expected = f"bytes {start}-{stop - 1}/{file.nbytes}"
            raise self._invalid(file, f"expected Content-Range {expected}, got {content_range}")
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise self._invalid(file, f"expected unencoded bytes, got {encoding}")
        self._check_content(response, file)
        return end

    def _check_content(self, response: Any, file: SourceFile) -> None:
        """Check the commit and content hash in the headers of the response and of the redirects before it.

        The Hub may redirect within itself first, as for a renamed repository. Its plain ETag is the content's only if
        the Hub itself sent the bytes; a tag that is not a hash of the listed kind is ignored.
        """
        responses = [*response.history, response]
        for commit in (each.headers.get("X-Repo-Commit") for each in responses):
            if commit is not None and commit.strip().lower() != self.revision:
                raise self._invalid(file, f"expected commit {self.revision}, got {commit}")
        tags = [each.headers["X-Linked-Etag"] for each in responses if "X-Linked-Etag" in each.headers]
        if not tags and same_origin(response.url, responses[0].url):
            tags = [response.headers.get("ETag", "")]
        for tag in tags:
            found = _HASH.search(tag.lower())
            if found and len(found[0]) == len(file.state) and found[0] != file.state:
                raise self._invalid(file, f"expected content {file.state}, got {tag}")

    def _invalid(self, file: SourceFile, problem: str) -> HubError:
        return HubError(f"{self.repo_id}: {file.name}: {problem}")
