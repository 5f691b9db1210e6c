"""Decoders like Llama in which some layers attend differently: in a sliding window, or without rotary embeddings."""

from solar_upscale.architecture.blocks import LLAMA_BLOCK, POST_NORM
from solar_upscale.architecture.encodings.common import Formula
from solar_upscale.architecture.formulas import FULL, SLIDING, ministral
from solar_upscale.architecture.record import ModelType
from solar_upscale.architecture.shared_attributes import BY_INDEX, NO_ROPE, always, every, from_no_rope, layer_types
from solar_upscale.architecture.universal_attributes import per_layer_list

__all__ = ["TYPES"]

TYPES: tuple[ModelType, ...] = (
    ModelType(
        "cohere2",
        (layer_types(every("sliding_window_pattern", 4)),),
        harmless=("layer_switch", "order_of_interleaved_layers", "_sliding_window_pattern"),
        block=LLAMA_BLOCK,
    ),
    ModelType("cohere_compass_text", (layer_types(always(FULL)),), block=LLAMA_BLOCK),
    ModelType("cwm", (layer_types(every(None, 4, phase=0)),), block=LLAMA_BLOCK),
    ModelType("diffllama", (BY_INDEX,), block=LLAMA_BLOCK),
    ModelType("exaone4", (layer_types(every("sliding_window_pattern", 4)),), block=POST_NORM),
    ModelType(
        "granite_swa",
        (layer_types(every(None, 4, phase=0)), per_layer_list("layer_rope_theta", optional=True)),
        block=LLAMA_BLOCK,
    ),
    ModelType("ministral", (layer_types(Formula(ministral)),), block=LLAMA_BLOCK),
    ModelType("olmo3", (layer_types(every(None, 4)),), block=POST_NORM),
    ModelType(
        "smollm3",
        (NO_ROPE, layer_types(from_no_rope(FULL, SLIDING, "use_sliding_window"))),
        harmless=("max_window_layers",),
        block=LLAMA_BLOCK,
    ),
)
