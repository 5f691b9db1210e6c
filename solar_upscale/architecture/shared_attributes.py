"""Attributes and encodings that the records of several families use. Their formulas are in formulas.py."""

# ruff: noqa: ARG001 (every formula takes the view, the layer and the depth)

from collections.abc import Callable, Iterable
from typing import Any

from solar_upscale.architecture.attribute import Attribute, Encoding, View
from solar_upscale.architecture.encodings.common import Formula, Listed
from solar_upscale.architecture.encodings.lists import Text
from solar_upscale.architecture.encodings.numbers import EveryExcept, KvSuffix, Prefix, Searched
from solar_upscale.architecture.formulas import (
    DENSE,
    FULL,
    SLIDING,
    SPARSE,
    global_ends,
    image_layers,
    no_rope,
    topk_schedule,
)

__all__ = [
    "BY_DEPTH",
    "BY_INDEX",
    "BY_PARITY",
    "DEEPSTACK",
    "FIRST_ONLY",
    "GEMMA2",
    "GEMMA3",
    "GEMMA3N_TYPES",
    "GEMMA4_TYPES",
    "INDEXER_SCHEDULE",
    "INVERSE_INDEX",
    "LAST_ONLY",
    "MLLAMA_CROSS",
    "NEOMME_TYPES",
    "NO_ROPE",
    "QWEN_MLP",
    "always",
    "every",
    "first_dense",
    "forced_last",
    "from_no_rope",
    "indexer",
    "kv_shared",
    "layer_types",
    "mlp_types",
    "neomme_ends",
    "position_dependent",
    "prefix_only",
    "searched",
    "window_from",
]


def layer_types(*otherwise: Encoding) -> Attribute:
    """The attention kind of each layer: the list, else the given encodings."""
    return Attribute("layer_types", (Listed("layer_types"), *otherwise))


def mlp_types(*otherwise: Encoding) -> Attribute:
    """Which layers are dense and which sparse: the list, else the given encodings."""
    return Attribute("mlp_layer_types", (Listed("mlp_layer_types"), *otherwise))


def every(field: str | None, default: int, nth: str = FULL, others: str = SLIDING, *, phase: int = 1) -> Formula:
    """``nth`` for every k-th layer, starting at layer k - phase. EXAONE 4 writes k as a string of k letters."""

    def compute(view: View, i: int, n: int) -> str:
        k = view.get(field, default) if field else default
        k = len(k) if isinstance(k, str) else k
        return nth if isinstance(k, int) and k > 0 and (i + phase) % k == 0 else others

    return Formula(compute, (field,) if field else ())


def window_from(default: int, *, switch: bool = True) -> Formula:
    """Qwen2's rule: sliding windows from layer ``max_window_layers`` on, if windows are enabled."""

    def compute(view: View, i: int, n: int) -> str:
        windowed = view.section.get("sliding_window", 4096) is not None
        enabled = windowed and (not switch or view.get("use_sliding_window", False))
        return SLIDING if enabled and i >= view.get("max_window_layers", default) else FULL

    return Formula(compute, ("use_sliding_window", "max_window_layers"))


def always(value: str) -> Formula:
    """The same for every layer."""
    return Formula(lambda view, i, n: value)


def first_dense(field: str | None = None, default: int = 1, frequency: str | None = None) -> Encoding:
    """Dense layers first, then sparse ones: a field counts the dense ones, or their number is fixed."""
    if field is None:
        return Formula(lambda view, i, n: DENSE if i < default else SPARSE)
    return Prefix(field, DENSE, SPARSE, default, frequency)


def prefix_only(field: str, default: int, frequency: str | None = None) -> Attribute:
    """Dense layers first, then sparse ones, in a model whose config has only the count."""
    return Attribute(
        "dense layers",
        (Prefix(field, DENSE, SPARSE, default, frequency),),
        f"the config only gives the number of leading dense layers ({field}), so dense layers must stay in front",
    )


def position_dependent(name: str, compute: Any, constraint: str) -> Attribute:
    """What the model derives from a layer's position alone, so that no field can express another order."""
    return Attribute(name, (Formula(compute),), constraint)


MLLAMA_CROSS = Formula(lambda view, i, n: "cross" if i in (3, 8, 13, 18, 23, 28, 33, 38) else "self")
FIRST_ONLY = position_dependent(
    "first layer",
    lambda view, i, n: i == 0,
    "layer 0 is built differently from the others, so it must stay first and cannot be repeated",
)
LAST_ONLY = position_dependent(
    "last layer",
    lambda view, i, n: i == n - 1,
    "the last layer is built differently from the others, so it must stay last and cannot be repeated",
)
BY_INDEX = position_dependent(
    "layer index",
    lambda view, i, n: i,
    "each layer's computation depends on its index, so every layer must keep its index",
)
BY_PARITY = position_dependent(
    "layer parity",
    lambda view, i, n: i % 2 if view.get("stagger_local_blocks", True) else None,
    "layers with odd indices attend to shifted blocks (stagger_local_blocks), so the parity of a layer's index must "
    "not change",
)
BY_DEPTH = position_dependent(
    "depth",
    lambda view, i, n: n,
    "each layer's computation depends on the number of layers, and no config field can compensate",
)
INVERSE_INDEX = position_dependent(
    "scale_attn_by_inverse_layer_idx",
    lambda view, i, n: i if view.get("scale_attn_by_inverse_layer_idx", False) else None,
    "attention is scaled by the inverse layer index (scale_attn_by_inverse_layer_idx), so every layer must keep its "
    "index",
)
DEEPSTACK = position_dependent(
    "deepstack_visual_indexes",
    image_layers,
    "image features are added to the first text layers by index (deepstack_visual_indexes), so these must keep their "
    "indices and cannot be repeated",
)
QWEN_MLP = Attribute("mlp_only_layers", (EveryExcept(),))
GEMMA3 = (layer_types(every("sliding_window_pattern", 6)),)
GEMMA2 = (layer_types(every(None, 2)),)
GEMMA3N_TYPES = layer_types(every(None, 5))
GEMMA4_TYPES = layer_types(Formula(global_ends))
NO_ROPE = Attribute("no_rope_layers", (Listed("no_rope_layers"), Formula(no_rope, ("no_rope_layer_interval",))))
NEOMME_TYPES = layer_types(Formula(global_ends))


INDEXER_SCHEDULE = Formula(topk_schedule, ("index_topk_freq", "index_skip_topk_offset"))


def indexer(default: Formula = INDEXER_SCHEDULE) -> tuple[Attribute, Attribute]:
    """Which layers select tokens themselves, and that a layer which shares a selection follows one that makes it."""
    pattern = Text("index_topk_pattern", {"F": "full", "S": "shared"})
    kinds = Attribute("indexer_types", (Listed("indexer_types"), pattern, default))

    def has_leader(view: View, i: int, n: int) -> bool:
        vector = kinds.read(view, n) or ()
        return "full" in vector[: i + 1]

    return kinds, position_dependent(
        "indexer_types",
        has_leader,
        "a layer that shares an indexer's selection (indexer_types) needs an earlier layer with an indexer",
    )


def searched(
    numbers: tuple[str, ...],
    compute: Any,
    candidates: Callable[[View, Any], Iterable[tuple[Any, ...]]],
    constraint: str,
) -> Attribute:
    """An attribute that the config gives by a few numbers, so that it can only express some orders."""
    return Attribute(numbers[0], (Searched(numbers, compute, candidates),), f"{constraint} ({', '.join(numbers)})")


def forced_last(kinds: Attribute) -> Attribute:
    """Gemma 4 gives the last layer full attention whatever the list says."""

    def compute(view: View, i: int, n: int) -> str | None:
        vector = kinds.read(view, n)
        return FULL if i == n - 1 or vector is None else str(vector[i])

    return position_dependent(
        "layer_types",
        compute,
        "this model forces full attention on its last layer, so the last layer must be a full-attention layer",
    )


def kv_shared(kinds: Attribute, default: int = 0) -> Attribute:
    """The layer whose keys and values each of the last layers reads."""
    return Attribute(
        "num_kv_shared_layers",
        (KvSuffix("num_kv_shared_layers", kinds, default),),
        "the last layers have no keys and values of their own and read those of the last earlier layer of their kind "
        "(num_kv_shared_layers), so they must stay last, and that layer the last of its kind before them",
        pointer=True,
    )


def from_no_rope(with_rope: str, without: str, condition: str | None = None) -> Formula:
    """Attention kinds derived from which layers use rotary embeddings."""

    def compute(view: View, i: int, n: int) -> str:
        values = NO_ROPE.read(view, n) or ()
        enabled = condition is None or (view.get(condition, False) and view.get("sliding_window") is not None)
        return without if enabled and not values[i] else with_rope

    return Formula(compute)


def neomme_ends(view: View, i: int, n: int) -> bool:
    """Whether a layer is the first or the last with full attention."""
    kinds = NEOMME_TYPES.read(view, n) or ()
    full = [j for j, kind in enumerate(kinds) if kind == FULL]
    return bool(full) and i in (full[0], full[-1])
