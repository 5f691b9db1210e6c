"""One writer at a time: a lock that the system releases when its process dies, however it dies."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from solar_upscale.errors import OutputError
from solar_upscale.write.commit.disk import output_errors
from solar_upscale.write.commit.files import names_in, sync_folder

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["LOCK", "locked"]

LOCK = "lock"
_TRIES = 1000


@contextlib.contextmanager
def locked(container: Path) -> Iterator[None]:
    """Hold the lock of a container, creating it if needed; on exit remove both if nothing else is in it.

    Forked children share the lock, so the workers of a killed parent hold it until they exit: they write too.

    Raises:
        OutputError: another run holds it, the file system does not support locks, or the disk fails.
    """
    with output_errors(container):
        lock_fd = _lock(container)
    try:
        yield
    finally:
        try:
            if sys.platform != "win32":
                _remove_if_empty(container)
        finally:
            os.close(lock_fd)
        if sys.platform == "win32":  # open files cannot be removed there
            _remove_if_empty(container)


def _remove_if_empty(container: Path) -> None:
    with contextlib.suppress(OSError):  # leftovers are harmless, and the next run reuses them
        if names_in(container) == [LOCK]:
            (container / LOCK).unlink()
            container.rmdir()  # fails if the next run has already started in it
            sync_folder(container.parent)


def _lock(container: Path) -> int:
    path = container / LOCK
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            container.mkdir()
        try:
            lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:
            continue  # its last holder is removing the folder
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, lock_fd)
            _lock_without_waiting(lock_fd, path)
            with contextlib.suppress(FileNotFoundError):  # its last holder removed it before we locked it
                if os.path.samestat(os.fstat(lock_fd), os.stat(path)):  # noqa: PTH116 - to match fstat
                    _write_holder(lock_fd)
                    undo.pop_all()
                    return lock_fd
    raise OutputError(f"{container}: other runs keep creating and removing it; wait for them, then try again")


def _lock_without_waiting(lock_fd: int, path: Path) -> None:
    try:
        if sys.platform == "win32":
            os.lseek(lock_fd, 1 << 30, os.SEEK_SET)  # beyond the text: locked bytes cannot be read
            msvcrt.locking(lock_fd, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}:
            holder = os.read(lock_fd, 200) if os.lseek(lock_fd, 0, os.SEEK_SET) == 0 else b""
            raise OutputError(
                f"{path.parent}: {holder.decode(errors='replace').strip() or 'another process'} is writing there; "
                "wait for it, or stop it and any workers it left running, then run the same command again"
            ) from error
        raise OutputError(
            f"{path}: this file system cannot lock files ({error.strerror}), so two runs could write at once; choose "
            "an output folder on another one"
        ) from error


def _write_holder(lock_fd: int) -> None:
    import platform

    os.ftruncate(lock_fd, 0)
    os.lseek(lock_fd, 0, os.SEEK_SET)
    os.write(lock_fd, f"process {os.getpid()} on {platform.node()}\n".encode())
