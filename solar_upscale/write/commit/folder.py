"""The life cycle of OUT.incomplete, from taking its lock to the final rename. __init__.py describes the protocol."""

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from solar_upscale.digest import digest_bytes
from solar_upscale.errors import OutputError
from solar_upscale.write.commit.disk import container_of, output_errors
from solar_upscale.write.commit.files import names_in, remove_parts, remove_tree, settle_contents, sync_folder
from solar_upscale.write.commit.lock import LOCK, locked

__all__ = ["Unfinished", "exchange_names", "remove_leftovers", "unfinished", "would_resume"]

_PREVIOUS = "previous"
_LITTER = re.compile(r"\.DS_Store|\.nfs.*")  # files that operating systems create on their own
_WORK = re.compile(r"([0-9a-f]{16})-[0-9a-f]{16}(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The locked folder to write into. ``folder`` may be passed to other processes that write files."""

    output: Path
    folder: Path
    overwrite: bool
    resumed: bool  # there is work of an earlier run with this fingerprint
    restarted: bool  # there was work for another state of the same job, which was discarded

    def publish(self, filenames: Iterable[str]) -> None:
        """Rename the folder to OUT, with exactly these files in it, and sync everything to disk.

        Raises:
            OutputError: a file is missing, OUT has been created meanwhile, or the disk fails.
        """
        container = self.folder.parent
        with output_errors(self.output):
            settle_contents(self.folder, set(filenames))
            _refuse_occupied(self.output, self.overwrite)
            _take_name(self.folder, self.output)
            sync_folder(self.output.parent)
            sync_folder(container)
        try:
            _remove_all_but_lock(container)
        except OSError as error:
            raise OutputError(
                f"{self.output}: is complete, but the folder it replaced could not be removed "
                f"({error.strerror}: {error.filename}); remove {container} by hand"
            ) from error


@contextlib.contextmanager
def unfinished(output: Path, *, job: str, state: str, overwrite: bool = False) -> Iterator[Unfinished]:
    """The locked folder OUT.incomplete, with the finished files of an earlier run that has the same fingerprint.

    ``job`` identifies what is made from which source, ``state`` the source's files as they are now (sizes, times,
    headers): work for another state is discarded, work for another job is an error. Exiting without ``publish`` keeps
    the finished files.

    Raises:
        OutputError: OUT or OUT.incomplete holds something else, another run holds the lock, or the disk fails.
    """
    output = Path(os.path.abspath(output))  # noqa: PTH100 - removes ".." by name; resolve() would follow OUT itself
    container = container_of(output)
    with output_errors(output):
        _refuse_occupied(output, overwrite)
        _refuse_foreign(container, overwrite)
        output.parent.mkdir(parents=True, exist_ok=True)
    with locked(container):
        with output_errors(output):
            _refuse_occupied(output, overwrite)  # again: the previous lock holder may have published
            _refuse_foreign(container, overwrite)
            folder, resumed, restarted = _prepare(container, _digest(job), _digest(state), overwrite)
        try:
            yield Unfinished(output, folder, overwrite, resumed, restarted)
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # fails unless it is empty


def would_resume(output: Path, *, job: str, overwrite: bool = False) -> bool:
    """Whether ``unfinished`` would find work of this job, asked without taking the lock or writing anything.

    Raises:
        OutputError: it would refuse, other than for a run that holds the lock.
    """
    output = Path(os.path.abspath(output))  # noqa: PTH100 - as in unfinished
    container = container_of(output)
    with output_errors(output):
        _refuse_occupied(output, overwrite)
        _refuse_foreign(container, overwrite)
        _refuse_unwritable(output.parent)
        if not container.is_dir():
            return False
        if not overwrite:
            _refuse_other_jobs(container, _digest(job))
        return any(name.startswith(f"{_digest(job)}-") for name in names_in(container))


def _refuse_unwritable(parent: Path) -> None:
    """Raise the OSError that making ``parent``, or a folder in it, would raise."""
    while not os.path.lexists(parent):
        parent = parent.parent
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(parent))


def remove_leftovers(output: Path, *, job: str) -> None:
    """Remove leftovers of a run that was killed just after the final rename; OUT is this job's finished output."""
    container = container_of(Path(os.path.abspath(output)))  # noqa: PTH100 - as in unfinished
    if not container.is_dir() or container.is_symlink():
        return
    with contextlib.suppress(OutputError), output_errors(container):
        _refuse_foreign(container, overwrite=False)
        with locked(container):
            _refuse_other_jobs(container, _digest(job))
            _remove_all_but_lock(container)


def _digest(text: str) -> str:
    return digest_bytes(text.encode("utf-8", "surrogatepass"))[:16]


def _prepare(container: Path, job: str, state: str, overwrite: bool) -> tuple[Path, bool, bool]:
    """The work folder of a fingerprint in its locked container, and ``Unfinished.resumed`` and ``.restarted``."""
    folder = container / f"{job}-{state}"
    if not overwrite:
        _refuse_other_jobs(container, job)
    _settle_swaps(container)
    kept = {LOCK, _PREVIOUS, folder.name}
    discarded = [name for name in names_in(container) if name not in kept and not _LITTER.fullmatch(name)]
    for name in discarded:
        remove_tree(container / name)
    resumed = folder.is_dir() and not folder.is_symlink()
    if resumed:
        remove_parts(folder)
        resumed = any(folder.iterdir())
    folder.mkdir(exist_ok=True)
    sync_folder(container)
    sync_folder(container.parent)
    return folder, resumed, not resumed and any(name.startswith(f"{job}-") for name in discarded)


def _settle_swaps(container: Path) -> None:
    """Restore a folder that was about to be renamed to OUT; remove one that was already replaced."""
    for name in names_in(container):
        match = _WORK.fullmatch(name)
        if match and match[2]:
            folder = container / name.removesuffix(f".{match[2]}")
            path = container / name
            if path.lstat().st_ino == int(match[2]) and not folder.exists():
                path.rename(folder)
            else:
                remove_tree(path)


def _refuse_other_jobs(container: Path, job: str) -> None:
    for name in names_in(container):
        match = _WORK.fullmatch(name)
        if match and match[1] != job:
            raise OutputError(
                f"{container}: holds the unfinished work of another plan; run that plan again to finish it, remove "
                "the folder, or use --overwrite to discard it"
            )


def _refuse_foreign(container: Path, overwrite: bool) -> None:
    """Refuse an OUT.incomplete that this module did not create."""
    try:
        mode = container.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        raise OutputError(f"{container}: is not a folder; remove it or choose another output folder")
    for name in names_in(container):
        ours = name in {LOCK, _PREVIOUS} or _WORK.fullmatch(name) or _LITTER.fullmatch(name)
        if not ours and not overwrite:
            raise OutputError(
                f"{container}: holds {name}, which solar-upscale did not write; move it, or use --overwrite to discard "
                "it"
            )


def _refuse_occupied(output: Path, overwrite: bool) -> None:
    """Refuse an OUT that is not empty, or that could not be replaced in the end."""
    try:
        mode = output.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISLNK(mode):
        raise OutputError(f"{output}: is a symbolic link; give the folder it points to ({output.resolve()})")
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise OutputError(f"{output}: is neither a folder nor a file; choose another output folder")
    if os.path.ismount(output):
        raise OutputError(f"{output}: a file system is mounted there, so it cannot be replaced; give a folder in it")
    held = names_in(output)[:3] if stat.S_ISDIR(mode) else ["a file"]
    if held and not overwrite:
        raise OutputError(
            f"{output}: already exists and holds {', '.join(held)}{', ...' if len(held) == 3 else ''}; choose "
            "another output folder, or use --overwrite to replace it"
        )
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() fails for a user without one
    if any(path.resolve().is_relative_to(output.resolve()) for path in (Path.cwd(), home)):
        raise OutputError(f"{output}: is or contains the current or the home folder, which is never replaced")


def _take_name(folder: Path, output: Path) -> None:
    """Rename the work folder to OUT, with OUT's permissions; an OUT that it replaces is moved into the container."""
    container = folder.parent
    if not os.path.lexists(output):
        folder.rename(output)
        return
    if output.is_dir():
        folder.chmod(stat.S_IMODE(output.stat().st_mode))
    if output.is_dir() and not names_in(output):
        if os.name == "nt":
            output.rmdir()
        folder.rename(output)
        return
    swap = folder.with_name(f"{folder.name}.{folder.stat().st_ino}")
    folder.rename(swap)
    if not exchange_names(swap, output):
        remove_tree(container / _PREVIOUS)
        output.rename(container / _PREVIOUS)
        swap.rename(output)


def exchange_names(one: Path, other: Path) -> bool:
    """Exchange two paths atomically; returns False if the system does not support that.

    Raises:
        OSError: the exchange failed.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    at_fdcwd, rename_exchange = -100, 2
    if call is None:
        return False
    if call(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _remove_all_but_lock(container: Path) -> None:
    for name in names_in(container):
        if name != LOCK:
            remove_tree(container / name)
