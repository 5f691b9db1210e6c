"""The ways in which configs say something about each layer, one class each.

None of them knows a model type: which type uses which is families/. What they have in common is rules.py.
"""

from solar_upscale.architecture.encodings.lists import Cycle, Indices, Keyed, Listed, Pointers, Repeated, Text
from solar_upscale.architecture.encodings.numbers import (
    Constant,
    EveryExcept,
    Formula,
    KvSuffix,
    Prefix,
    RootScaled,
    Searched,
)

__all__ = [
    "Constant",
    "Cycle",
    "EveryExcept",
    "Formula",
    "Indices",
    "Keyed",
    "KvSuffix",
    "Listed",
    "Pointers",
    "Prefix",
    "Repeated",
    "RootScaled",
    "Searched",
    "Text",
]
