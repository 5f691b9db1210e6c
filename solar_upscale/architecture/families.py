"""The model types whose layers are only counted, the models that hold a text decoder, and where counts are written.

Together with the table in fields/ this is all that the package knows about model types; the rest is refused.
"""

from collections.abc import Mapping

__all__ = [
    "COMPOSITE",
    "COUNTED",
    "COUNT_FIELDS",
    "COUNT_NAMES",
    "DEFAULT_TEXT_TYPE",
    "MTP_FIELDS",
    "PARALLEL",
    "TEXT_SECTIONS",
    "count_names",
]

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


def count_names(model_type: str, role: str) -> tuple[str, ...]:
    """The names under which a section of this type may count a stack of this role, the one to write first."""
    own = COUNT_FIELDS.get(model_type, {}).get(role)
    return own or (COUNT_NAMES if role in ("decoder", "encoder") else (*COUNT_NAMES, "depth"))


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

# The text model of a composite whose section does not name its type, or that keeps the text model's fields at the top,
# as published configs often do.
DEFAULT_TEXT_TYPE: Mapping[str, str] = {
    "aria": "aria_text", "audioflamingo3": "qwen2", "aya_vision": "cohere2", "blip": "blip_text_model",
    "blip-2": "opt", "cohere2_vision": "cohere2", "cohere_compass": "cohere_compass_text",
    "cosmos3_edge": "cosmos3_edge_text", "cosmos3_omni": "qwen3_vl_text", "deepseek_ocr2": "deepseek_ocr2_text",
    "deepseek_vl": "llama", "deepseek_vl_hybrid": "llama", "diffusion_gemma": "diffusion_gemma_text",
    "dots3_note": "dots3_note_text", "emu3": "emu3_text_model", "encoder-decoder": "bert",
    "ernie4_5_vl_moe": "ernie4_5_vl_moe_text", "exaone4_5": "exaone4", "fast_vlm": "qwen2", "florence2": "bart",
    "fuyu": "persimmon", "gemma3": "gemma3_text", "gemma3n": "gemma3n_text", "gemma4": "gemma4_text",
    "gemma4_unified": "gemma4_unified_text", "gemma4_unified_assistant": "gemma4_unified_text",
    "glm46v": "glm4v_text", "glm4v": "glm4v_text", "glm4v_moe": "glm4v_moe_text", "glm5_next": "glm5_next_text",
    "glm_ocr": "glm_ocr_text", "glmasr": "llama", "glmga": "glm4v_text", "got_ocr2": "qwen2",
    "granite4_vision": "granite4_vision_text", "granite_docling": "granite_docling_text", "granite_speech": "granite",
    "granite_speech_plus": "granite", "hunyuan_vl": "hunyuan_vl_text", "hyperclovax_vision_v2": "hyperclovax",
    "idefics2": "mistral", "idefics3": "llama", "inkling2": "inkling2_text", "inkling_mm_model": "inkling_text",
    "instructblip": "opt", "instructblipvideo": "opt", "internvl": "qwen2", "janus": "llama",
    "kimi_k25": "deepseek_v3", "kosmos-2": "kosmos_2_text_model", "kosmos-2.5": "kosmos_2_5_text_model",
    "lfm2_vl": "lfm2", "lfm3_vl": "lfm3", "lighton_ocr": "qwen3", "llama4": "llama4_text", "llava": "llama",
    "llava_next": "llama", "llava_next_video": "llama", "llava_onevision": "qwen2", "minicpm_ocr": "qwen3_5_text",
    "minicpmv4_6": "qwen3_5_text", "minicpmv4_7": "qwen3_5_text", "minimax_m3_vl": "minimax_m3_vl_text",
    "mistral3": "mistral", "mistral_large4": "mistral_large4_text", "mllama": "mllama_text_model",
    "modernvbert": "modernbert", "molmo2": "molmo2_text", "moss_transcribe_diarize": "qwen3",
    "muse_glimmer": "muse_glimmer_text", "muse_spark": "muse_spark_text", "musicflamingo": "qwen2",
    "musicgen": "musicgen_decoder", "musicgen_melody": "musicgen_melody_decoder", "nemo_speechlm": "nemotron_h",
    "nemotron_h_omni": "nemotron_h", "ovis2": "qwen2", "paddleocr_vl": "paddleocr_vl_text", "paligemma": "gemma",
    "perception_lm": "llama", "pi0": "gemma", "pix2struct": "pix2struct_text_model", "pp_chart2table": "qwen2",
    "pp_formulanet": "pp_formulanet_text", "qianfan_ocr": "qwen3", "qwen2_5_omni": "qwen2_5_omni_text",
    "qwen2_5_omni_thinker": "qwen2_5_omni_text", "qwen2_5_vl": "qwen2_5_vl_text", "qwen2_audio": "qwen2",
    "qwen2_vl": "qwen2_vl_text", "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text", "qwen3_asr": "qwen3",
    "qwen3_omni_moe": "qwen3_omni_moe_text", "qwen3_omni_moe_thinker": "qwen3_omni_moe_text",
    "qwen3_vl": "qwen3_vl_text", "qwen3_vl_moe": "qwen3_vl_moe_text", "qwen4_exp": "qwen4_exp_text",
    "shieldgemma2": "gemma3_text", "smolvlm": "llama", "step3p7": "step3p5", "t5gemma": "t5_gemma_module",
    "t5gemma2": "t5gemma2_decoder", "ultravbert": "ultrabert", "unlimited_ocr": "unlimited_ocr_text",
    "vibevoice_asr": "qwen2", "video_llama_3": "qwen2", "video_llava": "llama", "vipllava": "llama",
    "vision-encoder-decoder": "bert", "voxtral": "llama", "voxtral_realtime": "voxtral_realtime_text",
}  # fmt: skip
