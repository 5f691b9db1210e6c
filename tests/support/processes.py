"""The project's root, and the environment for subprocesses that use it."""

import os
from pathlib import Path

__all__ = ["ROOT", "environment"]

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """This process's environment, in which `solar_upscale` and `tests` are those of this checkout."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | more
