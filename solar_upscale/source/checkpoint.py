"""A checkpoint as a value: its shards' headers, its config, and the files that stand beside the weights.

Only headers and small files are read here; tensor data stays where it is. What the config means for depth is
architecture/, what becomes of it all is plan/.
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
from solar_upscale.source.weight_files import WEIGHT_SUFFIXES
from solar_upscale.strict_json import parse_json
from solar_upscale.text import listed

__all__ = [
    "Checkpoint",
    "open_checkpoint",
]

# Bounds on small files, in bytes. The largest published index is under 20 MB, the largest config under 1 MB.
MAX_CONFIG_NBYTES = 4 * 2**20
MAX_INDEX_NBYTES = 25 * 2**20
# Headers that are asked for side by side.
HEADERS_AT_ONCE = 8
# Tensors of a whole checkpoint; the largest published ones have about 100,000.
MAX_CHECKPOINT_TENSORS = 1_000_000
# Characters of a tensor's name; published ones have fewer than 200.
MAX_NAME_LENGTH = 1000

# The names that transformers looks for, in the order in which it takes them.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

# Files that a model needs beside its weights, by the end of their name.
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
# And by the start of it, whatever the ending.
_COPIED_STEMS = ("COPYING", "LICENCE", "LICENSE", "NOTICE", "USE_POLICY", "ACCEPTABLE_USE_POLICY")

# The index of any weights, a variant's (model.safetensors.index.fp16.json) too.
_INDEX = re.compile(r"\.index(\.[\w-]+)?\.json$")

# Files that the output has its own of, and folders of weights in other formats than those written.
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
        """Every tensor by name, shard after shard, each in the order of its data."""
        return {tensor.name: tensor for shard in self.shards for tensor in shard.tensors}

    @cached_property
    def shard_of(self) -> dict[str, Shard]:
        """The shard that each tensor lies in, by tensor name."""
        return {tensor.name: shard for shard in self.shards for tensor in shard.tensors}

    @property
    def weight_map(self) -> dict[str, str]:
        """Tensor name to shard filename."""
        return {name: shard.filename for name, shard in self.shard_of.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all weight files."""
        return sum(shard.nbytes for shard in self.shards)

    def small_files(self, *names: str) -> dict[str, bytes]:
        """The contents of the named files, of those that the checkpoint has.

        Raises:
            CheckpointError: one is too large to be what its name says.
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
        raise CheckpointError(f"{source.name}: no config.json; expected a checkpoint that transformers can load")
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
        source.local_path(file.name)  # a link that leads out of the folder is refused now, not while writing
    needed = [*filenames, *(file.name for file in copied_files), "config.json"]
    state = {name: files[name].state for name in needed}
    # Only the front matter of a card is ever looked at, so one of any size is no reason to stop.
    card = files.get("README.md")
    readme = None if card is None else source.read(card.name, 0, min(card.nbytes, MAX_CONFIG_NBYTES))
    return Checkpoint(source, shards, config, copied_files, skipped_files, state, readme, warnings)


def _find_weights(
    source: Source, files: Mapping[str, SourceFile]
) -> tuple[list[str], dict[str, str] | None, tuple[str, ...]]:
    """The weight files to read, the index's weight map if there is one, and warnings."""
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
            raise CheckpointError(f"{chosen}: {tensor}: {str(filename)[:200]!r} is not a file of this folder")
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
            raise CheckpointError(f"{source.name}: more than {MAX_CHECKPOINT_TENSORS} tensors; that is the limit")
    return tuple(shards)


def _each_shard(source: Source, files: Sequence[SourceFile]) -> Iterable[Shard]:
    """Shard by shard; where reading a header means asking the Hub, several at once."""
    if not source.is_on_hub or len(files) == 1:
        return (_open_shard(source, file) for file in files)
    from solar_upscale.source.hub.client import map_concurrently

    return map_concurrently(lambda file: _open_shard(source, file), files, in_flight=HEADERS_AT_ONCE)


def _open_shard(source: Source, file: SourceFile) -> Shard:
    if file.name.endswith(".safetensors"):
        return read_shard(file.name, file.nbytes, lambda start, stop: source.read(file.name, start, stop))
    source.fetch([file.name])
    path = source.local_path(file.name)
    if path is None:
        raise UnsupportedError(
            f"{file.name}: a torch file has no header to be read alone, and cannot be streamed; run `hf download "
            f"{source.name}` first, or upscale without --stream, which downloads it"
        )
    from solar_upscale.source.torch_file import read_torch_file

    return read_torch_file(Path(path), file.name)


def _check_weight_map(shards: tuple[Shard, ...], weight_map: Mapping[str, str] | None) -> None:
    """No tensor twice, none with an absurd name, and every tensor where the index says it is."""
    found: dict[str, str] = {}
    for shard in shards:
        for tensor in shard.tensors:
            if tensor.name in found:
                raise CheckpointError(f"{tensor.name}: lies in both {found[tensor.name]} and {shard.filename}")
            if len(tensor.name) > MAX_NAME_LENGTH:
                raise CheckpointError(
                    f"{shard.filename}: {tensor.name[:80]}...: a name of {len(tensor.name)} characters; the limit is "
                    f"{MAX_NAME_LENGTH}"
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
            f"{found[unlisted[0]]}: holds {listed(unlisted)}, which the index does not name; "
            "download the index and the shards again"
        )


def _refuse_index(name: str, said: str, real: str | None, count: int) -> NoReturn:
    where = f"it lies in {real}" if real else "no shard holds it"
    more = f" (and {count - 1} more)" if count > 1 else ""
    raise CheckpointError(f"index: {name}: expected in {said}, but {where}{more}; download the checkpoint again")


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
        return "a name that not every file system can hold"
    if _INDEX.search(name) or path.name.endswith(WEIGHT_SUFFIXES):
        return "weights that are not read"
    if len(path.parts) > 1 and (path.parts[0] in _OTHER_FOLDERS or path.parts[0].startswith("checkpoint-")):
        return "belongs to weights that are not read"
    if path.name == "trainer_state.json" or path.name.startswith("events.out."):
        return "a training run's own state"
    if path.name.endswith(_COPIED_SUFFIXES) or path.name.upper().startswith(_COPIED_STEMS):
        return None
    return "not needed to load the model"


def _read_small(source: Source, file: SourceFile, limit: int) -> bytes:
    if file.nbytes > limit:
        raise CheckpointError(f"{file.name}: {file.nbytes} bytes; expected at most {limit}")
    return source.read(file.name, 0, file.nbytes)
