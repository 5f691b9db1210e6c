"""Bytes arrive whole whatever the system offers, and cost no blocks where it can share them."""

import ctypes
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solar_upscale.errors import CheckpointError
from solar_upscale.source.header import BLOCK_NBYTES
from solar_upscale.write import move
from solar_upscale.write.move import Moved, Mover, WriteBehind, can_clone, write_all, zero_range

fcntl = pytest.importorskip("fcntl", reason="injects faults into POSIX calls")

MIB = 1 << 20


def pattern_bytes(nbytes: int, seed: int = 0) -> bytes:
    """Bytes in which every aligned word differs, so that a shift or a wrong offset shows."""
    return b"".join((seed + i).to_bytes(8, "little") for i in range(-(-nbytes // 8)))[:nbytes]


SOURCE = pattern_bytes(5 * MIB + 123)


class Files:
    """A source with known bytes and an empty target, both open."""

    def __init__(self, folder: Path, source: bytes = SOURCE) -> None:
        self.source = folder / "source"
        self.source.write_bytes(source)
        self.target = folder / "target"
        self.source_fd = os.open(self.source, os.O_RDONLY)
        self.target_fd = os.open(self.target, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def move(self, mover: Mover, source_start: int, target_start: int, nbytes: int) -> tuple[Moved, list[int]]:
        reported: list[int] = []
        moved = mover.move_range(
            self.source_fd, source_start, self.target_fd, target_start, nbytes, on_bytes=reported.append
        )
        return moved, reported

    def close(self) -> None:
        os.close(self.source_fd)
        os.close(self.target_fd)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    opened = Files(tmp_path)
    yield opened
    opened.close()


Faults = Callable[[pytest.MonkeyPatch], None]


def no_faults(patch: pytest.MonkeyPatch) -> None:
    pass


def no_kernel_calls(patch: pytest.MonkeyPatch) -> None:  # as on macOS
    patch.setattr("sys.platform", "darwin")
    patch.delattr(os, "copy_file_range", raising=False)


def no_positioned_calls(patch: pytest.MonkeyPatch) -> None:  # as on Windows
    no_kernel_calls(patch)
    for name in ("preadv", "pread", "pwrite", "pwritev"):
        patch.delattr(os, name, raising=False)


def short_calls(patch: pytest.MonkeyPatch) -> None:
    copy, read, write = os.copy_file_range, os.preadv, os.pwrite
    patch.setattr(os, "copy_file_range", lambda s, t, n, a, b: copy(s, t, max(1, n // 3), a, b))
    patch.setattr(os, "preadv", lambda fd, views, at: read(fd, [views[0][: max(1, len(views[0]) // 3)]], at))
    patch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[: max(1, len(data) // 2)], at))


def clones_by_copying(patch: pytest.MonkeyPatch) -> None:
    """Stand in for a file system that shares blocks: accepts exactly what one would, and copies."""

    def ioctl(target_fd: int, request: int, argument: bytes) -> int:
        source_fd, source_start, nbytes, target_start = move.struct.unpack("=qQQQ", argument)
        if (source_start | nbytes | target_start) % BLOCK_NBYTES or not nbytes:
            raise OSError(errno.EINVAL, "not whole blocks")
        assert os.pwrite(target_fd, os.pread(source_fd, nbytes, source_start), target_start) == nbytes
        return 0

    patch.setattr(fcntl, "ioctl", ioctl)


class MoverContract:
    """What any way of moving must do. A subclass says what the system lacks."""

    faults: ClassVar[Faults]

    @pytest.fixture(autouse=True)
    def _inject(self, monkeypatch: pytest.MonkeyPatch) -> None:
        type(self).faults(monkeypatch)

    @pytest.mark.parametrize(
        ("source_start", "target_start", "nbytes"),
        [
            (0, 0, len(SOURCE)),
            (8, 4104, len(SOURCE) - 8),  # offsets agree
            (8, 16, len(SOURCE) - 8),  # offsets do not agree
            (4096, 0, 2 * BLOCK_NBYTES),
            (4095, 4095, 2),  # a block's boundary in the middle, no whole block
            (100, 2 * MIB - 1, 2 * MIB + 2),
            (len(SOURCE), 0, 0),
            (len(SOURCE) - 1, 77, 1),
        ],
    )
    def test_only_the_requested_range_is_copied(
        self, files: Files, source_start: int, target_start: int, nbytes: int
    ) -> None:
        before = b"\xee" * (target_start + nbytes + 50)
        os.write(files.target_fd, before)
        moved, reported = files.move(Mover(), source_start, target_start, nbytes)
        expected = before[:target_start] + SOURCE[source_start : source_start + nbytes] + before[-50:]
        assert files.target.read_bytes() == expected
        assert moved.cloned + moved.copied == sum(reported) == nbytes
        assert moved.zeroed == 0

    def test_ranges_follow_each_other_into_one_file(self, files: Files) -> None:
        mover = Mover()
        for start, stop in [(0, 10), (10, 9000), (9000, 3 * MIB), (3 * MIB, len(SOURCE))]:
            files.move(mover, start, start, stop - start)
        assert files.target.read_bytes() == SOURCE

    # Each subclass runs this under faults of its own: differing executors are the point.
    @settings(max_examples=30, deadline=None, database=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(data=st.data())
    def test_any_range_is_copied_exactly(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        source_start = data.draw(st.integers(0, 20_000))
        nbytes = data.draw(st.one_of(st.integers(0, 20_000), st.integers(0, len(SOURCE) - source_start)))
        agreeing = st.integers(0, 5).map(lambda blocks: source_start % BLOCK_NBYTES + blocks * BLOCK_NBYTES)
        target_start = data.draw(st.one_of(st.integers(0, 20_000), agreeing))
        files = Files(tmp_path_factory.mktemp("any"))
        files.move(Mover(), source_start, target_start, nbytes)
        files.close()
        expected = bytes(target_start if nbytes else 0) + SOURCE[source_start : source_start + nbytes]
        assert files.target.read_bytes() == expected

    @pytest.mark.parametrize("target_start", [8, 9])
    def test_source_that_shrank_is_an_error_with_sizes(self, files: Files, target_start: int) -> None:
        with pytest.raises(CheckpointError) as caught:
            Mover().move_range(
                files.source_fd, 8, files.target_fd, target_start, len(SOURCE), on_bytes=len_of, source_name="a.bin"
            )
        assert f"a.bin: the file was truncated while it was read; expected bytes up to {len(SOURCE) + 8}" in str(
            caught.value
        )
        assert f"it ends at {len(SOURCE)}" in str(caught.value)

    def test_on_bytes_can_abort_the_move(self, files: Files) -> None:
        def stop(nbytes: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Mover().move_range(files.source_fd, 0, files.target_fd, 0, len(SOURCE), on_bytes=stop)


def len_of(nbytes: int) -> None:
    pass


class TestAsTheSystemIs(MoverContract):
    faults = no_faults


class TestWithoutKernelCalls(MoverContract):
    faults = no_kernel_calls


class TestWithoutPositionedCalls(MoverContract):
    faults = no_positioned_calls


class TestShortCalls(MoverContract):
    faults = short_calls


class TestCloning(MoverContract):
    faults = clones_by_copying


def fail_after(calls: int, number: int, real: Callable[..., int]) -> Callable[..., int]:
    """A system call that works some times, then fails for ever."""
    made = 0

    def call(*args: object) -> int:
        nonlocal made
        made += 1
        if made > calls:
            raise OSError(number, os.strerror(number))
        return real(*args)

    return call


REFUSALS = ["EXDEV", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "ENOSYS", "EBADF", "EPERM", "ETXTBSY", "ENOTTY"]
FAILURES = ["ENOSPC", "EIO", "EDQUOT"]


@pytest.fixture
def small_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a range of a few MiB take many calls."""
    monkeypatch.setattr(move, "CALL_NBYTES", 256 << 10)


@pytest.mark.usefixtures("small_calls")
@pytest.mark.parametrize("calls", [0, 1, 3])
class TestRefusals:
    @pytest.mark.parametrize("name", REFUSALS)
    def test_refused_clone_falls_back_to_copying(
        self, files: Files, monkeypatch: pytest.MonkeyPatch, name: str, calls: int
    ) -> None:
        clones_by_copying(monkeypatch)
        monkeypatch.setattr(fcntl, "ioctl", fail_after(calls, getattr(errno, name), fcntl.ioctl))
        moved, reported = files.move(Mover(), 8, 8, len(SOURCE) - 8)
        assert files.target.read_bytes()[8:] == SOURCE[8:]
        assert moved.cloned == calls * move.CALL_NBYTES
        assert moved.cloned + moved.copied == sum(reported) == len(SOURCE) - 8

    @pytest.mark.parametrize("name", REFUSALS)
    def test_refused_kernel_copy_falls_back_to_reading(
        self, files: Files, monkeypatch: pytest.MonkeyPatch, name: str, calls: int
    ) -> None:
        monkeypatch.setattr(os, "copy_file_range", fail_after(calls, getattr(errno, name), os.copy_file_range))
        moved, reported = files.move(Mover(), 8, 9, len(SOURCE) - 8)
        assert files.target.read_bytes()[9:] == SOURCE[8:]
        assert moved == Moved(copied=len(SOURCE) - 8)
        assert sum(reported) == len(SOURCE) - 8

    def test_kernel_copy_that_returns_zero_falls_back_to_reading(
        self, files: Files, monkeypatch: pytest.MonkeyPatch, calls: int
    ) -> None:
        real = fail_after(calls, errno.ERANGE, os.copy_file_range)

        def copy(*args: object) -> int:
            try:
                return real(*args)
            except OSError:
                return 0

        monkeypatch.setattr(os, "copy_file_range", copy)
        files.move(Mover(), 8, 9, len(SOURCE) - 8)
        assert files.target.read_bytes()[9:] == SOURCE[8:]

    @pytest.mark.parametrize("name", FAILURES)
    @pytest.mark.parametrize("call", ["ioctl", "copy_file_range", "pwrite"])
    def test_failing_disk_is_not_hidden_by_a_fallback(
        self, files: Files, monkeypatch: pytest.MonkeyPatch, call: str, name: str, calls: int
    ) -> None:
        clones_by_copying(monkeypatch)
        module = fcntl if call == "ioctl" else os
        monkeypatch.setattr(module, call, fail_after(calls, getattr(errno, name), getattr(module, call)))
        with pytest.raises(OSError, match=r"^\[Errno") as caught:
            files.move(Mover(), 8, 8 if call == "ioctl" else 9, len(SOURCE) - 8)
        assert caught.value.errno == getattr(errno, name)


def test_interrupted_clone_is_retried(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    clones_by_copying(monkeypatch)
    clone, interrupts = fcntl.ioctl, [1, 1]

    def ioctl(*args: object) -> int:
        if interrupts:
            interrupts.pop()
            raise InterruptedError(errno.EINTR, "a signal")
        return clone(*args)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    moved, _ = files.move(Mover(), 0, 0, 8 * BLOCK_NBYTES)
    assert moved == Moved(cloned=8 * BLOCK_NBYTES)
    assert not interrupts


def test_refused_method_is_tried_once_per_device_pair(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def refuse(name: str) -> Callable[..., int]:
        def call(*args: object) -> int:
            tried.append(name)
            raise OSError(errno.EXDEV, "other device")

        return call

    monkeypatch.setattr(fcntl, "ioctl", refuse("clone"))
    monkeypatch.setattr(os, "copy_file_range", refuse("copy"))
    mover = Mover()
    for _ in range(3):
        files.move(mover, 0, 0, len(SOURCE))
    assert tried == ["clone", "copy"]


def test_range_that_cannot_be_cloned_does_not_disable_cloning_of_the_next(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    mover = Mover()
    monkeypatch.setattr(fcntl, "ioctl", fail_after(0, errno.EINVAL, fcntl.ioctl))
    assert files.move(mover, 0, 0, 8 * BLOCK_NBYTES)[0].cloned == 0
    clones_by_copying(monkeypatch)
    assert files.move(mover, 0, 0, 8 * BLOCK_NBYTES)[0].cloned == 8 * BLOCK_NBYTES


def test_no_call_moves_more_than_64_mib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sizes: list[int] = []

    def ioctl(target_fd: int, request: int, argument: bytes) -> int:
        sizes.append(move.struct.unpack("=qQQQ", argument)[2])
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(os, "copy_file_range", lambda source, target, nbytes, *starts: sizes.append(nbytes) or nbytes)
    files = Files(tmp_path, source=b"")
    files.move(Mover(), 0, 0, 5 << 30)
    files.move(Mover(), 0, 2 * MIB + 0, 5 << 30)
    os.truncate(tmp_path / "source", 4 * MIB)
    files.move(Mover(), 1, 2 * MIB, 5 << 30)
    files.close()
    assert max(sizes) == 64 * MIB
    assert sum(sizes) == 15 << 30


def test_moved_adds_up() -> None:
    assert Moved(1, 2, 3, 4) + Moved(10, 20, 30, 40) == Moved(cloned=11, copied=22, changed=33, zeroed=44)


def test_write_all_survives_short_writes(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    short_calls(monkeypatch)
    reported: list[int] = []
    write_all(files.target_fd, 5, SOURCE, on_bytes=reported.append)
    write_all(files.target_fd, 0, memoryview(b"abcd").cast("H"), on_bytes=reported.append)
    assert files.target.read_bytes() == b"abcd\0" + SOURCE
    assert sum(reported) == len(SOURCE) + 4


def test_write_that_returns_zero_is_an_error_not_a_loop(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda *args: 0)
    with pytest.raises(OSError, match="wrote no bytes"):
        write_all(files.target_fd, 0, b"x", on_bytes=len_of)


class TestZeroRange:
    def test_zeros_at_the_end_are_a_hole(self, files: Files) -> None:
        os.write(files.target_fd, b"head")
        reported: list[int] = []
        assert zero_range(files.target_fd, 4, 300 * MIB, on_bytes=reported.append) == Moved(zeroed=300 * MIB)
        assert sum(reported) == 300 * MIB
        assert max(reported) <= move.CALL_NBYTES
        assert os.fstat(files.target_fd).st_size == 300 * MIB + 4
        assert os.fstat(files.target_fd).st_blocks * 512 < MIB
        assert os.pread(files.target_fd, 8, 0) == b"head\0\0\0\0"

    @settings(max_examples=40, deadline=None)
    @given(size=st.integers(0, 9000), start=st.integers(0, 9000), nbytes=st.integers(0, 9000))
    def test_zeroing_replaces_only_the_range(
        self, tmp_path_factory: pytest.TempPathFactory, size: int, start: int, nbytes: int
    ) -> None:
        path = tmp_path_factory.mktemp("zero") / "file"
        path.write_bytes(b"\xff" * size)
        fd = os.open(path, os.O_RDWR)
        zero_range(fd, start, nbytes, on_bytes=len_of)
        os.close(fd)
        expected = bytearray(b"\xff" * size)
        if nbytes:
            expected.extend(bytes(max(0, start + nbytes - size)))
            expected[start : start + nbytes] = bytes(nbytes)
        assert path.read_bytes() == bytes(expected)


class TestWriteBehind:
    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
        made: list[tuple[str, int, int]] = []
        real = move._sync_file_range

        def recording() -> Callable[[int, int, int, int], None]:
            call = real()
            assert call is not None

            def sync(fd: int, start: int, nbytes: int, flags: int) -> None:
                made.append(("start" if flags == 2 else "wait", start // MIB, nbytes // MIB))
                call(fd, start, nbytes, flags)

            return sync

        monkeypatch.setattr(move, "_sync_file_range", recording)
        monkeypatch.setattr(
            os, "posix_fadvise", lambda fd, start, n, advice: made.append(("drop", start // MIB, n // MIB))
        )
        return made

    @pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system does not have the calls")
    def test_large_output_is_written_out_window_by_window(
        self, files: Files, calls: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(move, "_memory_nbytes", lambda: 4 * MIB)
        monkeypatch.setattr(move, "_BACKLOG_NBYTES", 16 * MIB)
        behind = WriteBehind(files.target_fd, 2 * MIB)
        os.ftruncate(files.target_fd, 200 * MIB)
        for stop in (1, 7, 8, 25, 32):
            behind.written(stop * MIB)
        assert calls == [
            ("start", 0, 8),
            ("start", 8, 8),
            ("start", 16, 8),
            ("wait", 0, 8),
            ("drop", 0, 8),
            ("start", 24, 8),
            ("wait", 8, 8),
            ("drop", 8, 8),
        ]

    @pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system does not have the calls")
    def test_small_output_is_written_out_early_but_never_waited_for(
        self, files: Files, calls: list[tuple[str, int, int]]
    ) -> None:
        behind = WriteBehind(files.target_fd, MIB)
        for stop in (7, 8, 150):
            behind.written(stop * MIB)
        assert calls == [("start", start, 8) for start in range(0, 144, 8)]

    @pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="this system does not have the call")
    def test_copies_are_no_larger_than_a_window_so_that_the_disk_starts_early(self, files: Files) -> None:
        os.truncate(files.source, 40 * MIB)
        _moved, reported = files.move(Mover(), 8, 9, 40 * MIB - 8)
        assert max(reported) <= move.WINDOW_NBYTES
        assert files.target.read_bytes()[9:] == files.source.read_bytes()[8:]

    @pytest.mark.parametrize(("number", "raises"), [(errno.EIO, True), (errno.ENOSPC, True), (errno.EINVAL, False)])
    def test_failed_writeback_is_reported_because_fsync_will_not(
        self, files: Files, monkeypatch: pytest.MonkeyPatch, number: int, raises: bool
    ) -> None:
        def sync_file_range(*args: object) -> int:
            ctypes.set_errno(number)
            return -1

        library = SimpleNamespace(sync_file_range=sync_file_range)
        monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: library)
        monkeypatch.setattr(move, "_memory_nbytes", lambda: 0)
        behind = WriteBehind(files.target_fd, 1 << 40)
        if raises:
            with pytest.raises(OSError, match=r"^\[Errno"):
                behind.written(move.WINDOW_NBYTES)
        else:
            behind.written(move.WINDOW_NBYTES)


class TestCanClone:
    def test_probe_leaves_nothing_behind(self, files: Files, tmp_path: Path) -> None:
        before = sorted(tmp_path.iterdir())
        can_clone(files.source_fd, tmp_path)
        assert sorted(tmp_path.iterdir()) == before

    def test_probe_answers_no_on_refusal_and_raises_on_a_failing_disk(
        self, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clones_by_copying(monkeypatch)
        assert can_clone(files.source_fd, tmp_path)
        monkeypatch.setattr(fcntl, "ioctl", fail_after(0, errno.EXDEV, fcntl.ioctl))
        assert not can_clone(files.source_fd, tmp_path)
        monkeypatch.setattr(fcntl, "ioctl", fail_after(0, errno.EIO, fcntl.ioctl))
        with pytest.raises(OSError, match="Input/output"):
            can_clone(files.source_fd, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]

    def test_probe_answers_no_for_a_source_smaller_than_a_block(self, tmp_path: Path) -> None:
        files = Files(tmp_path, source=b"tiny")
        assert not can_clone(files.source_fd, tmp_path)
        files.close()


# Cloning for real, on file systems made for the test.


def shared_nbytes(path: Path) -> int:
    """How many bytes of a file lie in blocks that another file uses too, as the file system itself says (FIEMAP)."""
    header, extent, shared = 32, 56, 0x2000
    request = bytearray(header + 512 * extent)
    move.struct.pack_into("=QQLLLL", request, 0, 0, 2**64 - 1, 1, 0, 512, 0)
    with path.open("rb") as file:
        fcntl.ioctl(file.fileno(), 0xC020660B, request)
    count = move.struct.unpack_from("=L", request, 20)[0]
    extents = [move.struct.unpack_from("=QQQ16xL", request, header + i * extent) for i in range(count)]
    return sum(length for _, _, length, flags in extents if flags & shared)


@pytest.fixture(params=["xfs", "btrfs"])
def sharing_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A new file system that shares blocks, mounted for one test."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    image, folder = tmp_path / "image", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(320 * MIB)
    folder.mkdir()
    for command in ([f"mkfs.{request.param}", "-q", str(image)], ["mount", "-o", "loop", str(image), str(folder)]):
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"{command[0]} does not work here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_blocks_are_shared_where_the_file_system_can(sharing_folder: Path) -> None:
    files = Files(sharing_folder)
    assert can_clone(files.source_fd, sharing_folder)
    moved, reported = files.move(Mover(), 1000, 5096, len(SOURCE) - 1000)
    os.fsync(files.target_fd)
    assert files.target.read_bytes()[5096:] == SOURCE[1000:]
    assert moved.copied < 2 * BLOCK_NBYTES
    assert moved.cloned == shared_nbytes(files.target)
    assert sum(reported) == len(SOURCE) - 1000
    files.close()


def test_source_on_another_file_system_is_copied(sharing_folder: Path, tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert not can_clone(files.source_fd, sharing_folder)
    target_fd = os.open(sharing_folder / "target", os.O_RDWR | os.O_CREAT)
    moved = Mover().move_range(files.source_fd, 0, target_fd, 0, len(SOURCE), on_bytes=len_of)
    os.close(target_fd)
    files.close()
    assert (sharing_folder / "target").read_bytes() == SOURCE
    assert moved == Moved(copied=len(SOURCE))
