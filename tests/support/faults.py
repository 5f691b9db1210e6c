"""Stop a job at each of its effects on the file system, and generate the states that a power loss could leave.

    for state in every_stop(start, job, at=tmp_path / "world"):
        ...  # state.root is as it was when the job was killed before its state.number-th effect
        job(state.root)  # resumes

``start`` fills a new folder, and ``job`` works in it. As with a real kill, no clean-up code of a stopped job has any
effect on the disk. Effects are the calls in ``_EFFECTS`` and opening a file in a way that creates or truncates it. Code
under test must use ``os.*`` and ``fcntl.ioctl`` (``pathlib`` and ``shutil`` do); ``open()`` for writing is refused,
because it cannot be intercepted. A job must be deterministic, and runs in this process.

``every_power_loss`` yields the states after a power loss on a file system that may lose anything not synced: the
contents of a file until fsync of the file (its old content returns, or zeros of its new size) and each change of names
until fsync of every folder involved. A rename is kept or lost as a whole, as on a journaling file system.
"""

import builtins
import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from solar_upscale.write.commit import folder as commit_folder

fcntl = pytest.importorskip("fcntl", reason="the harness intercepts POSIX calls")

Fill = Callable[[Path], object]
Job = Callable[[Path], object]


class Stop(BaseException):
    """The process is killed here."""


@dataclass(frozen=True)
class Stopped:
    root: Path
    number: int
    effect: str  # the effect that did not happen, or happened in part

    def __str__(self) -> str:
        return f"stopped at effect {self.number}: {self.effect}"


def every_stop(start: Fill, job: Job, *, at: Path) -> Iterator[Stopped]:
    """The state before each effect of a job, and in the middle of each write."""
    for torn in (False, True):
        number = 0
        while True:
            _recreate(at)
            start(at)
            watch = _Stopper(at, number, torn)
            with watch.watching(), contextlib.suppress(Stop):
                job(at)
            if watch.stopped_at is None:
                assert number > 0, "the job has no effects that the harness can see"
                break
            if not torn or "(half)" in watch.stopped_at:
                yield Stopped(at, number, watch.stopped_at)
            number += 1


def every_power_loss(start: Fill, job: Job, *, at: Path) -> Iterator[Stopped]:
    """The distinct states that a power loss between any two effects of a job could leave."""
    _recreate(at)
    start(at)
    recorder = _Recorder(at)
    with recorder.watching():
        job(at)
    seen = set()
    for number, effect, tree in recorder.states:
        key = _frozen(tree)
        if key not in seen:
            seen.add(key)
            _recreate(at)
            _materialise(tree, at)
            yield Stopped(at, number, effect)


def effects_of(start: Fill, job: Job, *, at: Path) -> list[str]:
    """The effects of a job in order, for a test to look at."""
    _recreate(at)
    start(at)
    recorder = _Recorder(at)
    with recorder.watching():
        job(at)
    return recorder.effects


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for thousands of short-lived trees, in memory if possible, where removal is fast."""
    in_memory = Path("/dev/shm")  # noqa: S108 - a unique folder is created in it
    with tempfile.TemporaryDirectory(dir=in_memory if os.access(in_memory, os.W_OK) else None) as folder:
        yield Path(folder)


def _recreate(root: Path) -> None:
    if root.exists():
        shutil.rmtree(root)
    root.mkdir(parents=True)


# Every call that changes files or names, with the positions of its path or descriptor arguments.
_EFFECTS: dict[tuple[Any, str], tuple[int, ...]] = {
    (os, "write"): (0,),
    (os, "pwrite"): (0,),
    (os, "pwritev"): (0,),
    (os, "writev"): (0,),
    (os, "copy_file_range"): (1,),
    (os, "sendfile"): (0,),
    (fcntl, "ioctl"): (0,),
    (os, "ftruncate"): (0,),
    (os, "truncate"): (0,),
    (os, "fsync"): (0,),
    (os, "fdatasync"): (0,),
    (os, "mkdir"): (0,),
    (os, "rmdir"): (0,),
    (os, "unlink"): (0,),
    (os, "remove"): (0,),
    (os, "rename"): (0, 1),
    (os, "replace"): (0, 1),
    (os, "link"): (0, 1),
    (os, "symlink"): (1,),
    (commit_folder, "exchange_names"): (0, 1),
}
_SYNCS = {"fsync", "fdatasync"}  # modelled, not executed
_WRITES = {"write", "pwrite", "copy_file_range"}  # these can be cut short


def _synced(fd: int) -> None:
    pass


class _Watch:
    """Intercepts a job's calls that have effects under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.paths: dict[int, Path] = {}  # the path of each open descriptor

    def effect(self, name: str, paths: list[Path], call: Callable[[], Any], half: Callable[[], Any] | None) -> Any:
        raise NotImplementedError

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for (module, name), positions in _EFFECTS.items():
                if hasattr(module, name):
                    real = _synced if name in _SYNCS else getattr(module, name)
                    patch.setattr(module, name, self._wrapped(name, real, positions))
            patch.setattr(os, "open", self._wrapped_open(os.open))
            refusing = self._refusing_writes(io.open)
            patch.setattr(io, "open", refusing)
            patch.setattr(builtins, "open", refusing)
            yield

    def _where(self, place: Any, dir_fd: int | None = None) -> Path | None:
        """The path that an argument refers to; None if it is outside the root."""
        if isinstance(place, int):
            return self.paths.get(place)
        path = Path(os.fsdecode(place))
        if dir_fd is not None:
            base = self.paths.get(dir_fd)
            if base is None:
                return None
            path = base / path
        path = Path(os.path.realpath(path.parent), path.name)
        return path if path.is_relative_to(self.root) else None

    def _wrapped(self, name: str, real: Callable[..., Any], positions: tuple[int, ...]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            keys = ("dir_fd",) if len(positions) == 1 else ("src_dir_fd", "dst_dir_fd")
            found = [
                self._where(args[position], options.get(key)) for position, key in zip(positions, keys, strict=True)
            ]
            paths = [path for path in found if path is not None]
            if not paths:
                return real(*args, **options)
            half = None
            if name in _WRITES:
                size = 2 if name == "copy_file_range" else 1
                content = args[size] // 2 if name == "copy_file_range" else args[size][: len(args[size]) // 2]
                half = lambda: real(*args[:size], content, *args[size + 1 :], **options)  # noqa: E731
            return self.effect(name, paths, lambda: real(*args, **options), half)

        return call

    def _wrapped_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            where = self._where(path, dir_fd)
            assert where is None or flags & getattr(os, "O_TMPFILE", 0) != os.O_TMPFILE, "the harness cannot see this"
            changes = flags & os.O_TRUNC or (flags & os.O_CREAT and where is not None and not os.path.lexists(where))
            if where is not None and changes:
                fd = self.effect("open", [where], lambda: real(path, flags, mode, dir_fd=dir_fd), None)
            else:
                fd = real(path, flags, mode, dir_fd=dir_fd)
            self.paths.pop(fd, None)
            if where is not None:
                self.paths[fd] = where
            return int(fd)

        return call

    def _refusing_writes(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            writes = set(mode) & set("wax+")
            assert not writes or self._where(file) is None, f"open({file!r}, {mode!r}): write through os.open"
            return real(file, mode, *args, **options)

        return call

    def _described(self, name: str, paths: list[Path]) -> str:
        return f"{name} {' '.join(str(path.relative_to(self.root)) for path in paths)}"


class _Stopper(_Watch):
    """Kills the job before its n-th effect, or half-way through if it is a write."""

    def __init__(self, root: Path, number: int, torn: bool) -> None:
        super().__init__(root)
        self.remaining = number
        self.torn = torn
        self.stopped_at: str | None = None

    def effect(self, name: str, paths: list[Path], call: Callable[[], Any], half: Callable[[], Any] | None) -> Any:
        if self.stopped_at is not None:
            raise Stop
        if self.remaining == 0:
            self.stopped_at = self._described(name, paths)
            if self.torn and half is not None:
                half()
                self.stopped_at += " (half)"
            raise Stop
        self.remaining -= 1
        return call()


# A file system that loses what is not synced. Trees are nested dicts; a leaf is a file's bytes or a link's target.


Tree = dict[str, Any]


@dataclass(eq=False)
class _File:
    durable: bytes = b""
    current: bytes = b""


@dataclass(eq=False)
class _Link:
    text: str


@dataclass(eq=False)
class _Folder:
    entries: dict[str, "_File | _Folder | _Link"] = field(default_factory=dict)  # as they are
    durable: dict[str, "_File | _Folder | _Link"] = field(default_factory=dict)  # as they would be after a power loss


_Node = _File | _Folder | _Link


@dataclass(eq=False)
class _Change:
    """Names changed in one step (None: removed), and the folders not synced since."""

    names: list[tuple[_Folder, str, _Node | None]]
    waiting: set[_Folder]

    def apply(self, entries: Callable[[_Folder], dict[str, _Node]]) -> None:
        for folder, name, node in self.names:
            if node is None:
                entries(folder).pop(name, None)
            else:
                entries(folder)[name] = node


class _Recorder(_Watch):
    """Runs the job and records, after each effect, every state that a power loss could leave."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.effects: list[str] = []
        self.states: list[tuple[int, str, Tree]] = []
        self.changes: list[_Change] = []
        self.top = self._read(self.root)

    def effect(self, name: str, paths: list[Path], call: Callable[[], Any], half: Callable[[], Any] | None) -> Any:
        nodes = [self._find(path) for path in paths]
        existed = [os.path.lexists(path) for path in paths]
        result = call()
        self.effects.append(self._described(name, paths))
        if name in _SYNCS:
            self._sync(nodes[0])
        elif name in {"mkdir", "symlink"}:
            self._change([(paths[0], self._read(paths[0]))])
        elif name == "open" and not existed[0]:
            self._change([(paths[0], _File())])
        elif name in {"rmdir", "unlink", "remove"}:
            self._change([(paths[0], None)])
        elif name in {"rename", "replace"}:
            self._change([(paths[0], None), (paths[1], nodes[0])])
        elif name == "link":
            self._change([(paths[1], nodes[0])])
        elif name == "exchange_names":
            if result:
                self._change([(paths[0], nodes[1]), (paths[1], nodes[0])])
        elif isinstance(nodes[0], _File):
            nodes[0].current = paths[0].read_bytes()
        self._note()
        return result

    def _read(self, path: Path) -> _Node:
        if path.is_symlink():
            return _Link(str(path.readlink()))
        if path.is_file():
            content = path.read_bytes()
            return _File(content, content)
        folder = _Folder({child.name: self._read(child) for child in path.iterdir()})
        folder.durable = dict(folder.entries)
        return folder

    def _find(self, path: Path) -> _Node | None:
        node: _Node | None = self.top
        for name in path.relative_to(self.root).parts:
            node = node.entries.get(name) if isinstance(node, _Folder) else None
        return node

    def _change(self, names: list[tuple[Path, _Node | None]]) -> None:
        found = []
        for path, node in names:
            folder = self._find(path.parent)
            assert isinstance(folder, _Folder)
            found.append((folder, path.name, node))
        change = _Change(found, {folder for folder, _, _ in found})
        change.apply(lambda folder: folder.entries)
        self.changes.append(change)

    def _sync(self, node: _Node | None) -> None:
        if isinstance(node, _File):
            node.durable = node.current
        if isinstance(node, _Folder):
            for change in self.changes:
                change.waiting.discard(node)
            for change in [change for change in self.changes if not change.waiting]:
                change.apply(lambda folder: folder.durable)
            self.changes = [change for change in self.changes if change.waiting]

    def _note(self) -> None:
        """Record the possible states after the last effect: unsynced changes all lost, all kept, or each one alone."""
        pending = self.changes
        kept_sets = [[], pending, *([one] for one in pending)]
        kept_sets += [[other for other in pending if other is not one] for one in pending]
        for kept in kept_sets:
            for content in ("old", "zeros", "new"):
                self.states.append((len(self.effects), self.effects[-1], self._survivor(kept, content)))

    def _survivor(self, kept: list[_Change], content: str) -> Tree:
        folders: dict[_Folder, dict[str, _Node]] = {}

        def entries(folder: _Folder) -> dict[str, _Node]:
            return folders.setdefault(folder, dict(folder.durable))

        for change in kept:
            change.apply(entries)

        def tree(folder: _Folder) -> Tree:
            return {name: leaf(node) for name, node in entries(folder).items()}

        def leaf(node: _Node) -> Any:
            if isinstance(node, _Folder):
                return tree(node)
            if isinstance(node, _Link):
                return node.text
            if content == "new" or node.current == node.durable:
                return node.current
            return node.durable if content == "old" else bytes(len(node.current))

        assert isinstance(self.top, _Folder)
        return tree(self.top)


def _frozen(tree: Any) -> Any:
    return frozenset((name, _frozen(node)) for name, node in tree.items()) if isinstance(tree, dict) else tree


def _materialise(tree: Tree, folder: Path) -> None:
    for name, node in tree.items():
        path = folder / name
        if isinstance(node, dict):
            path.mkdir()
            _materialise(node, path)
        elif isinstance(node, bytes):
            path.write_bytes(node)
        else:
            path.symlink_to(node)
