"""Changes the depth of a transformers model in place, with everything that is tied to it."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from solar_upscale.architecture import (
    DepthChange,
    GatherRule,
    Stack,
    change_depth,
    choose_stack,
    find_stacks,
    name_splitter,
)
from solar_upscale.errors import UnsupportedError, UpscaleWarning
from solar_upscale.memory.fresh import build_fresh, set_field
from solar_upscale.memory.layers import (
    copy_layers,
    has_layer_index,
    renumber,
    shared_by,
    submodules,
    upscale_layers,
)
from solar_upscale.memory.upscaled import UpscaledModel, record_upscaling, refuse_second_time
from solar_upscale.pattern import LayerPattern, parse_layers
from solar_upscale.plan.transform import Scale, Transform, Zero, too_large, transform_for
from solar_upscale.request import Layers, request_from
from solar_upscale.source.header import TensorInfo
from solar_upscale.start.advice import pattern_warnings
from solar_upscale.start.factors import factor_rules, layer_factors
from solar_upscale.start.init import parse_init

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["DepthUpscalingAlgorithm", "upscale_model"]

Model = TypeVar("Model")

_DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "float16": "F16",
    "bfloat16": "BF16", "float32": "F32", "float64": "F64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip


def upscale_model(
    model: Model,
    layers: Layers,
    *,
    init: str = "copy",
    entry_scales: Sequence[float | None] | None = None,
    stack: str | None = None,
    assume_uniform: bool = False,
    again: bool = False,
) -> Model:
    """Change the depth of a transformers model in place, update everything tied to it, and return the model.

    The first use of each layer is the layer itself, later ones are deep copies. ``num_hidden_layers``, every per-layer
    list in the config and every ``layer_idx`` are updated, so that the model computes, caches, saves and reloads like
    the checkpoint that ``upscale_checkpoint`` writes. If the job is refused, the model is unchanged. An optimiser that
    holds the model's parameters must be created again. What a plan warns about is an ``UpscaleWarning`` here.
    ``upscale_report(model)`` says which layers are new.

    Args:
        model: A ``PreTrainedModel``.
        layers: Entries of the layer index language, e.g. ``["range(0,24)", "range(8,32)"]``.
        init: How repeats start: "copy", "identity", "split" or "scale=F1,F2,...".
        entry_scales: One factor or None for each entry, which overrides ``init``.
        stack: Name of the stack of layers; the text decoder by default.
        assume_uniform: Accept an unknown model type if all of its layers look alike.
        again: Accept a model that was upscaled already; without it, running the same cell twice is refused.

    Raises:
        PatternError: the pattern is malformed or does not fit the model.
        UnsupportedError: the depth of this model cannot be changed truthfully in this way.
    """
    config = _config_of(model)
    if not again:
        refuse_second_time(model)
    tensors = _tensor_infos(model)
    chosen = choose_stack(find_stacks(tensors, config), stack)
    pattern = parse_layers(layers, chosen.num_layers, where="layers")
    request = request_from(layers, init=init, entry_scales=entry_scales)
    start = parse_init(init)
    factors = layer_factors(pattern, request, start)
    change = change_depth(config, tensors, chosen, pattern, assume_uniform=assume_uniform)
    transforms = _transforms(config, tensors, chosen, pattern, factors)
    _refuse_uncopyable(model, chosen, transforms)
    _refuse_infinities(model, transforms)
    fresh = build_fresh(model, change.changes)
    if fresh is not None:
        fresh.check(_renamer(change), change.gathers)
    _operate(model, change, transforms)
    if fresh is not None:
        fresh.apply_changes(model, _origin(change))
    else:
        _renumber_all(model, change)
    record_upscaling(model, UpscaledModel(chosen.name, pattern, start.spelling, factors))
    for warning in (*change.warnings, *pattern_warnings(pattern, start, factors)):
        warnings.warn(warning, UpscaleWarning, stacklevel=2)
    return model


class DepthUpscalingAlgorithm:
    """A drop-in for FusionBench's class: ``DepthUpscalingAlgorithm(layer_indices=[...]).run(layers)``.

    Source:
        fusion_bench.method.depth_upscaling.DepthUpscalingAlgorithm, whose examples run unchanged with this class.
    """

    def __init__(self, layer_indices: Layers) -> None:
        self.layer_indices = layer_indices

    def run(self, modelpool: Model) -> Model:
        """Upscale a list of layers into new ones of the same type, or a whole model in place.

        Raises:
            PatternError: the indices are malformed or do not fit the number of layers.
            UnsupportedError: the depth of a whole model cannot be changed truthfully.
        """
        if hasattr(modelpool, "config") and hasattr(modelpool, "state_dict"):
            return upscale_model(modelpool, self.layer_indices)
        upscaled = upscale_layers(modelpool, self.layer_indices)
        if any(map(has_layer_index, upscaled)):  # type: ignore[call-overload] # a container of layers
            warnings.warn(
                "the layers are renumbered, but the config of a model that uses them must change too "
                "(num_hidden_layers and every per-layer list), or it runs only as many layers as before; "
                "solar_upscale.upscale_model(model, layers) does both",
                stacklevel=2,
            )
        return upscaled


# ---------------------------------------------------------------- reading the model


def _config_of(model: Any) -> dict[str, Any]:
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "to_dict") or not hasattr(model, "state_dict"):
        raise UnsupportedError(
            f"{type(model).__name__}: has no config; expected a transformers model, or upscale_layers for a bare list"
        )
    if hasattr(model, "peft_config") or getattr(model, "_hf_peft_config_loaded", False):
        raise UnsupportedError(
            f"{type(model).__name__}: has adapters, whose config refers to layers; merge or unload them first"
        )
    as_dict: dict[str, Any] = config.to_dict()
    return as_dict


def _tensor_infos(model: Any) -> dict[str, TensorInfo]:
    """The model's state dict as header entries: names, dtypes and shapes, without real offsets."""
    return {
        name: TensorInfo(
            name, _DTYPES.get(str(tensor.dtype).removeprefix("torch."), "U8"), tuple(tensor.shape), (0, tensor.nbytes)
        )
        for name, tensor in model.state_dict().items()
        if hasattr(tensor, "shape")
    }


def _transforms(
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorInfo],
    stack: Stack,
    pattern: LayerPattern,
    factors: Sequence[float],
) -> dict[str, tuple[str, Transform]]:
    """Target tensor name to (source tensor name, transform), for each tensor whose values change."""
    split = name_splitter(stack.prefixes)
    changed: dict[str, tuple[str, Transform]] = {}
    for name, rule in factor_rules(config, tensors, stack, pattern, factors).items():
        parts = split(name)
        assert parts is not None, "a residual writer is a tensor of the stack"
        prefix, layer, rest = parts
        for target, (source, factor) in enumerate(zip(pattern.sources, factors, strict=True)):
            if source == layer and factor != 1:
                changed[f"{prefix}.{target}{rest}"] = name, transform_for(factor, rule, tensors[name])
    return changed


def _refuse_uncopyable(model: Any, stack: Stack, transforms: Mapping[str, tuple[str, Transform]]) -> None:
    """Refuse weights that are not in memory or not as stored, and a factor on a shared parameter."""
    if any(vars(module).get("layers_are_rescaled") for module in model.modules()):
        raise UnsupportedError(
            f"{type(model).__name__}: its first run divided each layer's weights by a power of two that depends on the "
            "layer's index; upscale the model before its first run"
        )
    named = dict(model.named_parameters(remove_duplicate=False))
    on_meta = [name for name, each in named.items() if each.is_meta]
    inside = [name for name in on_meta if name_splitter(stack.prefixes)(name)]
    if inside and (len(on_meta) < len(named) or transforms):
        raise UnsupportedError(
            f"{inside[0]}: its weights are not in memory (offloaded, or on the meta device); load the whole model into "
            "memory, or upscale the checkpoint"
        )
    uses: dict[int, list[str]] = {}
    for name, each in named.items():
        uses.setdefault(id(each), []).append(name)
    for source, _ in transforms.values():
        others = [name for name in uses.get(id(named.get(source)), []) if name != source]
        if others:
            raise UnsupportedError(
                f"{source}: cannot have its own factor, since it is the same parameter as {others[-1]}; use init copy"
            )
    for prefix in stack.prefixes:
        _refuse_repeated_block(prefix, vars(model.get_submodule(prefix))["_modules"])


def _refuse_repeated_block(prefix: str, blocks: Mapping[str, Any]) -> None:
    """Refuse a block that appears twice in its list: it cannot have two layer indices."""
    names: dict[int, str] = {}
    for name, block in blocks.items():
        first = names.setdefault(id(block), name)
        if first != name:
            raise UnsupportedError(
                f"{prefix}: layers {first} and {name} are the same module; replace one with a copy (copy.deepcopy)"
            )


def _refuse_infinities(model: Any, transforms: Mapping[str, tuple[str, Transform]]) -> None:
    """Refuse a factor that makes a value overflow its dtype."""
    for source, scale in set(transforms.values()):
        if not isinstance(scale, Scale) or abs(scale.factor) <= 1:
            continue
        tensor = _tensor(model, source)
        if (_scaled(tensor, scale).isinf() & ~tensor.isinf()).any():
            dtype = _DTYPES[str(tensor.dtype).removeprefix("torch.")]
            raise UnsupportedError(f"{source}: {too_large(scale.factor, dtype)}")


# ---------------------------------------------------------------- names before and after


def _renamer(change: DepthChange) -> Callable[[str], list[str]]:
    """A function from a source tensor's name to its target names."""
    split = name_splitter(tuple(change.numbering))

    def renamed(name: str) -> list[str]:
        parts = split(name)
        if parts is None:
            return [] if name in change.dropped else [name]
        prefix, layer, rest = parts
        return [f"{prefix}.{target}{rest}" for target, source in enumerate(change.numbering[prefix]) if source == layer]

    return renamed


def _origin(change: DepthChange) -> Callable[[str], str]:
    """A function from a module's path in the new model to its path in the source."""
    split = name_splitter(tuple(change.numbering))

    def origin(path: str) -> str:
        parts = split(path)
        if parts is None or parts[1] >= len(change.numbering[parts[0]]):
            return path
        prefix, target, rest = parts
        return f"{prefix}.{change.numbering[prefix][target]}{rest}"

    return origin


# ---------------------------------------------------------------- surgery


def _operate(model: Any, change: DepthChange, transforms: Mapping[str, tuple[str, Transform]]) -> None:
    """Change the model. Everything that could run out of memory is allocated before anything is replaced."""
    blocks = {prefix: _blocks(model, prefix, numbering) for prefix, numbering in change.numbering.items()}
    gathered = {name: _gathered(_tensor(model, name), rule) for name, rule in change.gathers.items()}
    for prefix, made in blocks.items():
        _install(model.get_submodule(prefix), made)
    for name, tensor in gathered.items():
        _put_gathered(model, name, tensor, change.gathers[name])
    for name, (_, transform) in transforms.items():
        _apply(_tensor(model, name), transform)
    for field in change.changes:
        set_field(model.config, field)
    if getattr(model, "hf_device_map", None):
        renamed = _renamer(change)
        model.hf_device_map = {name: device for old, device in model.hf_device_map.items() for name in renamed(old)}
    vars(model).pop("_cache", None)  # a static cache that generate() kept for the old depth


def _blocks(model: Any, prefix: str, numbering: Sequence[int]) -> dict[int, Any]:
    """The new blocks by index: the first use is the block itself, later ones are copies."""
    container = model.get_submodule(prefix)
    originals = {int(name): block for name, block in container.named_children()}
    shared = shared_by([*map(submodules, originals.values()), _outside(model, container)])
    used: set[int] = set()
    blocks = {}
    for target, source in enumerate(numbering):
        if source in originals:  # only some layers may have a module here
            block = originals[source]
            blocks[target] = copy_layers([block], [0], shared)[0] if source in used else block
            used.add(source)
    return blocks


def _outside(model: Any, container: Any) -> list[Any]:
    """Every module of the model that is reachable without passing through the container."""
    found: dict[int, Any] = {}
    pending = [model]
    while pending:
        module = pending.pop()
        if module is not container and id(module) not in found:
            found[id(module)] = module
            pending += module.children()
    return list(found.values())


def _install(container: Any, blocks: Mapping[int, Any]) -> None:
    """Replace the layers of a module list, but not the list itself, which may be referenced elsewhere."""
    for name, _ in list(container.named_children()):
        delattr(container, name)
    for index, block in blocks.items():
        container.add_module(str(index), block)


def _renumber_all(model: Any, change: DepthChange) -> None:
    """Update layer indices by attribute name, for a model whose class could not be built."""
    for prefix, numbering in change.numbering.items():
        for name, block in model.get_submodule(prefix).named_children():
            renumber(block, numbering[int(name)], int(name))


def _tensor(model: Any, name: str) -> "torch.Tensor":
    path, _, attribute = name.rpartition(".")
    tensor: torch.Tensor = getattr(model.get_submodule(path), attribute)
    return tensor


def _apply(tensor: "torch.Tensor", transform: Transform) -> None:
    """Change a parameter as ``transform_chunks`` changes its bytes, to the same bits."""
    import torch

    with torch.no_grad():
        if isinstance(transform, Zero):
            tensor.zero_()
        elif isinstance(transform, Scale):
            tensor.copy_(_scaled(tensor, transform))


def _scaled(tensor: "torch.Tensor", scale: Scale) -> "torch.Tensor":
    """The tensor times the factor, in its own dtype, with the same bits as ``scale_chunks``."""
    wide = tensor.detach() if tensor.element_size() == 8 else tensor.detach().float()
    return ((wide + scale.offset) * scale.factor - scale.offset).to(tensor.dtype)


def _gathered(old: "torch.Tensor", rule: GatherRule) -> "torch.Tensor":
    """A tensor outside the layers that has one slice for each layer, with its slices in the new order."""
    import torch

    size = old.shape[rule.axis]
    shape = [*old.shape[: rule.axis], rule.source_slices, size // rule.source_slices, *old.shape[rule.axis + 1 :]]
    chosen = old.detach().reshape(shape).index_select(rule.axis, torch.tensor(rule.sources, device=old.device))
    return chosen.flatten(rule.axis, rule.axis + 1).contiguous()


def _put_gathered(model: Any, name: str, tensor: "torch.Tensor", rule: GatherRule) -> None:
    """Put a reordered tensor into its module, and update the module's size attributes."""
    import torch

    path, _, attribute = name.rpartition(".")
    module: nn.Module = model.get_submodule(path)
    old: torch.Tensor = getattr(module, attribute)
    is_parameter = isinstance(old, torch.nn.Parameter)
    setattr(module, attribute, torch.nn.Parameter(tensor, requires_grad=old.requires_grad) if is_parameter else tensor)
    names = ("num_embeddings", "out_features") if rule.axis == 0 else ("embedding_dim", "in_features")
    for size in names:
        if vars(module).get(size) == old.shape[rule.axis]:
            setattr(module, size, tensor.shape[rule.axis])
