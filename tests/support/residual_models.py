"""Tiny random models of every architecture, for the tests of residual writers."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from solar_upscale.architecture.registry import hand_written
from solar_upscale.architecture.types import Stack

AUTO_CLASSES = {
    "AutoModelForCausalLM": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "AutoModelForImageTextToText": modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    "AutoModelForMaskedLM": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "AutoModelForSeq2SeqLM": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}
NUM_LAYERS = 4
HIDDEN = 32

# What makes a model small, by field name; a field that a config does not have is left out.
SMALL: dict[str, Any] = {
    **dict.fromkeys(
        ["num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers",
         "num_decoder_layers", "num_encoder_layers", "num_blocks", "num_layers_per_stack"], NUM_LAYERS),
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim", "emb_dim",
                     "embed_dim"], HIDDEN),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads",
                     "encoder_attention_heads", "num_decoder_attention_heads", "num_encoder_attention_heads"], 4),
    **dict.fromkeys(["num_key_value_heads", "num_kv_heads"], 2),
    **dict.fromkeys(["head_dim", "d_kv", "attention_head_dim", "v_head_dim", "swa_head_dim", "global_head_dim"], 8),
    **dict.fromkeys(["intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "d_ff", "n_inner",
                     "ffn_hidden_size", "intermediate_dim", "dense_intermediate_size", "feed_forward_size"], 40),
    **dict.fromkeys(["moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size",
                     "shared_intermediate_size", "intermediate_size_mlp", "moe_shared_expert_intermediate_size"], 24),
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"], 4),
    **dict.fromkeys(["num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts",
                     "moe_top_k"], 2),
    "vocab_size": 128, "max_position_embeddings": 64, "n_positions": 64, "n_ctx": 64,
    "q_lora_rank": 12, "kv_lora_rank": 12, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "rotary_dim": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_dense_layers": 1,
    "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_n_groups": 1, "mamba_d_state": 16,
    "mamba_expand": 2,
    "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 16, "state_size": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 128, "image_size": 28, "patch_size": 14,
    "attention_hidden_size": 32, "lru_width": 32, "time_step_rank": 4, "sliding_window": 4,
    "index_topk": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip


def field_names(config_class: type) -> list[str]:
    names: dict[str, None] = {}
    for cls in config_class.__mro__:
        names.update(dict.fromkeys(getattr(cls, "__annotations__", {})))
        if "__init__" in cls.__dict__:
            names.update(dict.fromkeys(inspect.signature(cls.__init__).parameters))
    return list(names)


def small_config(config_class: type[PretrainedConfig], variant: Mapping[str, Any] | None = None) -> PretrainedConfig:
    names = set(field_names(config_class)) | set(config_class.attribute_map)
    values: dict[str, Any] = {name: SMALL[name] for name in names if name in SMALL}
    for alias, name in config_class.attribute_map.items():
        if alias in values and name in values:
            del values[alias]
    default: PretrainedConfig | None = None
    for name, sub_class in getattr(config_class, "sub_configs", {}).items():
        if sub_class is not AutoConfig:
            values[name] = small_config(sub_class).to_dict()
            continue
        default = default or config_class()
        if (sub := getattr(default, name, None)) is not None:
            values[name] = small_config(type(sub)).to_dict()
    if "kv_lora_rank" in names and "num_key_value_heads" in values:
        values["num_key_value_heads"] = values["num_attention_heads"]
    values.update(SPECIAL.get(config_class.model_type, {}) | dict(variant or {}))
    config = config_class(**values)
    rope = getattr(config, "rope_parameters", None)
    if rope and "mrope_section" in rope:
        rotated = int(SMALL["head_dim"] * rope.get("partial_rotary_factor", 1.0)) // 2
        parts = len(rope["mrope_section"])
        rope["mrope_section"] = [rotated - (parts - 1) * (rotated // parts)] + [rotated // parts] * (parts - 1)
    return config


SPECIAL: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("sliding_attention", "full_attention")
        },
    },
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "n_group": 1, "topk_group": 1},
    "dots3_note_text": {"num_key_value_heads": 4},
    "gemma3n_text": {"num_kv_shared_layers": 1, "layer_types": ["full_attention"] * 4},
    "gemma4_text": {"num_kv_shared_layers": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1},
    "reformer": {"is_decoder": True},
    "zamba2": {
        "layer_types": ["mamba", "hybrid"] * 2,
        "num_mem_blocks": 1,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zamba": {
        "layer_types": ["mamba", "mamba", "hybrid", "hybrid"],
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "dbrx": {
        "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "kimi_linear": {"linear_head_dim": 8, "linear_num_heads": 4},
    **{
        name: {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
        for name in (
            "qwen2_vl_text",
            "qwen2_5_vl_text",
            "qwen2_5_omni_text",
            "paddleocr_vl_text",
            "glm4v_text",
            "glm_ocr_text",
            "cosmos3_edge_text",
        )
    },
    "glm4v_moe_text": {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": [1, 1, 0],
            "partial_rotary_factor": 0.5,
        }
    },
    "zaya": {"num_experts_per_tok": 1},
    "esmc": {"num_key_value_heads": 4},
    "glm5_next_text": {"num_key_value_heads": 4},
    "neomme": {"head_dim": 16},
    "ernie4_5_vl_moe_text": {"moe_intermediate_size": [24, 16]},
    "qwen4_exp_text": {},
    "nemotron_h": {"n_groups": 2, "layers_block_type": ["mamba", "attention", "moe", "mlp"]},
}


# Kinds of layers and switches that the defaults do not show: fields of the text config by case.
VARIANTS: dict[str, dict[str, Any]] = {
    "CausalLM bamba attention": {"attn_layer_indices": [1, 3]},
    "CausalLM bloom post-norm residual": {"apply_residual_connection_post_layernorm": True},
    "CausalLM falcon sequential": {"parallel_attn": False, "bias": True},
    "CausalLM falcon new": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "CausalLM falcon post-norm residual": {"apply_residual_connection_post_layernorm": True, "parallel_attn": False},
    "CausalLM gemma4_text experts": {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2,
                                     "moe_intermediate_size": 24},
    "CausalLM gemma4_text shared keys": {
        "num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "CausalLM glm_moe_dsa shared index": {"indexer_types": ["full", "shared", "full", "full"]},
    "CausalLM gpt_neox sequential": {"use_parallel_residual": False},
    "CausalLM granite multiplier": {"residual_multiplier": 0.25},
    "CausalLM granitemoehybrid mixed": {"layer_types": ["mamba", "attention", "mamba", "attention"]},
    "CausalLM hyperclovax plain": {"use_post_norm": False},
    "CausalLM llama biases": {"attention_bias": True, "mlp_bias": True},
    "CausalLM opt post-norm": {"do_layer_norm_before": False},
    "CausalLM stablelm parallel": {"use_parallel_residual": True},
}  # fmt: skip


# Cases whose blocks are not tested here, and why. A model type without any other tested case has no block.
_NOT_RUN = (
    (
        "ImageTextToText",
        "blip blip-2 idefics instructblip instructblipvideo kosmos-2 pi0 pix2struct pp_formulanet "
        "udop vision-encoder-decoder",
        "wants images, sound or states beside text",
    ),
    ("Seq2SeqLM", "voxtral_realtime", "wants images, sound or states beside text"),
    ("CausalLM", "gemma3n", "wants an optional package"),
    ("ImageTextToText", "fast_vlm gemma3n perception_lm", "wants an optional package"),
    (
        "CausalLM",
        "blt dots3_note emu3 gemma4_assistant gemma4_unified_assistant llama4 musicgen musicgen_melody "
        "qwen3_5 qwen3_5_moe qwen4_exp qwen4_exp_text reformer zamba2",
        "its config does not shrink",
    ),
    (
        "ImageTextToText",
        "chameleon deepseek_ocr2 dots3_note emu3 ernie4_5_vl_moe florence2 glm5_next "
        "granite4_vision granite_docling hunyuan_vl inkling2 molmo2 muse_spark nemotron_h_omni qwen4_exp "
        "unlimited_ocr",
        "its config does not shrink",
    ),
    ("MaskedLM", "perceiver reformer", "its config does not shrink"),
    ("Seq2SeqLM", "nemo_speechlm vibevoice_asr", "its config does not shrink"),
    ("ImageTextToText", "diffusion_gemma", "keeps a cache that a repeat would fill twice"),
    ("CausalLM", "xlm", "spreads its layers over several lists"),
    ("MaskedLM", "flaubert xlm", "spreads its layers over several lists"),
)
NOT_RUN = {f"{kind} {name}": reason for kind, names, reason in _NOT_RUN for name in names.split()}


def cases() -> list[str]:
    """Every architecture of four auto classes, the text parts that only composites have, and the variants."""
    labels = [
        f"{auto_class.removeprefix('AutoModelFor')} {name}"
        for auto_class, names in AUTO_CLASSES.items()
        for name in names
    ]
    heads = {label.split()[1] for label in labels}
    with_block = {name for name, record in hand_written().items() if record.block}
    texts = [name for name in modeling_auto.MODEL_MAPPING_NAMES if name in with_block and name not in heads]
    return labels + [f"Model {name}" for name in texts] + list(VARIANTS)


def build_case(label: str) -> PreTrainedModel:
    """The tiny model that ``label`` names: a kind of head, a model type, and perhaps a variant's name."""
    kind, model_type = label.split()[:2]
    config = small_config(CONFIG_MAPPING[model_type], VARIANTS.get(label))
    names = modeling_auto.MODEL_MAPPING_NAMES if kind == "Model" else AUTO_CLASSES[f"AutoModelFor{kind}"]
    name = names[model_type]
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    for _, part in _sub_configs(config):
        part.use_cache = False
        part._experts_implementation = "eager"
    model: PreTrainedModel = getattr(transformers, name if isinstance(name, str) else name[0])(config).eval()
    if kind != "Model" and hasattr(model, "set_default_language"):
        model.set_default_language("en_XX")
    return model


# Parameters whose random values would overflow or leave their range stay as the model's own code made them.
_KEEP = re.compile(r"A_log|dt_bias|\.D$|time_|recurrent_param|e_score|slope|decay|inv_freq")


def randomise(model: PreTrainedModel) -> None:
    """Give every parameter, norms and biases included, strong random values, so that each one matters."""
    random = torch.Generator().manual_seed(0)
    scalars = [(name, tensor) for name, tensor in model.named_buffers() if name.endswith("layer_scalar")]
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *scalars]:
            if _KEEP.search(name):
                continue
            values = torch.randn(tensor.shape, generator=random) * 0.2
            tensor.copy_(values if tensor.dim() > 1 else tensor + values)


def outputs(model: PreTrainedModel) -> torch.Tensor:
    """The logits on fixed tokens, or the last hidden state of a model without a head."""
    random = torch.Generator().manual_seed(1)
    arguments: dict[str, Any] = {"input_ids": torch.randint(3, 100, (2, 7), generator=random), "use_cache": False}
    if model.config.is_encoder_decoder:
        arguments["decoder_input_ids"] = torch.randint(3, 100, (2, 6), generator=random)
    if "use_cache" not in inspect.signature(model.forward).parameters:
        del arguments["use_cache"]
    with torch.no_grad():
        result = model(**arguments)
    found: torch.Tensor = result.logits if hasattr(result, "logits") else result[0]
    return found


_NOT_TEXT = re.compile(
    r"vision|visual|audio|image|tower|sam_|qformer|perceiver|speech|experts|connector|protein|depth_decoder"
)


def stacks(model: PreTrainedModel) -> list[tuple[str, nn.ModuleList]]:
    """The text stacks of the model: the lists of NUM_LAYERS modules that are not inside another."""
    lists = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList)]
    return [
        (name, part)
        for name, part in lists
        if len(part) == NUM_LAYERS and not _NOT_TEXT.search(name) and not re.search(r"\.\d+\.", name)
    ]


def stack(model: PreTrainedModel, prefix: str, stored_prefix: str, num_layers: int) -> Stack:
    """The stack whose modules are at ``prefix`` and whose tensors are called ``stored_prefix``."""
    role = "encoder" if "encoder" in prefix else "decoder"
    return Stack("main", (stored_prefix,), num_layers, config_path(model, prefix), role)


def config_path(model: PreTrainedModel, prefix: str) -> tuple[str, ...]:
    """The path of a stack's config section within the model's config."""
    parent = prefix
    while parent:
        parent = parent.rpartition(".")[0]
        own = getattr(model.get_submodule(parent), "config", None)
        for path, config in _sub_configs(model.config):
            if config is own:
                return path
    return ()


def _sub_configs(
    config: PretrainedConfig, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], PretrainedConfig]]:
    yield path, config
    for name in getattr(config, "sub_configs", {}):
        sub = getattr(config, name, None)
        if isinstance(sub, PretrainedConfig):
            yield from _sub_configs(sub, (*path, name))
