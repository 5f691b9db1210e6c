"""Tensor names and shapes of layers: whether layers are alike, and which modules they have."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from solar_upscale.architecture.stacks import name_splitter
from solar_upscale.architecture.types import Stack
from solar_upscale.errors import UnsupportedError
from solar_upscale.source.header import TensorInfo

__all__ = ["check_layers_alike", "check_shared_module", "module_names"]

# What a quantiser stores instead of a weight or beside it; a layer that it skipped has the plain weight.
_PARAMETER = re.compile(
    r"\.(weight|bias|qweight|qzeros|scales|g_idx|perm|weight_packed|weight_shape|weight_zero_point|weight_g_idx"
    r"|weight_scale(_inv|_2)?|weight_global_scale|input_scale|output_scale|[kvq]_scale|scale|SCB|lut|meta"
    r"|weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..+)|weight_format)\Z"
)
_SCALES = re.compile(r"_(blocks|scales|scale_inv|scale|bias)\Z")
# Computed buffers, which a checkpoint may contain for some layers only.
_COMPUTED = (
    "rotary_emb.inv_freq",
    "masked_bias",
    "attn.bias",
    "attention.bias",
    "rotary_emb.cos_cached",
    "rotary_emb.sin_cached",
)


def check_layers_alike(
    tensors: Mapping[str, TensorInfo] | Iterable[str],
    stack: Stack,
    profiles: Sequence[tuple[Any, ...]],
    model_type: str,
    shared: str | None = None,
    *,
    exact: bool = False,
) -> None:
    """Check that layers with the same profile have the same modules, apart from a shared one.

    Raises:
        UnsupportedError: two layers with the same profile have different modules.
    """
    signatures = _signatures(tensors, stack, exact=exact)
    if shared:
        signatures = [{name for name in signature if not name.startswith(f"{shared}.")} for signature in signatures]
    first: dict[tuple[Any, ...], int] = {}
    for layer, profile in enumerate(profiles):
        like = first.setdefault(profile, layer)
        if signatures[layer] != signatures[like]:
            different = sorted(signatures[layer] ^ signatures[like])
            raise UnsupportedError(
                f"{stack.name} ({model_type}): layers {like} and {layer} have different tensors and no known field "
                f"says why: {', '.join(different[:3])}{' and more' if len(different) > 3 else ''}; download the "
                "weights again if tensors are missing, otherwise report the model's name"
            )


def check_shared_module(
    tensors: Mapping[str, TensorInfo] | Iterable[str], stack: Stack, sources: Sequence[int], module: str
) -> None:
    """Check that the pattern keeps a layer under which a shared module is stored.

    Raises:
        UnsupportedError: it drops every such layer.
    """
    split = name_splitter(stack.prefixes)
    holders = {found[1] for name in tensors if (found := split(name)) and f".{module}." in f"{found[2]}."}
    if holders and not holders & set(sources):
        raise UnsupportedError(
            f"{stack.name}: {module} is shared by several layers and stored under layer {min(holders)} only, which "
            "the pattern drops; keep that layer"
        )


def module_names(tensors: Iterable[str]) -> set[str]:
    """The names of all modules that have a tensor."""
    return {_PARAMETER.sub("", name) for name in tensors}


def _signatures(tensors: Mapping[str, TensorInfo] | Iterable[str], stack: Stack, *, exact: bool) -> list[set[str]]:
    """The modules of each layer, quantised or not; if ``exact``, its tensors with dtype and shape."""
    split = name_splitter(stack.prefixes)
    signatures: list[set[str]] = [set() for _ in range(stack.num_layers)]
    for name in tensors:
        found = split(name)
        if found is None or found[1] >= stack.num_layers or name.endswith(_COMPUTED):
            continue
        module = _SCALES.sub("", _PARAMETER.sub("", found[2]))
        item = f"{found[0]}.N{module}" if len(stack.prefixes) > 1 else module.removeprefix(".")
        if exact and isinstance(tensors, Mapping):
            item = f"{found[2].removeprefix('.')} {tensors[name].dtype} {list(tensors[name].shape)}"
        signatures[found[1]].add(item)
    return signatures
