"""Depth upscaling of a model that is in memory: the same tables and the same bits as the checkpoint on disk.

torch is imported when a function here is called, never before. Files and shards have no part in this module.
"""

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from solar_upscale.architecture import (
    FieldChange,
    GatherRule,
    Stack,
    change_depth,
    choose_stack,
    find_stacks,
    name_splitter,
)
from solar_upscale.errors import UnsupportedError
from solar_upscale.header import TensorInfo
from solar_upscale.pattern import LayerPattern, parse_layers
from solar_upscale.planner import factor_rules, layer_factors
from solar_upscale.transform import Scale, Transform, Zero, parse_init, transform_for

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["DepthUpscalingAlgorithm", "upscale_layers", "upscale_model"]

Model = TypeVar("Model")
Layers = TypeVar("Layers")

# Under which names a block and its parts know their own place in the stack.
_PLACE_NAMES = ("layer_idx", "layer_id", "layer_index", "layer_number", "block_idx")

# Under which names the module that owns the stack may keep a count of its own.
_COUNT_NAMES = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")


def upscale_model(
    model: Model,
    layers: Any,
    *,
    init: str = "copy",
    entry_scales: Sequence[float | None] | None = None,
    stack: str | None = None,
    assume_uniform: bool = False,
) -> Model:
    """Change the depth of a transformers model in place, make everything tied to depth right, and return it.

    The first use of each layer is the layer itself, later ones are deep copies. ``num_hidden_layers``, every per-layer
    list in the config and every ``layer_idx`` follow, so that the model computes, caches, saves and reloads as the
    checkpoint that ``upscale_checkpoint`` writes.

    Args:
        model: A ``PreTrainedModel``.
        layers: Entries of the layer index language, e.g. ``["range(0,24)", "range(8,32)"]``.
        init: How repeats start: "copy", "identity", "split" or "scale=F1,F2,...".
        entry_scales: One factor or None for each entry, which wins over ``init``.
        stack: Which stack of layers, by name; by default the text decoder.
        assume_uniform: Accept a model type that the tables do not know, where the evidence agrees.

    Raises:
        PatternError: the pattern is malformed or does not fit the model.
        UnsupportedError: the depth of this model cannot be changed truthfully in this way.
    """
    config = getattr(model, "config", None)
    if config is None or not hasattr(model, "state_dict"):
        raise UnsupportedError(
            f"{type(model).__name__}: has no config; expected a transformers model, or upscale_layers for a bare list"
        )
    tensors = _tensor_infos(model)
    as_dict = config.to_dict()
    chosen = choose_stack(find_stacks(tensors, as_dict), stack)
    pattern = parse_layers(layers, chosen.num_layers, where="layers")
    factors = layer_factors(pattern, layers, parse_init(init), entry_scales)
    change = change_depth(as_dict, tensors, chosen, pattern, assume_uniform=assume_uniform)
    transforms = _transforms(as_dict, tensors, chosen, pattern, factors)
    for prefix, numbering in change.numbering.items():
        _rebuild(model, prefix, numbering)
    for name, rule in change.gathers.items():
        _gather(model, name, rule)
    for name, transform in transforms.items():
        _apply(_parameter(model, name), transform)
    for field in change.changes:
        _set_field(config, field)
    return model


def upscale_layers(layers: Layers, layer_indices: Any) -> Layers:
    """Deep copies of the layers in the order that the entries say, in a container of the same type.

    Blocks that know their own place (``layer_idx``) learn their new one; nothing else of a model is touched.

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
    shared = _configs_of(originals)
    copies = []
    for place, source in enumerate(pattern.sources):
        block = copy.deepcopy(originals[source], dict(shared))
        _renumber(block, source, place)
        copies.append(block)
    return _container_like(layers, copies)


class DepthUpscalingAlgorithm:
    """FusionBench's call, with FusionBench's words: ``DepthUpscalingAlgorithm(layer_indices=[...]).run(layers)``.

    Source:
        fusion_bench.method.depth_upscaling.DepthUpscalingAlgorithm, whose examples run with this class unchanged.
    """

    def __init__(self, layer_indices: Any) -> None:
        self.layer_indices = layer_indices

    def run(self, modelpool: Model) -> Model:
        """Upscale a list of layers into new ones of the same type, or a whole model in place.

        Raises:
            PatternError: the indices are malformed or do not fit the number of layers.
            UnsupportedError: given a whole model whose depth cannot be changed truthfully.
        """
        if hasattr(modelpool, "config") and hasattr(modelpool, "state_dict"):
            return upscale_model(modelpool, self.layer_indices)
        upscaled = upscale_layers(modelpool, self.layer_indices)
        if any(_knows_place(block) for block in upscaled):  # type: ignore[attr-defined] # a container of layers
            warnings.warn(
                "the layers are renumbered, but a model that takes them also needs its config changed "
                "(num_hidden_layers and every per-layer list), or it runs only as many layers as before; "
                "solar_upscale.upscale_model(model, layers) does all of it",
                stacklevel=2,
            )
        return upscaled


# ---------------------------------------------------------------- what the model is


def _tensor_infos(model: Any) -> dict[str, TensorInfo]:
    """The model's state dict as header entries: names, dtypes and shapes, without places."""
    names = _dtype_names()
    return {
        name: TensorInfo(name, names.get(tensor.dtype, "U8"), tuple(tensor.shape), (0, tensor.nbytes))
        for name, tensor in model.state_dict().items()
        if hasattr(tensor, "shape")
    }


def _dtype_names() -> "dict[torch.dtype, str]":
    import torch

    words = {
        "BOOL": "bool",
        "U8": "uint8",
        "I8": "int8",
        "I16": "int16",
        "I32": "int32",
        "I64": "int64",
        "F16": "float16",
        "BF16": "bfloat16",
        "F32": "float32",
        "F64": "float64",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
    }
    return {getattr(torch, word): name for name, word in words.items()}


def _transforms(
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorInfo],
    stack: Stack,
    pattern: LayerPattern,
    factors: Sequence[float],
) -> dict[str, Transform]:
    """What becomes of which target tensor, by its name in the new model."""
    split = name_splitter(stack.prefixes)
    changed: dict[str, Transform] = {}
    for name, rule in factor_rules(config, tensors, stack, pattern, factors).items():
        place = split(name)
        assert place is not None, "a residual writer is a tensor of the stack"
        prefix, layer, rest = place
        for target, (source, factor) in enumerate(zip(pattern.sources, factors, strict=True)):
            if source == layer and factor != 1:
                changed[f"{prefix}.{target}{rest}"] = transform_for(factor, rule, tensors[name])
    return changed


# ---------------------------------------------------------------- surgery


def _rebuild(model: Any, prefix: str, numbering: Sequence[int]) -> None:
    """Give a module list its new layers; the list itself stays, since others may refer to it."""
    container = model.get_submodule(prefix)
    originals = dict(container.named_children())
    shared = _configs_of([model])
    used: set[int] = set()
    blocks = {}
    for place, source in enumerate(numbering):
        block = originals.get(str(source))
        if block is None:  # a numbering that only some layers have a module in
            continue
        blocks[str(place)] = copy.deepcopy(block, dict(shared)) if source in used else block
        used.add(source)
    places = {name: numbering[int(name)] for name in blocks}
    for name in originals:
        delattr(container, name)
    for name, block in blocks.items():
        container.add_module(name, block)
        _renumber(block, places[name], int(name))
    owner = model.get_submodule(prefix.rpartition(".")[0])
    for name in _COUNT_NAMES:
        if vars(owner).get(name) == len(originals):
            setattr(owner, name, len(blocks))


def _renumber(block: Any, source: int, place: int) -> None:
    """Tell a block and all its parts that they stand at another place; an offset of their own is kept."""
    for part in _parts(block):
        for name in _PLACE_NAMES:
            value = vars(part).get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                setattr(part, name, value - source + place)


def _knows_place(block: Any) -> bool:
    return any(name in vars(part) for part in _parts(block) for name in _PLACE_NAMES)


def _parts(block: Any) -> Iterator[Any]:
    return iter(block.modules()) if hasattr(block, "modules") else iter([block])


def _configs_of(blocks: Iterable[Any]) -> dict[int, Any]:
    """A memo for deepcopy under which configs are shared and not copied: a block's config is the model's own."""
    shared = {}
    for block in blocks:
        for part in _parts(block):
            config = vars(part).get("config")
            if config is not None:
                shared[id(config)] = config
    return shared


def _container_like(layers: Layers, blocks: list[Any]) -> Layers:
    if isinstance(layers, list | tuple):
        return type(layers)(blocks)
    from torch import nn

    make: Any = type(layers)
    made: Layers = make(*blocks) if isinstance(layers, nn.Sequential) else make(blocks)
    return made


def _parameter(model: Any, name: str) -> "torch.Tensor":
    path, _, attribute = name.rpartition(".")
    parameter: torch.Tensor = getattr(model.get_submodule(path), attribute)
    return parameter


def _apply(tensor: "torch.Tensor", transform: Transform) -> None:
    """Change a parameter as ``transform_chunks`` changes its bytes, to the same bits."""
    import torch

    with torch.no_grad():
        if isinstance(transform, Zero):
            tensor.zero_()
        elif isinstance(transform, Scale):
            wide = tensor if tensor.dtype == torch.float64 else tensor.float()
            tensor.copy_((wide + transform.offset) * transform.factor - transform.offset)


def _gather(model: Any, name: str, rule: GatherRule) -> None:
    """Reorder the slices, one a layer, of a parameter that stands outside the layers."""
    import torch

    path, _, attribute = name.rpartition(".")
    module: nn.Module = model.get_submodule(path)
    old: torch.Tensor = getattr(module, attribute)
    size = old.shape[rule.axis]
    shape = [*old.shape[: rule.axis], rule.source_slices, size // rule.source_slices, *old.shape[rule.axis + 1 :]]
    slices = old.detach().reshape(shape)
    chosen = slices.index_select(rule.axis, torch.tensor(rule.sources, device=old.device))
    new = chosen.flatten(rule.axis, rule.axis + 1).contiguous()
    if isinstance(old, torch.nn.Parameter):
        setattr(module, attribute, torch.nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        setattr(module, attribute, new)
    for count in ("num_embeddings", "embedding_dim", "in_features", "out_features"):
        if vars(module).get(count) == size and _counts_axis(count, rule.axis):
            setattr(module, count, new.shape[rule.axis])


def _counts_axis(name: str, axis: int) -> bool:
    return axis == (0 if name in ("num_embeddings", "out_features") else 1)


# ---------------------------------------------------------------- config


def _set_field(config: Any, field: FieldChange) -> None:
    """Set one changed field of a config object, inside its sub-configs and dicts too."""
    *path, name = field.path.split(".")
    owner = config
    for step in path:
        owner = owner[step] if isinstance(owner, MutableMapping) else getattr(owner, step)
    if isinstance(owner, MutableMapping):
        owner[name] = field.after
    else:
        setattr(owner, name, field.after)
