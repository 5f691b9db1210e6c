"""The tables without any model: names, shapes and config.json in, the new config or a refusal out."""

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solar_upscale.architecture import (
    Stack,
    change_depth,
    choose_stack,
    depth_fields,
    find_stacks,
    name_splitter,
)
from solar_upscale.architecture.families import COMPOSITE, COUNTED
from solar_upscale.architecture.fields import ROWS
from solar_upscale.architecture.quantization import rewrite_module_lists
from solar_upscale.errors import PatternError, UnsupportedError
from solar_upscale.header import TensorInfo
from solar_upscale.pattern import LayerPattern

DENSE = ("self_attn.q_proj.weight", "self_attn.o_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight")
SPARSE = (
    "self_attn.q_proj.weight",
    "self_attn.o_proj.weight",
    "mlp.gate.weight",
    "mlp.experts.0.down_proj.weight",
    "mlp.experts.1.down_proj.weight",
    "input_layernorm.weight",
)


def layers(n, parts=DENSE, prefix="model.layers", start=0):
    return [f"{prefix}.{i}.{part}" for i in range(start, start + n) for part in parts]


def names(n, **kwargs):
    return ["model.embed_tokens.weight", *layers(n, **kwargs), "model.norm.weight", "lm_head.weight"]


def changed(config, tensors, sources, **kwargs):
    stack = choose_stack(find_stacks(tensors, config), None)
    return change_depth(config, tensors, stack, LayerPattern(tuple(sources), stack.num_layers), **kwargs)


def solar(n):
    return [*range(n - 8), *range(8, n)] if n > 16 else [*range(n - 2), *range(2, n)]


# --- stacks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        "model.layers",
        "layers",
        "transformer.h",
        "h",
        "gpt_neox.layers",
        "model.decoder.layers",
        "backbone.layers",
        "bert.encoder.layer",
    ],
)
def test_a_stack_is_found_whatever_its_module_is_called(prefix):
    stacks = find_stacks(layers(6, prefix=prefix), {"model_type": "llama", "num_hidden_layers": 6})
    assert stacks == (Stack(prefix, (prefix,), 6),)


def test_experts_codebooks_and_inner_layers_are_no_stacks():
    tensors = names(4, parts=(*SPARSE, "layer.0.SelfAttention.q.weight", "layer.1.DenseReluDense.wo.weight"))
    tensors += [f"lm_heads.{i}.weight" for i in range(4)] + [f"model.decoder.embed_tokens.{i}.weight" for i in range(4)]
    assert [stack.name for stack in find_stacks(tensors, {"num_hidden_layers": 4})] == ["model.layers"]


def test_the_text_decoder_comes_before_towers_however_deep_they_are():
    config = {
        "model_type": "llava",
        "text_config": {"model_type": "llama", "num_hidden_layers": 4},
        "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 9},
    }
    tensors = layers(9, prefix="vision_tower.vision_model.encoder.layers") + layers(
        4, prefix="language_model.model.layers"
    )
    stacks = find_stacks(tensors, config)
    assert [(s.name, s.role, s.config_path) for s in stacks] == [
        ("language_model.model.layers", "decoder", ("text_config",)),
        ("vision_tower.vision_model.encoder.layers", "vision", ("vision_config",)),
    ]


def test_a_tower_without_a_text_decoder_is_not_chosen_by_default():
    stacks = find_stacks(layers(4, prefix="vision_model.encoder.layers"), {"num_hidden_layers": 4})
    with pytest.raises(UnsupportedError, match=r"--stack: vision_model\.encoder\.layers \(vision, 4 layers\)"):
        choose_stack(stacks, None)


def test_an_unknown_stack_name_lists_the_stacks():
    config = {"model_type": "bart", "decoder_layers": 4, "encoder_layers": 3}
    stacks = find_stacks(layers(4, prefix="model.decoder.layers") + layers(3, prefix="model.encoder.layers"), config)
    assert choose_stack(stacks, "encoder").num_layers == 3
    assert choose_stack(stacks, "encoder.layers").num_layers == 3
    assert choose_stack(stacks, None).name == "model.decoder.layers"
    with pytest.raises(UnsupportedError, match=r"--stack tower: 0 stacks have that name.*model\.encoder\.layers"):
        choose_stack(stacks, "tower")


def test_names_split_at_the_layer_and_nowhere_else():
    split = name_splitter(("model.layers",))
    assert split("model.layers.10.mlp.experts.3.w1.weight") == ("model.layers", 10, ".mlp.experts.3.w1.weight")
    assert split("model.layers.1") == ("model.layers", 1, "")
    for other in (
        "model.layers.01.x",
        "xmodel.layers.1.x",
        "model.layers.x.1",
        "model.layersx.1.y",
        "vision.model.layers.1.x",
    ):
        assert split(other) is None


# --- configs in the shape in which they are published ------------------------------------------------------------


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


def test_a_shift_by_the_period_needs_no_list():
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


def test_deepseek_v3_moves_its_next_token_layer_behind_the_last():
    config, tensors = deepseek_v3()
    change = changed(config, tensors, [*range(8), *range(4, 8)])
    assert change.numbering["model.layers"] == (*range(8), *range(4, 8), 8)
    assert change.config["num_nextn_predict_layers"] == 1
    assert change.config["first_k_dense_replace"] == 3
    assert "from 8 to 12" in change.warnings[0]


def test_dropping_next_token_layers_says_none_in_the_config():
    config, tensors = deepseek_v3()
    change = changed(config, tensors, [*range(8), *range(4, 8)], drop_mtp=True)
    assert change.numbering["model.layers"] == (*range(8), *range(4, 8))
    assert change.config["num_nextn_predict_layers"] == 0


def test_a_dense_layer_behind_sparse_ones_is_refused_with_what_would_work():
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


def test_a_list_of_indices_as_long_as_the_stack_is_not_taken_for_one_entry_a_layer():
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


def test_t5_writes_the_decoder_count_that_the_encoder_count_stood_for():
    config = {"model_type": "t5", "num_layers": 4}
    parts = ("layer.0.SelfAttention.q.weight", "layer.1.DenseReluDense.wo.weight", "layer.0.layer_norm.weight")
    tensors = layers(4, parts, "encoder.block") + layers(4, parts, "decoder.block")
    stacks = find_stacks(tensors, config)
    encoder = change_depth(config, tensors, choose_stack(stacks, "encoder"), LayerPattern((0, 1, 2, 3, 3), 4))
    assert (encoder.config["num_layers"], encoder.config["num_decoder_layers"]) == (5, 4)
    decoder = change_depth(config, tensors, choose_stack(stacks, "decoder"), LayerPattern((0, 1, 2, 3, 3), 4))
    assert (decoder.config["num_layers"], decoder.config["num_decoder_layers"]) == (4, 5)


def test_a_count_left_to_the_class_default_is_written():
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


# --- what is not known -------------------------------------------------------------------------------------------


def invented(**fields):
    return {
        "model_type": "frobnicator",
        "auto_map": {"AutoConfig": "configuration_frob.C"},
        "num_hidden_layers": 8,
        **fields,
    }


def test_an_unknown_model_type_is_refused_with_what_was_found():
    with pytest.raises(
        UnsupportedError, match=r"frobnicator.*8 layers, counted by num_hidden_layers 8.*--assume-uniform"
    ):
        changed(invented(), names(8), solar(8))


def test_assume_uniform_accepts_alike_layers_and_says_so():
    change = changed(invented(), names(8), solar(8), assume_uniform=True)
    assert change.assumed_uniform
    assert change.config["num_hidden_layers"] == 12


def test_assume_uniform_refuses_layers_that_differ():
    tensors = [*names(8), "model.layers.3.mlp.gate.weight"]
    with pytest.raises(UnsupportedError, match=r"layers 0 and 3 have different tensors.*mlp\.gate"):
        changed(invented(), tensors, solar(8), assume_uniform=True)


def test_assume_uniform_refuses_layers_of_different_shapes():
    tensors = {
        name: TensorInfo(name, "F32", (4, 4 if ".3.mlp" in name else 2), (0, 64 if ".3.mlp" in name else 32))
        for name in names(8)
    }
    with pytest.raises(UnsupportedError, match="layers 0 and 3"):
        changed(invented(), tensors, solar(8), assume_uniform=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("global_block_period", 4),
        ("window_sizes", [1] * 8),
        ("special_layers", [2, 5]),
        ("overrides", {"0": {}, "3": {}}),
        ("block_pattern", "AABAABAA"),
        ("depth_scale", 1.5),
        ("nested", {"dense_layer_idxs": [0]}),
    ],
)
@pytest.mark.parametrize("assume_uniform", [False, True])
@pytest.mark.parametrize("model_type", ["frobnicator", "llama"])
def test_a_field_that_speaks_of_layers_without_a_rule_is_refused_by_name(field, value, assume_uniform, model_type):
    with pytest.raises(UnsupportedError, match=field):
        changed(invented(**{field: value, "model_type": model_type}), names(8), solar(8), assume_uniform=assume_uniform)


def test_assume_uniform_wants_one_count():
    with pytest.raises(UnsupportedError, match=r"expected 1, got 2 \(num_hidden_layers, n_layer\)"):
        changed(invented(n_layer=8), names(8), solar(8), assume_uniform=True)


def test_a_count_that_disagrees_with_the_tensors_is_refused():
    with pytest.raises(UnsupportedError, match=r"the tensors have 8 layers, config.json says .*9"):
        changed({"model_type": "llama", "num_hidden_layers": 9}, names(8), solar(8))


def test_a_list_shorter_than_the_stack_is_refused():
    with pytest.raises(UnsupportedError, match="layer_types: one entry a layer is needed; expected 8, got 7"):
        changed(
            {"model_type": "qwen3", "num_hidden_layers": 8, "layer_types": ["full_attention"] * 7}, names(8), solar(8)
        )


def test_layers_of_a_known_type_that_differ_without_a_reason_are_refused():
    with pytest.raises(UnsupportedError, match=r"layers 0 and 2 have different tensors.*self_attn\.k_norm"):
        changed(
            {"model_type": "llama", "num_hidden_layers": 8},
            [*names(8), "model.layers.2.self_attn.k_norm.weight"],
            solar(8),
        )


def test_a_pattern_for_another_depth_is_refused():
    with pytest.raises(PatternError, match="for 9 layers, the stack has 8"):
        change_depth(
            {"model_type": "llama", "num_hidden_layers": 8},
            names(8),
            Stack("model.layers", ("model.layers",), 8),
            LayerPattern((0,), 9),
        )


# --- the rule behind the rules -----------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 11), min_size=1, max_size=30),
    st.sampled_from(["gemma3_text", "qwen3_next", "smollm3", "lfm2"]),
)
def test_every_layer_keeps_its_kind_in_any_order(sources, model_type):
    config = {
        "model_type": model_type,
        "num_hidden_layers": 12,
        "full_attn_idxs": [2, 5, 7] if model_type == "lfm2" else None,
    }
    rows = ROWS[model_type].attributes
    from solar_upscale.architecture.rules import View

    change = changed(config, names(12), sources)
    for attribute in rows:
        old = attribute.read(View(config, config, 12), 12)
        new = attribute.read(View(change.config, change.config, 12), len(sources))
        assert new == tuple(old[s] for s in sources)


def test_the_tables_do_not_contradict_each_other():
    plain = {name.partition(":")[0] for name in ROWS}
    assert not plain & COUNTED
    assert not COMPOSITE & COUNTED


def test_fields_tied_to_depth_are_listed():
    config = {
        "model_type": "qwen2_moe",
        "num_hidden_layers": 8,
        "decoder_sparse_step": 2,
        "mlp_only_layers": [1],
        "odd_layers": [3],
    }
    tensors = names(8)
    fields = {
        f.path: (f.value, f.treatment) for f in depth_fields(config, choose_stack(find_stacks(tensors, config), None))
    }
    assert fields["num_hidden_layers"] == (8, "counts the layers")
    assert fields["decoder_sparse_step"][0] == 2
    assert fields["mlp_only_layers"][0] == [1]
    assert "refused" in fields["odd_layers"][1]


def test_neither_torch_nor_transformers_is_imported():
    program = (
        "import sys, solar_upscale.architecture as a; from solar_upscale.pattern import LayerPattern as P;"
        "n=[f'model.layers.{i}.{p}.weight' for i in range(8) for p in ('self_attn.q', 'mlp.up', 'norm')];"
        "c={'model_type': 'gemma3_text', 'num_hidden_layers': 8};"
        "a.change_depth(c, n, a.choose_stack(a.find_stacks(n, c), None), P((0, 1, 1), 8));"
        "print([m for m in ('torch', 'transformers', 'numpy', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- quantised sources -------------------------------------------------------------------------------------------


def quantised(field, value, sources=(0, 1, 2, 10, 10, 11)):
    modules = [name.removesuffix(".weight") for name in names(12)]
    return rewrite_module_lists({field: value}, modules, ("model.layers",), {"model.layers": sources})[field]


def test_skipped_modules_follow_their_layers():
    assert quantised("modules_to_not_convert", ["lm_head", "model.layers.10.mlp", "model.layers.1.self_attn"]) == [
        "lm_head",
        "model.layers.3.mlp",
        "model.layers.4.mlp",
        "model.layers.1.self_attn",
    ]


def test_a_dropped_layer_leaves_the_skip_list():
    assert quantised("ignore", ["model.layers.5.mlp.down_proj", "lm_head"]) == ["lm_head"]


def test_skipped_modules_named_without_their_first_components_follow():
    assert quantised("ignore", ["layers.11.mlp"]) == ["layers.5.mlp"]


def test_a_glob_over_all_layers_stays():
    assert quantised("modules_to_not_convert", ["model.layers.*.self_attn", "model.layers.*.mlp.router"]) == [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
    ]


def test_a_regular_expression_over_all_layers_stays():
    assert quantised("ignore", ["re:.*lm_head", r"re:model\.layers\.\d+\.mlp.*"]) == [
        "re:.*lm_head",
        r"re:model\.layers\.\d+\.mlp.*",
    ]


def test_a_regular_expression_with_numbers_becomes_the_names_it_matched():
    assert quantised("ignore", [r"re:model\.layers\.(10|11)\.mlp.*"]) == [
        "model.layers.3.mlp.down_proj",
        "model.layers.4.mlp.down_proj",
        "model.layers.5.mlp.down_proj",
    ]


def test_dynamic_rules_of_gptq_become_rules_for_the_new_names():
    rules = quantised("dynamic", {r"-:.*\.10\..*down_proj": {}, r"+:.*q_proj": {"bits": 8}})
    assert list(rules) == [
        r"-:^model\.layers\.3\.mlp\.down_proj$",
        r"-:^model\.layers\.4\.mlp\.down_proj$",
        r"+:.*q_proj",
    ]


def test_settings_by_module_name_follow_their_layers():
    settings = quantised("extra_config", {"model.layers.10.mlp.down_proj": {"bits": 16}, "lm_head": {"bits": 16}})
    assert list(settings) == ["model.layers.3.mlp.down_proj", "model.layers.4.mlp.down_proj", "lm_head"]


def test_a_quantisation_field_that_names_layers_otherwise_is_refused():
    with pytest.raises(UnsupportedError, match="odd_map"):
        quantised("odd_map", {"model.layers.3.mlp": 4})


def test_a_broken_regular_expression_is_refused():
    with pytest.raises(UnsupportedError, match="is no regular expression"):
        quantised("ignore", ["re:model.layers.(3"])


def test_quantize_config_json_is_rewritten_where_it_names_layers():
    files = {"quantize_config.json": json.dumps({"bits": 4, "dynamic": {r"-:model\.layers\.7\..*": {}}}).encode()}
    parts = tuple(part.replace("proj.weight", "proj.qweight") for part in DENSE)
    config = {"model_type": "llama", "num_hidden_layers": 8, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    change = changed(config, names(8, parts=parts), [*range(8), 7], files=files)
    rules = json.loads(change.files["quantize_config.json"])["dynamic"]
    assert len([rule for rule in rules if "_proj" in rule]) == 2 * 3
    assert "-:^" + re.escape("model.layers.8.self_attn.q_proj") + "$" in rules
    assert any(c.path.startswith("quantize_config.json") for c in change.changes)


@pytest.mark.parametrize(
    "suffixes",
    [
        ("weight", "weight_scale_inv"),
        ("qweight", "qzeros", "scales", "g_idx"),
        ("weight_packed", "weight_scale", "weight_shape"),
        ("weight", "weight.absmax", "weight.quant_map", "weight.quant_state.bitsandbytes__nf4"),
        ("weight", "SCB", "weight_format"),
    ],
)
def test_a_layer_left_unquantised_is_still_alike(suffixes):
    quantised_layers = [
        f"model.layers.{i}.{m}.{s}" for i in range(7) for m in ("self_attn.q_proj", "mlp.up_proj") for s in suffixes
    ]
    plain = [f"model.layers.7.{m}.weight" for m in ("self_attn.q_proj", "mlp.up_proj")]
    change = changed({"model_type": "llama", "num_hidden_layers": 8}, quantised_layers + plain, solar(8))
    assert change.config["num_hidden_layers"] == 12
