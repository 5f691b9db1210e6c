"""Measure a child process: time, CPU, peak memory, bytes written; and what its output takes on disk. Linux only."""

import contextlib
import ctypes
import os
import platform
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

if os.name == "posix":
    import fcntl

__all__ = [
    "Sample",
    "file_system",
    "machine",
    "median",
    "run",
    "settle",
    "shared_fraction",
    "touch_memory",
    "used_nbytes",
]

_FS_IOC_FIEMAP = 0xC020660B
_EXTENT_SHARED = 0x2000
_EXTENTS_A_CALL = 512
_LIBRARIES = ("torch", "transformers", "safetensors")


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. ``written`` are the bytes that it dirtied in files, ``blocks`` the bytes of disk that it took."""

    wall: float
    cpu: float
    peak: int
    written: int
    blocks: int = 0


def run(command: Sequence[str], *, cwd: Path | None = None) -> Sample:
    """Run a command to its end, its children included.

    Raises:
        RuntimeError: it failed; holds the end of what it said.
    """
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None
        said = child.stdout.read()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        wall = time.perf_counter() - start
        written = _written(child.pid)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        tail = said.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {child.returncode}\n{tail}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, written)


def _written(pid: int) -> int:
    """What the kernel counted for a process that has ended but is not yet reaped, and for its reaped children."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            name, _, count = line.partition(": ")
            if name == "write_bytes":
                return int(count)
    return 0


def median(samples: Iterable[Sample]) -> Sample:
    """The median of each figure."""
    samples = list(samples)
    return Sample(
        statistics.median(sample.wall for sample in samples),
        statistics.median(sample.cpu for sample in samples),
        int(statistics.median(sample.peak for sample in samples)),
        int(statistics.median(sample.written for sample in samples)),
        int(statistics.median(sample.blocks for sample in samples)),
    )


def settle(folder: Path) -> None:
    """Put everything on the file system of a folder on disk, so that no run pays for what came before it."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(fd)
    finally:
        os.close(fd)


def used_nbytes(folder: Path, *, whole_file_system: bool) -> int:
    """Bytes of disk in use: of the whole file system if it is ours alone, else of the files, as they count them."""
    if whole_file_system:
        settle(folder)
        before, used = -1, _used_by_all(folder)
        while used != before:  # what was removed is given back in the background
            time.sleep(0.2)
            settle(folder)
            before, used = used, _used_by_all(folder)
        return used
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _used_by_all(folder: Path) -> int:
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def shared_fraction(folder: Path) -> float:
    """The part of the bytes of a folder's weight files that lies in extents which other files share too."""
    shared = total = 0
    for path in folder.glob("*.safetensors"):
        total += path.stat().st_size
        shared += _shared_nbytes(path)
    return shared / total


def _shared_nbytes(path: Path) -> int:
    """Source: Linux Documentation/filesystems/fiemap.rst."""
    shared = start = 0
    with path.open("rb") as file:
        size = path.stat().st_size
        while start < size:
            request = struct.pack("=QQIIII", start, size - start, 0, 0, _EXTENTS_A_CALL, 0)
            answer = bytearray(request + bytes(56 * _EXTENTS_A_CALL))
            try:
                fcntl.ioctl(file.fileno(), _FS_IOC_FIEMAP, answer)
            except OSError:
                return 0
            (count,) = struct.unpack_from("=I", answer, 20)
            if not count:
                break
            for at in range(32, 32 + 56 * count, 56):
                logical, _, length, _, _, flags = struct.unpack_from("=QQQQQI", answer, at)
                start = logical + length
                shared += min(length, size - logical) if flags & _EXTENT_SHARED else 0
    return shared


def touch_memory(nbytes: int) -> None:
    """Use and free so many bytes, so that no run pays for memory that a virtual machine gave back to its host."""
    subprocess.run([sys.executable, "-c", f"bytearray(b'1') * {nbytes}"], check=True)


def file_system(folder: Path) -> str:
    """The type of the file system that a folder lies on."""
    found = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T", str(folder)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def machine() -> str:
    """What the figures were measured on, in one line."""
    model = "unknown processor"
    memory = 0
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(": ")[2]
                break
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{model}, {os.cpu_count()} cores, {memory / 2**30:.0f} GiB of memory, {platform.system()} {kernel}, "
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    )
