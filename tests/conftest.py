"""Fixtures that more than one file uses."""

import signal

from tests.support.hub_fixtures import hub, xet_hub

__all__ = ["hub", "xet_hub"]

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would each command that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
