"""Which config fields each model type ties to its depth: the table.

A row names the attributes that differ from layer to layer and how its config says them, in the order in which the
model's code believes them. How an encoding is read and written is encodings.py; what code computes is formulas.py. A
model type with no row is either counted only (COUNTED in families.py) or unknown.
"""

# ruff: noqa: ARG001 (a formula takes the view, the layer and the depth, whichever it needs)

from collections.abc import Mapping
from dataclasses import dataclass

from solar_upscale.architecture.encodings import (
    Constant,
    Cycle,
    EveryExcept,
    Formula,
    Indices,
    Keyed,
    Listed,
    MoeSpan,
    Period,
    Pointers,
    Prefix,
    Repeated,
    RootScaled,
    Searched,
    Text,
)
from solar_upscale.architecture.formulas import (
    BY_DEPTH,
    BY_INDEX,
    BY_PARITY,
    DEEPSTACK,
    DENSE,
    FIRST_ONLY,
    FULL,
    GEMMA2,
    GEMMA3,
    GEMMA3N_TYPES,
    GEMMA4_TYPES,
    INVERSE_INDEX,
    LAST_ONLY,
    LINEAR,
    MLLAMA_CROSS,
    MOE_FREQUENCY,
    NEOMME_TYPES,
    NO_ROPE,
    QWEN_MLP,
    SLIDING,
    SPARSE,
    aligned,
    always,
    backward_fourth,
    by_position,
    cohere2_moe,
    deepseek_v4,
    dots3,
    every,
    first_dense,
    forced_last,
    from_no_rope,
    hybrid_rank,
    image_layers_listed,
    indexer,
    kimi_linear,
    kv_shared,
    lagging_full,
    layer_types,
    lfm3,
    llama4_moe,
    ministral,
    mlp_types,
    neomme_ends,
    ngram_rank,
    prefix_only,
    qwen2_moe,
    step_moe,
    topk_schedule,
    window_from,
    zamba,
)
from solar_upscale.architecture.rules import Attribute, View

__all__ = ["EVERY_TYPE", "ROOT_ROWS", "ROWS", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """What one model type ties to its depth.

    ``proportional`` are fields that follow the number of layers beside the count. ``gathers`` are the endings of
    tensors outside the layers with a slice a layer, and the axis of the slices. ``beside`` are fields that speak of
    something else. ``strided`` are the endings of prefixes numbered once every so many layers, and the field that says
    how many.
    ``shared_module`` is a module that layers share and that the file holds once. ``needs`` is the ending of a buffer
    without which the code would compute it from a layer's new number, and what to say then. ``refusal`` is why the
    depth of this type cannot be changed at all.
    """

    attributes: tuple[Attribute, ...] = ()
    proportional: tuple[str, ...] = ()
    gathers: tuple[tuple[str, int], ...] = ()
    beside: tuple[str, ...] = ()
    strided: tuple[tuple[str, str], ...] = ()
    shared_module: str | None = None
    needs: tuple[str, str] | None = None
    refusal: str | None = None


PER_LAYER_EMBEDDINGS = (("embed_tokens_per_layer.weight", 1), ("per_layer_model_projection.weight", 0))
GEMMA4 = Row(
    (GEMMA4_TYPES, forced_last(GEMMA4_TYPES), kv_shared(GEMMA4_TYPES)),
    gathers=PER_LAYER_EMBEDDINGS,
)
QWEN2 = Row((layer_types(window_from(28)),))
QWEN2_VL = Row((layer_types(window_from(80)),))
QWEN3_5 = Row((layer_types(every("full_attention_interval", 4, FULL, LINEAR)),))
QWEN3_MOE = Row((QWEN_MLP,))
T5 = Row((FIRST_ONLY,))


def _nllb_moe(step: str, other: str) -> Row:
    def sparse(view: View, i: int, n: int) -> bool:
        every = view.get(step, 4)
        return bool(every > 0 and (i + 1) % every == 0)

    search = Searched((step,), sparse, lambda view, m: [(k,) for k in range(m + 2)])
    return Row(
        (Attribute(step, (search,), f"this model says only how often its sparse layers come ({step})"),),
        beside=(other,),
    )


def _switch(role: str, other: str) -> Row:
    """The step is recomputed from the number of sparse layers and of layers whenever the config is read."""
    field, step = f"num_sparse_{role}_layers", f"{role}_sparse_step"

    def sparse(view: View, i: int, n: int) -> bool:
        number = view.get(field, 3)
        every = n // number if number > 0 else n
        return every > 0 and (every == 1 or i % every == 1)

    search = Searched((field,), sparse, lambda view, m: [(k,) for k in range(m + 1)])
    why = f"this model says only how many of its layers are sparse ({field}), evenly spread"
    return Row(
        (FIRST_ONLY, Attribute(field, (search,), why)),
        beside=(step, f"num_sparse_{other}_layers", f"{other}_sparse_step"),
    )


# --- the table ---------------------------------------------------------------------------------------------------

# What any type may carry in its config, whether or not its own code asks for it.
EVERY_TYPE: tuple[Attribute, ...] = (
    Attribute("layer_types", (Listed("layer_types"),)),
    Attribute("layers_block_type", (Listed("layers_block_type"),)),
    Attribute("mlp_layer_types", (Listed("mlp_layer_types"),)),
    Attribute("per_layer_config", (Keyed("per_layer_config"),)),
    Attribute("moe_layer_freq", (Listed("moe_layer_freq"), MOE_FREQUENCY)),
    Attribute("attn_type_list", (Listed("attn_type_list"),)),
)

ROWS: Mapping[str, Row] = {
    "albert": Row(refusal="one set of weights serves all its layers, so there is none to repeat, drop or move"),
    "afmoe": Row((layer_types(every("global_attn_every_n_layers", 4)), prefix_only("num_dense_layers", 1))),
    "axk1": Row((mlp_types(first_dense("first_k_dense_replace", 1, "moe_layer_freq")),)),
    "axk2": Row(
        (
            layer_types(always("indexed_attention")),
            mlp_types(first_dense("first_k_dense_replace", 1, "moe_layer_freq")),
        )
    ),
    "bailing_hybrid": Row(
        (
            layer_types(every("layer_group_size", 8, FULL, LINEAR)),
            mlp_types(first_dense("first_k_dense_replace", 2)),
        ),
    ),
    "bamba": Row((Attribute("attn_layer_indices", (Indices("attn_layer_indices", FULL, LINEAR),)),)),
    "beam": Row((layer_types(), mlp_types(), BY_INDEX)),
    "cohere2": Row((layer_types(every("sliding_window_pattern", 4)),)),
    "cohere2_moe": Row(
        (
            layer_types(Formula(cohere2_moe, ("sliding_window_pattern", "prefix_dense_sliding_window_pattern"))),
            mlp_types(first_dense("first_k_dense_replace", 0)),
        )
    ),
    "cohere_compass_text": Row((layer_types(always(FULL)),)),
    "cwm": Row((layer_types(every(None, 4, phase=0)),)),
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
    "diffusion_gemma_text": Row(refusal="its layers serve an encoder and a decoder at once"),
    "diffllama": Row((BY_INDEX,)),
    "dots1": Row((layer_types(window_from(62, switch=False)), prefix_only("first_k_dense_replace", 0))),
    "dots3_note_text": Row(
        (
            layer_types(Formula(dots3, ("use_dsa", "use_sliding_window"))),
            mlp_types(first_dense("first_k_dense_replace", 1, "moe_layer_freq")),
        )
    ),
    "ernie4_5_moe": Row(
        (
            Attribute(
                "moe_layer_start_index",
                (MoeSpan(),),
                "this model says only where its sparse layers start, end and how often they come "
                "(moe_layer_start_index, moe_layer_end_index, moe_layer_interval)",
            ),
        )
    ),
    "ernie4_5_vl_moe_text": Row((mlp_types(first_dense(None, 1)),)),
    "esm": Row((), gathers=(("contact_head.regression.weight", 1),)),
    "esmc": Row((BY_DEPTH,)),
    "evolla": Row(
        (
            Attribute(
                "aligner_num_add_layers",
                (Searched(("aligner_num_add_layers",), aligned, lambda view, m: [(k,) for k in range(1, m + 1)]),),
                "this model says only how often its adapters come (aligner_num_add_layers)",
            ),
        )
    ),
    "funnel": Row(beside=("block_sizes", "block_repeats")),
    "exaone4": Row((layer_types(every("sliding_window_pattern", 4)),)),
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
    "gemma2": Row(GEMMA2),
    "gemma3_text": Row(GEMMA3),
    "gemma3n_text": Row(
        (
            GEMMA3N_TYPES,
            Attribute("activation_sparsity_pattern", (Listed("activation_sparsity_pattern", scalar=True),)),
            Attribute("intermediate_size", (Listed("intermediate_size", scalar=True),)),
            kv_shared(GEMMA3N_TYPES),
        ),
        gathers=PER_LAYER_EMBEDDINGS,
    ),
    "gemma4_text": GEMMA4,
    "gemma4_unified_text": GEMMA4,
    "glm4_moe": Row((prefix_only("first_k_dense_replace", 1),)),
    "glm4_moe_lite": Row((mlp_types(first_dense(None, 1)),)),
    "glm4v_moe_text": Row((prefix_only("first_k_dense_replace", 1),)),
    "glm5_next_text": Row(
        (
            layer_types(every(None, 4, "indexed_attention", LINEAR)),
            mlp_types(first_dense(None, 3)),
            *indexer(Formula(topk_schedule, ("index_topk_freq", "index_skip_topk_offset"))),
        ),
    ),
    "glm_moe_dsa": Row(
        (
            layer_types(always("indexed_attention")),
            mlp_types(first_dense("first_k_dense_replace", 3)),
            *indexer(Formula(topk_schedule, ("index_topk_freq", "index_skip_topk_offset"))),
        ),
    ),
    "gpt-sw3": Row((INVERSE_INDEX,)),
    "gpt2": Row((INVERSE_INDEX,)),
    "gpt_neo": Row(
        (
            Attribute(
                "attention_types",
                (Repeated("attention_types", ((("global", "local"), 12),)), Listed("attention_layers")),
            ),
        )
    ),
    "gpt_neox_japanese": Row((LAST_ONLY,)),
    "gpt_oss": Row((layer_types(every(None, 2)),)),
    "granite_swa": Row(
        (layer_types(every(None, 4, phase=0)), Attribute("layer_rope_theta", (Listed("layer_rope_theta"),)))
    ),
    "granitemoe_swa": Row(
        (layer_types(every(None, 4, phase=0)), Attribute("layer_rope_theta", (Listed("layer_rope_theta"),)))
    ),
    "granitemoehybrid": Row(
        (Attribute("layer_types", (Listed("layer_types"), Listed("layers_block_type"), always(LINEAR))),)
    ),
    "hrm_text": Row(proportional=("num_hidden_layers",)),
    "hunyuan_v1_moe": Row(
        tuple(
            Attribute(name, (Listed(name, scalar=True),))
            for name in ("moe_topk", "num_shared_expert", "moe_intermediate_size")
        )
    ),
    "hy_v3": Row((mlp_types(first_dense(None, 1)),)),
    "hy_v4": Row(
        (
            layer_types(always("indexed_attention")),
            mlp_types(first_dense(None, 1)),
            *indexer(Formula(lambda view, i, n: "full" if i == 0 or (i - 1) % 4 == 0 else "shared")),
        ),
    ),
    "idefics": Row(
        (
            by_position(
                "cross_layer_interval",
                lambda view, i, n: i % view.get("cross_layer_interval", 1) == 0,
                "a gated cross-attention layer stands before every cross_layer_interval-th layer, so those "
                "must stay there",
            ),
        ),
        strided=(("gated_cross_attn_layers", "cross_layer_interval"),),
        beside=("cross_layer_interval",),
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
    "jamba": Row(
        (
            Attribute(
                "attn_layer_period",
                (Period("attn_layer_period", "attn_layer_offset", FULL, LINEAR, (8, 4)),),
                "this model says only a period and an offset for its attention layers (attn_layer_period, "
                "attn_layer_offset)",
            ),
            Attribute(
                "expert_layer_period",
                (Period("expert_layer_period", "expert_layer_offset", SPARSE, DENSE, (2, 1)),),
                "this model says only a period and an offset for its expert layers (expert_layer_period, "
                "expert_layer_offset)",
            ),
        )
    ),
    "kimi_linear": Row(
        (
            layer_types(Indices("linear_attn_config.full_attn_layers", FULL, LINEAR, 1), Formula(kimi_linear)),
            Attribute("kda_layers", (Indices("linear_attn_config.kda_layers", LINEAR, FULL, 1),)),
            mlp_types(first_dense("first_k_dense_replace", 1, "moe_layer_freq")),
        ),
    ),
    "kolibri1": Row((layer_types(every(None, 5)),)),
    "laguna": Row(
        (
            layer_types(always(FULL)),
            mlp_types(first_dense(None, 1)),
            Attribute("num_attention_heads_per_layer", (Listed("num_attention_heads_per_layer"),)),
        )
    ),
    "led:decoder": Row(beside=("attention_window",)),
    "led:encoder": Row((Attribute("attention_window", (Listed("attention_window", scalar=True),)),)),
    "lfm2": Row((layer_types(Indices("full_attn_idxs", FULL, "conv"), always(FULL)),)),
    "lfm2_moe": Row((layer_types(), prefix_only("num_dense_layers", 2))),
    "lfm3": Row((layer_types(Formula(lfm3)),)),
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
    "longformer": Row((Attribute("attention_window", (Listed("attention_window", scalar=True),)),)),
    "longt5": T5,
    "longcat_flash": Row(proportional=("num_hidden_layers",)),
    "mellum": Row((layer_types(always(FULL)), mlp_types(always(SPARSE)))),
    "mimo_v2_flash": Row(
        (
            layer_types(Formula(lambda view, i, n: FULL if i == 0 or (i + 1) % 6 == 0 else SLIDING)),
            mlp_types(first_dense(None, 1)),
        )
    ),
    "minicpm3": Row((Attribute("scale_depth", (RootScaled("scale_depth", 1.4),)),)),
    "minimax": Row(
        (layer_types(every(None, 2, LINEAR, FULL)),),
        needs=(
            ".slope_rate",
            "without these buffers the decay of a linear-attention layer is computed from its number and the "
            "depth; save the "
            "model once with transformers, which writes them",
        ),
    ),
    "minimax_m3_vl_text": Row(
        (
            layer_types(Listed("sparse_attention_config.sparse_attention_freq"), always(FULL)),
            mlp_types(Listed("moe_layer_freq"), always(SPARSE)),
        )
    ),
    "minimax_m2": Row(),
    "ministral": Row((layer_types(Formula(ministral)),)),
    "mistral4": Row((prefix_only("first_k_dense_replace", 0),)),
    "mistral_large4_text": Row(
        (
            NO_ROPE,
            layer_types(always("indexed_attention")),
            mlp_types(first_dense("first_k_dense_replace", 1)),
            *indexer(Formula(topk_schedule, ("index_topk_freq", "index_skip_topk_offset"))),
            Attribute(
                "kv_source_layers",
                (Pointers("kv_source_layers"),),
                "a layer that reads another layer's keys (kv_source_layers) needs that layer before it",
                pointer=True,
            ),
        )
    ),
    "mllama_text_model": Row(
        (Attribute("cross_attention_layers", (Indices("cross_attention_layers", "cross", "self"), MLLAMA_CROSS)),)
    ),
    "modernbert": Row((layer_types(every("global_attn_every_n_layers", 3, phase=0)), FIRST_ONLY)),
    "modernbert-decoder": Row((layer_types(every("global_attn_every_n_layers", 3, phase=0)), FIRST_ONLY)),
    "molmo2_text": Row((Attribute("rope_scaling_layers", (Indices("rope_scaling_layers", True, False),)),)),
    "muse_glimmer_text": Row(
        (layer_types(Formula(backward_fourth)), Attribute("layer_rope_theta", (Listed("layer_rope_theta"),)))
    ),
    "muse_spark_text": Row(
        (
            layer_types(Formula(backward_fourth)),
            Attribute("layer_rope_theta", (Listed("layer_rope_theta"),)),
            mlp_types(always(SPARSE)),
        )
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
    "neomme": Row(
        (
            NEOMME_TYPES,
            by_position(
                "value embeddings",
                neomme_ends,
                "value embeddings enter at the first and the last full-attention layer, so those must stay "
                "first and last",
            ),
            Attribute(
                "residual_multiplier",
                (Constant("residual_multiplier", lambda view, n: (2 * n) ** -0.5),),
            ),
        )
    ),
    "mt5": T5,
    "nllb-moe:decoder": _nllb_moe("decoder_sparse_step", "encoder_sparse_step"),
    "nllb-moe:encoder": _nllb_moe("encoder_sparse_step", "decoder_sparse_step"),
    "olmo3": Row((layer_types(every(None, 4)),)),
    "olmo_hybrid": Row((layer_types(every(None, 4, FULL, LINEAR)),)),
    "pegasus_x:decoder": Row(),
    "pegasus_x:encoder": Row((BY_PARITY,)),
    "pix2struct_text_model": T5,
    "qwen2": QWEN2,
    "qwen2_5_omni_text": QWEN2,
    "qwen2_5_vl_text": QWEN2_VL,
    "qwen2_moe": Row((layer_types(Formula(qwen2_moe, ("use_sliding_window", "max_window_layers"))), QWEN_MLP)),
    "qwen2_vl_text": QWEN2_VL,
    "qwen3": QWEN2,
    "qwen3_5_moe_text": QWEN3_5,
    "qwen3_5_text": QWEN3_5,
    "qwen3_moe": QWEN3_MOE,
    "qwen3_next": Row((*QWEN3_5.attributes, QWEN_MLP)),
    "qwen3_omni_moe_text": QWEN3_MOE,
    "qwen3_vl_moe_text": QWEN3_MOE,
    "qwen4_exp_text": Row(
        (
            layer_types(every("full_attention_interval", 4, "indexed_attention", LINEAR)),
            Attribute("ple_layer_ids", (Indices("ple_layer_ids", True, False, 1),)),
            by_position(
                "n-gram tables",
                ngram_rank,
                "n-gram tables are sized and seeded by a layer's place in ple_layer_ids, so these layers "
                "must all stay, once each "
                "and in order",
            ),
        ),
    ),
    "recurrent_gemma": Row(
        (Attribute("block_types", (Cycle("block_types", ("recurrent", "recurrent", "attention")),)),),
    ),
    "reformer": Row(
        (Attribute("attn_layers", (Listed("attn_layers"),)),),
    ),
    "rwkv": Row((FIRST_ONLY,)),
    "smollm3": Row((NO_ROPE, layer_types(from_no_rope(FULL, SLIDING, "use_sliding_window")))),
    "step3p5": Row(
        (
            layer_types(always(FULL)),
            mlp_types(Formula(step_moe, ("moe_layers_enum",))),
            Attribute("swiglu_limits", (Listed("swiglu_limits"),)),
            Attribute("swiglu_limits_shared", (Listed("swiglu_limits_shared"),)),
        ),
    ),
    "switch_transformers:decoder": _switch("decoder", "encoder"),
    "switch_transformers:encoder": _switch("encoder", "decoder"),
    "t5": T5,
    "t5gemma2_decoder": Row(GEMMA3),
    "t5gemma2_text": Row(GEMMA3),
    "t5_gemma_module": Row(GEMMA2),
    "udop": T5,
    "ultrabert": Row((layer_types(Listed("attention_windows"), every(None, 3)),)),
    "unlimited_ocr_text": Row((layer_types(), mlp_types(first_dense("first_k_dense_replace", 1)))),
    "vaultgemma": Row(GEMMA2),
    "xlstm": Row(proportional=("num_blocks",)),
    "zamba": Row(
        (Attribute("layers_block_type", (Listed("layers_block_type"), Formula(zamba))),),
        beside=("attn_layer_period", "attn_layer_offset"),
        shared_module="shared_transf",
    ),
    "zamba2": Row(
        (
            Attribute("layers_block_type", (Listed("layers_block_type"),)),
            Attribute("hybrid_layer_ids", (Indices("hybrid_layer_ids", "hybrid", LINEAR),)),
            by_position(
                "hybrid layers",
                hybrid_rank,
                "the shared transformers and their adapters are handed out by the order of the hybrid "
                "layers, so these must all "
                "stay, once each and in order",
            ),
        ),
        beside=("num_mem_blocks",),
    ),
    "zaya": Row((layer_types(always("hybrid")), FIRST_ONLY)),
}

# What the whole model adds when its text decoder lies in a larger one; keyed by the root's model type.
ROOT_ROWS: Mapping[str, Row] = {
    "cohere_compass": Row((DEEPSTACK,)),
    "cosmos3_omni": Row((DEEPSTACK,)),
    "granite4_vision": Row(
        (
            by_position(
                "deepstack_layer_map",
                image_layers_listed,
                "image features enter at fixed layers (deepstack_layer_map, spatial_target_layers), which "
                "must keep their numbers",
            ),
        ),
        beside=("deepstack_layer_map", "spatial_target_layers"),
    ),
    "granite_docling": Row((DEEPSTACK,)),
    "qwen3_omni_moe": Row((DEEPSTACK,)),
    "qwen3_omni_moe_thinker": Row((DEEPSTACK,)),
    "qwen3_vl": Row((DEEPSTACK,)),
    "qwen3_vl_moe": Row((DEEPSTACK,)),
}
