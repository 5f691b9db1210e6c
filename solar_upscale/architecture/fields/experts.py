"""Decoders of which some layers are dense and some hold experts."""

from collections.abc import Mapping

from solar_upscale.architecture.attributes import (
    BY_INDEX,
    NO_ROPE,
    QWEN_MLP,
    always,
    every,
    first_dense,
    from_no_rope,
    indexer,
    layer_types,
    listed,
    mlp_types,
    prefix_only,
    searched,
    window_from,
)
from solar_upscale.architecture.encodings import EveryExcept, Formula, Indices, Listed, Pointers, Prefix
from solar_upscale.architecture.formulas import (
    DENSE,
    FULL,
    SLIDING,
    SPARSE,
    backward_fourth,
    backward_fourth_theta,
    cohere2_moe,
    deepseek_v4,
    dots3,
    global_ends,
    lagging_full,
    llama4_moe,
    moe_span,
    moe_spans,
    qwen2_moe,
    step_moe,
)
from solar_upscale.architecture.rules import Attribute, Row

__all__ = ["EXPERTS"]

QWEN3_MOE = Row((QWEN_MLP,))

EXPERTS: Mapping[str, Row] = {
    "afmoe": Row((layer_types(every("global_attn_every_n_layers", 4)), prefix_only("num_dense_layers", 1))),
    "axk1": Row((mlp_types(first_dense("first_k_dense_replace", 1, "moe_layer_freq")),)),
    "axk2": Row(
        (
            layer_types(always("indexed_attention")),
            mlp_types(first_dense("first_k_dense_replace", 1, "moe_layer_freq")),
        )
    ),
    "beam": Row((layer_types(Formula(global_ends)), mlp_types(first_dense(None, 3)), BY_INDEX)),
    "cohere2_moe": Row(
        (
            layer_types(Formula(cohere2_moe, ("sliding_window_pattern", "prefix_dense_sliding_window_pattern"))),
            mlp_types(first_dense("first_k_dense_replace", 0)),
        )
    ),
    "deepseek_ocr2_text": Row((mlp_types(first_dense("first_k_dense_replace", 1)),)),
    "deepseek_v2": Row((prefix_only("first_k_dense_replace", 0, "moe_layer_freq"),)),
    "deepseek_v3": Row((prefix_only("first_k_dense_replace", 3),)),
    "deepseek_v32": Row(
        (layer_types(always("indexed_attention")), mlp_types(first_dense("first_k_dense_replace", 3))),
    ),
    "deepseek_v4": Row(
        (
            layer_types(
                Listed("compress_ratios"),
                Formula(deepseek_v4),
            ),
            mlp_types(Prefix("num_hash_layers", "hash_moe", "moe", 3)),
        ),
    ),
    "dots1": Row((layer_types(window_from(62, switch=False)), prefix_only("first_k_dense_replace", 0))),
    "dots3_note_text": Row(
        (
            layer_types(Formula(dots3, ("use_dsa", "use_sliding_window"))),
            mlp_types(first_dense("first_k_dense_replace", 1, "moe_layer_freq")),
        )
    ),
    "ernie4_5_moe": Row(
        (
            searched(
                ("moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval"),
                moe_span,
                moe_spans,
                "this model says only where its sparse layers start, end and how often they come",
            ),
        )
    ),
    "ernie4_5_vl_moe_text": Row((mlp_types(first_dense(None, 1)),)),
    "exaone_moe": Row(
        (
            layer_types(every("sliding_window_pattern", 4)),
            mlp_types(first_dense("first_k_dense_replace", 1)),
        ),
    ),
    "flint": Row(
        (
            layer_types(Formula(lagging_full)),
            Attribute("mlp_only_layers", (EveryExcept(default_exceptions=(0, 1)),)),
        )
    ),
    "glm4_moe": Row((prefix_only("first_k_dense_replace", 1),)),
    "glm4_moe_lite": Row((mlp_types(first_dense(None, 1)),)),
    "glm4v_moe_text": Row((prefix_only("first_k_dense_replace", 1),)),
    "glm_moe_dsa": Row(
        (
            layer_types(always("indexed_attention")),
            mlp_types(first_dense("first_k_dense_replace", 3)),
            *indexer(),
        ),
    ),
    "hunyuan_v1_moe": Row(
        tuple(listed(name, scalar=True) for name in ("moe_topk", "num_shared_expert", "moe_intermediate_size"))
    ),
    "hy_v3": Row((mlp_types(first_dense(None, 1)),)),
    "hy_v4": Row(
        (
            layer_types(always("indexed_attention")),
            mlp_types(first_dense(None, 1)),
            *indexer(Formula(lambda view, i, n: "full" if i == 0 or (i - 1) % 4 == 0 else "shared")),
        ),
    ),
    "inkling2_text": Row(refusal="attention-residual queries lie outside the layers under numbers of their own"),
    "inkling_text": Row(
        (
            layer_types(
                Indices("local_layer_ids", "hybrid_sliding", "hybrid"), every(None, 6, "hybrid", "hybrid_sliding")
            ),
            mlp_types(Prefix("dense_mlp_idx", DENSE, SPARSE, 0)),
        )
    ),
    "kolibri1": Row((layer_types(every(None, 5)),)),
    "kimi_k2": Row((prefix_only("first_k_dense_replace", 0, "moe_layer_freq"),)),
    "laguna": Row(
        (
            layer_types(always(FULL)),
            mlp_types(first_dense(None, 1)),
            listed("num_attention_heads_per_layer"),
        )
    ),
    "llama4_text": Row(
        (
            NO_ROPE,
            layer_types(from_no_rope("chunked_attention", FULL)),
            Attribute(
                "moe_layers",
                (Indices("moe_layers", SPARSE, DENSE), Formula(llama4_moe, ("interleave_moe_layer_step",))),
            ),
        )
    ),
    "longcat_flash": Row(proportional=("num_hidden_layers",)),
    "mellum": Row((layer_types(always(FULL)), mlp_types(always(SPARSE)))),
    "mimo_v2_flash": Row(
        (
            layer_types(Formula(lambda view, i, n: FULL if i == 0 or (i + 1) % 6 == 0 else SLIDING)),
            mlp_types(first_dense(None, 1)),
        )
    ),
    "minimax_m3_vl_text": Row(
        (
            layer_types(Listed("sparse_attention_config.sparse_attention_freq"), always(FULL)),
            mlp_types(Listed("moe_layer_freq"), always(SPARSE)),
        )
    ),
    "minimax_m2": Row(),
    "mistral4": Row((prefix_only("first_k_dense_replace", 0),)),
    "mistral_large4_text": Row(
        (
            NO_ROPE,
            layer_types(always("indexed_attention")),
            mlp_types(first_dense("first_k_dense_replace", 1)),
            *indexer(),
            Attribute(
                "kv_source_layers",
                (Pointers("kv_source_layers"),),
                "a layer that reads another layer's keys (kv_source_layers) needs that layer before it",
                pointer=True,
            ),
        )
    ),
    "muse_spark_text": Row(
        (
            layer_types(Formula(backward_fourth)),
            listed("layer_rope_theta", otherwise=Formula(backward_fourth_theta(500000.0))),
            mlp_types(always(SPARSE)),
        )
    ),
    "qwen2_moe": Row((layer_types(Formula(qwen2_moe, ("use_sliding_window", "max_window_layers"))), QWEN_MLP)),
    "qwen3_moe": QWEN3_MOE,
    "qwen3_omni_moe_text": QWEN3_MOE,
    "qwen3_vl_moe_text": QWEN3_MOE,
    "step3p5": Row(
        (
            layer_types(always(FULL)),
            mlp_types(Formula(step_moe, ("moe_layers_enum",))),
            listed("swiglu_limits"),
            listed("swiglu_limits_shared"),
        ),
    ),
    "unlimited_ocr_text": Row(
        (layer_types(always("reference_sliding_attention")), mlp_types(first_dense("first_k_dense_replace", 1)))
    ),
}
