"""Which config fields each model type ties to its depth: the table, by subject.

A row names the attributes that differ from layer to layer and how its config says them, in the order in which the
model's code believes them. How an encoding is read and written is encodings/; what attributes several types share is
attributes.py. A model type with no row is either counted only (COUNTED in families.py) or unknown.
"""

from collections.abc import Mapping

from solar_upscale.architecture.attributes import DEEPSTACK, MOE_FREQUENCY, by_position, listed
from solar_upscale.architecture.encodings import Keyed, Listed
from solar_upscale.architecture.fields.attention import ATTENTION
from solar_upscale.architecture.fields.encoders import ENCODERS
from solar_upscale.architecture.fields.experts import EXPERTS
from solar_upscale.architecture.fields.hybrids import HYBRIDS
from solar_upscale.architecture.formulas import image_layers_listed
from solar_upscale.architecture.rules import Attribute, Row

__all__ = ["EVERY_TYPE", "ROOT_ROWS", "ROWS"]

# What any type may carry in its config, whether or not its own code asks for it.
EVERY_TYPE: tuple[Attribute, ...] = (
    listed("layer_types"),
    listed("layers_block_type"),
    listed("mlp_layer_types"),
    Attribute("per_layer_config", (Keyed("per_layer_config"),)),
    Attribute("moe_layer_freq", (Listed("moe_layer_freq"), MOE_FREQUENCY)),
    listed("attn_type_list"),
)

ROWS: Mapping[str, Row] = {**ATTENTION, **EXPERTS, **HYBRIDS, **ENCODERS}

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
