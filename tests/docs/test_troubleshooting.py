"""docs/troubleshooting.md quotes messages that the program has, and covers every refusal."""

import difflib
import re

import pytest

from tests.support.messages import refusals, sentences
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
ROWS = re.findall(r"^\| (`.*?) \|", PAGE.read_text("utf-8"), re.MULTILINE)
QUOTED = [text for row in ROWS for text in re.findall(r"`([^`]+)`", row)]
HAD = sentences()


@pytest.mark.parametrize("quoted", QUOTED)
def test_quoted_message_is_one_that_the_program_has(quoted: str) -> None:
    assert any(quoted in text for text in HAD), f"reworded? The nearest now is {_nearest(quoted)!r}"


def test_every_refusal_is_on_the_page() -> None:
    # Some messages are little more than their values, or carry another message.
    spoken = {text for text in refusals() if len(re.findall(r"[a-z]{2,}", text)) > 2}
    assert len(spoken) > 150
    missing = sorted(text for text in spoken if not any(quoted in text for quoted in QUOTED))
    assert missing == [], "each refusal needs a row in docs/troubleshooting.md: what it means, what to do"


def _nearest(quoted: str) -> str:
    return max(HAD, key=lambda text: difflib.SequenceMatcher(None, quoted, text).ratio())
