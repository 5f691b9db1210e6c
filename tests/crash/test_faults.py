"""The harness itself: it must see every effect, and its file system must lose whatever a real one may lose."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.faults import effects_of, every_power_loss, every_stop


def nothing(root: Path) -> None:
    pass


def old_file(root: Path) -> None:
    (root / "file").write_bytes(b"old")


def write(path: Path, data: bytes, sync: bool = True) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        os.pwrite(fd, data, 0)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def careless(root: Path) -> None:
    write(root / "part", b"newer", sync=False)
    (root / "part").rename(root / "file")


def careful(root: Path) -> None:
    write(root / "part", b"newer")
    (root / "part").rename(root / "file")
    sync_folder(root)


def test_every_effect_is_interrupted_once_and_each_write_half_way(tmp_path: Path) -> None:
    effects = effects_of(nothing, careful, at=tmp_path / "w")
    assert effects == ["open part", "pwrite part", "fsync part", "rename part file", "fsync ."]
    stops = [state.effect for state in every_stop(nothing, careful, at=tmp_path / "w")]
    assert stops == [*effects, "pwrite part (half)"]


def test_state_after_a_stop_matches_a_killed_process(tmp_path: Path) -> None:
    seen = [contents(state.root) for state in every_stop(old_file, careful, at=tmp_path / "w")]
    old = {"file": b"old"}
    assert seen == [
        old,
        {**old, "part": b""},
        {**old, "part": b"newer"},
        {**old, "part": b"newer"},
        {"file": b"newer"},
        {**old, "part": b"ne"},
    ]


def test_cleanup_code_of_a_stopped_job_does_not_run(tmp_path: Path) -> None:
    def job(root: Path) -> None:
        write(root / "file", b"x")
        try:
            (root / "file").rename(root / "other")
        finally:
            (root / "other").unlink()

    last = [contents(state.root) for state in every_stop(nothing, job, at=tmp_path / "w")][3]
    assert last == {"file": b"x"}


def test_unsynced_renamed_file_may_be_empty_or_zero_after_power_loss(tmp_path: Path) -> None:
    found = {contents(state.root).get("file") for state in every_power_loss(old_file, careless, at=tmp_path / "w")}
    assert found == {b"old", b"", bytes(5), b"newer"}


def test_synced_renamed_file_is_old_or_new_after_power_loss(tmp_path: Path) -> None:
    found = {contents(state.root).get("file") for state in every_power_loss(old_file, careful, at=tmp_path / "w")}
    assert found == {b"old", b"newer"}


def test_synced_data_survives_power_loss(tmp_path: Path) -> None:
    def job(root: Path) -> None:
        careful(root)
        (root / "done").mkdir()

    after = [state for state in every_power_loss(old_file, job, at=tmp_path / "w") if (state.root / "done").exists()]
    assert len(after) == 1
    states = every_power_loss(old_file, job, at=tmp_path / "w")
    assert all(contents(state.root) == {"file": b"newer"} for state in states if state.number == 6)


def test_rename_of_a_folder_is_lost_or_kept_whole(tmp_path: Path) -> None:
    def start(root: Path) -> None:
        (root / "work" / "inner").mkdir(parents=True)
        (root / "work" / "inner" / "file").write_bytes(b"x")

    def job(root: Path) -> None:
        (root / "work" / "inner").rename(root / "out")

    found = [contents(state.root) for state in every_power_loss(start, job, at=tmp_path / "w")]
    assert found == [{"work/inner/file": b"x"}, {"out/file": b"x"}]


def test_write_that_the_harness_could_not_see_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"write through os\.open"):
        list(every_stop(nothing, lambda root: (root / "file").write_bytes(b"x"), at=tmp_path / "w"))


def test_tree_removal_is_recorded_entry_by_entry(tmp_path: Path) -> None:

    def start(root: Path) -> None:
        (root / "a" / "b").mkdir(parents=True)
        (root / "a" / "b" / "c").write_bytes(b"x")

    effects = effects_of(start, lambda root: shutil.rmtree(root / "a"), at=tmp_path / "w")
    assert effects == ["unlink a/b/c", "rmdir a/b", "rmdir a"]
