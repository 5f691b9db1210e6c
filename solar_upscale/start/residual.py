"""Which tensors of a layer write into the residual stream, so that a factor scales everything the layer adds.

Which block a model type has is in its record, in architecture/families/. Names may be those of a checkpoint or of a
model's modules. plan/transform.py applies factors to bytes; init.py and factors.py choose them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from solar_upscale.architecture.blocks import READERS
from solar_upscale.architecture.record import Block, NoFactor
from solar_upscale.architecture.registry import find_type
from solar_upscale.architecture.stacks import section_at, section_type
from solar_upscale.architecture.types import ResidualRule, Stack
from solar_upscale.errors import UnsupportedError
from solar_upscale.source.header import TensorInfo

__all__ = ["block_model_type", "residual_rules", "residual_writers"]

# Name endings after a writer's module path that are multiplied.
_MULTIPLIED = ("", ".weight", ".bias", "_bias")
# Scales beside quantised weights. A zero weight stays zero whatever its scale, so they are not changed.
_UNCHANGED = (".weight_scale_inv", ".weight_scale", ".input_scale", ".activation_scale", "_scale_inv", "_scales")
_MXFP4_BLOCKS = "_blocks"  # two 4-bit floats per byte; a zero byte is two zeros


def residual_writers(
    config: Mapping[str, Any], tensors: Mapping[str, TensorInfo], stack: Stack, layers: Iterable[int]
) -> dict[int, dict[str, ResidualRule]]:
    """For each of ``layers`` (from 0), the tensors that a factor on the layer's contribution scales, with their rules.

    Args:
        config: The whole config.json.
        tensors: The model's tensors by full name; those outside the stack are ignored.
        stack: The stack that the layers belong to.
        layers: The layers that get a factor other than 1.

    Raises:
        UnsupportedError: the model type is unknown or cannot express a factor; a layer lacks a writer, or has a matrix
            that the record does not account for; or a repeat would replace state that later layers reuse.
    """
    wanted = sorted(set(layers))
    found = residual_rules(config, tensors, stack, wanted)
    model_type, part = block_model_type(config, stack)
    _refuse(model_type, [problem for layer in wanted for problem in _shared_state_problems(part, layer)])
    return found


def residual_rules(
    config: Mapping[str, Any], tensors: Mapping[str, TensorInfo], stack: Stack, layers: Iterable[int]
) -> dict[int, dict[str, ResidualRule]]:
    """Like ``residual_writers``, for layers that have their factors already: what a repeat replaces is not checked.

    Raises:
        UnsupportedError: as ``residual_writers``.
    """
    wanted = sorted(set(layers))
    by_layer = _tensors_by_layer(tensors, stack)
    model_type, part = block_model_type(config, stack)
    block, readers = _known_block(model_type, stack.role, part, by_layer)
    result: dict[int, dict[str, ResidualRule]] = {}
    problems: list[str] = []
    for layer in wanted:
        rules: dict[str, ResidualRule] = {}
        for (prefix, number), names in by_layer.items():
            if number == layer:
                found, layer_problems = _layer_writers(block, readers, f"{prefix}.{number}.", names)
                rules.update(found)
                problems += layer_problems
        if not rules and not problems:
            problems.append(f"layer {layer}: has no tensors")
        result[layer] = rules
    _refuse(model_type, problems)
    return result


def _refuse(model_type: str, problems: Sequence[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UnsupportedError(f"model_type {model_type}: {'; '.join(problems[:3])}{more}; use --init copy")


def block_model_type(config: Mapping[str, Any], stack: Stack) -> tuple[str, Mapping[str, Any]]:
    """The model_type that determines the stack's blocks, and the config section that describes them."""
    section = section_at(config, stack.config_path)
    if stack.role in ("decoder", "encoder"):
        return section_type(config, stack.config_path), section
    return str(section.get("model_type") or config.get("model_type") or ""), section


def _tensors_by_layer(tensors: Mapping[str, TensorInfo], stack: Stack) -> dict[tuple[str, int], dict[str, TensorInfo]]:
    """The stack's tensors by (prefix, layer), each by its name within the layer."""
    in_layer = re.compile(rf"({'|'.join(map(re.escape, stack.prefixes))})\.(\d+)\.(.+)", re.DOTALL)
    by_layer: dict[tuple[str, int], dict[str, TensorInfo]] = {}
    for name, tensor in tensors.items():
        if match := in_layer.fullmatch(name):
            by_layer.setdefault((match[1], int(match[2])), {})[match[3]] = tensor
    return by_layer


def _known_block(
    model_type: str, role: str, part: Mapping[str, Any], by_layer: Mapping[tuple[str, int], Mapping[str, TensorInfo]]
) -> tuple[Block, frozenset[str]]:
    """The block of the type, and the name components of tensors that only read the stream."""
    record = find_type(model_type)
    for refusal in record.no_factor if record else ():
        _refuse_factor(refusal, model_type, role, part)
    if record is None or record.block is None:
        shown = ", ".join(_candidates(part, by_layer)[:12]) or "none found"
        raise UnsupportedError(
            f"model_type {model_type}: where its layers write into the residual stream is not known; "
            f"candidates by shape: {shown}; use --init copy"
        )
    return record.block, READERS.union(record.readers)


def _refuse_factor(refusal: NoFactor, model_type: str, role: str, part: Mapping[str, Any]) -> None:
    if refusal.role not in (None, role):
        return
    if refusal.field is None:
        raise UnsupportedError(
            f"model_type {model_type}: {refusal.reason}; its repeats can only start as copies: use --init copy"
        )
    if part.get(refusal.field, not refusal.value) is refusal.value:
        raise UnsupportedError(
            f"model_type {model_type} with {refusal.field} {refusal.value}: {refusal.reason}; use --init copy"
        )


def _candidates(part: Mapping[str, Any], by_layer: Mapping[tuple[str, int], Mapping[str, TensorInfo]]) -> list[str]:
    """Names of matrices with as many output features as the stream, with stars for numbers."""
    hidden = next((part[key] for key in ("hidden_size", "d_model", "n_embd", "dim") if key in part), None)
    return sorted(
        {
            re.sub(r"\.\d+(?=\.)", ".*", f"{prefix}.{number}.{name}")
            for (prefix, number), names in by_layer.items()
            for name, tensor in names.items()
            if len(tensor.shape) > 1 and hidden in (None, tensor.shape[-2]) and not _reads(name, READERS)
        }
    )


def _layer_writers(
    block: Block, readers: frozenset[str], prefix: str, names: Mapping[str, TensorInfo]
) -> tuple[dict[str, ResidualRule], list[str]]:
    """The rules of one layer by full tensor name, and the problems found in it."""
    rules: dict[str, ResidualRule] = {}
    problems: list[str] = []
    settled: set[str] = set()
    for entry in block.writers + block.optional:
        for path in entry.split("|"):
            below = {name: tail for name in names if (tail := _tail(path, name)) is not None}
            if below:
                settled.update(below)
                rules.update(_rules(block, below))
                problems += [f"{prefix}{name}: is packed or unknown" for name in _unknown(below)]
                problems += _missing_experts(path, prefix, names)
                break
        else:
            if entry in block.writers:
                problems.append(f"layer {prefix[:-1]}: expected one of {entry.replace('|', ', ')}, got none")
    for path in block.inner:
        settled.update(name for name in names if _tail(path, name) is not None)
    for path in block.stream_scalars:
        if path in names:
            rules[path] = ResidualRule(offset=-1.0, only_zero=True)
    problems += [
        f"{prefix}{name}: may write into the residual stream, and the record of this type does not account for it"
        for name, tensor in names.items()
        if len(tensor.shape) > 1 and name not in settled and name not in rules and not _reads(name, readers)
    ]
    return {prefix + name: rule for name, rule in rules.items()}, problems


def _rules(block: Block, below: Mapping[str, str]) -> dict[str, ResidualRule]:
    """The rules of one writer's tensors; ``below`` maps each name to what follows the writer's path in it."""
    rules = {name: ResidualRule(block.offset) for name, tail in below.items() if tail in _MULTIPLIED}
    return rules | {name: ResidualRule(only_zero=True) for name, tail in below.items() if tail == _MXFP4_BLOCKS}


def _unknown(below: Mapping[str, str]) -> list[str]:
    known = {*_MULTIPLIED, *_UNCHANGED, _MXFP4_BLOCKS}
    return [name for name, tail in below.items() if tail not in known]


def _missing_experts(path: str, prefix: str, names: Mapping[str, TensorInfo]) -> list[str]:
    """A problem for each expert that has tensors, but not the one that writes into the stream."""
    stem, star, rest = path.partition("*")
    if not star or path.startswith("layer."):
        return []
    expert = re.compile(re.escape(stem) + r"(\d+)\.")
    seen = {match[1] for name in names if (match := expert.match(name))}
    written = {match[1] for name in names if _tail(path, name) is not None and (match := expert.match(name))}
    return [f"{prefix}{stem}{number}{rest}: is missing" for number in sorted(seen - written, key=int)]


@cache
def _path_pattern(path: str) -> re.Pattern[str]:
    stem = re.escape(path).replace(r"\*", r"\d+")
    return re.compile(rf"{stem}((?:\..*|_bias|_blocks|_scales|_scale_inv)?)", re.DOTALL)


def _tail(path: str, name: str) -> str | None:
    """What follows a writer's path in the name of one of its tensors; None for other tensors."""
    match = _path_pattern(path).fullmatch(name)
    return match[1] if match else None


def _reads(name: str, readers: frozenset[str]) -> bool:
    return not readers.isdisjoint(re.sub(r"_(bias|blocks|scales|scale_inv)$", "", name).split("."))


def _shared_state_problems(part: Mapping[str, Any], layer: int) -> list[str]:
    """A problem for a layer whose keys, values or index later layers reuse: a repeat overwrites them."""
    indexers = part.get("indexer_types")
    if isinstance(indexers, list) and indexers[layer : layer + 2] == ["full", "shared"]:
        return [f"layer {layer}: the next layer reuses its index, which a repeat would replace"]
    sources = part.get("kv_source_layers")
    if isinstance(sources, list) and any(source == layer != target for target, source in enumerate(sources)):
        return [f"layer {layer}: other layers reuse its keys and values, which a repeat would replace"]
    shared = part.get("num_kv_shared_layers") or 0
    if not shared:
        return []
    kinds, count = part.get("layer_types"), part.get("num_hidden_layers")
    if type(shared) is not int or type(count) is not int or not isinstance(kinds, list) or len(kinds) < count:
        return [
            f"layer {layer}: layers share keys and values (num_kv_shared_layers {shared!r:.60}), and layer_types does "
            "not give the kind of each"
        ]
    own = count - shared
    if layer < min(own, len(kinds)) and kinds[layer] not in kinds[layer + 1 : own]:
        return [f"layer {layer}: the last {shared} layers reuse its keys and values, which a repeat would replace"]
    return []
