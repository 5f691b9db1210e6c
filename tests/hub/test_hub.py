"""Patience and words: how refusals of the real client are waited for and told."""

import logging

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from solar_upscale.errors import HubError
from solar_upscale.source.hub.client import Retries, hub_errors, redact_tokens, with_retries
from tests.support.hub_server import HubServer


def refusal(hub: HubServer, status: int, **headers: str) -> HfHubHTTPError:
    """What the client raises when the Hub answers so."""
    hub.fault(
        "GET hub /api/models/org/any", status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi().model_info("org/any")
    return caught.value


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_transient_errors_are_retried_with_bounded_backoff(
    hub: HubServer, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solar_upscale.source.hub.client.MIN_DELAY", 1.0)
    error, waits = refusal(hub, status), list[float]()
    retries = Retries("org/any", sleep=waits.append)
    for _ in range(5):
        retries.wait(error)
    with pytest.raises(HfHubHTTPError):
        retries.wait(error)
    assert waits == [1, 2, 4, 8, 16]


def test_progress_resets_the_retry_count(hub: HubServer) -> None:
    error, waits = refusal(hub, 503), list[float]()
    retries = Retries("org/any", sleep=waits.append)
    for _ in range(20):
        retries.wait(error)
        retries.reset()
    assert len(waits) == 20


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412])
def test_refusals_are_not_retried(hub: HubServer, status: int) -> None:
    with pytest.raises(HfHubHTTPError):
        Retries("org/any", sleep=lambda _: pytest.fail("waited")).wait(refusal(hub, status))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry_After": "33"}, 33), ({"RateLimit": '"api";r=0;t=44'}, 44), ({"Retry_After": "soon"}, 0), ({}, 0)],
)
def test_retry_after_sets_the_wait(
    hub: HubServer, headers: dict[str, str], seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    waits = list[float]()
    error = refusal(hub, 429, **headers)
    caplog.clear()
    Retries("org/any", sleep=waits.append).wait(error)
    assert waits == [seconds]
    assert caplog.messages == [f"org/any: rate limit reached; retrying in {seconds} s"]
    assert caplog.records[0].levelno == logging.WARNING


def test_programming_errors_are_not_retried() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        with_retries("org/any", call)
    assert len(calls) == 1


def test_errors_the_client_gave_up_on_are_not_retried() -> None:
    with pytest.raises(LocalEntryNotFoundError):
        Retries("org/any", sleep=lambda _: pytest.fail("waited")).wait(LocalEntryNotFoundError("no network"))


@pytest.mark.parametrize("text", ["Bearer abc.def-1", "token hf_abcDEF123 is bad", "x=hf_zzzzzz&y"])
def test_tokens_are_redacted_from_hub_messages(hub: HubServer, text: str) -> None:
    assert "[token]" in redact_tokens(text)
    hub.fault("GET hub /api", status=400, message=text)
    with pytest.raises(HubError) as caught, hub_errors("org/any"):
        HfApi().model_info("org/any")
    for secret in ("abc.def-1", "hf_abcDEF123", "hf_zzzzzz"):
        assert secret not in str(caught.value)


def test_long_multiline_response_becomes_one_line(hub: HubServer) -> None:
    hub.fault("GET hub /api", page=b"", status=400, message="no " * 1000)
    with pytest.raises(HubError) as caught, hub_errors("org/any"):
        HfApi().model_info("org/any")
    assert len(str(caught.value)) < 300
