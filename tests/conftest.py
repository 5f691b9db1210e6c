"""Fixtures that more than one file uses."""

from conftest_hub import hub, xet_hub

__all__ = ["hub", "xet_hub"]
