"""What is known of one model type, as one frozen value; the family files in families/ hold them.

Nothing here reads a config: that is known.py (fields), stacks.py (names of tensors) and start/residual.py (blocks).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from solar_upscale.architecture.rules import Attribute

__all__ = ["Block", "ModelType", "NoFactor", "named"]

_NOTHING: Mapping[str, tuple[Any, ...]] = MappingProxyType({})


class Block(NamedTuple):
    """Where one kind of layer writes into the residual stream, as module paths within the layer; ``*`` is a number.

    Each entry of ``writers`` must be there; "a|b" means the first of them that a layer has, because checkpoints and
    modules name the same thing differently and layers differ in kind. ``optional`` entries need not be there. ``inner``
    are projections whose factor a later norm would cancel. ``offset`` is that of ResidualRule, for norm gains stored as
    w in (1 + w). ``ones`` multiply the whole stream: as long as they are not 1 the block is no identity.
    """

    writers: tuple[str, ...]
    optional: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    offset: float = 0.0
    ones: tuple[str, ...] = ()


class NoFactor(NamedTuple):
    """Why no factor can be put on what a layer adds, so that only ``--init copy`` can start its repeats.

    It holds for stacks of ``role`` if that is given, and where the config's ``field`` is ``value`` if that is given;
    a config without the field has the other value.
    """

    reason: str
    role: str | None = None
    field: str | None = None
    value: bool = True


class ModelType(NamedTuple):
    """Everything that the package knows about one model type. A bare record says: its layers are alike and counted.

    Which config fields follow the depth:

    * ``attributes`` differ from layer to layer, in the order in which the model's code believes them; ``by_role`` holds
      those of a stack of that role instead, where the two stacks of an encoder-decoder differ.
    * ``counts`` names the fields that count the layers, by role, the one to write first; without it COUNT_NAMES.
    * ``proportional`` fields follow the number of layers beside the count.
    * ``harmless`` fields look as if they spoke of layers and, in this type, do not.

    Which tensors do:

    * ``parallel`` are endings of prefixes that share one numbering.
    * ``strided`` are endings of prefixes numbered once every so many layers, and the field that says how many.
    * ``gathers`` are endings of tensors outside the layers with one slice a layer, and the axis of the slices.
    * ``shared_module`` is a module that layers share and that the file holds once.
    * ``needs`` is the ending of a buffer without which code computes it from a layer's number, and what to do then.

    What cannot be done: ``demands`` are layer kinds without which the config class refuses, ``refusal`` is why the
    depth cannot be changed at all.

    How repeats start: ``block`` says where a layer writes into the residual stream; ``readers`` are name components of
    tensors that do not, in this type; ``no_factor`` says why no factor works.

    A ``composite`` is a model around a text model with a config section of its own. ``text_type`` is the type of a
    section that does not name one. Its ``attributes`` are what the whole model adds to those of its text model.
    """

    name: str
    attributes: tuple[Attribute, ...] = ()
    by_role: Mapping[str, tuple[Attribute, ...]] = _NOTHING
    counts: Mapping[str, tuple[str, ...]] = _NOTHING
    proportional: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    parallel: tuple[str, ...] = ()
    strided: tuple[tuple[str, str], ...] = ()
    gathers: tuple[tuple[str, int], ...] = ()
    shared_module: str | None = None
    needs: tuple[str, str] | None = None
    demands: tuple[str, ...] = ()
    refusal: str | None = None
    block: Block | None = None
    readers: tuple[str, ...] = ()
    no_factor: tuple[NoFactor, ...] = ()
    composite: bool = False
    text_type: str | None = None


def named(like: ModelType, names: str) -> tuple[ModelType, ...]:
    """The record ``like`` under each of ``names``, which spaces separate."""
    return tuple(like._replace(name=name) for name in names.split())
