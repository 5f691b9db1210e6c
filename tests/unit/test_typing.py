"""What mypy says of a call: a wrong entry is found before anything runs."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed")

GOOD = """
import solar_upscale as su

su.plan_checkpoint("s", [range(0, 24), slice(8, 32), "n-1", 3])
su.plan_checkpoint("s", range(0, 24))
su.resolve_layer_indices([slice(None, 24)], num_layers=32)
su.upscale_layers([1, 2, 3], [range(0, 3), 2])
"""
BAD = """
import solar_upscale as su

su.plan_checkpoint("s", [3.5])
su.upscale_checkpoint("s", "o", 3.5)
su.resolve_layer_indices([None], num_layers=32)
su.upscale_layers([1, 2, 3], [0, 1.5])
"""


def check(folder: Path, text: str) -> tuple[int, str]:
    (folder / "snippet.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder), str(folder / "snippet.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout


def test_mypy_accepts_ranges_and_slices_and_refuses_what_is_no_entry(tmp_path: Path) -> None:
    code, said = check(tmp_path, GOOD)
    assert code == 0, said
    code, said = check(tmp_path, BAD)
    assert code == 1
    for line in (4, 5, 6, 7):
        assert f"snippet.py:{line}: error:" in said
