"""Property tests that can run for any length of time, and the loop that runs them: ``make fuzz MINUTES=20``.

Each round runs every property marked here with a seed of its own. A finding ends the run with pytest's report: put its
"Falsifying example" as an ``@example`` line above the property, and every later run of the tests tries it first.
"""

import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.processes import ROOT

ROUND = [sys.executable, "-m", "pytest", "-m", "fuzz", "--hypothesis-show-statistics", "-p", "no:cacheprovider"]


def fuzzed(examples: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A property test with this many examples per run; ``make fuzz`` runs more. It must not modify its fixtures."""
    setting = settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    return lambda function: pytest.mark.fuzz(setting(function))


def main(length: str) -> int:
    """Run rounds for a duration such as 90s or 20m; returns 1 if any failed."""
    started = time.monotonic()
    deadline = started + float(length[:-1]) * {"s": 1, "m": 60, "h": 3600}[length[-1]]
    examples = rounds = 0
    while time.monotonic() < deadline:
        seed = random.getrandbits(32)
        with tempfile.TemporaryDirectory() as folder:  # pytest's own is shared with every other run of this user
            words = [*ROUND, f"--hypothesis-seed={seed}", f"--basetemp={folder}/pytest"]
            result = subprocess.run(words, check=False, cwd=ROOT, capture_output=True, text=True)
        counts = [int(count) for count in re.findall(r"(\d+) passing,", result.stdout)]
        rounds, examples = rounds + 1, examples + sum(counts)
        summary = (
            f"{examples:,} examples in {rounds} rounds of {len(counts)} properties, {time.monotonic() - started:.0f} s"
        )
        if result.returncode:
            print(result.stdout, result.stderr, f"seed {seed}: found something; {summary}", sep="\n")
            return 1
        print(f"{summary}: nothing found", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
