"""How bytes move from one open file to another: shared, copied by the kernel, or read and written.

Each method is one function that makes one bounded call; ``Mover`` chooses among them by trying, never by the name of a
file system, and continues in the middle of a range where a method stopped. Which bytes go where is the plan's business,
names and durability are commit/'s: nothing here opens a file by name (save a probe) or syncs one.
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

# No call moves more, so that a stop is prompt. Clones too: a clone of data that is not yet on disk first writes it out.
CALL_NBYTES = 64 << 20

# What is copied starts on its way to the disk after so many bytes. Less gains nothing more; 64 MiB at a time keeps the
# disk waiting, for a fifteenth of the whole run.
WINDOW_NBYTES = 8 << 20

_BUFFER_NBYTES = 1 << 20

# Of a large output, so much may be on its way to the disk at a time.
_BACKLOG_NBYTES = 64 << 20

# copy_file_range into page cache is a tenth slower when its target does not start on a boundary of large pages.
_LARGE_PAGE_NBYTES = 2 << 20

# "Not this way": the kernel, the file system or a sandbox lacks the call, or it does not apply to these two files.
# Anything else (ENOSPC, EDQUOT, EIO) would meet the next method too, so it is raised.
_REFUSED_FOR_THESE_DEVICES = {errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EPERM}
_REFUSED = _REFUSED_FOR_THESE_DEVICES | {errno.EINVAL, errno.EBADF, errno.ETXTBSY, errno.EACCES}

_FICLONERANGE = 0x4020940D  # where an architecture numbers it otherwise, ENOTTY or EINVAL: copied


@dataclass(frozen=True, slots=True)
class Moved:
    """How many bytes were shared with the source, copied from it, or made zero."""

    cloned: int = 0
    copied: int = 0
    zeroed: int = 0

    def __add__(self, other: "Moved") -> "Moved":
        return Moved(self.cloned + other.cloned, self.copied + other.copied, self.zeroed + other.zeroed)


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


# One call's worth: moves a beginning of the range and returns its size; 0 means that the source has no more.
_Method = Callable[[_Range], int]


class Mover:
    """Moves ranges, and remembers between which devices a method was refused. One for each thread."""

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
        """Make a range of the target equal to one of the source, by the cheapest method that works here.

        ``on_bytes`` is called with the number of bytes that each call moved, and may raise to stop. Both descriptors
        must be regular files, the target's open for reading and writing without O_APPEND.

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
                f"{source_name}: the file got shorter while it was read; expected bytes up to "
                f"{source_start + nbytes}, it ends at {min(size, source_start + done)}; fetch or save it again"
            )
        return Moved(cloned=cloned, copied=nbytes - cloned)

    def _copy(
        self, whole: _Range, done: int, stop: int, devices: tuple[int, int], on_bytes: Callable[[int], None]
    ) -> int:
        """Copy bytes [done, stop) of a range and return how far it got: short only where the source ends."""
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
        """Call a method until bytes [done, stop) are moved, or it refuses, or has no more; return how far it got."""
        while done < stop:
            try:
                moved = method(whole.part(done, min(stop, done + CALL_NBYTES)))
            except InterruptedError:  # Python repeats most calls by itself, ioctl not
                continue
            except OSError as error:
                if method == self._read_write or error.errno not in _REFUSED:
                    raise
                if error.errno in _REFUSED_FOR_THESE_DEVICES:
                    self._refused.add((method, *devices))
                return done
            if moved == 0:  # the end of the source, or a file on which this method sees nothing
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
    """Write bytes that are at hand (a header, a streamed chunk, a changed tensor), however short each call is.

    Raises:
        OSError: the disk is full or failing.
    """
    view = memoryview(data).cast("B")
    for start in range(0, len(view), CALL_NBYTES):
        chunk = view[start : start + CALL_NBYTES]
        _write_all(target_fd, chunk, target_start + start)
        on_bytes(len(chunk))


def zero_range(target_fd: int, start: int, nbytes: int, *, on_bytes: Callable[[int], None]) -> Moved:
    """Make a range of the target zero: a hole beyond its present end, written zeros within it.

    A shard is written from front to back into a file made for it, so its zeros are holes wherever the file system has
    them; the result does not depend on that.

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
    """Whether a file made in ``folder`` can share blocks with the source, found by sharing one and removing it again.

    Raises:
        OSError: a file cannot be made there.
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
    """Keeps the disk at work while bytes are copied, and a large output from filling memory.

    For one file that is written from front to back; what is written out of order is left to fsync. What was copied
    starts to be written out at once, so that little is left to wait for at the end. Once an output is large beside
    memory, little of it stays unwritten, and what is written leaves the page cache, since nobody will read it. The
    kernel is only advised: contents and durability are the same without it, as on systems that lack the calls.
    """

    def __init__(self, target_fd: int, output_nbytes: int) -> None:
        self._target_fd = target_fd
        self._started = 0
        self._is_large = output_nbytes > _memory_nbytes() // 4
        self._sync_file_range = _sync_file_range()

    def written(self, stop: int) -> None:
        """Say that everything below ``stop`` (in bytes) has been written.

        Raises:
            OSError: writing out failed. The kernel reports this once; a later fsync would be silent about it.
        """
        while self._sync_file_range is not None and stop - self._started >= WINDOW_NBYTES:
            self._start_window(self._sync_file_range)

    def _start_window(self, sync_file_range: Callable[[int, int, int, int], None]) -> None:
        """Start writing out a window; of a large output wait for an earlier one, so that memory never holds much."""
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
    """The C library's sync_file_range as a function that raises OSError; None where there is none."""
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
    """The part [start, stop) of a range, relative to it, that whole blocks of source and target can share."""
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
            raise OSError(errno.EIO, "a write of the file system took no bytes")
        view = view[written:]
        position += written
