"""Train the repeats and leave the originals as they are, in plain PyTorch. Lists for other trainers are trainers.py."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from solar_upscale.errors import PatternError, UnsupportedError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["freeze_originals"]


def freeze_originals(model: "nn.Module", layers: Collection[int], *, stack: str | None = None) -> "list[nn.Parameter]":
    """Freeze all of ``model`` but ``layers``, and return the parameters to give to an optimiser.

    ``layers`` are target layers: ``trainers.layers`` of solar_upscale.json, or ``LayerPattern.repeats``. ``stack`` is
    the path of the module list ("model.layers"); without it the model's one list, the decoder's where there is an
    encoder too, or the one as long as the config says.
    What the layers share with the rest of the model stays frozen with the rest. Gradients that frozen parameters still
    hold are let go of, so that no optimiser moves them.

    Raises:
        PatternError: ``layers`` is empty or names a layer that the model does not have.
        UnsupportedError: the module list cannot be told, or the layers have nothing of their own that can be trained.
    """
    if any(type(layer) is not int for layer in layers):
        raise PatternError(
            "freeze_originals: layers: expected numbers of layers of the deeper model (trainers.layers of "
            f"solar_upscale.json), got {list(layers)!r:.60}"
        )
    path, modules = _module_list(model, stack)
    missing = sorted(layer for layer in layers if not 0 <= layer < len(modules))
    if missing or not layers:
        what = f"layer {missing[0]} does not exist" if missing else "no layer to train"
        raise PatternError(f"freeze_originals: {what}; {path} has {len(modules)} layers (0 to {len(modules) - 1})")
    # By identity: layers may share a parameter, and an optimiser refuses to be given one twice.
    trainable = {id(each): each for layer in sorted(layers) for each in modules[layer].parameters()}
    inside = tuple(f"{path}.{layer}." for layer in layers)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not name.startswith(inside):
            trainable.pop(id(parameter), None)
    packed = [each.dtype for each in trainable.values() if not each.dtype.is_floating_point]
    if packed or not trainable:
        what = f"are stored as {packed[0]}" if packed else "are all shared with the rest of the model"
        raise UnsupportedError(f"freeze_originals: the parameters of the layers {what}, and cannot be trained")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    for parameter in trainable.values():
        parameter.requires_grad_(True)
    return list(trainable.values())


def _module_list(model: "nn.Module", stack: str | None) -> "tuple[str, nn.ModuleList]":
    lists = _outer_lists(model)
    if stack is not None:
        found = {path: each for path, each in lists.items() if path == stack}
    elif len(lists) == 1:
        found = lists
    elif getattr(getattr(model, "config", None), "is_encoder_decoder", False):  # its depth is the encoder's
        found = {path: each for path, each in lists.items() if "decoder" in path.split(".")}
    else:
        depth = _configured_depth(model)
        found = {path: each for path, each in lists.items() if len(each) == depth}
    if len(found) != 1:
        names = ", ".join(f"{path} ({len(each)})" for path, each in lists.items()) or "none"
        raise UnsupportedError(f"freeze_originals: cannot tell the list of layers; found {names}; name one with stack=")
    return next(iter(found.items()))


def _outer_lists(model: "nn.Module") -> "dict[str, nn.ModuleList]":
    """The module lists that lie in no other module list, by path."""
    from torch import nn

    found: dict[str, nn.ModuleList] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(path.startswith(f"{outer}.") for outer in found):
            found[path] = module
    return found


def _configured_depth(model: "nn.Module") -> int | None:
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(text, "num_hidden_layers", None)
