"""Training only the new layers with plain PyTorch. What other trainers need for the same is trainers.py."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from solar_upscale.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["freeze_originals"]


def freeze_originals(model: "nn.Module", new_layers: Sequence[int], stack: str) -> "list[nn.Parameter]":
    """Freeze every parameter of ``model`` but those of the new layers, which are returned for the optimiser.

    Args:
        model: A loaded model; changed in place.
        new_layers: The layers to train (target layers, from 0).
        stack: The path of the list of layers in the model ("model.layers").

    Raises:
        UnsupportedError: the model has no such layer, or a parameter of a new layer is also used elsewhere.
    """
    modules = dict(model.named_modules())
    missing = [f"{stack}.{layer}" for layer in new_layers if f"{stack}.{layer}" not in modules]
    if missing or not new_layers:
        raise UnsupportedError(f"{stack}: the model has no layer {', '.join(missing) or 'to train'}; nothing is frozen")
    starts = tuple(f"{stack}.{layer}." for layer in new_layers)
    places: dict[nn.Parameter, list[bool]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        places.setdefault(parameter, []).append(name.startswith(starts))
    shared = [name for name, parameter in model.named_parameters() if len(set(places[parameter])) == 2]
    if shared:
        raise UnsupportedError(
            f"{shared[0]}: is shared by a new layer and the rest; training one would change the other"
        )
    for parameter, inside in places.items():
        parameter.requires_grad_(inside[0])
    return [parameter for parameter, inside in places.items() if inside[0]]
