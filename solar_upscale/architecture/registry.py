"""Look up the record of a model type by name: the one in a family file, completed from generated.py."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache, lru_cache

from solar_upscale.architecture import families, generated
from solar_upscale.architecture.record import ModelType

__all__ = ["all_types", "find_type", "hand_written"]


@lru_cache(maxsize=512)
def find_type(name: str) -> ModelType | None:
    """The record of the model type, or None if it is not known.

    Family files take precedence; count fields and text section types that they leave out come from generated.py.
    """
    record = _hand_written(name)
    if record is None and name not in generated.COUNTED and name not in generated.TEXT_TYPES:
        return None
    record = record or ModelType(name, composite=name in generated.TEXT_TYPES)
    return record._replace(
        counts=record.counts or generated.COUNT_FIELDS.get(name, {}),
        text_type=record.text_type or generated.TEXT_TYPES.get(name),
    )


def hand_written() -> dict[str, ModelType]:
    """Every record in the family files, by name.

    Raises:
        ValueError: two family files have a record of the same type.
    """
    found: dict[str, ModelType] = {}
    for module in pkgutil.iter_modules(families.__path__):
        for name, record in _family(module.name).items():
            if name in found:
                raise ValueError(f"families/{module.name}.py: {name} already has a record")
            found[name] = record
    return found


def all_types() -> dict[str, ModelType]:
    """The record of every known model type, by name."""
    names = {*hand_written(), *generated.COUNTED, *generated.TEXT_TYPES}
    return {name: record for name in sorted(names) if (record := find_type(name)) is not None}


def _hand_written(name: str) -> ModelType | None:
    """The record from the family file given by the generated index, else from any: it may be newer than the index."""
    family = generated.FAMILY_OF.get(name)
    record = _family(family).get(name) if family else None
    return record or hand_written().get(name)


@cache
def _family(module: str) -> Mapping[str, ModelType]:
    loaded = importlib.import_module(f"{families.__name__}.{module}")
    return {record.name: record for record in loaded.TYPES}
