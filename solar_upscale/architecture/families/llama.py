"""Llama, and decoders like it whose layers are all alike."""

from solar_upscale.architecture.blocks import INNER, LLAMA_BLOCK, POST_NORM
from solar_upscale.architecture.record import Block, ModelType, named

__all__ = ["TYPES"]


LLAMA = ModelType("llama", block=LLAMA_BLOCK)
GLM4 = ModelType(
    "glm4", block=Block(("post_self_attn_layernorm|post_attn_norm", "post_mlp_layernorm|post_ffn_norm"), inner=INNER)
)

TYPES: tuple[ModelType, ...] = (
    ModelType(
        "cosmos3_edge_text",
        block=Block(("self_attn.o_proj|self_attn.to_out", "mlp.fc2|mlp.down_proj")),
        readers=("fc1", "to_k", "to_q", "to_v"),
    ),
    ModelType(
        "doge",
        block=Block(
            ("self_attn.o_proj", "mlp.down_proj"), stream_scalars=("input_residual", "post_attention_residual")
        ),
        readers=("dt_proj",),
    ),
    *named(GLM4, "glm4 glm4v_text glm_ocr_text"),
    ModelType(
        "hrm_text",
        counts={"decoder": ("num_layers_per_stack",)},
        proportional=("num_hidden_layers",),
        parallel=("H_module.layers", "L_module.layers"),
        block=Block(("self_attn.o_proj|attn.o_proj", "mlp.down_proj")),
        readers=("gqkv_proj",),
    ),
    ModelType("hyperclovax", block=Block(("post_norm1|self_attn.o_proj", "post_norm2|mlp.down_proj"), inner=INNER)),
    *named(
        LLAMA,
        "apertus arcee bitnet cohere ernie4_5 glm granite helium hunyuan_v1_dense internlm3 iquestcoder jais2 "
        "llama ministral3 mistral nemotron olmo paddleocr_vl_text seed_oss stablelm",
    ),
    ModelType("olmo2", block=POST_NORM),
    ModelType("phi3", block=LLAMA_BLOCK, readers=("qkv_proj",)),
    ModelType("phi4_multimodal", harmless=("feature_layer",), block=LLAMA_BLOCK, readers=("qkv_proj",)),
)
