"""The model types whose layers are only counted, the models that hold a text decoder, and where counts are written.

Together with the table in fields/ this is all that the package knows about model types; the rest is refused.
"""

from collections.abc import Mapping

__all__ = ["COMPOSITE", "COUNTED", "COUNT_FIELDS", "COUNT_NAMES", "MTP_FIELDS", "PARALLEL", "TEXT_SECTIONS"]

# Layers are alike but for their weights; a new depth changes a count and nothing else.
COUNTED: frozenset[str] = frozenset(
    """
    apertus arcee aria_text bart bert bert-generation big_bird bigbird_pegasus biogpt bitnet blenderbot
    blenderbot-small blip_text_model bloom blt_global_transformer camembert canine chameleon codegen cohere
    convbert cosmos3_edge_text cpmant ctrl data2vec-text dbrx deberta deberta-v2 distilbert doge electra
    emu3_text_model ernie ernie4_5 eurobert falcon falcon_h1 falcon_mamba flaubert flex_olmo fnet fsmt gemma git
    glm glm4 glm4v_text glm_ocr_text gpt_bigcode gpt_neox gptj granite granite4_vision_text granite_docling_text
    granitemoe granitemoeshared gte helium hunyuan_v1_dense hunyuan_vl_text hyperclovax ibert internlm3
    iquestcoder jais2 jetmoe jina_embeddings_v3 kosmos_2_5_text_model kosmos_2_text_model layoutlm layoutlmv3
    lilt llama luke m2m_100 mamba mamba2 marian mbart megatron-bert ministral3 mistral mixtral mobilebert moshi
    mpnet mpt mra musicgen_decoder musicgen_melody_decoder mvp nanochat nemotron nomic_bert nystromformer olmo
    olmo2 olmoe openai-gpt opt paddleocr_vl_text pegasus persimmon phi phi3 phi4_multimodal phimoe plbart
    pp_formulanet_text prophetnet qwen3_vl_text rembert roberta roberta-prelayernorm roc_bert roformer
    seamless_m4t seamless_m4t_v2 seed_oss solar_open squeezebert stablelm starcoder2 t5gemma2_encoder tapas
    trocr umt5 whisper xglm xlm xlm-roberta xlm-roberta-xl xlnet xmod yoso youtu voxtral_realtime_text
    """.split()  # noqa: SIM905 (a list of 150 quoted names does not read better)
)

# Models around a text model with a config of its own: known as far as that text model is.
COMPOSITE: frozenset[str] = frozenset(
    """
    aria audioflamingo3 aya_vision blip blip-2 blt cohere2_vision cohere_compass cosmos3_edge cosmos3_omni
    deepseek_ocr2 deepseek_vl deepseek_vl_hybrid diffusion_gemma dots3_note emu3 encoder-decoder ernie4_5_vl_moe
    exaone4_5 fast_vlm florence2 fuyu gemma3 gemma3n gemma4 gemma4_assistant gemma4_unified
    gemma4_unified_assistant glm46v glm4v glm4v_moe glm5_next glm_ocr glmasr glmga got_ocr2 granite4_vision
    granite_docling granite_speech granite_speech_plus hunyuan_vl hyperclovax_vision_v2 idefics2 idefics3
    inkling2 inkling_mm_model instructblip instructblipvideo internvl internvl_chat janus kimi_k25 kimi_vl
    kosmos-2 kosmos-2.5 lfm2_vl lfm3_vl lighton_ocr llama4 llava llava_next llava_next_video llava_onevision
    minicpm_ocr minicpmv4_6 minicpmv4_7 minimax_m3_vl mistral3 mistral_large4 mllama modernvbert molmo2
    moss_transcribe_diarize muse_glimmer muse_spark musicflamingo musicgen musicgen_melody nemo_speechlm
    nemotron_h_omni ovis2 paddleocr_vl paligemma perception_lm pi0 pix2struct pp_chart2table pp_formulanet
    qianfan_ocr qwen2_5_omni qwen2_5_omni_thinker qwen2_5_vl qwen2_audio qwen2_vl qwen3_5 qwen3_5_moe qwen3_asr
    qwen3_omni_moe qwen3_omni_moe_thinker qwen3_vl qwen3_vl_moe qwen4_exp shieldgemma2 smolvlm step3p7 t5gemma
    t5gemma2 ultravbert unlimited_ocr vibevoice_asr video_llama_3 video_llava vipllava vision-encoder-decoder
    voxtral voxtral_realtime
    """.split()  # noqa: SIM905 (as above)
)

# The names under which a config says how many layers there are.
COUNT_NAMES = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "layers", "decoder_layers", "encoder_layers",
    "num_decoder_layers", "num_encoder_layers",
)  # fmt: skip

# The names under which a config counts the next-token layers that stand after the last layer, or beside the stack.
MTP_FIELDS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules")

_BART = {"encoder": ("encoder_layers", "num_hidden_layers"), "decoder": ("decoder_layers",)}
_T5 = {"encoder": ("num_layers", "num_hidden_layers"), "decoder": ("num_decoder_layers",)}
_DECODER_FIRST = {"encoder": ("encoder_layers",), "decoder": ("decoder_layers", "num_hidden_layers")}

# Which count belongs to which stack, where one config holds the counts of two. In the first of the names the count is
# written when the config leaves it out.
COUNT_FIELDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "fsmt", "led", "m2m_100", "marian", "mbart",
            "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "whisper",
        ),
        _BART,
    ),
    **dict.fromkeys(("t5", "mt5", "umt5", "longt5", "switch_transformers", "udop"), _T5),
    **dict.fromkeys(("seamless_m4t", "seamless_m4t_v2", "trocr", "pp_formulanet_text"), _DECODER_FIRST),
    "funnel": {"decoder": ("num_decoder_layers",)},
    "prophetnet": {"encoder": ("num_encoder_layers",), "decoder": ("num_decoder_layers",)},
    "hrm_text": {"decoder": ("num_layers_per_stack",)},
    "longcat_flash": {"decoder": ("num_layers",)},
    "kosmos_2_text_model": {"decoder": ("layers",)},
    "kosmos_2_5_text_model": {"decoder": ("layers",)},
}  # fmt: skip

# Modules beside each other that share one numbering, by the endings of their prefixes.
PARALLEL: Mapping[str, tuple[str, ...]] = {
    "flaubert": ("attentions", "ffns", "layer_norm1", "layer_norm2"),
    "hrm_text": ("H_module.layers", "L_module.layers"),
    "xlm": ("attentions", "ffns", "layer_norm1", "layer_norm2"),
}

# Where a config keeps its text decoder, best first.
TEXT_SECTIONS: tuple[tuple[str, ...], ...] = (
    ("text_config",),
    ("llm_config",),
    ("language_config",),
    ("thinker_config", "text_config"),
    ("vlm_config", "text_config"),
    ("decoder", "text_config"),
    ("decoder",),
)
