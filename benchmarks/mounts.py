"""XFS and btrfs on a loop mount, for root; whatever happens, it is unmounted again."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["loop_mount", "why_not"]

_MAKE = {"xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"), "btrfs": ("mkfs.btrfs", "-q")}


def why_not(kind: str) -> str | None:
    """Why this file system cannot be mounted here; None where it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs root for a loop mount"
    if shutil.which(_MAKE[kind][0]) is None:
        return f"needs {_MAKE[kind][0]} (Debian: apt-get install xfsprogs btrfs-progs)"
    return None


@contextmanager
def loop_mount(kind: str, folder: Path, nbytes: int) -> Iterator[Path]:
    """A new file system in a sparse file, mounted below ``folder``; blocks that are freed go back to the disk."""
    image, point = folder / f"{kind}.img", folder / kind
    image.touch()
    os.truncate(image, nbytes)
    point.mkdir()
    try:
        subprocess.run([*_MAKE[kind], str(image)], check=True)
        subprocess.run(["mount", "-o", "loop,discard", str(image), str(point)], check=True)
        try:
            yield point
        finally:
            subprocess.run(["umount", str(point)], check=True)
    finally:
        if not point.is_mount():
            point.rmdir()
            image.unlink()
