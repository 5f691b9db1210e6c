"""Refusals before anything is rewritten: what no record covers, contradictions, missing or invalid fields."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from solar_upscale.architecture.config_names import COUNT_NAMES, MTP_FIELDS
from solar_upscale.architecture.encodings.common import Listed
from solar_upscale.architecture.stacks import name_splitter
from solar_upscale.architecture.suspicious_fields import suspicious_fields
from solar_upscale.architecture.tensors import check_layers_alike
from solar_upscale.architecture.type_facts import TypeFacts, explained_fields, record_attributes
from solar_upscale.architecture.types import Stack
from solar_upscale.errors import UnsupportedError
from solar_upscale.source.header import TensorInfo

__all__ = ["refuse_invalid_values", "refuse_missing", "refuse_unknown"]

# Lists that name the kind of each layer.
_KINDS = ("layer_types", "mlp_layer_types", "layers_block_type")

Tensors = Mapping[str, TensorInfo] | Iterable[str]


def refuse_unknown(
    config: Mapping[str, Any], tensors: Tensors, stack: Stack, facts: TypeFacts, *, assume_uniform: bool
) -> None:
    """Refuse what the records refuse, what they do not cover, and any unexplained field that refers to layers."""
    where = f"{stack.name} ({facts.model_type or 'no model_type'})"
    for record in facts.records:
        if record.refusal:
            raise UnsupportedError(f"{where}: the depth cannot be changed: {record.refusal}")
    _refuse_padded_numbers(tensors, stack)
    _refuse_uncounted_tower(config, stack)
    _refuse_unexplained(config, stack, facts, where)
    _refuse_missing_lists(stack, facts, where)
    _refuse_wrong_lengths(tensors, stack, facts, where)
    if not facts.is_known:
        _refuse_unless_uniform(config, tensors, stack, facts, where, assume_uniform=assume_uniform)


def _refuse_padded_numbers(tensors: Iterable[str], stack: Stack) -> None:
    """Refuse layers numbered 01, 02: transformers does not read them as layers 1 and 2."""
    padded = re.compile(rf"(?:{'|'.join(map(re.escape, stack.prefixes))})\.0[0-9]")
    name = next((name for name in tensors if padded.match(name)), None)
    if name is not None:
        raise UnsupportedError(
            f"{name}: its layer is numbered with a leading zero, which transformers does not read; rename such tensors "
            "(01 to 1), or delete them where the plain number exists too"
        )


def _refuse_unexplained(config: Mapping[str, Any], stack: Stack, facts: TypeFacts, where: str) -> None:
    """Refuse a count that the tensors contradict, and fields that refer to layers in unknown ways."""
    if not facts.counts and "layers_block_type" not in facts.view.section and not facts.proportional:
        section = facts.view.section
        counts = {name: section[name] for name in COUNT_NAMES if isinstance(section.get(name), int)}
        raise UnsupportedError(
            f"{where}: the tensors have {stack.num_layers} layers, config.json says {counts}; they must agree: correct "
            "the count, or download the weights again if layers are missing"
        )
    found = suspicious_fields(config, stack.config_path, stack.num_layers, explained_fields(facts), facts.harmless)
    if found:
        raise UnsupportedError(
            f"{where}: config.json has fields that seem to refer to layers and are unknown for this type: "
            f"{'; '.join(found)}; they cannot be rewritten safely; remove those that no code reads, and report the "
            "others with the model's name"
        )


def _refuse_missing_lists(stack: Stack, facts: TypeFacts, where: str) -> None:
    """Refuse a type whose layers differ by a list that the config lacks and that nothing else replaces."""
    for attribute in record_attributes(facts.records, stack.role):
        required = not attribute.optional and any(isinstance(each, Listed) for each in attribute.encodings)
        absent = not any(facts.view.get(name) is not None for name in attribute.fields)
        if required and absent and attribute.read(facts.view, stack.num_layers) is None:
            raise UnsupportedError(
                f"{where}: config.json: no {attribute.name}: layers of this type differ, and no other field says how; "
                f"add the list, with one entry for each of the {stack.num_layers} layers"
            )


def _refuse_wrong_lengths(tensors: Iterable[str], stack: Stack, facts: TypeFacts, where: str) -> None:
    """Refuse a per-layer list shorter than the stack, or longer without next-token layers that account for it."""
    lists = {
        encoding.field: value
        for attribute in facts.attributes
        for encoding in attribute.encodings
        if isinstance(encoding, Listed) and isinstance(value := facts.view.get(encoding.field), list | tuple) and value
    }
    for name, value in lists.items():
        if len(value) < stack.num_layers:
            raise UnsupportedError(
                f"{where}: config.json: {name}: needs one entry per layer; expected "
                f"{stack.num_layers}, got {len(value)}; add the missing ones"
            )
    longer = {name: len(value) for name, value in lists.items() if len(value) > stack.num_layers}
    if longer and not _has_next_token_layers(tensors, stack, facts):
        name, length = next(iter(longer.items()))
        raise UnsupportedError(
            f"{where}: config.json: {name}: needs one entry per layer, and there are no next-token layers to account "
            f"for more; expected {stack.num_layers}, got {length}; remove the surplus entries"
        )


def _has_next_token_layers(tensors: Iterable[str], stack: Stack, facts: TypeFacts) -> bool:
    """Whether the config counts next-token layers, or tensors are numbered beyond the last layer."""
    if any(facts.view.get(name) for name in MTP_FIELDS):
        return True
    split = name_splitter(stack.prefixes)
    return any(found[1] >= stack.num_layers for name in tensors if (found := split(name)) is not None)


def _refuse_unless_uniform(
    config: Mapping[str, Any], tensors: Tensors, stack: Stack, facts: TypeFacts, where: str, *, assume_uniform: bool
) -> None:
    """Refuse a stack that no record covers, unless it may be assumed uniform and its tensors agree."""
    if not assume_uniform:
        counted = ", ".join(f"{name} {stack.num_layers}" for name in facts.counts if name in facts.view.section)
        root = str(config.get("model_type") or "")
        which = "this model type" if root in ("", facts.model_type) else f"the model around it ({root})"
        if stack.role not in ("decoder", "encoder"):
            which = f"this stack ({stack.role})"
        raise UnsupportedError(
            f"{where}: {which} is not known; found: {stack.num_layers} layers, counted by "
            f"{counted or 'no field'}, and no other field that refers to layers; nothing proves that its code treats "
            "all layers alike; --assume-uniform accepts it if every layer has the same tensors"
        )
    check_layers_alike(tensors, stack, [()] * stack.num_layers, facts.model_type, exact=True)
    written = [name for name in facts.counts if name in facts.view.section]
    if len(written) != 1:
        raise UnsupportedError(
            f"{where}: --assume-uniform needs exactly one field that counts the layers; expected 1, got {len(written)}"
            f" ({', '.join(written) or 'none'}); remove from config.json those that no code reads"
        )


def _refuse_uncounted_tower(config: Mapping[str, Any], stack: Stack) -> None:
    """Refuse a tower of a composite that has no section of its own: counts elsewhere belong to other stacks."""
    is_composite = any(
        isinstance(value, Mapping) and name.endswith("_config") and name != "quantization_config"
        for name, value in config.items()
    )
    if stack.role not in ("decoder", "encoder") and not stack.config_path and is_composite:
        raise UnsupportedError(
            f"{stack.name} ({stack.role}): config.json: no section counts the {stack.num_layers} layers of this stack, "
            "so its depth cannot be changed; choose the text decoder, or add a section with its count"
        )


def refuse_missing(tensors: Tensors, stack: Stack, facts: TypeFacts, sources: Sequence[int]) -> None:
    """Refuse to move layers without the buffers that the code would otherwise compute from their indices."""
    for record in facts.records:
        if record.required_buffer and tuple(sources) != tuple(range(stack.num_layers)):
            ending, reason = record.required_buffer
            if not any(name.endswith(ending) for name in tensors):
                raise UnsupportedError(f"{stack.name} ({facts.model_type}): no tensor *{ending}: {reason}")


def refuse_invalid_values(stack: Stack, facts: TypeFacts) -> None:
    """Refuse a count or a list of kinds of the wrong type, and a config without any count.

    A nested section may rely on the default of its own config class, as LLaVA's do.
    """
    section = facts.view.section
    where = "".join(f"{key}." for key in stack.config_path)
    for name in facts.counts:
        if name in section and type(section[name]) is not int:
            raise UnsupportedError(
                f"config.json: {where}{name}: expected an integer, got {type(section[name]).__name__}; "
                f"the tensors have {stack.num_layers} layers: write that number"
            )
        counted = any(type(section.get(other)) is int for other in COUNT_NAMES)  # T5 has one count for both stacks
        if name not in section and not counted and not stack.config_path and facts.is_known:
            raise UnsupportedError(
                f"config.json: no {name}; the tensors have {stack.num_layers} layers, but transformers would build its "
                "default number; add the field if the tensors are right"
            )
    for name in _KINDS:
        value = section.get(name)
        sound = isinstance(value, list | tuple) and all(isinstance(kind, str) for kind in value)
        if value is not None and not sound:
            raise UnsupportedError(
                f"config.json: {where}{name}: expected a list with the kind of each layer as a string; "
                "correct it, or remove it if the model's code derives it"
            )
