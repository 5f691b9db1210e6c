"""What the tables say about the stack of one config, and the report of it that `inspect` prints."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from solar_upscale.architecture.everywhere import EVERY_TYPE
from solar_upscale.architecture.findings import unexplained
from solar_upscale.architecture.names import COUNT_NAMES, MTP_FIELDS, count_names
from solar_upscale.architecture.record import ModelType
from solar_upscale.architecture.registry import find_type
from solar_upscale.architecture.rules import Attribute, View
from solar_upscale.architecture.stacks import section_at, section_type
from solar_upscale.architecture.types import Stack

__all__ = ["DepthField", "Known", "depth_fields", "explained_fields", "record_attributes", "what_is_known"]


class DepthField(NamedTuple):
    """A config field tied to depth: its dotted path, its value (None: absent, a default counts), and its treatment."""

    path: str
    value: Any
    treatment: str


class Known(NamedTuple):
    """What the records say about the stack of a config: that of its own type, and that of a model around it."""

    view: View
    attributes: tuple[Attribute, ...]
    records: tuple[ModelType, ...]
    counts: tuple[str, ...]
    proportional: tuple[str, ...]
    model_type: str
    is_known: bool

    @property
    def harmless(self) -> frozenset[str]:
        """The names of fields that, in these types, say nothing of one layer."""
        return frozenset(name for record in self.records for name in record.harmless) if self.is_known else frozenset()


def depth_fields(config: Mapping[str, Any], stack: Stack) -> tuple[DepthField, ...]:
    """Every field of the config that the depth of the stack changes or may change, in the order of the tables."""
    known = what_is_known(config, stack)
    prefix = "".join(f"{key}." for key in stack.config_path)
    fields = [DepthField(prefix + name, known.view.get(name), "counts the layers") for name in known.counts]
    fields += [
        DepthField(prefix + name, known.view.get(name), "in proportion to the layers") for name in known.proportional
    ]
    for attribute in known.attributes:
        if attribute.read(known.view, stack.num_layers) is None:
            continue
        treatment = attribute.why or "each layer keeps its own value"
        for name in attribute.fields:
            value = known.view.get(name)
            derived = name == attribute.name and not attribute.why and attribute not in EVERY_TYPE
            if value is not None or derived:
                fields.append(DepthField(prefix + name, value, treatment))
        if not attribute.fields:
            fields.append(DepthField(prefix + attribute.name, None, treatment))
    fields += [
        DepthField(
            prefix + name, known.view.get(name), "next-token layers: after the last layer they move to the new end"
        )
        for name in MTP_FIELDS
        if known.view.get(name)
    ]
    explained = explained_fields(known)
    for finding in unexplained(config, stack.config_path, stack.num_layers, explained, known.harmless):
        path, _, reason = finding.partition(": ")
        fields.append(DepthField(path, reason, "not known: refused"))
    return tuple(fields)


def what_is_known(config: Mapping[str, Any], stack: Stack) -> Known:
    """The attributes, counts and records that apply to the stack; ``is_known`` is False where the records end."""
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
        attributes += tuple(attribute for attribute in EVERY_TYPE if attribute.name not in named)
    proportional = tuple(name for record in records for name in record.proportional if view.get(name) is not None)
    counts = _counts(view, count_names(model_type, stack.role), attributes)
    return Known(view, attributes, records, counts, proportional, model_type, is_known)


def record_attributes(records: Iterable[ModelType], role: str) -> tuple[Attribute, ...]:
    """What the records themselves say of a stack of this role."""
    return tuple(attribute for record in records for attribute in record.by_role.get(role, record.attributes))


def _counts(view: View, names: tuple[str, ...], attributes: tuple[Attribute, ...]) -> tuple[str, ...]:
    """Those of the names that count the stack; the first where the config leaves the count to its class's default."""
    section = view.section
    counts = tuple(name for name in names if section.get(name) == view.num_layers and section.get(name) is not True)
    if counts or any(isinstance(section.get(name), int) for name in names):
        return counts
    derived = any(attribute.name == "layers_block_type" for attribute in attributes)
    return () if derived and view.get("layers_block_type") is not None else (names[0],)


def explained_fields(known: Known) -> set[str]:
    """The dotted names of every field that a rule speaks for."""
    names = {name for attribute in known.attributes for name in attribute.fields}
    return names | {*known.counts, *known.proportional, *COUNT_NAMES, *MTP_FIELDS}
