"""Checkpoints to measure on: full ones of random weights, and header-only ones in the shape of published giants.

A header-only checkpoint has real headers, config and index, and sparse files of the real sizes: planning reads nothing
else, so it is as much work as on the real one.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Shape", "deepseek_v3", "llama_405b", "mistral", "write_headers_only", "write_random"]

_BLOCK_VALUES = 32 * 2**20
_ELEMENT_NBYTES = {"BF16": 2, "F8_E4M3": 1, "F32": 4}

# name, dtype, shape
Tensor = tuple[str, str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's config and its tensors in model order."""

    config: Mapping[str, Any]
    tensors: tuple[Tensor, ...]


def mistral(*, layers: int, hidden: int = 2048, inner: int = 7168, vocab: int = 32000) -> Shape:
    """A Mistral-type model in bf16, its keys and values a quarter as wide as its queries."""
    config = {
        "architectures": ["MistralForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": inner,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "num_attention_heads": hidden // 128,
        "num_hidden_layers": layers,
        "num_key_value_heads": hidden // 512,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.34.0",
        "use_cache": True,
        "vocab_size": vocab,
    }
    return Shape(config, tuple(_llama_tensors(layers, hidden, inner, vocab, hidden // 4)))


def llama_405b() -> Shape:
    """Llama-3.1-405B: 126 layers of hidden size 16384."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
        "hidden_act": "silu",
        "hidden_size": 16384,
        "initializer_range": 0.02,
        "intermediate_size": 53248,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 128,
        "num_hidden_layers": 126,
        "num_key_value_heads": 8,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.42.3",
        "use_cache": True,
        "vocab_size": 128256,
    }
    return Shape(config, tuple(_llama_tensors(126, 16384, 53248, 128256, 1024)))


def deepseek_v3() -> Shape:
    """DeepSeek-V3: FP8 with a scale for each block of 128 x 128, 256 experts, a next-token layer after the last."""
    config = {
        "architectures": ["DeepseekV3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "ep_size": 1,
        "first_k_dense_replace": 3,
        "hidden_act": "silu",
        "hidden_size": 7168,
        "initializer_range": 0.02,
        "intermediate_size": 18432,
        "kv_lora_rank": 512,
        "max_position_embeddings": 163840,
        "model_type": "deepseek_v3",
        "moe_intermediate_size": 2048,
        "moe_layer_freq": 1,
        "n_group": 8,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_attention_heads": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 61,
        "num_key_value_heads": 128,
        "num_nextn_predict_layers": 1,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "quantization_config": {
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": [128, 128],
        },
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000,
        "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid",
        "tie_word_embeddings": False,
        "topk_group": 4,
        "topk_method": "noaux_tc",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.33.1",
        "use_cache": True,
        "v_head_dim": 128,
        "vocab_size": 129280,
    }
    return Shape(config, tuple(_deepseek_tensors()))


def write_random(folder: Path, shape: Shape, shards: int) -> int:
    """Write a checkpoint of random finite weights and return its bytes of tensor data. It is not synced."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(_BLOCK_VALUES // 8, dtype=np.float32)
    block = np.tile((normal.view(np.uint32) >> np.uint32(16)).astype("<u2"), 8).tobytes()
    for filename, header, tensors in _shards(shape, shards):
        with (folder / filename).open("wb") as file:
            file.write(header)
            left = sum(map(_nbytes, tensors))
            place = 0
            while left:  # another place in the block each time, so that layers differ
                step = min(left, len(block) - place)
                file.write(memoryview(block)[place : place + step])
                left -= step
                place = int(rng.integers(0, _BLOCK_VALUES)) * 2 % (len(block) // 2)
    _write_small_files(folder, shape, shards)
    return sum(map(_nbytes, shape.tensors))


def write_headers_only(folder: Path, shape: Shape, shards: int) -> int:
    """Write a checkpoint whose tensor data are holes and return the bytes that it seems to have."""
    folder.mkdir(parents=True)
    for filename, header, tensors in _shards(shape, shards):
        with (folder / filename).open("wb") as file:
            file.write(header)
            file.truncate(len(header) + sum(map(_nbytes, tensors)))
    _write_small_files(folder, shape, shards)
    return sum(map(_nbytes, shape.tensors))


def _llama_tensors(layers: int, hidden: int, inner: int, vocab: int, kv: int) -> Iterator[Tensor]:
    yield "model.embed_tokens.weight", "BF16", (vocab, hidden)
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", "BF16", (hidden,)
        yield f"{prefix}.mlp.down_proj.weight", "BF16", (hidden, inner)
        yield f"{prefix}.mlp.gate_proj.weight", "BF16", (inner, hidden)
        yield f"{prefix}.mlp.up_proj.weight", "BF16", (inner, hidden)
        yield f"{prefix}.post_attention_layernorm.weight", "BF16", (hidden,)
        yield f"{prefix}.self_attn.k_proj.weight", "BF16", (kv, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", "BF16", (hidden, hidden)
        yield f"{prefix}.self_attn.q_proj.weight", "BF16", (hidden, hidden)
        yield f"{prefix}.self_attn.v_proj.weight", "BF16", (kv, hidden)
    yield "model.norm.weight", "BF16", (hidden,)
    yield "lm_head.weight", "BF16", (vocab, hidden)


def _deepseek_tensors() -> Iterator[Tensor]:
    hidden, inner, expert_inner, vocab = 7168, 18432, 2048, 129280
    yield "model.embed_tokens.weight", "BF16", (vocab, hidden)
    for layer in range(62):
        prefix = f"model.layers.{layer}"
        if layer == 61:  # the next-token layer has embeddings and a head of its own
            yield f"{prefix}.embed_tokens.weight", "BF16", (vocab, hidden)
            yield f"{prefix}.enorm.weight", "BF16", (hidden,)
            yield f"{prefix}.hnorm.weight", "BF16", (hidden,)
            yield f"{prefix}.eh_proj.weight", "BF16", (hidden, 2 * hidden)
        yield f"{prefix}.input_layernorm.weight", "BF16", (hidden,)
        yield f"{prefix}.self_attn.kv_a_layernorm.weight", "BF16", (512,)
        yield f"{prefix}.self_attn.q_a_layernorm.weight", "BF16", (1536,)
        for name, rows, columns in (
            ("kv_a_proj_with_mqa", 576, hidden),
            ("kv_b_proj", 32768, 512),
            ("o_proj", hidden, 16384),
            ("q_a_proj", 1536, hidden),
            ("q_b_proj", 24576, 1536),
        ):
            yield from _fp8(f"{prefix}.self_attn.{name}", rows, columns)
        if layer < 3:
            yield from _fp8_mlp(f"{prefix}.mlp", hidden, inner)
        else:
            for expert in range(256):
                yield from _fp8_mlp(f"{prefix}.mlp.experts.{expert}", hidden, expert_inner)
            yield f"{prefix}.mlp.gate.e_score_correction_bias", "F32", (256,)
            yield f"{prefix}.mlp.gate.weight", "BF16", (256, hidden)
            yield from _fp8_mlp(f"{prefix}.mlp.shared_experts", hidden, expert_inner)
        yield f"{prefix}.post_attention_layernorm.weight", "BF16", (hidden,)
        if layer == 61:
            yield f"{prefix}.shared_head.head.weight", "BF16", (vocab, hidden)
            yield f"{prefix}.shared_head.norm.weight", "BF16", (hidden,)
    yield "model.norm.weight", "BF16", (hidden,)
    yield "lm_head.weight", "BF16", (vocab, hidden)


def _fp8_mlp(prefix: str, hidden: int, inner: int) -> Iterator[Tensor]:
    yield from _fp8(f"{prefix}.down_proj", hidden, inner)
    yield from _fp8(f"{prefix}.gate_proj", inner, hidden)
    yield from _fp8(f"{prefix}.up_proj", inner, hidden)


def _fp8(name: str, rows: int, columns: int) -> Iterator[Tensor]:
    yield f"{name}.weight", "F8_E4M3", (rows, columns)
    yield f"{name}.weight_scale_inv", "F32", (-(-rows // 128), -(-columns // 128))


def _nbytes(tensor: Tensor) -> int:
    nbytes = _ELEMENT_NBYTES[tensor[1]]
    for size in tensor[2]:
        nbytes *= size
    return nbytes


def _shards(shape: Shape, shards: int) -> Iterator[tuple[str, bytes, list[Tensor]]]:
    """Each shard's name, header and tensors: cut in model order, as ``save_pretrained`` does, by equal bytes."""
    limit = sum(map(_nbytes, shape.tensors)) / shards
    groups: list[list[Tensor]] = [[] for _ in range(shards)]
    passed = 0
    for tensor in shape.tensors:
        groups[min(shards - 1, int(passed / limit))].append(tensor)
        passed += _nbytes(tensor)
    assert all(groups), "more shards than large tensors"
    for number, group in enumerate(groups, start=1):
        # Larger elements first, then by name: the order in which the safetensors library writes.
        group.sort(key=lambda tensor: (-_ELEMENT_NBYTES[tensor[1]], tensor[0]))
        yield _filename(number, shards), _header(group), group


def _filename(number: int, shards: int) -> str:
    return "model.safetensors" if shards == 1 else f"model-{number:05d}-of-{shards:05d}.safetensors"


def _header(tensors: Iterable[Tensor]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for tensor in tensors:
        name, dtype, dims = tensor
        stop = start + _nbytes(tensor)
        entries[name] = {"dtype": dtype, "shape": dims, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_small_files(folder: Path, shape: Shape, shards: int) -> None:
    if shards > 1:
        weight_map = {name: filename for filename, _, tensors in _shards(shape, shards) for name, _, _ in tensors}
        index = {"metadata": {"total_size": sum(map(_nbytes, shape.tensors))}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    (folder / "config.json").write_text(json.dumps(shape.config, indent=2) + "\n")
    (folder / "generation_config.json").write_text('{\n  "bos_token_id": 1,\n  "eos_token_id": 2\n}\n')
    (folder / "tokenizer_config.json").write_text('{\n  "model_max_length": 32768\n}\n')


def _main() -> None:
    """``python -m benchmarks.sources FOLDER SHAPE SHARDS [LAYERS HIDDEN INNER VOCAB]``, in a process of its own.

    The peak memory of a process counts from its parent's, so the parent that measures must stay small.
    """
    folder, name, shards, *sizes = sys.argv[1:]
    if name == "mistral":
        layers, hidden, inner, vocab = map(int, sizes)
        shape = mistral(layers=layers, hidden=hidden, inner=inner, vocab=vocab)
        print(write_random(Path(folder), shape, int(shards)))
    else:
        giants = {"llama_405b": llama_405b, "deepseek_v3": deepseek_v3}
        print(write_headers_only(Path(folder), giants[name](), int(shards)))


if __name__ == "__main__":
    _main()
