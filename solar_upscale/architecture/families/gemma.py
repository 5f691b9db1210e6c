"""Gemma and related models: periodic sliding windows, per-layer embeddings, shared keys, norms after projections."""

from solar_upscale.architecture.blocks import INNER, LLAMA_BLOCK, POST_NORM
from solar_upscale.architecture.encodings.common import Formula
from solar_upscale.architecture.formulas import SPARSE, backward_fourth, backward_fourth_theta, early_sparsity
from solar_upscale.architecture.record import Block, ModelType, NoFactor
from solar_upscale.architecture.shared_attributes import (
    GEMMA2,
    GEMMA3,
    GEMMA3N_TYPES,
    GEMMA4_TYPES,
    always,
    forced_last,
    kv_shared,
    layer_types,
    mlp_types,
)
from solar_upscale.architecture.universal_attributes import per_layer_list

__all__ = ["TYPES"]

PER_LAYER_EMBEDDINGS = (("embed_tokens_per_layer.weight", 1), ("per_layer_model_projection.weight", 0))

GEMMA4_BLOCK = Block(
    ("post_attention_layernorm", "post_feedforward_layernorm"),
    optional=("post_per_layer_input_norm",),
    inner=("self_attn.o_proj", "mlp.down_proj", "experts.down_proj", "experts.*.down_proj", "per_layer_projection"),
    stream_scalars=("layer_scalar",),
)


TYPES: tuple[ModelType, ...] = (
    ModelType(
        "diffusion_gemma_text",
        refusal="an encoder and a decoder share its layers; choose a Gemma whose decoder has layers of its own",
    ),
    ModelType("gemma", block=LLAMA_BLOCK),
    ModelType("gemma2", GEMMA2, block=Block(POST_NORM.writers, inner=INNER, offset=1.0)),
    ModelType(
        "gemma3_text",
        GEMMA3,
        harmless=("_sliding_window_pattern", "rope_local_base_freq"),
        block=Block(POST_NORM.writers, inner=INNER, offset=1.0),
    ),
    ModelType(
        "gemma3n_text",
        (
            GEMMA3N_TYPES,
            per_layer_list("activation_sparsity_pattern", scalar=True, otherwise=Formula(early_sparsity)),
            per_layer_list("intermediate_size", scalar=True),
            kv_shared(GEMMA3N_TYPES, 15),
        ),
        harmless=(
            "altup_active_idx",
            "hidden_size_per_layer_input",
            "vocab_size_per_layer_input",
            "_sliding_window_pattern",
            "rope_local_base_freq",
        ),
        gathers=PER_LAYER_EMBEDDINGS,
        no_factor=(
            NoFactor(
                "its residual stream consists of several streams that each block mixes (hyper-connections or AltUp)"
            ),
        ),
    ),
    ModelType(
        "gemma4_text",
        (GEMMA4_TYPES, forced_last(GEMMA4_TYPES), kv_shared(GEMMA4_TYPES)),
        harmless=("hidden_size_per_layer_input", "vocab_size_per_layer_input"),
        gathers=PER_LAYER_EMBEDDINGS,
        block=GEMMA4_BLOCK,
        readers=("per_layer_input_gate", "router"),
    ),
    ModelType(
        "gemma4_unified_text",
        (GEMMA4_TYPES, forced_last(GEMMA4_TYPES), kv_shared(GEMMA4_TYPES)),
        harmless=("hidden_size_per_layer_input", "vocab_size_per_layer_input"),
        gathers=PER_LAYER_EMBEDDINGS,
        block=GEMMA4_BLOCK,
    ),
    ModelType(
        "muse_glimmer_text",
        (
            layer_types(Formula(backward_fourth)),
            per_layer_list("layer_rope_theta", otherwise=Formula(backward_fourth_theta(10000.0))),
        ),
        block=Block(POST_NORM.writers, inner=INNER, offset=1.0),
    ),
    ModelType(
        "muse_spark_text",
        (
            layer_types(Formula(backward_fourth)),
            per_layer_list("layer_rope_theta", otherwise=Formula(backward_fourth_theta(500000.0))),
            mlp_types(always(SPARSE)),
        ),
    ),
    ModelType("vaultgemma", GEMMA2, block=LLAMA_BLOCK),
)
