"""The blocks that several families share: where they write into the residual stream, and what only reads it.

Every entry is tested on a random model of each type: with its writers set to zero, a block passes its input on bit for
bit; a factor on the writers scales everything the block adds by that factor.
"""

from solar_upscale.architecture.record import Block, NoFactor

__all__ = [
    "BERT_READERS", "DELTA_CONV", "FAIRSEQ", "GRANITE_MOE", "INDEXER", "INNER", "LATENT", "LLAMA_BLOCK",
    "MIXTRAL_BLOCK", "MLP", "NORMALISES_AFTER", "NORM_AFTER", "POST_NORM", "READERS", "SHARED", "STATE_SPACE",
]  # fmt: skip

# Projections to queries, keys and values and into an MLP: in every type another projection comes after them.
READERS: frozenset[str] = frozenset({"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "gate_up_proj"})

# What reads the stream in several types: compressed queries and keys, indexers of sparse attention, the convolutions
# of a delta rule, state-space layers, and attention and MLP under BERT's names.
LATENT = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
INDEXER = ("indexer", "wk", "wq_b")
DELTA_CONV = ("q_conv1d", "k_conv1d", "v_conv1d")
STATE_SPACE = ("in_proj", "conv1d", "x_proj", "dt_proj", "A_log")
BERT_READERS = ("query", "key", "value", "intermediate")

_EXPERTS = "mlp.experts.*.down_proj|mlp.experts.down_proj"
MLP = f"{_EXPERTS}|mlp.down_proj"
SHARED = "mlp.shared_experts.down_proj|mlp.shared_expert.down_proj|mlp.shared_mlp.down_proj"
INNER = ("self_attn.o_proj", "mlp.down_proj", "mlp.experts.*.down_proj", "mlp.experts.down_proj", *SHARED.split("|"))


LLAMA_BLOCK = Block(("self_attn.o_proj|linear_attn.out_proj|self_attn.to_out", MLP), optional=(SHARED,))
MIXTRAL_BLOCK = Block(("self_attn.o_proj", "block_sparse_moe.experts.*.w2|mlp.experts.down_proj"))
POST_NORM = Block(("post_attention_layernorm", "post_feedforward_layernorm"), inner=INNER)
FAIRSEQ = Block(("self_attn.out_proj|self_attn.output", "fc2"), optional=("encoder_attn.out_proj",))
GRANITE_MOE = Block(
    (
        "self_attn.o_proj|mamba.out_proj",
        "block_sparse_moe.output_linear|block_sparse_moe.experts.down_proj|shared_mlp.output_linear",
    ),
    optional=("shared_mlp.output_linear",),
)

NORMALISES_AFTER = (
    "its blocks normalise the stream after adding to it, so no factor on a projection turns a block into an identity"
)
NORM_AFTER = (NoFactor(NORMALISES_AFTER),)
