"""Decoders from before Llama: GPT-2, GPT-NeoX, BLOOM, OPT and the like."""

from solar_upscale.architecture.attribute import Attribute
from solar_upscale.architecture.blocks import FAIRSEQ, NORM_AFTER, NORMALISES_AFTER
from solar_upscale.architecture.encodings.common import Listed
from solar_upscale.architecture.encodings.lists import Repeated
from solar_upscale.architecture.record import Block, ModelType, NoFactor, named
from solar_upscale.architecture.shared_attributes import INVERSE_INDEX, LAST_ONLY

__all__ = ["TYPES"]

GPT2_BLOCK = Block(
    ("attn.c_proj", "mlp.c_proj"), optional=("crossattention.c_proj",), inner=("attn.bias", "attn.masked_bias")
)
DENSE_4H = Block(
    ("self_attn.dense|self_attention.dense|attention.dense", "mlp.dense_4h_to_h"),
    inner=("attention.bias", "attention.masked_bias"),
)
GPTJ_BLOCK = Block(("attn.out_proj", "mlp.fc_out"), inner=("attn.bias", "attn.causal_mask"))

BIOGPT = ModelType("biogpt", block=FAIRSEQ, readers=("fc1",))
FALCON = ModelType("falcon", block=DENSE_4H, readers=("dense_h_to_4h", "query_key_value"))
GPT2 = ModelType("gpt2", (INVERSE_INDEX,), block=GPT2_BLOCK, readers=("c_attn", "c_fc"))

TYPES: tuple[ModelType, ...] = (
    *named(BIOGPT, "biogpt xglm"),
    ModelType(
        "bloom",
        block=DENSE_4H,
        readers=("dense_h_to_4h", "query_key_value"),
        no_factor=(
            NoFactor("its blocks add to the normalised stream", field="apply_residual_connection_post_layernorm"),
        ),
    ),
    ModelType("codegen", block=GPTJ_BLOCK, readers=("embed_positions", "fc_in", "qkv_proj")),
    ModelType(
        "cpmant",
        block=Block(("self_att.self_attention.attention_out", "ffn.ffn.w_out")),
        readers=("project_k", "project_q", "project_v", "w_in"),
    ),
    ModelType(
        "ctrl", block=Block(("multi_head_attention.dense", "ffn.2"), inner=("ffn.0",)), readers=("Wk", "Wq", "Wv")
    ),
    *named(FALCON, "falcon gpt_neox persimmon"),
    *named(GPT2, "gpt-sw3 gpt2"),
    ModelType("gpt_bigcode", block=GPT2_BLOCK, readers=("c_attn", "c_fc")),
    ModelType(
        "gpt_neo",
        (
            Attribute(
                "attention_types",
                (Repeated("attention_types", ((("global", "local"), 12),)), Listed("attention_layers")),
            ),
        ),
        block=Block(("attn.attention.out_proj", "mlp.c_proj"), inner=("attn.attention.bias",)),
        readers=("c_fc",),
    ),
    ModelType("gpt_neox_japanese", (LAST_ONLY,), block=DENSE_4H, readers=("dense_h_to_4h", "query_key_value")),
    ModelType("gptj", block=GPTJ_BLOCK, readers=("embed_positions", "fc_in")),
    ModelType("moshi", block=Block(("self_attn.o_proj.linear", "mlp.fc2")), readers=("fc1",)),
    ModelType("mpt", block=Block(("attn.out_proj", "ffn.down_proj")), readers=("Wqkv",)),
    ModelType("nanochat", block=Block(("self_attn.o_proj", "mlp.fc2")), readers=("fc1",)),
    ModelType("openai-gpt", no_factor=NORM_AFTER),
    ModelType(
        "opt",
        block=FAIRSEQ,
        readers=("fc1",),
        no_factor=(NoFactor(NORMALISES_AFTER, field="do_layer_norm_before", value=False),),
    ),
    ModelType("phi", block=Block(("self_attn.dense", "mlp.fc2")), readers=("fc1",)),
    ModelType("starcoder2", block=Block(("self_attn.o_proj", "mlp.c_proj")), readers=("c_fc",)),
)
