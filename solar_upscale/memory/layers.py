"""Reorders a list of layers: copies them, preserves what they share, and updates their layer indices."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from solar_upscale.pattern import parse_layers
from solar_upscale.request import Layers

__all__ = ["copy_layers", "has_layer_index", "renumber", "shared_by", "submodules", "upscale_layers"]

Container = TypeVar("Container")

# The attributes in which a block and its submodules hold their index in the stack.
_INDEX_ATTRIBUTES = ("layer_idx", "layer_id", "layer_index", "layer_number", "block_idx")


def upscale_layers(layers: Container, layer_indices: Layers) -> Container:
    """Return deep copies of the layers in the order of the entries, in a container of the same type.

    Layer indices (``layer_idx``) are updated; nothing else of a model is changed. Objects that several layers share,
    such as their config, are shared by the copies too.

    Args:
        layers: An ``nn.ModuleList``, ``nn.Sequential``, list or tuple of layers.
        layer_indices: Entries of the layer index language.

    Raises:
        PatternError: the entries are malformed or do not fit the number of layers.

    Source:
        DepthUpscalingAlgorithm of FusionBench (arXiv:2406.03280), after SOLAR (arXiv:2312.15166).
    """
    originals = list(layers)  # type: ignore[call-overload] # any container of layers
    pattern = parse_layers(layer_indices, len(originals), where="layer_indices")
    copies = copy_layers(originals, pattern.sources, shared_by(map(submodules, originals)))
    for target, (source, block) in enumerate(zip(pattern.sources, copies, strict=True)):
        renumber(block, source, target)
    if isinstance(layers, list | tuple):
        return type(layers)(copies)
    from torch import nn

    container: Any = type(layers)
    upscaled: Container = container(*copies) if isinstance(layers, nn.Sequential) else container(copies)
    return upscaled


def copy_layers(originals: Sequence[Any], sources: Iterable[int], shared: dict[int, Any]) -> list[Any]:
    """A deep copy of the original at each index in ``sources``; ``shared`` objects are not copied."""
    return [copy.deepcopy(originals[source], dict(shared)) for source in sources]


def shared_by(owners: Iterable[Iterable[Any]]) -> dict[int, Any]:
    """The objects that deepcopy must not copy: configs, and modules and tensors that more than one owner has.

    Args:
        owners: Collections of modules; only the modules listed are searched, not their children.

    Returns:
        A memo for ``copy.deepcopy``.
    """
    found: dict[int, Any] = {}
    times: Counter[int] = Counter()
    for modules in owners:
        mine: dict[int, Any] = {}
        for module in modules:
            held = getattr(module, "__dict__", {})
            tensors = [*held.get("_parameters", {}).values(), *held.get("_buffers", {}).values()]
            mine |= {id(each): each for each in (module, *tensors) if each is not None}
            if held.get("config") is not None:
                found[id(module.config)] = module.config
                times[id(module.config)] += 2  # always shared
        times.update(mine.keys())
        found |= mine
    return {each: found[each] for each, number in times.items() if number > 1}


def renumber(block: Any, source: int, target: int) -> None:
    """Change the layer indices in a block from layer ``source`` to layer ``target``, preserving any offset."""
    for module in submodules(block):
        for name in _INDEX_ATTRIBUTES:
            value = getattr(module, "__dict__", {}).get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                setattr(module, name, value - source + target)


def has_layer_index(block: Any) -> bool:
    """Whether a block or one of its submodules holds its layer index."""
    return any(name in getattr(module, "__dict__", {}) for module in submodules(block) for name in _INDEX_ATTRIBUTES)


def submodules(block: Any) -> Iterator[Any]:
    """The block and every module in it; only the object itself if it is not a module."""
    return iter(block.modules()) if hasattr(block, "modules") else iter([block])
