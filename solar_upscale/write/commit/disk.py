"""The disk under the output: its errors as one-line messages, its free space, and where folders really are."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from solar_upscale.errors import OutputError
from solar_upscale.text import nbytes_text

__all__ = ["RESUME", "check_room", "container_of", "output_errors", "refuse_overlap"]

RESUME = "then run the same command again: it resumes"

# What a failed system call means to the user, and what to do about it.
_EXPLAINED = {
    errno.ENOSPC: ("the disk is full", f"free some space, {RESUME}"),
    errno.EDQUOT: ("the disk quota is used up", f"free some space, {RESUME}"),
    errno.EIO: ("a disk failed (of the source or of the output)", f"check both, {RESUME}"),
    errno.EROFS: ("the file system is read-only", "choose another output folder"),
    errno.EACCES: ("permission denied", f"make it writable, {RESUME}"),
    errno.EPERM: ("the operation is not permitted", f"make it writable, {RESUME}"),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "choose a shorter name"),
    errno.EBUSY: ("it is in use, or a file system is mounted there", "choose another output folder"),
}


def container_of(output: Path) -> Path:
    """The path of OUT.incomplete.

    Raises:
        OutputError: OUT is the root of a file system.
    """
    if not output.name:
        raise OutputError(f"{output}: is the root of a file system; give a folder in it")
    return output.with_name(output.name + ".incomplete")


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Report a failed system call in one line: what happened to which path, and how to resume.

    Raises:
        OutputError: instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        problem, next_step = _EXPLAINED.get(number, (error.strerror or str(error), f"fix that, {RESUME}"))
        raise OutputError(f"{error.filename or path}: {problem}; {next_step}") from error


def check_room(folder: Path, nbytes: int) -> None:
    """Check that the file system of a folder has ``nbytes`` free.

    Raises:
        OutputError: it has less.
    """
    import shutil

    with output_errors(folder):
        usage = shutil.disk_usage(folder)
    if usage.total > 0 and usage.free < nbytes:  # some network file systems report 0 of 0
        raise OutputError(
            f"{folder}: not enough space on this disk; expected {nbytes_text(nbytes)} free, got "
            f"{nbytes_text(usage.free)}; free {nbytes_text(nbytes - usage.free)} or choose another output folder"
        )


def refuse_overlap(source: Path, output: Path) -> None:
    """Check that neither folder contains the other, through links and mounts too.

    Raises:
        OutputError: one does.
    """
    source, output = source.resolve(), output.resolve()
    for inner, outer in ((output, source), (source, output), (source, container_of(output))):
        for path in (inner, *inner.parents):
            if path == outer or (path.exists() and outer.exists() and path.samefile(outer)):
                raise OutputError(f"{output}: is inside the source or contains it ({source}); choose a separate folder")
