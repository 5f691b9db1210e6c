"""Moves bytes from one open file to another: cloned, copied by the kernel, or read and written.

Each method is one function that makes one bounded call; ``Mover`` chooses among them by trying, never by the name of a
file system, and continues in the middle of a range where a method stopped. The plan decides which bytes go where, and
commit/ handles names and durability: nothing here opens a file by name (except a probe) or syncs one.
"""

import errno
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from solar_upscale.errors import CheckpointError
from solar_upscale.source.header import BLOCK_NBYTES

if sys.platform != "win32":
    import fcntl

__all__ = [
    "CALL_NBYTES",
    "WINDOW_NBYTES",
    "Moved",
    "Mover",
    "WriteBehind",
    "can_clone",
    "write_all",
    "zero_range",
]

# Maximum size of one call, so that interrupts are prompt; also for clones, which first write out data not yet on disk.
CALL_NBYTES = 64 << 20

# Copied data is written out in windows of this size. Smaller ones gain nothing; 64 MiB left the disk idle for a
# fifteenth of the run.
WINDOW_NBYTES = 8 << 20

_BUFFER_NBYTES = 1 << 20

# How much of a large output may be in writeback at a time.
_BACKLOG_NBYTES = 64 << 20

# copy_file_range into page cache is a tenth slower when its target does not start on a boundary of large pages.
_LARGE_PAGE_NBYTES = 2 << 20

# Unsupported: the kernel, the file system or a sandbox lacks the call, or it does not apply to these two files.
# Any other error (ENOSPC, EDQUOT, EIO) would hit the next method too, so it is raised.
_REFUSED_FOR_THESE_DEVICES = {errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EPERM}
_REFUSED = _REFUSED_FOR_THESE_DEVICES | {errno.EINVAL, errno.EBADF, errno.ETXTBSY, errno.EACCES}

_FICLONERANGE = 0x4020940D  # an architecture with another number answers ENOTTY or EINVAL: copied


@dataclass(frozen=True, slots=True)
class Moved:
    """How many bytes were cloned from the source, copied from it, computed from it, or zeroed."""

    cloned: int = 0
    copied: int = 0
    changed: int = 0
    zeroed: int = 0

    def __add__(self, other: "Moved") -> "Moved":
        return Moved(
            self.cloned + other.cloned,
            self.copied + other.copied,
            self.changed + other.changed,
            self.zeroed + other.zeroed,
        )


@dataclass(frozen=True, slots=True)
class _Range:
    source_fd: int
    source_start: int
    target_fd: int
    target_start: int
    nbytes: int

    def part(self, start: int, stop: int) -> "_Range":
        source_start, target_start = self.source_start + start, self.target_start + start
        return _Range(self.source_fd, source_start, self.target_fd, target_start, stop - start)


# Moves some bytes from the start of a range and returns how many; 0 means the end of the source.
_Method = Callable[[_Range], int]


class Mover:
    """Moves ranges, and remembers which methods fail between which devices. Use one per thread."""

    def __init__(self) -> None:
        self._refused: set[tuple[_Method, int, int]] = set()
        self._buffer = memoryview(bytearray(_BUFFER_NBYTES))

    def move_range(
        self,
        source_fd: int,
        source_start: int,
        target_fd: int,
        target_start: int,
        nbytes: int,
        *,
        on_bytes: Callable[[int], None],
        source_name: str = "source",
    ) -> Moved:
        """Make a range of the target equal to one of the source, by the cheapest method that works.

        ``on_bytes`` is called with the number of bytes that each call moved, and may raise to stop. Both descriptors
        must be regular files, the target open for reading and writing without O_APPEND.

        Raises:
            CheckpointError: the source ended before the range did.
            OSError: the disk is full or failing.
        """
        whole = _Range(source_fd, source_start, target_fd, target_start, nbytes)
        devices = os.fstat(source_fd).st_dev, os.fstat(target_fd).st_dev
        clone_start, clone_stop = _clonable(whole)
        cloned = 0
        done = 0
        if clone_start < clone_stop and (_clone, *devices) not in self._refused:
            done = self._copy(whole, 0, clone_start, devices, on_bytes)
            if done == clone_start:
                done = self._repeat(_clone, whole, done, clone_stop, devices, on_bytes)
                cloned = done - clone_start
        done = self._copy(whole, done, nbytes, devices, on_bytes)
        if done < nbytes:
            size = os.fstat(source_fd).st_size
            raise CheckpointError(
                f"{source_name}: the file was truncated while it was read; expected bytes up to "
                f"{source_start + nbytes}, it ends at {min(size, source_start + done)}; download or save it again"
            )
        return Moved(cloned=cloned, copied=nbytes - cloned)

    def _copy(
        self, whole: _Range, done: int, stop: int, devices: tuple[int, int], on_bytes: Callable[[int], None]
    ) -> int:
        """Copy bytes [done, stop) of a range and return the offset reached, below ``stop`` only if the source ends."""
        boundary = done + -(whole.target_start + done) % _LARGE_PAGE_NBYTES
        if boundary < stop and (_copy_in_kernel, *devices) not in self._refused:
            done = self._repeat(self._read_write, whole, done, boundary, devices, on_bytes)
            done = self._repeat(_copy_in_kernel, whole, done, stop, devices, on_bytes)
        return self._repeat(self._read_write, whole, done, stop, devices, on_bytes)

    def _repeat(
        self,
        method: _Method,
        whole: _Range,
        done: int,
        stop: int,
        devices: tuple[int, int],
        on_bytes: Callable[[int], None],
    ) -> int:
        """Call a method until bytes [done, stop) are moved, it fails, or the source ends; return the offset reached."""
        while done < stop:
            try:
                moved = method(whole.part(done, min(stop, done + CALL_NBYTES)))
            except InterruptedError:  # Python retries most calls on EINTR, but not ioctl
                continue
            except OSError as error:
                if method == self._read_write or error.errno not in _REFUSED:
                    raise
                if error.errno in _REFUSED_FOR_THESE_DEVICES:
                    self._refused.add((method, *devices))
                return done
            if moved == 0:  # the end of the source, or a file for which this method finds no data
                return done
            done += moved
            on_bytes(moved)
        return done

    def _read_write(self, span: _Range) -> int:
        # Ending on a buffer's boundary in the target keeps all later writes aligned to whole pages.
        nbytes = min(span.nbytes, _BUFFER_NBYTES - span.target_start % _BUFFER_NBYTES)
        moved = _read_into(span.source_fd, self._buffer[:nbytes], span.source_start)
        _write_all(span.target_fd, self._buffer[:moved], span.target_start)
        return moved


def write_all(target_fd: int, target_start: int, data: bytes | memoryview, *, on_bytes: Callable[[int], None]) -> None:
    """Write bytes from memory (a header, a streamed chunk, a transformed tensor), however short each call is.

    Raises:
        OSError: the disk is full or failing.
    """
    view = memoryview(data).cast("B")
    for start in range(0, len(view), CALL_NBYTES):
        chunk = view[start : start + CALL_NBYTES]
        _write_all(target_fd, chunk, target_start + start)
        on_bytes(len(chunk))


def zero_range(target_fd: int, start: int, nbytes: int, *, on_bytes: Callable[[int], None]) -> Moved:
    """Zero a range of the target: a hole beyond the current end of the file, written zeros before it.

    A shard is written front to back into a new file, so its zeros are holes if the file system supports them; the
    result does not depend on that.

    Raises:
        OSError: the disk is full or failing.
    """
    end = os.fstat(target_fd).st_size
    position, stop = start, start + nbytes
    while position < stop:
        if position < end:
            step = min(stop, end, position + _BUFFER_NBYTES) - position
            _write_all(target_fd, memoryview(bytes(step)), position)
        else:
            step = min(stop, position + CALL_NBYTES) - position  # in steps: without holes, zeros are written out
            os.ftruncate(target_fd, position + step)
        position += step
        on_bytes(step)
    return Moved(zeroed=nbytes)


def can_clone(source_fd: int, folder: Path) -> bool:
    """Whether a file in ``folder`` can share blocks with the source, found by cloning one block into a probe file.

    Raises:
        OSError: a file cannot be created there.
    """
    if os.fstat(source_fd).st_size < BLOCK_NBYTES:
        return False
    probe = folder / f".clone-{os.urandom(4).hex()}.part"
    target_fd = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        return _clone(_Range(source_fd, 0, target_fd, 0, BLOCK_NBYTES)) == BLOCK_NBYTES
    except OSError as error:
        if error.errno in _REFUSED:
            return False
        raise
    finally:
        os.close(target_fd)
        probe.unlink()


class WriteBehind:
    """Keeps the disk busy while bytes are copied, and keeps a large output from filling memory.

    For one file that is written front to back; bytes written out of order are left to fsync. Writeback starts as data
    is copied, so that the final fsync is short. If the output is large relative to memory, the amount of dirty data is
    bounded, and written data is dropped from the page cache, since nothing will read it. These calls are only hints:
    contents and durability are the same on systems that lack them.
    """

    def __init__(self, target_fd: int, output_nbytes: int) -> None:
        self._target_fd = target_fd
        self._started = 0
        self._is_large = output_nbytes > _memory_nbytes() // 4
        self._sync_file_range = _sync_file_range()

    def written(self, stop: int) -> None:
        """Report that everything before ``stop`` (in bytes) has been written to the file.

        Raises:
            OSError: writeback failed. The kernel reports this only once, so a later fsync would not.
        """
        while self._sync_file_range is not None and stop - self._started >= WINDOW_NBYTES:
            self._start_window(self._sync_file_range)

    def _start_window(self, sync_file_range: Callable[[int, int, int, int], None]) -> None:
        """Start writeback of a window; for a large output, wait for an earlier window to bound dirty memory."""
        sync_file_range(self._target_fd, self._started, WINDOW_NBYTES, _SYNC_START)
        behind = self._started - _BACKLOG_NBYTES
        if self._is_large and behind >= 0:
            sync_file_range(self._target_fd, behind, WINDOW_NBYTES, _SYNC_WAIT)
            if sys.platform == "linux":
                os.posix_fadvise(self._target_fd, behind, WINDOW_NBYTES, os.POSIX_FADV_DONTNEED)
        self._started += WINDOW_NBYTES


_SYNC_START = 2  # SYNC_FILE_RANGE_WRITE
_SYNC_WAIT = 1 | 2 | 4  # SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE, _WAIT_AFTER


def _sync_file_range() -> Callable[[int, int, int, int], None] | None:
    """The C library's sync_file_range as a function that raises OSError; None if it has none."""
    if sys.platform != "linux":
        return None
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if call is None:
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]

    def sync_file_range(fd: int, start: int, nbytes: int, flags: int) -> None:
        if call(fd, start, nbytes, flags) != 0:
            number = ctypes.get_errno()
            if number not in {errno.EINTR, errno.EINVAL, errno.ENOSYS, errno.ESPIPE, errno.EPERM}:
                raise OSError(number, os.strerror(number))

    return sync_file_range


def _memory_nbytes() -> int:
    if sys.platform == "win32":
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _clonable(span: _Range) -> tuple[int, int]:
    """The part [start, stop) of a range, relative to its start, that can be cloned as whole blocks."""
    if (span.source_start - span.target_start) % BLOCK_NBYTES:
        return 0, 0
    start = -span.source_start % BLOCK_NBYTES
    stop = span.nbytes - (span.source_start + span.nbytes) % BLOCK_NBYTES
    return start, stop


def _clone(span: _Range) -> int:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    request = struct.pack("=qQQQ", span.source_fd, span.source_start, span.nbytes, span.target_start)
    fcntl.ioctl(span.target_fd, _FICLONERANGE, request)
    return span.nbytes


def _copy_in_kernel(span: _Range) -> int:
    if not hasattr(os, "copy_file_range"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    nbytes = min(span.nbytes, WINDOW_NBYTES)
    return os.copy_file_range(span.source_fd, span.target_fd, nbytes, span.source_start, span.target_start)


def _read_into(fd: int, view: memoryview, position: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [view], position)
    os.lseek(fd, position, os.SEEK_SET)  # Windows
    data = os.read(fd, len(view))
    view[: len(data)] = data
    return len(data)


def _write_all(fd: int, view: memoryview, position: int) -> None:
    while view:
        if hasattr(os, "pwrite"):
            written = os.pwrite(fd, view, position)
        else:  # Windows
            os.lseek(fd, position, os.SEEK_SET)
            written = os.write(fd, view)
        if written == 0:
            raise OSError(errno.EIO, "the file system wrote no bytes")
        view = view[written:]
        position += written
