"""Configs as published: the new config, or a refusal, without any model."""

import pytest

from solar_upscale.architecture import change_depth, choose_stack, find_stacks
from solar_upscale.errors import UnsupportedError
from solar_upscale.pattern import LayerPattern
from tests.support.architecture_names import DENSE, SPARSE, changed, layers, names, solar


def test_llama_changes_its_count_and_nothing_else():
    config = {
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 32,
        "model_type": "llama",
        "rms_norm_eps": 1e-5,
    }
    change = changed(config, names(32), solar(32))
    assert list(change.config) == list(config)
    assert [(c.path, c.before, c.after) for c in change.changes] == [("num_hidden_layers", 32, 48)]
    assert change.numbering == {"model.layers": tuple(solar(32))}
    assert not change.warnings
    assert config["num_hidden_layers"] == 32


def test_old_style_gemma_3_writes_its_period_out_as_a_list():
    text = {"model_type": "gemma3_text", "num_hidden_layers": 34, "sliding_window_pattern": 6, "sliding_window": 1024}
    config = {"model_type": "gemma3", "text_config": text, "vision_config": {"model_type": "siglip_vision_model"}}
    sources = [*range(24), *range(8, 34)]
    change = changed(config, layers(34, prefix="language_model.model.layers"), sources)
    kinds = change.config["text_config"]["layer_types"]
    assert [i for i, kind in enumerate(kinds) if kind == "full_attention"] == [
        j for j, source in enumerate(sources) if source % 6 == 5
    ]
    assert change.config["text_config"]["num_hidden_layers"] == 50
    assert change.config["text_config"]["sliding_window_pattern"] == 6


def test_shift_by_the_period_needs_no_list():
    text = {"model_type": "gemma3_text", "num_hidden_layers": 12}
    change = changed(text, names(12), [*range(12), *range(6, 12)])
    assert "layer_types" not in change.config


def test_mixtral_experts_are_not_renumbered():
    change = changed(
        {"model_type": "mixtral", "num_hidden_layers": 8, "num_local_experts": 2}, names(8, parts=SPARSE), solar(8)
    )
    assert set(change.numbering) == {"model.layers"}


def deepseek_v3(n=8, dense=3):
    config = {
        "model_type": "deepseek_v3",
        "first_k_dense_replace": dense,
        "moe_layer_freq": 1,
        "num_hidden_layers": n,
        "num_nextn_predict_layers": 1,
        "n_group": 8,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }
    mtp = layers(
        1, parts=("eh_proj.weight", "enorm.weight", "hnorm.weight", "shared_head.head.weight", *SPARSE), start=n
    )
    scales = [f"model.layers.{i}.self_attn.q_proj.weight_scale_inv" for i in range(n)]
    return config, [*layers(dense), *layers(n - dense, parts=SPARSE, start=dense), *mtp, *scales, "lm_head.weight"]


def test_deepseek_v3_next_token_layer_moves_after_the_new_last_layer():
    config, tensors = deepseek_v3()
    change = changed(config, tensors, [*range(8), *range(4, 8)])
    assert change.numbering["model.layers"] == (*range(8), *range(4, 8), 8)
    assert change.config["num_nextn_predict_layers"] == 1
    assert change.config["first_k_dense_replace"] == 3
    assert "from index 8 to 12" in change.warnings[0]


def test_next_token_layer_that_stays_gives_no_warning():
    config, tensors = deepseek_v3()
    assert changed(config, tensors, [*range(8)]).warnings == ()


def test_dropping_next_token_layers_sets_their_count_to_zero():
    config, tensors = deepseek_v3()
    change = changed(config, tensors, [*range(8), *range(4, 8)], drop_mtp=True)
    assert change.numbering["model.layers"] == (*range(8), *range(4, 8))
    assert change.config["num_nextn_predict_layers"] == 0


def test_dense_layer_after_sparse_ones_is_refused_with_a_pattern_that_works():
    config, tensors = deepseek_v3()
    with pytest.raises(UnsupportedError) as caught:
        changed(config, tensors, [*range(6), *range(2, 8)])
    message = str(caught.value)
    assert "first_k_dense_replace" in message
    assert "target layers 6 (source 2)" in message
    assert '--layers "range(0,6)" "range(3,8)"' in message


def test_repeated_dense_layers_in_front_are_counted():
    config, tensors = deepseek_v3()
    assert changed(config, tensors, [0, 1, 2, 1, 2, *range(3, 8)]).config["first_k_dense_replace"] == 5


def test_llama_4_in_published_shape_is_written_out():
    text = {
        "model_type": "llama4_text",
        "num_hidden_layers": 8,
        "interleave_moe_layer_step": 2,
        "no_rope_layers": [],
        "no_rope_layer_interval": 4,
    }
    config = {"model_type": "llama4", "text_config": text, "vision_config": {"num_hidden_layers": 3}}
    tensors = [
        name for i in range(8) for name in layers(1, SPARSE if i % 2 else DENSE, "language_model.model.layers", start=i)
    ]
    sources = [*range(5), *range(2, 8)]
    new = changed(config, tensors, sources).config["text_config"]
    assert new["moe_layers"] == [j for j, s in enumerate(sources) if s % 2]
    assert new["no_rope_layers"] == [int((s + 1) % 4 != 0) for s in sources]
    assert "layer_types" not in new, "the code derives it from no_rope_layers"


def test_list_of_indices_as_long_as_the_stack_is_not_a_per_layer_list():
    config = {
        "model_type": "llama4_text",
        "num_hidden_layers": 8,
        "moe_layers": list(range(8)),
        "no_rope_layers": [1] * 8,
    }
    new = changed(config, names(8, parts=SPARSE), [*range(8), 7, 7]).config
    assert new["moe_layers"] == list(range(10))


def test_kimi_linear_counts_its_layers_from_one():
    config = {
        "model_type": "kimi_linear",
        "num_hidden_layers": 8,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "linear_attn_config": {"full_attn_layers": [4, 8], "kda_layers": [1, 2, 3, 5, 6, 7], "head_dim": 8},
    }
    tensors = [*layers(1), *layers(7, SPARSE, start=1)]
    change = changed(config, tensors, [*range(8), 3, 7, 6])
    inner = change.config["linear_attn_config"]
    assert inner["full_attn_layers"] == [4, 8, 9, 10]
    assert inner["kda_layers"] == [1, 2, 3, 5, 6, 7, 11]
    assert inner["head_dim"] == 8


def test_nemotron_h_permutes_its_string():
    config = {"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*ME-*", "num_hidden_layers": 8}
    change = changed(
        config, layers(8, ("mixer.x.weight", "norm.weight", "mixer.y.weight"), "backbone.layers"), [*range(8), 3, 0]
    )
    assert change.config["hybrid_override_pattern"] == "M-M*ME-**M"
    assert change.config["num_hidden_layers"] == 10


def test_jamba_finds_another_period_or_refuses():
    config = {"model_type": "jamba", "num_hidden_layers": 8, "attn_layer_period": 4, "attn_layer_offset": 1}
    assert changed(config, names(8), [*range(8), 4, 5]).config["attn_layer_period"] == 4
    with pytest.raises(UnsupportedError, match=r"attn_layer_period.*nearest pattern that works"):
        changed(config, names(8), [*range(6), *range(3, 8)])


def test_qwen3_next_keeps_kinds_and_carries_its_mtp_module():
    config = {"model_type": "qwen3_next", "num_hidden_layers": 8, "full_attention_interval": 4, "mlp_only_layers": []}
    tensors = [*names(8, parts=SPARSE), "mtp.layers.0.self_attn.q_proj.weight", "mtp.fc.weight", "mtp.norm.weight"]
    change = changed(config, tensors, [*range(8), 7])
    assert change.config["layer_types"][-1] == "full_attention"
    assert not change.dropped
    assert set(changed(config, tensors, range(8), drop_mtp=True).dropped) == set(tensors[-3:])


def test_next_token_modules_beside_the_layers_are_no_text_decoder_and_can_be_dropped():
    config = {"model_type": "ernie4_5_moe", "num_hidden_layers": 8, "num_nextn_predict_layers": 1}
    beside = [*layers(1, prefix="model.mtp_block"), "model.mtp_emb_norm.0.weight", "model.mtp_linear_proj.0.weight"]
    tensors = [*names(8, parts=SPARSE), *beside]
    assert [stack.role for stack in find_stacks(tensors, config)] == ["decoder", "other"]
    assert not changed(config, tensors, range(8)).dropped
    change = changed(config, tensors, range(8), drop_mtp=True)
    assert set(change.dropped) == set(beside)
    assert change.config["num_nextn_predict_layers"] == 0


def test_minimax_without_its_buffers_is_refused():
    config = {"model_type": "minimax", "num_hidden_layers": 8}
    with pytest.raises(UnsupportedError, match="slope_rate"):
        changed(config, names(8), solar(8))
    assert changed(config, names(8, parts=(*DENSE, "self_attn.slope_rate")), solar(8)).config["num_hidden_layers"] == 12


@pytest.mark.parametrize(
    "model_type", ["falcon_h1", "glm4_moe", "gpt_oss", "mixtral", "phi3", "gpt_neox", "opt", "qwen2", "qwen3"]
)
def test_published_families_are_known(model_type):
    config = {"model_type": model_type, "num_hidden_layers": 8, "first_k_dense_replace": 0, "attn_layer_indices": None}
    assert changed(config, names(8), [*range(6), *range(4, 8)]).config["num_hidden_layers"] == 10


def test_t5_writes_the_decoder_count_that_defaulted_to_the_encoder_count():
    config = {"model_type": "t5", "num_layers": 4}
    parts = ("layer.0.SelfAttention.q.weight", "layer.1.DenseReluDense.wo.weight", "layer.0.layer_norm.weight")
    tensors = layers(4, parts, "encoder.block") + layers(4, parts, "decoder.block")
    stacks = find_stacks(tensors, config)
    encoder = change_depth(config, tensors, choose_stack(stacks, "encoder"), LayerPattern((0, 1, 2, 3, 3), 4))
    assert (encoder.config["num_layers"], encoder.config["num_decoder_layers"]) == (5, 4)
    decoder = change_depth(config, tensors, choose_stack(stacks, "decoder"), LayerPattern((0, 1, 2, 3, 3), 4))
    assert (decoder.config["num_layers"], decoder.config["num_decoder_layers"]) == (4, 5)


def test_encoder_saved_without_its_decoder_is_counted_by_its_own_field():
    parts = ("layer.0.SelfAttention.q.weight", "layer.1.DenseReluDense.wo.weight", "layer.0.layer_norm.weight")
    config = {"model_type": "t5", "architectures": ["T5EncoderModel"], "num_layers": 4, "num_decoder_layers": 4}
    change = changed(config, layers(4, parts, "encoder.block"), [0, 1, 2, 3, 3])
    assert (change.config["num_layers"], change.config["num_decoder_layers"]) == (5, 4)
    config = {
        "model_type": "t5gemma",
        **{part: {"model_type": "t5_gemma_module", "num_hidden_layers": 4} for part in ("encoder", "decoder")},
    }
    change = changed(config, layers(4, prefix="encoder.layers"), [0, 1, 2, 3, 3])
    assert [c.path for c in change.changes] == ["encoder.num_hidden_layers", "encoder.layer_types"]


def test_sliding_window_that_is_enabled_without_a_width_has_no_effect():
    config = {"model_type": "qwen2", "num_hidden_layers": 8, "use_sliding_window": True, "max_window_layers": 4}
    assert "layer_types" in changed(config, names(8), solar(8)).config
    assert "layer_types" not in changed(config | {"sliding_window": None}, names(8), solar(8)).config


@pytest.mark.parametrize("model_type", ["internvl_chat", "kimi_vl"])
def test_remote_code_wrapper_around_a_known_text_model_is_known(model_type):
    section = {"internvl_chat": "llm_config", "kimi_vl": "text_config"}[model_type]
    config = {"model_type": model_type, section: {"model_type": "qwen2", "num_hidden_layers": 8}}
    change = changed(config, layers(8, prefix="language_model.model.layers"), solar(8))
    assert [c.path for c in change.changes] == [f"{section}.num_hidden_layers"]


def test_kimi_k2_counts_its_dense_layers_as_deepseek_does():
    config = {"model_type": "kimi_k2", "num_hidden_layers": 8, "first_k_dense_replace": 1, "moe_layer_freq": 1}
    tensors = [*layers(1), *layers(7, SPARSE, start=1)]
    assert changed(config, tensors, [0, *range(8)]).config["first_k_dense_replace"] == 2
    with pytest.raises(UnsupportedError, match="first_k_dense_replace"):
        changed(config, tensors, [*range(8), 0])


@pytest.mark.parametrize("model_type", ["nemotron_h", "zamba2", "lfm2_moe"])
def test_missing_list_of_kinds_without_a_substitute_is_refused(model_type):
    with pytest.raises(
        UnsupportedError, match=r"no layers?_(types|block_type): layers of this type differ.*add the list"
    ):
        changed({"model_type": model_type, "num_hidden_layers": 8}, names(8), solar(8))


def test_count_that_relies_on_the_class_default_is_written():
    config = {"model_type": "llava", "text_config": {"model_type": "llama"}}
    change = changed(config, layers(32, prefix="language_model.model.layers"), solar(32))
    assert change.config["text_config"] == {"model_type": "llama", "num_hidden_layers": 48}


def test_gemma_3n_gathers_the_slices_of_its_per_layer_embeddings():
    config = {
        "model_type": "gemma3n_text",
        "num_hidden_layers": 6,
        "num_kv_shared_layers": 0,
        "layer_types": ["full_attention"] * 6,
    }
    tensors = [*names(6), "model.embed_tokens_per_layer.weight", "model.per_layer_model_projection.weight"]
    gathers = changed(config, tensors, [0, 1, 1, 5]).gathers
    assert {name: (rule.axis, rule.source_slices, rule.sources) for name, rule in gathers.items()} == {
        "model.embed_tokens_per_layer.weight": (1, 6, (0, 1, 1, 5)),
        "model.per_layer_model_projection.weight": (0, 6, (0, 1, 1, 5)),
    }


def test_scaling_by_the_inverse_index_is_refused_only_where_it_is_on():
    config = {"model_type": "gpt2", "n_layer": 8}
    tensors = layers(8, prefix="h")
    assert changed(config, tensors, solar(8)).config["n_layer"] == 12
    with pytest.raises(UnsupportedError, match="scale_attn_by_inverse_layer_idx"):
        changed(config | {"scale_attn_by_inverse_layer_idx": True}, tensors, solar(8))
