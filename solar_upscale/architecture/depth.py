"""Change a config for a layer pattern: rewrite every field tied to depth, or refuse and say why.

The invariant: for each attribute, the new config gives target layer j the value that the old config gives its source
layer. It is checked for all attributes after they are written, whichever encoding wrote them.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from solar_upscale.architecture.attribute import Attribute, Updates, Vector, View, same
from solar_upscale.architecture.config_names import MTP_FIELDS
from solar_upscale.architecture.encodings.common import Listed
from solar_upscale.architecture.layer_kinds import kind_warnings
from solar_upscale.architecture.record import ModelType
from solar_upscale.architecture.refusals import refuse_invalid_values, refuse_missing, refuse_unknown
from solar_upscale.architecture.stacks import find_stacks, name_splitter, numbered, section_at
from solar_upscale.architecture.tensors import check_layers_alike, check_shared_module, module_names
from solar_upscale.architecture.type_facts import TypeFacts, type_facts
from solar_upscale.architecture.types import DepthChange, FieldChange, GatherRule, Stack
from solar_upscale.errors import PatternError, UnsupportedError
from solar_upscale.pattern import LayerPattern
from solar_upscale.source.header import TensorInfo

__all__ = ["change_depth"]

Tensors = Mapping[str, TensorInfo] | Iterable[str]


def change_depth(
    config: Mapping[str, Any],
    tensors: Tensors,
    stack: Stack,
    pattern: LayerPattern,
    *,
    files: Mapping[str, bytes] | None = None,
    drop_mtp: bool = False,
    assume_uniform: bool = False,
) -> DepthChange:
    """The new config, the new numbering and everything else that the pattern changes, except tensor bytes.

    ``tensors`` are the source's tensors by name, or just the names; ``files`` are small files beside the weights that
    may refer to layers by number (quantize_config.json).

    Raises:
        PatternError: the pattern was resolved for another depth, or is empty.
        UnsupportedError: no config describes the new depth; the message names fields and layers.
    """
    tensors = tensors if isinstance(tensors, Mapping) else tuple(tensors)
    sources = pattern.sources
    if pattern.num_source_layers != stack.num_layers:
        raise PatternError(
            f"{stack.name}: the pattern is for {pattern.num_source_layers} layers, the stack has {stack.num_layers}"
        )
    if not sources:
        raise PatternError(f"{stack.name}: the pattern leaves no layers; name at least one")
    facts = type_facts(config, stack)
    refuse_invalid_values(stack, facts)
    refuse_unknown(config, tensors, stack, facts, assume_uniform=assume_uniform)
    if len(sources) != stack.num_layers:
        _refuse_shared_count(config, tensors, stack, facts)
    changes = _Changes(stack, config)
    _set_counts(changes, facts, stack, len(sources))
    view = _set_attributes(changes, facts, sources)
    shared = next((record.shared_module for record in facts.records if record.shared_module), None)
    check_layers_alike(tensors, stack, _profiles(facts, stack.num_layers), facts.model_type, shared)
    refuse_missing(tensors, stack, facts, sources)
    if shared:
        check_shared_module(tensors, stack, sources, shared)
    numbering, dropped, warnings = _number(changes, tensors, stack, facts, sources, drop_mtp=drop_mtp)
    _set_quantization(changes, tensors, numbering)
    warnings += [*_stale(facts, view, sources), *kind_warnings(facts, sources)]
    rewritten = _rewrite_files(changes, files, tensors, numbering) if files else {}
    return DepthChange(
        config=changes.config,
        changes=tuple(changes.made),
        numbering=numbering,
        gathers=_gathers(tensors, facts.records, stack, sources),
        dropped=dropped,
        files=rewritten,
        warnings=tuple(warnings),
        assumed_uniform=not facts.is_known,
    )


def _refuse_shared_count(config: Mapping[str, Any], tensors: Iterable[str], stack: Stack, facts: TypeFacts) -> None:
    """Refuse to change a field that also counts the layers of another stack."""
    for other in find_stacks(tensors, config):
        if other.prefixes == stack.prefixes or other.config_path != stack.config_path:
            continue
        both = set(facts.counts).intersection(type_facts(config, other).counts)
        if both and {stack.role, other.role} <= {"decoder", "encoder"}:
            raise UnsupportedError(
                f"{stack.name}: {'.'.join((*stack.config_path, min(both)))} counts the layers of {other.name} too, so "
                "the depth of one cannot change without the other's; choose a pattern that keeps the number of layers"
            )


class _Changes:
    """The new config while it is being built, and the changes made so far."""

    def __init__(self, stack: Stack, config: Mapping[str, Any]) -> None:
        self.stack = stack
        self.source = config
        self.config: dict[str, Any] = copy.deepcopy(dict(config))
        self.made: list[FieldChange] = []

    def set(self, name: str, value: Any, reason: str) -> None:
        """Set a dotted name in the section, and at the top of the config too if that has an equal copy."""
        paths = [(*self.stack.config_path, *name.split("."))]
        section = section_at(self.source, self.stack.config_path)
        if self.stack.config_path and name in self.source and self.source[name] == section.get(name, self.source[name]):
            paths.append((name,))
        for path in paths:
            self.set_at(path, value, reason)

    def set_at(self, path: tuple[str, ...], value: Any, reason: str) -> None:
        """Set the field at one path, unless it already has the value."""
        section = self.config
        for key in path[:-1]:
            section = section.setdefault(key, {})
        before = section.get(path[-1])
        if path[-1] in section and type(before) is type(value) and before == value:
            return
        section[path[-1]] = value
        self.made.append(FieldChange(".".join(path), before, value, reason))


def _set_counts(changes: _Changes, facts: TypeFacts, stack: Stack, depth: int) -> None:
    for name in facts.counts:
        changes.set(name, depth, f"number of layers: {stack.num_layers} become {depth}")
    for name in facts.proportional:
        value = facts.view.get(name)
        if type(value) is not int or value * depth % stack.num_layers:
            raise UnsupportedError(
                f"config.json: {name}: expected a multiple of the {stack.num_layers} layers, got {value!r:.60}; "
                "correct it, or the layer count"
            )
        changes.set(name, value * depth // stack.num_layers, "in proportion to the number of layers")
    # Without num_decoder_layers, T5's decoder is as deep as its encoder: write down the old depth.
    if stack.role == "encoder" and facts.counts[:1] == ("num_layers",) and facts.view.get("num_decoder_layers") is None:
        changes.set("num_decoder_layers", stack.num_layers, "the decoder keeps its depth, which num_layers gave too")


def _set_attributes(changes: _Changes, facts: TypeFacts, sources: Sequence[int]) -> View:
    """Rewrite every attribute; returns the view of the new config."""
    expressed = _express(facts, sources)
    if expressed.failed is not None:
        _refuse_attribute(*expressed.failed, expressed.view, facts, sources)
    for attribute, updates in expressed.updates:
        for name, value in updates.items():
            changes.set(name, value, f"{attribute.name}: every layer keeps its own value")
    return expressed.view


class _Expressed(NamedTuple):
    """The updates that express each attribute; ``failed`` is the first that cannot be expressed, with its values."""

    view: View
    updates: tuple[tuple[Attribute, Updates], ...]
    failed: tuple[Attribute, Vector] | None


def _express(facts: TypeFacts, sources: Sequence[int]) -> _Expressed:
    """Express the attributes one by one, then check all of them against the result."""
    view = facts.view.updated({name: len(sources) for name in facts.counts})
    wanted: list[tuple[Attribute, Vector]] = []
    written: list[tuple[Attribute, Updates]] = []
    for attribute in facts.attributes:
        vector = attribute.read(facts.view, facts.view.num_layers)
        if vector is None:
            continue
        target = tuple(vector[source] for source in sources)
        updates = attribute.express(facts.view, view, target, sources)
        if updates is None:
            return _Expressed(view, tuple(written), (attribute, target))
        view = view.updated(updates)
        wanted.append((attribute, target))
        written.append((attribute, updates))
    failed = next((each for each in wanted if each[0].mismatches(each[1], view, sources)), None)
    return _Expressed(view, tuple(written), failed)


def _refuse_attribute(
    attribute: Attribute, target: Vector, view: View, facts: TypeFacts, sources: Sequence[int]
) -> NoReturn:
    from solar_upscale.architecture.nearest_pattern import nearest_pattern, runs

    wrong = attribute.mismatches(target, view, sources)
    shown = ", ".join(f"{j} (source {sources[j]})" for j in wrong[:6]) + (
        f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
    )
    nearest = nearest_pattern(
        sources, facts.view.num_layers, lambda candidate: _express(facts, candidate).failed is None
    )
    hint = f"; the nearest pattern that works: --layers {runs(nearest)}" if nearest else ""
    constraint = attribute.constraint or f"config.json cannot express {attribute.name} for this order of layers"
    raise UnsupportedError(
        f"{facts.model_type}: {constraint}; target layers {shown} would differ from their source layers{hint}"
    )


def _profiles(facts: TypeFacts, n: int) -> list[tuple[Any, ...]]:
    """The values of all attributes, as one tuple per layer."""
    vectors = [vector for attribute in facts.attributes if (vector := attribute.read(facts.view, n)) is not None]
    return [tuple(repr(vector[i]) for vector in vectors) for i in range(n)]


def _number(
    changes: _Changes, tensors: Tensors, stack: Stack, facts: TypeFacts, sources: Sequence[int], *, drop_mtp: bool
) -> tuple[dict[str, tuple[int, ...]], dict[str, str], list[str]]:
    """The source index of each target index by prefix, next-token layers included; dropped tensors; warnings."""
    numbering: dict[str, tuple[int, ...]] = {}
    warnings: list[str] = []
    indices = numbered(tensors)
    num_mtp = 0
    for prefix in stack.prefixes:
        after = sorted(index for index in indices.get(prefix, ()) if index >= stack.num_layers)
        num_mtp = max(num_mtp, len(after))
        kept = () if drop_mtp else tuple(after)
        numbering[prefix] = (*sources, *kept)
    if drop_mtp:
        _drop_mtp_fields(changes, facts, len(sources))
    elif num_mtp and len(sources) != stack.num_layers:
        warnings.append(
            f"{num_mtp} next-token layer(s) after the last move from index {stack.num_layers} to {len(sources)}, where "
            "serving engines look; transformers reports their tensors as unexpected and ignores them; --drop-mtp "
            "drops them"
        )
    dropped = _drop_mtp_modules(tensors) if drop_mtp else {}
    for ending, interval_field in ((k, v) for record in facts.records for k, v in record.strided):
        interval = facts.view.get(interval_field, 1)
        if type(interval) is not int or interval < 1:
            raise UnsupportedError(
                f"config.json: {interval_field}: expected a positive number of layers, got {interval!r:.60}; correct it"
            )
        for prefix in indices:
            if f".{prefix}".endswith(f".{ending}"):
                numbering[prefix] = tuple(sources[j] // interval for j in range(0, len(sources), interval))
    return numbering, dropped, warnings


def _drop_mtp_fields(changes: _Changes, facts: TypeFacts, depth: int) -> None:
    """Set the next-token counts to 0, and cut these layers' entries off the per-layer lists."""
    reason = "the next-token layers are dropped (--drop-mtp)"
    for name in MTP_FIELDS:
        if facts.view.get(name):
            changes.set(name, 0, reason)
    section = section_at(changes.config, changes.stack.config_path)
    for attribute in facts.attributes:
        for encoding in attribute.encodings:
            value = section.get(encoding.fields[0]) if isinstance(encoding, Listed) else None
            if isinstance(value, list) and len(value) > depth:
                changes.set(encoding.fields[0], value[:depth], reason)


def _drop_mtp_modules(tensors: Tensors) -> dict[str, str]:
    parts = ((name, name.split(".")[:2]) for name in tensors)
    heads = (name for name, first in parts if any(part.partition("_")[0] == "mtp" for part in first))
    return dict.fromkeys(heads, "next-token head dropped (--drop-mtp)")


def _gathers(
    tensors: Tensors, records: tuple[ModelType, ...], stack: Stack, sources: Sequence[int]
) -> dict[str, GatherRule]:
    """The rule for each tensor outside the layers that has one slice per layer."""
    split = name_splitter(stack.prefixes)
    return {
        name: GatherRule(axis, stack.num_layers, tuple(sources))
        for record in records
        for ending, axis in record.gathers
        for name in tensors
        if f".{name}".endswith(f".{ending}") and split(name) is None
    }


def _rewrite_files(
    changes: _Changes, files: Mapping[str, bytes], tensors: Tensors, numbering: Mapping[str, Sequence[int]]
) -> dict[str, bytes]:
    from solar_upscale.architecture.numbered_files import rewrite_files

    rewritten, made = rewrite_files(files, module_names(tensors), changes.stack, numbering)
    changes.made += made
    return rewritten


def _set_quantization(changes: _Changes, tensors: Tensors, numbering: Mapping[str, Sequence[int]]) -> None:
    for path in (
        ("quantization_config",),
        (*changes.stack.config_path, "quantization_config"),
        ("compression_config",),
    ):
        section = section_at(changes.source, path)
        if section:
            from solar_upscale.architecture.quantization import rewrite_module_lists

            new = rewrite_module_lists(section, module_names(tensors), tuple(numbering), numbering)
            for key, value in new.items():
                changes.set_at((*path, key), value, "refers to layers by number")


def _stale(facts: TypeFacts, view: View, sources: Sequence[int]) -> list[str]:
    """Warnings for fields that no longer agree with the field that overrides them: other programs may read them."""
    warnings = []
    for attribute in facts.attributes:
        vector = attribute.read(view, len(sources))
        for encoding in attribute.encodings:
            present = [name for name in encoding.fields if view.get(name) is not None]
            values = attribute.read_by(encoding, view, len(sources)) if present else None
            if vector is not None and values is not None and not all(map(same, values, vector)):
                warnings.append(
                    f"config.json: {', '.join(present)}: no longer describes every layer; transformers reads "
                    f"{attribute.name}, which does"
                )
    return warnings
