"""Complete or absent: a run stopped at any of its effects, or by a power loss, resumes to the same bytes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import solar_upscale as su
from solar_upscale.source.protocol import Source
from tests.support import faults
from tests.support.checkpoints import tree, write_checkpoint
from tests.support.sources import MemorySource

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the harness stands between POSIX calls")

TINY = {"shards": 2, "layers": 3, "hidden": 8, "inner": 8, "vocab": 8}


def start(root: Path) -> None:
    write_checkpoint(root / "s", **TINY)
    for path in (root / "s").iterdir():
        os.utime(path, ns=(10**18, 10**18))


def start_with_output(root: Path) -> None:
    start(root)
    (root / "out").mkdir()
    (root / "out" / "old.txt").write_text("old")


def local(root: Path) -> None:
    su.upscale_checkpoint(root / "s", root / "out", ["0:2", "1:3"], init="identity")


def replacing(root: Path) -> None:
    su.upscale_checkpoint(root / "s", root / "out", ["0:2", "1:3"], overwrite=True)


def streamed(root: Path) -> None:
    source: Source = MemorySource.of_folder(root / "s", chunk_nbytes=10**6)
    su.upscale_checkpoint(source, root / "out", ["0:2", "1:3"], init="identity")


JOBS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "local": (start, local),
    "streamed": (start, streamed),
    "replacing": (start_with_output, replacing),
}


@pytest.mark.parametrize("case", JOBS)
@pytest.mark.parametrize("kind", ["every_stop", "every_power_loss"])
def test_interrupted_job_never_looks_finished_and_resumes_to_the_same_bytes(
    case: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill, job = JOBS[case]
    with faults.scratch_folder() as scratch:
        fill(scratch / "whole")
        before = tree(scratch / "whole")
        old = {name: data for name, data in before.items() if name.startswith("out/")}
        job(scratch / "whole")
        after = tree(scratch / "whole")
        new = {name: data for name, data in after.items() if name.startswith("out/")}
        monkeypatch.setattr(os, "fsync", lambda fd: None)  # the harness tracks what is on disk itself
        count = 0
        for state in getattr(faults, kind)(fill, job, at=scratch / "world"):
            count += 1
            found = {name: data for name, data in tree(state.root).items() if name.startswith("out/")}
            assert found in (old, new, {}), f"{state}: neither old nor new"
            assert found or old == {} or any(state.root.glob("out.incomplete/*")), f"{state}: the old output is lost"
            source = {name: data for name, data in tree(state.root).items() if name.startswith("s/")}
            assert source == {name: data for name, data in before.items() if name.startswith("s/")}, str(state)
            job(state.root)
            assert tree(state.root) == after, f"{state}: resumed to something else"
        assert count > 40
