"""Decoders whose layers differ in how they attend: their windows, their rotations, whose keys they read."""

from collections.abc import Mapping

from solar_upscale.architecture.attributes import (
    BY_INDEX,
    GEMMA2,
    GEMMA3,
    GEMMA3N_TYPES,
    GEMMA4_TYPES,
    INVERSE_INDEX,
    LAST_ONLY,
    MLLAMA_CROSS,
    NO_ROPE,
    always,
    by_position,
    every,
    forced_last,
    from_no_rope,
    kv_shared,
    layer_types,
    listed,
    searched,
    window_from,
)
from solar_upscale.architecture.encodings import Formula, Indices, Listed, Repeated, RootScaled
from solar_upscale.architecture.formulas import (
    FULL,
    SLIDING,
    aligned,
    backward_fourth,
    backward_fourth_theta,
    early_sparsity,
    ministral,
)
from solar_upscale.architecture.rules import Attribute, Row

__all__ = ["ATTENTION"]

PER_LAYER_EMBEDDINGS = (("embed_tokens_per_layer.weight", 1), ("per_layer_model_projection.weight", 0))
GEMMA4 = Row((GEMMA4_TYPES, forced_last(GEMMA4_TYPES), kv_shared(GEMMA4_TYPES)), gathers=PER_LAYER_EMBEDDINGS)
GRANITE_SWA = Row((layer_types(every(None, 4, phase=0)), listed("layer_rope_theta")))
QWEN2 = Row((layer_types(window_from(28)),))
QWEN2_VL = Row((layer_types(window_from(80)),))

ATTENTION: Mapping[str, Row] = {
    "cohere2": Row((layer_types(every("sliding_window_pattern", 4)),)),
    "cohere_compass_text": Row((layer_types(always(FULL)),)),
    "cwm": Row((layer_types(every(None, 4, phase=0)),)),
    "diffusion_gemma_text": Row(refusal="its layers serve an encoder and a decoder at once"),
    "diffllama": Row((BY_INDEX,)),
    "evolla": Row(
        (
            searched(
                ("aligner_num_add_layers",),
                aligned,
                lambda view, vector: [(k,) for k in range(1, len(vector) + 1)],
                "this model says only how often its adapters come",
            ),
        )
    ),
    "exaone4": Row((layer_types(every("sliding_window_pattern", 4)),)),
    "gemma2": Row(GEMMA2),
    "gemma3_text": Row(GEMMA3),
    "gemma3n_text": Row(
        (
            GEMMA3N_TYPES,
            listed("activation_sparsity_pattern", scalar=True, otherwise=Formula(early_sparsity)),
            listed("intermediate_size", scalar=True),
            kv_shared(GEMMA3N_TYPES, 15),
        ),
        gathers=PER_LAYER_EMBEDDINGS,
    ),
    "gemma4_text": GEMMA4,
    "gemma4_unified_text": GEMMA4,
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
    "granite_swa": GRANITE_SWA,
    "granitemoe_swa": GRANITE_SWA,
    "hrm_text": Row(proportional=("num_hidden_layers",)),
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
    "minicpm3": Row((Attribute("scale_depth", (RootScaled("scale_depth", 1.4),)),)),
    "ministral": Row((layer_types(Formula(ministral)),)),
    "mllama_text_model": Row(
        (Attribute("cross_attention_layers", (Indices("cross_attention_layers", "cross", "self"), MLLAMA_CROSS)),)
    ),
    "molmo2_text": Row((Attribute("rope_scaling_layers", (Indices("rope_scaling_layers", True, False),)),)),
    "muse_glimmer_text": Row(
        (
            layer_types(Formula(backward_fourth)),
            listed("layer_rope_theta", otherwise=Formula(backward_fourth_theta(10000.0))),
        )
    ),
    "olmo3": Row((layer_types(every(None, 4)),)),
    "qwen2": QWEN2,
    "qwen2_5_omni_text": QWEN2,
    "qwen2_5_vl_text": QWEN2_VL,
    "qwen2_vl_text": QWEN2_VL,
    "qwen3": QWEN2,
    "smollm3": Row((NO_ROPE, layer_types(from_no_rope(FULL, SLIDING, "use_sliding_window")))),
    "vaultgemma": Row(GEMMA2),
}
