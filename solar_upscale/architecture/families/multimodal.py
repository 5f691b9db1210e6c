"""Models around a text model, and text models that receive images between or inside their layers."""

from solar_upscale.architecture.attribute import Attribute
from solar_upscale.architecture.encodings.lists import Indices
from solar_upscale.architecture.formulas import aligned, image_layers_listed
from solar_upscale.architecture.record import Block, ModelType, named
from solar_upscale.architecture.shared_attributes import DEEPSTACK, MLLAMA_CROSS, position_dependent, searched

__all__ = ["TYPES"]


LLAVA = ModelType("llava", harmless=("vision_feature_layer",), composite=True)
COHERE_COMPASS = ModelType("cohere_compass", (DEEPSTACK,), composite=True)
INTERNVL_CHAT = ModelType("internvl_chat", composite=True)
LLAVA_NEXT = ModelType("llava_next", harmless=("vision_feature_layer", "image_grid_pinpoints"), composite=True)
MINICPM_OCR = ModelType("minicpm_ocr", harmless=("insert_layer_id",), composite=True)

TYPES: tuple[ModelType, ...] = (
    ModelType("aria", harmless=("projector_patch_to_query_dict", "vision_feature_layer"), composite=True),
    *named(
        COHERE_COMPASS,
        "cohere_compass cosmos3_omni granite_docling qwen3_omni_moe qwen3_omni_moe_thinker qwen3_vl qwen3_vl_moe",
    ),
    ModelType(
        "evolla",
        (
            searched(
                ("aligner_num_add_layers",),
                aligned,
                lambda view, vector: [(k,) for k in range(1, len(vector) + 1)],
                "the config only gives the number of adapters, evenly spread",
            ),
        ),
        harmless=("resampler_depth",),
    ),
    ModelType(
        "granite4_vision",
        (
            position_dependent(
                "deepstack_layer_map",
                image_layers_listed,
                "image features are added at fixed layers (deepstack_layer_map, spatial_target_layers), which "
                "must keep their indices",
            ),
        ),
        harmless=(
            "image_grid_pinpoints",
            "spatial_vision_layer",
            "vision_feature_layer",
            "deepstack_layer_map",
            "spatial_target_layers",
        ),
        composite=True,
    ),
    ModelType(
        "idefics",
        (
            position_dependent(
                "cross_layer_interval",
                lambda view, i, n: i % view.get("cross_layer_interval", 1) == 0,
                "a gated cross-attention layer comes before every cross_layer_interval-th layer, so the pattern must "
                "keep such layers at multiples of it",
            ),
        ),
        harmless=("cross_layer_interval",),
        strided=(("gated_cross_attn_layers", "cross_layer_interval"),),
    ),
    *named(INTERNVL_CHAT, "internvl_chat kimi_vl"),
    *named(LLAVA, "aya_vision fast_vlm internvl llava mistral3 mistral_large4 qianfan_ocr video_llava"),
    *named(LLAVA_NEXT, "llava_next llava_next_video llava_onevision"),
    *named(MINICPM_OCR, "minicpm_ocr minicpmv4_6 minicpmv4_7"),
    ModelType(
        "mllama_text_model",
        (Attribute("cross_attention_layers", (Indices("cross_attention_layers", "cross", "self"), MLLAMA_CROSS)),),
        block=Block(("self_attn.o_proj|cross_attn.o_proj", "mlp.down_proj")),
    ),
    ModelType("molmo2_text", (Attribute("rope_scaling_layers", (Indices("rope_scaling_layers", True, False),)),)),
    ModelType("ovis2", harmless=("visual_indicator_token_ids",), composite=True),
    ModelType("vipllava", harmless=("vision_feature_layer", "vision_feature_layers"), composite=True),
)
