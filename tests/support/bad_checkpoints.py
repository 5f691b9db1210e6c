"""Ways to damage a valid checkpoint of two shards, each with the expected message."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

__all__ = ["BAD", "INDEX", "change_json", "in_config", "read_one"]

INDEX = "model.safetensors.index.json"


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def rename_file(folder: Path, name: str) -> None:
    """Give the first shard another filename in the index, without such a file."""
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


def outside_copied_file(folder: Path) -> None:
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
    "windows path": (lambda f: rename_file(f, "C:\\model.safetensors"), "not a file in this folder"),
    "empty file name": (lambda f: rename_file(f, ""), "not a file in this folder"),
    "folder for a file": (lambda f: rename_file(f, "."), "not a file in this folder|missing"),
    "control characters in a file name": (lambda f: rename_file(f, "\x1b[2Jx.safetensors"), "not a file"),
    "file name is a number": (lambda f: change_json(f / INDEX, _first_is(5)), "not a file in this folder"),
    "file name is a megabyte": (lambda f: change_json(f / INDEX, _first_is(["x" * 10**6])), "not a file"),
    "symlink out of the folder": (outside_link, "links to a file outside the checkpoint's folder"),
    "copied file links out of the folder": (outside_copied_file, r"notes.txt: links to a file outside"),
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
    "tensor in two shards": (duplicate_tensor, "is in both model-00001-of-00002"),
    "index names another shard": (
        lambda f: change_json(f / INDEX, _swap),
        r"index: .*: expected in model-00002-of-00002.safetensors, but it is in model-00001",
    ),
    "index names a tensor too many": (
        lambda f: change_json(f / INDEX, lambda v: v["weight_map"].update(ghost="model-00001-of-00002.safetensors")),
        "ghost: expected in model-00001-of-00002.safetensors, but no shard has it",
    ),
    "index names a tensor too few": (
        lambda f: change_json(f / INDEX, lambda v: v["weight_map"].pop("model.norm.weight")),
        "holds model.norm.weight, which the index does not list",
    ),
    "index without a weight map": (index_text(b"{}"), "expected a weight_map"),
    "index is a list": (index_text(b"[]"), "expected a JSON object, got list"),
    "index is deep": (index_text(b'{"weight_map":' * 5000 + b"1" + b"}" * 5000), "limit of 64 nested levels"),
    "index is wide": (index_text(b'{"weight_map":[' + b"[]," * 3_000_000 + b"[]]}"), "lists and objects"),
    "index is large": (lambda f: os.truncate(f / INDEX, 10**10), "10000000000 bytes; expected at most"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "config is not JSON": (config_text(b"{'a': 1}"), "config.json: not JSON"),
    "config is not UTF-8": (config_text(b'{"a": "\xff"}'), "not UTF-8"),
    "config with half a character": (config_text(b'{"a": "\\ud800"}'), "not UTF-8"),
    "config is a list": (config_text(b"[1]"), "expected a JSON object"),
    "config is empty": (config_text(b""), "not JSON"),
    "config names a field twice": (config_text(b'{"a": 1, "b": 2, "a": 1}'), '"a" appears twice'),
    "config with a number of 5,000 digits": (
        config_text(b'{"num_hidden_layers": ' + b"9" * 5000 + b"}"),
        "config.json",
    ),
    "config is deep": (
        config_text(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "limit of 64 nested levels|lists and objects",
    ),
    "config just too deep": (
        config_text(b'{"a":' + b"[" * 64 + b"]" * 64 + b"}"),
        "exceeds the limit of 64 nested levels",
    ),
    "config is wide": (config_text(b'{"a":[' + b"[]," * 1_000_000 + b"[]]}"), "lists and objects"),
    "config with many names": (
        config_text(b"{" + b",".join(b'"%d":1' % (number % 299_999) for number in range(300_000)) + b"}"),
        '"0" appears twice',
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
