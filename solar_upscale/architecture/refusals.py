"""What is refused before anything is rewritten: what the tables do not know, contradictions, what is missing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from solar_upscale.architecture.encodings import Listed
from solar_upscale.architecture.findings import unexplained
from solar_upscale.architecture.known import Known, explained_fields, record_attributes
from solar_upscale.architecture.names import COUNT_NAMES
from solar_upscale.architecture.tensors import check_layers_alike
from solar_upscale.architecture.types import Stack
from solar_upscale.errors import UnsupportedError
from solar_upscale.source.header import TensorInfo

__all__ = ["refuse_missing", "refuse_odd_values", "refuse_unknown"]

# Lists that name the kind of each layer.
_KINDS = ("layer_types", "mlp_layer_types", "layers_block_type")

Tensors = Mapping[str, TensorInfo] | Iterable[str]


def refuse_unknown(
    config: Mapping[str, Any], tensors: Tensors, stack: Stack, known: Known, *, assume_uniform: bool
) -> None:
    """Refuse what the tables refuse, what they do not know, and any field that speaks of layers without a rule."""
    where = f"{stack.name} ({known.model_type or 'no model_type'})"
    for record in known.records:
        if record.refusal:
            raise UnsupportedError(f"{where}: the depth cannot be changed: {record.refusal}")
    _refuse_lost_tower(config, stack)
    found = unexplained(config, stack.config_path, stack.num_layers, explained_fields(known), known.harmless)
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
    for attribute in record_attributes(known.records, stack.role):
        absent = not any(known.view.get(name) is not None for name in attribute.fields)
        if attribute.name in _KINDS and absent and attribute.read(known.view, stack.num_layers) is None:
            raise UnsupportedError(
                f"{where}: config.json: no {attribute.name}: layers of this type differ, and its list is not derived "
                f"from anything else; add it, with one entry for each of the {stack.num_layers} layers"
            )
    for attribute in known.attributes:
        for encoding in attribute.encodings:
            value = known.view.get(encoding.field) if isinstance(encoding, Listed) else None
            if isinstance(value, list | tuple) and 0 < len(value) < stack.num_layers:
                raise UnsupportedError(
                    f"{where}: config.json: {encoding.fields[0]}: one entry a layer is needed; expected "
                    f"{stack.num_layers}, got {len(value)}"
                )
    if not known.is_known:
        _refuse_unless_uniform(config, tensors, stack, known, where, assume_uniform=assume_uniform)


def _refuse_unless_uniform(
    config: Mapping[str, Any], tensors: Tensors, stack: Stack, known: Known, where: str, *, assume_uniform: bool
) -> None:
    """Refuse a stack that no table covers, unless it may be assumed uniform and its file agrees."""
    if not assume_uniform:
        counted = ", ".join(f"{name} {stack.num_layers}" for name in known.counts if name in known.view.section)
        root = str(config.get("model_type") or "")
        which = "this model type" if root in ("", known.model_type) else f"the model around it ({root})"
        if stack.role not in ("decoder", "encoder"):
            which = f"this stack ({stack.role})"
        raise UnsupportedError(
            f"{where}: {which} is not in the tables; found: {stack.num_layers} layers, counted by "
            f"{counted or 'no field'}, and no other field that speaks of layers; no file proves that its code treats "
            "all layers alike; --assume-uniform accepts it if every layer has the same tensors"
        )
    check_layers_alike(tensors, stack, [()] * stack.num_layers, known.model_type, exact=True)
    written = [name for name in known.counts if name in known.view.section]
    if len(written) != 1:
        raise UnsupportedError(
            f"{where}: --assume-uniform needs exactly one field that counts the layers; expected 1, got {len(written)}"
            f" ({', '.join(written) or 'none'})"
        )


def _refuse_lost_tower(config: Mapping[str, Any], stack: Stack) -> None:
    """Refuse a tower in a model made of models where no section is its own: a count elsewhere is another's."""
    made_of_models = any(
        isinstance(value, Mapping) and name.endswith("_config") and name != "quantization_config"
        for name, value in config.items()
    )
    if stack.role not in ("decoder", "encoder") and not stack.config_path and made_of_models:
        raise UnsupportedError(
            f"{stack.name} ({stack.role}): config.json: no section counts the {stack.num_layers} layers of this stack, "
            "so its depth cannot be rewritten truthfully"
        )


def refuse_missing(tensors: Tensors, stack: Stack, known: Known, sources: Sequence[int]) -> None:
    """Refuse where layers carry what the code computes from their number, unless the file holds it."""
    for record in known.records:
        if record.needs and tuple(sources) != tuple(range(stack.num_layers)):
            ending, reason = record.needs
            if not any(name.endswith(ending) for name in tensors):
                raise UnsupportedError(f"{stack.name} ({known.model_type}): no tensor *{ending}: {reason}")


def refuse_odd_values(stack: Stack, known: Known) -> None:
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
        if name not in section and not counted and not stack.config_path and known.is_known:
            raise UnsupportedError(
                f"config.json: no {name}; the tensors show {stack.num_layers} layers, and transformers would build as "
                "many as its own default says; add it if the tensors are right"
            )
    for name in _KINDS:
        value = section.get(name)
        sound = isinstance(value, list | tuple) and all(isinstance(kind, str) for kind in value)
        if value is not None and not sound:
            raise UnsupportedError(f"config.json: {where}{name}: expected a list with the kind of each layer as text")
