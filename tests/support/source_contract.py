"""What every Source must do. A subclass provides ``make``: its source of the files in a folder."""

import pickle
from pathlib import Path

import pytest

from solar_upscale.errors import CheckpointError
from solar_upscale.source.protocol import Source
from tests.support.checkpoints import tree, write_checkpoint

__all__ = ["SourceContract"]

SHARD = "model.safetensors"


class SourceContract:
    """Subclass it in a test module and implement ``make``."""

    def make(self, folder: Path) -> Source:
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return write_checkpoint(tmp_path / "model")

    @pytest.fixture
    def source(self, folder: Path) -> Source:
        return self.make(folder)

    def test_lists_every_file_with_its_size(self, source: Source, folder: Path) -> None:
        found = source.files()
        assert {name: file.nbytes for name, file in found.items()} == {k: len(v) for k, v in tree(folder).items()}
        assert all(file.name == name and file.state for name, file in found.items())

    @pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (7, 7000), (100_000, 140_001)])
    def test_reads_exactly_the_range(self, source: Source, folder: Path, start: int, stop: int) -> None:
        data = tree(folder)[SHARD]
        assert len(data) > 140_001
        assert source.read(SHARD, start, stop) == data[start:stop]
        assert b"".join(source.stream(SHARD, start, stop)) == data[start:stop]

    def test_streams_in_chunks_of_bounded_size(self, source: Source, folder: Path) -> None:
        chunks = list(source.stream(SHARD, 0, len(tree(folder)[SHARD])))
        assert len(chunks) > 1
        assert all(0 < len(chunk) <= 2**20 for chunk in chunks)

    def test_range_beyond_the_end_is_an_error(self, source: Source, folder: Path) -> None:
        nbytes = len(tree(folder)[SHARD])
        with pytest.raises(CheckpointError):
            source.read(SHARD, nbytes - 1, nbytes + 1)

    def test_local_path_holds_the_same_bytes(self, source: Source, folder: Path) -> None:
        path = source.local_path(SHARD)
        assert path is None or path.read_bytes() == tree(folder)[SHARD]

    def test_can_be_sent_to_another_process(self, source: Source) -> None:
        sent = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
        assert sent.files() == source.files()
        assert sent.read(SHARD, 0, 8) == source.read(SHARD, 0, 8)
