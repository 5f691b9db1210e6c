"""The record of a model type, as one frozen value. The records themselves are in families/.

Nothing here reads a config; records are used by type_facts.py (config fields), stacks.py (tensor names) and
start/residual.py (blocks).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from solar_upscale.architecture.attribute import Attribute

__all__ = ["Block", "ModelType", "NoFactor", "named"]

_NOTHING: Mapping[str, tuple[Any, ...]] = MappingProxyType({})


class Block(NamedTuple):
    """Where one kind of layer writes into the residual stream, as module paths within the layer; ``*`` is a number.

    Every entry of ``writers`` is required; "a|b" means the first that the layer has, because checkpoints and modules
    use different names and layers differ in kind. ``optional`` entries may be absent. ``inner`` projections get no
    factor, because a later norm would cancel it. ``offset`` is that of ResidualRule, for norm gains stored as w in
    (1 + w). ``stream_scalars`` multiply the whole stream; the block is an identity only if they are 1.
    """

    writers: tuple[str, ...]
    optional: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    offset: float = 0.0
    stream_scalars: tuple[str, ...] = ()


class NoFactor(NamedTuple):
    """Why a layer's contribution cannot be scaled, so that its repeats can only start as copies.

    Applies only to stacks of ``role`` if given, and only where the config's ``field`` equals ``value`` if given; a
    config without the field counts as having the other value.
    """

    reason: str
    role: str | None = None
    field: str | None = None
    value: bool = True


class ModelType(NamedTuple):
    """Everything the package knows about one model type.

    A record with nothing but a name says: all layers are alike, and only their count is in the config.

    Config fields that change with the depth:

    * ``attributes`` differ from layer to layer, in order of precedence; ``by_role`` replaces them for a stack of that
      role where the two stacks of an encoder-decoder differ.
    * ``counts`` are the fields that count the layers, by role, the one to write first; COUNT_NAMES if empty.
    * ``proportional`` fields are multiples of the number of layers.
    * ``harmless`` fields look as if they described layers but, in this type, do not.

    Tensors that change with the depth:

    * ``parallel``: endings of prefixes that share one numbering.
    * ``strided``: endings of prefixes with one module every few layers, each with the field that gives the stride.
    * ``gathers``: endings of tensors outside the layers with one slice per layer, each with the axis of the slices.
    * ``shared_module``: a module that several layers share and that the checkpoint stores once.
    * ``required_buffer``: the ending of a buffer that, if absent, the model computes from the layer index; and what to
      do then.

    Limits: ``required_kinds`` are the layer kinds that the config class insists on; ``refusal`` is why the depth cannot
    be changed at all.

    How repeats start: ``block`` is where a layer writes into the residual stream; ``readers`` are name components of
    tensors that, in this type, only read it; ``no_factor`` is why factors do not work.

    A ``composite`` wraps a text model that has a config section of its own. ``text_type`` is the model type of that
    section if it does not name one. A composite's ``attributes`` come on top of those of its text model.
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
    required_buffer: tuple[str, str] | None = None
    required_kinds: tuple[str, ...] = ()
    refusal: str | None = None
    block: Block | None = None
    readers: tuple[str, ...] = ()
    no_factor: tuple[NoFactor, ...] = ()
    composite: bool = False
    text_type: str | None = None


def named(like: ModelType, names: str) -> tuple[ModelType, ...]:
    """The record ``like`` under each of ``names``, separated by spaces."""
    return tuple(like._replace(name=name) for name in names.split())
