"""Attributes that the config of any model type may contain, whether or not the type's own code reads them."""

# ruff: noqa: ARG001 (a formula takes the view, the layer and the depth, whichever it needs)

from solar_upscale.architecture.attribute import Attribute, Encoding, View
from solar_upscale.architecture.encodings.common import Formula, Keyed, Listed

__all__ = ["UNIVERSAL_ATTRIBUTES", "per_layer_list"]


def per_layer_list(
    name: str, *, scalar: bool = False, optional: bool = False, otherwise: Encoding | None = None
) -> Attribute:
    """A list with one entry per layer, else the encoding ``otherwise``; with ``scalar``, one value may serve all.

    A config without the list is refused unless the list is ``optional``: without it, all layers are alike.
    """
    return Attribute(name, (Listed(name, scalar=scalar), *filter(None, (otherwise,))), optional=optional or scalar)


def _moe_frequency(view: View, i: int, n: int) -> bool | None:
    """Whether a layer is sparse, where the field is an interval above 1."""
    step = view.get("moe_layer_freq")
    return i % step == 0 if isinstance(step, int) and step > 1 else None


UNIVERSAL_ATTRIBUTES: tuple[Attribute, ...] = (
    per_layer_list("layer_types"),
    per_layer_list("layers_block_type"),
    per_layer_list("mlp_layer_types"),
    Attribute("per_layer_config", (Keyed("per_layer_config"),)),
    Attribute("moe_layer_freq", (Listed("moe_layer_freq"), Formula(_moe_frequency, ("moe_layer_freq",)))),
    per_layer_list("attn_type_list"),
)
