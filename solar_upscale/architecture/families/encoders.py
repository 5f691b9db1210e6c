"""Encoders, and decoders built like encoders."""

from solar_upscale.architecture.attribute import Attribute
from solar_upscale.architecture.blocks import BERT_READERS, LLAMA_BLOCK, NORM_AFTER
from solar_upscale.architecture.encodings.common import Listed
from solar_upscale.architecture.encodings.numbers import Constant
from solar_upscale.architecture.record import Block, ModelType, named
from solar_upscale.architecture.shared_attributes import (
    BY_DEPTH,
    FIRST_ONLY,
    NEOMME_TYPES,
    every,
    layer_types,
    neomme_ends,
    position_dependent,
)
from solar_upscale.architecture.universal_attributes import per_layer_list

__all__ = ["TYPES"]

PRE_NORM_BERT = Block(("attention.output.dense", "output.dense"), optional=("crossattention.output.dense",))
MODERNBERT_BLOCK = Block(("attn.Wo", "mlp.Wo"))

BERT_GENERATION = ModelType("bert-generation", no_factor=NORM_AFTER)
DEBERTA = ModelType("deberta", harmless=("pos_att_type",), no_factor=NORM_AFTER)
FLAUBERT = ModelType("flaubert", parallel=("attentions", "ffns", "layer_norm1", "layer_norm2"), no_factor=NORM_AFTER)
MEGATRON_BERT = ModelType("megatron-bert", block=PRE_NORM_BERT, readers=BERT_READERS)

TYPES: tuple[ModelType, ...] = (
    ModelType(
        "albert",
        refusal="all layers share one set of weights, so there is nothing to repeat, drop or move; "
        "num_hidden_layers alone sets how often they run",
        no_factor=NORM_AFTER,
    ),
    ModelType("bert", harmless=("pooler_num_fc_layers",), no_factor=NORM_AFTER),
    *named(
        BERT_GENERATION,
        "bert-generation camembert convbert data2vec-text distilbert electra ernie fnet git gte ibert "
        "jina_embeddings_v3 layoutlm luke mobilebert mpnet nomic_bert nystromformer rembert roberta roc_bert "
        "roformer squeezebert xlm-roberta xlnet xmod yoso",
    ),
    ModelType("big_bird", harmless=("attention_type", "block_size", "num_random_blocks"), no_factor=NORM_AFTER),
    *named(DEBERTA, "deberta deberta-v2"),
    ModelType("esm", gathers=(("contact_head.regression.weight", 1),), block=PRE_NORM_BERT, readers=BERT_READERS),
    ModelType("esmc", (BY_DEPTH,), block=LLAMA_BLOCK),
    ModelType("eurobert", block=LLAMA_BLOCK),
    *named(FLAUBERT, "flaubert xlm"),
    ModelType("funnel", harmless=("attention_type", "block_sizes", "block_repeats"), no_factor=NORM_AFTER),
    ModelType("longformer", (per_layer_list("attention_window", scalar=True),), no_factor=NORM_AFTER),
    ModelType("markuplm", harmless=("max_depth",)),
    *named(MEGATRON_BERT, "megatron-bert roberta-prelayernorm xlm-roberta-xl"),
    ModelType(
        "modernbert",
        (layer_types(every("global_attn_every_n_layers", 3, phase=0)), FIRST_ONLY),
        block=MODERNBERT_BLOCK,
        readers=("Wi", "Wqkv"),
    ),
    ModelType(
        "modernbert-decoder",
        (layer_types(every("global_attn_every_n_layers", 3, phase=0)), FIRST_ONLY),
        block=MODERNBERT_BLOCK,
        readers=("Wi",),
    ),
    ModelType("mra", harmless=("block_per_row",), no_factor=NORM_AFTER),
    ModelType(
        "neomme",
        (
            NEOMME_TYPES,
            position_dependent(
                "value embeddings",
                neomme_ends,
                "value embeddings are added at the first and the last full-attention layer, so these must stay the "
                "first and the last",
            ),
            Attribute(
                "residual_multiplier",
                (Constant("residual_multiplier", lambda view, n: (2 * n) ** -0.5),),
            ),
        ),
        required_kinds=("full_attention",),
        block=Block(("self_attn.output_projection.o_proj", "mlp.down_proj")),
    ),
    ModelType("reformer", (per_layer_list("attn_layers"),)),
    ModelType("tapas", harmless=("aggregation_labels", "type_vocab_sizes"), no_factor=NORM_AFTER),
    ModelType("ultrabert", (layer_types(Listed("attention_windows"), every(None, 3)),), block=LLAMA_BLOCK),
)
