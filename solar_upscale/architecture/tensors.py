"""What tensor names and shapes say about layers: whether they are alike, and which modules there are."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from solar_upscale.architecture.stacks import name_splitter
from solar_upscale.architecture.types import Stack
from solar_upscale.errors import UnsupportedError
from solar_upscale.source.header import TensorInfo

__all__ = ["check_layers_alike", "check_shared_module", "module_names"]

# What a quantiser puts in a weight's place or beside it; a layer that it skipped has the plain weight.
_PARAMETER = re.compile(
    r"\.(weight|bias|qweight|qzeros|scales|g_idx|perm|weight_packed|weight_shape|weight_zero_point|weight_g_idx"
    r"|weight_scale(_inv|_2)?|weight_global_scale|input_scale|output_scale|[kvq]_scale|scale|SCB|lut|meta"
    r"|weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..+)|weight_format)\Z"
)
_SCALES = re.compile(r"_(blocks|scales|scale_inv|scale|bias)\Z")
# Buffers that are computed, and that a checkpoint may hold for some layers only.
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
    """Layers of which the config says the same must have the same modules, but for one that layers share.

    Raises:
        UnsupportedError: two layers differ and no attribute that is known explains it.
    """
    signatures = _signatures(tensors, stack, exact=exact)
    if shared:
        signatures = [{name for name in signature if not name.startswith(f"{shared}.")} for signature in signatures]
    first: dict[tuple[Any, ...], int] = {}
    for layer, profile in enumerate(profiles):
        like = first.setdefault(profile, layer)
        if signatures[layer] != signatures[like]:
            odd = sorted(signatures[layer] ^ signatures[like])
            raise UnsupportedError(
                f"{stack.name} ({model_type}): layers {like} and {layer} have different tensors and no known field "
                f"says why: {', '.join(odd[:3])}{' and more' if len(odd) > 3 else ''}; fetch the weights again if "
                "tensors are missing, else report the model's name"
            )


def check_shared_module(
    tensors: Mapping[str, TensorInfo] | Iterable[str], stack: Stack, sources: Sequence[int], module: str
) -> None:
    """A module that layers share lies in the file under one of them only: that one must stay if any of them does.

    Raises:
        UnsupportedError: the pattern drops every layer that holds the shared module, and keeps one that needs it.
    """
    split = name_splitter(stack.prefixes)
    holders = {found[1] for name in tensors if (found := split(name)) and f".{module}." in f"{found[2]}."}
    if holders and not holders & set(sources):
        raise UnsupportedError(
            f"{stack.name}: {module} is shared by several layers and stored under layer {min(holders)} only, which "
            "the pattern drops; keep that layer"
        )


def module_names(tensors: Iterable[str]) -> set[str]:
    """The names of all modules that own a tensor."""
    return {_PARAMETER.sub("", name) for name in tensors}


def _signatures(tensors: Mapping[str, TensorInfo] | Iterable[str], stack: Stack, *, exact: bool) -> list[set[str]]:
    """The modules of each layer, quantised or not; its tensors with dtype and shape where ``exact``."""
    split = name_splitter(stack.prefixes)
    signatures: list[set[str]] = [set() for _ in range(stack.num_layers)]
    for name in tensors:
        found = split(name)
        if found is None or found[1] >= stack.num_layers or name.endswith(_COMPUTED):
            continue
        module = _SCALES.sub("", _PARAMETER.sub("", found[2]))
        said = f"{found[0]}.N{module}" if len(stack.prefixes) > 1 else module.removeprefix(".")
        if exact and isinstance(tensors, Mapping):
            said = f"{found[2].removeprefix('.')} {tensors[name].dtype} {list(tensors[name].shape)}"
        signatures[found[1]].add(said)
    return signatures
