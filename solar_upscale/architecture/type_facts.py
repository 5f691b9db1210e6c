"""What the records say about a stack of one model, given its config; and the report of it that `inspect` prints."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from solar_upscale.architecture.attribute import Attribute, View
from solar_upscale.architecture.config_names import COUNT_NAMES, MTP_FIELDS, count_names
from solar_upscale.architecture.record import ModelType
from solar_upscale.architecture.registry import find_type
from solar_upscale.architecture.stacks import section_at, section_type
from solar_upscale.architecture.suspicious_fields import suspicious_fields
from solar_upscale.architecture.types import Stack
from solar_upscale.architecture.universal_attributes import UNIVERSAL_ATTRIBUTES

__all__ = ["DepthField", "TypeFacts", "depth_fields", "explained_fields", "record_attributes", "type_facts"]


class DepthField(NamedTuple):
    """A config field tied to depth: dotted path, value (None: absent, the default applies) and treatment."""

    path: str
    value: Any
    treatment: str


class TypeFacts(NamedTuple):
    """What the records say about one stack: the record of its own type, and that of the composite around it."""

    view: View
    attributes: tuple[Attribute, ...]
    records: tuple[ModelType, ...]
    counts: tuple[str, ...]
    proportional: tuple[str, ...]
    model_type: str
    is_known: bool

    @property
    def harmless(self) -> frozenset[str]:
        """The names of fields that, in these types, do not describe layers."""
        return frozenset(name for record in self.records for name in record.harmless) if self.is_known else frozenset()


def depth_fields(config: Mapping[str, Any], stack: Stack) -> tuple[DepthField, ...]:
    """Every config field that changes with the depth of the stack, or may, in the order of the records."""
    facts = type_facts(config, stack)
    prefix = "".join(f"{key}." for key in stack.config_path)
    fields = [DepthField(prefix + name, facts.view.get(name), "counts the layers") for name in facts.counts]
    fields += [
        DepthField(prefix + name, facts.view.get(name), "in proportion to the layers") for name in facts.proportional
    ]
    for attribute in facts.attributes:
        if attribute.read(facts.view, stack.num_layers) is None:
            continue
        treatment = attribute.constraint or "each layer keeps its own value"
        for name in attribute.fields:
            value = facts.view.get(name)
            derived = name == attribute.name and not attribute.constraint and attribute not in UNIVERSAL_ATTRIBUTES
            if value is not None or derived:
                fields.append(DepthField(prefix + name, value, treatment))
        if not attribute.fields:
            fields.append(DepthField(prefix + attribute.name, None, treatment))
    fields += [
        DepthField(
            prefix + name, facts.view.get(name), "next-token layers: after the last layer they move to the new end"
        )
        for name in MTP_FIELDS
        if facts.view.get(name)
    ]
    explained = explained_fields(facts)
    for finding in suspicious_fields(config, stack.config_path, stack.num_layers, explained, facts.harmless):
        path, _, reason = finding.partition(": ")
        fields.append(DepthField(path, reason, "not known: refused"))
    return tuple(fields)


def type_facts(config: Mapping[str, Any], stack: Stack) -> TypeFacts:
    """The attributes, counts and records that apply to the stack; ``is_known`` is False if no record covers it."""
    section = section_at(config, stack.config_path)
    view = View(section, config, stack.num_layers)
    model_type = section_type(config, stack.config_path)
    own, around = find_type(model_type), find_type(str(config.get("model_type") or ""))
    own = None if own is None or own.composite else own
    records = tuple(record for record in (own, around if around and around.composite else None) if record is not None)
    attributes = record_attributes(records, stack.role)
    text = stack.role in ("decoder", "encoder")
    is_known = text and own is not None and (not stack.config_path or around is not None)
    if is_known:
        named = {name for attribute in attributes for name in (attribute.name, *attribute.fields)}
        attributes += tuple(attribute for attribute in UNIVERSAL_ATTRIBUTES if attribute.name not in named)
    proportional = tuple(name for record in records for name in record.proportional if view.get(name) is not None)
    counts = _counts(view, count_names(model_type, stack.role), attributes)
    return TypeFacts(view, attributes, records, counts, proportional, model_type, is_known)


def record_attributes(records: Iterable[ModelType], role: str) -> tuple[Attribute, ...]:
    """The attributes that the records themselves give a stack of this role."""
    return tuple(attribute for record in records for attribute in record.by_role.get(role, record.attributes))


def _counts(view: View, names: tuple[str, ...], attributes: tuple[Attribute, ...]) -> tuple[str, ...]:
    """The names that count this stack; the first one if the config relies on the default of its class."""
    section = view.section
    counts = tuple(name for name in names if section.get(name) == view.num_layers and section.get(name) is not True)
    if counts or any(isinstance(section.get(name), int) for name in names):
        return counts
    derived = any(attribute.name == "layers_block_type" for attribute in attributes)
    return () if derived and view.get("layers_block_type") is not None else (names[0],)


def explained_fields(facts: TypeFacts) -> set[str]:
    """The dotted names of all fields that the records account for."""
    names = {name for attribute in facts.attributes for name in attribute.fields}
    return names | {*facts.counts, *facts.proportional, *COUNT_NAMES, *MTP_FIELDS}
