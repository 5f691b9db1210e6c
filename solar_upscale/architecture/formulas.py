"""What models compute from a layer's index when their config has no list for it: pure functions.

Each takes the view of the config, the layer and the depth. Defaults are those of the config classes of transformers
5.23. Which model type uses which formula is in families/.
"""

# ruff: noqa: ARG001 (every formula takes the view, the layer and the depth)

from collections.abc import Callable, Sequence

from solar_upscale.architecture.attribute import View

__all__ = [
    "DENSE",
    "FULL",
    "LINEAR",
    "SLIDING",
    "SPARSE",
    "aligned",
    "backward_fourth",
    "backward_fourth_theta",
    "cohere2_moe",
    "deepseek_v4",
    "dots3",
    "early_sparsity",
    "global_ends",
    "hybrid_rank",
    "image_layers",
    "image_layers_listed",
    "kimi_linear",
    "lagging_full",
    "lfm3",
    "llama4_moe",
    "ministral",
    "moe_span",
    "moe_spans",
    "ngram_rank",
    "no_rope",
    "nth_sparse",
    "offset_period",
    "offset_periods",
    "qwen2_moe",
    "spread_sparse",
    "step_moe",
    "topk_schedule",
    "zamba",
]

SLIDING, FULL, LINEAR = "sliding_attention", "full_attention", "linear_attention"
DENSE, SPARSE = "dense", "sparse"


def topk_schedule(view: View, i: int, n: int) -> str:
    """An indexer on the first few layers and then on every ``index_topk_freq``-th."""
    frequency, offset = max(view.get("index_topk_freq", 1), 1), view.get("index_skip_topk_offset", 2)
    return "full" if max(i - offset + 1, 0) % frequency == 0 else "shared"


def lagging_full(view: View, i: int, n: int) -> str:
    """Full attention on the first two layers, every fourth and the last."""
    return FULL if i < 2 or i % 4 == 1 or i == n - 1 else SLIDING


def llama4_moe(view: View, i: int, n: int) -> str:
    """Sparse on every ``interleave_moe_layer_step``-th layer."""
    return SPARSE if (i + 1) % view.get("interleave_moe_layer_step", 1) == 0 else DENSE


def no_rope(view: View, i: int, n: int) -> int:
    """Rotary embeddings (1) on all but every ``no_rope_layer_interval``-th layer (0)."""
    return int((i + 1) % view.get("no_rope_layer_interval", 4) != 0)


def step_moe(view: View, i: int, n: int) -> str:
    """Sparse on the layers in moe_layers_enum (a list or comma-separated text); by default from the fourth on."""
    listed = view.get("moe_layers_enum")
    if listed is None:
        return SPARSE if i >= 3 else DENSE
    numbers = listed.split(",") if isinstance(listed, str) else listed
    return SPARSE if i in {int(number) for number in numbers} else DENSE


def zamba(view: View, i: int, n: int) -> str:
    """The third layer is hybrid, then one in each period."""
    if i < 3:
        return "hybrid" if i == 2 else LINEAR
    return "hybrid" if (i - 3) % view.get("attn_layer_period", 6) == view.get("attn_layer_offset", 4) else LINEAR


def deepseek_v4(view: View, i: int, n: int) -> str:
    """Heavy compression on the first two layers, then heavy and light alternate."""
    heavy, light = "heavily_compressed_attention", "compressed_sparse_attention"
    return light if i >= 2 and i % 2 else heavy


def backward_fourth(view: View, i: int, n: int) -> str:
    """Full attention on every fourth layer, counted back from the last."""
    return FULL if (n - 1 - i) % 4 == 0 else SLIDING


def backward_fourth_theta(default: float) -> Callable[[View, int, int], float]:
    """The model's rope theta, 0 for every fourth layer counted back from the last."""

    def compute(view: View, i: int, n: int) -> float:
        theta: float = view.get("rope_parameters.rope_theta", view.get("rope_theta", default))
        return 0 if (n - 1 - i) % 4 == 0 else theta

    return compute


def early_sparsity(view: View, i: int, n: int) -> float:
    """Gemma 3n: sparse activations in the first ten layers of a model with more than ten."""
    return 0.95 if i < 10 < n else 0.0


def cohere2_moe(view: View, i: int, n: int) -> str:
    """One period for the leading dense layers, another for the layers after them."""
    dense = view.get("first_k_dense_replace", 0)
    if i < dense:
        return SLIDING if (i + 1) % view.get("prefix_dense_sliding_window_pattern", 1) else FULL
    return SLIDING if (i - dense + 1) % view.get("sliding_window_pattern", 4) else FULL


def dots3(view: View, i: int, n: int) -> str:
    """Full attention on the first two layers and on every fourth."""
    full = FULL if view.get("use_dsa") is False else "indexed_attention"
    return full if not view.get("use_sliding_window", True) or i < 2 or i % 4 == 1 else SLIDING


def qwen2_moe(view: View, i: int, n: int) -> str:
    """Sliding windows on every second layer below ``max_window_layers``."""
    slides = view.get("use_sliding_window", False) and i < view.get("max_window_layers", 28) and (i + 1) % 2
    return SLIDING if slides else FULL


def ministral(view: View, i: int, n: int) -> str:
    """Sliding windows on all layers or on none."""
    return SLIDING if view.section.get("sliding_window", 4096) is not None else FULL


def lfm3(view: View, i: int, n: int) -> str:
    """Full and sliding attention in turn on even layers, convolutions on odd ones and on layer 0."""
    if i % 4 == 2:
        return FULL
    return SLIDING if i % 4 == 0 and i > 0 else "conv"


def kimi_linear(view: View, i: int, n: int) -> str:
    """Full attention on every fourth layer, except the first."""
    return FULL if i and i % 4 == 0 else LINEAR


def global_ends(view: View, i: int, n: int) -> str:
    """Full attention on every sixth layer and on the last."""
    return FULL if (i + 1) % 6 == 0 or i == n - 1 else SLIDING


def hybrid_rank(view: View, i: int, n: int) -> tuple[int, int] | None:
    """The rank of a hybrid layer among the hybrid layers, and how many there are; None for other layers."""
    kinds = view.get("layers_block_type") or ()
    hybrid = [j for j, kind in enumerate(kinds[:n]) if kind == "hybrid"]
    return (hybrid.index(i), len(hybrid)) if i in hybrid else None


def ngram_rank(view: View, i: int, n: int) -> tuple[int, int] | None:
    """The rank of a layer in ple_layer_ids, and how many are listed; None for other layers."""
    listed = list(view.get("ple_layer_ids") or ())
    return (listed.index(i + 1), len(listed)) if i + 1 in listed else None


def aligned(view: View, i: int, n: int) -> bool:
    """Whether the layer has an adapter."""
    return bool((i + 1) % max(n // view.get("aligner_num_add_layers", 8), 1) == 0)


def image_layers(view: View, i: int, n: int) -> int | None:
    """The index of a layer that receives image features: the first ones, one for each listed vision layer."""
    indexes = view.at_root("vision_config.deepstack_visual_indexes", view.at_root("deepstack_visual_indexes"))
    return i if i < (3 if indexes is None else len(indexes)) else None


def image_layers_listed(view: View, i: int, n: int) -> int | None:
    """The index of a layer that receives image features, in a model whose config lists such layers."""
    mapped = [pair[1] for pair in view.at_root("deepstack_layer_map") or ()]
    return i if i in mapped or i in (view.at_root("spatial_target_layers") or ()) else None


def nth_sparse(step: str) -> Callable[[View, int, int], bool]:
    """NLLB-MoE: sparse on every k-th layer; on none if k is 0."""

    def compute(view: View, i: int, n: int) -> bool:
        every = view.get(step, 4)
        return bool(every > 0 and (i + 1) % every == 0)

    return compute


def spread_sparse(field: str) -> Callable[[View, int, int], bool]:
    """Switch Transformers: the given number of sparse layers, evenly spread; the step follows from the depth."""

    def compute(view: View, i: int, n: int) -> bool:
        number = view.get(field, 3)
        every = n // number if number > 0 else n
        return every > 0 and (every == 1 or i % every == 1)

    return compute


def offset_period(
    period: str, offset: str, defaults: tuple[int, int], inside: str, outside: str
) -> Callable[[View, int, int], str]:
    """Jamba: ``inside`` for the layer at the offset within each period, ``outside`` for the others."""

    def compute(view: View, i: int, n: int) -> str:
        return inside if i % view.get(period, defaults[0]) == view.get(offset, defaults[1]) else outside

    return compute


def moe_span(view: View, i: int, n: int) -> bool:
    """ERNIE 4.5: sparse on every k-th layer from a start to an end (-1: the last layer)."""
    last = n - 1 if view.get("moe_layer_end_index", -1) == -1 else view.get("moe_layer_end_index")
    in_span = view.get("moe_layer_start_index", 1) <= i <= last
    return bool(in_span and (i + 1) % view.get("moe_layer_interval", 1) == 0)


def moe_spans(view: View, vector: Sequence[bool]) -> list[tuple[int, int, int]]:
    """Candidate starts, ends and intervals for the vector, those that keep the old values first."""
    hits = [i for i, sparse in enumerate(vector) if sparse]
    interval = view.get("moe_layer_interval", 1)
    if not hits:
        return [(len(vector), len(vector), interval)]
    old_end = view.get("moe_layer_end_index", -1)
    starts = (view.get("moe_layer_start_index", 1), hits[0])
    ends = (old_end, -1 if old_end == -1 else len(vector) - 1, hits[-1])
    return [(a, b, step) for step in (interval, *range(1, len(vector) + 1)) for a in starts for b in ends]


def offset_periods(vector: Sequence[str], inside: str) -> list[tuple[int, int]]:
    """Periods and offsets whose first hit is the vector's; if it has none, one beyond the last layer."""
    n = len(vector)
    first = next((i for i, kind in enumerate(vector) if kind == inside), n)
    return [(period, first) for period in range(first + 1, n + 2)]
