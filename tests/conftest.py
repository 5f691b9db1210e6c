"""Fixtures that more than one file uses, and settings for every test."""

import signal

import pytest
from hypothesis import settings
from tqdm import tqdm

pytest.register_assert_rewrite("tests.support")
from tests.support.hub_fixtures import hub, xet_hub  # noqa: E402 - after the line above, which it needs

__all__ = ["hub", "xet_hub"]

# How long one example takes says more about the neighbours on this machine than about the code.
settings.register_profile("without deadlines", settings.default, deadline=None)
settings.load_profile("without deadlines")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would each command that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The thread that redraws stalled bars races with those that open and close bars.
tqdm.monitor_interval = 0
