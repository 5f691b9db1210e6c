"""Mixtures of experts whose first layers are dense, most with latent attention: DeepSeek, GLM, Kimi and others."""

from solar_upscale.architecture.attribute import Attribute
from solar_upscale.architecture.blocks import INDEXER, INNER, LATENT, LLAMA_BLOCK, MLP
from solar_upscale.architecture.encodings.common import Formula, Listed
from solar_upscale.architecture.encodings.lists import Pointers
from solar_upscale.architecture.encodings.numbers import Prefix, RootScaled
from solar_upscale.architecture.formulas import deepseek_v4, dots3, global_ends
from solar_upscale.architecture.record import Block, ModelType, NoFactor, named
from solar_upscale.architecture.shared_attributes import (
    BY_INDEX,
    NO_ROPE,
    always,
    every,
    first_dense,
    indexer,
    layer_types,
    mlp_types,
    prefix_only,
    window_from,
)

__all__ = ["TYPES"]


DEEPSEEK_V2 = ModelType(
    "deepseek_v2",
    (prefix_only("first_k_dense_replace", 0, "moe_layer_freq"),),
    block=LLAMA_BLOCK,
    readers=("gate", *LATENT),
)
GLM4_MOE = ModelType("glm4_moe", (prefix_only("first_k_dense_replace", 1),), block=LLAMA_BLOCK, readers=("gate",))

TYPES: tuple[ModelType, ...] = (
    ModelType(
        "axk1",
        (mlp_types(first_dense("first_k_dense_replace", 1, "moe_layer_freq")),),
        block=Block(("self_attn.o_proj", f"mlp.post_mlp_layernorm|post_mlp_layernorm|{MLP}"), inner=INNER),
        readers=("gate", *LATENT),
    ),
    ModelType(
        "axk2",
        (
            layer_types(always("indexed_attention")),
            mlp_types(first_dense("first_k_dense_replace", 1, "moe_layer_freq")),
        ),
        block=LLAMA_BLOCK,
        readers=("fc1", "gate", "input_layernorm", "post_attention_layernorm", "q_gate_proj", *LATENT, *INDEXER),
    ),
    ModelType(
        "beam",
        (layer_types(Formula(global_ends)), mlp_types(first_dense(None, 3)), BY_INDEX),
        no_factor=(NoFactor("each addition weights the stream by the layer index"),),
    ),
    ModelType("deepseek_ocr2_text", (mlp_types(first_dense("first_k_dense_replace", 1)),)),
    *named(DEEPSEEK_V2, "deepseek_v2 kimi_k2"),
    ModelType("deepseek_v3", (prefix_only("first_k_dense_replace", 3),), block=LLAMA_BLOCK, readers=("gate", *LATENT)),
    ModelType(
        "deepseek_v32",
        (layer_types(always("indexed_attention")), mlp_types(first_dense("first_k_dense_replace", 3))),
        block=LLAMA_BLOCK,
        readers=("gate", *LATENT, *INDEXER),
    ),
    ModelType(
        "deepseek_v4",
        (
            layer_types(
                Listed("compress_ratios"),
                Formula(deepseek_v4),
            ),
            mlp_types(Prefix("num_hash_layers", "hash_moe", "moe", 3)),
        ),
        no_factor=(
            NoFactor(
                "its residual stream consists of several streams that each block mixes (hyper-connections or AltUp)"
            ),
        ),
    ),
    ModelType(
        "dots1",
        (layer_types(window_from(62, switch=False)), prefix_only("first_k_dense_replace", 0)),
        harmless=("max_window_layers",),
        block=LLAMA_BLOCK,
        readers=("gate",),
    ),
    ModelType(
        "dots3_note_text",
        (
            layer_types(Formula(dots3, ("use_dsa", "use_sliding_window"))),
            mlp_types(first_dense("first_k_dense_replace", 1, "moe_layer_freq")),
        ),
        block=LLAMA_BLOCK,
        readers=("g_proj", "gate", *LATENT, *INDEXER),
    ),
    ModelType(
        "exaone_moe",
        (
            layer_types(every("sliding_window_pattern", 4)),
            mlp_types(first_dense("first_k_dense_replace", 1)),
        ),
        block=LLAMA_BLOCK,
        readers=("gate",),
    ),
    *named(GLM4_MOE, "glm4_moe glm4v_moe_text"),
    ModelType("glm4_moe_lite", (mlp_types(first_dense(None, 1)),), block=LLAMA_BLOCK, readers=("gate", *LATENT)),
    ModelType(
        "glm_moe_dsa",
        (
            layer_types(always("indexed_attention")),
            mlp_types(first_dense("first_k_dense_replace", 3)),
            *indexer(),
        ),
        block=LLAMA_BLOCK,
        readers=("gate", *LATENT, *INDEXER),
    ),
    ModelType("hy_v3", (mlp_types(first_dense(None, 1)),), block=LLAMA_BLOCK, readers=("gate", "router")),
    ModelType(
        "hy_v4",
        (
            layer_types(always("indexed_attention")),
            mlp_types(first_dense(None, 1)),
            *indexer(Formula(lambda view, i, n: "full" if i == 0 or (i - 1) % 4 == 0 else "shared")),
        ),
        block=LLAMA_BLOCK,
        readers=("attn_hc", "ffn_hc", "gate", "hc_pre", "linear_gate", *LATENT, *INDEXER),
    ),
    ModelType(
        "longcat_flash",
        counts={"decoder": ("num_layers",)},
        proportional=("num_hidden_layers",),
        no_factor=(NoFactor("its identity experts add their input unchanged, and no projection scales it"),),
    ),
    ModelType(
        "minicpm3", (Attribute("scale_depth", (RootScaled("scale_depth", 1.4),)),), block=LLAMA_BLOCK, readers=LATENT
    ),
    ModelType("mistral4", (prefix_only("first_k_dense_replace", 0),), block=LLAMA_BLOCK, readers=("gate", *LATENT)),
    ModelType(
        "mistral_large4_text",
        (
            NO_ROPE,
            layer_types(always("indexed_attention")),
            mlp_types(first_dense("first_k_dense_replace", 1)),
            *indexer(),
            Attribute(
                "kv_source_layers",
                (Pointers("kv_source_layers"),),
                "a layer that reads another layer's keys (kv_source_layers) must come after that layer",
                pointer=True,
            ),
        ),
        block=Block(
            (
                "self_attn.o_proj|attention.wo|attention.o_proj",
                f"experts.*.w2|feed_forward.w2|feed_forward.down_proj|{MLP}",
            ),
            optional=("mlp.shared_experts.down_proj|shared_experts.w2|shared_experts.down_proj",),
        ),
        readers=("gate", "kv_a_proj_with_mqa", "kv_b_proj", "w1", "w3", "wkv_a_with_mqa", "wkv_b", "wq", *INDEXER),
    ),
    ModelType("solar_open", block=LLAMA_BLOCK, readers=("gate",)),
    ModelType(
        "unlimited_ocr_text",
        (layer_types(always("reference_sliding_attention")), mlp_types(first_dense("first_k_dense_replace", 1))),
    ),
    ModelType("youtu", block=LLAMA_BLOCK, readers=LATENT),
)
