"""The bytes that one token adds to the KV cache in each layer, from the shapes of the layers' projections."""

import re
from collections.abc import Mapping
from typing import Any

from solar_upscale.architecture.stacks import section_at
from solar_upscale.architecture.types import Stack
from solar_upscale.source.header import TensorInfo

__all__ = ["kv_cache_nbytes"]

_BF16_NBYTES = 2

# Fused projections to queries, keys and values: the shape does not give the split, the config does.
_FUSED = ("c_attn", "query_key_value", "qkv_proj", "Wqkv", "wqkv", "qkv")

_KEY_OR_VALUE = ("k_proj", "v_proj", "k_lin", "v_lin")

# Other attention modules (latent attention, cross-attention) have a cache whose size is not known here.
_ATTENTION = re.compile(r"attn|attention")


def kv_cache_nbytes(
    config: Mapping[str, Any], tensors: Mapping[str, TensorInfo], stack: Stack
) -> tuple[int, ...] | None:
    """The bytes that one token adds to a bf16 KV cache in each layer (0 for a layer without one), None if unknown."""
    prefix = re.escape(stack.prefixes[0])
    in_layer = re.compile(rf"{prefix}\.([0-9]+)\.(.*)\.weight", re.DOTALL)
    split = [0] * stack.num_layers
    fused = [False] * stack.num_layers
    attends = [False] * stack.num_layers
    for name, tensor in tensors.items():
        match = in_layer.fullmatch(name)
        if match is None or int(match[1]) >= stack.num_layers:
            continue
        layer, path = int(match[1]), match[2].split(".")
        attends[layer] |= any(_ATTENTION.search(part) for part in path[:-1])
        if path[-1] in _KEY_OR_VALUE and len(tensor.shape) == 2:
            split[layer] += tensor.shape[0] * _BF16_NBYTES
        fused[layer] |= path[-1] in _FUSED
    fused_nbytes = _from_config(config, stack)
    sizes = []
    for layer in range(stack.num_layers):
        nbytes = split[layer] or (fused_nbytes if fused[layer] else 0)
        if not nbytes and attends[layer]:
            return None
        sizes.append(nbytes)
    return tuple(sizes)


def _from_config(config: Mapping[str, Any], stack: Stack) -> int:
    """The bytes for one layer of a uniform decoder according to its config, 0 if that does not say."""
    config = section_at(config, stack.config_path)
    heads = config.get("num_attention_heads", config.get("n_head"))
    hidden = config.get("hidden_size", config.get("n_embd"))
    if not isinstance(heads, int) or not isinstance(hidden, int) or heads <= 0:
        return 0
    head_dim = config.get("head_dim") or hidden // heads
    kv_heads = 1 if config.get("multi_query") is True else config.get("num_key_value_heads") or heads
    if config.get("new_decoder_architecture") is True:  # newer Falcon models use another field name
        kv_heads = config.get("num_kv_heads") or heads
    if not isinstance(head_dim, int) or not isinstance(kv_heads, int):
        return 0
    return 2 * kv_heads * head_dim * _BF16_NBYTES
