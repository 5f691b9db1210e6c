"""Whole jobs interrupted by a full or failing disk or by a kill near the end, then run again."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import solar_upscale as su
from solar_upscale.errors import OutputError
from tests.support.checkpoints import tree, write_checkpoint
from tests.support.processes import environment

SOLAR = ["0:6", "2:8"]
MIB = 2**20


def leftovers(output: Path) -> list[str]:
    return sorted(path.name for path in output.parent.iterdir() if path.name.startswith(output.name))


# ---------------------------------------------------------------- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system of 64 MB, which only root can mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("a file system can only be mounted on Linux, as root")
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A source whose output takes 58 MB, and that output."""
    folder = tmp_path_factory.mktemp("large")
    source = write_checkpoint(folder / "s", shards=8, hidden=512, inner=1024, vocab=512)
    su.upscale_checkpoint(source, folder / "out", SOLAR)
    return source, tree(folder / "out")


def cli(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "solar_upscale", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment())


def test_full_disk_is_reported_before_the_first_byte(small_disk: Path, large: tuple[Path, dict[str, bytes]]) -> None:
    source, expected = large
    (small_disk / "ballast").write_bytes(bytes(30 * MIB))
    words = (str(source), str(small_disk / "out"), "--layers", *SOLAR)
    done = cli(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "not enough space on this disk; expected" in done.stderr
    assert os.listdir(small_disk) == ["ballast"]  # noqa: PTH208 - names only
    (small_disk / "ballast").unlink()
    assert cli(*words).returncode == 0
    assert tree(small_disk / "out") == expected


def test_disk_that_fills_up_gives_a_one_line_error_and_a_rerun_with_room_completes(
    small_disk: Path, large: tuple[Path, dict[str, bytes]]
) -> None:
    source, expected = large
    ballast, output = small_disk / "ballast", small_disk / "out"
    moved = 0

    def fill(nbytes: int) -> None:
        """Fill the disk once half of the work is done."""
        nonlocal moved
        moved += nbytes
        if moved > 25 * MIB and not ballast.exists():
            with ballast.open("wb", buffering=0) as file:
                free = shutil.disk_usage(small_disk).free
                file.write(bytes(free - free % 4096))

    with pytest.raises(OutputError, match="the disk is full; free some space, then run the same") as caught:
        su.upscale_checkpoint(source, output, SOLAR, on_bytes=fill)
    assert str(caught.value).isprintable()
    assert leftovers(output) == ["out.incomplete"]
    assert cli(str(source), str(output), "--layers", *SOLAR).returncode == 1, "there is still no room"
    assert leftovers(output) == ["out.incomplete"]
    ballast.unlink()
    done = cli(str(source), str(output), "--layers", *SOLAR, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["moved"]["kept"] > 15 * MIB, "what was finished is kept"
    assert tree(output) == expected
    assert leftovers(output) == ["out"]


# ---------------------------------------------------------------- a disk that fails


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EIO", "ESTALE"])
@pytest.mark.parametrize("call", ["pwrite", "copy_file_range", "ftruncate", "fsync", "replace", "rename", "mkdir"])
@pytest.mark.parametrize("after", [0, 3])
def test_disk_error_in_any_call_gives_a_one_line_error_and_the_job_resumes(
    call: str, number: str, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, call):
        pytest.skip(f"this system has no {call}")
    source = write_checkpoint(tmp_path / "s", shards=2, layers=3, hidden=16, inner=16, vocab=16)
    real, code, calls, failed = getattr(os, call), getattr(errno, number), 0, False

    def fail(*args: Any, **options: Any) -> Any:
        nonlocal calls, failed
        calls += 1
        if calls > after:
            failed = True
            raise OSError(code, os.strerror(code))
        return real(*args, **options)

    job = {"layers": ["0:2", "1:3"], "init": "identity"}
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        try:
            su.upscale_checkpoint(source, tmp_path / "out", **job)
        except OutputError as error:
            assert str(error).isprintable()  # noqa: PT017 - any input may give one
            assert failed
            assert not (tmp_path / "out").exists() or call in ("rename", "fsync"), "only after the last rename"
        else:
            assert not failed or call == "copy_file_range", "bytes can go another way there"
    su.upscale_checkpoint(source, tmp_path / "out", **job)
    su.verify_checkpoint(tmp_path / "out", source)
    assert leftovers(tmp_path / "out") == ["out"]


# ---------------------------------------------------------------- a kill near the end

KILLED = """
import os, signal, sys, solar_upscale as su
source, output, stop = sys.argv[1], sys.argv[2], int(sys.argv[3])
moved = 0
def count(nbytes):
    global moved
    moved += nbytes
    if moved >= stop:
        os.kill(os.getpid(), signal.SIGKILL)
su.upscale_checkpoint(source, output, ["0:-10", "20:n"], on_bytes=count)
"""


def kill_after(nbytes: int, source: Path, output: Path) -> None:
    words = [sys.executable, "-c", KILLED, str(source), str(output), str(nbytes)]
    killed = subprocess.run(words, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert leftovers(output) == ["out.incomplete"]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_resume_after_nine_tenths_of_the_work_moves_one_tenth_of_the_bytes(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s", layers=40, shards=40)
    total = su.plan_checkpoint(source, ["0:30", "20:40"]).total_size
    output = tmp_path / "out"
    kill_after(total * 9 // 10, source, output)
    done = cli(str(source), str(output), "--layers", "0:30", "20:40", "--json")
    assert done.returncode == 0, done.stderr
    moved = json.loads(done.stdout)["moved"]
    again = moved["copied"] + moved["cloned"] + moved["zeroed"]
    assert again + moved["kept"] == total
    assert 0.08 * total < again < 0.14 * total, f"{again / total:.1%}"
    su.verify_checkpoint(output, source)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_source_changed_after_a_kill_restarts_the_job_with_a_warning(tmp_path: Path) -> None:
    source, output = write_checkpoint(tmp_path / "s", layers=24, shards=6), tmp_path / "out"
    kill_after(su.plan_checkpoint(source, ["0:-10", "20:n"]).total_size // 2, source, output)
    shard = source / "model-00001-of-00006.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    done = cli(str(source), str(output), "--layers", "0:-10", "20:n", "--json")
    assert done.returncode == 0
    assert done.stderr == (
        f"solar-upscale: {output}: the source or solar-upscale has changed since the interrupted run; starting over\n"
    )
    assert json.loads(done.stdout)["moved"]["kept"] == 0
    fresh = tmp_path / "fresh" / "out"
    su.upscale_checkpoint(source, fresh, ["0:-10", "20:n"])
    assert tree(output) == tree(fresh)
    assert cli(str(source), str(output), "--layers", "0:-10", "20:n").stderr == "", "there is nothing more to say"
