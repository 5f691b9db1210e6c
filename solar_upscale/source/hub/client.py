"""How the Hub is talked to: with retries, side by side, and with its refusals told in the user's words.

``huggingface_hub`` does all the talking; what it retries by itself is left to it. Here is what it does not: waiting
between tries of single requests, requests side by side that a stop need not wait for, and one line for each way in
which the Hub can say no. What is asked for is in hub_source.py and push.py.
"""

import json
import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from solar_upscale.errors import HubError

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = [
    "LIBRARY",
    "Retries",
    "check_token",
    "connection_errors",
    "hub_errors",
    "map_concurrently",
    "redact_tokens",
    "redact_userinfo",
    "same_origin",
    "with_retries",
]

LIBRARY = "solar-upscale"
"""The name that requests carry in their User-Agent."""

TRIES = 6
CLIENT_TRIES = 2
"""Where the client itself tries each request six times."""
FIRST_WAIT = 1.0
LONGEST_WAIT = 16.0
LONGEST_RETRY_AFTER = 300
LONGEST_SILENCE = 300
"""Seconds without a byte after which a connection is given up where the client itself would wait for ever."""

_TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)
_RUN_OUT_STATUS = (400, 401, 403, 410)
"""What storage says to an address whose signature has run out; the next try asks the Hub for a new one."""
_TOKEN = re.compile(r"hf_\w+|(?<=Bearer )\S+", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/\s@]*@")

_LOG_IN = "log in with `hf auth login` or pass --token"
_NO_SUCH_MODEL = {
    True: f"no such model, or it is private and you are not logged in; check the name, or {_LOG_IN}",
    False: "no such model, or it is private and the token has no access to it",
}
_OFFLINE = "offline: HF_HUB_OFFLINE is set; unset it to publish"
_NOT_IN_CACHE = "not, or not all of it, in the cache, and offline: the Hub may not be asked"

_log = logging.getLogger("solar_upscale")
_T = TypeVar("_T")
_Item = TypeVar("_Item")


class Retries:
    """Counts tries of one request and waits between them, as long as the Hub asks for."""

    def __init__(self, what: str, *, tries: int = TRIES, sleep: Callable[[float], object] | None = None) -> None:
        self._what = what
        self._most = tries
        self._sleep = sleep or time.sleep
        self._tries = 0

    def wait(self, error: Exception) -> None:
        """Wait before another try, telling so; raise ``error`` where another try would not help or was the last."""
        seconds = _retry_after(error)
        self._tries += 1
        if seconds is None or self._tries >= self._most:
            raise error
        seconds = max(seconds, min(FIRST_WAIT * 2 ** (self._tries - 1), LONGEST_WAIT))
        _log.warning("%s: %s; trying again in %.0f s", self._what, _reason(error), seconds)
        self._sleep(seconds)

    def reset(self) -> None:
        """Something arrived: the tries start anew."""
        self._tries = 0


def with_retries(what: str, call: Callable[[], _T], *, tries: int = TRIES) -> _T:
    """Return what ``call()`` returns, called again while the Hub is busy or out of reach for a moment."""
    retries = Retries(what, tries=tries)
    _expect_an_answer()
    kinds: tuple[type[Exception], ...] = (*connection_errors(), RuntimeError)  # the latter from the client's threads
    while True:
        try:
            return call()
        except kinds as error:
            retries.wait(error)
            _expect_an_answer()


def _expect_an_answer() -> None:
    """Give the client's session a limit of silence, if nobody has: a laptop that slept holds dead connections."""
    from huggingface_hub import get_session

    session = get_session()
    if not any(session.timeout.as_dict().values()):
        session.timeout = LONGEST_SILENCE


def map_concurrently(call: Callable[[_Item], _T], items: Iterable[_Item], *, in_flight: int) -> Iterator[_T]:
    """``call(item)`` for each item, in order, the next few being called while one is used.

    The threads are nobody's to wait for: whoever stops early, by an error or by Ctrl-C, goes on at once.
    """
    from concurrent.futures import Future

    def run(item: _Item, future: "Future[_T]") -> None:
        try:
            future.set_result(call(item))
        except BaseException as error:  # whatever it is, it is raised where the result is waited for
            future.set_exception(error)

    pending: deque[Future[_T]] = deque()
    for item in items:
        future: Future[_T] = Future()
        threading.Thread(target=run, args=(item, future), name="solar-upscale-hub", daemon=True).start()
        pending.append(future)
        if len(pending) == in_flight:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def connection_errors() -> tuple[type[Exception], ...]:
    """What the client raises when the network or the Hub fails; its HTTP library depends on its version.

    Text that is not JSON is a proxy's error page, or an answer cut short.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    base = HfHubHTTPError.__bases__[0]
    assert issubclass(base, Exception)
    return (base, LocalEntryNotFoundError, json.JSONDecodeError)


@contextmanager
def hub_errors(repo_id: str, *, revision: str | None = None, writes: bool = False) -> Iterator[None]:
    """Turn what the client raises into one line about ``repo_id``.

    Raises:
        HubError: the Hub refused, or could not be reached; the client's exception is the ``__cause__``.
    """
    # An upload that fails in one of the client's threads, or in hf_xet, comes out as RuntimeError; an answer that it
    # cannot make sense of, or a bad repo id, as ValueError; an answer without what it takes for granted as KeyError and
    # the like; a full disk below the cache as OSError.
    odd = (ValueError, LookupError, TypeError, AttributeError)
    kinds: tuple[type[Exception], ...] = (*connection_errors(), RuntimeError, *odd, OSError)
    try:
        yield
    except kinds as error:
        said = _told(_root(error), repo_id, revision, writes=writes)
        _hush(error, _sent_token(_root(error)))
        raise HubError(f"{repo_id}: {said}") from error


def check_token(token: str | bool | None) -> None:
    """See that the token that will be sent is one that can be: what an HTTP library says of any other shows it.

    Raises:
        HubError: it is not.
    """
    from huggingface_hub import get_token

    sent = token if isinstance(token, str) else None if token is False else get_token()
    if sent is not None and re.fullmatch(r"[\x21-\x7e]+", sent) is None:
        raise HubError(f"the token holds a blank or another character that no token has; {_LOG_IN}")


def redact_tokens(text: str) -> str:
    """``text`` with anything that looks like a token taken out: an answer may quote what it was sent."""
    return _TOKEN.sub("[token]", redact_userinfo(text))


def redact_userinfo(url: str) -> str:
    """A text without the name and password that its addresses may carry."""
    return _USERINFO.sub("", url)


def same_origin(url: Any, other: Any) -> bool:
    """Whether two addresses of the client's HTTP library have the same scheme, host and port."""
    return (url.scheme, url.host, url.port) == (other.scheme, other.host, other.port)


def _told(error: BaseException, repo_id: str, revision: str | None, *, writes: bool) -> str:
    """What happened, and what to do, in words that need no knowledge of HTTP."""
    from huggingface_hub import constants, errors

    endpoint = redact_userinfo(constants.ENDPOINT)
    page = f"{endpoint}/{repo_id}"
    said = _line(str(error), _sent_token(error)) or type(error).__name__
    lacking = f"the answer is not one that the client understands ({type(error).__name__}: {said}); update it, or run"
    by_status = _told_by_status(error, writes=writes) if isinstance(error, errors.HfHubHTTPError) else ""
    words: tuple[tuple[type[BaseException], str], ...] = (
        (errors.GatedRepoError, f"access is restricted; ask for it on {page}, then {_LOG_IN}"),
        (errors.RevisionNotFoundError, f'no revision "{revision or "main"}"; {page}/tree/main lists those there are'),
        (errors.RepositoryNotFoundError, _NO_SUCH_MODEL[_status(error) == 401]),
        (errors.LocalEntryNotFoundError, _NOT_IN_CACHE),
        (errors.OfflineModeIsEnabled, _OFFLINE if writes else _NOT_IN_CACHE),
        (errors.EntryNotFoundError, "a file is gone at this revision; run the same command again"),
        (errors.LocalTokenNotFoundError, f"not logged in; {_LOG_IN}"),
        (errors.HFValidationError, f"not a repo id: {said}"),
        (errors.HfHubHTTPError, by_status),
        (json.JSONDecodeError, f"the answer is not JSON ({said}); run the same command again later"),
        (ValueError, said),
        (LookupError, f"{lacking} the same command again later"),
        (TypeError, f"{lacking} the same command again later"),
        (AttributeError, f"{lacking} the same command again later"),
        (OSError, said),
        (connection_errors()[0], f"cannot reach {endpoint} ({said}); check the connection"),
    )
    otherwise = f"the transfer failed ({said}); run the same command again to resume"
    return next((text for kind, text in words if isinstance(error, kind)), otherwise)


def _told_by_status(error: Any, *, writes: bool) -> str:
    status = error.response.status_code
    said = _line(error.server_message or "", _sent_token(error))
    because = f" ({said})" if said else ""
    sent_token = bool(_sent_token(error))
    asked = _asked_to_wait(error)
    when = f"in {asked} s" if asked else "later"
    log_in = "" if sent_token else f", and {_LOG_IN} for a higher one"
    if status == 403 and re.search(r"storage|quota|upgrade|billing", said, re.IGNORECASE):
        return f"the Hub takes no more{because}"
    known = {
        401: f"{'the token is invalid or has expired' if sent_token else 'not logged in'}; {_LOG_IN}",
        403: f"no right to write there{because}; use a token that may" if writes else f"access is denied{because}",
        409: f"something else is there or under way{because}; run the same command again",
        412: "the branch moved meanwhile, and nothing was changed; run the same command again",
        413: f"too large for the Hub{because}",
        429: f"rate limit reached; run the same command again {when}{log_in}",
    }
    if status >= 500:
        return f"the Hub has a problem of its own (status {status}); run the same command again later"
    return known.get(status, f"refused with status {status}{because}")


def _root(error: BaseException) -> BaseException:
    """The exception that says why: those that only wrap another are peeled off."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    while isinstance(error, LocalEntryNotFoundError | RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _sent_token(error: BaseException) -> str:
    """The token that the first request for this answer carried, whatever it looks like; or nothing."""
    response = getattr(error, "response", None)
    if response is None:
        return ""
    first = response.history[0] if response.history else response
    return str(first.request.headers.get("authorization", "")).removeprefix("Bearer ")


def _hush(error: BaseException, token: str) -> None:
    """Take tokens out of what an exception and those behind it say: whoever logs them does not look there."""
    seen: list[BaseException | None] = [None]
    behind: BaseException | None = error
    while behind not in seen:  # a chain may bite its own tail
        assert behind is not None
        behind.args = tuple(_without(arg, token) if isinstance(arg, str) else arg for arg in behind.args)
        seen.append(behind)
        behind = behind.__cause__ or behind.__context__


def _without(text: str, token: str) -> str:
    return redact_tokens(text.replace(token, "[token]") if token else text)


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _retry_after(error: Exception) -> float | None:
    """Seconds that the Hub asks to wait (0: it does not say), or None if another try cannot help."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    root = _root(error)
    if isinstance(error, LocalEntryNotFoundError) or isinstance(root, OfflineModeIsEnabled):
        return None  # the client has tried as often as it does, or may not
    if not isinstance(root, HfHubHTTPError):
        return 0.0 if isinstance(root, connection_errors()) else None
    if _status(root) not in _TRANSIENT_STATUS and not _has_run_out(root):
        return None
    seconds = _asked_to_wait(root)
    return None if seconds > LONGEST_RETRY_AFTER else float(seconds)


def _has_run_out(error: Any) -> bool:
    """Whether it is not the Hub that refuses, but storage that it had given an address of."""
    from huggingface_hub import constants

    response = error.response
    url = response.request.url
    elsewhere = not same_origin(url, url.join(constants.ENDPOINT))
    return elsewhere and response.status_code in _RUN_OUT_STATUS and "X-Error-Code" not in response.headers


def _asked_to_wait(error: Any) -> int:
    """Seconds that a refusal asks to wait before another try; 0 if it does not say."""
    headers = error.response.headers
    limit = headers.get("RateLimit", "") if error.response.status_code == 429 else ""
    after = headers.get("Retry-After", "").strip()
    found = re.fullmatch(r"(\d{1,6})", after) or re.search(r";\s*t\s*=\s*(\d{1,6})", limit)
    if found:
        return int(found[1])
    try:
        return max(0, math.ceil(parsedate_to_datetime(after).timestamp() - time.time()))
    except (ValueError, OverflowError):
        return 0


def _reason(error: Exception) -> str:
    root = _root(error)
    status = _status(root)
    if status == 429:
        return "rate limit reached"
    return f"the Hub answered {status}" if status else _line(str(root)) or type(root).__name__


def _line(text: str, token: str = "") -> str:
    """A text of any length as one line of at most 200 characters, tokens taken out."""
    line = " ".join(_without(text, token).split())
    return line if len(line) <= 200 else f"{line[:197]}..."
