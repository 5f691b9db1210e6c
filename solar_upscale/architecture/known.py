"""What the tables say about the stack of one config, and the report of it that `inspect` prints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from solar_upscale.architecture.families import COMPOSITE, COUNT_NAMES, COUNTED, MTP_FIELDS, count_names
from solar_upscale.architecture.fields import EVERY_TYPE, ROOT_ROWS, ROWS
from solar_upscale.architecture.findings import unexplained
from solar_upscale.architecture.rules import Attribute, Row, View
from solar_upscale.architecture.stacks import section_at, section_type
from solar_upscale.architecture.types import Stack

__all__ = ["DepthField", "Known", "depth_fields", "explained_fields", "what_is_known"]


@dataclass(frozen=True, slots=True)
class DepthField:
    """A config field tied to depth: its dotted path, its value (None: absent, a default counts), and its treatment."""

    path: str
    value: Any
    treatment: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the tables say about the stack of a config."""

    view: View
    attributes: tuple[Attribute, ...]
    rows: tuple[Row, ...]
    counts: tuple[str, ...]
    proportional: tuple[str, ...]
    model_type: str
    is_known: bool


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
    for finding in unexplained(config, stack.config_path, stack.num_layers, explained, is_known=known.is_known):
        path, _, reason = finding.partition(": ")
        fields.append(DepthField(path, reason, "not known: refused"))
    return tuple(fields)


def what_is_known(config: Mapping[str, Any], stack: Stack) -> Known:
    """The attributes, counts and rows that apply to the stack; ``is_known`` is False where the tables end."""
    section = section_at(config, stack.config_path)
    view = View(section, config, stack.num_layers)
    root_type = str(config.get("model_type") or "")
    model_type = section_type(config, stack.config_path)
    row = ROWS.get(f"{model_type}:{stack.role}") or ROWS.get(model_type)
    rows = tuple(item for item in (row, ROOT_ROWS.get(root_type)) if item is not None)
    attributes = tuple(attribute for item in rows for attribute in item.attributes)
    taken = {name for attribute in attributes for name in attribute.fields} | {
        attribute.name for attribute in attributes
    }
    in_family = not stack.config_path or root_type in COMPOSITE or root_type in COUNTED or root_type in ROWS
    text = stack.role in ("decoder", "encoder")
    is_known = text and in_family and (row is not None or model_type in COUNTED)
    if is_known:
        attributes += tuple(attribute for attribute in EVERY_TYPE if attribute.name not in taken)
    names = count_names(model_type, stack.role)
    counts = tuple(name for name in names if section.get(name) == stack.num_layers and section.get(name) is not True)
    if not counts and not any(isinstance(section.get(name), int) for name in names):
        # Left to the default of the model's own config class, which must be what the tensors show.
        derived = any(
            "layers_block_type" in attribute.fields for attribute in attributes if attribute.name == "layers_block_type"
        )
        counts = () if derived and view.get("layers_block_type") is not None else (names[0],)
    proportional = tuple(name for item in rows for name in item.proportional if view.get(name) is not None)
    return Known(view, attributes, rows, counts, proportional, model_type, is_known)


def explained_fields(known: Known) -> set[str]:
    """The dotted names of every field that a rule speaks for."""
    names = {name for attribute in known.attributes for name in attribute.fields}
    names |= {*known.counts, *known.proportional, *COUNT_NAMES, *MTP_FIELDS}
    for row in known.rows:
        names |= {*row.beside}
    return names
