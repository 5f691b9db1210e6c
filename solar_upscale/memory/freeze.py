"""Freezes everything but the repeats, in plain PyTorch. Lists for other trainers are in report/trainers.py."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from solar_upscale.errors import PatternError, UnsupportedError
from solar_upscale.text import count_text, counted

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TrainableParameters", "freeze_originals"]


class TrainableParameters(list["nn.Parameter"]):
    """A list of parameters for an optimiser, whose ``repr`` counts them and does not print their values."""

    def __repr__(self) -> str:
        numbers = sum(parameter.numel() for parameter in self)
        return f"<TrainableParameters: {counted(len(self), 'tensor')}, {count_text(numbers)} parameters>"


def freeze_originals(model: "nn.Module", layers: Collection[int], *, stack: str | None = None) -> TrainableParameters:
    """Freeze all of ``model`` except ``layers``, and return the parameters to pass to an optimiser.

    ``layers`` are target layers: ``trainers.layers`` of solar_upscale.json, or ``LayerPattern.repeats``. ``stack`` is
    the path of the module list ("model.layers"). By default it is the only list, the decoder's in an encoder-decoder,
    or the one whose length is the config's depth.
    Parameters that the layers share with the rest of the model stay frozen. Gradients of frozen parameters are cleared,
    so that no optimiser applies them.

    Raises:
        PatternError: ``layers`` is empty or names a layer that the model does not have.
        UnsupportedError: the module list is ambiguous, or the layers have no parameters of their own to train.
    """
    if any(type(layer) is not int for layer in layers):
        raise PatternError(
            "freeze_originals: layers: expected layer indices of the upscaled model (trainers.layers of "
            f"solar_upscale.json), got {list(layers)!r:.60}"
        )
    path, modules = _module_list(model, stack)
    missing = sorted(layer for layer in layers if not 0 <= layer < len(modules))
    if missing or not layers:
        problem = f"layer {missing[0]} does not exist" if missing else "no layer to train"
        raise PatternError(f"freeze_originals: {problem}; {path} has {len(modules)} layers (0 to {len(modules) - 1})")
    # By identity: layers may share a parameter, and an optimiser refuses duplicates.
    trainable = {id(each): each for layer in sorted(layers) for each in modules[layer].parameters()}
    inside = tuple(f"{path}.{layer}." for layer in layers)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not name.startswith(inside):
            trainable.pop(id(parameter), None)
    packed = [each.dtype for each in trainable.values() if not each.dtype.is_floating_point]
    if packed or not trainable:
        reason = f"are stored as {packed[0]}" if packed else "are all shared with the rest of the model"
        raise UnsupportedError(f"freeze_originals: the parameters of the layers {reason}, and cannot be trained")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    for parameter in trainable.values():
        parameter.requires_grad_(True)
    return TrainableParameters(trainable.values())


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
        raise UnsupportedError(f"freeze_originals: the list of layers is ambiguous; found {names}; choose with stack=")
    return next(iter(found.items()))


def _outer_lists(model: "nn.Module") -> "dict[str, nn.ModuleList]":
    """The module lists that are not inside another module list, by path."""
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
