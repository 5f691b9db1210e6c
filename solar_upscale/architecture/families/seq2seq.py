"""Encoder-decoders, and text decoders that attend to another model's encoder."""

from solar_upscale.architecture.attribute import Attribute
from solar_upscale.architecture.blocks import FAIRSEQ, INNER, NORM_AFTER
from solar_upscale.architecture.formulas import nth_sparse, spread_sparse
from solar_upscale.architecture.record import Block, ModelType, NoFactor, named
from solar_upscale.architecture.shared_attributes import BY_PARITY, FIRST_ONLY, GEMMA2, GEMMA3, searched
from solar_upscale.architecture.universal_attributes import per_layer_list

__all__ = ["TYPES"]


def _sparse_steps(role: str) -> tuple[Attribute, ...]:
    """NLLB-MoE: every k-th layer of a stack is sparse."""
    step = f"{role}_sparse_step"
    return (
        searched(
            (step,),
            nth_sparse(step),
            lambda view, vector: [(k,) for k in range(len(vector) + 2)],
            "the config only gives the interval of the sparse layers",
        ),
    )


def _sparse_counts(role: str) -> tuple[Attribute, ...]:
    """Switch Transformers: a given number of a stack's layers are sparse, evenly spread."""
    field = f"num_sparse_{role}_layers"
    return (
        FIRST_ONLY,
        searched(
            (field,),
            spread_sparse(field),
            lambda view, vector: [(k,) for k in range(len(vector) + 1)],
            "the config only gives the number of sparse layers, evenly spread",
        ),
    )


T5_BLOCK = Block(
    (
        "layer.*.SelfAttention.o|layer.*.LocalSelfAttention.o|layer.*.TransientGlobalSelfAttention.o",
        "layer.*.mlp.experts.expert_*.wo|layer.*.mlp.wo|layer.*.DenseReluDense.wo",
    ),
    optional=("layer.*.EncDecAttention.o",),
)
FFN_BLOCK = Block(
    ("self_attn.out_proj", "ffn.fc2|ffn.experts.expert_*.fc2"),
    optional=("encoder_attn.out_proj", "cross_attention.out_proj"),
)

BART = ModelType("bart", no_factor=NORM_AFTER)
BLENDERBOT = ModelType("blenderbot", block=FAIRSEQ, readers=("fc1",))
PIX2STRUCT_TEXT_MODEL = ModelType("pix2struct_text_model", (FIRST_ONLY,))
SEAMLESS_M4T = ModelType(
    "seamless_m4t",
    harmless=("num_adapter_layers", "speech_encoder_layers", "t2u_decoder_layers", "t2u_encoder_layers"),
    block=FFN_BLOCK,
    readers=("fc1",),
)
T5GEMMA2_DECODER = ModelType(
    "t5gemma2_decoder",
    GEMMA3,
    harmless=("_sliding_window_pattern", "rope_local_base_freq"),
    block=Block(
        ("post_self_attn_layernorm", "post_feedforward_layernorm"),
        optional=("post_cross_attn_layernorm",),
        inner=(*INNER, "cross_attn.o_proj"),
        offset=1.0,
    ),
)

TYPES: tuple[ModelType, ...] = (
    *named(BART, "bart blenderbot-small fsmt marian mvp plbart prophetnet trocr"),
    ModelType(
        "bigbird_pegasus",
        harmless=("attention_type", "block_size", "num_random_blocks"),
        block=FAIRSEQ,
        readers=("fc1", "key", "query", "value"),
    ),
    *named(BLENDERBOT, "blenderbot m2m_100 mbart pegasus whisper"),
    ModelType("kosmos_2_5_text_model", block=FFN_BLOCK, readers=("fc1",)),
    ModelType(
        "led",
        by_role={"encoder": (per_layer_list("attention_window", scalar=True),)},
        harmless=("attention_window",),
        no_factor=NORM_AFTER,
    ),
    ModelType(
        "longt5",
        (FIRST_ONLY,),
        harmless=("global_block_size",),
        block=T5_BLOCK,
        readers=("k", "q", "relative_attention_bias", "v", "wi"),
    ),
    ModelType("mt5", (FIRST_ONLY,), block=T5_BLOCK, readers=("k", "q", "relative_attention_bias", "v", "wi_0", "wi_1")),
    ModelType(
        "nllb-moe",
        by_role={role: _sparse_steps(role) for role in ("encoder", "decoder")},
        harmless=("encoder_sparse_step", "decoder_sparse_step"),
        block=FFN_BLOCK,
        readers=("fc1", "router"),
    ),
    ModelType(
        "pegasus_x",
        by_role={"encoder": (BY_PARITY,)},
        harmless=("block_size",),
        block=FAIRSEQ,
        readers=("fc1",),
        no_factor=(NoFactor("its blocks carry a second stream of global tokens", role="encoder"),),
    ),
    *named(PIX2STRUCT_TEXT_MODEL, "pix2struct_text_model udop"),
    ModelType(
        "pp_formulanet_text",
        counts={"encoder": ("encoder_layers",), "decoder": ("decoder_layers", "num_hidden_layers")},
    ),
    *named(SEAMLESS_M4T, "seamless_m4t seamless_m4t_v2"),
    ModelType(
        "switch_transformers",
        by_role={role: _sparse_counts(role) for role in ("encoder", "decoder")},
        harmless=(
            "encoder_sparse_step",
            "decoder_sparse_step",
            "num_sparse_encoder_layers",
            "num_sparse_decoder_layers",
        ),
        block=T5_BLOCK,
        readers=("k", "q", "relative_attention_bias", "router", "v", "wi"),
    ),
    ModelType("t5", (FIRST_ONLY,), block=T5_BLOCK, readers=("k", "q", "relative_attention_bias", "v", "wi")),
    ModelType(
        "t5_gemma_module",
        GEMMA2,
        block=Block(
            ("post_self_attn_layernorm", "post_feedforward_layernorm"),
            optional=("post_cross_attn_layernorm",),
            inner=(*INNER, "cross_attn.o_proj"),
            offset=1.0,
        ),
    ),
    *named(T5GEMMA2_DECODER, "t5gemma2_decoder t5gemma2_text"),
    ModelType("umt5", block=T5_BLOCK, readers=("k", "q", "relative_attention_bias", "v", "wi_0", "wi_1")),
)
