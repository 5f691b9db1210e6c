"""Prove finished shards right, one by one, without asking a streamed source for its bytes a second time.

While bytes pass from the source to the shards, each range that the plan uses is hashed; once a shard has its name it is
read back, and every tensor must have the hash of what the source gave for it. Where the source is a local file, its
bytes are compared instead. That what arrives is what the Hub lists is hub_source/; a whole output at once is verify.py.
"""

import hashlib
import json
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from solar_upscale.errors import CheckpointError
from solar_upscale.plan.transform import Transform, Zero, transform_chunks
from solar_upscale.plan.types import Piece, ShardPlan, UpscalePlan, WriteItem
from solar_upscale.source.protocol import STREAM_NBYTES, Source, SourceFile

__all__ = ["WITNESS_NAME", "Witness"]

WITNESS_NAME = ".witness.jsonl"
"""Where the unfinished folder keeps the hashes, so that a run that was stopped need not fetch anything again."""

_IN_MEMORY_NBYTES = 8 << 20

_Key = tuple[str, int, int, str]  # a file, a range of it, and what is done to it


class Witness:
    """The source of a plan, as a Source that remembers hashes of what it gave. Threads may share it."""

    def __init__(self, source: Source, plan: UpscalePlan) -> None:
        self._source = source
        self._uses = _uses(plan)
        self._digests: dict[_Key, str] = {}
        self._lock = threading.Lock()
        self._record: Path | None = None
        self._folder: str | None = None

    # As a source

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    @property
    def revision(self) -> str | None:
        """The source's commit."""
        return self._source.revision

    @property
    def is_on_hub(self) -> bool:
        """The source's answer."""
        return self._source.is_on_hub

    def fetch(self, filenames: Sequence[str]) -> None:
        """Have the source fetch them."""
        self._source.fetch(filenames)

    def files(self) -> Mapping[str, SourceFile]:
        """The source's files."""
        return self._source.files()

    def read(self, filename: str, start: int, stop: int) -> bytes:
        """Bytes of the source, not remembered."""
        return self._source.read(filename, start, stop)

    def local_path(self, filename: str) -> Path | None:
        """The source's local file, if it has one: its bytes are compared later and need not be remembered."""
        return self._source.local_path(filename)

    def stream(self, filename: str, start: int, stop: int) -> Iterator[bytes]:
        """Bytes of the source; every range that the plan uses and that lies in them is hashed on the way."""
        uses = self._uses.get(filename, ())
        waiting = [use for use in uses if start <= use.piece.start and use.piece.stop <= stop][::-1]
        active: list[_Passing] = []
        with ExitStack() as opened:
            for chunk in self._source.stream(filename, start, stop):
                end = start + len(chunk)
                while waiting and waiting[-1].piece.start < end:
                    active.append(_Passing(waiting.pop(), opened, self._folder))
                for passing in active:
                    piece = passing.use.piece
                    passing.hear(memoryview(chunk)[max(0, piece.start - start) : piece.stop - start])
                    if piece.stop <= end:
                        self._remember(passing)
                active = [passing for passing in active if passing.use.piece.stop > end]
                yield chunk
                start = end

    # What is remembered

    def resume(self, folder: Path) -> None:
        """Go on with what an earlier run remembered in this folder, and remember more there."""
        self._record, self._folder = folder / WITNESS_NAME, str(folder)
        try:
            lines = self._record.read_text("utf-8").splitlines()
        except FileNotFoundError:
            lines = []
        for line in lines:
            try:
                filename, start, stop, what, digest = json.loads(line)
            except ValueError:
                continue  # cut off by the stop
            self._digests[filename, start, stop, what] = digest

    def can_check(self, shard: ShardPlan) -> bool:
        """Whether all that ``check`` needs is at hand."""
        return all(
            _key(piece, item.transform) in self._digests or self.local_path(piece.filename) is not None
            for item in shard.items
            if not isinstance(item.transform, Zero)
            for piece in item.pieces
            if piece.nbytes
        )

    def check(self, shard: ShardPlan, path: Path) -> None:
        """Read a finished shard back, and compare each of its bytes.

        Raises:
            CheckpointError: it is not what the plan says.
        """
        try:
            with path.open("rb") as file:
                if file.read(len(shard.header)) != shard.header or path.stat().st_size != shard.nbytes:
                    raise CheckpointError(f"{shard.filename}: header or size are not what the plan says")
                for item in shard.items:
                    if not self._is_right(item, file):
                        raise CheckpointError(
                            f"{shard.filename}: {item.target.name}: what was written is not the source's bytes; check "
                            "the disk, remove the file, and run the same command again"
                        )
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error

    def _is_right(self, item: WriteItem, file: BinaryIO) -> bool:
        """Whether the next bytes of the file are the item's."""
        if isinstance(item.transform, Zero):
            return not any(any(chunk) for chunk in _chunks(file, item.target.nbytes))
        for piece in item.pieces:
            nbytes = piece.nbytes if item.transform is None else item.target.nbytes
            if self.local_path(piece.filename) is None:
                wanted = self._digests.get(_key(piece, item.transform)) if piece.nbytes else _digest([])
            else:
                wanted = _digest(_planned(self._source, piece, item.transform, item.target.dtype))
            if _digest(_chunks(file, nbytes)) != wanted:
                return False
        return True

    def _remember(self, passing: "_Passing") -> None:
        digests = {_key(passing.use.piece, what): digest for what, digest in passing.digests()}
        with self._lock:
            self._digests |= digests
            if self._record is not None:
                with self._record.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps([*key, digest]) + "\n" for key, digest in digests.items())


@dataclass(frozen=True, slots=True)
class _Use:
    """A range of a source file, and all that is made of it."""

    piece: Piece
    dtype: str
    transforms: frozenset[Transform]


class _Passing:
    """A range on its way through: hashed as it is, and kept in a scratch file if something else is made of it."""

    def __init__(self, use: _Use, opened: ExitStack, folder: str | None) -> None:
        self.use = use
        self._digest = hashlib.sha256()
        self._scratch: IO[bytes] | None = None
        if use.transforms != {None}:
            scratch = tempfile.SpooledTemporaryFile(_IN_MEMORY_NBYTES, dir=folder)  # noqa: SIM115 - closed by ``opened``
            self._scratch = opened.enter_context(scratch)

    def hear(self, data: memoryview) -> None:
        self._digest.update(data)
        if self._scratch is not None:
            self._scratch.write(data)

    def digests(self) -> Iterator[tuple[Transform, str]]:
        """The hash of each thing that is made of the range, once all of it has passed."""
        for transform in self.use.transforms:
            if transform is None or self._scratch is None:
                yield None, self._digest.hexdigest()
            else:
                yield transform, _digest(transform_chunks(transform, self.use.dtype, self.use.piece.nbytes, self._read))
        if self._scratch is not None:
            self._scratch.close()

    def _read(self, start: int, stop: int) -> Iterator[bytes]:
        assert self._scratch is not None, "only what is transformed is read"
        self._scratch.seek(start)
        return _chunks(self._scratch, stop - start)


def _uses(plan: UpscalePlan) -> dict[str, list[_Use]]:
    """By source file, every range that the plan uses, in order."""
    found: dict[Piece, tuple[str, set[Transform]]] = {}
    for shard in plan.shards:
        for item in shard.items:
            for piece in item.pieces if not isinstance(item.transform, Zero) else ():
                if piece.nbytes:
                    found.setdefault(piece, (item.target.dtype, set()))[1].add(item.transform)
    uses: dict[str, list[_Use]] = {}
    for piece, (dtype, transforms) in sorted(found.items(), key=lambda pair: (pair[0].start, pair[0].stop)):
        uses.setdefault(piece.filename, []).append(_Use(piece, dtype, frozenset(transforms)))
    return uses


def _key(piece: Piece, transform: Transform) -> _Key:
    return piece.filename, piece.start, piece.stop, repr(transform)


def _planned(source: Source, piece: Piece, transform: Transform, dtype: str) -> Iterable[bytes | memoryview]:
    def read(start: int, stop: int) -> Iterator[bytes]:
        return source.stream(piece.filename, piece.start + start, piece.start + stop)

    return transform_chunks(transform, dtype, piece.nbytes, read)


def _chunks(file: IO[bytes], nbytes: int) -> Iterator[bytes]:
    """The next bytes of a file; fewer where it ends."""
    while nbytes and (chunk := file.read(min(STREAM_NBYTES, nbytes))):
        nbytes -= len(chunk)
        yield chunk


def _digest(chunks: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
