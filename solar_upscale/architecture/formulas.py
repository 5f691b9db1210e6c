"""What the code of models computes from a layer's index: defaults that configs leave out, and what no config can say.

Each is an attribute or an encoding that the table in fields.py uses. Defaults are those of the configuration classes of
transformers 5.23.
"""

# ruff: noqa: ARG001 (a formula takes the view, the layer and the depth, whichever it needs)

from typing import Any

from solar_upscale.architecture.encodings import EveryExcept, Formula, KvSuffix, Listed, Prefix, Text
from solar_upscale.architecture.rules import Attribute, Encoding, View

__all__ = [
    "BY_DEPTH",
    "BY_INDEX",
    "BY_PARITY",
    "DEEPSTACK",
    "DENSE",
    "FIRST_ONLY",
    "FULL",
    "GEMMA2",
    "GEMMA3",
    "GEMMA3N_TYPES",
    "GEMMA4_TYPES",
    "INVERSE_INDEX",
    "LAST_ONLY",
    "LINEAR",
    "MLLAMA_CROSS",
    "MOE_FREQUENCY",
    "NEOMME_TYPES",
    "NO_ROPE",
    "QWEN_MLP",
    "SLIDING",
    "SPARSE",
    "aligned",
    "always",
    "backward_fourth",
    "by_position",
    "cohere2_moe",
    "deepseek_v4",
    "dots3",
    "every",
    "first_dense",
    "forced_last",
    "from_no_rope",
    "hybrid_rank",
    "image_layers_listed",
    "indexer",
    "kimi_linear",
    "kv_shared",
    "lagging_full",
    "layer_types",
    "lfm3",
    "llama4_moe",
    "ministral",
    "mlp_types",
    "neomme_ends",
    "ngram_rank",
    "prefix_only",
    "qwen2_moe",
    "step_moe",
    "topk_schedule",
    "window_from",
    "zamba",
]

# --- ways to say an attribute ------------------------------------------------------------------------------------

SLIDING, FULL, LINEAR = "sliding_attention", "full_attention", "linear_attention"
DENSE, SPARSE = "dense", "sparse"


def layer_types(*otherwise: Encoding) -> Attribute:
    """Attention kinds: their list, or what stands for it."""
    return Attribute("layer_types", (Listed("layer_types"), *otherwise))


def mlp_types(*otherwise: Encoding) -> Attribute:
    """Dense and sparse layers: their list, or what stands for it."""
    return Attribute("mlp_layer_types", (Listed("mlp_layer_types"), *otherwise))


def every(field: str | None, default: int, nth: str = FULL, others: str = SLIDING, *, phase: int = 1) -> Formula:
    """Every k-th layer, counted from layer k - phase."""

    def compute(view: View, i: int, n: int) -> str:
        k = view.get(field, default) if field else default
        return nth if isinstance(k, int) and k > 0 and (i + phase) % k == 0 else others

    return Formula(compute, (field,) if field else ())


def window_from(default: int, *, switch: bool = True) -> Formula:
    """Qwen2's rule: layers from ``max_window_layers`` on slide, if windows are used at all."""

    def compute(view: View, i: int, n: int) -> str:
        used = view.get("use_sliding_window", False) if switch else view.section.get("sliding_window", 4096) is not None
        return SLIDING if used and i >= view.get("max_window_layers", default) else FULL

    return Formula(compute, ("use_sliding_window", "max_window_layers"))


def always(value: str) -> Formula:
    """The same for every layer."""
    return Formula(lambda view, i, n: value)


def first_dense(field: str | None = None, default: int = 1, frequency: str | None = None) -> Encoding:
    """Dense in front, sparse behind: a field that counts the dense ones, or a fixed number."""
    if field is None:
        return Formula(lambda view, i, n: DENSE if i < default else SPARSE)
    return Prefix(field, DENSE, SPARSE, default, frequency)


def prefix_only(field: str, default: int, frequency: str | None = None) -> Attribute:
    """Dense in front, sparse behind, where the model reads nothing but the count."""
    return Attribute(
        "dense layers",
        (Prefix(field, DENSE, SPARSE, default, frequency),),
        f"this model says only how many of its first layers are dense ({field}), so dense layers must stay in front",
    )


def by_position(name: str, compute: Any, why: str) -> Attribute:
    """What only a place in the stack can give."""
    return Attribute(name, (Formula(compute),), why)


# --- attributes that several types share -------------------------------------------------------------------------


def _frequency(view: View, i: int, n: int) -> bool | None:
    step = view.get("moe_layer_freq")
    return i % step == 0 if isinstance(step, int) and step > 1 else None


MLLAMA_CROSS = Formula(lambda view, i, n: "cross" if i in (3, 8, 13, 18, 23, 28, 33, 38) else "self")
MOE_FREQUENCY = Formula(_frequency, ("moe_layer_freq",))
FIRST_ONLY = by_position(
    "first layer",
    lambda view, i, n: i == 0,
    "layer 0 is built differently from the others, so it must stay first and only first",
)
LAST_ONLY = by_position(
    "last layer",
    lambda view, i, n: i == n - 1,
    "the last layer is built differently from the others, so it must stay last and only last",
)
BY_INDEX = by_position(
    "layer index",
    lambda view, i, n: i,
    "a layer's own number enters what it computes, so every layer must keep its number",
)
BY_PARITY = by_position(
    "layer parity",
    lambda view, i, n: i % 2 if view.get("stagger_local_blocks", True) else None,
    "layers at odd positions attend to shifted blocks (stagger_local_blocks), so a layer must stay odd or even",
)
BY_DEPTH = by_position(
    "depth",
    lambda view, i, n: n,
    "the number of layers enters what each layer computes and no config field makes up for it",
)
INVERSE_INDEX = by_position(
    "scale_attn_by_inverse_layer_idx",
    lambda view, i, n: i if view.get("scale_attn_by_inverse_layer_idx", False) else None,
    "attention is divided by the layer's number (scale_attn_by_inverse_layer_idx), so every layer must keep its number",
)


def image_layers(view: View, i: int, n: int) -> int | None:
    indexes = view.at_root("vision_config.deepstack_visual_indexes", view.at_root("deepstack_visual_indexes"))
    return i if i < (3 if indexes is None else len(indexes)) else None


def image_layers_listed(view: View, i: int, n: int) -> int | None:
    """The number of a layer that image features enter, where the config lists such layers."""
    mapped = [pair[1] for pair in view.at_root("deepstack_layer_map") or ()]
    return i if i in mapped or i in (view.at_root("spatial_target_layers") or ()) else None


DEEPSTACK = by_position(
    "deepstack_visual_indexes",
    image_layers,
    "the first text layers receive image features by position (deepstack_visual_indexes), so they must stay "
    "first and only first",
)
INDEXER = Attribute(
    "indexer_types",
    (
        Listed("indexer_types"),
        Text("index_topk_pattern", {"F": "full", "S": "shared"}),
    ),
)


def topk_schedule(view: View, i: int, n: int) -> str:
    """An indexer every so many layers, after the first few."""
    frequency, offset = max(view.get("index_topk_freq", 1), 1), view.get("index_skip_topk_offset", 2)
    return "full" if max(i - offset + 1, 0) % frequency == 0 else "shared"


def indexer(default: Formula) -> tuple[Attribute, Attribute]:
    """Which layers choose tokens themselves, and that a layer which shares needs one before it."""
    kinds = Attribute("indexer_types", (*INDEXER.encodings, default))

    def has_leader(view: View, i: int, n: int) -> bool:
        vector = kinds.read(view, n) or ()
        return "full" in vector[: i + 1]

    return kinds, by_position(
        "indexer_types",
        has_leader,
        "a layer that shares an indexer's choice (indexer_types) needs an earlier layer that makes one",
    )


def forced_last(kinds: Attribute) -> Attribute:
    """Gemma 4 turns the last layer into full attention whatever its list says."""

    def compute(view: View, i: int, n: int) -> str | None:
        vector = kinds.read(view, n)
        return FULL if i == n - 1 or vector is None else str(vector[i])

    return by_position(
        "layer_types", compute, "this model forces full attention on its last layer, so the last layer must have it"
    )


def kv_shared(kinds: Attribute) -> Attribute:
    """Whose keys the last layers read."""
    return Attribute(
        "num_kv_shared_layers",
        (KvSuffix(kinds=kinds),),
        "the last layers own no keys and values and read those of the last earlier layer of their kind "
        "(num_kv_shared_layers), so they must stay last and that layer must stay the last of its kind before them",
        pointer=True,
    )


QWEN_MLP = Attribute("mlp_only_layers", (EveryExcept(),))
GEMMA3 = (layer_types(every("sliding_window_pattern", 6)),)
GEMMA2 = (layer_types(every(None, 2)),)
GEMMA3N_TYPES = layer_types(every(None, 5))
GEMMA4_TYPES = layer_types(every(None, 6))


def lagging_full(view: View, i: int, n: int) -> str:
    """Full attention on the first two layers, every fourth and the last."""
    return FULL if i < 2 or i % 4 == 1 or i == n - 1 else SLIDING


def llama4_moe(view: View, i: int, n: int) -> str:
    """Every so many layers are sparse."""
    return SPARSE if (i + 1) % view.get("interleave_moe_layer_step", 1) == 0 else DENSE


def no_rope(view: View, i: int, n: int) -> int:
    """Which layers rotate: all but every so many."""
    return int((i + 1) % view.get("no_rope_layer_interval", 4) != 0)


NO_ROPE = Attribute("no_rope_layers", (Listed("no_rope_layers"), Formula(no_rope, ("no_rope_layer_interval",))))


def from_no_rope(with_rope: str, without: str, condition: str | None = None) -> Formula:
    """Attention kinds that follow from which layers rotate."""

    def compute(view: View, i: int, n: int) -> str:
        values = NO_ROPE.read(view, n) or ()
        used = condition is None or (view.get(condition, False) and view.get("sliding_window") is not None)
        return without if used and not values[i] else with_rope

    return Formula(compute)


def step_moe(view: View, i: int, n: int) -> str:
    """The layers that moe_layers_enum names, as a list or a text with commas; without it all from the fourth on."""
    listed = view.get("moe_layers_enum")
    if listed is None:
        return SPARSE if i >= 3 else DENSE
    numbers = listed.split(",") if isinstance(listed, str) else listed
    return SPARSE if i in {int(number) for number in numbers} else DENSE


def zamba(view: View, i: int, n: int) -> str:
    """A hybrid layer third, then by period."""
    if i < 3:
        return "hybrid" if i == 2 else LINEAR
    return "hybrid" if (i - 3) % view.get("attn_layer_period", 6) == view.get("attn_layer_offset", 4) else LINEAR


def deepseek_v4(view: View, i: int, n: int) -> str:
    """Two heavy layers, then light and heavy in turn."""
    heavy, light = "heavily_compressed_attention", "compressed_sparse_attention"
    return light if i >= 2 and i % 2 else heavy


def backward_fourth(view: View, i: int, n: int) -> str:
    """Every fourth layer, counted from the last."""
    return FULL if (n - 1 - i) % 4 == 0 else SLIDING


def cohere2_moe(view: View, i: int, n: int) -> str:
    """One period for the dense layers in front, another behind them."""
    dense = view.get("first_k_dense_replace", 0)
    if i < dense:
        return SLIDING if (i + 1) % view.get("prefix_dense_sliding_window_pattern", 1) else FULL
    return SLIDING if (i - dense + 1) % view.get("sliding_window_pattern", 4) else FULL


def dots3(view: View, i: int, n: int) -> str:
    """Full attention on the first two layers and on every fourth."""
    full = FULL if view.get("use_dsa") is False else "indexed_attention"
    return full if not view.get("use_sliding_window", True) or i < 2 or i % 4 == 1 else SLIDING


def qwen2_moe(view: View, i: int, n: int) -> str:
    """Every second layer slides, up to max_window_layers."""
    used = view.get("use_sliding_window", False) and i < view.get("max_window_layers", 28) and (i + 1) % 2
    return SLIDING if used else FULL


def ministral(view: View, i: int, n: int) -> str:
    """All layers slide or none."""
    return SLIDING if view.section.get("sliding_window", 4096) is not None else FULL


def lfm3(view: View, i: int, n: int) -> str:
    """Convolutions between full and sliding attention."""
    if i % 4 == 2:
        return FULL
    return SLIDING if i % 4 == 0 and i > 0 else "conv"


def kimi_linear(view: View, i: int, n: int) -> str:
    """Every fourth layer, but not the first."""
    return FULL if i and i % 4 == 0 else LINEAR


def global_ends(view: View, i: int, n: int) -> str:
    """Every sixth layer and the last."""
    return FULL if (i + 1) % 6 == 0 or i == n - 1 else SLIDING


def neomme_ends(view: View, i: int, n: int) -> bool:
    """Whether a layer is the first or the last with full attention."""
    kinds = NEOMME_TYPES.read(view, n) or ()
    full = [j for j, kind in enumerate(kinds) if kind == FULL]
    return bool(full) and i in (full[0], full[-1])


def hybrid_rank(view: View, i: int, n: int) -> tuple[int, int] | None:
    """The place of a hybrid layer among the hybrid layers, and how many there are."""
    kinds = view.get("layers_block_type") or ()
    hybrid = [j for j, kind in enumerate(kinds[:n]) if kind == "hybrid"]
    return (hybrid.index(i), len(hybrid)) if i in hybrid else None


def ngram_rank(view: View, i: int, n: int) -> tuple[int, int] | None:
    """The place of a layer in ple_layer_ids, and how many are listed."""
    listed = list(view.get("ple_layer_ids") or ())
    return (listed.index(i + 1), len(listed)) if i + 1 in listed else None


def aligned(view: View, i: int, n: int) -> bool:
    """Whether an adapter stands on the layer."""
    return bool((i + 1) % max(n // view.get("aligner_num_add_layers", 8), 1) == 0)


NEOMME_TYPES = layer_types(Formula(global_ends))
