"""What a layer pattern does to a config: every field tied to depth rewritten truthfully, or a refusal that says why.

The rule behind everything here: for each attribute, what the new config says of target layer j must be what the old
config says of its source. That is checked after writing, for all attributes, whatever wrote them.
"""

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from solar_upscale.architecture.encodings import Listed
from solar_upscale.architecture.families import COUNT_NAMES, MTP_FIELDS
from solar_upscale.architecture.fields import Row
from solar_upscale.architecture.findings import unexplained
from solar_upscale.architecture.hybrid import lost_kinds
from solar_upscale.architecture.known import Known, explained_fields, what_is_known
from solar_upscale.architecture.nearest import nearest_pattern, runs
from solar_upscale.architecture.quantization import rewrite_module_lists
from solar_upscale.architecture.rules import Attribute, View, same
from solar_upscale.architecture.stacks import name_splitter, section_at
from solar_upscale.architecture.tensors import check_layers_alike, check_shared_module, module_names, numbered_indices
from solar_upscale.architecture.types import DepthChange, FieldChange, GatherRule, Stack
from solar_upscale.errors import PatternError, UnsupportedError
from solar_upscale.header import TensorInfo
from solar_upscale.pattern import LayerPattern

__all__ = ["change_depth"]

# Lists that name the kind of each layer.
_KINDS = ("layer_types", "mlp_layer_types", "layers_block_type")

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
    """The new config, the new numbering and all else that the pattern changes, tensor bytes apart.

    ``tensors`` are the source's tensors by name, or just the names; ``files`` are small files beside the weights that
    may name layers by number (quantize_config.json).

    Raises:
        PatternError: the pattern was made for another depth.
        UnsupportedError: the new depth cannot be said truthfully; the message names fields and layers.
    """
    tensors = tensors if isinstance(tensors, Mapping) else tuple(tensors)
    sources = pattern.sources
    if pattern.num_source_layers != stack.num_layers:
        raise PatternError(
            f"{stack.name}: the pattern is for {pattern.num_source_layers} layers, the stack has {stack.num_layers}"
        )
    if not sources:
        raise PatternError(f"{stack.name}: the pattern leaves no layers")
    known = what_is_known(config, stack)
    _refuse_odd_values(stack, known)
    _refuse_unknown(config, tensors, stack, known, assume_uniform=assume_uniform)
    changes = _Changes(stack, config)
    _set_counts(changes, known, stack, len(sources))
    view = _set_attributes(changes, known, sources)
    shared = next((row.shared_module for row in known.rows if row.shared_module), None)
    check_layers_alike(tensors, stack, _profiles(known, stack.num_layers), known.model_type, shared)
    _refuse_missing(tensors, stack, known, sources)
    if shared:
        check_shared_module(tensors, stack, sources, shared)
    numbering, dropped, warnings = _number(changes, tensors, stack, known, sources, drop_mtp=drop_mtp)
    _set_quantization(changes, tensors, numbering)
    warnings += [*_stale(known, view, sources), *lost_kinds(known, sources)]
    rewritten = _rewrite_files(files or {}, tensors, numbering, changes)
    return DepthChange(
        config=changes.config,
        changes=tuple(changes.made),
        numbering=numbering,
        gathers=_gathers(tensors, known.rows, stack, sources),
        dropped=dropped,
        files=rewritten,
        warnings=tuple(warnings),
        assumed_uniform=not known.is_known,
    )


class _Changes:
    """The new config while it is being made, and the record of what was changed in it."""

    def __init__(self, stack: Stack, config: Mapping[str, Any]) -> None:
        self.stack = stack
        self.source = config
        self.config: dict[str, Any] = copy.deepcopy(dict(config))
        self.made: list[FieldChange] = []

    def set(self, name: str, value: Any, reason: str) -> None:
        """Set a dotted name of the section, and its equal copy at the top of the config where there is one."""
        paths = [(*self.stack.config_path, *name.split("."))]
        section = section_at(self.source, self.stack.config_path)
        if self.stack.config_path and name in self.source and self.source[name] == section.get(name, self.source[name]):
            paths.append((name,))
        for path in paths:
            self.set_at(path, value, reason)

    def set_at(self, path: tuple[str, ...], value: Any, reason: str) -> None:
        """Set one place, unless it already holds the value."""
        place = self.config
        for key in path[:-1]:
            place = place.setdefault(key, {})
        before = place.get(path[-1])
        if path[-1] in place and type(before) is type(value) and before == value:
            return
        place[path[-1]] = value
        self.made.append(FieldChange(".".join(path), before, value, reason))


def _refuse_unknown(
    config: Mapping[str, Any], tensors: Tensors, stack: Stack, known: Known, *, assume_uniform: bool
) -> None:
    """Refuse what the tables refuse, what they do not know, and any field that speaks of layers without a rule."""
    where = f"{stack.name} ({known.model_type or 'no model_type'})"
    for row in known.rows:
        if row.refusal:
            raise UnsupportedError(f"{where}: the depth cannot be changed: {row.refusal}")
    found = unexplained(config, stack.config_path, stack.num_layers, explained_fields(known), is_known=known.is_known)
    if not known.counts and "layers_block_type" not in known.view.section and not known.proportional:
        section = known.view.section
        said = {name: section[name] for name in COUNT_NAMES if isinstance(section.get(name), int)}
        raise UnsupportedError(
            f"{where}: the tensors have {stack.num_layers} layers, config.json says {said}; they must agree"
        )
    if found:
        raise UnsupportedError(
            f"{where}: config.json holds fields that speak of layers and that no rule explains: {'; '.join(found)}; "
            "they cannot be rewritten truthfully"
        )
    for attribute in known.attributes:
        for encoding in attribute.encodings:
            value = known.view.get(encoding.field) if isinstance(encoding, Listed) else None
            if isinstance(value, list | tuple) and 0 < len(value) < stack.num_layers:
                raise UnsupportedError(
                    f"{where}: config.json: {encoding.fields[0]}: one entry a layer is needed; expected "
                    f"{stack.num_layers}, "
                    f"got {len(value)}"
                )
    if known.is_known:
        return
    if not assume_uniform:
        counted = ", ".join(f"{name} {stack.num_layers}" for name in known.counts)
        raise UnsupportedError(
            f"{where}: this model type is not in the tables; found: {stack.num_layers} layers, counted by "
            f"{counted}, and no "
            "other field that speaks of layers; no file proves that its code treats all layers alike; "
            "--assume-uniform accepts it if every layer has the same tensors"
        )
    check_layers_alike(tensors, stack, [()] * stack.num_layers, known.model_type, exact=True)
    written = [name for name in known.counts if name in known.view.section]
    if len(written) != 1:
        raise UnsupportedError(
            f"{where}: --assume-uniform needs exactly one field that counts the layers; expected 1, got {len(written)}"
            f" ({', '.join(written) or 'none'})"
        )


def _refuse_missing(tensors: Tensors, stack: Stack, known: Known, sources: Sequence[int]) -> None:
    """Refuse where layers carry what the code computes from their number, unless the file holds it."""
    for row in known.rows:
        if row.needs and tuple(sources) != tuple(range(stack.num_layers)):
            ending, reason = row.needs
            if not any(name.endswith(ending) for name in tensors):
                raise UnsupportedError(f"{stack.name} ({known.model_type}): no tensor *{ending}: {reason}")


def _refuse_odd_values(stack: Stack, known: Known) -> None:
    """Refuse a count or a list of kinds that is there and is none, and a config that does not say its depth at all.

    A nested section may leave its depth to the default of its own config class, as LLaVA's do.
    """
    section = known.view.section
    where = "".join(f"{key}." for key in stack.config_path)
    for name in known.counts:
        if name in section and type(section[name]) is not int:
            raise UnsupportedError(
                f"config.json: {where}{name}: expected an integer, got {type(section[name]).__name__}; "
                f"the tensors show {stack.num_layers} layers"
            )
        counted = any(type(section.get(other)) is int for other in COUNT_NAMES)  # T5's one count stands for both stacks
        if name not in section and not counted and not stack.config_path:
            raise UnsupportedError(
                f"config.json: no {name}; the tensors show {stack.num_layers} layers, and transformers would build as "
                "many as its own default says; add it if the tensors are right"
            )
    for name in _KINDS:
        value = section.get(name)
        sound = isinstance(value, list | tuple) and all(isinstance(kind, str) for kind in value)
        if value is not None and not sound:
            raise UnsupportedError(f"config.json: {where}{name}: expected a list with the kind of each layer as text")


def _set_counts(changes: _Changes, known: Known, stack: Stack, depth: int) -> None:
    for name in known.counts:
        changes.set(name, depth, f"the number of layers: {stack.num_layers} become {depth}")
    for name in known.proportional:
        value = known.view.get(name) * depth
        if value % stack.num_layers:
            raise UnsupportedError(
                f"config.json: {name}: {known.view.get(name)} is no multiple of {stack.num_layers} layers"
            )
        changes.set(name, value // stack.num_layers, "in proportion to the number of layers")
    # T5's decoder count is the encoder's where it is absent: keep what it stood for.
    if stack.role == "encoder" and known.counts[:1] == ("num_layers",) and known.view.get("num_decoder_layers") is None:
        changes.set(
            "num_decoder_layers", stack.num_layers, "the decoder keeps its layers, which this count stood for too"
        )


def _set_attributes(changes: _Changes, known: Known, sources: Sequence[int]) -> View:
    """Rewrite every attribute, then check them all on what was written."""
    n = known.view.num_layers
    view = known.view.updated({name: len(sources) for name in known.counts})
    wanted = {}
    for attribute in known.attributes:
        vector = attribute.read(known.view, n)
        if vector is None:
            continue
        target = tuple(vector[source] for source in sources)
        wanted[attribute.name] = (attribute, target)
        updates = attribute.express(known.view, view, target, sources)
        if updates is None:
            _refuse_attribute(attribute, target, view, known, sources)
        assert updates is not None
        for name, value in updates.items():
            changes.set(name, value, f"{attribute.name}: every layer keeps its own value")
        view = view.updated(updates)
    for attribute, target in wanted.values():
        if attribute.mismatches(target, view, sources):
            _refuse_attribute(attribute, target, view, known, sources)
    return view


def _refuse_attribute(
    attribute: Attribute, target: tuple[Any, ...], view: View, known: Known, sources: Sequence[int]
) -> None:
    wrong = attribute.mismatches(target, view, sources)
    said = ", ".join(f"{j} (source {sources[j]})" for j in wrong[:6]) + (
        f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
    )
    nearest = nearest_pattern(sources, known.view.num_layers, lambda candidate: _expressible(known, candidate))
    hint = f"; the nearest pattern that works: --layers {runs(nearest)}" if nearest else ""
    why = attribute.why or f"the config cannot say {attribute.name} for this order"
    raise UnsupportedError(f"{known.model_type}: {why}; target layers {said} would not be what their sources are{hint}")


def _expressible(known: Known, sources: Sequence[int]) -> bool:
    view = known.view.updated({name: len(sources) for name in known.counts})
    wanted = []
    for attribute in known.attributes:
        vector = attribute.read(known.view, known.view.num_layers)
        if vector is None:
            continue
        target = tuple(vector[source] for source in sources)
        updates = attribute.express(known.view, view, target, sources)
        if updates is None:
            return False
        view = view.updated(updates)
        wanted.append((attribute, target))
    return not any(attribute.mismatches(target, view, sources) for attribute, target in wanted)


def _profiles(known: Known, n: int) -> list[tuple[Any, ...]]:
    """What the attributes say of each layer, as one value a layer."""
    vectors = [vector for attribute in known.attributes if (vector := attribute.read(known.view, n)) is not None]
    return [tuple(repr(vector[i]) for vector in vectors) for i in range(n)]


def _number(
    changes: _Changes, tensors: Tensors, stack: Stack, known: Known, sources: Sequence[int], *, drop_mtp: bool
) -> tuple[dict[str, tuple[int, ...]], dict[str, str], list[str]]:
    """Where each numbered prefix's target indices come from, with what stands after the last layer."""
    numbering: dict[str, tuple[int, ...]] = {}
    warnings: list[str] = []
    indices = numbered_indices(tensors)
    behind = 0
    for prefix in stack.prefixes:
        after = sorted(index for index in indices.get(prefix, ()) if index >= stack.num_layers)
        behind = max(behind, len(after))
        kept = () if drop_mtp else tuple(after)
        numbering[prefix] = (*sources, *kept)
    if drop_mtp:
        _drop_mtp_fields(changes, known, len(sources))
    elif behind:
        warnings.append(
            f"{behind} next-token layer(s) after the last move from {stack.num_layers} to {len(sources)}, "
            "where serving engines "
            "look; transformers reports their tensors as unexpected and ignores them; --drop-mtp leaves them out"
        )
    dropped = _drop_mtp_modules(tensors) if drop_mtp else {}
    for ending, interval_field in ((k, v) for row in known.rows for k, v in row.strided):
        interval = known.view.get(interval_field, 1)
        for prefix in indices:
            if f".{prefix}".endswith(f".{ending}"):
                numbering[prefix] = tuple(sources[j] // interval for j in range(0, len(sources), interval))
    return numbering, dropped, warnings


def _drop_mtp_fields(changes: _Changes, known: Known, depth: int) -> None:
    """Say that there are none, and cut the entries for them off the per-layer lists."""
    reason = "the next-token layers are left out (--drop-mtp)"
    for name in MTP_FIELDS:
        if known.view.get(name):
            changes.set(name, 0, reason)
    section = section_at(changes.config, changes.stack.config_path)
    for attribute in known.attributes:
        for encoding in attribute.encodings:
            value = section.get(encoding.fields[0]) if isinstance(encoding, Listed) else None
            if isinstance(value, list) and len(value) > depth:
                changes.set(encoding.fields[0], value[:depth], reason)


def _drop_mtp_modules(tensors: Tensors) -> dict[str, str]:
    return {name: "next-token head left out (--drop-mtp)" for name in tensors if "mtp" in name.split(".")[:2]}


def _gathers(tensors: Tensors, rows: tuple[Row, ...], stack: Stack, sources: Sequence[int]) -> dict[str, GatherRule]:
    """Tensors outside the layers with a slice a layer."""
    split = name_splitter(stack.prefixes)
    return {
        name: GatherRule(axis, stack.num_layers, tuple(sources))
        for row in rows
        for ending, axis in row.gathers
        for name in tensors
        if f".{name}".endswith(f".{ending}") and split(name) is None
    }


def _set_quantization(changes: _Changes, tensors: Tensors, numbering: Mapping[str, Sequence[int]]) -> None:
    for path in (
        ("quantization_config",),
        (*changes.stack.config_path, "quantization_config"),
        ("compression_config",),
    ):
        section = section_at(changes.source, path)
        if section:
            new = rewrite_module_lists(section, module_names(tensors), tuple(numbering), numbering)
            for key, value in new.items():
                changes.set_at((*path, key), value, "names layers by number")


def _rewrite_files(
    files: Mapping[str, bytes], tensors: Tensors, numbering: Mapping[str, Sequence[int]], changes: _Changes
) -> dict[str, bytes]:
    rewritten = {}
    for name, content in files.items():
        try:
            old = json.loads(content)
        except ValueError as error:
            raise UnsupportedError(f"{name}: is no JSON: {error}") from error
        if not isinstance(old, dict):
            continue
        new = rewrite_module_lists(old, module_names(tensors), tuple(numbering), numbering)
        if new == old:
            continue
        rewritten[name] = (json.dumps(new, indent=2, ensure_ascii=False) + "\n").encode()
        changes.made += [
            FieldChange(f"{name}: {key}", old[key], new[key], "names layers by number")
            for key in new
            if new[key] != old[key]
        ]
    return rewritten


def _stale(known: Known, view: View, sources: Sequence[int]) -> list[str]:
    """Fields that another field now overrules and that say something else: other programs may read them."""
    warnings = []
    for attribute in known.attributes:
        vector = attribute.read(view, len(sources))
        for encoding in attribute.encodings:
            present = [name for name in encoding.fields if view.get(name) is not None]
            said = encoding.read(view, len(sources)) if present else None
            if vector is not None and said is not None and not all(map(same, said, vector)):
                warnings.append(
                    f"config.json: {', '.join(present)}: no longer describes every layer; {attribute.name} "
                    "does and is what "
                    "transformers reads"
                )
    return warnings
