"""Which config fields each model type ties to its depth: the table.

A row names the attributes that differ from layer to layer and how its config says them, in the order in which the
model's code believes them; defaults are those of the configuration classes of transformers 5.23. How an encoding is
read and written is rules.py. A model type with no row here is either counted only (COUNTED in families.py) or unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from solar_upscale.architecture.rules import (
    Attribute,
    Constant,
    Cycle,
    Encoding,
    EveryExcept,
    Formula,
    Indices,
    Keyed,
    KvSuffix,
    Listed,
    MoeSpan,
    Period,
    Pointers,
    Prefix,
    Repeated,
    RootScaled,
    Searched,
    Text,
    View,
)

__all__ = ["EVERY_TYPE", "ROOT_ROWS", "ROWS", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """What one model type ties to its depth.

    ``proportional`` are fields that follow the number of layers beside the count; ``gathers`` the endings of tensors
    outside the layers with a slice a layer, and the axis of the slices; ``mtp`` the fields that count next-token layers
    after the last; ``beside`` the fields that speak of other layers; ``strided`` the endings of prefixes numbered once
    every so many layers, and the field that says how many; ``shared_module`` a module that layers share and that the
    file holds once; ``needs`` the ending of a buffer without which the code would compute it from the layer's new number,
    and what to say then. ``refusal`` is why the depth of this type cannot be changed at all.
    """

    attributes: tuple[Attribute, ...] = ()
    proportional: tuple[str, ...] = ()
    gathers: tuple[tuple[str, int], ...] = ()
    mtp: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    strided: tuple[tuple[str, str], ...] = ()
    shared_module: str | None = None
    needs: tuple[str, str] | None = None
    refusal: str | None = None


# --- ways to say an attribute ------------------------------------------------------------------------------------

SLIDING, FULL, LINEAR = "sliding_attention", "full_attention", "linear_attention"
DENSE, SPARSE = "dense", "sparse"


def _layer_types(*otherwise: Encoding) -> Attribute:
    return Attribute("layer_types", (Listed("layer_types"), *otherwise))


def _mlp_types(*otherwise: Encoding) -> Attribute:
    return Attribute("mlp_layer_types", (Listed("mlp_layer_types"), *otherwise))


def _every(field: str | None, default: int, nth: str = FULL, others: str = SLIDING, *, phase: int = 1) -> Formula:
    """Every k-th layer, counted from layer k - phase."""

    def compute(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
        k = view.get(field, default) if field else default
        return nth if isinstance(k, int) and k > 0 and (i + phase) % k == 0 else others

    return Formula(compute, (field,) if field else ())


def _window(default: int, *, switch: bool = True) -> Formula:
    """Qwen2's rule: layers from ``max_window_layers`` on slide, if windows are used at all."""

    def compute(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
        used = view.get("use_sliding_window", False) if switch else view.get("sliding_window", 4096) is not None
        return SLIDING if used and i >= view.get("max_window_layers", default) else FULL

    return Formula(compute, ("use_sliding_window", "max_window_layers"))


def _all(value: str) -> Formula:
    return Formula(lambda view, i, n: value)  # noqa: ARG005 (signature of a formula)


def _first_dense(field: str | None = None, default: int = 1, frequency: str | None = None) -> Encoding:
    if field is None:
        return Formula(lambda view, i, n: DENSE if i < default else SPARSE)  # noqa: ARG005 (signature of a formula)
    return Prefix(field, DENSE, SPARSE, default, frequency)


def _prefix_only(field: str, default: int, frequency: str | None = None) -> Attribute:
    return Attribute(
        "dense layers",
        (Prefix(field, DENSE, SPARSE, default, frequency),),
        f"this model says only how many of its first layers are dense ({field}), so dense layers must stay in front",
    )


def _position(name: str, compute: Any, why: str) -> Attribute:
    return Attribute(name, (Formula(compute),), why)


# --- attributes that several types share -------------------------------------------------------------------------

FIRST_ONLY = _position(
    "first layer",
    lambda view, i, n: i == 0,  # noqa: ARG005 (signature of a formula)
    "layer 0 is built differently from the others, so it must stay first and only first",
)
LAST_ONLY = _position(
    "last layer",
    lambda view, i, n: i == n - 1,  # noqa: ARG005 (signature of a formula)
    "the last layer is built differently from the others, so it must stay last and only last",
)
BY_INDEX = _position(
    "layer index",
    lambda view, i, n: i,  # noqa: ARG005 (signature of a formula)
    "a layer's own number enters what it computes, so every layer must keep its number",
)
BY_PARITY = _position(
    "layer parity",
    lambda view, i, n: i % 2,  # noqa: ARG005 (signature of a formula)
    "layers at odd positions attend to shifted blocks, so a layer must stay odd or even",
)
BY_DEPTH = _position(
    "depth",
    lambda view, i, n: n,  # noqa: ARG005 (signature of a formula)
    "the number of layers enters what each layer computes and no config field makes up for it",
)
INVERSE_INDEX = _position(
    "scale_attn_by_inverse_layer_idx",
    lambda view, i, n: i if view.get("scale_attn_by_inverse_layer_idx", False) else None,  # noqa: ARG005
    "attention is divided by the layer's number (scale_attn_by_inverse_layer_idx), so every layer must keep its number",
)


def _image_layers(view: View, i: int, n: int) -> int | None:  # noqa: ARG001 (signature of a formula)
    indexes = view.at_root("vision_config.deepstack_visual_indexes", view.at_root("deepstack_visual_indexes"))
    return i if i < (3 if indexes is None else len(indexes)) else None


def _image_layers_listed(view: View, i: int, n: int) -> int | None:  # noqa: ARG001 (signature of a formula)
    mapped = [pair[1] for pair in view.at_root("deepstack_layer_map") or ()]
    return i if i in mapped or i in (view.at_root("spatial_target_layers") or ()) else None


DEEPSTACK = _position(
    "deepstack_visual_indexes",
    _image_layers,
    "the first text layers receive image features by position (deepstack_visual_indexes), so they must stay first and only first",
)
INDEXER = Attribute(
    "indexer_types",
    (
        Listed("indexer_types"),
        Text("index_topk_pattern", {"F": "full", "S": "shared"}),
    ),
)


def _topk_schedule(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    frequency, offset = max(view.get("index_topk_freq", 1), 1), view.get("index_skip_topk_offset", 2)
    return "full" if max(i - offset + 1, 0) % frequency == 0 else "shared"


def _indexer(default: Formula) -> tuple[Attribute, Attribute]:
    kinds = Attribute("indexer_types", (*INDEXER.encodings, default))

    def has_leader(view: View, i: int, n: int) -> bool:
        vector = kinds.read(view, n) or ()
        return "full" in vector[: i + 1]

    return kinds, _position(
        "indexer_types",
        has_leader,
        "a layer that shares an indexer's choice (indexer_types) needs an earlier layer that makes one",
    )


def _forced_last(kinds: Attribute) -> Attribute:
    """Gemma 4 turns the last layer into full attention whatever its list says."""

    def compute(view: View, i: int, n: int) -> str | None:
        vector = kinds.read(view, n)
        return FULL if i == n - 1 or vector is None else str(vector[i])

    return _position(
        "layer_types", compute, "this model forces full attention on its last layer, so the last layer must have it"
    )


def _kv_shared(kinds: Attribute) -> Attribute:
    return Attribute(
        "num_kv_shared_layers",
        (KvSuffix(kinds=kinds),),
        "the last layers own no keys and values and read those of the last earlier layer of their kind "
        "(num_kv_shared_layers), so they must stay last and that layer must stay the last of its kind before them",
        pointer=True,
    )


QWEN_MLP = Attribute("mlp_only_layers", (EveryExcept(),))
GEMMA3 = (_layer_types(_every("sliding_window_pattern", 6)),)
GEMMA2 = (_layer_types(_every(None, 2)),)
GEMMA3N_TYPES = _layer_types(_every(None, 5))
GEMMA4_TYPES = _layer_types(_every(None, 6))
PER_LAYER_EMBEDDINGS = (("embed_tokens_per_layer.weight", 1), ("per_layer_model_projection.weight", 0))
GEMMA4 = Row(
    (GEMMA4_TYPES, _forced_last(GEMMA4_TYPES), _kv_shared(GEMMA4_TYPES)),
    gathers=PER_LAYER_EMBEDDINGS,
)
QWEN2 = Row((_layer_types(_window(28)),))
QWEN2_VL = Row((_layer_types(_window(80)),))
QWEN3_5 = Row((_layer_types(_every("full_attention_interval", 4, FULL, LINEAR)),))
QWEN3_MOE = Row((QWEN_MLP,))
T5 = Row((FIRST_ONLY,))
MTP = ("num_nextn_predict_layers", "num_mtp_layers")


def _lagging_full(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    return FULL if i < 2 or i % 4 == 1 or i == n - 1 else SLIDING


def _llama4_moe(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    return SPARSE if (i + 1) % view.get("interleave_moe_layer_step", 1) == 0 else DENSE


def _no_rope(view: View, i: int, n: int) -> int:  # noqa: ARG001 (signature of a formula)
    return int((i + 1) % view.get("no_rope_layer_interval", 4) != 0)


NO_ROPE = Attribute("no_rope_layers", (Listed("no_rope_layers"), Formula(_no_rope, ("no_rope_layer_interval",))))


def _from_no_rope(with_rope: str, without: str, condition: str | None = None) -> Formula:
    def compute(view: View, i: int, n: int) -> str:
        values = NO_ROPE.read(view, n) or ()
        used = condition is None or (view.get(condition, False) and view.get("sliding_window") is not None)
        return without if used and not values[i] else with_rope

    return Formula(compute)


def _zamba(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    if i < 3:
        return "hybrid" if i == 2 else LINEAR
    return "hybrid" if (i - 3) % view.get("attn_layer_period", 6) == view.get("attn_layer_offset", 4) else LINEAR


def _deepseek_v4(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    heavy, light = "heavily_compressed_attention", "compressed_sparse_attention"
    return light if i >= 2 and i % 2 else heavy


def _backward_fourth(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    return FULL if (n - 1 - i) % 4 == 0 else SLIDING


def _cohere2_moe(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    dense = view.get("first_k_dense_replace", 0)
    if i < dense:
        return SLIDING if (i + 1) % view.get("prefix_dense_sliding_window_pattern", 1) else FULL
    return SLIDING if (i - dense + 1) % view.get("sliding_window_pattern", 4) else FULL


def _dots3(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    full = FULL if view.get("use_dsa") is False else "indexed_attention"
    return full if not view.get("use_sliding_window", True) or i < 2 or i % 4 == 1 else SLIDING


def _qwen2_moe(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    used = view.get("use_sliding_window", False) and i < view.get("max_window_layers", 28) and (i + 1) % 2
    return SLIDING if used else FULL


def _ministral(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    return SLIDING if view.get("sliding_window", 4096) is not None else FULL


def _lfm3(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    if i % 4 == 2:
        return FULL
    return SLIDING if i % 4 == 0 and i > 0 else "conv"


def _kimi_linear(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    return FULL if i and i % 4 == 0 else LINEAR


def _global_ends(view: View, i: int, n: int) -> str:  # noqa: ARG001 (signature of a formula)
    return FULL if (i + 1) % 6 == 0 or i == n - 1 else SLIDING


def _neomme_ends(view: View, i: int, n: int) -> bool:
    kinds = NEOMME_TYPES.read(view, n) or ()
    full = [j for j, kind in enumerate(kinds) if kind == FULL]
    return bool(full) and i in (full[0], full[-1])


def _hybrid_rank(view: View, i: int, n: int) -> tuple[int, int] | None:
    kinds = view.get("layers_block_type") or ()
    hybrid = [j for j, kind in enumerate(kinds[:n]) if kind == "hybrid"]
    return (hybrid.index(i), len(hybrid)) if i in hybrid else None


def _ngram_rank(view: View, i: int, n: int) -> tuple[int, int] | None:  # noqa: ARG001 (signature of a formula)
    listed = list(view.get("ple_layer_ids") or ())
    return (listed.index(i + 1), len(listed)) if i + 1 in listed else None


def _aligned(view: View, i: int, n: int) -> bool:
    return (i + 1) % max(n // view.get("aligner_num_add_layers", 8), 1) == 0


def _nllb_moe(step: str, other: str) -> Row:
    def sparse(view: View, i: int, n: int) -> bool:  # noqa: ARG001 (signature of a formula)
        every = view.get(step, 4)
        return every > 0 and (i + 1) % every == 0

    search = Searched((step,), sparse, lambda view, m: [(k,) for k in range(m + 2)])  # noqa: ARG005
    return Row(
        (Attribute(step, (search,), f"this model says only how often its sparse layers come ({step})"),),
        beside=(other,),
    )


def _switch(role: str, other: str) -> Row:
    """The step is recomputed from the number of sparse layers and of layers whenever the config is read."""
    field, step = f"num_sparse_{role}_layers", f"{role}_sparse_step"

    def sparse(view: View, i: int, n: int) -> bool:
        number = view.get(field, 3)
        every = n // number if number > 0 else n
        return every > 0 and (every == 1 or i % every == 1)

    search = Searched((field,), sparse, lambda view, m: [(k,) for k in range(m + 1)])  # noqa: ARG005
    why = f"this model says only how many of its layers are sparse ({field}), evenly spread"
    return Row(
        (FIRST_ONLY, Attribute(field, (search,), why)),
        beside=(step, f"num_sparse_{other}_layers", f"{other}_sparse_step"),
    )


NEOMME_TYPES = _layer_types(Formula(_global_ends))


# --- the table ---------------------------------------------------------------------------------------------------

# What any type may carry in its config, whether or not its own code asks for it.
EVERY_TYPE: tuple[Attribute, ...] = (
    Attribute("layer_types", (Listed("layer_types"),)),
    Attribute("layers_block_type", (Listed("layers_block_type"),)),
    Attribute("mlp_layer_types", (Listed("mlp_layer_types"),)),
    Attribute("per_layer_config", (Keyed("per_layer_config"),)),
    Attribute("moe_layer_freq", (Listed("moe_layer_freq"),)),
)

ROWS: Mapping[str, Row] = {
    "albert": Row(refusal="one set of weights serves all its layers, so there is none to repeat, drop or move"),
    "afmoe": Row((_layer_types(_every("global_attn_every_n_layers", 4)), _prefix_only("num_dense_layers", 1))),
    "axk1": Row((_mlp_types(_first_dense("first_k_dense_replace", 1, "moe_layer_freq")),)),
    "axk2": Row(
        (
            _layer_types(_all("indexed_attention")),
            _mlp_types(_first_dense("first_k_dense_replace", 1, "moe_layer_freq")),
        )
    ),
    "bailing_hybrid": Row(
        (
            _layer_types(_every("layer_group_size", 8, FULL, LINEAR)),
            _mlp_types(_first_dense("first_k_dense_replace", 2)),
        ),
        mtp=MTP,
    ),
    "bamba": Row((Attribute("attn_layer_indices", (Indices("attn_layer_indices", FULL, LINEAR),)),)),
    "beam": Row((_layer_types(), _mlp_types(), BY_INDEX)),
    "cohere2": Row((_layer_types(_every("sliding_window_pattern", 4)),)),
    "cohere2_moe": Row(
        (
            _layer_types(Formula(_cohere2_moe, ("sliding_window_pattern", "prefix_dense_sliding_window_pattern"))),
            _mlp_types(_first_dense("first_k_dense_replace", 0)),
        )
    ),
    "cohere_compass_text": Row((_layer_types(_all(FULL)),)),
    "cwm": Row((_layer_types(_every(None, 4, phase=0)),)),
    "deepseek_ocr2_text": Row((_mlp_types(_first_dense("first_k_dense_replace", 1)),)),
    "deepseek_v2": Row((_prefix_only("first_k_dense_replace", 0, "moe_layer_freq"),)),
    "deepseek_v3": Row((_prefix_only("first_k_dense_replace", 3),), mtp=MTP),
    "deepseek_v32": Row(
        (_layer_types(_all("indexed_attention")), _mlp_types(_first_dense("first_k_dense_replace", 3))), mtp=MTP
    ),
    "deepseek_v4": Row(
        (
            _layer_types(
                Listed("compress_ratios"),
                Formula(_deepseek_v4),
            ),
            _mlp_types(Prefix("num_hash_layers", "hash_moe", "moe", 3)),
        ),
        mtp=MTP,
    ),
    "diffusion_gemma_text": Row(refusal="its layers serve an encoder and a decoder at once"),
    "diffllama": Row((BY_INDEX,)),
    "dots1": Row((_layer_types(_window(62, switch=False)), _prefix_only("first_k_dense_replace", 0))),
    "dots3_note_text": Row(
        (
            _layer_types(Formula(_dots3, ("use_dsa", "use_sliding_window"))),
            _mlp_types(_first_dense("first_k_dense_replace", 1, "moe_layer_freq")),
        )
    ),
    "ernie4_5_moe": Row(
        (
            Attribute(
                "moe_layer_start_index",
                (MoeSpan(),),
                "this model says only where its sparse layers start, end and how often they come "
                "(moe_layer_start_index, moe_layer_end_index, moe_layer_interval)",
            ),
        )
    ),
    "ernie4_5_vl_moe_text": Row((_mlp_types(_first_dense(None, 1)),)),
    "esm": Row((), gathers=(("contact_head.regression.weight", 1),)),
    "esmc": Row((BY_DEPTH,)),
    "evolla": Row(
        (
            Attribute(
                "aligner_num_add_layers",
                (Searched(("aligner_num_add_layers",), _aligned, lambda view, m: [(k,) for k in range(1, m + 1)]),),  # noqa: ARG005
                "this model says only how often its adapters come (aligner_num_add_layers)",
            ),
        )
    ),
    "funnel": Row(refusal="its encoder pools between blocks of layers, and its decoder reads them by position"),
    "exaone4": Row((_layer_types(_every("sliding_window_pattern", 4)),)),
    "exaone_moe": Row(
        (
            _layer_types(_every("sliding_window_pattern", 4)),
            _mlp_types(_first_dense("first_k_dense_replace", 1)),
        ),
        mtp=MTP,
    ),
    "flint": Row(
        (
            _layer_types(Formula(_lagging_full)),
            Attribute("mlp_only_layers", (EveryExcept(default_exceptions=(0, 1)),)),
        )
    ),
    "gemma2": Row(GEMMA2),
    "gemma3_text": Row(GEMMA3),
    "gemma3n_text": Row(
        (
            GEMMA3N_TYPES,
            Attribute("activation_sparsity_pattern", (Listed("activation_sparsity_pattern", scalar=True),)),
            Attribute("intermediate_size", (Listed("intermediate_size", scalar=True),)),
            _kv_shared(GEMMA3N_TYPES),
        ),
        gathers=PER_LAYER_EMBEDDINGS,
    ),
    "gemma4_text": GEMMA4,
    "gemma4_unified_text": GEMMA4,
    "glm4_moe": Row((_prefix_only("first_k_dense_replace", 1),), mtp=MTP),
    "glm4_moe_lite": Row((_mlp_types(_first_dense(None, 1)),), mtp=MTP),
    "glm4v_moe_text": Row((_prefix_only("first_k_dense_replace", 1),), mtp=MTP),
    "glm5_next_text": Row(
        (
            _layer_types(_every(None, 4, "indexed_attention", LINEAR)),
            _mlp_types(_first_dense(None, 3)),
            *_indexer(Formula(_topk_schedule, ("index_topk_freq", "index_skip_topk_offset"))),
        ),
        mtp=MTP,
    ),
    "glm_moe_dsa": Row(
        (
            _layer_types(_all("indexed_attention")),
            _mlp_types(_first_dense("first_k_dense_replace", 3)),
            *_indexer(Formula(_topk_schedule, ("index_topk_freq", "index_skip_topk_offset"))),
        ),
        mtp=MTP,
    ),
    "gpt-sw3": Row((INVERSE_INDEX,)),
    "gpt2": Row((INVERSE_INDEX,)),
    "gpt_neo": Row(
        (
            Attribute(
                "attention_types",
                (Repeated("attention_types", ((("global", "local"), 12),)), Listed("attention_layers")),
            ),
        )
    ),
    "gpt_neox_japanese": Row((LAST_ONLY,)),
    "gpt_oss": Row((_layer_types(_every(None, 2)),)),
    "granite_swa": Row(
        (_layer_types(_every(None, 4, phase=0)), Attribute("layer_rope_theta", (Listed("layer_rope_theta"),)))
    ),
    "granitemoe_swa": Row(
        (_layer_types(_every(None, 4, phase=0)), Attribute("layer_rope_theta", (Listed("layer_rope_theta"),)))
    ),
    "granitemoehybrid": Row(
        (Attribute("layer_types", (Listed("layer_types"), Listed("layers_block_type"), _all(LINEAR))),)
    ),
    "hrm_text": Row(proportional=("num_hidden_layers",)),
    "hunyuan_v1_moe": Row((Attribute("moe_topk", (Listed("moe_topk", scalar=True),)),)),
    "hy_v3": Row((_mlp_types(_first_dense(None, 1)),), mtp=MTP),
    "hy_v4": Row(
        (
            _layer_types(_all("indexed_attention")),
            _mlp_types(_first_dense(None, 1)),
            *_indexer(Formula(lambda view, i, n: "full" if i == 0 or (i - 1) % 4 == 0 else "shared")),  # noqa: ARG005
        ),
        mtp=MTP,
    ),
    "idefics": Row(
        (
            _position(
                "cross_layer_interval",
                lambda view, i, n: i % view.get("cross_layer_interval", 1) == 0,  # noqa: ARG005
                "a gated cross-attention layer stands before every cross_layer_interval-th layer, so those must stay there",
            ),
        ),
        strided=(("gated_cross_attn_layers", "cross_layer_interval"),),
        beside=("cross_layer_activation_function",),
    ),
    "inkling2_text": Row(refusal="attention-residual queries lie outside the layers under numbers of their own"),
    "inkling_text": Row(
        (
            _layer_types(
                Indices("local_layer_ids", "hybrid_sliding", "hybrid"), _every(None, 6, "hybrid", "hybrid_sliding")
            ),
            _mlp_types(Prefix("dense_mlp_idx", DENSE, SPARSE, 0)),
        )
    ),
    "jamba": Row(
        (
            Attribute(
                "attn_layer_period",
                (Period("attn_layer_period", "attn_layer_offset", FULL, LINEAR, (8, 4)),),
                "this model says only a period and an offset for its attention layers (attn_layer_period, attn_layer_offset)",
            ),
            Attribute(
                "expert_layer_period",
                (Period("expert_layer_period", "expert_layer_offset", SPARSE, DENSE, (2, 1)),),
                "this model says only a period and an offset for its expert layers (expert_layer_period, expert_layer_offset)",
            ),
        )
    ),
    "kimi_linear": Row(
        (
            _layer_types(Indices("linear_attn_config.full_attn_layers", FULL, LINEAR, 1), Formula(_kimi_linear)),
            Attribute("kda_layers", (Indices("linear_attn_config.kda_layers", LINEAR, FULL, 1),)),
            _mlp_types(_first_dense("first_k_dense_replace", 1, "moe_layer_freq")),
        ),
        mtp=MTP,
    ),
    "kolibri1": Row((_layer_types(_every(None, 5)),)),
    "laguna": Row(
        (
            _layer_types(_all(FULL)),
            _mlp_types(_first_dense(None, 1)),
            Attribute("num_attention_heads_per_layer", (Listed("num_attention_heads_per_layer"),)),
        )
    ),
    "led:decoder": Row(beside=("attention_window",)),
    "led:encoder": Row((Attribute("attention_window", (Listed("attention_window", scalar=True),)),)),
    "lfm2": Row((_layer_types(Indices("full_attn_idxs", FULL, "conv"), _all(FULL)),)),
    "lfm2_moe": Row((_layer_types(), _prefix_only("num_dense_layers", 2))),
    "lfm3": Row((_layer_types(Formula(_lfm3)),)),
    "llama4_text": Row(
        (
            NO_ROPE,
            _layer_types(_from_no_rope("chunked_attention", FULL)),
            Attribute(
                "moe_layers",
                (Indices("moe_layers", SPARSE, DENSE), Formula(_llama4_moe, ("interleave_moe_layer_step",))),
            ),
        )
    ),
    "longformer": Row((Attribute("attention_window", (Listed("attention_window", scalar=True),)),)),
    "longt5": T5,
    "longcat_flash": Row(proportional=("num_hidden_layers",)),
    "mellum": Row((_layer_types(_all(FULL)), _mlp_types(_all(SPARSE)))),
    "mimo_v2_flash": Row(
        (
            _layer_types(Formula(lambda view, i, n: FULL if i == 0 or (i + 1) % 6 == 0 else SLIDING)),  # noqa: ARG005
            _mlp_types(_first_dense(None, 1)),
        )
    ),
    "minicpm3": Row((Attribute("scale_depth", (RootScaled("scale_depth", 1.4),)),)),
    "minimax": Row(
        (_layer_types(_every(None, 2, LINEAR, FULL)),),
        needs=(
            ".slope_rate",
            "without these buffers the decay of a linear-attention layer is computed from its number and the depth; save the "
            "model once with transformers, which writes them",
        ),
    ),
    "minimax_m3_vl_text": Row(
        (
            _layer_types(Listed("sparse_attention_config.sparse_attention_freq"), _all(FULL)),
            _mlp_types(Listed("moe_layer_freq"), _all(SPARSE)),
        )
    ),
    "ministral": Row((_layer_types(Formula(_ministral)),)),
    "mistral4": Row((_prefix_only("first_k_dense_replace", 0),)),
    "mistral_large4_text": Row(
        (
            NO_ROPE,
            _layer_types(_all("indexed_attention")),
            _mlp_types(_first_dense("first_k_dense_replace", 1)),
            *_indexer(Formula(_topk_schedule, ("index_topk_freq", "index_skip_topk_offset"))),
            Attribute(
                "kv_source_layers",
                (Pointers("kv_source_layers"),),
                "a layer that reads another layer's keys (kv_source_layers) needs that layer before it",
                pointer=True,
            ),
        )
    ),
    "mllama_text_model": Row(
        (Attribute("cross_attention_layers", (Indices("cross_attention_layers", "cross", "self"),)),)
    ),
    "modernbert": Row((_layer_types(_every("global_attn_every_n_layers", 3, phase=0)), FIRST_ONLY)),
    "modernbert-decoder": Row((_layer_types(_every("global_attn_every_n_layers", 3, phase=0)), FIRST_ONLY)),
    "molmo2_text": Row((Attribute("rope_scaling_layers", (Indices("rope_scaling_layers", True, False),)),)),
    "muse_glimmer_text": Row(
        (_layer_types(Formula(_backward_fourth)), Attribute("layer_rope_theta", (Listed("layer_rope_theta"),)))
    ),
    "muse_spark_text": Row(
        (
            _layer_types(Formula(_backward_fourth)),
            Attribute("layer_rope_theta", (Listed("layer_rope_theta"),)),
            _mlp_types(_all(SPARSE)),
        )
    ),
    "nemotron_h": Row(
        (
            Attribute(
                "layers_block_type",
                (
                    Listed("layers_block_type"),
                    Listed("layer_types"),
                    Text("hybrid_override_pattern", {"M": LINEAR, "*": FULL, "-": "mlp", "E": "moe"}),
                ),
            ),
        ),
        mtp=MTP,
    ),
    "neomme": Row(
        (
            NEOMME_TYPES,
            _position(
                "value embeddings",
                _neomme_ends,
                "value embeddings enter at the first and the last full-attention layer, so those must stay first and last",
            ),
            Attribute(
                "residual_multiplier",
                (Constant("residual_multiplier", lambda view, n: (2 * n) ** -0.5),),  # noqa: ARG005
            ),
        )
    ),
    "mt5": T5,
    "nllb-moe:decoder": _nllb_moe("decoder_sparse_step", "encoder_sparse_step"),
    "nllb-moe:encoder": _nllb_moe("encoder_sparse_step", "decoder_sparse_step"),
    "olmo3": Row((_layer_types(_every(None, 4)),)),
    "olmo_hybrid": Row((_layer_types(_every(None, 4, FULL, LINEAR)),)),
    "pegasus_x:decoder": Row(),
    "pegasus_x:encoder": Row((BY_PARITY,)),
    "pix2struct_text_model": T5,
    "qwen2": QWEN2,
    "qwen2_5_omni_text": QWEN2,
    "qwen2_5_vl_text": QWEN2_VL,
    "qwen2_moe": Row((_layer_types(Formula(_qwen2_moe, ("use_sliding_window", "max_window_layers"))), QWEN_MLP)),
    "qwen2_vl_text": QWEN2_VL,
    "qwen3": QWEN2,
    "qwen3_5_moe_text": QWEN3_5,
    "qwen3_5_text": QWEN3_5,
    "qwen3_moe": QWEN3_MOE,
    "qwen3_next": Row((*QWEN3_5.attributes, QWEN_MLP)),
    "qwen3_omni_moe_text": QWEN3_MOE,
    "qwen3_vl_moe_text": QWEN3_MOE,
    "qwen4_exp_text": Row(
        (
            _layer_types(_every("full_attention_interval", 4, "indexed_attention", LINEAR)),
            Attribute("ple_layer_ids", (Indices("ple_layer_ids", True, False, 1),)),
            _position(
                "n-gram tables",
                _ngram_rank,
                "n-gram tables are sized and seeded by a layer's place in ple_layer_ids, so these layers must all stay, once each "
                "and in order",
            ),
        ),
        mtp=MTP,
    ),
    "recurrent_gemma": Row(
        (Attribute("block_types", (Cycle("block_types", ("recurrent", "recurrent", "attention")),)),),
    ),
    "reformer": Row(
        (Attribute("attn_layers", (Listed("attn_layers"),)),),
    ),
    "rwkv": Row((FIRST_ONLY,)),
    "smollm3": Row((NO_ROPE, _layer_types(_from_no_rope(FULL, SLIDING, "use_sliding_window")))),
    "step3p5": Row(
        (
            _layer_types(_all(FULL)),
            _mlp_types(),
            Attribute("swiglu_limits", (Listed("swiglu_limits"),)),
            Attribute("swiglu_limits_shared", (Listed("swiglu_limits_shared"),)),
        ),
        mtp=MTP,
    ),
    "switch_transformers:decoder": _switch("decoder", "encoder"),
    "switch_transformers:encoder": _switch("encoder", "decoder"),
    "t5": T5,
    "t5gemma2_decoder": Row(GEMMA3),
    "t5gemma2_text": Row(GEMMA3),
    "t5_gemma_module": Row(GEMMA2),
    "udop": T5,
    "ultrabert": Row((_layer_types(Listed("attention_windows"), _every(None, 3)),)),
    "unlimited_ocr_text": Row((_layer_types(), _mlp_types(_first_dense("first_k_dense_replace", 1)))),
    "vaultgemma": Row(GEMMA2),
    "xlstm": Row(proportional=("num_blocks",)),
    "zamba": Row(
        (Attribute("layers_block_type", (Listed("layers_block_type"), Formula(_zamba))),),
        beside=("attn_layer_period", "attn_layer_offset"),
        shared_module="shared_transf",
    ),
    "zamba2": Row(
        (
            Attribute("layers_block_type", (Listed("layers_block_type"),)),
            Attribute("hybrid_layer_ids", (Indices("hybrid_layer_ids", "hybrid", LINEAR),)),
            _position(
                "hybrid layers",
                _hybrid_rank,
                "the shared transformers and their adapters are handed out by the order of the hybrid layers, so these must all "
                "stay, once each and in order",
            ),
        ),
        beside=("num_mem_blocks",),
    ),
    "zaya": Row((_layer_types(_all("hybrid")), FIRST_ONLY)),
}

# What the whole model adds when its text decoder lies in a larger one; keyed by the root's model type.
ROOT_ROWS: Mapping[str, Row] = {
    "cohere_compass": Row((DEEPSTACK,)),
    "cosmos3_omni": Row((DEEPSTACK,)),
    "granite4_vision": Row(
        (
            _position(
                "deepstack_layer_map",
                _image_layers_listed,
                "image features enter at fixed layers (deepstack_layer_map, spatial_target_layers), which must keep their numbers",
            ),
        ),
        beside=("deepstack_layer_map", "spatial_target_layers"),
    ),
    "granite_docling": Row((DEEPSTACK,)),
    "qwen3_omni_moe": Row((DEEPSTACK,)),
    "qwen3_omni_moe_thinker": Row((DEEPSTACK,)),
    "qwen3_vl": Row((DEEPSTACK,)),
    "qwen3_vl_moe": Row((DEEPSTACK,)),
}
