"""The safetensors library as a second reader of what is written."""

from pathlib import Path

import pytest

from solar_upscale.errors import CheckpointError
from solar_upscale.source import second_reader
from solar_upscale.source.header import DTYPE_BITS, TensorInfo, build_header
from solar_upscale.source.second_reader import check_with_safetensors

TENSORS = [TensorInfo("a", "F16", (2, 4), (0, 16)), TensorInfo("b", "F32", (), (16, 20))]


def shard(folder: Path, tensors: list[TensorInfo] = TENSORS) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(build_header(tensors) + bytes(tensors[-1].data_offsets[1]))
    return path


def test_shard_that_reads_as_planned_passes_without_a_note(tmp_path: Path) -> None:
    assert check_with_safetensors(shard(tmp_path), "model.safetensors", TENSORS) is None


@pytest.mark.parametrize("dtype", sorted(DTYPE_BITS))
def test_dtype_is_checked_or_the_note_names_it(dtype: str, tmp_path: Path) -> None:
    tensors = [TensorInfo("x", dtype, (8,), (0, DTYPE_BITS[dtype]))]
    note = check_with_safetensors(shard(tmp_path, tensors), "model.safetensors", tensors)
    assert note is None or dtype in note


def test_dtype_that_the_library_does_not_know_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_reader, "_knows", lambda dtype: dtype != "F16")
    note = check_with_safetensors(shard(tmp_path), "model.safetensors", TENSORS)
    assert note is not None
    assert note.startswith("model.safetensors: not checked with safetensors ")
    assert note.endswith("which does not know F16")


@pytest.mark.parametrize(
    ("planned", "text"),
    [
        ([TENSORS[0]], r"model.safetensors: b: the safetensors library reads F32 \[\]; expected no such tensor"),
        ([*TENSORS, TensorInfo("c", "U8", (1,), (20, 21))], r": c: .* reads no such tensor; expected U8 \[1\]"),
        ([TensorInfo("a", "BF16", (2, 4), (0, 16)), TENSORS[1]], r": a: .* reads F16 \[2, 4\]; expected BF16 \[2, 4\]"),
        ([TensorInfo("a", "F16", (4, 2), (0, 16)), TENSORS[1]], r": a: .* reads F16 \[2, 4\]; expected F16 \[4, 2\]"),
    ],
)
def test_difference_names_the_tensor(planned: list[TensorInfo], text: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=text):
        check_with_safetensors(shard(tmp_path), "model.safetensors", planned)


@pytest.mark.parametrize("spoil", ["shorter", "longer", "header", "gone"])
def test_file_that_the_library_refuses_is_refused(spoil: str, tmp_path: Path) -> None:
    path = shard(tmp_path)
    data = path.read_bytes()
    path.write_bytes({"shorter": data[:-1], "longer": data + b"0", "header": b"\xff" + data[1:], "gone": b""}[spoil])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: the safetensors library cannot read it"):
        check_with_safetensors(path, "model.safetensors", TENSORS)
