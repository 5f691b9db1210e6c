"""OUT is absent, unchanged or complete, whatever stops a run, whoever else runs, and whatever was there before."""

import errno
import json
import multiprocessing
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solar_upscale.errors import OutputError
from solar_upscale.write import commit
from solar_upscale.write.commit import files as commit_files
from solar_upscale.write.commit import folder as commit_folder
from solar_upscale.write.commit import lock as commit_lock
from tests.support.commits import Tree, files_for, names, run, tree
from tests.support.faults import every_power_loss, every_stop, scratch_folder
from tests.support.fuzz import fuzzed
from tests.support.processes import environment


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness models syncs and checks that they are made, so thousands of runs need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


# -- What a run leaves behind --


def test_only_the_output_folder_is_left_with_only_its_files(tmp_path: Path) -> None:
    assert run(tmp_path) == list(files_for("A"))
    assert tree(tmp_path / "out") == files_for("A")
    assert names(tmp_path) == ["out"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        run(tmp_path)
    finally:
        os.umask(old)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "out" / "config.json").stat().st_mode & 0o777 == 0o640


def test_missing_parent_folders_are_created(tmp_path: Path) -> None:
    run(tmp_path / "not" / "yet")
    assert tree(tmp_path / "not" / "yet" / "out") == files_for("A")


def test_run_that_fails_before_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), commit.unfinished(tmp_path / "out", job="job", state="A"):
        raise KeyError
    assert names(tmp_path) == []


def test_failed_file_is_not_named_and_finished_files_are_kept(tmp_path: Path) -> None:
    def fail() -> None:
        with commit.unfinished(tmp_path / "out", job="job", state="A") as work:
            commit.write_bytes(work.folder, "config.json", files_for("A")["config.json"])
            with commit.write_file(work.folder, "model.safetensors", 5) as fd:
                os.write(fd, b"xx")
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not (tmp_path / "out").exists()
    assert sorted(Path(name).name for name in tree(tmp_path)) == ["config.json", "lock"]
    assert "config.json" not in run(tmp_path)
    assert names(tmp_path) == ["out"]


def test_file_of_the_wrong_size_is_not_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="expected 5 bytes, got 2"), commit.write_file(tmp_path, "a", 5) as fd:
        os.write(fd, b"xx")
    assert names(tmp_path) == []


def test_publish_without_a_planned_file_is_refused(tmp_path: Path) -> None:
    with commit.unfinished(tmp_path / "out", job="job", state="A") as work:
        commit.write_bytes(work.folder, "a", b"a")
        for missing in ("b", "c/d"):
            with pytest.raises(OutputError, match="disappeared during the run"):
                work.publish(["a", missing])
    assert not (tmp_path / "out").exists()


def test_publish_removes_files_outside_the_plan(tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere"
    secret.mkdir()
    (secret / "kept").write_bytes(b"kept")
    with commit.unfinished(tmp_path / "out", job="job", state="A") as work:
        commit.write_bytes(work.folder, "a/b", b"x")
        commit.write_bytes(work.folder, "a/stray", b"x")
        commit.write_bytes(work.folder, "stray/c", b"x")
        (work.folder / "link").symlink_to(secret)
        work.publish(["a/b"])
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")) == ["a", "a/b"]
    assert tree(secret) == {"kept": b"kept"}


# -- Stops and power losses, at every instant --


def leave_work(root: Path, state: str, job: str = "job", files: int = 2) -> None:
    """Leave behind what a run killed after some files does."""
    with commit.unfinished(root / "out", job=job, state=state) as work:
        for name, data in list(files_for(state).items())[:files]:
            commit.write_bytes(work.folder, name, data)
        (work.folder / ".model-00003.0a1b2c3d.part").write_bytes(b"cut off")


def fresh(root: Path) -> None:
    pass


def empty_output(root: Path) -> None:
    (root / "out").mkdir()


def work_for_this_state(root: Path) -> None:
    leave_work(root, "A")


def work_for_another_state(root: Path) -> None:
    leave_work(root, "B", files=4)


def old_output(root: Path) -> None:
    (root / "out").mkdir()
    for name, data in OLD.items():
        (root / "out" / name).write_bytes(data)


def old_output_is_a_file(root: Path) -> None:
    (root / "out").write_bytes(b"a file")


def old_output_and_work_of_another_job(root: Path) -> None:
    leave_work(root, "B", job="other")
    old_output(root)


# The old output has the sizes and first bytes of the new one: only the rest of the contents differs.
OLD = {name: data[:8] + bytes(len(data) - 8) for name, data in files_for("A").items() if "/" not in name}
SCENARIOS: list[tuple[Callable[[Path], None], bool]] = [
    (fresh, False),
    (empty_output, False),
    (work_for_this_state, False),
    (work_for_another_state, False),
    (old_output, True),
    (old_output_is_a_file, True),
    (old_output_and_work_of_another_job, True),
]


@pytest.fixture
def world() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture(params=[True, False], ids=["exchange", "no_exchange"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Systems that can exchange two names atomically, and systems that cannot."""
    if not request.param:
        monkeypatch.setattr(commit_folder, "exchange_names", lambda one, other: False)
    return bool(request.param)


def check_state(root: Path, before: Tree | bytes | None, can_be_absent: bool) -> None:
    """Check that OUT is unchanged or complete, with nothing beside it but the unfinished folder."""
    output = root / "out"
    assert set(names(root)) <= {"out", "out.incomplete"}
    if output.is_file():
        assert output.read_bytes() == before
    elif output.is_dir():
        assert tree(output) in (before, files_for("A"))
    else:
        assert can_be_absent, "OUT is gone"


def before_of(start: Callable[[Path], None], at: Path) -> Tree | bytes | None:
    at.mkdir()
    start(at)
    output = at / "out"
    if output.is_dir():
        return tree(output)
    return output.read_bytes() if output.exists() else None


@pytest.mark.parametrize("every", [every_stop, every_power_loss])
@pytest.mark.parametrize(("start", "overwrite"), SCENARIOS)
def test_every_interrupted_state_is_safe_and_completed_by_a_rerun(
    world: Path, start: Callable[[Path], None], overwrite: bool, every: Callable[..., Any], exchange: bool
) -> None:
    """Promise 2: whole or absent."""
    before = before_of(start, world / "before")
    can_be_absent = before is None or not exchange or before == {}
    count = 0
    for state in every(start, lambda root: run(root, overwrite=overwrite), at=world / "w"):
        check_state(state.root, before, can_be_absent)
        run(state.root, overwrite=overwrite)
        assert tree(state.root / "out") == files_for("A"), state
        assert names(state.root) == ["out"], state
        count += 1
    assert count > 10


def test_output_being_replaced_is_never_absent_where_names_can_be_exchanged(world: Path) -> None:
    if not commit_folder.exchange_names.__doc__ or sys.platform != "linux":
        pytest.skip("this system cannot exchange names")
    for state in every_stop(old_output, lambda root: run(root, overwrite=True), at=world / "w"):
        assert tree(state.root / "out") in (OLD, files_for("A")), state


def test_resumed_run_writes_only_what_is_missing(world: Path) -> None:
    """Promise 2: a re-run redoes only what is missing."""
    finished = 0
    for state in every_stop(fresh, run, at=world / "w"):
        work = list((state.root / "out.incomplete").glob("*-*")) if (state.root / "out.incomplete").exists() else []
        kept = {name for folder in work for name in tree(folder) if not name.endswith(".part")}
        if not (state.root / "out").exists():
            assert set(run(state.root)) == set(files_for("A")) - kept, state
            finished = max(finished, len(kept))
    assert finished == 4


def test_replacing_resumes_up_to_the_last_step(world: Path) -> None:
    for state in every_stop(old_output, lambda root: run(root, overwrite=True), at=world / "w"):
        ready = [path for path in (state.root / "out.incomplete").glob("*.*") if tree(path) == files_for("A")]
        if ready and state.effect.startswith("exchange_names"):
            assert run(state.root, overwrite=True) == []
            return
    pytest.fail("the state before the exchange was not seen")


def test_abandoned_work_is_not_resumed(world: Path) -> None:
    """Stopped just after an exchange, then OUT is lost: the old output, which looks similar, must not be published."""
    for state in every_stop(old_output, lambda root: run(root, overwrite=True), at=world / "w"):
        if tree(state.root / "out") == files_for("A"):
            (state.root / "out").rename(world / f"lost-{state.number}")
            run(state.root)
            assert tree(state.root / "out") == files_for("A"), state


def test_rename_by_a_killed_run_is_synced_before_the_next_run_publishes(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between a file's rename and its folder's sync, then a power loss in the run that found the file."""
    real, name = commit_files.sync_folder, "sub/dir/tokenizer.model"

    def killed(folder: Path) -> None:
        if folder.name == "dir":
            raise KeyboardInterrupt
        real(folder)

    def killed_then_resumed(root: Path) -> None:
        with commit.unfinished(root / "out", job="job", state="A") as work, monkeypatch.context() as patch:
            patch.setattr(commit_files, "sync_folder", killed)
            with pytest.raises(KeyboardInterrupt):
                commit.write_bytes(work.folder, name, files_for("A")[name])
        assert name not in run(root)

    for state in every_power_loss(fresh, killed_then_resumed, at=world / "w"):
        check_state(state.root, None, can_be_absent=True)
        run(state.root)
        assert tree(state.root / "out") == files_for("A"), state


def test_output_recreated_after_being_set_aside_can_still_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_folder, "exchange_names", lambda one, other: False)
    leave_work(tmp_path, "A")
    (tmp_path / "out.incomplete" / "previous").mkdir()
    (tmp_path / "out.incomplete" / "previous" / "file").write_bytes(b"set aside by a killed run")
    old_output(tmp_path)
    run(tmp_path, overwrite=True)
    assert tree(tmp_path) == {f"out/{name}": data for name, data in files_for("A").items()}


SCRIPT = """
import sys
from pathlib import Path
from tests.support.commits import run
print("ready", flush=True)
for _ in range(200):
    for state in "AB":
        run(Path(sys.argv[1]), state=state, overwrite=True)
"""


def test_killed_process_leaves_one_of_two_outputs_and_no_lock(tmp_path: Path) -> None:
    run(tmp_path, state="B")
    chance = random.Random(7)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, env=environment()
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert tree(tmp_path / "out") in (files_for("A"), files_for("B"))
        run(tmp_path, state="A", overwrite=True)
        assert tree(tmp_path / "out") == files_for("A")
        assert names(tmp_path) == ["out"]


# -- Unfinished work of this job and of others --


def test_work_of_the_same_fingerprint_is_resumed(tmp_path: Path) -> None:
    leave_work(tmp_path, "A")
    with commit.unfinished(tmp_path / "out", job="job", state="A") as work:
        assert (work.resumed, work.restarted) == (True, False)
        assert len(tree(work.folder)) == 2  # without the truncated file


def test_changed_source_restarts_with_a_warning(tmp_path: Path) -> None:
    leave_work(tmp_path, "B", files=4)
    with commit.unfinished(tmp_path / "out", job="job", state="A") as work:
        assert (work.resumed, work.restarted) == (False, True)
        assert tree(work.folder) == {}
    assert run(tmp_path, state="A") == list(files_for("A"))


def test_first_run_reports_neither_resume_nor_restart(tmp_path: Path) -> None:
    with commit.unfinished(tmp_path / "out", job="job", state="A") as work:
        assert (work.resumed, work.restarted) == (False, False)


def test_work_of_another_job_is_refused_named_and_kept(tmp_path: Path) -> None:
    leave_work(tmp_path, "A", job="other")
    before = {name: data for name, data in tree(tmp_path).items() if not name.endswith("lock")}
    with pytest.raises(OutputError, match=r"out\.incomplete: holds the unfinished work of another plan; .*--overwrite"):
        run(tmp_path)
    assert {name: data for name, data in tree(tmp_path).items() if not name.endswith("lock")} == before
    run(tmp_path, overwrite=True)
    assert tree(tmp_path) == {f"out/{name}": data for name, data in files_for("A").items()}


def test_foreign_incomplete_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    theirs = tmp_path / "out.incomplete"
    theirs.mkdir()
    (theirs / "thesis.tex").write_bytes(b"words")
    with pytest.raises(OutputError, match=r"out\.incomplete: holds thesis\.tex, which solar-upscale did not write"):
        run(tmp_path)
    assert names(theirs) == ["thesis.tex"]
    run(tmp_path, overwrite=True)
    assert names(tmp_path) == ["out"]


def test_overwrite_never_removes_what_a_link_points_to(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_bytes(b"kept")
    (tmp_path / "world" / "out.incomplete").mkdir(parents=True)
    (tmp_path / "world" / "out.incomplete" / "link").symlink_to(kept)
    (tmp_path / "world" / "out.incomplete" / "previous").symlink_to(kept)
    run(tmp_path / "world", overwrite=True)
    assert tree(kept) == {"file": b"kept"}
    assert names(tmp_path / "world") == ["out"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
def test_incomplete_path_that_is_not_a_folder_is_refused_even_with_overwrite(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out.incomplete"
    if kind == "file":
        path.write_bytes(b"mine")
    else:
        path.symlink_to(tmp_path if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(OutputError, match="is not a folder; remove it"):
        run(tmp_path, overwrite=True)
    assert names(tmp_path) == ["out.incomplete"]


def test_planted_link_in_place_of_the_lock_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "out.incomplete").mkdir()
    (tmp_path / "out.incomplete" / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError):
        run(tmp_path)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_refused_run_does_not_touch_the_unpublished_work_of_another_job(tmp_path: Path) -> None:
    given_up = tmp_path / "out.incomplete" / ("0" * 16 + "-" + "0" * 16 + ".1")
    given_up.mkdir(parents=True)
    (given_up / "file").write_bytes(b"theirs")
    with pytest.raises(OutputError, match="unfinished work of another plan"):
        run(tmp_path)
    assert (given_up / "file").read_bytes() == b"theirs"


def test_leftovers_of_another_job_are_kept(tmp_path: Path) -> None:
    leave_work(tmp_path, "A", job="other")
    commit.remove_leftovers(tmp_path / "out", job="job")
    assert (tmp_path / "out.incomplete").is_dir()
    commit.remove_leftovers(tmp_path / "out", job="other")
    assert names(tmp_path) == []
    commit.remove_leftovers(tmp_path / "out", job="job")
    assert names(tmp_path) == []


# -- One writer --


def test_concurrent_run_is_refused_in_one_line_that_names_the_writer(tmp_path: Path) -> None:
    with commit.unfinished(tmp_path / "out", job="job", state="A") as work:
        with pytest.raises(OutputError) as caught:
            run(tmp_path)
        assert f"process {os.getpid()} on {os.uname().nodename} is writing there" in str(caught.value)
        commit.write_bytes(work.folder, "a", b"a")
        work.publish(["a"])
    assert tree(tmp_path) == {"out/a": b"a"}


def race(root: Path, rounds: int) -> None:
    for number in range(rounds):
        try:
            run(root / str(number))
        except OutputError as error:
            assert "is writing there" in str(error) or "already exists" in str(error), error  # noqa: PT017


def test_simultaneous_runs_make_one_correct_output(tmp_path: Path) -> None:
    rounds = 40
    for number in range(rounds):
        (tmp_path / str(number)).mkdir()
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=race, args=(tmp_path, rounds)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for number in range(rounds):
        assert tree(tmp_path / str(number)) == {f"out/{name}": data for name, data in files_for("A").items()}


def test_lock_on_a_removed_file_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, removed = commit_lock.fcntl.flock, []

    def flock(fd: int, operation: int) -> None:
        real(fd, operation)
        if not removed:  # the previous holder removes the file just before this one gets the lock
            (tmp_path / "out.incomplete" / "lock").unlink()
            (tmp_path / "out.incomplete").rmdir()
            removed.append(fd)

    monkeypatch.setattr(commit_lock.fcntl, "flock", flock)
    run(tmp_path)
    assert removed
    assert tree(tmp_path / "out") == files_for("A")


@pytest.mark.parametrize("name", ["ENOLCK", "ENOTSUP", "ENOSYS"])
def test_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(commit_lock.fcntl, "flock", flock)
    with pytest.raises(OutputError, match="this file system cannot lock files"):
        run(tmp_path)
    assert not (tmp_path / "out").exists()


# -- An existing OUT --


def test_non_empty_output_is_refused_and_untouched(tmp_path: Path) -> None:
    old_output(tmp_path)
    with pytest.raises(OutputError, match=r"out: already exists and holds config\.json, .*--overwrite"):
        run(tmp_path)
    assert tree(tmp_path) == {f"out/{name}": data for name, data in OLD.items()}


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    old_output_is_a_file(tmp_path)
    with pytest.raises(OutputError, match="already exists and holds a file"):
        run(tmp_path)


@pytest.mark.parametrize("overwrite", [True, False])
def test_output_that_is_a_link_or_a_device_is_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    with pytest.raises(OutputError, match=r"is a symbolic link; give the folder it points to \(.*real\)"):
        run(tmp_path, overwrite=overwrite)
    (tmp_path / "out").unlink()
    os.mkfifo(tmp_path / "out")
    with pytest.raises(OutputError, match="neither a folder nor a file"):
        run(tmp_path, overwrite=overwrite)


def test_mount_point_and_root_are_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="root of a file system"), commit.unfinished(Path("/"), job="", state=""):
        pass
    empty_output(tmp_path)
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "out")
    with pytest.raises(OutputError, match="a file system is mounted there"):
        run(tmp_path)
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("place", ["current", "home"])
def test_current_and_home_folder_are_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    old_output(tmp_path)
    (tmp_path / "out" / "inner").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "out" if place == "home" else tmp_path))
    monkeypatch.chdir(tmp_path / "out" / "inner" if place == "current" else tmp_path)
    with pytest.raises(OutputError, match="never replaced"):
        run(tmp_path, overwrite=True)
    assert tree(tmp_path / "out") == OLD


def test_empty_current_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    with pytest.raises(OutputError, match="never replaced"):
        run(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no rights of this kind")
@pytest.mark.parametrize("overwrite", [False, True])
def test_replaced_output_keeps_its_permissions(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "out").mkdir(mode=0o700)
    if overwrite:
        (tmp_path / "out" / "old").touch()
    run(tmp_path, overwrite=overwrite)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_output_created_during_the_run_is_not_replaced(tmp_path: Path) -> None:
    with commit.unfinished(tmp_path / "out", job="job", state="A") as work:
        commit.write_bytes(work.folder, "a", b"a")
        old_output(tmp_path)
        with pytest.raises(OutputError, match="already exists"):
            work.publish(["a"])
    assert tree(tmp_path / "out") == OLD


def test_old_output_that_cannot_be_removed_is_reported_and_the_new_one_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_output(tmp_path)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(commit_folder, "remove_tree", refuse)
    with pytest.raises(OutputError, match=r"out: is complete, .*remove .*out\.incomplete by hand"):
        run(tmp_path, overwrite=True)
    assert tree(tmp_path / "out") == files_for("A")


# -- Names --


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "C:/x", "C:x", "a\\..\\b", "a\0b", "a\nb", "..", "."],
)
def test_name_that_could_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="is not the name of a file in the output"):
        commit.write_bytes(tmp_path, name, b"")
    with pytest.raises(OutputError):
        commit.has_file(tmp_path, name, 0, b"")
    assert names(tmp_path) == []


@fuzzed(100)
@given(name=st.text(max_size=30))
def test_any_name_is_refused_or_stays_inside(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    world = tmp_path_factory.mktemp("names")
    (world / "folder").mkdir()
    try:
        commit.write_bytes(world / "folder", name, b"x")
    except (OutputError, UnicodeEncodeError):
        return
    assert names(world) == ["folder"]
    assert tree(world / "folder") == {name: b"x"}


def test_folder_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is not a folder; remove it"):
        commit.write_bytes(tmp_path / "folder", "sub/file", b"x")
    assert names(tmp_path / "elsewhere") == []


def test_long_name_in_any_script_can_be_written(tmp_path: Path) -> None:
    name = "文" * 85  # 255 bytes
    commit.write_bytes(tmp_path, name, b"x")
    assert names(tmp_path) == [name]


def test_finished_file_is_recognised_by_size_and_first_bytes(tmp_path: Path) -> None:
    commit.write_bytes(tmp_path, "sub/a", b"header and data")
    (tmp_path / "link").symlink_to(tmp_path / "sub" / "a")
    os.mkfifo(tmp_path / "pipe")
    assert commit.has_file(tmp_path, "sub/a", 15, b"header")
    assert not commit.has_file(tmp_path, "sub/a", 14, b"header")
    assert not commit.has_file(tmp_path, "sub/a", 15, b"Header")
    assert not commit.has_file(tmp_path, "link", 15, b"header")
    assert not commit.has_file(tmp_path, "pipe", 0, b"")
    assert not commit.has_file(tmp_path, "sub", 0, b"")
    assert not commit.has_file(tmp_path, "sub/a/b", 0, b"")
    assert not commit.has_file(tmp_path, "none", 0, b"")


# -- Failing disks, nested folders, messages --


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ENOSPC", "the disk is full; free some space, then run the same command again: it resumes"),
        ("EDQUOT", "the disk quota is used up"),
        ("EIO", "a disk failed"),
        ("EROFS", "the file system is read-only"),
        ("ESTALE", os.strerror(errno.ESTALE)),
    ],
)
@pytest.mark.parametrize("call", ["pwrite", "fsync", "mkdir", "replace", "open", "rename"])
def test_failing_disk_gives_a_one_line_error_and_the_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str, message: str
) -> None:
    leave_work(tmp_path, "A")
    real, number = getattr(os, call), getattr(errno, name)

    def fail(*args: Any, **options: Any) -> Any:
        if call == "open" and not args[1] & os.O_EXCL:
            return real(*args, **options)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OutputError) as caught:
            run(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    written = run(tmp_path)
    assert len(written) < 4
    assert tree(tmp_path) == {f"out/{name}": data for name, data in files_for("A").items()}


def test_full_disk_says_how_much_is_needed_and_how_much_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit.check_room(tmp_path, 0)
    with pytest.raises(OutputError, match=r"not enough space on this disk; expected 1000 TB free, got [0-9.]+ .B;"):
        commit.check_room(tmp_path, 10**15)
    unknown = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: unknown)
    commit.check_room(tmp_path, 10**15)


def test_nested_source_and_output_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "out.incomplete" / "work").mkdir(parents=True)
    for output in (source, source / "out", source / "a" / "b", tmp_path / "link" / "out", tmp_path):
        with pytest.raises(OutputError, match="is inside the source or contains it"):
            commit.refuse_overlap(source, output)
    with pytest.raises(OutputError, match="is inside the source or contains it"):
        commit.refuse_overlap(tmp_path / "out.incomplete" / "work", tmp_path / "out")
    for output in (tmp_path / "out", tmp_path / "source-48"):
        commit.refuse_overlap(source, output)


def test_errors_are_printable_lines(tmp_path: Path) -> None:
    name = "evil\x1b[31m"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"")
    with pytest.raises(OutputError) as caught:
        run(tmp_path)
    assert "\x1b" not in str(caught.value)
    assert json.dumps(name)[1:5] in str(caught.value)
