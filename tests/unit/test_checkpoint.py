"""Reading a checkpoint: what is sound is read, what is not is refused in one line, and nothing is touched."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import solar_upscale as su
from solar_upscale.errors import CheckpointError, UnsupportedError, UpscaleError
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.source.folder import FolderSource
from solar_upscale.strict_json import MAX_JSON_DEPTH, parse_json
from tests.support.bad_checkpoints import BAD, change_json, read_one
from tests.support.checkpoints import MISTRAL, assert_layers_come_from, read_tensors, tree, write_checkpoint
from tests.support.fuzz import fuzzed
from tests.support.sources import headers_only, tensors_in_order

resource = pytest.importorskip("resource", reason="memory is bounded by what the system counts")


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(case: str, tmp_path: Path) -> None:
    spoil, message = BAD[case]
    source = write_checkpoint(tmp_path / "s", shards=2)
    spoil(source)
    before = {path: path.lstat() for path in tmp_path.rglob("*")}
    started, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UpscaleError, match=message) as caught:
        su.upscale_checkpoint(source, tmp_path / "out", ["0:6", "2:8"])
    assert time.process_time() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 300 * 1024
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 2200
    after = {path: path.lstat() for path in tmp_path.rglob("*")}
    assert after.keys() == before.keys()
    assert all(after[path].st_mtime_ns == before[path].st_mtime_ns for path in before)


@pytest.mark.parametrize("depth", ["8", 8.0, 8.5, None, [8], {"8": 8}, float("inf")], ids=str)
def test_depth_of_the_wrong_type_is_refused(depth: Any, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s", config={"num_hidden_layers": depth})
    with pytest.raises(UpscaleError, match="num_hidden_layers"):
        su.plan_checkpoint(source, ["0:6", "2:8"])


@pytest.mark.parametrize("value", [5, "full_attention", [5] * 8, [["full_attention"]] * 8, {"a": 1}], ids=str)
def test_layer_types_of_the_wrong_type_are_refused(value: Any, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s", config={"model_type": "qwen2", "layer_types": value})
    with pytest.raises(UpscaleError, match="layer_types"):
        su.plan_checkpoint(source, ["0:6", "2:8"])


def test_config_without_a_depth_is_refused(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s")
    change_json(source / "config.json", lambda config: config.pop("num_hidden_layers"))
    with pytest.raises(UpscaleError, match="num_hidden_layers"):
        su.plan_checkpoint(source, ["0:6", "2:8"])


def test_missing_shard_is_named_in_error(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s", shards=4)
    (source / "model-00003-of-00004.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"^s: weight files are missing: model-00003-of-00004\.safetensors;"):
        open_checkpoint(FolderSource(source))


def test_path_that_is_not_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "no", Path("./no/such")):
        with pytest.raises(CheckpointError, match="no such folder"):
            su.plan_checkpoint(path, ["0:6"])
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file: is a file; expected a folder with a checkpoint"):
        su.plan_checkpoint(tmp_path / "file", ["0:6"])


# ---------------------------------------------------------------- what is sound


def test_hub_cache_snapshot_is_read_through_its_links(tmp_path: Path) -> None:
    real = write_checkpoint(tmp_path / "real", shards=2)
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(real.iterdir())):
        (blobs / f"{number:064x}").write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{number:064x}")
    su.upscale_checkpoint(snapshot, tmp_path / "out", ["0:6", "2:8"])
    assert_layers_come_from(tmp_path / "out", real, [*range(6), *range(2, 8)])
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    (snapshot / "notes.txt").symlink_to("../../../real/LICENSE")
    with pytest.raises(CheckpointError, match=r"notes\.txt: links to a file outside"):
        open_checkpoint(FolderSource(snapshot))


def test_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s")
    (source / "weights").mkdir()
    (source / "model.safetensors").rename(source / "weights" / "w.bin")
    (source / "model.safetensors").symlink_to("weights/w.bin")
    su.upscale_checkpoint(source, tmp_path / "out", ["0:6"])
    assert_layers_come_from(tmp_path / "out", source, list(range(6)))


def test_single_file_wins_over_an_index_as_in_transformers(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s", shards=2)
    save_file(read_tensors(source), source / "model.safetensors")
    checkpoint = open_checkpoint(FolderSource(source))
    assert [shard.filename for shard in checkpoint.shards] == ["model.safetensors"]
    assert "model.safetensors is read, as transformers does" in checkpoint.warnings[0]
    assert checkpoint.skipped_files["model-00001-of-00002.safetensors"] == "weights that are not read"


@pytest.mark.parametrize("shards", [1, 2])
def test_torch_source_yields_its_exact_tensors(tmp_path: Path, shards: int) -> None:
    import torch

    source = write_checkpoint(tmp_path / "s", shards=shards)
    weight_map = {}
    for number, path in enumerate(sorted(source.glob("*.safetensors")), start=1):
        name = "pytorch_model.bin" if shards == 1 else f"pytorch_model-{number:05d}-of-{shards:05d}.bin"
        tensors = {key: torch.from_numpy(value.copy()) for key, value in read_one(path).items()}
        torch.save(tensors, source / name)
        weight_map |= dict.fromkeys(tensors, name)
    reference = tmp_path / "reference"
    reference.mkdir()
    for path in source.glob("model*"):
        path.rename(reference / path.name)
    if shards > 1:
        (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    su.upscale_checkpoint(source, tmp_path / "out", ["0:6", "2:8"])
    assert_layers_come_from(tmp_path / "out", reference, [*range(6), *range(2, 8)])
    su.verify_checkpoint(tmp_path / "out", source)


def test_config_keeps_its_fields_and_their_order(tmp_path: Path) -> None:
    odd = {"zeta": [1.5, None, {"b": 1, "a": "é"}], "alpha": 1e-05, "big": 2**70}
    source = write_checkpoint(tmp_path / "s", config=odd)
    su.upscale_checkpoint(source, tmp_path / "out", ["0:6", "2:8"])
    before = json.loads((source / "config.json").read_text())
    after = json.loads((tmp_path / "out" / "config.json").read_text())
    assert list(after) == list(before)
    assert after == {**before, "num_hidden_layers": 12}


def test_copied_and_skipped_files_are_listed(tmp_path: Path) -> None:
    copied = {
        "tokenizer.json": "{}", "tokenizer.model": "x", "chat_template.jinja": "{{x}}", "generation_config.json": "{}",
        "modeling_x.py": "pass", "LICENSE": "l", "NOTICE.txt": "n", "additional_chat_templates/tool.jinja": "t",
        "merges.txt": "m", "preprocessor_config.json": "{}",
    }  # fmt: skip
    skipped = {
        "model.gguf": "g", "consolidated.00.pth": "p", "onnx/model.onnx": "o", "onnx/config.json": "{}",
        "optimizer.pt": "o", "checkpoint-5/config.json": "{}", "original/params.json": "{}", "logo.png": "i",
        "model.fp16.safetensors": "f", "pytorch_model.bin.index.json": "{}", "trainer_state.json": "{}",
    }  # fmt: skip
    never = {".gitattributes": "g", ".cache/x.json": "c", "README.md": "r", "solar_upscale.json": "{}"}
    source = write_checkpoint(tmp_path / "s", other_files={**copied, **skipped, **never})
    plan = su.plan_checkpoint(source, ["0:6"])
    assert sorted(file.name for file in plan.copied_files) == sorted(copied)
    assert set(plan.skipped_files) | {"pytorch_model.bin.index.json"} == set(skipped)
    su.upscale_checkpoint(source, tmp_path / "out", ["0:6"])
    written = tree(tmp_path / "out")
    assert {name: written[name].decode() for name in copied} == copied
    assert not (set(skipped) | set(never)) - {"README.md", "solar_upscale.json"} & set(written)


def test_files_with_undecodable_names_are_skipped(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s\tn\x1b")
    try:
        (source / os.fsdecode(b"bad\xff.json")).write_text("{}")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    (source / "new\nline.json").write_text("{}")
    su.upscale_checkpoint(source, tmp_path / "out", ["0:6"])
    su.verify_checkpoint(tmp_path / "out", source)
    su.verify_checkpoint(tmp_path / "out")
    assert not [name for name in tree(tmp_path / "out") if not name.isprintable()]


def test_too_many_tensors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar_upscale.source.checkpoint.MAX_CHECKPOINT_TENSORS", 10)
    shards = {
        f"model-{part}.safetensors": tensors_in_order([(f"{part}.{n}", "U8", (1,)) for n in range(6)]) for part in "ab"
    }
    with pytest.raises(CheckpointError, match="exceeds the limit of 10 tensors"):
        open_checkpoint(headers_only(shards, MISTRAL))


def test_streamed_torch_file_is_refused_with_the_next_step(tmp_path: Path) -> None:
    source = headers_only({"a.safetensors": tensors_in_order([("a", "U8", (1,))])}, MISTRAL)
    source.contents = {"config.json": source.contents["config.json"], "pytorch_model.bin": b"x" * 100}
    with pytest.raises(
        UnsupportedError, match=r"cannot be streamed; run `hf download \S+` first, or upscale without --stream"
    ):
        open_checkpoint(source)


# ---------------------------------------------------------------- properties

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@fuzzed(100)
@given(st.dictionaries(st.text(), JSON))
def test_json_round_trips(value: dict[str, Any]) -> None:
    text = json.dumps(value).encode()
    try:
        assert parse_json(text, "x") == json.loads(text)
    except CheckpointError as error:  # half a character
        assert "UTF-8" in str(error)  # noqa: PT017


@fuzzed(100)
@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\ud0123 ').map(str.encode))
def test_any_bytes_give_an_object_or_an_error(text: bytes) -> None:
    try:
        assert isinstance(parse_json(text, "x"), dict)
    except CheckpointError as error:
        assert str(error).isprintable()  # noqa: PT017


@pytest.mark.parametrize("depth", [1, MAX_JSON_DEPTH - 1])
def test_depth_up_to_the_limit_is_read(depth: int) -> None:
    assert parse_json(b'{"a":' * depth + b"{}" + b"}" * depth, "x")


KEYS = st.sampled_from([*MISTRAL, "layer_types", "rope_scaling", "quantization_config", "text_config", "auto_map"])


@fuzzed(150)
@given(st.dictionaries(KEYS, JSON, min_size=1, max_size=3))
def test_any_config_is_planned_or_refused(changed: dict[str, Any]) -> None:
    from tests.support.checkpoints import mistral_shapes

    tensors = tensors_in_order([(name, "F16", shape) for name, shape in mistral_shapes(8).items()])
    source = headers_only({"model.safetensors": tensors}, {**MISTRAL, **changed})
    try:
        plan = su.plan_checkpoint(source, ["0:6", "2:8"])
    except UpscaleError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert plan.after.layers == 12


def test_model_card_of_any_size_is_accepted(tmp_path):
    folder = write_checkpoint(tmp_path / "source", shards=2)
    (folder / "README.md").write_bytes(b"---\nlicense: mit\n---\n" + b"x" * 5_000_000)
    checkpoint = open_checkpoint(FolderSource(folder))
    assert checkpoint.readme is not None
    assert checkpoint.readme.startswith(b"---\nlicense: mit\n---\n")
    assert len(checkpoint.readme) < 5_000_000


@pytest.mark.parametrize("name", ["model.safetensors.index.fp16.json", "pytorch_model.bin.index.fp16.json"])
def test_index_of_a_variant_is_skipped(tmp_path, name):
    folder = write_checkpoint(tmp_path / "source", shards=2)
    (folder / name).write_text("{}")
    checkpoint = open_checkpoint(FolderSource(folder))
    assert checkpoint.skipped_files[name] == "weights that are not read"
