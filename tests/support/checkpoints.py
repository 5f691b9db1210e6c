"""Tiny checkpoints whose tensors' bytes encode their own names, so that a copy from the wrong layer fails loudly."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import deserialize, safe_open
from safetensors.numpy import save_file

MISTRAL: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "model_type": "mistral",
    "num_attention_heads": 4,
    "num_hidden_layers": 8,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.34.0.dev0",
    "use_cache": True,
    "vocab_size": 256,
}


def mistral_shapes(layers: int, *, hidden: int = 32, inner: int = 64, vocab: int = 256) -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes of a Mistral-type model, in model order."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (hidden,),
            f"{prefix}.mlp.down_proj.weight": (hidden, inner),
            f"{prefix}.mlp.gate_proj.weight": (inner, hidden),
            f"{prefix}.mlp.up_proj.weight": (inner, hidden),
            f"{prefix}.post_attention_layernorm.weight": (hidden,),
            f"{prefix}.self_attn.k_proj.weight": (hidden // 2, hidden),
            f"{prefix}.self_attn.o_proj.weight": (hidden, hidden),
            f"{prefix}.self_attn.q_proj.weight": (hidden, hidden),
            f"{prefix}.self_attn.v_proj.weight": (hidden // 2, hidden),
        }
    return shapes | {"model.norm.weight": (hidden,), "lm_head.weight": (vocab, hidden)}


def named_values(name: str, shape: tuple[int, ...], dtype: str = "<f2") -> np.ndarray:
    """Small finite floats determined by the tensor's name alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(dtype)


def write_checkpoint(
    folder: Path,
    *,
    layers: int = 8,
    shards: int = 1,
    config: Mapping[str, Any] | None = None,
    other_files: Mapping[str, str] | None = None,
    **shape: int,
) -> Path:
    """A Mistral-type checkpoint in fp16 of the given depth, in a single file or in shards with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(mistral_shapes(layers, **shape).items())
    weight_map = {}
    for number in range(shards):
        part = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        filename = "model.safetensors" if shards == 1 else f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        tensors = {name: named_values(name, dims) for name, dims in part}
        save_file(tensors, folder / filename, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, filename)
    if shards > 1:
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    changed = {"hidden_size": shape.get("hidden", 32), "intermediate_size": shape.get("inner", 64)}
    changed |= {"vocab_size": shape.get("vocab", 256), "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps({**MISTRAL, **changed, **(config or {})}, indent=2))
    for name, text in (other_files or {"tokenizer_config.json": "{}", "LICENSE": "Apache-2.0"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of a checkpoint, read by the safetensors library."""
    tensors: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                assert name not in tensors, f"{name} appears twice"
                tensors[name] = file.get_tensor(name)
    return tensors


def raw_tensors(folder: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Dtype, shape and bytes of every tensor, read by the safetensors library; numpy does not know all dtypes."""
    tensors: dict[str, tuple[str, list[int], bytes]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in deserialize(path.read_bytes()):
            assert name not in tensors, f"{name} appears twice"
            tensors[name] = (tensor["dtype"], tensor["shape"], bytes(tensor["data"]))
    return tensors


def assert_layers_come_from(output: Path, source: Path, sources: list[int], prefix: str = "model.layers") -> None:
    """Check that the output has exactly the tensors that the pattern gives, each bit for bit its source tensor."""
    before, after = raw_tensors(source), raw_tensors(output)
    expected = {name: data for name, data in before.items() if not name.startswith(f"{prefix}.")}
    for target, layer in enumerate(sources):
        old, new = f"{prefix}.{layer}.", f"{prefix}.{target}."
        expected |= {new + name.removeprefix(old): data for name, data in before.items() if name.startswith(old)}
    assert sorted(after) == sorted(expected)
    for name, data in expected.items():
        assert after[name] == data, name


# A pickle that runs `touch ran` when loaded.
RUNS_CODE = b"\x80\x02cposix\nsystem\nX\x09\0\0\0touch ran\x85R."


def put_pickle(folder: Path, pickled: bytes, zipped: bool = True) -> None:
    """Replace the weights with a pytorch_model.bin that contains the given pickle."""
    for path in folder.glob("model*"):
        path.unlink()
    path = folder / "pytorch_model.bin"
    if not zipped:
        path.write_bytes(pickled)
        return
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little"}.items():
            archive.writestr(f"archive/{name}", data)


def tree(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
