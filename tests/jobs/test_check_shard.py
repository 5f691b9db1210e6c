"""A finished shard: its digests, where they are kept, and that they detect every flipped bit."""

import json
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import solar_upscale as su
from solar_upscale.errors import CheckpointError
from solar_upscale.plan.transform import Zero
from solar_upscale.plan.types import UpscalePlan
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.protocol import Source
from solar_upscale.verify.shard import check_shard
from solar_upscale.write.output import open_output
from solar_upscale.write.shards import FinishedShard, source_moves
from tests.support.checkpoints import assert_layers_come_from, tree, write_checkpoint
from tests.support.sources import MemorySource

SOLAR = ["0:6", "2:8"]
SOLAR_SOURCES = [*range(6), *range(2, 8)]
INITS = ["copy", "identity", "scale=1,0.5,-0.25"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "s", layers=8, shards=3)


def sources(folder: Path) -> dict[str, Source]:
    return {"streamed": MemorySource.of_folder(folder, chunk_nbytes=777), "local": FolderSource(folder)}


def first_shards(plan: UpscalePlan, source: Source, output: Path, count: int) -> list[FinishedShard]:
    """The first shards of a run that is then stopped."""
    with open_output(plan, source, output) as work:
        shards = work.shards()
        return [next(shards) for _ in range(count)]


class Refusing(MemorySource):
    """A source whose weights must not be read."""

    def stream(self, filename: str, start: int, stop: int) -> Iterator[bytes]:
        assert not filename.endswith(".safetensors"), "its bytes were read before"
        return super().stream(filename, start, stop)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("way", ["streamed", "local"])
def test_every_flipped_bit_of_a_shard_is_found_and_its_tensor_named(
    way: str, init: str, folder: Path, tmp_path: Path
) -> None:
    source = sources(folder)[way]
    plan = su.plan_checkpoint(source, SOLAR, init=init)
    (shard,) = first_shards(plan, source, tmp_path / "out", 1)
    planned = plan.shards[0]
    assert (shard.digests is None) == (way == "local")
    if way == "streamed":
        source = Refusing.of_folder(folder)
    check_shard(planned, shard.path, source, shard.digests)
    data = bytearray(shard.path.read_bytes())
    spots = [0, len(planned.header) - 1]
    for item in planned.items:
        start, stop = (len(planned.header) + offset for offset in item.target.data_offsets)
        spots += [start, (start + stop) // 2, stop - 1]
    for spot in spots:
        name = next((i.target.name for i in planned.items if spot < len(planned.header) + i.target.data_offsets[1]), "")
        data[spot] ^= 1
        shard.path.write_bytes(data)
        expected = f"{planned.filename}: " + ("the header" if spot < len(planned.header) else f"{name}: ")
        with pytest.raises(CheckpointError, match=f"^{expected}"):
            check_shard(planned, shard.path, source, shard.digests)
        data[spot] ^= 1
    for spoiled in (data[:-1], data + b"\0", b""):
        shard.path.write_bytes(spoiled)
        with pytest.raises(CheckpointError, match="the header or the size"):
            check_shard(planned, shard.path, source, shard.digests)
    shard.path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        check_shard(planned, shard.path, source, shard.digests)


def test_local_shard_is_compared_with_the_source_as_it_is_now(folder: Path, tmp_path: Path) -> None:
    source = FolderSource(folder)
    plan = su.plan_checkpoint(source, SOLAR)
    (shard,) = first_shards(plan, source, tmp_path / "out", 1)
    path = folder / plan.shards[0].items[0].pieces[0].filename
    data = bytearray(path.read_bytes())
    data[plan.shards[0].items[0].pieces[0].start] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="the bytes on disk differ from the source's"):
        check_shard(plan.shards[0], shard.path, source, shard.digests)


@pytest.mark.parametrize("chunk_nbytes", [61, 777, 10**7])
@pytest.mark.parametrize("init", INITS)
def test_digests_are_one_for_each_tensor_that_was_read(
    init: str, chunk_nbytes: int, folder: Path, tmp_path: Path
) -> None:
    source = MemorySource.of_folder(folder, chunk_nbytes=chunk_nbytes)
    plan = su.plan_checkpoint(source, SOLAR, init=init)
    for shard, planned in zip(first_shards(plan, source, tmp_path / "out", 3), plan.shards, strict=True):
        assert shard.digests is not None
        read = [item for item in planned.items if not isinstance(item.transform, Zero)]
        assert len(shard.digests) == len(read) == len(list(source_moves(planned)))
        zeroed = sum(item.target.nbytes for item in planned.items if isinstance(item.transform, Zero))
        changed = sum(item.target.nbytes for item in read if item.transform is not None)
        moved = shard.moved
        assert (moved.copied, moved.changed, moved.zeroed) == (shard.data_nbytes - changed - zeroed, changed, zeroed)


def test_finished_shard_crosses_processes(folder: Path, tmp_path: Path) -> None:
    for name, source in sources(folder).items():
        plan = su.plan_checkpoint(source, SOLAR)
        (shard,) = first_shards(plan, source, tmp_path / name, 1)
        assert pickle.loads(pickle.dumps(shard)) == shard  # noqa: S301 - our own
        with pytest.raises(AttributeError):
            shard.kept = True  # type: ignore[misc] - frozen


def test_digests_survive_the_run_that_made_them(folder: Path, tmp_path: Path) -> None:
    source = MemorySource.of_folder(folder)
    plan = su.plan_checkpoint(source, SOLAR)
    before = first_shards(plan, source, tmp_path / "out", 2)
    with open_output(plan, Refusing.of_folder(folder), tmp_path / "out") as work:
        shards = work.shards()
        after = [next(shards), next(shards)]
    assert [(shard.filename, shard.digests) for shard in before] == [(shard.filename, shard.digests) for shard in after]
    assert all(shard.kept for shard in after)
    for planned, shard in zip(plan.shards, after, strict=False):
        check_shard(planned, shard.path, Refusing.of_folder(folder), shard.digests)


@pytest.mark.parametrize("spoiled", [None, "", "[]", "{}", '["' + "a" * 64 + '"]', "[1, 2]", "null"])
def test_kept_shard_whose_digests_are_gone_or_damaged_is_written_again(
    spoiled: str | None, folder: Path, tmp_path: Path
) -> None:
    source = MemorySource.of_folder(folder)
    plan = su.plan_checkpoint(source, SOLAR)
    (first,) = first_shards(plan, source, tmp_path / "out", 1)
    digests = next(first.path.parent.glob(f".{first.filename}*"))
    assert json.loads(digests.read_text()) == list(first.digests or ())
    digests.unlink()
    if spoiled is not None:
        digests.write_text(spoiled)
    with open_output(plan, source, tmp_path / "out") as work:
        again = {shard.filename: shard for shard in work.shards()}
        work.finish()
    assert not again[first.filename].kept
    assert again[first.filename].digests == first.digests
    assert_layers_come_from(tmp_path / "out", folder, SOLAR_SOURCES)
    assert not [name for name in tree(tmp_path / "out") if name.startswith(".")]


def test_kept_local_shard_needs_no_digests(folder: Path, tmp_path: Path) -> None:
    source = FolderSource(folder)
    plan = su.plan_checkpoint(source, SOLAR)
    first_shards(plan, source, tmp_path / "out", 1)
    (shard,) = first_shards(plan, source, tmp_path / "out", 1)
    assert shard.kept
    assert shard.digests is None


def test_no_worker_writes_after_the_folder_is_left(folder: Path, tmp_path: Path) -> None:
    """If the consumer stops between two shards, the workers stop before the lock is released."""
    source = MemorySource.of_folder(folder, chunk_nbytes=64)
    layers = ["[3] * 40", "0:8"]
    with ThreadPoolExecutor(2) as executor:
        with open_output(su.plan_checkpoint(source, layers), source, tmp_path / "out") as work:
            shards = work.shards(executor=executor)
            assert next(shards).path.exists()
        left, reads = tree(tmp_path / "out.incomplete"), len(source.reads)
        assert not [name for name in left if name.endswith((".part", ".running"))]
        time.sleep(0.2)
        assert (tree(tmp_path / "out.incomplete"), len(source.reads)) == (left, reads)
        assert list(shards) == []
    su.upscale_checkpoint(source, tmp_path / "out", layers)
    assert_layers_come_from(tmp_path / "out", folder, [*[3] * 40, *range(8)])
