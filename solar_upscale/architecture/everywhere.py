"""Attributes that a config of any model type may hold, whether or not the type's own code asks for them."""

# ruff: noqa: ARG001 (a formula takes the view, the layer and the depth, whichever it needs)

from solar_upscale.architecture.encodings.common import Formula, Keyed, Listed
from solar_upscale.architecture.rules import Attribute, Encoding, View

__all__ = ["EVERY_TYPE", "listed"]


def listed(name: str, *, scalar: bool = False, otherwise: Encoding | None = None) -> Attribute:
    """A list with one entry a layer, or what stands for it; with ``scalar``, one value may serve all layers."""
    return Attribute(name, (Listed(name, scalar=scalar), *filter(None, (otherwise,))))


def _moe_frequency(view: View, i: int, n: int) -> bool | None:
    """Sparse every so many layers, where the field is a number above 1."""
    step = view.get("moe_layer_freq")
    return i % step == 0 if isinstance(step, int) and step > 1 else None


EVERY_TYPE: tuple[Attribute, ...] = (
    listed("layer_types"),
    listed("layers_block_type"),
    listed("mlp_layer_types"),
    Attribute("per_layer_config", (Keyed("per_layer_config"),)),
    Attribute("moe_layer_freq", (Listed("moe_layer_freq"), Formula(_moe_frequency, ("moe_layer_freq",)))),
    listed("attn_type_list"),
)
