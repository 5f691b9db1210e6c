"""One writer: a lock that the system releases when its process dies, however it dies."""

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
    """Hold the lock of a container, made if need be; at the end remove both if nothing else is in it.

    Forked children share the lock, so a killed parent's workers keep it until they are gone: they write too.

    Raises:
        OutputError: another run holds it, the file system has no locks, or the disk fails.
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
        if sys.platform == "win32":  # where an open file cannot be removed
            _remove_if_empty(container)


def _remove_if_empty(container: Path) -> None:
    with contextlib.suppress(OSError):  # what stays does no harm, and the next run takes it over
        if names_in(container) == [LOCK]:
            (container / LOCK).unlink()
            container.rmdir()  # refused if the next run has already begun in it
            sync_folder(container.parent)


def _lock(container: Path) -> int:
    path = container / LOCK
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            container.mkdir()
        try:
            lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:
            continue  # its last holder is just removing the folder
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, lock_fd)
            _lock_at_once(lock_fd, path)
            with contextlib.suppress(FileNotFoundError):  # its last holder removed it before we had it
                if os.path.samestat(os.fstat(lock_fd), os.stat(path)):  # noqa: PTH116 - beside fstat
                    _say_who_holds(lock_fd)
                    undo.pop_all()
                    return lock_fd
    raise OutputError(f"{container}: other runs keep making and removing it; wait for them, then try again")


def _lock_at_once(lock_fd: int, path: Path) -> None:
    try:
        if sys.platform == "win32":
            os.lseek(lock_fd, 1 << 30, os.SEEK_SET)  # beyond the text: what is locked cannot be read there
            msvcrt.locking(lock_fd, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}:
            holder = os.read(lock_fd, 200) if os.lseek(lock_fd, 0, os.SEEK_SET) == 0 else b""
            raise OutputError(
                f"{path.parent}: {holder.decode(errors='replace').strip() or 'another process'} is writing there; "
                "wait for it, or stop it, and any worker that it left behind, and run the same command again"
            ) from error
        raise OutputError(
            f"{path}: this file system cannot lock files ({error.strerror}), so two runs could write at once; choose "
            "an output folder on another one"
        ) from error


def _say_who_holds(lock_fd: int) -> None:
    import platform

    os.ftruncate(lock_fd, 0)
    os.lseek(lock_fd, 0, os.SEEK_SET)
    os.write(lock_fd, f"process {os.getpid()} on {platform.node()}\n".encode())
