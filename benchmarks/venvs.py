"""Virtual environments for other tools, each made on first use in the user's cache folder and kept there."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["FUSION_BENCH", "MERGEKIT", "python_with"]

MERGEKIT = "mergekit==0.1.5"
FUSION_BENCH = "fusion-bench==0.2.33"

_TORCH = "torch==2.13.0"  # unpinned, torch would bring several GB of CUDA


def python_with(*packages: str) -> str:
    """The Python of a virtual environment that holds these packages."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "solar-upscale" / packages[0].replace("==", "-")
    python = folder / "bin" / "python"
    wanted = "\n".join(packages)
    ready = folder / "ready"
    if not ready.exists() or ready.read_text() != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages, _TORCH])
        ready.write_text(wanted)
    return str(python)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)
