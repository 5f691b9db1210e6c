"""Other mixtures of experts: all layers are sparse, or those given by a list or a period."""

from solar_upscale.architecture.attribute import Attribute
from solar_upscale.architecture.blocks import GRANITE_MOE, INNER, LLAMA_BLOCK, MIXTRAL_BLOCK, MLP, POST_NORM, SHARED
from solar_upscale.architecture.encodings.common import Formula, Listed
from solar_upscale.architecture.encodings.lists import Indices
from solar_upscale.architecture.encodings.numbers import EveryExcept, Prefix
from solar_upscale.architecture.formulas import (
    DENSE,
    FULL,
    SLIDING,
    SPARSE,
    cohere2_moe,
    lagging_full,
    llama4_moe,
    moe_span,
    moe_spans,
    step_moe,
)
from solar_upscale.architecture.record import Block, ModelType, NoFactor, named
from solar_upscale.architecture.shared_attributes import (
    NO_ROPE,
    always,
    every,
    first_dense,
    from_no_rope,
    layer_types,
    mlp_types,
    prefix_only,
    searched,
)
from solar_upscale.architecture.universal_attributes import per_layer_list

__all__ = ["TYPES"]

LLAMA4_BLOCK = Block(
    ("self_attn.o_proj", "feed_forward.experts.down_proj|feed_forward.experts.*.down_proj|feed_forward.down_proj"),
    optional=("feed_forward.shared_expert.down_proj",),
)

GRANITEMOE = ModelType("granitemoe", block=GRANITE_MOE, readers=("input_linear", "router"))

TYPES: tuple[ModelType, ...] = (
    ModelType(
        "afmoe",
        (layer_types(every("global_attn_every_n_layers", 4)), prefix_only("num_dense_layers", 1)),
        block=Block(("post_attention_layernorm", "post_mlp_layernorm"), inner=INNER),
        readers=("gate", "router"),
    ),
    ModelType(
        "aria_text",
        block=Block(("self_attn.o_proj", f"{MLP}|mlp.experts.fc2"), optional=(SHARED,)),
        readers=("fc1", "router"),
    ),
    ModelType(
        "cohere2_moe",
        (
            layer_types(Formula(cohere2_moe, ("sliding_window_pattern", "prefix_dense_sliding_window_pattern"))),
            mlp_types(first_dense("first_k_dense_replace", 0)),
        ),
        block=LLAMA_BLOCK,
        readers=("gate",),
    ),
    ModelType(
        "dbrx",
        block=Block(("norm_attn_norm.attn.out_proj", "ffn.experts.mlp.w2")),
        readers=("Wqkv", "router", "v1", "w1"),
    ),
    ModelType(
        "ernie4_5_moe",
        (
            searched(
                ("moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval"),
                moe_span,
                moe_spans,
                "the config only gives start, end and interval of the sparse layers",
            ),
        ),
        block=LLAMA_BLOCK,
        readers=("gate", "moe_statics"),
    ),
    ModelType("ernie4_5_vl_moe_text", (mlp_types(first_dense(None, 1)),)),
    ModelType("flex_olmo", block=POST_NORM, readers=("gate",)),
    ModelType(
        "flint",
        (
            layer_types(Formula(lagging_full)),
            Attribute("mlp_only_layers", (EveryExcept(default_exceptions=(0, 1)),)),
        ),
        block=LLAMA_BLOCK,
        readers=("gate",),
    ),
    ModelType("gpt_oss", (layer_types(every(None, 2)),), block=LLAMA_BLOCK, readers=("router",)),
    *named(GRANITEMOE, "granitemoe granitemoeshared"),
    ModelType(
        "granitemoe_swa",
        (layer_types(every(None, 4, phase=0)), per_layer_list("layer_rope_theta", optional=True)),
        block=GRANITE_MOE,
        readers=("input_linear", "router"),
    ),
    ModelType(
        "hunyuan_v1_moe",
        tuple(per_layer_list(name, scalar=True) for name in ("moe_topk", "num_shared_expert", "moe_intermediate_size")),
        block=LLAMA_BLOCK,
        readers=("gate",),
    ),
    ModelType(
        "inkling2_text",
        refusal="its attention-residual queries are outside the layers, with a numbering of their own; choose a model "
        "without them, such as the first Inkling",
        no_factor=(NoFactor("its blocks attend over the outputs of earlier blocks"),),
    ),
    ModelType(
        "inkling_text",
        (
            layer_types(
                Indices("local_layer_ids", "hybrid_sliding", "hybrid"), every(None, 6, "hybrid", "hybrid_sliding")
            ),
            mlp_types(Prefix("dense_mlp_idx", DENSE, SPARSE, 0)),
        ),
        harmless=("mtp_local_layer_ids",),
        block=Block(
            ("self_attn.o_proj|attn.wo_ud", f"{MLP}|mlp.experts.w2_weight"),
            optional=("mlp.shared_experts.down_proj|mlp.shared_experts.shared_w2_weight",),
        ),
        readers=(
            "attn_sconv",
            "conv1d",
            "gate",
            "k_sconv",
            "mlp_sconv",
            "r_proj",
            "rel_logits_proj",
            "shared_w13_weight",
            "v_sconv",
            "w13_weight",
            "wk_dv",
            "wq_du",
            "wr_du",
            "wv_dv",
        ),
    ),
    ModelType(
        "jetmoe",
        block=Block(
            ("self_attention.experts.output_linear", "mlp.output_linear", "self_attention.experts.bias", "mlp.bias")
        ),
        readers=("input_linear", "kv_proj", "router"),
    ),
    ModelType(
        "kolibri1",
        (layer_types(every(None, 5)),),
        block=Block(("post_self_attn_layernorm|post_attn_norm", "post_mlp_layernorm|post_ffn_norm"), inner=INNER),
        readers=("gate",),
    ),
    ModelType(
        "laguna",
        (
            layer_types(always(FULL)),
            mlp_types(first_dense(None, 1)),
            per_layer_list("num_attention_heads_per_layer", optional=True),
        ),
        block=LLAMA_BLOCK,
        readers=("g_proj", "gate"),
    ),
    ModelType(
        "llama4_text",
        (
            NO_ROPE,
            layer_types(from_no_rope("chunked_attention", FULL)),
            Attribute(
                "moe_layers",
                (Indices("moe_layers", SPARSE, DENSE), Formula(llama4_moe, ("interleave_moe_layer_step",))),
            ),
        ),
        block=LLAMA4_BLOCK,
        readers=("router",),
    ),
    ModelType(
        "mellum",
        (layer_types(always(FULL)), mlp_types(always(SPARSE))),
        harmless=("mtp_layer_types", "mtp_mlp_layer_types"),
        block=LLAMA_BLOCK,
        readers=("gate",),
    ),
    ModelType(
        "mimo_v2_flash",
        (
            layer_types(Formula(lambda view, i, n: FULL if i == 0 or (i + 1) % 6 == 0 else SLIDING)),
            mlp_types(first_dense(None, 1)),
        ),
        block=LLAMA_BLOCK,
        readers=("gate",),
    ),
    ModelType("minimax_m2", harmless=("mtp_transformer_layers",), block=MIXTRAL_BLOCK, readers=("gate", "w1", "w3")),
    ModelType(
        "minimax_m3_vl_text",
        (
            layer_types(Listed("sparse_attention_config.sparse_attention_freq"), always(FULL)),
            mlp_types(Listed("moe_layer_freq"), always(SPARSE)),
        ),
        harmless=("index_block_size", "index_local_blocks", "index_topk_blocks"),
        block=Block(
            ("self_attn.o_proj|attention.dense", f"{MLP}|block_sparse_moe.experts.*.w2|block_sparse_moe.down_proj"),
            optional=(SHARED, "block_sparse_moe.shared_experts.down_proj"),
        ),
        readers=("gate", "w1", "w3"),
    ),
    ModelType("mixtral", block=MIXTRAL_BLOCK, readers=("gate", "w1", "w3")),
    ModelType("olmoe", block=LLAMA_BLOCK, readers=("gate",)),
    ModelType("phimoe", block=MIXTRAL_BLOCK, readers=("gate", "router", "w1", "w3")),
    ModelType(
        "step3p5",
        (
            layer_types(always(FULL)),
            mlp_types(Formula(step_moe, ("moe_layers_enum",))),
            per_layer_list("swiglu_limits", optional=True),
            per_layer_list("swiglu_limits_shared", optional=True),
        ),
        harmless=("mtp_layer_types", "mtp_mlp_layer_types"),
        block=Block(
            ("self_attn.o_proj", f"moe.down_proj|{MLP}"),
            optional=("share_expert.down_proj|mlp.shared_experts.down_proj",),
        ),
        readers=("g_proj", "gate"),
    ),
)
