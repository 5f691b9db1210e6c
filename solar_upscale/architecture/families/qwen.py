"""Qwen: sliding windows on the last layers, mixtures of experts, linear attention.

All Qwen configs contain max_window_layers, whether or not the model uses it.
"""

from solar_upscale.architecture.attribute import Attribute
from solar_upscale.architecture.blocks import LLAMA_BLOCK
from solar_upscale.architecture.encodings.common import Formula
from solar_upscale.architecture.encodings.lists import Indices
from solar_upscale.architecture.formulas import FULL, LINEAR, ngram_rank, qwen2_moe
from solar_upscale.architecture.record import ModelType, named
from solar_upscale.architecture.shared_attributes import QWEN_MLP, every, layer_types, position_dependent, window_from

__all__ = ["TYPES"]


QWEN2 = ModelType("qwen2", (layer_types(window_from(28)),), harmless=("max_window_layers",), block=LLAMA_BLOCK)
QWEN2_VL_TEXT = ModelType(
    "qwen2_vl_text", (layer_types(window_from(80)),), harmless=("max_window_layers",), block=LLAMA_BLOCK
)
QWEN3_MOE = ModelType("qwen3_moe", (QWEN_MLP,), harmless=("max_window_layers",), block=LLAMA_BLOCK, readers=("gate",))

TYPES: tuple[ModelType, ...] = (
    *named(QWEN2, "qwen2 qwen2_5_omni_text qwen3"),
    ModelType(
        "qwen2_moe",
        (layer_types(Formula(qwen2_moe, ("use_sliding_window", "max_window_layers"))), QWEN_MLP),
        harmless=("max_window_layers",),
        block=LLAMA_BLOCK,
        readers=("gate", "shared_expert_gate"),
    ),
    *named(QWEN2_VL_TEXT, "qwen2_5_vl_text qwen2_vl_text"),
    ModelType(
        "qwen3_5_moe_text",
        (layer_types(every("full_attention_interval", 4, FULL, LINEAR)),),
        harmless=("max_window_layers",),
        block=LLAMA_BLOCK,
        readers=("conv1d", "gate", "in_proj_a", "in_proj_b", "in_proj_qkv", "in_proj_z", "shared_expert_gate"),
    ),
    ModelType(
        "qwen3_5_text",
        (layer_types(every("full_attention_interval", 4, FULL, LINEAR)),),
        harmless=("max_window_layers",),
        block=LLAMA_BLOCK,
        readers=("conv1d", "in_proj_a", "in_proj_b", "in_proj_qkv", "in_proj_z"),
    ),
    *named(QWEN3_MOE, "qwen3_moe qwen3_omni_moe_text qwen3_vl_moe_text"),
    ModelType(
        "qwen3_next",
        (layer_types(every("full_attention_interval", 4, FULL, LINEAR)), QWEN_MLP),
        harmless=("max_window_layers",),
        block=LLAMA_BLOCK,
        readers=("conv1d", "gate", "in_proj_ba", "in_proj_qkvz", "shared_expert_gate"),
    ),
    ModelType("qwen3_vl_text", harmless=("max_window_layers",), block=LLAMA_BLOCK, readers=("to_k", "to_q", "to_v")),
    ModelType(
        "qwen4_exp_text",
        (
            layer_types(every("full_attention_interval", 4, "indexed_attention", LINEAR)),
            Attribute("ple_layer_ids", (Indices("ple_layer_ids", True, False, 1),)),
            position_dependent(
                "n-gram tables",
                ngram_rank,
                "n-gram tables are sized and seeded by a layer's rank in ple_layer_ids, so the pattern must contain "
                "each of these layers once, in order",
            ),
        ),
        harmless=("max_window_layers",),
    ),
)
