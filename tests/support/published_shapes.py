"""config.json of published families, key for key as their publishers write it, with tiny sizes.

Keys that say nothing of the model's shape (dropout, initialisation, versions) are kept where they speak of layers.
"""

from typing import Any

_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": 128, "tie_word_embeddings": False}
_BASE = {**_TOKENS, "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "use_cache": True}  # fmt: skip
_MLA = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}
_ROUTED = {"moe_intermediate_size": 24, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
           "n_group": 1, "topk_group": 1, "routed_scaling_factor": 2.5, "norm_topk_prob": True}  # fmt: skip
_VISION = {"model_type": "siglip_vision_model", "hidden_size": 32, "image_size": 32, "intermediate_size": 48,
           "num_attention_heads": 4, "num_hidden_layers": 3, "patch_size": 8, "vision_use_head": False}  # fmt: skip
_GEMMA3_TEXT = {"model_type": "gemma3_text", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 12,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4,
                "query_pre_attn_scalar": 8, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                "vocab_size": 128}  # fmt: skip
_GEMMA3 = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "boi_token_index": 120,
           "eoi_token_index": 121, "image_token_index": 122, "mm_tokens_per_image": 4, "eos_token_id": [1, 106],
           "initializer_range": 0.02, "torch_dtype": "float32", "vision_config": _VISION}  # fmt: skip

PUBLISHED: dict[str, dict[str, Any]] = {
    "DeepSeek-V3": {
        **_BASE, **_MLA, **_ROUTED, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
        "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}, "num_key_value_heads": 4,
        "num_hidden_layers": 8, "first_k_dense_replace": 3, "moe_layer_freq": 1, "num_nextn_predict_layers": 1,
        "ep_size": 1, "rope_theta": 10000, "rope_scaling": None, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
        "torch_dtype": "float32",
    },
    "GLM-4.5": {
        **_BASE, **_ROUTED, "architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe", "attention_bias": True,
        "head_dim": 8, "num_hidden_layers": 8, "first_k_dense_replace": 1, "num_nextn_predict_layers": 1,
        "partial_rotary_factor": 0.5, "rope_theta": 1000000, "rope_scaling": None, "use_qk_norm": True,
        "torch_dtype": "float32",
    },
    "gpt-oss": {
        **_BASE, "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "attention_bias": True,
        "experts_per_token": 2, "head_dim": 8, "initial_context_length": 4096, "num_experts_per_tok": 2,
        "num_hidden_layers": 8, "num_local_experts": 4, "rope_theta": 150000, "sliding_window": 4,
        "swiglu_limit": 7.0, "layer_types": ["sliding_attention", "full_attention"] * 4,
    },
    "Mixtral": {
        **_BASE, "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_hidden_layers": 8,
        "num_experts_per_tok": 2, "num_local_experts": 4, "rope_theta": 1000000.0, "sliding_window": None,
        "output_router_logits": False, "torch_dtype": "float32",
    },
    "Qwen3-Next": {
        **_BASE, "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "decoder_sparse_step": 1,
        "full_attention_interval": 4, "head_dim": 8, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 8,
        "linear_num_key_heads": 4, "linear_num_value_heads": 4, "linear_value_head_dim": 8, "mlp_only_layers": [],
        "moe_intermediate_size": 24, "norm_topk_prob": True, "num_experts": 4, "num_experts_per_tok": 2,
        "num_hidden_layers": 12, "partial_rotary_factor": 0.25, "rope_theta": 10000000, "rope_scaling": None,
        "shared_expert_intermediate_size": 24, "use_sliding_window": False, "torch_dtype": "float32",
    },
    "Gemma-3": {**_GEMMA3, "text_config": {**_GEMMA3_TEXT, "sliding_window_pattern": 6}},
    "Gemma-3, pattern left out": {**_GEMMA3, "text_config": _GEMMA3_TEXT},
    "Gemma-3 text": {
        **_BASE, **_GEMMA3_TEXT, "architectures": ["Gemma3ForCausalLM"], "sliding_window_pattern": 6,
        "cache_implementation": "hybrid", "hidden_activation": "gelu_pytorch_tanh",
        "rope_theta": 1000000, "rope_scaling": None, "torch_dtype": "float32",
    },
    "Llama-4": {
        "architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4", "boi_token_index": 120,
        "eoi_token_index": 121, "image_token_index": 122, "torch_dtype": "float32",
        "text_config": {
            **_BASE, "model_type": "llama4_text", "attention_chunk_size": 8, "attn_temperature_tuning": False,
            "for_llm_compression": False, "head_dim": 8, "interleave_moe_layer_step": 2, "intermediate_size_mlp": 48,
            "no_rope_layers": [1, 1, 1, 0] * 2, "moe_layers": [1, 3, 5, 7], "num_experts_per_tok": 1,
            "num_hidden_layers": 8, "num_local_experts": 4, "rope_theta": 500000.0, "rope_scaling": None,
            "router_aux_loss_coef": 0.001, "use_qk_norm": False,
        },
        "vision_config": {
            "model_type": "llama4_vision_model", "hidden_size": 32, "image_size": 32, "intermediate_size": 128,
            "num_attention_heads": 4, "num_hidden_layers": 3, "patch_size": 8, "vision_output_dim": 32,
            "projector_input_dim": 32, "projector_output_dim": 32, "pixel_shuffle_ratio": 0.5,
            "vision_feature_layer": -1, "vision_feature_select_strategy": "default",
        },
    },
    "Jamba": {
        **_BASE, "architectures": ["JambaForCausalLM"], "model_type": "jamba", "attn_layer_offset": 4,
        "attn_layer_period": 8, "expert_layer_offset": 1, "expert_layer_period": 2, "mamba_conv_bias": True,
        "mamba_d_conv": 4, "mamba_d_state": 8, "mamba_dt_rank": 8, "mamba_expand": 2, "mamba_proj_bias": False,
        "num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 16, "num_logits_to_keep": 1,
        "use_mamba_kernels": False, "sliding_window": None, "torch_dtype": "float32",
    },
    "Nemotron-H": {
        **_BASE, "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "head_dim": 8,
        "auto_map": {"AutoConfig": "configuration_nemotron_h.NemotronHConfig"}, "attention_head_dim": 8,
        "hybrid_override_pattern": "M-M-M-*M", "num_hidden_layers": 8, "mamba_head_dim": 16, "mamba_num_heads": 4,
        "mamba_hidden_act": "silu", "mlp_hidden_act": "relu2", "n_groups": 1, "ssm_state_size": 8, "conv_kernel": 4,
        "chunk_size": 8, "expand": 2, "use_conv_bias": True, "torch_dtype": "float32",
    },
    "Falcon-H1": {
        **_BASE, "architectures": ["FalconH1ForCausalLM"], "model_type": "falcon_h1", "attn_layer_indices": None,
        "head_dim": 8, "mamba_chunk_size": 8, "mamba_d_conv": 4, "mamba_d_head": 16, "mamba_d_ssm": 64,
        "mamba_d_state": 8, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 4, "mlp_expansion_factor": 8,
        "mlp_multipliers": [0.9, 0.5], "ssm_multipliers": [0.4, 0.25, 0.35, 0.35, 0.3], "num_hidden_layers": 8,
        "rope_theta": 100000000000.0, "rope_scaling": None, "torch_dtype": "float32",
    },
    "Kimi-Linear": {
        **_TOKENS, "architectures": ["KimiLinearForCausalLM"], "model_type": "kimi_linear",
        "auto_map": {"AutoConfig": "configuration_kimi.KimiLinearConfig"}, "first_k_dense_replace": 1,
        "head_dim": 12, "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 48, "kv_lora_rank": 16,
        "linear_attn_config": {
            "full_attn_layers": [4, 8, 9], "head_dim": 8, "kda_layers": [1, 2, 3, 5, 6, 7], "num_heads": 4,
            "short_conv_kernel_size": 4,
        },
        "mla_use_nope": True, "model_max_length": 64, "moe_intermediate_size": 24, "moe_layer_freq": 1,
        "moe_renormalize": True, "moe_router_activation_func": "sigmoid", "num_attention_heads": 4,
        "num_expert_group": 1, "num_experts": 4, "num_experts_per_token": 2, "num_hidden_layers": 9,
        "num_key_value_heads": 4, "num_nextn_predict_layers": 0, "num_shared_experts": 1, "q_lora_rank": None,
        "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 10000.0,
        "routed_scaling_factor": 2.446, "topk_group": 1, "use_grouped_topk": True, "v_head_dim": 8,
    },
    "MiniMax-Text-01-hf": {
        **_BASE, "architectures": ["MiniMaxForCausalLM"], "model_type": "minimax", "attn_type_list": [0, 0, 0, 1] * 2,
        "block_size": 8, "full_attn_alpha_factor": 3.5, "full_attn_beta_factor": 1.0, "head_dim": 8,
        "linear_attn_alpha_factor": 3.5, "linear_attn_beta_factor": 1.0, "mlp_alpha_factor": 3.5,
        "mlp_beta_factor": 1.0, "num_experts_per_tok": 2, "num_hidden_layers": 8, "num_local_experts": 4,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"] + ["linear_attention"] * 3 + ["full_attention"],
        "rope_theta": 10000000, "sliding_window": None,
    },
    "MiniMax-M2": {
        **_BASE, "architectures": ["MiniMaxM2ForCausalLM"], "model_type": "minimax_m2", "attn_type_list": [1] * 8,
        "auto_map": {"AutoConfig": "configuration_minimax_m2.MiniMaxM2Config"}, "head_dim": 8,
        "num_experts_per_tok": 2, "num_hidden_layers": 8, "num_local_experts": 4, "num_mtp_modules": 3,
        "mtp_transformer_layers": 1, "qk_norm_type": "per_layer", "rope_theta": 5000000, "rotary_dim": 4,
        "scoring_func": "sigmoid", "use_mtp": True, "use_qk_norm": True, "use_routing_bias": True,
    },
}  # fmt: skip

# Published with its own code under a type that transformers has under another name.
MINIMAX_TEXT_01 = {
    **PUBLISHED["MiniMax-Text-01-hf"], "architectures": ["MiniMaxText01ForCausalLM"], "model_type": "minimax_text_01",
    "auto_map": {"AutoConfig": "configuration_minimax_text_01.MiniMaxText01Config"},
}  # fmt: skip
