"""A checkpoint as a value: the headers of its shards, its config, and its other files.

Only headers and small files are read here, never tensor data. What the config says about depth is read in
architecture/, and what to write is decided in plan/.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from solar_upscale.errors import CheckpointError, UnsupportedError, printable
from solar_upscale.source.header import Shard, TensorInfo, read_shard
from solar_upscale.source.protocol import Source, SourceFile
from solar_upscale.source.weight_files import MERGE_ADAPTER, WEIGHT_SUFFIXES
from solar_upscale.strict_json import parse_json
from solar_upscale.text import listed

__all__ = [
    "Checkpoint",
    "open_checkpoint",
]

# Bounds on small files, in bytes. The largest published index is under 20 MB, the largest config under 1 MB.
MAX_CONFIG_NBYTES = 4 * 2**20
MAX_INDEX_NBYTES = 25 * 2**20
# Headers read concurrently from the Hub.
CONCURRENT_HEADERS = 8
# Tensors of a whole checkpoint; the largest published ones have about 100,000.
MAX_CHECKPOINT_TENSORS = 1_000_000
# Characters of a tensor's name; published ones have fewer than 200.
MAX_NAME_LENGTH = 1000

# The names that transformers looks for, in its order of preference.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

# Files that a model needs besides its weights, by suffix.
_COPIED_SUFFIXES = (
    ".bpe",
    ".jinja",
    ".json",
    ".model",
    ".py",
    ".spm",
    ".tiktoken",
    ".txt",
    ".vocab",
    ".yaml",
    ".yml",
)
# And by prefix, whatever the suffix.
_COPIED_STEMS = ("COPYING", "LICENCE", "LICENSE", "NOTICE", "USE_POLICY", "ACCEPTABLE_USE_POLICY")

# The index of any weights, including variants (model.safetensors.index.fp16.json).
_INDEX = re.compile(r"\.index(\.[\w-]+)?\.json$")

# Files that the output has its own versions of, and files that belong to weights that are not copied.
_OWN_FILES = ("README.md", "config.json", "solar_upscale.json", "layer_map.svg")
_OTHER_FOLDERS = frozenset({"coreml", "flax", "gguf", "metal", "onnx", "openvino", "original", "runs", "tf"})


@dataclass(frozen=True)
class Checkpoint:
    """A model's files.

    ``copied_files`` are copied to the output byte for byte; ``skipped_files`` gives the reason why each other file is
    not. ``state`` fingerprints every file that the output depends on: it changes whenever the content may have changed.
    """

    source: Source
    shards: tuple[Shard, ...]
    config: Mapping[str, Any]
    copied_files: tuple[SourceFile, ...]
    skipped_files: Mapping[str, str]
    state: Mapping[str, str]
    readme: bytes | None = None
    warnings: tuple[str, ...] = ()

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        """Every tensor by name, shard by shard, in the order of its data."""
        return {tensor.name: tensor for shard in self.shards for tensor in shard.tensors}

    @cached_property
    def shard_of(self) -> dict[str, Shard]:
        """The shard that holds each tensor, by tensor name."""
        return {tensor.name: shard for shard in self.shards for tensor in shard.tensors}

    @property
    def weight_map(self) -> dict[str, str]:
        """Tensor name to shard filename."""
        return {name: shard.filename for name, shard in self.shard_of.items()}

    @property
    def nbytes(self) -> int:
        """Total size of the weight files, in bytes."""
        return sum(shard.nbytes for shard in self.shards)

    def small_files(self, *names: str) -> dict[str, bytes]:
        """The contents of the named files, without those that the checkpoint does not have.

        Raises:
            CheckpointError: a file is larger than its kind can be.
        """
        sizes = {file.name: file.nbytes for file in self.copied_files}
        return {
            name: _read_small(self.source, SourceFile(name, sizes[name], ""), MAX_CONFIG_NBYTES)
            for name in names
            if name in sizes
        }


def open_checkpoint(source: Source) -> Checkpoint:
    """Read a checkpoint's headers, config and file list.

    Raises:
        CheckpointError: a file is missing, damaged or contradicts another.
        UnsupportedError: the files are sound but are not one model's own weights.
    """
    files = source.files()
    if "config.json" not in files:
        raise CheckpointError(f"{source.name}: {_without_config(files)}")
    if "adapter_config.json" in files:
        raise UnsupportedError(
            f"{source.name}: adapter_config.json: transformers would load an adapter on top of these weights; "
            "merge the adapter into the model first, or remove its files"
        )
    config = parse_json(_read_small(source, files["config.json"], MAX_CONFIG_NBYTES), "config.json")
    filenames, weight_map, warnings = _find_weights(source, files)
    missing = [name for name in filenames if name not in files]
    if missing:
        raise CheckpointError(f"{source.name}: weight files are missing: {listed(missing)}; download them again")
    shards = _open_shards(source, [files[name] for name in filenames])
    _check_weight_map(shards, weight_map)
    copied_files, skipped_files = _sort_files(files, set(filenames))
    for file in copied_files:
        source.local_path(file.name)  # a link out of the folder is refused now, not while writing
    needed = [*filenames, *(file.name for file in copied_files), "config.json"]
    state = {name: files[name].state for name in needed}
    # Only the front matter of a card is used, so a large one is cut rather than refused.
    card = files.get("README.md")
    readme = None if card is None else source.read(card.name, 0, min(card.nbytes, MAX_CONFIG_NBYTES))
    return Checkpoint(source, shards, config, copied_files, skipped_files, state, readme, warnings)


def _without_config(files: Mapping[str, SourceFile]) -> str:
    """What a folder without a config.json is, as far as its files tell."""
    if "adapter_config.json" in files:
        return f"is an adapter (adapter_config.json), not a checkpoint; {MERGE_ADAPTER}"
    gguf = [name for name in files if name.lower().endswith(".gguf")]
    if gguf:
        return f"holds GGUF files ({listed(gguf)}) and no config.json; give the safetensors checkpoint instead"
    return "no config.json; expected a checkpoint that transformers can load"


def _find_weights(
    source: Source, files: Mapping[str, SourceFile]
) -> tuple[list[str], dict[str, str] | None, tuple[str, ...]]:
    """The weight files to read, the weight map of the index if there is one, and warnings."""
    found = [name for name in _WEIGHTS if name in files]
    if not found:
        others = [name for name in files if name.endswith(WEIGHT_SUFFIXES)]
        hint = f"; found {listed(others)}" if others else ""
        raise CheckpointError(f"{source.name}: no {_WEIGHTS[0]}, {_WEIGHTS[1]} or pytorch_model.bin{hint}")
    chosen = found[0]
    warnings: tuple[str, ...] = ()
    if found[:2] == list(_WEIGHTS[:2]):
        warnings = (f"both {_WEIGHTS[0]} and {_WEIGHTS[1]} are present; {_WEIGHTS[0]} is read, as transformers does",)
    if not chosen.endswith(".index.json"):
        return [chosen], None, warnings
    index = parse_json(_read_small(source, files[chosen], MAX_INDEX_NBYTES), chosen)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{chosen}: expected a weight_map that names a file for each tensor")
    checked: set[str] = set()
    for tensor, filename in weight_map.items():
        if isinstance(filename, str) and (filename in checked or _stays_inside(filename)):
            checked.add(filename)
        else:
            raise CheckpointError(f"{chosen}: {tensor}: {str(filename)[:200]!r} is not a file in this folder")
    return sorted(checked), weight_map, warnings


def _stays_inside(filename: str) -> bool:
    parts = PurePosixPath(filename).parts
    return (
        bool(parts)
        and "\\" not in filename
        and ":" not in filename
        and not filename.startswith("/")
        and ".." not in parts
        and filename.isprintable()
    )


def _open_shards(source: Source, files: Sequence[SourceFile]) -> tuple[Shard, ...]:
    shards: list[Shard] = []
    count = 0
    for shard in _each_shard(source, files):
        shards.append(shard)
        count += len(shards[-1].tensors)
        if count > MAX_CHECKPOINT_TENSORS:
            raise CheckpointError(f"{source.name}: exceeds the limit of {MAX_CHECKPOINT_TENSORS} tensors")
    return tuple(shards)


def _each_shard(source: Source, files: Sequence[SourceFile]) -> Iterable[Shard]:
    """Read the headers one by one from a folder, and several at a time from the Hub."""
    if not source.is_on_hub or len(files) == 1:
        return (_open_shard(source, file) for file in files)
    from solar_upscale.source.hub.client import map_concurrently

    return map_concurrently(lambda file: _open_shard(source, file), files, in_flight=CONCURRENT_HEADERS)


def _open_shard(source: Source, file: SourceFile) -> Shard:
    if file.name.endswith(".safetensors"):
        return read_shard(file.name, file.nbytes, lambda start, stop: source.read(file.name, start, stop))
    source.fetch([file.name])
    path = source.local_path(file.name)
    if path is None:
        raise UnsupportedError(
            f"{file.name}: a torch file has no header that can be read by itself, so it cannot be streamed; run "
            f"`hf download {source.name}` first, or upscale without --stream, which downloads it"
        )
    from solar_upscale.source.torch_file import read_torch_file

    return read_torch_file(Path(path), file.name)


def _check_weight_map(shards: tuple[Shard, ...], weight_map: Mapping[str, str] | None) -> None:
    """Check that no tensor appears twice or has an absurdly long name, and that the index matches the shards."""
    found: dict[str, str] = {}
    for shard in shards:
        for tensor in shard.tensors:
            if tensor.name in found:
                raise CheckpointError(f"{tensor.name}: is in both {found[tensor.name]} and {shard.filename}")
            if len(tensor.name) > MAX_NAME_LENGTH:
                raise CheckpointError(
                    f"{shard.filename}: {tensor.name[:80]}...: the name has {len(tensor.name)} characters; "
                    f"the limit is {MAX_NAME_LENGTH}"
                )
            found[tensor.name] = shard.filename
    if not found:
        raise CheckpointError(f"{listed([shard.filename for shard in shards])}: no tensors")
    if weight_map is None:
        return
    wrong = [name for name, filename in weight_map.items() if found.get(name) != filename]
    if wrong:
        _refuse_index(wrong[0], weight_map[wrong[0]], found.get(wrong[0]), len(wrong))
    unlisted = [name for name in found if name not in weight_map]
    if unlisted:
        raise CheckpointError(
            f"{found[unlisted[0]]}: holds {listed(unlisted)}, which the index does not list; "
            "download the index and the shards again"
        )


def _refuse_index(name: str, listed: str, actual: str | None, count: int) -> NoReturn:
    where = f"it is in {actual}" if actual else "no shard has it"
    more = f" (and {count - 1} more)" if count > 1 else ""
    raise CheckpointError(f"index: {name}: expected in {listed}, but {where}{more}; download the checkpoint again")


def _sort_files(files: Mapping[str, SourceFile], weights: set[str]) -> tuple[tuple[SourceFile, ...], dict[str, str]]:
    """Which files are copied, and why each other one is skipped."""
    copied_files, skipped_files = [], {}
    for name, file in files.items():
        if name in weights or name in _OWN_FILES or name in _WEIGHTS:
            continue
        reason = _reason_to_skip(name)
        if reason is None:
            copied_files.append(file)
        else:
            skipped_files[printable(name)] = reason
    return tuple(copied_files), skipped_files


def _reason_to_skip(name: str) -> str | None:
    path = PurePosixPath(name)
    if not _stays_inside(name):
        return "not a portable filename"
    if _INDEX.search(name) or path.name.endswith(WEIGHT_SUFFIXES):
        return "weights that are not read"
    if len(path.parts) > 1 and (path.parts[0] in _OTHER_FOLDERS or path.parts[0].startswith("checkpoint-")):
        return "belongs to weights that are not read"
    if path.name == "trainer_state.json" or path.name.startswith("events.out."):
        return "the state of a training run"
    if path.name.endswith(_COPIED_SUFFIXES) or path.name.upper().startswith(_COPIED_STEMS):
        return None
    return "not needed to load the model"


def _read_small(source: Source, file: SourceFile, limit: int) -> bytes:
    if file.nbytes > limit:
        raise CheckpointError(f"{file.name}: {file.nbytes} bytes; expected at most {limit}")
    return source.read(file.name, 0, file.nbytes)
