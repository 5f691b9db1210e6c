"""Fixtures for every test file."""

from conftest_hub import hub, xet_hub

__all__ = ["hub", "xet_hub"]
