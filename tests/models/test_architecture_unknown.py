"""Unknown types and fields, and contradictions, are refused by name."""

import pytest

from solar_upscale.architecture import Stack, change_depth, choose_stack, find_stacks
from solar_upscale.errors import PatternError, UnsupportedError
from solar_upscale.pattern import LayerPattern
from solar_upscale.source.header import TensorInfo
from tests.support.architecture_names import DENSE, changed, layers, names, solar


def invented(**fields):
    return {
        "model_type": "frobnicator",
        "auto_map": {"AutoConfig": "configuration_frob.C"},
        "num_hidden_layers": 8,
        **fields,
    }


def test_unknown_model_type_is_refused_with_what_was_found():
    with pytest.raises(
        UnsupportedError, match=r"frobnicator.*8 layers, counted by num_hidden_layers 8.*--assume-uniform"
    ):
        changed(invented(), names(8), solar(8))


def test_unknown_model_around_a_known_text_model_is_named():
    config = {"model_type": "frobvision", "text_config": {"model_type": "llama", "num_hidden_layers": 8}}
    with pytest.raises(UnsupportedError, match=r"the model around it \(frobvision\) is not known"):
        changed(config, layers(8, prefix="language_model.model.layers"), solar(8))


def test_unknown_type_with_other_names_for_its_counts_is_not_asked_for_a_llama_count():
    config = {"model_type": "frobnicator", "decoder_num_hidden_layers": 8}
    with pytest.raises(UnsupportedError, match="unknown for this type: decoder_num_hidden_layers: is 8"):
        changed(config, names(8), solar(8))


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
def test_per_layer_field_without_a_rule_is_refused_by_name(field, value, assume_uniform, model_type):
    with pytest.raises(UnsupportedError, match=field):
        changed(invented(**{field: value, "model_type": model_type}), names(8), solar(8), assume_uniform=assume_uniform)


def test_assume_uniform_needs_exactly_one_count():
    with pytest.raises(UnsupportedError, match=r"expected 1, got 2 \(num_hidden_layers, n_layer\)"):
        changed(invented(n_layer=8), names(8), solar(8), assume_uniform=True)


def test_count_that_disagrees_with_the_tensors_is_refused():
    with pytest.raises(UnsupportedError, match=r"the tensors have 8 layers, config.json says .*9"):
        changed({"model_type": "llama", "num_hidden_layers": 9}, names(8), solar(8))


def test_list_shorter_than_the_stack_is_refused():
    with pytest.raises(UnsupportedError, match="layer_types: needs one entry per layer; expected 8, got 7"):
        changed(
            {"model_type": "qwen3", "num_hidden_layers": 8, "layer_types": ["full_attention"] * 7}, names(8), solar(8)
        )


def test_layers_of_a_known_type_that_differ_without_a_rule_are_refused():
    with pytest.raises(UnsupportedError, match=r"layers 0 and 2 have different tensors.*self_attn\.k_norm"):
        changed(
            {"model_type": "llama", "num_hidden_layers": 8},
            [*names(8), "model.layers.2.self_attn.k_norm.weight"],
            solar(8),
        )


def test_pattern_for_another_depth_is_refused():
    with pytest.raises(PatternError, match="for 9 layers, the stack has 8"):
        change_depth(
            {"model_type": "llama", "num_hidden_layers": 8},
            names(8),
            Stack("model.layers", ("model.layers",), 8),
            LayerPattern((0,), 9),
        )


def tower_names():
    blocks = [f"visual.blocks.{i}.{part}.weight" for i in range(3) for part in ("attn.proj", "mlp.fc1", "norm1")]
    return [*names(8), *blocks]


def test_tower_is_counted_in_its_own_section():
    config = {"model_type": "qwen2_vl", "text_config": {"num_hidden_layers": 8}, "vision_config": {"depth": 3}}
    stack = choose_stack(find_stacks(tower_names(), config), "visual.blocks")
    assert stack.config_path == ("vision_config",)
    change = change_depth(config, tower_names(), stack, LayerPattern((0, 1, 1, 2), 3), assume_uniform=True)
    assert change.config == {**config, "vision_config": {"depth": 4}}


@pytest.mark.parametrize("more", [{}, {"num_hidden_layers": 3}])
def test_tower_without_a_section_that_counts_it_is_refused_even_if_assumed_uniform(more):
    config = {"model_type": "qwen2_vl", "text_config": {"num_hidden_layers": 8}, "vision_config": {"blocks": 3}, **more}
    stack = choose_stack(find_stacks(tower_names(), config), "visual.blocks")
    with pytest.raises(
        UnsupportedError, match=r"no section counts the 3 layers|has fields that seem to refer to layers"
    ):
        change_depth(config, tower_names(), stack, LayerPattern((0, 1, 1, 2), 3), assume_uniform=True)


@pytest.mark.parametrize("more", [{}, {"num_nextn_predict_layers": 0}])
def test_list_longer_than_the_stack_is_refused_without_next_token_layers(more):
    config = {"model_type": "qwen3", "num_hidden_layers": 8, "layer_types": ["full_attention"] * 9, **more}
    with pytest.raises(
        UnsupportedError, match=r"layer_types: needs one entry per layer.*no next-token.*8, got 9; remove"
    ):
        changed(config, names(8), solar(8))


def test_list_longer_than_the_stack_follows_where_next_token_layers_explain_it():
    config = {"model_type": "qwen3", "num_hidden_layers": 8, "layer_types": ["full_attention"] * 8 + ["extra"]}
    declared = changed({**config, "num_nextn_predict_layers": 1}, names(8), solar(8)).config
    stored = changed(config, [*names(8), *layers(1, parts=(*DENSE, "eh_proj.weight"), start=8)], solar(8)).config
    assert declared["layer_types"] == stored["layer_types"] == ["full_attention"] * 12 + ["extra"]


@pytest.mark.parametrize("beside", [True, False])
def test_layer_numbered_with_a_leading_zero_is_refused_by_name(beside):
    padded = [name.replace(".1.", ".01.") for name in names(8) if ".1." in name]
    plain = [name for name in names(8) if beside or ".1." not in name]
    with pytest.raises(UnsupportedError, match=r"model\.layers\.01\..*: its layer is numbered with a leading.*rename"):
        changed({"model_type": "llama", "num_hidden_layers": 8}, [*plain, *padded], solar(8))


def test_list_without_which_a_default_of_another_length_applies_is_required():
    config = {"model_type": "reformer", "num_hidden_layers": 8}
    with pytest.raises(UnsupportedError, match=r"no attn_layers: layers of this type differ.*8 layers"):
        changed(config, names(8), solar(8))
    change = changed(config | {"attn_layers": ["local", "lsh"] * 4}, names(8), solar(8))
    assert change.config["attn_layers"] == [["local", "lsh"][i % 2] for i in solar(8)]
