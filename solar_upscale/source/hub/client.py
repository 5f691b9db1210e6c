"""What every request to the Hub shares: retries, concurrency, and one-line errors without secrets.

``huggingface_hub`` makes the requests, and keeps its own retries. This module adds what it lacks: retries with backoff
for single requests, concurrent calls that Ctrl-C need not wait for, and one line for each way in which the Hub can
refuse. Which requests are made is up to the rest of this package and to publish/.
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
    "check_reachable",
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

MAX_ATTEMPTS = 6
MAX_CLIENT_ATTEMPTS = 2
"""For calls that the client itself attempts six times."""
MIN_DELAY = 1.0
MAX_DELAY = 16.0
MAX_RETRY_AFTER = 300
READ_TIMEOUT = 300
"""Seconds without a byte before a connection is dropped; the client's own default is to wait for ever."""

REACH_ATTEMPTS = 2
REACH_TIMEOUT = 4.0
"""Seconds that one attempt to reach the Hub may take; the client's own retries take up to half a minute."""

_TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)
_EXPIRED_URL_STATUS = (400, 401, 403, 410)
"""What storage answers once the signature of a URL has expired; a retry gets a new one from the Hub."""
_TOKEN = re.compile(r"hf_\w+|(?<=Bearer )\S+", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/\s@]*@")

_LOG_IN = "log in with `hf auth login` or pass --token"
_NO_SUCH_MODEL = {
    True: f"no such model, or it is private and you are not logged in; check the name, or {_LOG_IN}",
    False: "no such model, or it is private and the token has no access to it; check the name",
}
_OFFLINE = "offline: HF_HUB_OFFLINE is set; unset it to publish"
_NOT_CACHED = "not fully cached, and offline; go online, or download it first"

_log = logging.getLogger("solar_upscale")
_T = TypeVar("_T")
_Item = TypeVar("_Item")


class Retries:
    """Counts the attempts at one request, and backs off between them for at least as long as the Hub asks.

    ``subject`` (a repo id or filename) begins each warning.
    """

    def __init__(
        self, subject: str, *, max_attempts: int = MAX_ATTEMPTS, sleep: Callable[[float], object] | None = None
    ) -> None:
        self._subject = subject
        self._max_attempts = max_attempts
        self._sleep = sleep or time.sleep
        self._attempts = 0

    def wait(self, error: Exception) -> None:
        """Log a warning and sleep before the next attempt; raise ``error`` if it is permanent or was the last one."""
        retry_after = _retry_after(error)
        self._attempts += 1
        if retry_after is None or self._attempts >= self._max_attempts:
            raise error
        delay = max(retry_after, min(MIN_DELAY * 2 ** (self._attempts - 1), MAX_DELAY))
        _log.warning("%s: %s; retrying in %.0f s", self._subject, _reason(error), delay)
        self._sleep(delay)

    def reset(self) -> None:
        """Start counting again, since data arrived."""
        self._attempts = 0


def with_retries(subject: str, call: Callable[[], _T], *, max_attempts: int = MAX_ATTEMPTS) -> _T:
    """Return the result of ``call()``, retried while the Hub is busy or briefly unreachable."""
    retries = Retries(subject, max_attempts=max_attempts)
    _set_default_timeout()
    errors: tuple[type[Exception], ...] = (*connection_errors(), RuntimeError)  # the latter from the client's threads
    while True:
        try:
            return call()
        except errors as error:
            retries.wait(error)
            _set_default_timeout()


def _set_default_timeout() -> None:
    """Give the client's session a timeout if it has none: a laptop that slept holds dead connections."""
    from huggingface_hub import get_session

    session = get_session()
    if not any(session.timeout.as_dict().values()):
        session.timeout = READ_TIMEOUT


def map_concurrently(call: Callable[[_Item], _T], items: Iterable[_Item], *, in_flight: int) -> Iterator[_T]:
    """Yield ``call(item)`` for each item, in order, with up to ``in_flight`` calls running ahead.

    The threads are daemons: a caller that stops early, on an error or Ctrl-C, does not wait for them.
    """
    from concurrent.futures import Future

    def run(item: _Item, future: "Future[_T]") -> None:
        try:
            future.set_result(call(item))
        except BaseException as error:  # re-raised by result()
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
    """The exceptions that the client raises when the network or the Hub fails; its HTTP library depends on its version.

    JSONDecodeError is a proxy's error page, or a truncated response.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    base = HfHubHTTPError.__bases__[0]
    assert issubclass(base, Exception)
    return (base, LocalEntryNotFoundError, json.JSONDecodeError)


@contextmanager
def hub_errors(repo_id: str, *, revision: str | None = None, writes: bool = False) -> Iterator[None]:
    """Turn the client's exceptions into one line about ``repo_id``.

    Raises:
        HubError: the Hub refused or could not be reached; the client's exception is the ``__cause__``.
    """
    # The client raises RuntimeError for an upload that fails in one of its threads or in hf_xet, ValueError for a bad
    # repo id or a response that it cannot parse, KeyError and the like for a response that lacks a field, and OSError
    # for a full cache disk.
    bad_response = (ValueError, LookupError, TypeError, AttributeError)
    caught: tuple[type[Exception], ...] = (*connection_errors(), RuntimeError, *bad_response, OSError)
    try:
        yield
    except caught as error:
        description = _describe_error(_root_cause(error), repo_id, revision, writes=writes)
        _redact_chain(error, _sent_token(_root_cause(error)))
        raise HubError(f"{repo_id}: {description}") from error


def check_token(token: str | bool | None) -> None:
    """Check that the token to be sent is printable ASCII: the HTTP library's error for any other would quote it.

    Raises:
        HubError: it is not.
    """
    from huggingface_hub import get_token

    sent = token if isinstance(token, str) else None if token is False else get_token()
    if sent is not None and re.fullmatch(r"[\x21-\x7e]+", sent) is None:
        raise HubError(f"the token contains a space or another character that tokens never have; {_LOG_IN}")


def check_reachable(repo_id: str) -> None:
    """Check within ten seconds that the Hub answers at all, before the client tries for much longer.

    Any answer will do. Offline nothing is asked: the client then looks into its cache.

    Raises:
        HubError: nothing answered; the last attempt's exception is the ``__cause__``.
        HFValidationError: ``repo_id`` is none; nothing was asked.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented there

    validate_repo_id(repo_id)
    if constants.HF_HUB_OFFLINE:
        return
    failures: list[Exception] = []
    # A thread, because no timeout of the HTTP library covers the look-up of a name.
    probe = threading.Thread(target=_probe, args=(failures,), name="solar-upscale-probe", daemon=True)
    probe.start()
    probe.join(REACH_ATTEMPTS * (REACH_TIMEOUT + 0.5))
    if probe.is_alive():
        failures = [TimeoutError("no answer")]
    if failures:
        endpoint = redact_userinfo(constants.ENDPOINT)
        detail = _one_line(str(failures[-1])) or type(failures[-1]).__name__
        raise HubError(f"{repo_id}: cannot reach {endpoint} ({detail}); check the connection") from failures[-1]


def _probe(failures: list[Exception]) -> None:
    """Ask the Hub for anything, without its retries; leave the exception in ``failures`` if every attempt failed."""
    from huggingface_hub import constants, get_session

    errors: list[Exception] = []
    for attempt in range(REACH_ATTEMPTS):
        if attempt:
            time.sleep(0.5)
        try:
            get_session().head(constants.ENDPOINT, timeout=REACH_TIMEOUT, follow_redirects=False)
        except connection_errors() as error:
            errors.append(error)
        else:
            return
    failures.extend(errors[-1:])


def redact_tokens(text: str) -> str:
    """``text`` with everything that looks like a token redacted: a response may quote the request."""
    return _TOKEN.sub("[token]", redact_userinfo(text))


def redact_userinfo(text: str) -> str:
    """``text`` without the user name and password of any URL in it."""
    return _USERINFO.sub("", text)


def same_origin(url: Any, other: Any) -> bool:
    """Whether two URLs of the client's HTTP library have the same scheme, host and port."""
    return (url.scheme, url.host, url.port) == (other.scheme, other.host, other.port)


def _describe_error(error: BaseException, repo_id: str, revision: str | None, *, writes: bool) -> str:
    """What happened and what to do next, for a reader who does not know HTTP."""
    from huggingface_hub import constants, errors

    endpoint = redact_userinfo(constants.ENDPOINT)
    page = f"{endpoint}/{repo_id}"
    detail = _one_line(str(error), _sent_token(error)) or type(error).__name__
    bad_response = (
        f"the client cannot parse the response ({type(error).__name__}: {detail}); update huggingface_hub, or run the "
        "same command again later"
    )
    by_status = _describe_status(error, writes=writes) if isinstance(error, errors.HfHubHTTPError) else ""
    descriptions: tuple[tuple[type[BaseException], str], ...] = (
        (errors.GatedRepoError, f"access is restricted; request it on {page}, then {_LOG_IN}"),
        (
            errors.RevisionNotFoundError,
            f'no revision "{revision or "main"}"; see {page}/tree/main for those that exist',
        ),
        (errors.RepositoryNotFoundError, _NO_SUCH_MODEL[_status(error) == 401]),
        (errors.LocalEntryNotFoundError, _NOT_CACHED),
        (errors.OfflineModeIsEnabled, _OFFLINE if writes else _NOT_CACHED),
        (errors.EntryNotFoundError, "a file no longer exists at this revision; run the same command again"),
        (errors.LocalTokenNotFoundError, f"not logged in; {_LOG_IN}"),
        (errors.HFValidationError, f"not a repo id: {detail}"),
        (errors.HfHubHTTPError, by_status),
        (json.JSONDecodeError, f"the response is not JSON ({detail}); run the same command again later"),
        (ValueError, detail),
        (LookupError, bad_response),
        (TypeError, bad_response),
        (AttributeError, bad_response),
        (OSError, detail),
        (connection_errors()[0], f"cannot reach {endpoint} ({detail}); check the connection"),
    )
    otherwise = f"the transfer failed ({detail}); run the same command again to resume"
    return next((text for kind, text in descriptions if isinstance(error, kind)), otherwise)


def _describe_status(error: Any, *, writes: bool) -> str:
    status = error.response.status_code
    message = _one_line(error.server_message or "", _sent_token(error))
    reason = f" ({message})" if message else ""
    sent_token = bool(_sent_token(error))
    seconds = _retry_after_header(error)
    when = f"in {seconds} s" if seconds else "later"
    log_in = "" if sent_token else f", and {_LOG_IN} for a higher one"
    if status == 403 and re.search(r"storage|quota|upgrade|billing", message, re.IGNORECASE):
        return f"the Hub's storage limit is reached{reason}; free space or upgrade the plan there"
    known = {
        401: f"{'the token is invalid or has expired' if sent_token else 'not logged in'}; {_LOG_IN}",
        403: f"no write access{reason}; use a token that has it" if writes else f"access is denied{reason}",
        409: f"conflicts with something that exists or is in progress{reason}; run the same command again",
        412: "the branch moved meanwhile, and nothing was changed; run the same command again",
        413: f"too large for the Hub{reason}",
        429: f"rate limit reached; run the same command again {when}{log_in}",
    }
    if status >= 500:
        return f"the Hub returned a server error (status {status}); run the same command again later"
    return known.get(status, f"refused with status {status}{reason}")


def _root_cause(error: BaseException) -> BaseException:
    """The exception that gives the reason, below those that only wrap it."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    while isinstance(error, LocalEntryNotFoundError | RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _sent_token(error: BaseException) -> str:
    """The token that the request was first sent with, whatever it looks like; empty if none was."""
    response = getattr(error, "response", None)
    if response is None:
        return ""
    first = response.history[0] if response.history else response
    return str(first.request.headers.get("authorization", "")).removeprefix("Bearer ")


def _redact_chain(error: BaseException, token: str) -> None:
    """Redact tokens from an exception and its causes, in case a caller logs them."""
    seen: list[BaseException | None] = [None]
    cause: BaseException | None = error
    while cause not in seen:  # a chain may be a cycle
        assert cause is not None
        cause.args = tuple(_redact(arg, token) if isinstance(arg, str) else arg for arg in cause.args)
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__


def _redact(text: str, token: str) -> str:
    return redact_tokens(text.replace(token, "[token]") if token else text)


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _retry_after(error: Exception) -> float | None:
    """Seconds that the Hub asks to wait, 0 if it does not say, or None if a retry cannot help."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    root = _root_cause(error)
    if isinstance(error, LocalEntryNotFoundError) or isinstance(root, OfflineModeIsEnabled):
        return None  # the client has used up its own retries, or is offline
    if not isinstance(root, HfHubHTTPError):
        return 0.0 if isinstance(root, connection_errors()) else None
    if _status(root) not in _TRANSIENT_STATUS and not _is_expired_url(root):
        return None
    seconds = _retry_after_header(root)
    return None if seconds > MAX_RETRY_AFTER else float(seconds)


def _is_expired_url(error: Any) -> bool:
    """Whether storage refused a signed URL, as opposed to the Hub refusing the request itself."""
    from huggingface_hub import constants

    response = error.response
    url = response.request.url
    elsewhere = not same_origin(url, url.join(constants.ENDPOINT))
    return elsewhere and response.status_code in _EXPIRED_URL_STATUS and "X-Error-Code" not in response.headers


def _retry_after_header(error: Any) -> int:
    """Seconds that a response's headers ask to wait; 0 if they do not say."""
    headers = error.response.headers
    rate_limit = headers.get("RateLimit", "") if error.response.status_code == 429 else ""
    retry_after = headers.get("Retry-After", "").strip()
    found = re.fullmatch(r"(\d{1,6})", retry_after) or re.search(r";\s*t\s*=\s*(\d{1,6})", rate_limit)
    if found:
        return int(found[1])
    try:
        return max(0, math.ceil(parsedate_to_datetime(retry_after).timestamp() - time.time()))
    except (ValueError, OverflowError):
        return 0


def _reason(error: Exception) -> str:
    root = _root_cause(error)
    status = _status(root)
    if status == 429:
        return "rate limit reached"
    return f"the Hub answered with status {status}" if status else _one_line(str(root)) or type(root).__name__


def _one_line(text: str, token: str = "") -> str:
    """``text`` on one line of at most 200 characters, with tokens redacted."""
    line = " ".join(_redact(text, token).split())
    return line if len(line) <= 200 else f"{line[:197]}..."
