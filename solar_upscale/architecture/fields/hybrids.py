"""Decoders of which some layers attend and some carry a state: linear attention, convolutions, recurrences."""

from collections.abc import Mapping

from solar_upscale.architecture.attributes import (
    FIRST_ONLY,
    QWEN_MLP,
    always,
    by_position,
    every,
    first_dense,
    indexer,
    layer_types,
    listed,
    mlp_types,
    prefix_only,
    searched,
)
from solar_upscale.architecture.encodings import Cycle, Formula, Indices, Listed, Text
from solar_upscale.architecture.formulas import (
    DENSE,
    FULL,
    LINEAR,
    SPARSE,
    hybrid_rank,
    kimi_linear,
    lfm3,
    ngram_rank,
    offset_period,
    offset_periods,
    zamba,
)
from solar_upscale.architecture.rules import Attribute, Row

__all__ = ["HYBRIDS"]

QWEN3_5 = Row((layer_types(every("full_attention_interval", 4, FULL, LINEAR)),))

HYBRIDS: Mapping[str, Row] = {
    "bailing_hybrid": Row(
        (
            layer_types(every("layer_group_size", 6, FULL, LINEAR)),
            mlp_types(first_dense("first_k_dense_replace", 2)),
        ),
    ),
    "bamba": Row((Attribute("attn_layer_indices", (Indices("attn_layer_indices", FULL, LINEAR),)),)),
    "glm5_next_text": Row(
        (
            layer_types(every(None, 4, "indexed_attention", LINEAR)),
            mlp_types(first_dense(None, 3)),
            *indexer(),
        ),
    ),
    "granitemoehybrid": Row(
        (Attribute("layer_types", (Listed("layer_types"), Listed("layers_block_type"), always(LINEAR))),)
    ),
    "jamba": Row(
        (
            searched(
                ("attn_layer_period", "attn_layer_offset"),
                offset_period("attn_layer_period", "attn_layer_offset", (8, 4), "attention", "mamba"),
                lambda view, vector: offset_periods(vector, "attention"),
                "this model says only a period and an offset for its attention layers",
            ),
            searched(
                ("expert_layer_period", "expert_layer_offset"),
                offset_period("expert_layer_period", "expert_layer_offset", (2, 1), SPARSE, DENSE),
                lambda view, vector: offset_periods(vector, SPARSE),
                "this model says only a period and an offset for its expert layers",
            ),
        )
    ),
    "kimi_linear": Row(
        (
            layer_types(Indices("linear_attn_config.full_attn_layers", FULL, LINEAR, 1), Formula(kimi_linear)),
            Attribute("kda_layers", (Indices("linear_attn_config.kda_layers", LINEAR, FULL, 1),)),
            mlp_types(first_dense("first_k_dense_replace", 1)),
        ),
    ),
    "lfm2": Row((layer_types(Indices("full_attn_idxs", FULL, "conv"), always(FULL)),)),
    "lfm2_moe": Row((layer_types(), prefix_only("num_dense_layers", 2))),
    "lfm3": Row((layer_types(Formula(lfm3)),)),
    "minimax": Row(
        (layer_types(every(None, 2, LINEAR, FULL)),),
        needs=(
            ".slope_rate",
            "without these buffers the decay of a linear-attention layer is computed from its number and the depth; "
            "save the model once with transformers, which writes them",
        ),
    ),
    "nemotron_h": Row(
        (
            Attribute(
                "layers_block_type",
                (
                    Listed("layers_block_type"),
                    Listed("layer_types"),
                    Text("hybrid_override_pattern", {"M": LINEAR, "*": FULL, "-": "mlp", "E": "moe"}),
                ),
            ),
        ),
    ),
    "olmo_hybrid": Row((layer_types(every(None, 4, FULL, LINEAR)),)),
    "qwen3_5_moe_text": QWEN3_5,
    "qwen3_5_text": QWEN3_5,
    "qwen3_next": Row((*QWEN3_5.attributes, QWEN_MLP)),
    "qwen4_exp_text": Row(
        (
            layer_types(every("full_attention_interval", 4, "indexed_attention", LINEAR)),
            Attribute("ple_layer_ids", (Indices("ple_layer_ids", True, False, 1),)),
            by_position(
                "n-gram tables",
                ngram_rank,
                "n-gram tables are sized and seeded by a layer's place in ple_layer_ids, so these layers must all "
                "stay, once each and in order",
            ),
        ),
    ),
    "recurrent_gemma": Row(
        (Attribute("block_types", (Cycle("block_types", ("recurrent", "recurrent", "attention")),)),),
    ),
    "rwkv": Row((FIRST_ONLY,)),
    "xlstm": Row(proportional=("num_blocks",)),
    "zamba": Row(
        (Attribute("layers_block_type", (Listed("layers_block_type"), Formula(zamba))),),
        beside=("attn_layer_period", "attn_layer_offset"),
        shared_module="shared_transf",
    ),
    "zamba2": Row(
        (
            listed("layers_block_type"),
            Attribute("hybrid_layer_ids", (Indices("hybrid_layer_ids", "hybrid", LINEAR),)),
            by_position(
                "hybrid layers",
                hybrid_rank,
                "the shared transformers and their adapters are handed out by the order of the hybrid layers, so "
                "these must all stay, once each and in order",
            ),
        ),
        beside=("num_mem_blocks",),
    ),
    "zaya": Row((layer_types(always("hybrid")), FIRST_ONLY)),
}
