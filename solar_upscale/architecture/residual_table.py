"""Where the blocks of each architecture write into the residual stream. Data only; residual.py reads it.

Every entry is proved by tests/models/test_residual_sweep.py on a random model: a block whose writers are zero passes
its input on bit for bit, and a factor on the writers is that factor on everything the block adds.
"""

from dataclasses import dataclass

__all__ = ["BLOCKS", "READERS", "REFUSED", "REFUSED_WHEN", "Block"]


@dataclass(frozen=True, slots=True)
class Block:
    """The writers of one kind of block, as module paths within a layer; ``*`` stands for a number.

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


_EXPERTS = "mlp.experts.*.down_proj|mlp.experts.down_proj"
_MLP = f"{_EXPERTS}|mlp.down_proj"
_SHARED = "mlp.shared_experts.down_proj|mlp.shared_expert.down_proj|mlp.shared_mlp.down_proj"
_INNER = ("self_attn.o_proj", "mlp.down_proj", "mlp.experts.*.down_proj", "mlp.experts.down_proj", *_SHARED.split("|"))

_LLAMA = Block(("self_attn.o_proj|linear_attn.out_proj|self_attn.to_out", _MLP), optional=(_SHARED,))
_MIXTRAL = Block(("self_attn.o_proj", "block_sparse_moe.experts.*.w2|mlp.experts.down_proj"))
_POST_NORM = Block(("post_attention_layernorm", "post_feedforward_layernorm"), inner=_INNER)
_FAIRSEQ = Block(("self_attn.out_proj|self_attn.output", "fc2"), optional=("encoder_attn.out_proj",))
_T5 = Block(
    (
        "layer.*.SelfAttention.o|layer.*.LocalSelfAttention.o|layer.*.TransientGlobalSelfAttention.o",
        "layer.*.mlp.experts.expert_*.wo|layer.*.mlp.wo|layer.*.DenseReluDense.wo",
    ),
    optional=("layer.*.EncDecAttention.o",),
)
_GRANITE_MOE = Block(
    (
        "self_attn.o_proj|mamba.out_proj",
        "block_sparse_moe.output_linear|block_sparse_moe.experts.down_proj|shared_mlp.output_linear",
    ),
    optional=("shared_mlp.output_linear",),
)
_GPT2 = Block(
    ("attn.c_proj", "mlp.c_proj"), optional=("crossattention.c_proj",), inner=("attn.bias", "attn.masked_bias")
)
_DENSE = Block(
    ("self_attn.dense|self_attention.dense|attention.dense", "mlp.dense_4h_to_h"),
    inner=("attention.bias", "attention.masked_bias"),
)
_GPTJ = Block(("attn.out_proj", "mlp.fc_out"), inner=("attn.bias", "attn.causal_mask"))
_BERT = Block(("attention.output.dense", "output.dense"), optional=("crossattention.output.dense",))
_MODERNBERT = Block(("attn.Wo", "mlp.Wo"))
_MAMBA = Block(("mixer.out_proj",))
_GEMMA4 = Block(
    ("post_attention_layernorm", "post_feedforward_layernorm"),
    optional=("post_per_layer_input_norm",),
    inner=("self_attn.o_proj", "mlp.down_proj", "experts.down_proj", "experts.*.down_proj", "per_layer_projection"),
    ones=("layer_scalar",),
)
_LFM2 = Block(
    (
        "self_attn.out_proj|conv.out_proj",
        "feed_forward.w2|feed_forward.experts.*.w2|feed_forward.experts.down_proj",
    ),
    inner=("conv.conv",),
)
_LLAMA4 = Block(
    ("self_attn.o_proj", "feed_forward.experts.down_proj|feed_forward.experts.*.down_proj|feed_forward.down_proj"),
    optional=("feed_forward.shared_expert.down_proj",),
)
_JAMBA = Block(
    (
        "self_attn.o_proj|mamba.out_proj",
        "feed_forward.experts.*.down_proj|feed_forward.experts.down_proj|feed_forward.down_proj",
    )
)
_FFN = Block(
    ("self_attn.out_proj", "ffn.fc2|ffn.experts.expert_*.fc2"),
    optional=("encoder_attn.out_proj", "cross_attention.out_proj"),
)

_BY_BLOCK: tuple[tuple[Block, str], ...] = (
    (
        _LLAMA,
        "apertus arcee axk2 bitnet cohere cohere2 cohere2_moe cohere_compass_text cwm deepseek_v2 deepseek_v3 "
        "deepseek_v32 diffllama dots1 dots3_note_text ernie4_5 ernie4_5_moe esmc eurobert exaone_moe flint gemma "
        "glm glm4_moe glm4_moe_lite glm4v_moe_text glm_moe_dsa gpt_oss granite granite_swa helium "
        "hunyuan_v1_dense hunyuan_v1_moe hy_v3 hy_v4 internlm3 iquestcoder jais2 kimi_k2 laguna llama mellum "
        "mimo_v2_flash minicpm3 ministral ministral3 mistral mistral4 nemotron olmo olmoe paddleocr_vl_text phi3 "
        "phi4_multimodal qwen2 qwen2_5_omni_text qwen2_5_vl qwen2_5_vl_text qwen2_moe qwen2_vl qwen2_vl_text "
        "qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen3_omni_moe_text qwen3_vl_moe_text "
        "qwen3_vl_text seed_oss smollm3 solar_open stablelm ultrabert vaultgemma youtu",
    ),
    (Block(("self_attn.o_proj", f"{_MLP}|mlp.experts.fc2"), optional=(_SHARED,)), "aria_text"),
    (
        Block(
            ("self_attn.o_proj|attn.wo_ud", f"{_MLP}|mlp.experts.w2_weight"),
            optional=("mlp.shared_experts.down_proj|mlp.shared_experts.shared_w2_weight",),
        ),
        "inkling_text",
    ),
    (
        Block(
            ("self_attn.o_proj|attention.dense", f"{_MLP}|block_sparse_moe.experts.*.w2|block_sparse_moe.down_proj"),
            optional=(_SHARED, "block_sparse_moe.shared_experts.down_proj"),
        ),
        "bailing_hybrid kimi_linear minimax_m3_vl_text",
    ),
    (_MIXTRAL, "mixtral phimoe minimax_m2"),
    (Block(_POST_NORM.writers, inner=_INNER, offset=1.0), "gemma2 gemma3_text muse_glimmer_text"),
    (
        Block(
            ("post_self_attn_layernorm", "post_feedforward_layernorm"),
            optional=("post_cross_attn_layernorm",),
            inner=(*_INNER, "cross_attn.o_proj"),
            offset=1.0,
        ),
        "t5_gemma_module t5gemma2_decoder t5gemma2_text",
    ),
    (_POST_NORM, "olmo2 olmo3 exaone4 flex_olmo"),
    (Block(("post_attention_layernorm", "post_mlp_layernorm"), inner=_INNER), "afmoe"),
    (
        Block(("post_self_attn_layernorm|post_attn_norm", "post_mlp_layernorm|post_ffn_norm"), inner=_INNER),
        "glm4 glm4v_text glm_ocr_text kolibri1",
    ),
    (
        Block(
            ("self_attn.o_proj", f"moe.down_proj|{_MLP}"),
            optional=("share_expert.down_proj|mlp.shared_experts.down_proj",),
        ),
        "step3p5",
    ),
    (
        Block(
            (
                "self_attn.o_proj|attention.wo|attention.o_proj",
                f"experts.*.w2|feed_forward.w2|feed_forward.down_proj|{_MLP}",
            ),
            optional=("mlp.shared_experts.down_proj|shared_experts.w2|shared_experts.down_proj",),
        ),
        "mistral_large4_text",
    ),
    (
        Block(("post_norm1|self_attn.o_proj", "post_norm2|mlp.down_proj"), inner=_INNER),
        "hyperclovax",
    ),
    (
        Block(
            (
                "linear_attn.o_proj|post_attention_layernorm|feedforward_layer_norm",
                "post_feedforward_layernorm|mlp.down_proj",
            ),
            inner=_INNER,
        ),
        "olmo_hybrid",
    ),
    (Block(("self_attn.o_proj", f"mlp.post_mlp_layernorm|post_mlp_layernorm|{_MLP}"), inner=_INNER), "axk1"),
    (_GEMMA4, "gemma4_text gemma4_unified_text"),
    (
        Block(
            ("post_operator_norm", "post_ffn_norm"),
            inner=("conv.conv", "conv.out_proj", "self_attn.o_proj", "feed_forward.w2"),
        ),
        "lfm3",
    ),
    (_FAIRSEQ, "opt biogpt xglm bigbird_pegasus blenderbot mbart pegasus pegasus_x m2m_100 whisper"),
    (_FFN, "kosmos_2_5_text_model seamless_m4t seamless_m4t_v2 nllb-moe"),
    (_T5, "t5 mt5 umt5 longt5 switch_transformers"),
    (_GRANITE_MOE, "granitemoe granitemoeshared granitemoe_swa granitemoehybrid"),
    (_GPT2, "gpt2 gpt-sw3 gpt_bigcode"),
    (Block(("attn.attention.out_proj", "mlp.c_proj"), inner=("attn.attention.bias",)), "gpt_neo"),
    (Block(("self_attn.o_proj", "mlp.c_proj")), "starcoder2"),
    (_DENSE, "bloom falcon gpt_neox gpt_neox_japanese persimmon fuyu"),
    (_GPTJ, "gptj codegen"),
    (_BERT, "megatron-bert roberta-prelayernorm xlm-roberta-xl esm"),
    (_MODERNBERT, "modernbert modernbert-decoder"),
    (_MAMBA, "mamba mamba2 falcon_mamba"),
    (
        Block(
            (
                "mixer.out_proj|mixer.o_proj|mixer.fc2_latent_proj|mixer.experts.*.down_proj|mixer.experts.down_proj"
                "|mixer.down_proj",
            ),
            optional=("mixer.shared_experts.down_proj",),
            inner=("mixer.experts.*.down_proj", "mixer.experts.down_proj"),
        ),
        "nemotron_h",
    ),
    (Block(("feed_forward.down_proj", "mamba.out_proj", "self_attn.o_proj")), "falcon_h1"),
    (_JAMBA, "jamba bamba"),
    (_LFM2, "lfm2 lfm2_moe"),
    (_LLAMA4, "llama4_text"),
    (Block(("self_attn.dense", "mlp.fc2")), "phi"),
    (Block(("attn.out_proj", "ffn.down_proj")), "mpt"),
    (Block(("self_attn.o_proj", "mlp.fc2")), "nanochat"),
    (Block(("self_attn.o_proj|self_attn.to_out", "mlp.fc2|mlp.down_proj")), "cosmos3_edge_text"),
    (Block(("self_attn.output_projection.o_proj", "mlp.down_proj")), "neomme"),
    (Block(("self_attn.o_proj.linear", "mlp.fc2")), "moshi"),
    (Block(("norm_attn_norm.attn.out_proj", "ffn.experts.mlp.w2")), "dbrx"),
    (Block(("mlstm_layer.out_proj", "ffn.proj_down")), "xlstm"),
    (Block(("self_attn.o_proj|attn.o_proj", "mlp.down_proj")), "hrm_text"),
    (Block(("temporal_block.o_proj|temporal_block.linear_out", "mlp_block.down_proj")), "recurrent_gemma"),
    (Block(("multi_head_attention.dense", "ffn.2"), inner=("ffn.0",)), "ctrl"),
    (Block(("self_att.self_attention.attention_out", "ffn.ffn.w_out")), "cpmant"),
    (
        Block(
            ("self_attention.experts.output_linear", "mlp.output_linear", "self_attention.experts.bias", "mlp.bias")
        ),
        "jetmoe",
    ),
    (Block(("self_attn.o_proj|cross_attn.o_proj", "mlp.down_proj")), "mllama_text_model"),
    (
        Block(("self_attn.o_proj", "mlp.down_proj"), ones=("input_residual", "post_attention_residual")),
        "doge",
    ),
)  # fmt: skip

BLOCKS: dict[str, Block] = {name: block for block, names in _BY_BLOCK for name in names.split()}

_AFTER = "its blocks normalise the stream after adding to it, so no factor on a projection makes one an identity"
_REFUSED_BY_REASON: tuple[tuple[str, str], ...] = (
    (
        _AFTER,
        "albert bart bert bert-generation big_bird blenderbot-small camembert convbert data2vec-text deberta "
        "deberta-v2 distilbert electra ernie flaubert fnet fsmt funnel git gte ibert jina_embeddings_v3 layoutlm "
        "led longformer luke marian minimax mobilebert mpnet mra mvp nomic_bert nystromformer openai-gpt plbart "
        "prophetnet rembert roberta roc_bert roformer squeezebert tapas trocr xlm xlm-roberta xlnet xmod yoso",
    ),
    ("its stream is several streams that each block mixes (hyper-connections or AltUp)", "deepseek_v4 gemma3n_text"),
    ("each addition weighs the stream by the layer's number", "beam"),
    ("its blocks scale and shift the stream, and the router hands a state from block to block", "zaya"),
    ("its identity experts add their own input, which no projection scales", "longcat_flash"),
    ("its blocks attend over the outputs of earlier blocks", "inkling2_text"),
    ("its first block normalises the stream before adding to it", "rwkv"),
)
# By model_type, or by model_type and the stack's role.
REFUSED: dict[str, str] = {name: reason for reason, names in _REFUSED_BY_REASON for name in names.split()}
REFUSED["pegasus_x encoder"] = "its blocks carry a second stream of global tokens"

# Architectures whose answer depends on the config: a field, the value that refuses (absent: the other one), and why.
REFUSED_WHEN: dict[str, tuple[str, bool, str]] = {
    "opt": ("do_layer_norm_before", False, _AFTER),
    "bloom": ("apply_residual_connection_post_layernorm", True, "its blocks add to the normalised stream"),
}

# Name components of tensors that read the stream or work inside a block; nothing below them is added to the stream.
READERS: frozenset[str] = frozenset(
    """
    q_proj k_proj v_proj qkv_proj kv_proj gqkv_proj q_a_proj q_b_proj kv_a_proj_with_mqa kv_b_proj q_gate_proj
    q k v query key value query_key_value c_attn Wqkv Wq Wk Wv wq_du wk_dv wv_dv wr_du project_q project_k project_v
    to_q to_k to_v
    a_proj b_proj f_proj g_proj r_proj f_a_proj f_b_proj g_a_proj g_b_proj forget_gate rel_logits_proj
    q_conv1d k_conv1d v_conv1d conv1d conv_1d k_sconv v_sconv attn_sconv mlp_sconv indexer
    in_proj in_proj_a in_proj_b in_proj_ba in_proj_z in_proj_qkv in_proj_qkvz A_log D
    dt_proj dt_proj_weight dt_proj_bias x_proj x_proj_weight mup_vector
    linear_x linear_y rg_lru fgate_preact igate_preact ogate_preact
    gate_proj up_proj gate_up_proj fc1 fc_in c_fc dense_h_to_4h intermediate input_linear proj_up proj_up_gate
    wq wk wq_b wkv_a_with_mqa wkv_b fc1_latent_proj attn_hc ffn_hc hc_pre linear_gate
    w1 w3 v1 w13_weight shared_w13_weight w_in Wi wi wi_0 wi_1 embed_positions relative_attention_bias
    gate router shared_expert_gate per_layer_input_gate moe_statics input_layernorm post_attention_layernorm
    """.split()  # noqa: SIM905 - a list of words reads best as words
)
