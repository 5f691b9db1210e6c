"""Files of the unfinished folder: they get their names only once complete and on disk, and are never outside it."""

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Iterator, Set
from pathlib import Path

from solar_upscale.errors import OutputError
from solar_upscale.write.commit.disk import RESUME, output_errors
from solar_upscale.write.move import write_all

if sys.platform != "win32":
    import fcntl

__all__ = [
    "has_file",
    "names_in",
    "remove_parts",
    "remove_tree",
    "settle_contents",
    "sync_folder",
    "write_bytes",
    "write_file",
]


@contextlib.contextmanager
def write_file(folder: Path, filename: str, nbytes: int) -> Iterator[int]:
    """A descriptor for writing a new file, which gets its name once it is complete and on disk.

    Any number of processes may write into one folder: the temporary name of each file is unique.

    Raises:
        OutputError: the name leads out of the folder, the size is not ``nbytes``, or the disk fails.
    """
    target = _inside(folder, filename)
    with output_errors(target):
        _make_parents(folder, target.parent)
        part = target.with_name(f".{target.name[:50]}.{os.urandom(4).hex()}.part")
        target_fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with contextlib.ExitStack() as undo:
            undo.callback(_remove_part, part)
            try:
                yield target_fd
                size = os.fstat(target_fd).st_size
                if size != nbytes:
                    raise OutputError(f"{target}: the size is wrong; expected {nbytes} bytes, got {size}")
                _sync_file(target_fd)
            finally:
                os.close(target_fd)
            part.replace(target)
            undo.pop_all()
        sync_folder(target.parent)


def _remove_part(part: Path) -> None:
    with contextlib.suppress(OSError):
        part.unlink()


def write_bytes(folder: Path, filename: str, data: bytes) -> None:
    """Write a small file, as ``write_file`` does.

    Raises:
        OutputError: the name leads out of the folder, or the disk fails.
    """
    with write_file(folder, filename, len(data)) as target_fd:
        write_all(target_fd, 0, data, on_bytes=lambda _: None)


def has_file(folder: Path, filename: str, nbytes: int, header: bytes) -> bool:
    """Whether the folder has a finished file of this size that starts with these bytes, so need not be written again.

    Raises:
        OutputError: the name leads out of the folder, or the disk fails.
    """
    path = _inside(folder, filename)
    with output_errors(path):
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != nbytes:
            return False
        with path.open("rb") as file:
            return file.read(len(header)) == header


def _inside(folder: Path, filename: str) -> Path:
    """The path of a file with a slash-separated name, which is inside the folder on every system.

    Raises:
        OutputError: the name could lead out of the folder.
    """
    parts = filename.split("/")
    if any(part in {"", ".", ".."} for part in parts) or re.search(r"[\\:\x00-\x1f]", filename):
        raise OutputError(f"{filename}: is not the name of a file in the output; expected a relative path without ..")
    return folder.joinpath(*parts)


def _make_parents(folder: Path, parent: Path) -> None:
    if parent == folder:
        return
    _make_parents(folder, parent.parent)
    with contextlib.suppress(FileExistsError):
        parent.mkdir()
        sync_folder(parent.parent)
    if not stat.S_ISDIR(parent.lstat().st_mode):
        raise OutputError(f"{parent}: is not a folder; remove it, {RESUME}")


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def settle_contents(folder: Path, filenames: Set[str], inside: str = "") -> None:
    """Leave exactly these files in a folder, every entry of it on disk.

    Raises:
        OutputError: one is missing.
    """
    expected = {name.removeprefix(inside).partition("/")[0] for name in filenames if name.startswith(inside)}
    held = set(names_in(folder))
    for name in sorted(held - expected):
        remove_tree(folder / name)
    for name in sorted(expected):
        is_file = inside + name in filenames
        path = folder / name
        mode = path.lstat().st_mode if name in held else 0
        if not (stat.S_ISREG(mode) if is_file else stat.S_ISDIR(mode)):
            raise OutputError(f"{path}: disappeared during the run; run the same command again")
        if not is_file:
            settle_contents(path, filenames, f"{inside}{name}/")
    sync_folder(folder)


def remove_parts(folder: Path) -> None:
    """Remove the partial files of an interrupted run, to free their space."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and name.endswith(".part"):
                Path(parent, name).unlink()


def remove_tree(path: Path) -> None:
    """Remove a folder, file or link if it exists; never the target of a link."""
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_file(fd: int) -> None:
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):  # file systems without it get fsync
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # there fsync leaves data in the drive's own cache
            return
    os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it are on disk."""
    if os.name == "nt":
        return  # folders cannot be opened there, and the journal keeps renames in order
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network file systems do this themselves
            raise
    finally:
        os.close(fd)
