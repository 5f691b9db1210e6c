"""Executing a plan: exact bytes from any source with any executor, and resuming an interrupted run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import solar_upscale as su
from solar_upscale.errors import CheckpointError, OutputError
from solar_upscale.plan.transform import Scale, Zero
from solar_upscale.report.output_files import REPORTS, output_filenames
from solar_upscale.source.folder import FolderSource
from solar_upscale.source.header import build_header, read_shard
from solar_upscale.source.protocol import Source
from solar_upscale.upscale import write_plan
from solar_upscale.write.move import Mover
from solar_upscale.write.output import open_output
from solar_upscale.write.shards import FinishedShard, nbytes_by_method
from tests.support.checkpoints import MISTRAL, assert_layers_come_from, read_tensors, tree, write_checkpoint
from tests.support.sources import MemorySource, tensors_in_order

SOLAR = ["0:6", "2:8"]
SOLAR_SOURCES = [*range(6), *range(2, 8)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "s", shards=3)


def written(plan: su.UpscalePlan, source: Source, output: Path) -> Iterator[FinishedShard]:
    """The shards of an output one by one; the output is published after the last one."""
    with open_output(plan, source, output) as work:
        yield from work.shards()
        work.finish()


def leftovers(output: Path) -> list[str]:
    return sorted(path.name for path in output.parent.iterdir() if path.name.startswith(output.name))


# ---------------------------------------------------------------- exact bytes


PATTERNS: dict[str, tuple[Sequence[Any], list[int]]] = {
    "SOLAR": (SOLAR, SOLAR_SOURCES),
    "pruned": (["0:2", "5:8"], [0, 1, 5, 6, 7]),
    "reversed": (["range(7,-1,-1)"], [*range(7, -1, -1)]),
    "one layer often": (["[3] * 40"], [3] * 40),
    "in place": (["[i for i in range(n) for _ in range(2)]"], [i for i in range(8) for _ in range(2)]),
    "as it is": (["0:8"], [*range(8)]),
}


@pytest.mark.parametrize("case", PATTERNS)
@pytest.mark.parametrize("limit", [None, 40_000])
def test_every_tensor_has_the_bytes_of_its_source(case: str, limit: int | None, source: Path, tmp_path: Path) -> None:
    layers, sources = PATTERNS[case]
    plan = su.upscale_checkpoint(source, tmp_path / "out", layers, max_shard_size=limit)
    assert_layers_come_from(tmp_path / "out", source, sources)
    written = tree(tmp_path / "out")
    assert sorted(written) == sorted(output_filenames(plan))
    model = {name: data for name, data in written.items() if name not in REPORTS}
    assert sum(map(len, model.values())) == plan.nbytes
    assert leftovers(tmp_path / "out") == ["out"]
    index = written.get("model.safetensors.index.json")
    if index is not None:
        assert set(json.loads(index)["weight_map"].values()) == {shard.filename for shard in plan.shards}


def test_dtypes_without_arithmetic_support_are_copied(tmp_path: Path) -> None:
    """Scales in F32, norms in BF16 and FP8 weights with arbitrary bytes, in one file."""
    folder = tmp_path / "s"
    folder.mkdir()
    rows: list[tuple[str, str, tuple[int, ...]]] = []
    for layer in range(3):
        prefix = f"model.layers.{layer}"
        rows += [
            (f"{prefix}.self_attn.q_proj.weight_scale", "F32", ()),
            (f"{prefix}.input_layernorm.weight", "BF16", (7,)),
            (f"{prefix}.self_attn.q_proj.weight", "F8_E4M3", (5, 5)),
        ]
    rows.sort(key=lambda row: {"F32": 0, "BF16": 1, "F8_E4M3": 2}[row[1]])
    tensors = tensors_in_order(rows)
    data = bytes(index % 251 for index in range(tensors[-1].data_offsets[1]))
    (folder / "model.safetensors").write_bytes(build_header(tensors) + data)
    (folder / "config.json").write_text(json.dumps({**MISTRAL, "num_hidden_layers": 3}))
    su.upscale_checkpoint(folder, tmp_path / "out", ["[0, 1, 1, 2] * 5"])
    count = 0
    for path in (tmp_path / "out").glob("*.safetensors"):
        content = path.read_bytes()
        shard = read_shard(path.name, len(content), lambda start, stop, content=content: content[start:stop])
        for tensor in shard.tensors:
            count += 1
            layer = (0, 1, 1, 2)[int(tensor.name.split(".")[2]) % 4]
            original = next(t for t in tensors if t.name == f"model.layers.{layer}.{tensor.name.split('.', 3)[3]}")
            start, stop = tensor.data_offsets
            assert content[shard.data_start + start : shard.data_start + stop] == data[slice(*original.data_offsets)]
            assert start % {"F32": 4, "BF16": 2, "F8_E4M3": 1}[tensor.dtype] == 0
    assert count == 60


@pytest.mark.parametrize("init", ["identity", "split", "scale=0.3", "scale=1,0.5,-0.25"])
def test_scaled_tensors_match_numpy(init: str, source: Path, tmp_path: Path) -> None:
    plan = su.upscale_checkpoint(source, tmp_path / "out", SOLAR, init=init)
    before, after = read_tensors(source), read_tensors(tmp_path / "out")
    assert len(set(plan.factors)) > 1
    for target, (layer, factor) in enumerate(zip(SOLAR_SOURCES, plan.factors, strict=True)):
        for name, data in before.items():
            old, new = f"model.layers.{layer}.", f"model.layers.{target}."
            if name.startswith(old):
                writes = "o_proj" in name or "down_proj" in name
                expected = (data.astype("<f4") * np.float32(factor)).astype("<f2") if writes else data
                if factor == 0 and writes:
                    expected = np.zeros_like(data)
                assert after[new + name.removeprefix(old)].tobytes() == expected.tobytes()


@pytest.mark.parametrize("way", ["local", "stream"])
def test_tensors_that_only_become_zero_are_not_read(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint(tmp_path / "source")
    source = MemorySource.of_folder(folder) if way == "stream" else FolderSource(folder)
    plan = su.plan_checkpoint(source, ["0:3", "3", "3", "4:8"], entry_scales=[None, 0, 0, None])
    read: list[tuple[str, int, int]] = []

    def recorded(mover: Mover, fd: int, start: int, *args: Any, **options: Any) -> Any:
        read.append((options["source_name"], start, start + args[2]))
        return moved(mover, fd, start, *args, **options)

    moved = Mover.move_range
    monkeypatch.setattr(Mover, "move_range", recorded)
    if isinstance(source, MemorySource):
        source.reads.clear()
        read = source.reads
    write_plan(plan, source, tmp_path / "out")
    zeroed = 0
    for shard in plan.source_shards:
        spans = [(start, stop) for name, start, stop in read if name == shard.filename]
        for tensor in shard.tensors:
            start, stop = (shard.data_start + at for at in tensor.data_offsets)
            seen = sum(max(0, min(stop, end) - max(start, begin)) for begin, end in spans)
            if tensor.name in {f"model.layers.3.{name}.weight" for name in ("self_attn.o_proj", "mlp.down_proj")}:
                assert seen == 0, tensor.name
                zeroed += 1
            else:
                assert seen > 0, tensor.name
    assert zeroed == 2


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="files have no holes here")
@pytest.mark.parametrize("way", ["local", "stream"])
def test_zeroed_tensors_are_holes_where_the_file_system_has_them(way: str, tmp_path: Path) -> None:
    with (tmp_path / "probe").open("wb") as probe:
        probe.truncate(2**22)
        probe.flush()
        if os.fstat(probe.fileno()).st_blocks * 512 >= 2**21:
            pytest.skip("this file system has no holes")
    folder = write_checkpoint(tmp_path / "source", layers=2, hidden=512, inner=1024)
    source = MemorySource.of_folder(folder, chunk_nbytes=2**20) if way == "stream" else folder
    plan = su.upscale_checkpoint(source, tmp_path / "out", ["0", "0", "0", "1", "1"], init="identity")
    zeroed = sum(move.target_nbytes for shard in plan.shards for move in shard.moves() if move.transform == Zero())
    assert zeroed == 3 * 2 * (512 * 512 + 512 * 1024)
    on_disk = sum(path.stat().st_blocks * 512 for path in (tmp_path / "out").glob("*.safetensors"))
    # Up to one block at either end of a tensor is not part of the hole.
    assert on_disk <= plan.total_size - zeroed + 2**17 < plan.total_size - zeroed / 2


GATHERED = "model.per_layer_projection.weight"


def gathered_source(folder: Path, axis: int) -> Path:
    """A source with a tensor outside the layers with one slice per layer, as in Gemma 3n; the test adds its rule."""
    write_checkpoint(folder)
    tensors = read_tensors(folder)
    shape = (8 * 6, 5) if axis == 0 else (5, 8 * 6)
    tensors[GATHERED] = np.arange(240, dtype="<f2").reshape(shape)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("streamed", [False, True])
def test_slices_of_a_tensor_outside_the_layers_follow_the_pattern(
    axis: int, streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from solar_upscale.architecture import GatherRule
    from solar_upscale.plan import planner

    real = planner.change_depth

    def with_gather(*args: Any, **options: Any) -> Any:
        return replace(real(*args, **options), gathers={GATHERED: GatherRule(axis, 8, tuple(SOLAR_SOURCES))})

    monkeypatch.setattr(planner, "change_depth", with_gather)
    source = gathered_source(tmp_path / "s", axis)
    read = MemorySource.of_folder(source, chunk_nbytes=77) if streamed else source
    su.upscale_checkpoint(read, tmp_path / "out", SOLAR)
    old = np.split(read_tensors(source)[GATHERED], 8, axis)
    expected = np.concatenate([old[layer] for layer in SOLAR_SOURCES], axis)
    assert np.array_equal(read_tensors(tmp_path / "out")[GATHERED], expected)


def test_two_runs_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        su.upscale_checkpoint(source, tmp_path / name / "out", SOLAR, init="split")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_source_is_not_modified(source: Path, tmp_path: Path) -> None:
    before = tree(source), {path: path.stat().st_mtime_ns for path in source.iterdir()}
    su.upscale_checkpoint(source, tmp_path / "out", SOLAR, init="identity")
    assert (tree(source), {path: path.stat().st_mtime_ns for path in source.iterdir()}) == before


# ---------------------------------------------------------------- sources read in ranges


@pytest.mark.parametrize("init", ["copy", "identity", "split"])
@pytest.mark.parametrize("chunk_nbytes", [61, 10_000, 10**7])
def test_streamed_source_gives_the_same_bytes(init: str, chunk_nbytes: int, source: Path, tmp_path: Path) -> None:
    streamed = MemorySource.of_folder(source, chunk_nbytes=chunk_nbytes)
    su.upscale_checkpoint(source, tmp_path / "a" / "out", SOLAR, init=init)
    su.upscale_checkpoint(streamed, tmp_path / "b" / "out", SOLAR, init=init)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_revision_of_a_source_that_is_not_on_the_hub_proves_no_bytes(source: Path, tmp_path: Path) -> None:
    first = MemorySource.of_folder(source, revision="v1")
    su.upscale_checkpoint(first, tmp_path / "out", SOLAR)
    filename = "model-00001-of-00003.safetensors"
    changed = {**first.contents, filename: first.contents[filename][:-1] + b"\x55"}
    second = replace(first, contents=changed)
    su.upscale_checkpoint(second, tmp_path / "out", SOLAR, overwrite=True)
    su.upscale_checkpoint(second, tmp_path / "expected" / "out", SOLAR)
    assert tree(tmp_path / "out") == tree(tmp_path / "expected" / "out")
    assert "--revision" not in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("init", ["copy", "identity", "split"])
def test_stream_reads_each_needed_byte_once_and_no_dropped_one(init: str, source: Path, tmp_path: Path) -> None:
    streamed = MemorySource.of_folder(source)
    plan = su.plan_checkpoint(streamed, ["0:3", "2:6"], init=init)
    streamed.reads.clear()
    write_plan(plan, streamed, tmp_path / "out")
    for shard in plan.source_shards:
        counts = np.zeros(shard.nbytes, int)
        for name, start, stop in streamed.reads:
            if name == shard.filename:
                counts[start:stop] += 1
        needed = np.zeros(shard.nbytes, int)
        for tensor in shard.tensors:
            if tensor.name not in plan.dropped:
                needed[slice(*(shard.data_start + at for at in tensor.data_offsets))] = 1
        assert np.array_equal(counts, needed), shard.filename


def test_interrupted_stream_keeps_finished_shards(source: Path, tmp_path: Path) -> None:
    class Breaking(MemorySource):
        def stream(self, filename: str, start: int, stop: int) -> Iterator[bytes]:
            if filename == "model-00002-of-00003.safetensors" and start > 0:
                yield next(super().stream(filename, start, stop))
                raise CheckpointError("gone")
            yield from super().stream(filename, start, stop)

    with pytest.raises(CheckpointError, match="gone"):
        su.upscale_checkpoint(Breaking.of_folder(source), tmp_path / "out", SOLAR)
    assert not (tmp_path / "out").exists()
    whole = MemorySource.of_folder(source)
    plan = su.plan_checkpoint(whole, SOLAR)
    done = write_plan(plan, whole, tmp_path / "out")
    assert {each.kept for each in done} == {True, False}
    assert_layers_come_from(tmp_path / "out", source, SOLAR_SOURCES)


# ---------------------------------------------------------------- executors


class Failing(Executor):
    """Runs one pass, then fails."""

    def __init__(self) -> None:
        self.done = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        if self.done:
            future.set_exception(OSError(28, "No space left on device"))
        else:
            future.set_result(fn(*args, **kwargs))
        self.done += 1
        return future


def test_threads_and_processes_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    su.upscale_checkpoint(source, tmp_path / "a" / "out", SOLAR, init="split")
    with ThreadPoolExecutor(2) as threads:
        reported: list[int] = []
        plan = su.upscale_checkpoint(
            source, tmp_path / "b" / "out", SOLAR, init="split", executor=threads, on_bytes=reported.append
        )
    assert sum(reported) == plan.total_size
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        su.upscale_checkpoint(source, tmp_path / "c" / "out", SOLAR, init="split", executor=processes)
    assert tree(tmp_path / "a") == tree(tmp_path / "b") == tree(tmp_path / "c")


def test_executor_that_fails_publishes_nothing_and_is_resumed(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        su.upscale_checkpoint(source, tmp_path / "out", SOLAR, executor=Failing())
    assert leftovers(tmp_path / "out") == ["out.incomplete"]
    plan = su.plan_checkpoint(source, SOLAR)
    done = write_plan(plan, FolderSource(source), tmp_path / "out")
    assert sum(each.kept for each in done) == len(plan.passes[0].shards)
    assert_layers_come_from(tmp_path / "out", source, SOLAR_SOURCES)


def test_executor_that_rejects_work_raises_its_own_error(source: Path, tmp_path: Path) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        su.upscale_checkpoint(source, tmp_path / "out", SOLAR, executor=executor)
    assert not (tmp_path / "out").exists()


class DyingSource(FolderSource):
    """A source that kills the worker process that reads it."""

    def local_path(self, filename: str) -> Path:
        if os.environ.get("SOLAR_TEST_PARENT") != str(os.getpid()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().local_path(filename)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_dead_worker_gives_a_one_line_error_and_the_run_resumes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOLAR_TEST_PARENT", str(os.getpid()))
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes,
        pytest.raises(OutputError, match=r"a worker died; run the same command again"),
    ):
        su.upscale_checkpoint(DyingSource(source), tmp_path / "out", SOLAR, executor=processes)
    su.upscale_checkpoint(source, tmp_path / "out", SOLAR)
    assert_layers_come_from(tmp_path / "out", source, SOLAR_SOURCES)


# ---------------------------------------------------------------- resuming


def test_finished_shards_are_kept_and_only_the_rest_is_moved(source: Path, tmp_path: Path) -> None:
    plan = su.plan_checkpoint(source, SOLAR)
    run = written(plan, FolderSource(source), tmp_path / "out")
    first = next(run)
    run.close()
    assert leftovers(tmp_path / "out") == ["out.incomplete"]
    done = write_plan(plan, FolderSource(source), tmp_path / "out")
    ways = nbytes_by_method(done)
    assert ways["kept"] == first.data_nbytes
    assert sum(ways.values()) == plan.total_size
    assert_layers_come_from(tmp_path / "out", source, SOLAR_SOURCES)
    assert leftovers(tmp_path / "out") == ["out"]


@pytest.mark.parametrize("init", ["copy", "identity", "split"])
@pytest.mark.parametrize("streamed", [False, True])
def test_bytes_that_are_changed_or_zeroed_are_not_counted_as_copied(
    source: Path, tmp_path: Path, init: str, streamed: bool
) -> None:
    opened = MemorySource.of_folder(source) if streamed else FolderSource(source)
    plan = su.plan_checkpoint(opened, SOLAR, init=init)
    moved = nbytes_by_method(write_plan(plan, opened, tmp_path / "out"))
    sizes = {Scale: 0, Zero: 0, type(None): 0}
    for shard in plan.shards:
        for item in shard.items:
            sizes[type(item.transform)] += item.target.nbytes
    assert moved["changed"] == sizes[Scale]
    assert moved["zeroed"] == sizes[Zero]
    assert moved["cloned"] + moved["copied"] == sizes[type(None)]


def test_finished_output_succeeds_immediately(source: Path, tmp_path: Path) -> None:
    plan = su.upscale_checkpoint(source, tmp_path / "out", SOLAR)
    before = {path: path.stat().st_ino for path in (tmp_path / "out").iterdir()}
    assert write_plan(plan, FolderSource(source), tmp_path / "out") == ()
    assert {path: path.stat().st_ino for path in (tmp_path / "out").iterdir()} == before


def test_output_of_another_model_of_the_same_name_and_shape_is_not_accepted(tmp_path: Path) -> None:
    one, two = write_checkpoint(tmp_path / "a" / "model"), write_checkpoint(tmp_path / "b" / "model")
    tensors = read_tensors(two)
    tensors["model.layers.3.mlp.up_proj.weight"][0, 0] += 1
    save_file(tensors, two / "model.safetensors", metadata={"format": "pt"})
    for path in (one / "model.safetensors", two / "model.safetensors"):
        os.utime(path, ns=(10**18, 10**18))
    su.upscale_checkpoint(one, tmp_path / "out", SOLAR)
    with pytest.raises(OutputError, match=r"already exists and holds"):
        su.upscale_checkpoint(two, tmp_path / "out", SOLAR)
    su.upscale_checkpoint(two, tmp_path / "out", SOLAR, overwrite=True)
    assert_layers_come_from(tmp_path / "out", two, SOLAR_SOURCES)


@pytest.mark.parametrize("spoil", ["model.safetensors", "config.json", "solar_upscale.json", "LICENSE"])
def test_modified_output_is_not_accepted(spoil: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s")
    su.upscale_checkpoint(source, tmp_path / "out", SOLAR)
    content = bytearray((tmp_path / "out" / spoil).read_bytes())
    content[-2] ^= 1
    (tmp_path / "out" / spoil).write_bytes(content)
    with pytest.raises(OutputError, match="already exists"):
        su.upscale_checkpoint(source, tmp_path / "out", SOLAR)
    assert (tmp_path / "out" / spoil).read_bytes() == content


def test_unrelated_files_in_the_output_are_named_and_untouched(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputError, match=r"thesis\.txt; choose another output folder, or use --overwrite"):
        su.upscale_checkpoint(source, tmp_path / "out", SOLAR)
    assert tree(tmp_path / "out") == {"thesis.txt": b"all of it"}


def test_source_that_changed_between_two_runs_is_never_mixed(source: Path, tmp_path: Path) -> None:
    run = written(su.plan_checkpoint(source, SOLAR), FolderSource(source), tmp_path / "out")
    next(run)
    run.close()
    path = source / "model-00001-of-00003.safetensors"
    save_file({name: data + 1 for name, data in _load(path).items()}, path, metadata={"format": "pt"})
    done = write_plan(su.plan_checkpoint(source, SOLAR), FolderSource(source), tmp_path / "out")
    assert not any(each.kept for each in done)
    assert_layers_come_from(tmp_path / "out", source, SOLAR_SOURCES)


def test_source_that_changes_while_it_is_read_is_refused(source: Path, tmp_path: Path) -> None:
    run = written(su.plan_checkpoint(source, SOLAR), FolderSource(source), tmp_path / "out")
    next(run)
    os.utime(source / "model-00001-of-00003.safetensors")
    with pytest.raises(CheckpointError, match=r"model-00001-of-00003.safetensors changed while it was read; run the"):
        list(run)
    assert not (tmp_path / "out").exists()
    su.upscale_checkpoint(source, tmp_path / "out", SOLAR)


def test_source_that_vanishes_after_planning_gives_a_one_line_error(source: Path, tmp_path: Path) -> None:
    plan = su.plan_checkpoint(source, SOLAR)
    (source / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003.safetensors: cannot be read: No such file"):
        write_plan(plan, FolderSource(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_disk_space_is_reported_before_the_first_byte(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from collections import namedtuple

    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("U", "total used free")(10**6, 10**6, 1000))
    monkeypatch.setattr("solar_upscale.write.output.can_clone", lambda *_: False)
    with pytest.raises(OutputError, match=r"not enough space on this disk; expected .* free, got 1 kB"):
        su.upscale_checkpoint(source, tmp_path / "out", SOLAR)
    assert leftovers(tmp_path / "out") == []


def _load(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


# ---------------------------------------------------------------- stops at any point


class Killed(BaseException):
    """A kill: nothing runs after it, clean-up included."""


EFFECTS = ("pwrite", "copy_file_range", "fsync", "rename", "replace", "mkdir", "unlink", "ftruncate", "rmdir")


def stop_before(number: int, job: Callable[[], object]) -> bool:
    """Run a job and stop it before its n-th effect; False if it has fewer."""
    count = 0
    dead = False

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count, dead
            if dead or count == number:
                dead = True
                raise Killed
            count += 1
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in EFFECTS:
            if hasattr(os, name):
                patch.setattr(os, name, watched(getattr(os, name)))
        try:
            job()
        except Killed:
            return True
        assert not dead, "the job went on after it was killed"
        return False


@pytest.mark.parametrize("way", ["local", "streamed"])
def test_stop_at_any_effect_leaves_nothing_that_looks_finished_and_is_resumed(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # a kill loses nothing that was written, and syncing is slow
    folder = write_checkpoint(tmp_path / "s", shards=2, layers=3, hidden=8, inner=8, vocab=8)
    source = folder if way == "local" else MemorySource.of_folder(folder)
    job = lambda output: su.upscale_checkpoint(source, output, ["0:2", "1:3"], init="identity")  # noqa: E731
    job(tmp_path / "whole" / "out")
    expected = tree(tmp_path / "whole" / "out")
    number = 0
    while True:
        output = tmp_path / f"stop{number}" / "out"
        output.parent.mkdir()
        stopped = stop_before(number, lambda: job(output))  # noqa: B023
        if output.exists():
            assert tree(output) == expected, f"looks finished at effect {number}"
        for shard in output.parent.glob("*.incomplete/*/model-*.safetensors"):
            digests = shard.with_name(f".{shard.name}.sha256.json")
            is_finishing = (shard.parent / "solar_upscale.json").exists()
            assert way == "local" or is_finishing or digests.exists(), f"no digests at effect {number}"
        job(output)
        assert tree(output) == expected
        assert leftovers(output) == ["out"], f"something is left at effect {number}"
        if not stopped:
            break
        number += 1
    assert number > 50, "the harness does not see the effects"


KILL_JOB = """
import sys, solar_upscale as su
su.upscale_checkpoint(sys.argv[1], sys.argv[2], ["0:6", "2:8"], on_bytes=lambda n: print(n, flush=True))
"""


def kill_and_resume(source: Path, output: Path, expected: dict[str, bytes], delay: float) -> bool:
    """SIGKILL a run ``delay`` seconds after its first write; True if it had not ended by then."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILL_JOB, str(source), str(output)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    if output.exists():
        assert tree(output) == expected
    su.upscale_checkpoint(source, output, SOLAR)
    assert tree(output) == expected
    assert leftovers(output) == ["out"]
    return process.returncode == -signal.SIGKILL


def seconds_of_writing(source: Path, output: Path) -> float:
    """How long an undisturbed run takes after its first write."""
    with subprocess.Popen(
        [sys.executable, "-c", KILL_JOB, str(source), str(output)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = time.monotonic()
        process.stdout.read()
    return time.monotonic() - started


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("killable")
    source = write_checkpoint(folder / "s", shards=8, hidden=128, inner=256)
    su.upscale_checkpoint(source, folder / "out", SOLAR)
    return source, tree(folder / "out")


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_kill_at_any_time_is_resumed_to_the_same_bytes(killable: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    source, expected = killable
    killed = [kill_and_resume(source, tmp_path / str(n) / "out", expected, n * 0.004) for n in range(4)]
    assert any(killed)


@pytest.mark.sweep
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_two_hundred_kills_are_resumed_to_the_same_bytes(
    killable: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    source, expected = killable
    whole = sorted(seconds_of_writing(source, tmp_path / f"whole{n}" / "out") for n in range(5))[2]
    killed = [kill_and_resume(source, tmp_path / str(n) / "out", expected, n / 200 * whole) for n in range(200)]
    print(f"{sum(killed)} of {len(killed)} runs were killed before their end")
    assert sum(killed) >= 100


def test_shard_done_gives_its_path(source: Path, tmp_path: Path) -> None:
    plan = su.plan_checkpoint(source, SOLAR)
    done: list[FinishedShard] = []
    for each in written(plan, FolderSource(source), tmp_path / "out"):
        assert each.path.stat().st_size > each.data_nbytes
        assert not (tmp_path / "out").exists()
        done.append(each)
    assert [each.filename for each in done] == [shard.filename for shard in plan.shards]
