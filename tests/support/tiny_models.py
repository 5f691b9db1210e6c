"""A tiny random model of every type that transformers can build, with weights so large that layer order matters."""

import copy
import importlib
from dataclasses import dataclass
from typing import Any

AUTO_CLASSES = {
    "AutoModelForCausalLM": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "AutoModelForImageTextToText": "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "AutoModelForSeq2SeqLM": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "AutoModelForMaskedLM": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
}
LAYERS = 8
VOCAB = 128

# Field names of config classes, and their values in tiny models.
SIZES: dict[str, Any] = {
    **dict.fromkeys(
        (
            "hidden_size",
            "d_model",
            "n_embd",
            "dim",
            "embed_dim",
            "word_embed_proj_dim",
            "embedding_size",
            "emb_dim",
            "dim_model",
            "attention_hidden_size",
            "d_embed",
            "input_embedding_size",
            "encoder_hidden_size",
            "projection_dim",
            "d_inner_model",
            "hidden_dim",
            "out_hidden_size",
            "adapter_input_size",
        ),
        32,
    ),
    **dict.fromkeys(
        (
            "intermediate_size",
            "ffn_dim",
            "d_ff",
            "n_inner",
            "ffn_hidden_size",
            "encoder_ffn_dim",
            "decoder_ffn_dim",
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "dim_feedforward",
            "moe_ffn_hidden_size",
            "mlp_dim",
            "dff",
            "dim_ff",
            "d_inner",
            "expert_ffn_hidden_size",
            "mlp_hidden_size",
            "shared_intermediate_size",
            "moe_shared_expert_intermediate_size",
            "dense_intermediate_size",
            "intermediate_size_mlp",
            "share_expert_dim",
            "prefix_dense_intermediate_size",
            "hidden_sizes_mlp",
        ),
        48,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads",
            "n_head",
            "n_heads",
            "num_heads",
            "attention_heads",
            "encoder_attention_heads",
            "decoder_attention_heads",
            "num_encoder_attention_heads",
            "num_decoder_attention_heads",
            "num_key_value_attention_heads",
        ),
        4,
    ),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "n_kv_heads", "multi_query_group_num"), 2),
    **dict.fromkeys(
        ("head_dim", "d_kv", "attention_head_size", "attention_head_dim", "v_head_dim", "qk_nope_head_dim"), 8
    ),
    "qk_rope_head_dim": 4,
    "rotary_dim": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    **dict.fromkeys(("vocab_size", "src_vocab_size", "tgt_vocab_size", "vocab_size_per_layer_input"), VOCAB),
    **dict.fromkeys(
        (
            "max_position_embeddings",
            "n_positions",
            "n_ctx",
            "max_source_positions",
            "max_target_positions",
            "max_encoder_position_embeddings",
            "max_decoder_position_embeddings",
            "max_seq_len",
        ),
        64,
    ),
    **dict.fromkeys(
        ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts"), 4
    ),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group"), 1),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert"), 1),
    **dict.fromkeys(("bos_token_id", "decoder_start_token_id"), 1),
    "pad_token_id": 0,
    "eos_token_id": 2,
    **dict.fromkeys(("mamba_d_state", "ssm_state_size", "state_size"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 16),
    "mamba_n_groups": 1,
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("index_n_heads",), 2),
    **dict.fromkeys(("index_head_dim",), 8),
    "index_topk": 4,
    "sliding_window": 4,
    "hidden_size_per_layer_input": 4,
    "image_size": 32,
    "patch_size": 8,
    "num_channels": 3,
    "num_patches": 16,
}
COUNTS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "layers", "decoder_layers", "num_decoder_layers",
)  # fmt: skip
ENCODER_COUNTS = ("encoder_layers", "num_encoder_layers")
TEXT = ("text_config", "decoder", "vlm_config", "global_config", "thinker_config")

_MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}}
_HALF_MROPE = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "mrope_section": [1, 1, 0],
    }
}
_VQ = {"base_channels": 32, "channel_multiplier": [1, 1], "num_embeddings": 16, "embed_dim": 4, "num_res_blocks": 1}
_ALL_HEADS = {"num_key_value_heads": 4}

# What the general values do not fit, by model type; None leaves the class's own default. A text model inside another
# model takes its own type's entry too.
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [2, 5]},
    "granitemoehybrid": {
        "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"] * 2
    },
    "bailing_hybrid": {"layer_group_size": 3},
    "big_bird": {"attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "deepseek_v2": {"first_k_dense_replace": 2},
    "dots1": {"first_k_dense_replace": 2, "max_window_layers": 4},
    "dots3_note_text": {
        **_ALL_HEADS,
        "per_layer_config": {i: {"kv_lora_rank": 8, "head_dim": 12} for i in (2, 3, 4, 6, 7)},
    },
    "esmc": _ALL_HEADS,
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {
        "num_hidden_layers": 8,
        "num_kv_shared_layers": 2,
        "layer_types": (["sliding_attention"] * 2 + ["full_attention"]) * 2 + ["sliding_attention", "full_attention"],
        "intermediate_size": [48] * 8,
        "activation_sparsity_pattern": [0.9] * 3 + [0.0] * 5,
        "laurel_rank": 4,
    },
    "gemma4_text": {
        "layer_types": (["sliding_attention"] * 2 + ["full_attention"]) * 2 + ["sliding_attention", "full_attention"]
    },
    "gemma4_unified_text": {
        "layer_types": (["sliding_attention"] * 2 + ["full_attention"]) * 2 + ["sliding_attention", "full_attention"]
    },
    "glm4v_text": _MROPE,
    "glm_ocr_text": _MROPE,
    "glm4v_moe_text": _HALF_MROPE,
    "glm5_next_text": {"qk_rope_head_dim": 0, "index_topk": 16, "index_kpool": 4, **_ALL_HEADS},
    "gpt_neo": {"attention_types": [[["global", "local"], 4]], "window_size": 4},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 2},
    "led": {"attention_window": [4, 8, 4, 4, 8, 4, 8], "max_encoder_position_embeddings": 256},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8},
    "minicpm3": {"scale_depth": 1.4},
    "nemotron_h": {
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"] * 2,
        "n_groups": 1,
        "mamba_num_heads": 4,
        "num_hidden_layers": None,
        "moe_latent_size": None,
    },
    "paddleocr_vl_text": _MROPE,
    "pegasus_x": {"block_size": 4, "num_global_tokens": 2},
    "qwen2_vl_text": _MROPE,
    "qwen2_5_vl_text": _MROPE,
    "qwen2_5_omni_text": _MROPE,
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"] * 4,
        "axial_pos_embds": False,
        "num_hidden_layers": 8,
        "num_buckets": 2,
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "hash_seed": 0,
    },
    "reformer:AutoModelForMaskedLM": {"is_decoder": False},
    "longcat_flash": {
        "num_hidden_layers": 16,
        "head_dim": 4,
        "q_lora_rank": 16,
        "num_layers": 8,
        "num_key_value_heads": 4,
        "expert_ffn_hidden_size": 16,
        "ffn_hidden_size": 48,
        "zero_expert_num": 2,
    },
    "longformer": {"attention_window": [4, 8, 4, 4, 8, 4, 8, 4]},
    "roc_bert": {
        "pronunciation_vocab_size": 16,
        "shape_vocab_size": 16,
        "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8,
    },
    "luke": {"entity_vocab_size": 16, "entity_emb_size": 8},
    "perceiver": {"d_latents": 16, "num_latents": 4, "num_self_attends_per_block": 8},
    "switch_transformers": {"num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 2},
    "t5gemma": {"encoder": {"num_hidden_layers": 7}},
    "t5gemma2": {"encoder": {"text_config": {"num_hidden_layers": 7}}},
    "xlstm": {
        "num_blocks": 8,
        "num_heads": 4,
        "head_dim": None,
        "chunk_size": 8,
        "qk_dim_factor": 1.0,
        "v_dim_factor": 1.0,
    },
    "chameleon": {
        "vocabulary_map": {"<image>": 5},
        "vq_config": _VQ,
    },
    "janus": {
        "vq_config": _VQ,
    },
    "cosmos3_edge_text": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
    },
    "dbrx": {
        "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense"] + ["sparse"] * 7, **_ALL_HEADS},
    "dots3_note": {"vision_config": {"mlp_layer_types": ["dense"] * 3, "adapter_in_dim": 32, "adapter_input_size": 32}},
    "emu3": {
        "vocabulary_map": {"<image>": 5},
        "vq_config": {
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "codebook_size": 16,
            "embed_dim": 4,
            "num_res_blocks": 1,
        },
    },
    "ernie4_5_vl_moe_text": {"moe_intermediate_size": [24, 24], **_MROPE},
    "florence2": {
        "vision_config": {
            "patch_size": None,
            "embed_dim": [32] * 4,
            "num_heads": [2] * 4,
            "depths": [1] * 4,
            "projection_dim": 32,
        }
    },
    "gemma4_assistant": {
        "text_config": {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 8},
    },
    "granite4_vision": {"deepstack_layer_map": [[0, 1]], "spatial_target_layers": [3]},
    "hunyuan_vl_text": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 1, 1]},
    },
    "nemotron_h_omni": {"vision_config": {"video_temporal_patch_size": 2}},
    "muse_spark": {"vision_config": {}, "audio_config": {"num_hidden_layers": 4}},
    "granite_docling": {"vision_config": {"out_hidden_size": 32}},
    "molmo2": {
        "vision_config": {"image_size": None, "image_default_input_size": [32, 32]},
        "adapter_config": {"vision_feature_layer": [2, 1]},
    },
    "neomme": {"head_dim": 16},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
        "hc_lowrank": 8,
    },
    "unlimited_ocr_text": _ALL_HEADS,
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "youtu": _ALL_HEADS,
    "zamba": {
        "num_key_value_heads": 4,
        "attention_hidden_size": None,
        "attention_head_dim": 16,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "linear_attention"] * 2,
    },
    "zamba2": {
        "num_key_value_heads": 4,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "linear_attention"] * 2,
        "mamba_ngroups": 1,
        "num_mem_blocks": 2,
        "adapter_rank": 4,
    },
    "zaya": {"num_experts_per_tok": 1},
}


# Types that are skipped, and why.
TOO_LARGE = {"vibevoice_asr": "its audio tokenizers have 686 million parameters whatever its sizes"}


@dataclass(frozen=True)
class Pair:
    """An auto class and a model type, with what a variant of the config sets."""

    auto_class: str
    model_type: str
    variant: str = ""
    settings: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.auto_class.removeprefix('AutoModelFor')} {self.model_type} {self.variant}".strip()


CAUSAL, IMAGE_TEXT = "AutoModelForCausalLM", "AutoModelForImageTextToText"

# Configs for code paths that a type's defaults do not reach.
VARIANTS: tuple[Pair, ...] = (
    Pair(CAUSAL, "ernie4_5_moe", "interval 2", (("moe_layer_interval", 2), ("moe_layer_end_index", 7))),
    Pair(CAUSAL, "gemma4_text", "default kinds", (("layer_types", None),)),
    Pair(CAUSAL, "gemma4_text", "shared keys", (("num_kv_shared_layers", 2),)),
    Pair(
        CAUSAL,
        "glm_moe_dsa",
        "shared indexers",
        (("indexer_types", ["full", "shared", "full", "full"] + ["shared", "full"] * 2),),
    ),
    Pair(CAUSAL, "gpt2", "inverse index", (("scale_attn_by_inverse_layer_idx", True),)),
    Pair(CAUSAL, "granitemoe_swa", "own thetas", (("layer_rope_theta", [0.0, 1e4, 1e5, 1e6] * 2),)),
    Pair(CAUSAL, "hunyuan_v1_moe", "own top-k", (("moe_topk", [1, 2] * 4),)),
    Pair(CAUSAL, "llama4_text", "interleaved", (("interleave_moe_layer_step", 2),)),
    Pair(CAUSAL, "minicpm3", "no depth scale", (("scale_depth", None),)),
    Pair(CAUSAL, "qwen2", "sliding windows", (("use_sliding_window", True), ("max_window_layers", 4))),
    Pair(CAUSAL, "qwen2_moe", "dense layers", (("mlp_only_layers", [0, 3]),)),
    Pair(CAUSAL, "qwen2_moe", "step 2", (("decoder_sparse_step", 2),)),
    Pair(CAUSAL, "qwen3_moe", "step 2, dense layer", (("decoder_sparse_step", 2), ("mlp_only_layers", [1]))),
    Pair(CAUSAL, "qwen3_next", "dense layer", (("mlp_only_layers", [1]),)),
    Pair(
        CAUSAL,
        "qwen4_exp_text",
        "n-grams",
        (
            ("ple_layer_ids", [2, 5]),
            ("ple_embed_dim", 16),
            ("ngram_vocab_size_base", 50),
            ("split_ngram_parts", 2),
            ("heads_per_ngram", 2),
            ("make_ngram_vocab_size_divisible_by", 8),
        ),
    ),
    Pair(CAUSAL, "smollm3", "sliding windows", (("use_sliding_window", True),)),
    Pair(CAUSAL, "zamba2", "adapters", (("use_shared_attention_adapter", True),)),
    Pair(IMAGE_TEXT, "idefics", "interval 2", (("cross_layer_interval", 2),)),
    Pair(
        IMAGE_TEXT, "mistral_large4", "shared keys", (("text_config", {"kv_source_layers": [0, 0, 2, 3, 2, 5, 6, 6]}),)
    ),
)


def pairs() -> list[Pair]:
    """Every model type under the four auto classes, and the variants."""
    module = importlib.import_module("transformers.models.auto.modeling_auto")
    plain = [Pair(auto, name) for auto, mapping in AUTO_CLASSES.items() for name in sorted(getattr(module, mapping))]
    return [*plain, *VARIANTS]


def tiny_config(pair: Pair) -> Any:
    """The configuration of a tiny model of this type."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    cls = CONFIG_MAPPING[pair.model_type]
    kwargs = _shrunk(cls, LAYERS)
    _merge(kwargs, copy.deepcopy(OVERRIDES.get(pair.model_type, {})))
    _merge(kwargs, copy.deepcopy(OVERRIDES.get(f"{pair.model_type}:{pair.auto_class}", {})))
    _merge(kwargs, copy.deepcopy(dict(pair.settings)))
    if pair.model_type == "minicpm3" and pair.variant:
        kwargs["scale_depth"] = None
    kwargs.pop("model_type", None)
    return cls(**kwargs)


def tiny_model(pair: Pair, seed: int = 0) -> Any:
    """A model with random weights of that configuration, in evaluation mode, in float32."""
    import torch
    import transformers

    if pair.model_type in TOO_LARGE:
        raise ValueError(TOO_LARGE[pair.model_type])
    config = tiny_config(pair)
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    module = importlib.import_module("transformers.models.auto.modeling_auto")
    try:
        model = getattr(transformers, pair.auto_class).from_config(config, attn_implementation="eager")
    except (ValueError, AttributeError):
        # Some types are listed under an auto class that does not accept their full config.
        cls = getattr(transformers, getattr(module, AUTO_CLASSES[pair.auto_class])[pair.model_type])
        part = getattr(config, "decoder", None) if pair.model_type.startswith("musicgen") else config
        part._attn_implementation = "eager"
        model = cls(part)
    model = model.float().eval()
    strengthen(model, seed)
    return model


def strengthen(model: Any, seed: int = 0) -> None:
    """Random values everywhere, large enough that swapping two layers changes the logits."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.is_floating_point():
                continue
            noise = torch.randn(parameter.shape, generator=generator) * 0.25
            if parameter.ndim < 2 and name.endswith(("norm.weight", "layernorm.weight", "ln_1.weight", "ln_2.weight")):
                noise += 1.0
            if name.endswith(("A_log", "dt_bias", "time_decay", "time_first", "D")):
                noise += parameter
            parameter.copy_(noise)


def _shrunk(cls: Any, layers: int) -> dict[str, Any]:
    fields = _field_names(cls)
    kwargs: dict[str, Any] = {name: SIZES[name] for name in fields if name in SIZES}
    kwargs |= {name: layers for name in fields if name in COUNTS}
    kwargs |= {name: max(layers - 1, 2) for name in fields if name in ENCODER_COUNTS}
    if "kv_lora_rank" in fields and "num_key_value_heads" in kwargs:
        kwargs["num_key_value_heads"] = kwargs["num_attention_heads"]
    sub_configs = getattr(cls, "sub_configs", None) or {}
    default = None
    for key, sub in sub_configs.items():
        sub_class = sub
        if sub.__name__ == "AutoConfig":
            default = default or cls()
            value = getattr(default, key, None)
            if value is None:
                continue
            sub_class = type(value)
        kwargs[key] = {"model_type": sub_class.model_type, **_shrunk(sub_class, layers if key in TEXT else 3)}
        _merge(kwargs[key], copy.deepcopy(OVERRIDES.get(sub_class.model_type, {})))
    return kwargs


def _field_names(cls: Any) -> set[str]:
    names: set[str] = set()
    for base in cls.__mro__:
        if base.__name__ in ("PreTrainedConfig", "PretrainedConfig"):
            break
        names |= set(getattr(base, "__annotations__", {}))
    return names | ({"pad_token_id", "eos_token_id", "bos_token_id"} & set(dir(cls)))


def _merge(base: dict[str, Any], extra: dict[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        elif value is None and key in base:
            del base[key]
        else:
            base[key] = value
