"""Sources other than folders: files in memory, and checkpoints of any size with nothing but headers."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solar_upscale.errors import CheckpointError
from solar_upscale.source.header import DTYPE_BITS, TensorInfo, build_header
from solar_upscale.source.protocol import SourceFile

Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class MemorySource:
    """Files in memory, read in ranges like those of a Hub source. Every read is recorded in ``reads``."""

    contents: dict[str, bytes]
    sizes: dict[str, int] = field(default_factory=dict)  # of files that go on with zeros
    name: str = "in-memory"
    revision: str | None = None
    is_on_hub: bool = False
    chunk_nbytes: int = 1000
    reads: list[tuple[str, int, int]] = field(default_factory=list)

    @classmethod
    def of_folder(cls, folder: Path, **options: Any) -> "MemorySource":
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return cls(files, name=folder.name, **options)

    def files(self) -> dict[str, SourceFile]:
        return {
            name: SourceFile(name, self.sizes.get(name, len(data)), "x") for name, data in sorted(self.contents.items())
        }

    def read(self, filename: str, start: int, stop: int) -> bytes:
        return b"".join(self.stream(filename, start, stop))

    def stream(self, filename: str, start: int, stop: int) -> Iterator[bytes]:
        data = self.contents[filename]
        if stop > self.sizes.get(filename, len(data)):
            raise CheckpointError(f"{filename}: has no byte {stop}")
        self.reads.append((filename, start, stop))
        for at in range(start, stop, self.chunk_nbytes):
            end = min(at + self.chunk_nbytes, stop)
            yield data[at:end].ljust(end - at, b"\0")

    def fetch(self, filenames: Sequence[str]) -> None:
        pass

    def local_path(self, filename: str) -> Path | None:
        return None


def headers_only(shards: Mapping[str, Sequence[TensorInfo]], config: Mapping[str, Any]) -> MemorySource:
    """A checkpoint with nothing but headers, index and config."""
    source = MemorySource({"config.json": json.dumps(config).encode()})
    for filename, tensors in shards.items():
        source.contents[filename] = build_header(tensors)
        source.sizes[filename] = len(source.contents[filename]) + tensors[-1].data_offsets[1]
    weight_map = {tensor.name: filename for filename, tensors in shards.items() for tensor in tensors}
    if len(shards) > 1:
        source.contents["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    return source


def published_shards(shapes: Shapes, max_nbytes: int = 5 * 10**9, dtype: str = "BF16") -> dict[str, list[TensorInfo]]:
    """How transformers cuts a model (in model order, at a maximum size) and safetensors sorts each file (by name)."""
    groups: list[dict[str, int]] = [{}]
    for name, shape in shapes.items():
        nbytes = nbytes_of(dtype, shape)
        if groups[-1] and sum(groups[-1].values()) + nbytes > max_nbytes:
            groups.append({})
        groups[-1][name] = nbytes
    shards = {}
    for number, group in enumerate(groups, start=1):
        filename = f"model-{number:05d}-of-{len(groups):05d}.safetensors" if len(groups) > 1 else "model.safetensors"
        shards[filename] = tensors_in_order([(name, dtype, shapes[name]) for name in sorted(group)])
    return shards


def tensors_in_order(rows: Sequence[tuple[str, str, tuple[int, ...]]]) -> list[TensorInfo]:
    """Tensors laid out one after another."""
    tensors, start = [], 0
    for name, dtype, shape in rows:
        stop = start + nbytes_of(dtype, shape)
        tensors.append(TensorInfo(name, dtype, shape, (start, stop)))
        start = stop
    return tensors


def nbytes_of(dtype: str, shape: Sequence[int]) -> int:
    bits = DTYPE_BITS[dtype]
    for size in shape:
        bits *= size
    assert bits % 8 == 0, (dtype, shape)
    return bits // 8


def llama_shapes(
    layers: int,
    hidden: int,
    inner: int,
    vocab: int,
    kv: int,
    *,
    q: int | None = None,
    layer_norms: Sequence[str] = ("input_layernorm", "post_attention_layernorm"),
    biases: bool = False,
    head_norm: int = 0,
    tied: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Llama-type model in the order of its modules."""
    q = q or hidden
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        for name, out in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
            shapes[f"{prefix}.self_attn.{name}.weight"] = (out, hidden)
            if biases:
                shapes[f"{prefix}.self_attn.{name}.bias"] = (out,)
        shapes[f"{prefix}.self_attn.o_proj.weight"] = (hidden, q)
        if head_norm:
            shapes |= {f"{prefix}.self_attn.{name}.weight": (head_norm,) for name in ("q_norm", "k_norm")}
        shapes |= {f"{prefix}.mlp.{name}.weight": (inner, hidden) for name in ("gate_proj", "up_proj")}
        shapes[f"{prefix}.mlp.down_proj.weight"] = (hidden, inner)
        shapes |= {f"{prefix}.{name}.weight": (hidden,) for name in layer_norms}
    shapes["model.norm.weight"] = (hidden,)
    return shapes if tied else shapes | {"lm_head.weight": (vocab, hidden)}


def layer_of(name: str) -> int | None:
    match = re.match(r"model\.layers\.(\d+)\.", name)
    return int(match[1]) if match else None
