"""What publishers write in config.json, by model: the fields that speak of structure, at their published values.

Sizes that no layer differs in are left out. A depth is the published one.
"""

from typing import Any

__all__ = ["PUBLISHED", "depth", "solar", "tensor_names"]

PARTS = ("self_attn.q_proj.weight", "self_attn.o_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight")
COUNTS = ("decoder_layers", "num_decoder_layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers")
_SLIDING, _FULL, _LINEAR = "sliding_attention", "full_attention", "linear_attention"
_YARN = {"factor": 40, "mscale": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"}
_BLOCK_FP8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
_VISION = {"hidden_size": 1024, "model_type": "clip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 24}
_POOLER = {
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
}


def _every(k: int, n: int, nth: str = _FULL, others: str = _SLIDING) -> list[str]:
    return [nth if (i + 1) % k == 0 else others for i in range(n)]


PUBLISHED: dict[str, dict[str, Any]] = {
    "Llama-3.1-8B": {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "pretraining_tp": 1,
        "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_type": "llama3"},
    },
    "Mistral-7B-v0.1": {"model_type": "mistral", "num_hidden_layers": 32, "sliding_window": 4096},
    "Mixtral-8x7B": {"model_type": "mixtral", "num_hidden_layers": 32, "num_experts_per_tok": 2},
    "Qwen2.5-7B": {
        "model_type": "qwen2",
        "num_hidden_layers": 28,
        "max_window_layers": 28,
        "sliding_window": 131072,
        "use_sliding_window": False,
        "use_mrope": False,
    },
    "Qwen2-57B-A14B": {
        "model_type": "qwen2_moe",
        "num_hidden_layers": 28,
        "decoder_sparse_step": 1,
        "max_window_layers": 28,
        "sliding_window": 65536,
        "use_sliding_window": False,
    },
    "Qwen3-8B": {
        "model_type": "qwen3",
        "num_hidden_layers": 36,
        "max_window_layers": 36,
        "sliding_window": None,
        "use_sliding_window": False,
    },
    "Qwen3-30B-A3B": {
        "model_type": "qwen3_moe",
        "num_hidden_layers": 48,
        "decoder_sparse_step": 1,
        "max_window_layers": 48,
        "mlp_only_layers": [],
        "sliding_window": None,
        "use_sliding_window": False,
    },
    "Qwen3-Next-80B-A3B": {
        "model_type": "qwen3_next",
        "num_hidden_layers": 48,
        "decoder_sparse_step": 1,
        "full_attention_interval": 4,
        "linear_conv_kernel_dim": 4,
        "mlp_only_layers": [],
        "rope_scaling": None,
    },
    "gemma-2-9b": {"model_type": "gemma2", "num_hidden_layers": 42, "cache_implementation": "hybrid"},
    "gemma-3-1b": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 26,
        "cache_implementation": "hybrid",
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
    },
    "gemma-3-4b": {
        "model_type": "gemma3",
        "mm_tokens_per_image": 256,
        "text_config": {
            "model_type": "gemma3_text",
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
        "vision_config": {"model_type": "siglip_vision_model", "num_hidden_layers": 27, "vision_use_head": False},
    },
    "Phi-3.5-MoE": {
        "model_type": "phimoe",
        "num_hidden_layers": 32,
        "sliding_window": 131072,
        "rope_scaling": {
            "long_factor": [1.1] * 64,
            "long_mscale": 1.243163121016122,
            "short_factor": [1.0] * 64,
            "short_mscale": 1.243163121016122,
            "type": "longrope",
        },
    },
    "Phi-3-mini-128k": {
        "model_type": "phi3",
        "num_hidden_layers": 32,
        "rope_scaling": {"long_factor": [1.1] * 48, "short_factor": [1.0] * 48, "type": "longrope"},
        "sliding_window": 262144,
    },
    "gpt2": {
        "model_type": "gpt2",
        "n_layer": 12,
        "summary_type": "cls_index",
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    },
    "gpt-neo-125m": {
        "model_type": "gpt_neo",
        "num_layers": 12,
        "attention_layers": ["global", "local"] * 6,
        "attention_types": [[["global", "local"], 6]],
    },
    "gpt-j-6b": {"model_type": "gptj", "n_layer": 28, "rotary": True, "rotary_dim": 64},
    "pythia-160m": {"model_type": "gpt_neox", "num_hidden_layers": 12, "rotary_pct": 0.25},
    "opt-125m": {"model_type": "opt", "num_hidden_layers": 12, "layerdrop": 0.0, "prefix": "</s>"},
    "bloom-560m": {"model_type": "bloom", "n_layer": 24, "skip_bias_add": True, "offset_alibi": 100},
    "falcon-7b": {
        "model_type": "falcon",
        "num_hidden_layers": 32,
        "apply_residual_connection_post_layernorm": False,
        "multi_query": True,
    },
    "mpt-7b": {
        "model_type": "mpt",
        "n_layers": 32,
        "attn_config": {"alibi": True, "attn_type": "multihead_attention", "prefix_lm": False},
        "init_config": {"init_div_is_residual": True, "init_gain": 0, "name": "kaiming_normal_", "verbose": 0},
    },
    "starcoder2-3b": {
        "model_type": "starcoder2",
        "num_hidden_layers": 30,
        "mlp_type": "default",
        "norm_type": "layer_norm",
        "sliding_window": 4096,
    },
    "xglm-564M": {"model_type": "xglm", "num_layers": 24, "layerdrop": 0.0},
    "DeepSeek-V2-Lite": {
        "model_type": "deepseek_v2",
        "num_hidden_layers": 27,
        "aux_loss_alpha": 0.001,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "n_group": 1,
        "rope_scaling": _YARN,
    },
    "DeepSeek-V3": {
        "model_type": "deepseek_v3",
        "num_hidden_layers": 61,
        "ep_size": 1,
        "first_k_dense_replace": 3,
        "moe_layer_freq": 1,
        "num_nextn_predict_layers": 1,
        "quantization_config": _BLOCK_FP8,
        "rope_scaling": _YARN,
    },
    "DeepSeek-V3.2-Exp": {
        "model_type": "deepseek_v32",
        "num_hidden_layers": 61,
        "first_k_dense_replace": 3,
        "index_head_dim": 128,
        "index_n_heads": 64,
        "index_topk": 2048,
        "moe_layer_freq": 1,
        "num_nextn_predict_layers": 1,
    },
    "GLM-4.5-Air": {
        "model_type": "glm4_moe",
        "num_hidden_layers": 46,
        "first_k_dense_replace": 1,
        "num_nextn_predict_layers": 1,
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss",
        "num_hidden_layers": 24,
        "initial_context_length": 4096,
        "layer_types": [_SLIDING, _FULL] * 12,
        "quantization_config": {
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"],
            "quant_method": "mxfp4",
        },
    },
    "Llama-4-Scout": {
        "model_type": "llama4",
        "text_config": {
            "model_type": "llama4_text",
            "num_hidden_layers": 48,
            "attention_chunk_size": 8192,
            "interleave_moe_layer_step": 1,
            "no_rope_layers": [],
        },
        "vision_config": {"model_type": "llama4_vision_model", "num_hidden_layers": 34, "vision_feature_layer": -1},
    },
    "command-r7b": {
        "model_type": "cohere2",
        "num_hidden_layers": 32,
        "layer_switch": 4,
        "order_of_interleaved_layers": "local_attn_first",
        "position_embedding_type": "rope_gptj",
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
        "use_parallel_block": True,
    },
    "Olmo-3-7B": {
        "model_type": "olmo3",
        "num_hidden_layers": 32,
        "layer_types": _every(4, 32),
        "sliding_window": 4096,
    },
    "OLMoE-1B-7B": {"model_type": "olmoe", "num_hidden_layers": 16, "norm_topk_prob": False},
    "granite-4.0-h-tiny": {
        "model_type": "granitemoehybrid",
        "num_hidden_layers": 40,
        "init_method": "mup",
        "layer_types": (["mamba"] * 5 + ["attention"] + ["mamba"] * 4) * 4,
        "mamba_n_groups": 1,
        "normalization_function": "rmsnorm",
        "position_embedding_type": "nope",
    },
    "Jamba-v0.1": {
        "model_type": "jamba",
        "num_hidden_layers": 32,
        "attn_layer_offset": 4,
        "attn_layer_period": 8,
        "expert_layer_offset": 1,
        "expert_layer_period": 2,
        "num_logits_to_keep": 1,
    },
    "Bamba-9B": {"model_type": "bamba", "num_hidden_layers": 32, "attn_layer_indices": [9, 18, 27]},
    "Falcon-H1-1.5B": {
        "model_type": "falcon_h1",
        "num_hidden_layers": 24,
        "attn_layer_indices": None,
        "mlp_expansion_factor": 8,
        "mlp_multipliers": [0.88, 0.58],
        "ssm_multipliers": [0.35, 0.25, 0.17, 0.5, 0.35],
        "time_step_limit": [0.0, 1e30],
    },
    "mamba-130m-hf": {
        "model_type": "mamba",
        "n_layer": 24,
        "num_hidden_layers": 24,
        "pad_vocab_size_multiple": 8,
        "rescale_prenorm_residual": False,
        "ssm_cfg": {},
    },
    "recurrentgemma-2b": {
        "model_type": "recurrent_gemma",
        "num_hidden_layers": 26,
        "attention_window_size": 2048,
        "block_types": ["recurrent", "recurrent", "attention"],
    },
    "Zamba2-1.2B": {
        "model_type": "zamba2",
        "num_hidden_layers": 38,
        "hybrid_layer_ids": [5, 11, 17, 23, 29, 35],
        "layers_block_type": ["hybrid" if i % 6 == 5 else "mamba" for i in range(38)],
        "num_mem_blocks": 1,
        "use_shared_attention_adapter": True,
    },
    "rwkv-4-169m": {"model_type": "rwkv", "num_hidden_layers": 12, "context_length": 1024, "rescale_every": 6},
    "Nemotron-H-8B": {
        "model_type": "nemotron_h",
        "num_hidden_layers": 52,
        "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
        "num_logits_to_keep": 1,
        "rescale_prenorm_residual": True,
    },
    "Nemotron-3-Super": {
        "model_type": "nemotron_h",
        "num_hidden_layers": 8,
        "hybrid_override_pattern": "MEMEM*EM",
        "mtp_hybrid_override_pattern": "*E",
        "num_nextn_predict_layers": 1,
        "n_routed_experts": 4,
    },
    "MiniMax-M2": {
        "model_type": "minimax_m2",
        "num_hidden_layers": 62,
        "attn_type_list": [1] * 62,
        "mtp_transformer_layers": 1,
        "num_mtp_modules": 3,
        "use_mtp": True,
    },
    "ERNIE-4.5-21B-A3B": {
        "model_type": "ernie4_5_moe",
        "num_hidden_layers": 28,
        "moe_capacity": [64, 64, 64],
        "moe_k": 6,
        "moe_layer_end_index": 27,
        "moe_layer_interval": 1,
        "moe_layer_start_index": 1,
        "num_nextn_predict_layers": 1,
    },
    "Hunyuan-A13B": {
        "model_type": "hunyuan_v1_moe",
        "num_hidden_layers": 32,
        "cla_share_factor": 2,
        "dense_list": [4096, 0],
        "moe_intermediate_size": [3072] * 32,
        "moe_layer_num_skipped": 0,
        "moe_topk": [8] * 32,
        "num_shared_expert": [1] * 32,
        "use_cla": False,
    },
    "SmolLM3-3B": {
        "model_type": "smollm3",
        "num_hidden_layers": 36,
        "layer_types": [_FULL] * 36,
        "max_window_layers": 28,
        "no_rope_layer_interval": 4,
        "no_rope_layers": [1, 1, 1, 0] * 9,
        "sliding_window": None,
        "use_sliding_window": False,
    },
    "EXAONE-4.0-32B": {
        "model_type": "exaone4",
        "num_hidden_layers": 64,
        "layer_types": _every(4, 64),
        "sliding_window": 4096,
        "sliding_window_pattern": "LLLG",
    },
    "Kimi-Linear-48B-A3B": {
        "model_type": "kimi_linear",
        "num_hidden_layers": 27,
        "first_k_dense_replace": 1,
        "linear_attn_config": {
            "full_attn_layers": [4, 8, 12, 16, 20, 24, 27],
            "head_dim": 128,
            "kda_layers": [i for i in range(1, 28) if i % 4 and i != 27],
            "num_heads": 32,
            "short_conv_kernel_size": 4,
        },
        "moe_layer_freq": 1,
        "num_nextn_predict_layers": 0,
    },
    "LFM2-1.2B": {
        "model_type": "lfm2",
        "num_hidden_layers": 16,
        "block_auto_adjust_ff_dim": True,
        "block_dim": 2048,
        "block_ff_dim": 12288,
        "block_ffn_dim_multiplier": 1.0,
        "block_mlp_init_scale": 1.0,
        "block_multiple_of": 256,
        "block_norm_eps": 1e-05,
        "block_out_init_scale": 1.0,
        "block_use_swiglu": True,
        "block_use_xavier_init": True,
        "conv_L_cache": 3,
        "conv_dim": 2048,
        "conv_dim_out": 2048,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14],
    },
    "LFM2-8B-A1B": {
        "model_type": "lfm2_moe",
        "num_hidden_layers": 24,
        "layer_types": ["full_attention" if i in (2, 6, 10, 14, 18, 21) else "conv" for i in range(24)],
        "num_dense_layers": 2,
    },
    "dots.llm1": {
        "model_type": "dots1",
        "num_hidden_layers": 62,
        "first_k_dense_replace": 1,
        "max_window_layers": 62,
        "moe_layer_freq": 1,
        "sliding_window": None,
    },
    "MiniCPM3-4B": {
        "model_type": "minicpm3",
        "num_hidden_layers": 62,
        "dim_model_base": 256,
        "scale_depth": 1.4,
        "scale_emb": 12,
    },
    "dbrx": {
        "model_type": "dbrx",
        "n_layers": 40,
        "attn_config": {"clip_qkv": 8, "kv_n_heads": 8},
        "ffn_config": {"ffn_act_fn": {"name": "silu"}, "moe_num_experts": 16, "moe_top_k": 4},
    },
    "bert-base-multilingual": {"model_type": "bert", "num_hidden_layers": 12, "type_vocab_size": 2, **_POOLER},
    "distilbert": {"model_type": "distilbert", "n_layers": 6, "sinusoidal_pos_embds": False, "tie_weights_": True},
    "ModernBERT-base": {
        "model_type": "modernbert",
        "num_hidden_layers": 22,
        "classifier_pooling": "mean",
        "global_attn_every_n_layers": 3,
        "local_attention": 128,
    },
    "deberta-v3-base": {
        "model_type": "deberta-v2",
        "num_hidden_layers": 12,
        "norm_rel_ebd": "layer_norm",
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 256,
        "type_vocab_size": 0,
    },
    "xlm-mlm-ende-1024": {
        "model_type": "xlm",
        "n_layers": 6,
        "id2lang": {"0": "de", "1": "en"},
        "lang2id": {"de": 0, "en": 1},
        "summary_type": "first",
    },
    "tapas-base-finetuned-wtq": {
        "model_type": "tapas",
        "num_hidden_layers": 12,
        "aggregation_labels": {"0": "NONE", "1": "SUM", "2": "AVERAGE", "3": "COUNT"},
        "type_vocab_sizes": [3, 256, 256, 2, 256, 256, 10],
    },
    "longformer-base": {
        "model_type": "longformer",
        "num_hidden_layers": 12,
        "attention_mode": "longformer",
        "attention_window": [512] * 12,
    },
    "esm2_t33": {"model_type": "esm", "num_hidden_layers": 33, "is_folding_model": False, "vocab_list": None},
    "llava-1.5-7b": {
        "model_type": "llava",
        "ignore_index": -100,
        "image_token_index": 32000,
        "text_config": {"model_type": "llama"},
        "vision_config": _VISION,
        "vision_feature_layer": -2,
    },
    "llava-v1.6-mistral": {
        "model_type": "llava_next",
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
        "text_config": {"model_type": "mistral", "num_hidden_layers": 32, "sliding_window": None},
        "vision_config": _VISION,
        "vision_feature_layer": -2,
    },
    "Qwen2-VL-7B": {
        "model_type": "qwen2_vl",
        "num_hidden_layers": 28,
        "max_window_layers": 28,
        "rope_scaling": {"mrope_section": [16, 24, 24], "type": "mrope"},
        "sliding_window": 32768,
        "use_sliding_window": False,
        "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "spatial_merge_size": 2},
    },
    "Qwen2.5-VL-7B": {
        "model_type": "qwen2_5_vl",
        "num_hidden_layers": 28,
        "max_window_layers": 28,
        "rope_scaling": {"mrope_section": [16, 24, 24], "type": "mrope"},
        "sliding_window": 32768,
        "use_sliding_window": False,
        "vision_config": {"depth": 32, "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112},
    },
    "Llama-3.2-11B-Vision": {
        "model_type": "mllama",
        "text_config": {
            "model_type": "mllama_text_model",
            "num_hidden_layers": 40,
            "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
        },
        "vision_config": {
            "model_type": "mllama_vision_model",
            "num_hidden_layers": 32,
            "intermediate_layers_indices": [3, 7, 15, 23, 30],
        },
    },
    "Mistral-Small-3.1": {
        "model_type": "mistral3",
        "spatial_merge_size": 2,
        "text_config": {"model_type": "mistral", "num_hidden_layers": 40, "sliding_window": None},
        "vision_config": {"model_type": "pixtral", "num_hidden_layers": 24},
        "vision_feature_layer": -1,
    },
    "paligemma2-3b": {
        "model_type": "paligemma",
        "text_config": {"model_type": "gemma2", "num_hidden_layers": 26, "num_image_tokens": 256},
        "vision_config": {"model_type": "siglip_vision_model", "num_hidden_layers": 27},
    },
    "SmolVLM-Instruct": {
        "model_type": "idefics3",
        "scale_factor": 3,
        "text_config": {
            "model_type": "llama",
            "num_hidden_layers": 24,
            "perceiver_config": {"model_type": "vllama3", "resampler_depth": 6, "resampler_n_latents": 64},
            "pixel_shuffle_factor": 3,
            "qk_layer_norms": False,
        },
        "vision_config": {"model_type": "idefics3", "num_hidden_layers": 27},
    },
    "fuyu-8b": {
        "model_type": "fuyu",
        "num_hidden_layers": 36,
        "text_config": {"model_type": "persimmon", "num_hidden_layers": 36},
    },
    "flan-t5-base": {
        "model_type": "t5",
        "num_layers": 12,
        "num_decoder_layers": 12,
        "relative_attention_num_buckets": 32,
    },
    "t5-small": {
        "model_type": "t5",
        "num_layers": 6,
        "task_specific_params": {"summarization": {"early_stopping": True, "num_beams": 4}},
    },
    "bart-large-cnn": {
        "model_type": "bart",
        "decoder_layers": 12,
        "encoder_layers": 12,
        "num_hidden_layers": 12,
        "add_final_layer_norm": False,
        "decoder_layerdrop": 0.0,
        "extra_pos_embeddings": 2,
    },
    "opus-mt-en-de": {
        "model_type": "marian",
        "decoder_layers": 6,
        "encoder_layers": 6,
        "num_hidden_layers": 6,
        "bad_words_ids": [[58100]],
        "static_position_embeddings": True,
    },
    "whisper-small": {
        "model_type": "whisper",
        "decoder_layers": 12,
        "encoder_layers": 12,
        "num_hidden_layers": 12,
        "begin_suppress_tokens": [220, 50257],
        "forced_decoder_ids": [[1, 50259], [2, 50359], [3, 50363]],
        "median_filter_width": 7,
        "suppress_tokens": [1, 2, 7, 8, 9, 10, 14, 25, 26, 27, 28, 29],
    },
    "nllb-moe-54b": {
        "model_type": "nllb-moe",
        "decoder_layers": 24,
        "decoder_sparse_step": 4,
        "encoder_layers": 24,
        "encoder_sparse_step": 4,
        "num_hidden_layers": 24,
    },
    "switch-base-8": {
        "model_type": "switch_transformers",
        "num_layers": 12,
        "num_decoder_layers": 12,
        "num_sparse_encoder_layers": 6,
        "num_sparse_decoder_layers": 6,
        "encoder_sparse_step": 2,
        "decoder_sparse_step": 2,
    },
}


def depth(config: dict[str, Any]) -> int:
    section = config.get("text_config", config)
    return next((section[name] for name in COUNTS if name in section), 32)  # LLaVA relies on Llama's default


def tensor_names(config: dict[str, Any]) -> list[str]:
    """Tensor names as in a checkpoint of this type, with the same modules in every layer."""
    if config["model_type"] == "xlm":
        prefixes = [f"transformer.{part}" for part in ("attentions", "ffns", "layer_norm1", "layer_norm2")]
    elif config["model_type"] in ("t5", "switch_transformers"):
        prefixes = ["decoder.block", "encoder.block"]
    elif "decoder_layers" in config:
        prefixes = ["model.decoder.layers", "model.encoder.layers"]
    else:
        prefixes = ["model.language_model.layers" if "vision_config" in config else "model.layers"]
    return [f"{prefix}.{i}.{part}" for prefix in prefixes for i in range(depth(config)) for part in PARTS]


def solar(config: dict[str, Any]) -> list[int]:
    """All but the last quarter, then all but the first quarter: a shift that fits the period of any published model."""
    n = depth(config)
    return [*range(n - n // 4), *range(n // 4, n)]
