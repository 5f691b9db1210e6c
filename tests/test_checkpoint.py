"""Reading a checkpoint: what is sound is read, what is not is refused in one line, and nothing is touched."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import MISTRAL, assert_layers_come_from, read_tensors, tree, write_checkpoint
from fuzz import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from sources import headers_only, tensors_in_order

import solar_upscale as su
from solar_upscale.errors import CheckpointError, UnsupportedError, UpscaleError
from solar_upscale.source.checkpoint import open_checkpoint
from solar_upscale.source.folder import FolderSource
from solar_upscale.strict_json import MAX_JSON_DEPTH, parse_json

resource = pytest.importorskip("resource", reason="memory is bounded by what the system counts")

INDEX = "model.safetensors.index.json"


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def rename_file(folder: Path, name: str) -> None:
    """Let the index name the first shard by another name, without such a file."""
    first = "model-00001-of-00002.safetensors"

    def rename(index: dict[str, Any]) -> None:
        index["weight_map"] = {key: name if file == first else file for key, file in index["weight_map"].items()}

    change_json(folder / INDEX, rename)


def outside_link(folder: Path) -> None:
    shard = folder / "model-00001-of-00002.safetensors"
    shard.rename(folder.parent / "elsewhere.safetensors")
    shard.symlink_to(folder.parent / "elsewhere.safetensors")


def fifo(folder: Path) -> None:
    shard = folder / "model-00001-of-00002.safetensors"
    shard.unlink()
    os.mkfifo(shard)


def device(folder: Path) -> None:
    shard = folder / "model-00001-of-00002.safetensors"
    shard.unlink()
    shard.symlink_to("/dev/zero")


def link_to_itself(folder: Path) -> None:
    shard = folder / "model-00001-of-00002.safetensors"
    shard.unlink()
    shard.symlink_to(shard.name)


def outside_sidecar(folder: Path) -> None:
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "notes.txt").symlink_to(folder.parent / "secret.txt")


def duplicate_tensor(folder: Path) -> None:
    first = read_one(folder / "model-00001-of-00002.safetensors")
    second = read_one(folder / "model-00002-of-00002.safetensors")
    name = next(iter(first))
    save_file({**second, name: first[name]}, folder / "model-00002-of-00002.safetensors")


def read_one(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def truncated(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    os.truncate(path, path.stat().st_size - 1)


def in_config(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "config.json", lambda config: config.update(fields))


def config_text(text: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_bytes(text)


def index_text(text: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / INDEX).write_bytes(text)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "weight map leaves the folder": (lambda f: rename_file(f, "../model.safetensors"), r"\.\./model.safetensors'"),
    "weight map leaves and returns": (lambda f: rename_file(f, "../s/model-00001-of-00002.safetensors"), "not a file"),
    "absolute path": (lambda f: rename_file(f, "/etc/passwd"), "/etc/passwd"),
    "windows path": (lambda f: rename_file(f, "C:\\model.safetensors"), "not a file of this folder"),
    "empty file name": (lambda f: rename_file(f, ""), "not a file of this folder"),
    "folder for a file": (lambda f: rename_file(f, "."), "not a file of this folder|missing"),
    "control characters in a file name": (lambda f: rename_file(f, "\x1b[2Jx.safetensors"), "not a file"),
    "file name is a number": (lambda f: change_json(f / INDEX, _first_is(5)), "not a file of this folder"),
    "file name is a megabyte": (lambda f: change_json(f / INDEX, _first_is(["x" * 10**6])), "not a file"),
    "symlink out of the folder": (outside_link, "leads out of the checkpoint's folder"),
    "sidecar links out of the folder": (outside_sidecar, r"notes.txt: leads out of"),
    "FIFO": (fifo, "missing: model-00001-of-00002.safetensors"),
    "device": (device, "missing: model-00001-of-00002.safetensors"),
    "link to itself": (link_to_itself, "missing: model-00001-of-00002.safetensors"),
    "shard is missing": (
        lambda f: (f / "model-00002-of-00002.safetensors").unlink(),
        "missing: model-00002-of-00002.safetensors; download",
    ),
    "shard is truncated": (truncated, r"model-00002-of-00002.safetensors: is truncated; expected \d+ bytes"),
    "shard is empty": (lambda f: (f / "model-00002-of-00002.safetensors").write_bytes(b""), "expected at least 8"),
    "shard is an LFS pointer": (
        lambda f: (f / "model-00002-of-00002.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        "git lfs pull",
    ),
    "tensor in two shards": (duplicate_tensor, "lies in both model-00001-of-00002"),
    "index names another shard": (
        lambda f: change_json(f / INDEX, _swap),
        r"index: .*: expected in model-00002-of-00002.safetensors, but it lies in model-00001",
    ),
    "index names a tensor too many": (
        lambda f: change_json(f / INDEX, lambda v: v["weight_map"].update(ghost="model-00001-of-00002.safetensors")),
        "ghost: expected in model-00001-of-00002.safetensors, but no shard holds it",
    ),
    "index names a tensor too few": (
        lambda f: change_json(f / INDEX, lambda v: v["weight_map"].pop("model.norm.weight")),
        "holds model.norm.weight, which the index does not name",
    ),
    "index without a weight map": (index_text(b"{}"), "expected a weight_map"),
    "index is a list": (index_text(b"[]"), "expected a JSON object, got list"),
    "index is deep": (index_text(b'{"weight_map":' * 5000 + b"1" + b"}" * 5000), "deep"),
    "index is wide": (index_text(b'{"weight_map":[' + b"[]," * 3_000_000 + b"[]]}"), "lists and objects"),
    "index is large": (lambda f: os.truncate(f / INDEX, 10**10), "10000000000 bytes; expected at most"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "config is not JSON": (config_text(b"{'a': 1}"), "config.json: not JSON"),
    "config is not UTF-8": (config_text(b'{"a": "\xff"}'), "not UTF-8"),
    "config with half a character": (config_text(b'{"a": "\\ud800"}'), "not UTF-8"),
    "config is a list": (config_text(b"[1]"), "expected a JSON object"),
    "config is empty": (config_text(b""), "not JSON"),
    "config names a field twice": (config_text(b'{"a": 1, "b": 2, "a": 1}'), "'a' stands twice"),
    "config with a number of 5,000 digits": (
        config_text(b'{"num_hidden_layers": ' + b"9" * 5000 + b"}"),
        "config.json",
    ),
    "config is deep": (config_text(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "deep|lists and objects"),
    "config just too deep": (config_text(b'{"a":' + b"[" * 64 + b"]" * 64 + b"}"), "nested more than 64 deep"),
    "config is wide": (config_text(b'{"a":[' + b"[]," * 1_000_000 + b"[]]}"), "lists and objects"),
    "config with many names": (
        config_text(b"{" + b",".join(b'"%d":1' % (number % 299_999) for number in range(300_000)) + b"}"),
        "'0' stands twice",
    ),
    "config is large": (lambda f: os.truncate(f / "config.json", 10**10), "10000000000 bytes; expected at most"),
    "no model type": (lambda f: change_json(f / "config.json", lambda c: c.pop("model_type")), "model"),
    **{
        f"depth is {value!r}": (in_config(num_hidden_layers=value), "num_hidden_layers|layers")
        for value in (10**9, 10**30, 7, 9, 0, -1, -(10**9), True)
    },
    "model type is a list": (in_config(model_type=["mistral"]), "model"),
    "model type steers the terminal": (in_config(model_type="\x1b[2Jmistral"), r"\\x1b\[2Jmistral"),
    "adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "adapter_config.json: .* merge the adapter"),
    "no weights": (lambda f: [path.unlink() for path in f.glob("model*")], "no model.safetensors"),
    "other weights only": (
        lambda f: [*[path.unlink() for path in f.glob("model*")], (f / "model.gguf").write_bytes(b"GGUF")],
        "found model.gguf",
    ),
}


def _first_is(value: Any) -> Callable[[dict[str, Any]], None]:
    def change(index: dict[str, Any]) -> None:
        index["weight_map"][next(iter(index["weight_map"]))] = value

    return change


def _swap(index: dict[str, Any]) -> None:
    index["weight_map"][next(iter(index["weight_map"]))] = "model-00002-of-00002.safetensors"


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
def test_depth_of_another_type_is_refused(depth: Any, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s", config={"num_hidden_layers": depth})
    with pytest.raises(UpscaleError, match="num_hidden_layers"):
        su.plan_checkpoint(source, ["0:6", "2:8"])


@pytest.mark.parametrize("value", [5, "full_attention", [5] * 8, [["full_attention"]] * 8, {"a": 1}], ids=str)
def test_layer_types_of_another_type_are_refused(value: Any, tmp_path: Path) -> None:
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


def test_folder_that_is_none_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "no", Path("./no/such")):
        with pytest.raises(CheckpointError, match="no such folder"):
            su.plan_checkpoint(path, ["0:6"])
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="no such folder"):
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
    with pytest.raises(CheckpointError, match=r"notes\.txt: leads out"):
        open_checkpoint(FolderSource(snapshot))


def test_links_within_the_folder_are_fine(tmp_path: Path) -> None:
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
    assert checkpoint.left_behind["model-00001-of-00002.safetensors"] == "weights that are not read"


@pytest.mark.parametrize("shards", [1, 2])
def test_torch_source_gives_its_exact_tensors(tmp_path: Path, shards: int) -> None:
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


def test_what_comes_along_and_what_stays(tmp_path: Path) -> None:
    along = {
        "tokenizer.json": "{}", "tokenizer.model": "x", "chat_template.jinja": "{{x}}", "generation_config.json": "{}",
        "modeling_x.py": "pass", "LICENSE": "l", "NOTICE.txt": "n", "additional_chat_templates/tool.jinja": "t",
        "merges.txt": "m", "preprocessor_config.json": "{}",
    }  # fmt: skip
    left = {
        "model.gguf": "g", "consolidated.00.pth": "p", "onnx/model.onnx": "o", "onnx/config.json": "{}",
        "optimizer.pt": "o", "checkpoint-5/config.json": "{}", "original/params.json": "{}", "logo.png": "i",
        "model.fp16.safetensors": "f", "pytorch_model.bin.index.json": "{}", "trainer_state.json": "{}",
    }  # fmt: skip
    never = {".gitattributes": "g", ".cache/x.json": "c", "README.md": "r", "solar_upscale.json": "{}"}
    source = write_checkpoint(tmp_path / "s", sidecars={**along, **left, **never})
    plan = su.plan_checkpoint(source, ["0:6"])
    assert sorted(file.name for file in plan.sidecars) == sorted(along)
    assert set(plan.left_behind) | {"pytorch_model.bin.index.json"} == set(left)
    su.upscale_checkpoint(source, tmp_path / "out", ["0:6"])
    written = tree(tmp_path / "out")
    assert {name: written[name].decode() for name in along} == along
    assert not (set(left) | set(never)) - {"README.md", "solar_upscale.json"} & set(written)


def test_names_that_are_not_text_stay_behind(tmp_path: Path) -> None:
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
    with pytest.raises(CheckpointError, match="more than 10 tensors"):
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
def test_json_that_can_be_written_is_read_back(value: dict[str, Any]) -> None:
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
    from checkpoints import mistral_shapes

    tensors = tensors_in_order([(name, "F16", shape) for name, shape in mistral_shapes(8).items()])
    source = headers_only({"model.safetensors": tensors}, {**MISTRAL, **changed})
    try:
        plan = su.plan_checkpoint(source, ["0:6", "2:8"])
    except UpscaleError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert plan.after.layers == 12


def test_a_model_card_of_any_size_is_no_reason_to_stop(tmp_path):
    folder = write_checkpoint(tmp_path / "source", shards=2)
    (folder / "README.md").write_bytes(b"---\nlicense: mit\n---\n" + b"x" * 5_000_000)
    checkpoint = open_checkpoint(FolderSource(folder))
    assert checkpoint.readme is not None
    assert checkpoint.readme.startswith(b"---\nlicense: mit\n---\n")
    assert len(checkpoint.readme) < 5_000_000


@pytest.mark.parametrize("name", ["model.safetensors.index.fp16.json", "pytorch_model.bin.index.fp16.json"])
def test_the_index_of_a_variant_stays_behind(tmp_path, name):
    folder = write_checkpoint(tmp_path / "source", shards=2)
    (folder / name).write_text("{}")
    checkpoint = open_checkpoint(FolderSource(folder))
    assert checkpoint.left_behind[name] == "weights that are not read"
