"""Encoders, and models of an encoder and a decoder. "type:role" is for a type whose two stacks differ."""

from collections.abc import Mapping

from solar_upscale.architecture.attributes import (
    BY_DEPTH,
    BY_PARITY,
    FIRST_ONLY,
    GEMMA2,
    GEMMA3,
    NEOMME_TYPES,
    by_position,
    every,
    layer_types,
    listed,
    neomme_ends,
    searched,
)
from solar_upscale.architecture.encodings import Constant, Listed
from solar_upscale.architecture.formulas import nth_sparse, spread_sparse
from solar_upscale.architecture.rules import Attribute, Row

__all__ = ["ENCODERS"]

T5 = Row((FIRST_ONLY,))


def _nllb_moe(role: str, other: str) -> Row:
    step = f"{role}_sparse_step"
    return Row(
        (
            searched(
                (step,),
                nth_sparse(step),
                lambda view, vector: [(k,) for k in range(len(vector) + 2)],
                "this model says only how often its sparse layers come",
            ),
        ),
        beside=(f"{other}_sparse_step",),
    )


def _switch(role: str, other: str) -> Row:
    field = f"num_sparse_{role}_layers"
    return Row(
        (
            FIRST_ONLY,
            searched(
                (field,),
                spread_sparse(field),
                lambda view, vector: [(k,) for k in range(len(vector) + 1)],
                "this model says only how many of its layers are sparse, evenly spread",
            ),
        ),
        beside=(f"{role}_sparse_step", f"num_sparse_{other}_layers", f"{other}_sparse_step"),
    )


ENCODERS: Mapping[str, Row] = {
    "albert": Row(refusal="one set of weights serves all its layers, so there is none to repeat, drop or move"),
    "esm": Row((), gathers=(("contact_head.regression.weight", 1),)),
    "esmc": Row((BY_DEPTH,)),
    "funnel": Row(beside=("block_sizes", "block_repeats")),
    "led:decoder": Row(beside=("attention_window",)),
    "led:encoder": Row((listed("attention_window", scalar=True),)),
    "longformer": Row((listed("attention_window", scalar=True),)),
    "longt5": T5,
    "markuplm": Row(beside=("max_depth",)),
    "modernbert": Row((layer_types(every("global_attn_every_n_layers", 3, phase=0)), FIRST_ONLY)),
    "modernbert-decoder": Row((layer_types(every("global_attn_every_n_layers", 3, phase=0)), FIRST_ONLY)),
    "neomme": Row(
        (
            NEOMME_TYPES,
            by_position(
                "value embeddings",
                neomme_ends,
                "value embeddings enter at the first and the last full-attention layer, so those must stay "
                "first and last",
            ),
            Attribute(
                "residual_multiplier",
                (Constant("residual_multiplier", lambda view, n: (2 * n) ** -0.5),),
            ),
        )
    ),
    "mt5": T5,
    "nllb-moe:decoder": _nllb_moe("decoder", "encoder"),
    "nllb-moe:encoder": _nllb_moe("encoder", "decoder"),
    "pegasus_x:decoder": Row(),
    "pegasus_x:encoder": Row((BY_PARITY,)),
    "pix2struct_text_model": T5,
    "reformer": Row(
        (listed("attn_layers"),),
    ),
    "switch_transformers:decoder": _switch("decoder", "encoder"),
    "switch_transformers:encoder": _switch("encoder", "decoder"),
    "t5": T5,
    "t5gemma2_decoder": Row(GEMMA3),
    "t5gemma2_text": Row(GEMMA3),
    "t5_gemma_module": Row(GEMMA2),
    "udop": T5,
    "ultrabert": Row((layer_types(Listed("attention_windows"), every(None, 3)),)),
}
