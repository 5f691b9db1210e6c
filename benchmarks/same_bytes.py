"""Do two versions of this program write the same bytes? ``python -m benchmarks.same_bytes OLD_CHECKOUT [NEW_CHECKOUT]``

For a change that should change nothing: many small jobs of the real command line, on tiny random models of many types,
are run once with the package of each checkout, and all that they leave behind is compared byte by byte, what they
publish on a loopback Hub included. A difference in the model card, the layer map or the provenance is told, and no
more; any other makes the exit code 1, and so does a job that both versions refuse, or both accept, against the table
below. Each output of the old version is also given to the new version's ``verify``, whose answer is told.
"""

import argparse
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, deserialize
from safetensors.torch import load_file, save_file

PROJECT = Path(__file__).resolve().parent.parent
JOBS_AT_ONCE = 2
TIMEOUT = 120  # seconds for one command
FOR_PEOPLE = ("README.md", "layer_map.svg", "solar_upscale.json")

Tensors = dict[str, torch.Tensor]
Files = dict[str, bytes]
Fields = dict[str, Any]
Edit = Callable[[Path], None]


# ---------------------------------------------------------------- sources: what is done to a saved model


def fields(*left_out: str, **values: Any) -> Edit:
    """Set fields of config.json, and leave some out."""

    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        kept = {name: value for name, value in config.items() if name not in left_out}
        (folder / "config.json").write_text(json.dumps(kept | values, indent=2))

    return edit


def beside(contents: Mapping[str, str | Mapping[str, Any]]) -> Edit:
    """Put files beside the weights. The fields of a mapping join those of a JSON file that is there already."""

    def edit(folder: Path) -> None:
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            if isinstance(content, str):
                path.write_text(content)
            else:
                before = json.loads(path.read_text()) if path.exists() else {}
                path.write_text(json.dumps({**before, **content}, indent=2))

    return edit


def sharded(count: int) -> Edit:
    """Cut model.safetensors into shards with an index."""

    def edit(folder: Path) -> None:
        tensors = _take(folder)
        weight_map: dict[str, str] = {}
        for number, names in enumerate(_cut(sorted(tensors), count), start=1):
            filename = f"model-{number:05d}-of-{count:05d}.safetensors"
            save_file({name: tensors[name] for name in names}, folder / filename, {"format": "pt"})
            weight_map |= dict.fromkeys(names, filename)
        _write_index(folder / "model.safetensors.index.json", tensors, weight_map)

    return edit


def torch_file(count: int = 1, *, legacy: bool = False, tied: bool = False) -> Edit:
    """Keep the weights in pytorch_model.bin, or in several; if tied, with a head that shares the embedding's bytes."""

    def edit(folder: Path) -> None:
        tensors = _take(folder)
        if tied:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        weight_map: dict[str, str] = {}
        for number, names in enumerate(_cut(sorted(tensors), count), start=1):
            filename = "pytorch_model.bin" if count == 1 else f"pytorch_model-{number:05d}-of-{count:05d}.bin"
            part = {name: tensors[name] for name in names}
            torch.save(part, folder / filename, _use_new_zipfile_serialization=not legacy)
            weight_map |= dict.fromkeys(names, filename)
        if count > 1:
            _write_index(folder / "pytorch_model.bin.index.json", tensors, weight_map)

    return edit


def last_shard_lost(folder: Path) -> None:
    """Have the index name a file that is not there."""
    max(folder.glob("*.safetensors")).unlink()


def next_token_layer(folder: Path) -> None:
    """Add a next-token layer, numbered after the last layer, as DeepSeek-V3 and GLM-4.5 store it."""
    tensors = _take(folder)
    count = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    last, added = f"model.layers.{count - 1}.", f"model.layers.{count}."
    tensors |= {name.replace(last, added): _like(each) for name, each in tensors.items() if name.startswith(last)}
    tensors |= {f"{added}{norm}.weight": torch.randn(32) for norm in ("enorm", "hnorm")}
    _put(folder, tensors | {f"{added}eh_proj.weight": torch.randn(32, 64)})
    fields(num_nextn_predict_layers=1, moe_layer_freq=1)(folder)


def next_token_module(folder: Path) -> None:
    """Add a next-token layer in a module of its own, as Qwen3-Next stores it."""
    tensors = _take(folder)
    first, added = "model.layers.0.", "mtp.layers.0."
    tensors |= {name.replace(first, added): _like(each) for name, each in tensors.items() if name.startswith(first)}
    _put(folder, tensors | {"mtp.fc.weight": torch.randn(32, 64), "mtp.norm.weight": torch.randn(32)})


def quantised(section: Mapping[str, Any], pack: Callable[[int, int], Tensors]) -> Edit:
    """Put what ``pack`` makes of rows and columns in place of the layers' matrices, save in layer 1 and an MLP."""
    plain = re.compile(r"layers\.(1\.|6\.mlp)")

    def edit(folder: Path) -> None:
        tensors = _take(folder)
        matrices = [name for name in tensors if re.match(r"model\.layers\..*_proj\.weight$", name)]
        for name in matrices:
            if not plain.search(name):
                parts = pack(*tensors.pop(name).shape)
                tensors |= {f"{name.removesuffix('weight')}{part}": tensor for part, tensor in parts.items()}
        _put(folder, tensors)
        fields(quantization_config=dict(section))(folder)

    return edit


def mxfp4(folder: Path) -> None:
    """Put the experts of gpt-oss into 4 bits: two values a byte, and an exponent for every 32 values."""
    tensors = _take(folder)
    for name in [name for name in tensors if name.endswith((".gate_up_proj", ".down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        shape = (experts, outputs, inputs // 32)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(0, 256, shape, dtype=torch.uint8)
    _put(folder, tensors)
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"]
    fields(quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": skipped})(folder)


def _gptq(rows: int, columns: int) -> Tensors:
    groups = columns // 16
    order = torch.randint(0, groups, (columns,), dtype=torch.int32)
    scales = torch.rand(groups, rows).half()
    return {
        "qweight": _words(columns // 8, rows),
        "qzeros": _words(groups, rows // 8),
        "scales": scales,
        "g_idx": order,
    }


def _awq(rows: int, columns: int) -> Tensors:
    groups = columns // 16
    scales = torch.rand(groups, rows).half()
    return {"qweight": _words(columns, rows // 8), "qzeros": _words(groups, rows // 8), "scales": scales}


def _packed(rows: int, columns: int) -> Tensors:
    scale = torch.rand(rows, columns // 16).bfloat16()
    return {
        "weight_packed": _words(rows, columns // 8),
        "weight_scale": scale,
        "weight_shape": torch.tensor([rows, columns]),
    }


def _fp8(rows: int, columns: int) -> Tensors:
    return {"weight": torch.randn(rows, columns).to(torch.float8_e4m3fn), "weight_scale_inv": torch.rand(1, 1)}


def _words(*shape: int) -> torch.Tensor:
    return torch.randint(-(2**31), 2**31, shape, dtype=torch.int32)


def _like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.randn(tensor.shape).to(tensor.dtype)


def _take(folder: Path) -> Tensors:
    """The tensors of model.safetensors, which is removed."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return tensors


def _put(folder: Path, tensors: Tensors) -> None:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _cut(names: Sequence[str], count: int) -> list[Sequence[str]]:
    return [names[i * len(names) // count : (i + 1) * len(names) // count] for i in range(count)]


def _write_index(path: Path, tensors: Tensors, weight_map: Mapping[str, str]) -> None:
    size = sum(tensor.nbytes for tensor in tensors.values())
    path.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}, indent=2))


# ---------------------------------------------------------------- sources: the models


@dataclass(frozen=True, slots=True)
class Tiny:
    """A tiny random model: its config, what is done once it is saved, and the auto class that builds it."""

    config: Mapping[str, Any]
    edits: tuple[Edit, ...] = ()
    auto: str = "AutoModelForCausalLM"
    dtype: torch.dtype = torch.float32

    def but(self, *edits: Edit) -> "Tiny":
        """The same model with more done to it."""
        return replace(self, edits=self.edits + edits)


def tiny(model_type: str, *edits: Edit, auto: str = "AutoModelForCausalLM", **settings: Any) -> Tiny:
    """A model whose config has Llama's fields, and the settings given."""
    return Tiny({**_SIZES, "model_type": model_type, **settings}, edits, auto)


def build(source: Tiny, folder: Path) -> None:
    """Write the model. No two of its tensors are alike, norms included; they follow from the folder's name."""
    torch.manual_seed(zlib.crc32(folder.name.encode()))
    config = transformers.AutoConfig.for_model(**source.config)
    model = getattr(transformers, source.auto).from_config(config)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape))
    model.to(source.dtype).save_pretrained(folder)
    for edit in source.edits:
        edit(folder)


_MASKED, _SEQ2SEQ, _IMAGE_TEXT = "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM", "AutoModelForImageTextToText"
_SLIDING, _FULL, _LINEAR = "sliding_attention", "full_attention", "linear_attention"

# fmt: off
_TOKENS: Fields = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_SIZES: Fields = {
    **_TOKENS, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64, "num_attention_heads": 4,
    "num_hidden_layers": 8, "num_key_value_heads": 2,
}
_THIN: Fields = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
_HEAD: Fields = {"head_dim": 8}
_EXPERTS: Fields = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_ROUTED: Fields = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1, "n_group": 1,
    "topk_group": 1,
}
_LATENT: Fields = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
_INDEXER: Fields = {"index_n_heads": 2, "index_head_dim": 8, "index_topk": 4}
_DELTA: Fields = {
    "linear_num_key_heads": 4, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}
_NEMOTRON: Fields = {
    **_HEAD, "num_hidden_layers": None, "n_groups": 1, "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8,
    "moe_latent_size": None, "n_routed_experts": 4, "moe_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 16,
}
_GEMMA: Fields = {
    **_HEAD, "sliding_window": 4, "hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": 64,
    "layer_types": [_SLIDING, _SLIDING, _FULL, _SLIDING, _SLIDING, _FULL, _SLIDING, _FULL],
}
_GPT: Fields = {**_TOKENS, "n_embd": 32, "n_head": 4, "n_layer": 8, "n_positions": 64}
_BART: Fields = {
    **_TOKENS, "d_model": 32, "encoder_layers": 5, "decoder_layers": 8, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "decoder_start_token_id": 1,
}
_VISION: Fields = {
    "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3, "image_size": 32,
    "patch_size": 8,
}

_FP8: Fields = {
    "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
    "modules_to_not_convert": ["lm_head", "model.layers.1", "model.layers.6.mlp"],
}
_GPTQ: Fields = {
    "quant_method": "gptq", "bits": 4, "group_size": 16,
    "dynamic": {
        r"-:model\.layers\.1\..*": {}, r"-:.*\.(6)\.mlp\..*": {}, r"+:.*\.4\.self_attn\.q_proj": {"bits": 4},
    },
}
_AWQ: Fields = {
    "quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm",
    "modules_to_not_convert": ["lm_head", "layers.1.", "layers.6.mlp"],
}
_COMPRESSED: Fields = {
    "quant_method": "compressed-tensors", "format": "pack-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int"}}},
    "ignore": ["lm_head", r"re:model\.layers\.1\..*", r"re:.*layers\.6\.mlp\..*"],
}
_ALONG = beside({
    "LICENSE": "terms\n",
    "README.md": "---\nlicense: apache-2.0\nlanguage: [en]\ntags: [small]\nbase_model: org/base\n---\n# Small\n",
    "chat_template.jinja": "{{ messages }}\n",
    "extra/notes.txt": "in a folder\n",
    "generation_config.json": {"temperature": 0.6},
    "modeling_own.py": "class Own: ...\n",
    "preprocessor_config.json": {},
    "special_tokens_map.json": {},
    "tokenizer.json": {"version": "1.0"},
    "tokenizer.model": "pieces",
    "tokenizer_config.json": {"model_max_length": 64},
})

_MISTRAL = tiny("mistral")
_LLAMA = replace(tiny("llama"), dtype=torch.bfloat16)
_DEEPSEEK = tiny("deepseek_v3", next_token_layer, **_LATENT, **_ROUTED, first_k_dense_replace=2)

SOURCES: Mapping[str, Tiny] = {
    # One plain decoder in every kind of file and dtype
    "mistral": _MISTRAL,
    "mistral-sharded": _MISTRAL.but(sharded(3), _ALONG),
    "mistral-bin": _MISTRAL.but(torch_file()),
    "mistral-bin-sharded": _MISTRAL.but(torch_file(3)),
    "mistral-bin-legacy": _MISTRAL.but(torch_file(legacy=True)),
    "mistral-incomplete": _MISTRAL.but(sharded(3), last_shard_lost),
    "mistral-adapter": _MISTRAL.but(beside({"adapter_config.json": {}})),
    "llama-bf16": _LLAMA,
    "llama-f16": replace(_LLAMA, dtype=torch.float16),
    "llama-f64": replace(_LLAMA, dtype=torch.float64),
    "llama-tied": tiny("llama", tie_word_embeddings=True),
    "llama-tied-bin": tiny("llama", torch_file(tied=True), tie_word_embeddings=True),
    "llama-own-field": tiny("llama", fields(global_block_period=4)),
    "unknown": _LLAMA.but(
        fields(architectures=["FrobForCausalLM"], auto_map={"AutoConfig": "frob.FrobConfig"}, model_type="frob"),
        beside({"frob.py": "class FrobConfig: ...\n"}),
    ),
    # Depths of the shipped recipes
    "mistral-32": tiny("mistral", **_THIN | {"num_hidden_layers": 32}),
    "llama-32": tiny("llama", **_THIN | {"num_hidden_layers": 32}),
    "qwen2-28": tiny("qwen2", **_THIN | {"num_hidden_layers": 28}),
    "gpt_bigcode-52": Tiny({**_GPT, "model_type": "gpt_bigcode", "n_layer": 52, "n_embd": 16, "n_head": 2}),
    # Quantised
    "llama-fp8": _LLAMA.but(quantised(_FP8, _fp8)),
    "llama-gptq": _LLAMA.but(quantised(_GPTQ, _gptq), beside({"quantize_config.json": _GPTQ})),
    "llama-awq": _LLAMA.but(quantised(_AWQ, _awq)),
    "llama-compressed": _LLAMA.but(quantised(_COMPRESSED, _packed)),
    "gpt_oss-mxfp4": tiny(
        "gpt_oss", mxfp4, **_HEAD, intermediate_size=32, num_local_experts=4, num_experts_per_tok=2, sliding_window=4,
    ),
    # Experts
    "mixtral": tiny("mixtral", num_local_experts=4, num_experts_per_tok=2),
    "qwen2_moe": tiny("qwen2_moe", **_EXPERTS, decoder_sparse_step=2, shared_expert_intermediate_size=16),
    "qwen3_moe": tiny("qwen3_moe", **_EXPERTS, **_HEAD, mlp_only_layers=[1, 4]),
    "deepseek_v3": _DEEPSEEK.but(sharded(4)),
    "deepseek_v3-fp8": _DEEPSEEK.but(quantised(_FP8, _fp8)),
    "glm4_moe": tiny("glm4_moe", next_token_layer, **_ROUTED, **_HEAD, first_k_dense_replace=1),
    "glm_moe_dsa": tiny(
        "glm_moe_dsa", **_LATENT, **_ROUTED, **_INDEXER,
        indexer_types=["full", "shared", "full", "full", "shared", "full", "shared", "full"],
    ),
    "llama4_text": tiny(
        "llama4_text", **_HEAD, num_local_experts=4, interleave_moe_layer_step=2, intermediate_size_mlp=48,
        attention_chunk_size=8,
    ),
    # Hybrids
    "qwen3_next": tiny(
        "qwen3_next", next_token_module, fields("layer_types", full_attention_interval=4), **_EXPERTS, **_DELTA,
        **_HEAD, shared_expert_intermediate_size=16, mlp_only_layers=[1],
    ),
    "jamba": tiny(
        "jamba", fields("layer_types", "layers_block_type"), num_hidden_layers=16, num_experts=2, mamba_d_state=8,
        mamba_dt_rank=8, use_mamba_kernels=False,
    ),
    "nemotron_h": tiny("nemotron_h", **_NEMOTRON, layers_block_type=[_LINEAR, "moe", _FULL, "mlp"] * 2),
    "nemotron_h-pattern": tiny(
        "nemotron_h", fields("layers_block_type", hybrid_override_pattern="M-M-M-*M", num_hidden_layers=8),
        **_NEMOTRON, layers_block_type=[_LINEAR, "mlp"] * 3 + [_FULL, _LINEAR],
    ),
    "bamba": tiny(
        "bamba", attn_layer_indices=[2, 5], mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8, mamba_n_groups=1,
    ),
    "kimi_linear": tiny(
        "kimi_linear", **_LATENT, **_EXPERTS, head_dim=12, num_experts_per_token=2, num_shared_experts=1,
        first_k_dense_replace=1,
        linear_attn_config={
            "full_attn_layers": [4, 8], "kda_layers": [1, 2, 3, 5, 6, 7], "head_dim": 8, "num_heads": 4,
            "short_conv_kernel_size": 4,
        },
    ),
    "minimax": tiny("minimax", fields("layer_types"), **_HEAD, num_local_experts=4, num_experts_per_tok=2),
    "zamba2": tiny(
        "zamba2", num_key_value_heads=4, layers_block_type=[_LINEAR, _LINEAR, "hybrid", _LINEAR] * 2, mamba_ngroups=1,
        n_mamba_heads=4, mamba_headdim=16, mamba_d_state=8, num_mem_blocks=2, adapter_rank=4,
    ),
    "recurrent_gemma": tiny("recurrent_gemma", **_HEAD, lru_width=32),
    # Windows, rotations, keys and embeddings that belong to layers
    "qwen2-windows": tiny("qwen2", use_sliding_window=True, max_window_layers=4, sliding_window=4),
    "gemma2": tiny("gemma2", fields("layer_types"), **_HEAD, sliding_window=4),
    "gemma3_text": tiny(
        "gemma3_text", fields("layer_types", "_sliding_window_pattern", sliding_window_pattern=6), **_HEAD,
        num_hidden_layers=12, sliding_window=4,
    ),
    "olmo3": tiny("olmo3", sliding_window=4),
    "smollm3": tiny("smollm3"),
    "minicpm3": tiny("minicpm3", **_LATENT, scale_depth=1.4),
    "gemma4_text": tiny("gemma4_text", **_GEMMA),
    "gemma4_text-shared": tiny("gemma4_text", **_GEMMA, num_kv_shared_layers=2),
    "gemma3n_text": tiny(
        "gemma3n_text", **_GEMMA, num_kv_shared_layers=2, intermediate_size=[48] * 8, laurel_rank=4,
        activation_sparsity_pattern=[0.9] * 3 + [0.0] * 5,
    ),
    # Other names for layers and counts
    "gpt2": Tiny({**_GPT, "model_type": "gpt2"}),
    "gpt2-inverse": Tiny({**_GPT, "model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}),
    "gpt_neo": Tiny({
        **_TOKENS, "model_type": "gpt_neo", "hidden_size": 32, "intermediate_size": 48, "num_layers": 8, "num_heads": 4,
        "attention_types": [[["global", "local"], 4]], "window_size": 4,
    }),
    "gpt_neox": tiny("gpt_neox"),
    "hrm_text": Tiny({
        **_TOKENS, "model_type": "hrm_text", "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4,
        "num_layers_per_stack": 8, "max_position_embeddings": 64, "head_dim": 8,
    }),
    "bert": tiny("bert", auto=_MASKED),
    "modernbert": tiny("modernbert", auto=_MASKED),
    "esm": tiny("esm", auto=_MASKED),
    "xlm": Tiny(
        {**_TOKENS, "model_type": "xlm", "n_words": 64, "emb_dim": 32, "n_heads": 4, "n_layers": 8}, auto=_MASKED,
    ),
    # An encoder and a decoder
    "t5": Tiny(
        {
            **_TOKENS, "model_type": "t5", "d_model": 32, "d_ff": 48, "d_kv": 8, "num_heads": 4, "num_layers": 6,
            "num_decoder_layers": 8, "decoder_start_token_id": 0,
        },
        auto=_SEQ2SEQ,
    ),
    "bart": Tiny({**_BART, "model_type": "bart", "max_position_embeddings": 64}, auto=_SEQ2SEQ),
    "whisper": Tiny(
        {**_BART, "model_type": "whisper", "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16},
        (beside({"generation_config.json": {"alignment_heads": [[1, 0], [3, 1], [7, 2]]}}),),
        auto="AutoModelForSpeechSeq2Seq",
    ),
    # Models made of models
    "llava": Tiny(
        {
            "model_type": "llava", "image_token_index": 60, "text_config": {**_SIZES, "model_type": "llama"},
            "vision_config": {**_VISION, "model_type": "clip_vision_model", "projection_dim": 32},
        },
        auto=_IMAGE_TEXT,
    ),
    "qwen2_vl": Tiny(
        {
            "model_type": "qwen2_vl",
            "text_config": {
                **_SIZES, "model_type": "qwen2_vl_text",
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
            },
            "vision_config": {"depth": 3, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 8},
        },
        auto=_IMAGE_TEXT,
    ),
    "idefics": tiny(
        "idefics", auto=_IMAGE_TEXT, num_key_value_heads=4, additional_vocab_size=0, cross_layer_interval=2,
        vision_config={
            "embed_dim": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3,
            "image_size": 32, "patch_size": 8,
        },
    ),
    "mistral_large4": Tiny(
        {
            "model_type": "mistral_large4",
            "text_config": {
                **_SIZES, **_LATENT, **_ROUTED, **_INDEXER, "kv_source_layers": [0, 0, 2, 3, 2, 5, 6, 6],
            },
            "vision_config": {**_VISION, "model_type": "pixtral", "head_dim": 8},
        },
        auto=_IMAGE_TEXT,
    ),
}
# fmt: on


# ---------------------------------------------------------------- jobs


@dataclass(frozen=True, slots=True)
class Job:
    """One use of the command line, ``PLACES WORDS``, and maybe a second one, ``then``.

    SOURCE stands for the source's folder, or where ``hub`` is set for its id, and RECIPE for a file of that text.
    ``held`` is what OUT holds beforehand; ``result`` is what ``verify`` is asked about.
    """

    name: str
    source: str
    words: str
    places: str = "SOURCE out"
    then: str = ""
    recipe: str = ""
    held: Mapping[str, str] = field(default_factory=dict)
    hub: bool = False
    result: str = "out"
    refused: bool = False

    def commands(self, source: Path, recipe: Path) -> list[list[str]]:
        """The words of each command."""
        lines = [f"{self.places} {self.words}", *([self.then] if self.then else [])]
        stands = {"SOURCE": self.source_text(source), "RECIPE": str(recipe)}
        return [[stands.get(word, word) for word in shlex.split(line)] for line in lines]

    def source_text(self, folder: Path) -> str:
        """The source as a word of the command line."""
        return SOURCE_ID if self.hub else str(folder)


def refused(name: str, source: str, words: str, **more: Any) -> Job:
    """A job that must fail."""
    return Job(f"refused: {name}", source, words, refused=True, **more)


# What the loopback Hub holds, and where jobs publish.
SOURCE_ID, HELD, PUBLISHED = "org/small", "me/held", "me/deep"

_SOLAR = "--layers 'range(0,6)' 'range(2,8)'"
_TWICE = "--layers '[i for i in range(n) for _ in range(2)]'"
_ON_HUB = "mistral-sharded"

_OWN_RECIPE = """\
source: SOURCE
layers: ["0:6", {layers: "2:6", scale: 0.25}, 6, {layers: "7", scale: 0}]
max_shard_size: 64KB
"""
_FUSION_BENCH_RECIPE = """\
_target_: fusion_bench.method.DepthUpscalingAlgorithm
layer_indices: ["range(0,6)", 4, "range(2,8)"]
"""
_MERGEKIT_RECIPE = """\
slices:
  - sources: [{model: SOURCE, layer_range: [0, 6]}]
  - sources:
      - model: SOURCE
        layer_range: [2, 8]
        parameters:
          scale:
            - {filter: o_proj, value: 0.5}
            - {filter: down_proj, value: 0.5}
            - value: 1.0
merge_method: passthrough
dtype: float32
"""
_OTHER_DTYPE_RECIPE = _MERGEKIT_RECIPE.replace("float32", "bfloat16")
_TWO_MODELS_RECIPE = """\
slices:
  - sources: [{model: org/one, layer_range: [0, 6]}]
  - sources: [{model: org/two, layer_range: [2, 8]}]
merge_method: passthrough
"""

JOBS: tuple[Job, ...] = (
    # Files and layouts
    Job("single file", "mistral", _SOLAR),
    Job("single file, shards of 64 kB", "mistral", f"{_SOLAR} --max-shard-size 64KB"),
    Job("three shards, mirrored", "mistral-sharded", _SOLAR),
    Job("three shards, shards of 100 kB", "mistral-sharded", f"{_SOLAR} --max-shard-size 100KB"),
    Job("three shards, two workers", "mistral-sharded", f"{_SOLAR} --workers 2"),
    Job("OUT is replaced", "mistral-sharded", f"{_SOLAR} --overwrite", held={"config.json": "{}", "notes": "old"}),
    Job("the same job twice", "mistral-sharded", _SOLAR, then=f"SOURCE out {_SOLAR}"),
    Job("pytorch_model.bin", "mistral-bin", _SOLAR),
    Job("pytorch_model.bin, shards of 64 kB", "mistral-bin", f"{_SOLAR} --max-shard-size 64KB"),
    Job("pytorch_model.bin in three, split", "mistral-bin-sharded", f"{_SOLAR} --init split"),
    Job("pytorch_model.bin, older format", "mistral-bin-legacy", _SOLAR),
    Job("pytorch_model.bin, tied", "llama-tied-bin", _SOLAR),
    Job("tied embedding", "llama-tied", _SOLAR),
    # Patterns
    Job("pruned", "mistral-sharded", "--layers 0:3 5:8"),
    Job("reordered", "mistral-sharded", "--layers 0 3 2 1 4 6 5 7"),
    Job("each layer twice in place", "mistral", _TWICE),
    Job("the last layers", "mistral", "--layers -4: 7"),
    # Starts
    Job("identity", "mistral-sharded", f"{_SOLAR} --init identity"),
    Job("identity, each layer twice in place", "llama-bf16", f"{_TWICE} --init identity"),
    Job("split, BF16", "llama-bf16", f"{_SOLAR} --init split"),
    Job("split, F16, shards of 30 kB", "llama-f16", f"{_SOLAR} --init split --max-shard-size 30KB"),
    Job("scale, F64", "llama-f64", f"{_SOLAR} --init scale=1,0.3"),
    Job("scale, three uses", "llama-bf16", "--layers 0:6 2:6 2:8 --init scale=0.5,0.3,0.2"),
    # Recipes
    Job("own recipe, factors", "mistral-sharded", "--config RECIPE", recipe=_OWN_RECIPE),
    Job("own recipe, names the source", "mistral", "--config RECIPE", "out", recipe=_OWN_RECIPE),
    Job("FusionBench's recipe", "mistral", "--config RECIPE", recipe=_FUSION_BENCH_RECIPE),
    Job("mergekit's recipe", "mistral", "--config RECIPE", "out", recipe=_MERGEKIT_RECIPE),
    Job("shipped: solar-10.7b", "mistral-32", "--config solar-10.7b"),
    Job("shipped: yi-9b, split", "llama-32", "--config yi-9b --init split"),
    Job("shipped: llama-pro-8.3b", "llama-32", "--config llama-pro-8.3b"),
    Job("shipped: prune-llama3.1-8b-na0s", "llama-32", "--config prune-llama3.1-8b-na0s"),
    Job("shipped: qwen2.5-7b-x2-56l", "qwen2-28", "--config qwen2.5-7b-x2-56l"),
    Job("shipped: granite-34b-code", "gpt_bigcode-52", "--config granite-34b-code"),
    # Quantised
    Job("FP8 with scales", "llama-fp8", _SOLAR),
    Job("FP8 with scales, identity", "llama-fp8", f"{_SOLAR} --init identity"),
    Job("GPTQ", "llama-gptq", _SOLAR),
    Job("AWQ", "llama-awq", "--layers 0:5 1:4 6 5 7"),
    Job("compressed-tensors", "llama-compressed", _SOLAR),
    Job("MXFP4", "gpt_oss-mxfp4", _SOLAR),
    # Experts
    Job("mixtral, split", "mixtral", f"{_SOLAR} --init split"),
    Job("mixtral, pruned, shards of 200 kB", "mixtral", "--layers 0:2 5:8 --max-shard-size 200KB"),
    Job("qwen2_moe, every second layer sparse", "qwen2_moe", _SOLAR),
    Job("qwen3_moe, two layers dense", "qwen3_moe", "--layers 0:5 1:8"),
    Job("deepseek_v3, next-token layer", "deepseek_v3", "--layers 0:6 4:8"),
    Job("deepseek_v3, next-token layer dropped", "deepseek_v3", "--layers 0:6 4:8 --drop-mtp"),
    Job("deepseek_v3, FP8", "deepseek_v3-fp8", "--layers 0:6 4:8"),
    Job("glm4_moe, next-token layer", "glm4_moe", _SOLAR),
    Job("glm_moe_dsa, shared indexers", "glm_moe_dsa", _SOLAR),
    Job("llama4_text", "llama4_text", "--layers 0:6 3:8"),
    # Hybrids
    Job("qwen3_next, next-token module", "qwen3_next", "--layers 0:7 4:8"),
    Job("qwen3_next, next-token module dropped", "qwen3_next", f"{_SOLAR} --drop-mtp"),
    Job("jamba", "jamba", "--layers 0:12 4:16"),
    Job("nemotron_h", "nemotron_h", "--layers 0:6 3:8"),
    Job("nemotron_h, kinds in a text", "nemotron_h-pattern", "--layers 0:6 3:8"),
    Job("bamba", "bamba", "--layers 0:6 3:8"),
    Job("kimi_linear", "kimi_linear", "--layers 0:6 3:8"),
    Job("minimax", "minimax", "--layers 0:6 3:8"),
    Job("zamba2, a shared module", "zamba2", "--layers 0:2 0:7 4:6 7"),
    Job("recurrent_gemma", "recurrent_gemma", "--layers 0:6 3:8"),
    # Windows, rotations, keys and embeddings that belong to layers
    Job("qwen2, windows in some layers", "qwen2-windows", "--layers 0:6 3:8"),
    Job("gemma2, split", "gemma2", "--layers 0:6 3:8 --init split"),
    Job("gemma3_text, out of its period", "gemma3_text", "--layers 0:9 4:12"),
    Job("olmo3", "olmo3", "--layers 0:6 3:8"),
    Job("smollm3", "smollm3", "--layers 0:6 3:8"),
    Job("minicpm3", "minicpm3", _SOLAR),
    Job("gemma4_text, embeddings, identity", "gemma4_text", f"{_SOLAR} --init identity"),
    Job("gemma4_text, shared keys", "gemma4_text-shared", _SOLAR),
    Job("gemma3n_text, embeddings, shared keys", "gemma3n_text", _SOLAR),
    # Other names for layers and counts
    Job("gpt2, identity", "gpt2", f"{_SOLAR} --init identity"),
    Job("gpt_neo", "gpt_neo", "--layers 0:6 3:8"),
    Job("gpt_neox", "gpt_neox", _SOLAR),
    Job("hrm_text, two stacks in step", "hrm_text", _SOLAR),
    Job("bert", "bert", _SOLAR),
    Job("modernbert", "modernbert", _SOLAR),
    Job("esm, a head over all layers", "esm", _SOLAR),
    Job("xlm, modules numbered side by side", "xlm", _SOLAR),
    Job("an unknown type, assumed uniform", "unknown", f"{_SOLAR} --assume-uniform"),
    # An encoder and a decoder
    Job("t5, decoder", "t5", _SOLAR),
    Job("t5, encoder", "t5", "--stack encoder --layers 0:4 2:6"),
    Job("bart, decoder", "bart", _SOLAR),
    Job("bart, encoder", "bart", "--stack model.encoder.layers --layers 0:4 2:5"),
    Job("whisper, decoder", "whisper", _SOLAR),
    Job("whisper, encoder", "whisper", "--stack encoder --layers 0:4 2:5"),
    # Models made of models
    Job("llava", "llava", _SOLAR),
    Job("qwen2_vl", "qwen2_vl", _SOLAR),
    Job("qwen2_vl, tower", "qwen2_vl", "--stack visual.blocks --assume-uniform --layers 0:2 1:3"),
    Job("idefics, a layer for every two", "idefics", _SOLAR),
    Job("mistral_large4, shared keys", "mistral_large4", _SOLAR),
    # The Hub
    Job("Hub: downloaded", _ON_HUB, _SOLAR, hub=True),
    Job("Hub: pytorch_model.bin downloaded", "mistral-bin-sharded", _SOLAR, hub=True),
    Job("Hub: a branch streamed, split", _ON_HUB, f"{_SOLAR} --stream --revision v1 --init split", hub=True),
    Job("Hub: published", _ON_HUB, f"{_SOLAR} --push-to-hub {PUBLISHED} --private", hub=True),
    Job(
        "Hub: streamed, published shard by shard",
        _ON_HUB,
        f"{_SOLAR} --stream --push-to-hub {PUBLISHED} --delete-local-shards",
        hub=True,
        result=PUBLISHED,
    ),
    Job(
        "Hub: published as a pull request",
        _ON_HUB,
        f"{_SOLAR} --stream --push-to-hub {HELD} --create-pr --commit-message Deeper",
        hub=True,
    ),
    Job("Hub: pushed over another model", _ON_HUB, _SOLAR, then=f"push out {HELD} --source SOURCE", hub=True),
    Job("Hub: pushed to a branch", _ON_HUB, _SOLAR, then=f"push out {PUBLISHED} --revision deeper", hub=True),
    # What must be refused
    refused("attention divided by the number", "gpt2-inverse", _SOLAR),
    refused("no period says it", "jamba", "--layers 0:12 3:16"),
    refused("a dense layer in the middle", "deepseek_v3", "--layers 0:6 0:8"),
    refused("shared keys out of order", "gemma4_text-shared", "--layers 0:3 5:8"),
    refused("a factor on FP8", "llama-fp8", f"{_SOLAR} --init split"),
    refused("identity of packed weights", "llama-gptq", f"{_SOLAR} --init identity"),
    refused("an unknown type", "unknown", _SOLAR),
    refused("an unknown field", "llama-own-field", _SOLAR),
    refused("a shard is missing", "mistral-incomplete", _SOLAR),
    refused("an adapter", "mistral-adapter", _SOLAR),
    refused("OUT holds something", "mistral", _SOLAR, held={"notes": "mine"}),
    refused("an empty range", "mistral", "--layers 'range(6,2)'"),
    refused("a layer that is not there", "mistral", "--layers 0:8 9"),
    refused("code in a pattern", "mistral", "--layers '[__import__(\"os\").getpid()]'"),
    refused("a stack that is not there", "mistral", f"{_SOLAR} --stack encoder"),
    refused("a recipe with an unknown key", "mistral", "--config RECIPE", recipe="layers: 0:6\ninits: copy\n"),
    refused("a recipe of two models", "mistral", "--config RECIPE", recipe=_TWO_MODELS_RECIPE),
    refused("a recipe of another dtype", "mistral", "--config RECIPE", recipe=_OTHER_DTYPE_RECIPE),
    refused("options that do not fit", "mistral", f"{_SOLAR} --private"),
    refused("Hub: pytorch_model.bin streamed", "mistral-bin-sharded", f"{_SOLAR} --stream", hub=True),
    refused("Hub: published over its source", _ON_HUB, f"{_SOLAR} --push-to-hub {SOURCE_ID}", hub=True),
)


# ---------------------------------------------------------------- running a job

TOKEN = "hf_" + "sameBytes" * 4


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command: its exit code, what it said, and the last line of its complaint."""

    code: int
    said: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one version made of a job: how it ended, and every file that it left, by name."""

    end: Done
    files: Files


@dataclass(frozen=True, slots=True)
class Result:
    """Both outcomes of a job, and what NEW's ``verify`` says of OLD's output, None where there is no output."""

    job: Job
    old: Outcome
    new: Outcome
    proof: Done | None


@dataclass(frozen=True, slots=True)
class Bench:
    """Where everything is: both checkouts, the sources' folder, a folder for the jobs', and the Hub's module."""

    old: Path
    new: Path
    sources: Path
    scratch: Path
    hub_module: Any

    def result(self, job: Job) -> Result:
        """Run a job with both versions; nothing of it stays on disk."""
        folder = self.scratch / re.sub(r"\W+", "-", job.name)
        folder.mkdir()
        (folder / "recipe.yaml").write_text(job.recipe.replace("SOURCE", str(self.sources / job.source)))
        try:
            old, proof = self._outcome(job, self.old, folder / "old", prover=self.new)
            new, _ = self._outcome(job, self.new, folder / "new", prover=None)
        finally:
            shutil.rmtree(folder)
        return Result(job, old, new, proof)

    def _outcome(self, job: Job, checkout: Path, folder: Path, prover: Path | None) -> tuple[Outcome, Done | None]:
        """Run a job with one version; ``prover`` is the version that verifies the output."""
        work, source = folder / "work", self.sources / job.source
        work.mkdir(parents=True)
        if job.held:
            beside(job.held)(_made(work / "out"))
        with self._hub(folder / "hub", source) if job.hub else nullcontext() as hub:
            for words in job.commands(source, folder.parent / "recipe.yaml"):
                end = run(checkout, words, work, hub)
                if end.code:
                    break
            files = left(work, hub)
            proof = None
            if prover and not end.code:
                proof = run(prover, ["verify", job.result, "--source", job.source_text(source)], work, hub)
        return Outcome(end, files), proof

    @contextmanager
    def _hub(self, folder: Path, source: Path) -> Iterator[Any]:
        """A Hub of its own for each run: the source, on main and on v1, and a model that is there already."""
        files = {path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()}
        with self.hub_module.HubServer(folder) as hub:
            hub.add_token(TOKEN, "me")
            hub.add_model(SOURCE_ID, files)
            hub.commit(SOURCE_ID, files, revision="v1")
            hub.add_model(HELD, {"README.md": b"theirs", "model.safetensors": b"old", "notes.md": b"kept"})
            yield hub


def run(checkout: Path, words: Sequence[str], folder: Path, hub: Any) -> Done:
    """Run the command line of a checkout's package in a folder, with that Hub or offline."""
    command = [sys.executable, "-m", "solar_upscale", *words]
    environment = _environment(checkout, folder.parent / "home", hub)
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return Done(-1, "", f"not finished after {TIMEOUT} s")
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    message = lines[-1].removeprefix("solar-upscale: ") if lines else "nothing was said"
    message = message.replace(f"{folder}{os.sep}", "")
    return Done(done.returncode, done.stdout, message.replace(hub.endpoint, _ENDPOINT) if hub else message)


def _environment(checkout: Path, home: Path, hub: Any) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    own = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    if hub is None:
        return kept | own | {"HF_HUB_OFFLINE": "1"}
    own |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    return kept | own


# Stands for the Hub's own address, which has another port each time.
_ENDPOINT = "http://hub"


def left(folder: Path, hub: Any) -> Files:
    """Every file below a folder, and every file of every branch on the Hub but the source's."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    if hub is None:
        return found
    for repo in hub.repos.values():
        for branch in repo.branches if repo.name != SOURCE_ID else ():
            place = f"{repo.name}@{branch}"
            found[place] = f"{repo.find(branch).title}\nprivate: {repo.private}\n".encode()
            found |= {f"{place}/{name}": data for name, data in hub.files(repo.name, branch).items()}
    return {name: data.replace(hub.endpoint.encode(), _ENDPOINT.encode()) for name, data in found.items()}


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


# ---------------------------------------------------------------- comparing


def unequal(result: Result) -> list[str]:
    """The names of the files that are not the same, or there once only."""
    old, new = result.old.files, result.new.files
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def differences(result: Result) -> dict[str, str]:
    """How each file that is not the same differs, by name."""
    old, new = result.old.files, result.new.files
    return {name: how_it_differs(name, old.get(name), new.get(name)) for name in unequal(result)}


def how_it_differs(name: str, old: bytes | None, new: bytes | None) -> str:
    """A few words on how a file differs; None is a file that is not there."""
    if old is None or new is None:
        return "only in OLD" if new is None else "only in NEW"
    try:
        if name.endswith(".safetensors"):
            return _how_tensors_differ(old, new)
        if name.endswith(".json"):
            return ", ".join(sorted(differing_keys(json.loads(old), json.loads(new)))) or "order or layout only"
        return _counted(differing_lines(old.decode(), new.decode()), "line")
    except (ValueError, SafetensorError):
        return f"{len(old)} bytes, now {len(new)}" if len(old) != len(new) else f"other {len(old)} bytes"


def differing_keys(old: Any, new: Any, place: str = "") -> set[str]:
    """The dotted keys whose values differ in two JSON values: + is new, - is gone, [*] is any place in a list."""
    if isinstance(old, dict) and isinstance(new, dict):
        dotted = {key: f"{place}.{key}" if place else key for key in {**old, **new}}
        odd = {f"{'-' if key in old else '+'}{dotted[key]}" for key in old.keys() ^ new.keys()}
        return odd.union(*(differing_keys(old[key], new[key], dotted[key]) for key in old.keys() & new.keys()))
    if isinstance(old, list) and isinstance(new, list):
        odd = set() if len(old) == len(new) else {f"{place}[*]"}
        return odd.union(*(differing_keys(a, b, f"{place}[*]") for a, b in zip(old, new, strict=False)))
    return set() if type(old) is type(new) and old == new else {place or "the whole value"}


def differing_lines(old: str, new: str) -> int:
    """How many lines differ; where a passage grew or shrank, its longer side counts."""
    steps = SequenceMatcher(None, old.splitlines(True), new.splitlines(True), autojunk=False).get_opcodes()
    return sum(max(b - a, d - c) for step, a, b, c, d in steps if step != "equal")


def _how_tensors_differ(old: bytes, new: bytes) -> str:
    before, after = _read_tensors(old), _read_tensors(new)
    odd = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return f"{_counted(len(odd), 'tensor')}, {odd[0]} first" if odd else "the same tensors, laid out otherwise"


def _read_tensors(data: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    return {name: (tensor["dtype"], tensor["shape"], bytes(tensor["data"])) for name, tensor in deserialize(data)}


def problems(result: Result) -> list[str]:
    """What is not as it must be, in a line each."""
    old, new = result.old.end, result.new.end
    if old.code != new.code:
        found = [f"exit code {_ended(old)}, now {_ended(new)}"]
    elif old.code and not result.job.refused:
        found = [f"both fail: {old.message}"]
    elif not old.code and result.job.refused:
        found = ["both accept what must be refused"]
    else:
        found = [f"{name}: {how}" for name, how in differences(result).items() if _basename(name) not in FOR_PEOPLE]
    return [f"{result.job.name}: {line}" for line in found]


def _ended(end: Done) -> str:
    return f"{end.code} ({end.message})" if end.code else "0"


def _basename(name: str) -> str:
    return name.rpartition("/")[2]


# ---------------------------------------------------------------- telling

_COLUMNS = ("job", "equal", "all others", "OLD's output in NEW", *FOR_PEOPLE)
_WIDTHS = (max(len(job.name) for job in JOBS), 5, 10, 19, 9, 13, 0)


def print_row(cells: Sequence[str]) -> None:
    print("  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip(), flush=True)


def print_result(result: Result) -> None:
    """The job's row of the table."""
    count = len({*result.old.files, *result.new.files})
    told = differences(result)
    for_people = [
        "; ".join(dict.fromkeys(how for name, how in told.items() if _basename(name) == kind)) or "="
        for kind in FOR_PEOPLE
    ]
    if result.old.end.code or result.new.end.code:
        for_people = [""] * len(FOR_PEOPLE)
    equal = f"{count - len(told)}/{count}" if count else ""
    others = "NO" if problems(result) else "="
    print_row([result.job.name, equal, others, verdict(result), *for_people])


def verdict(result: Result) -> str:
    """What NEW says of OLD's output, in a word or three."""
    if result.proof is None:
        return "refused by both" if result.old.end.code and result.new.end.code else ""
    if result.proof.code:
        return "REFUSED"
    return "accepted with notes" if notes(result) else "accepted"


def notes(result: Result) -> list[str]:
    """What ``verify`` adds to the line that says that all is right."""
    return result.proof.said.splitlines()[1:] if result.proof and not result.proof.code else []


def print_summary(results: Sequence[Result], seconds: float) -> bool:
    """What all the rows come to; returns whether everything is equal that must be."""
    print()
    _print_other_words(results)
    _print_proofs([result for result in results if result.proof is not None])
    found = [line for result in results for line in problems(result)]
    jobs = _counted(len(results), "job")
    if found:
        print(f"{jobs}: {_counted(len(found), 'difference')} ({seconds:.0f} s)")
        print("\n".join(f"  {line}" for line in found))
    else:
        print(f"{jobs}: all weights, indexes, configs and copied files equal ({seconds:.0f} s)")
    return not found


def _print_other_words(results: Sequence[Result]) -> None:
    for result in results:
        old, new = result.old.end, result.new.end
        if old.code and new.code and old.message != new.message:
            print(f"{result.job.name}, in other words\n  OLD: {old.message}\n  NEW: {new.message}")


def _print_proofs(results: Sequence[Result]) -> None:
    for note, count in Counter(note for result in results for note in notes(result)).items():
        print(f"verify, {_counted(count, 'job')}: {note}")
    refusals: dict[str, list[str]] = {}
    for result in results:
        if result.proof and result.proof.code:
            refusals.setdefault(result.proof.message, []).append(result.job.name)
    for message, names in refusals.items():
        print(f"verify refuses {_counted(len(names), 'output')} ({'; '.join(names)}): {message}")
    count = sum(map(len, refusals.values()))
    noted = sum(bool(notes(result)) for result in results)
    print(
        f"{_counted(len(results), 'output')} of OLD in NEW's verify: {len(results) - count - noted} accepted, "
        f"{noted} accepted with notes, {count} refused"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


# ---------------------------------------------------------------- main


def main() -> int:
    """Build the sources, run the jobs, and return the exit code."""
    parser = argparse.ArgumentParser(prog="same_bytes", description="Do two versions write the same bytes?")
    parser.add_argument("old", type=Path, metavar="OLD_CHECKOUT", help="its tests must hold hub_server.py")
    parser.add_argument("new", type=Path, metavar="NEW_CHECKOUT", nargs="?", default=PROJECT, help="default: this one")
    parser.add_argument("--only", metavar="TEXT", default="", help="only jobs with this in their name")
    options = parser.parse_args()
    jobs = [job for job in JOBS if options.only in job.name]
    if not jobs:
        parser.error(f"no job has {options.only} in its name")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="same-bytes-") as folder:
        bench = prepare(options.old.resolve(), options.new.resolve(), Path(folder).resolve(), jobs)
        print_row(_COLUMNS)
        results = []
        with ThreadPoolExecutor(JOBS_AT_ONCE) as pool:
            for result in pool.map(bench.result, jobs):
                print_result(result)
                results.append(result)
    return 0 if print_summary(results, time.monotonic() - start) else 1


def prepare(old: Path, new: Path, folder: Path, jobs: Sequence[Job]) -> Bench:
    """Check both checkouts, load the Hub, and write the sources that the jobs use."""
    bench = Bench(old, new, _made(folder / "sources"), _made(folder / "jobs"), load_hub_module(old))
    for checkout in (old, new):
        check_package(checkout, bench.scratch)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name in sorted({job.source for job in jobs}):
        build(SOURCES[name], bench.sources / name)
    return bench


def check_package(checkout: Path, folder: Path) -> None:
    """Stop unless it is the checkout's own package that runs, whatever is installed."""
    command = [sys.executable, "-c", "import solar_upscale; print(solar_upscale.__file__)"]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if not Path(done.stdout.strip()).resolve().is_relative_to(checkout):
        sys.exit(f"{checkout}: another package would run: {done.stdout.strip() or done.stderr.strip()}")


def load_hub_module(checkout: Path) -> Any:
    """The loopback Hub of a checkout's tests; nothing else of them is needed or found."""
    path = next((checkout / "tests").rglob("hub_server.py"), None)
    if path is None:
        sys.exit(f"{checkout}: no hub_server.py in its tests")
    spec = importlib.util.spec_from_file_location("hub_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
