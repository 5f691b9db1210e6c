"""Fixtures that more than one file uses, and settings for every test."""

import signal

from hypothesis import settings

from tests.support.hub_fixtures import hub, xet_hub

__all__ = ["hub", "xet_hub"]

# How long one example takes says more about the neighbours on this machine than about the code.
settings.register_profile("without deadlines", settings.default, deadline=None)
settings.load_profile("without deadlines")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would each command that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
