"""Decoders that mix attention with layers that carry a state: linear attention, convolutions, recurrences."""

from solar_upscale.architecture.attribute import Attribute
from solar_upscale.architecture.blocks import (
    DELTA_CONV,
    GRANITE_MOE,
    INNER,
    LATENT,
    MLP,
    NORM_AFTER,
    SHARED,
    STATE_SPACE,
)
from solar_upscale.architecture.encodings.common import Formula, Listed
from solar_upscale.architecture.encodings.lists import Cycle, Indices, Text
from solar_upscale.architecture.formulas import (
    DENSE,
    FULL,
    LINEAR,
    SPARSE,
    hybrid_rank,
    kimi_linear,
    lfm3,
    offset_period,
    offset_periods,
    zamba,
)
from solar_upscale.architecture.record import Block, ModelType, NoFactor, named
from solar_upscale.architecture.shared_attributes import (
    FIRST_ONLY,
    always,
    every,
    first_dense,
    indexer,
    layer_types,
    mlp_types,
    position_dependent,
    prefix_only,
    searched,
)
from solar_upscale.architecture.universal_attributes import per_layer_list

__all__ = ["TYPES"]

MAMBA_BLOCK = Block(("mixer.out_proj",))
LFM2_BLOCK = Block(
    (
        "self_attn.out_proj|conv.out_proj",
        "feed_forward.w2|feed_forward.experts.*.w2|feed_forward.experts.down_proj",
    ),
    inner=("conv.conv",),
)
JAMBA_BLOCK = Block(
    (
        "self_attn.o_proj|mamba.out_proj",
        "feed_forward.experts.*.down_proj|feed_forward.experts.down_proj|feed_forward.down_proj",
    )
)

MAMBA = ModelType("mamba", block=MAMBA_BLOCK, readers=STATE_SPACE)

TYPES: tuple[ModelType, ...] = (
    ModelType(
        "bailing_hybrid",
        (
            layer_types(every("layer_group_size", 6, FULL, LINEAR)),
            mlp_types(first_dense("first_k_dense_replace", 2)),
        ),
        block=Block(
            ("self_attn.o_proj|attention.dense", f"{MLP}|block_sparse_moe.experts.*.w2|block_sparse_moe.down_proj"),
            optional=(SHARED, "block_sparse_moe.shared_experts.down_proj"),
        ),
        readers=(
            "b_proj",
            "conv1d",
            "f_proj",
            "forget_gate",
            "g_proj",
            "gate",
            "kv_a_proj_with_mqa",
            "kv_b_proj",
            *DELTA_CONV,
        ),
    ),
    ModelType(
        "bamba",
        (Attribute("attn_layer_indices", (Indices("attn_layer_indices", FULL, LINEAR),)),),
        block=JAMBA_BLOCK,
        readers=("conv1d", "in_proj"),
    ),
    ModelType(
        "falcon_h1",
        block=Block(("feed_forward.down_proj", "mamba.out_proj", "self_attn.o_proj")),
        readers=("conv1d", "in_proj", "mup_vector"),
    ),
    ModelType(
        "glm5_next_text",
        (
            layer_types(every(None, 4, "indexed_attention", LINEAR)),
            mlp_types(first_dense(None, 3)),
            *indexer(),
        ),
    ),
    ModelType(
        "granitemoehybrid",
        (Attribute("layer_types", (Listed("layer_types"), Listed("layers_block_type"), always(LINEAR))),),
        block=GRANITE_MOE,
        readers=("conv1d", "in_proj", "input_linear", "router"),
    ),
    ModelType(
        "jamba",
        (
            searched(
                ("attn_layer_period", "attn_layer_offset"),
                offset_period("attn_layer_period", "attn_layer_offset", (8, 4), "attention", "mamba"),
                lambda view, vector: offset_periods(vector, "attention"),
                "the config only gives a period and an offset for its attention layers",
            ),
            searched(
                ("expert_layer_period", "expert_layer_offset"),
                offset_period("expert_layer_period", "expert_layer_offset", (2, 1), SPARSE, DENSE),
                lambda view, vector: offset_periods(vector, SPARSE),
                "the config only gives a period and an offset for its expert layers",
            ),
        ),
        block=JAMBA_BLOCK,
        readers=("router", *STATE_SPACE),
    ),
    ModelType(
        "kimi_linear",
        (
            layer_types(Indices("linear_attn_config.full_attn_layers", FULL, LINEAR, 1), Formula(kimi_linear)),
            Attribute("kda_layers", (Indices("linear_attn_config.kda_layers", LINEAR, FULL, 1),)),
            mlp_types(first_dense("first_k_dense_replace", 1)),
        ),
        block=Block(
            ("self_attn.o_proj|attention.dense", f"{MLP}|block_sparse_moe.experts.*.w2|block_sparse_moe.down_proj"),
            optional=(SHARED, "block_sparse_moe.shared_experts.down_proj"),
        ),
        readers=(
            "A_log",
            "b_proj",
            "conv1d",
            "f_a_proj",
            "f_b_proj",
            "forget_gate",
            "g_a_proj",
            "g_b_proj",
            "gate",
            "w1",
            "w3",
            *LATENT,
            *DELTA_CONV,
        ),
    ),
    ModelType(
        "lfm2",
        (layer_types(Indices("full_attn_idxs", FULL, "conv"), always(FULL)),),
        harmless=("block_dim", "block_ff_dim", "block_multiple_of"),
        block=LFM2_BLOCK,
        readers=("w1", "w3"),
    ),
    ModelType(
        "lfm2_moe",
        (layer_types(), prefix_only("num_dense_layers", 2)),
        block=LFM2_BLOCK,
        readers=("gate", "in_proj", "w1", "w3"),
    ),
    ModelType(
        "lfm3",
        (layer_types(Formula(lfm3)),),
        block=Block(
            ("post_operator_norm", "post_ffn_norm"),
            inner=("conv.conv", "conv.out_proj", "self_attn.o_proj", "feed_forward.w2"),
        ),
        readers=("g_proj", "in_proj", "w1", "w3"),
    ),
    *named(MAMBA, "falcon_mamba mamba"),
    ModelType("mamba2", block=MAMBA_BLOCK, readers=("conv1d", "in_proj")),
    ModelType(
        "minimax",
        (layer_types(every(None, 2, LINEAR, FULL)),),
        harmless=("block_size",),
        required_buffer=(
            ".slope_rate",
            "without these buffers the model computes the decay of a linear-attention layer from its index and the "
            "depth; save the model once with transformers, which writes them",
        ),
        no_factor=NORM_AFTER,
    ),
    ModelType(
        "nemotron_h",
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
        harmless=("mtp_hybrid_override_pattern", "mtp_layers_block_type"),
        block=Block(
            (
                "mixer.out_proj|mixer.o_proj|mixer.fc2_latent_proj|mixer.experts.*.down_proj|mixer.experts.down_proj"
                "|mixer.down_proj",
            ),
            optional=("mixer.shared_experts.down_proj",),
            inner=("mixer.experts.*.down_proj", "mixer.experts.down_proj"),
        ),
        readers=("conv1d", "gate", "in_proj"),
    ),
    ModelType(
        "olmo_hybrid",
        (layer_types(every(None, 4, FULL, LINEAR)),),
        required_kinds=("linear_attention", "full_attention"),
        block=Block(
            (
                "linear_attn.o_proj|post_attention_layernorm|feedforward_layer_norm",
                "post_feedforward_layernorm|mlp.down_proj",
            ),
            inner=INNER,
        ),
        readers=("a_proj", "b_proj", "conv1d", "g_proj", *DELTA_CONV),
    ),
    ModelType(
        "recurrent_gemma",
        (Attribute("block_types", (Cycle("block_types", ("recurrent", "recurrent", "attention")),)),),
        block=Block(("temporal_block.o_proj|temporal_block.linear_out", "mlp_block.down_proj")),
        readers=("conv_1d", "linear_x", "linear_y", "rg_lru"),
    ),
    ModelType(
        "rwkv",
        (FIRST_ONLY,),
        harmless=("rescale_every",),
        no_factor=(NoFactor("its first block normalises the stream before adding to it"),),
    ),
    ModelType(
        "xlstm",
        proportional=("num_blocks",),
        block=Block(("mlstm_layer.out_proj", "ffn.proj_down")),
        readers=("fgate_preact", "igate_preact", "k", "ogate_preact", "proj_up", "proj_up_gate", "q", "v"),
    ),
    ModelType(
        "zamba",
        (Attribute("layers_block_type", (Listed("layers_block_type"), Formula(zamba))),),
        harmless=("attn_layer_period", "attn_layer_offset"),
        shared_module="shared_transf",
    ),
    ModelType(
        "zamba2",
        (
            per_layer_list("layers_block_type"),
            Attribute("hybrid_layer_ids", (Indices("hybrid_layer_ids", "hybrid", LINEAR),)),
            position_dependent(
                "hybrid layers",
                hybrid_rank,
                "the shared transformers and their adapters are assigned by the order of the hybrid layers, so the "
                "pattern must contain each of these once, in order",
            ),
        ),
        harmless=("num_mem_blocks",),
    ),
    ModelType(
        "zaya",
        (layer_types(always("hybrid")), FIRST_ONLY),
        no_factor=(
            NoFactor("its blocks scale and shift the stream, and the router passes a state from block to block"),
        ),
    ),
)
