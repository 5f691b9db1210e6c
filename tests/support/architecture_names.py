"""Tensor names as in checkpoints, and changes of depth from names and a config alone."""

from solar_upscale.architecture import change_depth, choose_stack, find_stacks
from solar_upscale.pattern import LayerPattern

__all__ = ["DENSE", "SPARSE", "changed", "layers", "names", "solar"]

DENSE = ("self_attn.q_proj.weight", "self_attn.o_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight")
SPARSE = (
    "self_attn.q_proj.weight",
    "self_attn.o_proj.weight",
    "mlp.gate.weight",
    "mlp.experts.0.down_proj.weight",
    "mlp.experts.1.down_proj.weight",
    "input_layernorm.weight",
)


def layers(n, parts=DENSE, prefix="model.layers", start=0):
    return [f"{prefix}.{i}.{part}" for i in range(start, start + n) for part in parts]


def names(n, **kwargs):
    return ["model.embed_tokens.weight", *layers(n, **kwargs), "model.norm.weight", "lm_head.weight"]


def changed(config, tensors, sources, **kwargs):
    stack = choose_stack(find_stacks(tensors, config), None)
    return change_depth(config, tensors, stack, LayerPattern(tuple(sources), stack.num_layers), **kwargs)


def solar(n):
    return [*range(n - 8), *range(8, n)] if n > 16 else [*range(n - 2), *range(2, n)]
