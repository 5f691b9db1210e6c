"""A list of layers in another order: copies, what they share, and the numbers that they know themselves by."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from solar_upscale.pattern import parse_layers

__all__ = ["copies_of", "knows_place", "parts", "renumber", "shared_by", "upscale_layers"]

Layers = TypeVar("Layers")

# Under which names a block and its parts know their own place in the stack.
_PLACE_NAMES = ("layer_idx", "layer_id", "layer_index", "layer_number", "block_idx")


def upscale_layers(layers: Layers, layer_indices: Any) -> Layers:
    """Deep copies of the layers in the order that the entries say, in a container of the same type.

    Blocks that know their own place (``layer_idx``) learn their new one; nothing else of a model is touched. What
    several blocks share, as they do their config, the copies share too.

    Args:
        layers: An ``nn.ModuleList``, ``nn.Sequential``, list or tuple of layers.
        layer_indices: Entries of the layer index language.

    Raises:
        PatternError: the entries are malformed or do not fit the number of layers.

    Source:
        DepthUpscalingAlgorithm of FusionBench (arXiv:2406.03280), after SOLAR (arXiv:2312.15166).
    """
    originals = list(layers)  # type: ignore[call-overload] # any container of layers, whose type is handed back
    pattern = parse_layers(layer_indices, len(originals), where="layer_indices")
    copies = copies_of(originals, pattern.sources, shared_by(map(parts, originals)))
    for place, (source, block) in enumerate(zip(pattern.sources, copies, strict=True)):
        renumber(block, source, place)
    if isinstance(layers, list | tuple):
        return type(layers)(copies)
    from torch import nn

    make: Any = type(layers)
    made: Layers = make(*copies) if isinstance(layers, nn.Sequential) else make(copies)
    return made


def copies_of(originals: Sequence[Any], sources: Iterable[int], shared: dict[int, Any]) -> list[Any]:
    """A deep copy of each named original, but for what is ``shared``."""
    return [copy.deepcopy(originals[source], dict(shared)) for source in sources]


def shared_by(owners: Iterable[Iterable[Any]]) -> dict[int, Any]:
    """What deepcopy must hand on as it is: configs, and modules and tensors that more than one owner has.

    Args:
        owners: Each a collection of modules, looked at without what is below them.

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
                times[id(module.config)] += 2  # shared, whoever else has it
        times.update(mine.keys())
        found |= mine
    return {each: found[each] for each, number in times.items() if number > 1}


def renumber(block: Any, source: int, place: int) -> None:
    """Tell a block and all its parts that they stand at another place; an offset of their own is kept."""
    for part in parts(block):
        for name in _PLACE_NAMES:
            value = getattr(part, "__dict__", {}).get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                setattr(part, name, value - source + place)


def knows_place(block: Any) -> bool:
    """Whether a block or a part of it holds its own number."""
    return any(name in getattr(part, "__dict__", {}) for part in parts(block) for name in _PLACE_NAMES)


def parts(block: Any) -> Iterator[Any]:
    """The block and every module in it; a thing that is no module is its own only part."""
    return iter(block.modules()) if hasattr(block, "modules") else iter([block])
