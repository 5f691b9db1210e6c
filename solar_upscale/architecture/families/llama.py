"""Llama and decoders built like it."""

from solar_upscale.architecture.attributes import BY_INDEX, NO_ROPE, always, every, from_no_rope, layer_types, listed
from solar_upscale.architecture.blocks import INNER, LLAMA_BLOCK, POST_NORM
from solar_upscale.architecture.encodings import Formula
from solar_upscale.architecture.formulas import FULL, SLIDING, ministral
from solar_upscale.architecture.record import Block, ModelType, named

__all__ = ["TYPES"]


LLAMA = ModelType("llama", block=LLAMA_BLOCK)
GLM4 = ModelType(
    "glm4", block=Block(("post_self_attn_layernorm|post_attn_norm", "post_mlp_layernorm|post_ffn_norm"), inner=INNER)
)

TYPES: tuple[ModelType, ...] = (
    ModelType(
        "cohere2",
        (layer_types(every("sliding_window_pattern", 4)),),
        harmless=("layer_switch", "order_of_interleaved_layers", "_sliding_window_pattern"),
        block=LLAMA_BLOCK,
    ),
    ModelType("cohere_compass_text", (layer_types(always(FULL)),), block=LLAMA_BLOCK),
    ModelType(
        "cosmos3_edge_text",
        block=Block(("self_attn.o_proj|self_attn.to_out", "mlp.fc2|mlp.down_proj")),
        readers=("fc1", "to_k", "to_q", "to_v"),
    ),
    ModelType("cwm", (layer_types(every(None, 4, phase=0)),), block=LLAMA_BLOCK),
    ModelType("diffllama", (BY_INDEX,), block=LLAMA_BLOCK),
    ModelType(
        "doge",
        block=Block(("self_attn.o_proj", "mlp.down_proj"), ones=("input_residual", "post_attention_residual")),
        readers=("dt_proj",),
    ),
    ModelType("exaone4", (layer_types(every("sliding_window_pattern", 4)),), block=POST_NORM),
    *named(GLM4, "glm4 glm4v_text glm_ocr_text"),
    ModelType("granite_swa", (layer_types(every(None, 4, phase=0)), listed("layer_rope_theta")), block=LLAMA_BLOCK),
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
    ModelType("ministral", (layer_types(Formula(ministral)),), block=LLAMA_BLOCK),
    ModelType("olmo2", block=POST_NORM),
    ModelType("olmo3", (layer_types(every(None, 4)),), block=POST_NORM),
    ModelType("phi3", block=LLAMA_BLOCK, readers=("qkv_proj",)),
    ModelType("phi4_multimodal", harmless=("feature_layer",), block=LLAMA_BLOCK, readers=("qkv_proj",)),
    ModelType(
        "smollm3",
        (NO_ROPE, layer_types(from_no_rope(FULL, SLIDING, "use_sliding_window"))),
        harmless=("max_window_layers",),
        block=LLAMA_BLOCK,
    ),
)
