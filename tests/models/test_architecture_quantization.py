"""Quantised sources: lists of module names follow their layers."""

import json
import re
import time

import pytest

from solar_upscale.architecture.quantization import rewrite_module_lists
from solar_upscale.errors import UnsupportedError
from tests.support.architecture_names import DENSE, changed, names, solar


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


def test_dropped_layer_leaves_the_skip_list():
    assert quantised("ignore", ["model.layers.5.mlp.down_proj", "lm_head"]) == ["lm_head"]


def test_skipped_modules_with_shortened_names_follow_their_layers():
    assert quantised("ignore", ["layers.11.mlp"]) == ["layers.5.mlp"]


def test_glob_over_all_layers_stays():
    assert quantised("modules_to_not_convert", ["model.layers.*.self_attn", "model.layers.*.mlp.router"]) == [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
    ]


def test_regular_expression_over_all_layers_stays():
    assert quantised("ignore", ["re:.*lm_head", r"re:model\.layers\.\d+\.mlp.*"]) == [
        "re:.*lm_head",
        r"re:model\.layers\.\d+\.mlp.*",
    ]


def test_regular_expression_with_numbers_becomes_the_names_it_matched():
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


def test_quantisation_field_that_refers_to_layers_in_an_unknown_way_is_refused():
    with pytest.raises(UnsupportedError, match="odd_map"):
        quantised("odd_map", {"model.layers.3.mlp": 4})


def test_broken_regular_expression_is_refused():
    with pytest.raises(UnsupportedError, match="not a regular expression"):
        quantised("ignore", ["re:model.layers.(3"])


@pytest.mark.parametrize("entry", ["layers.1." * 300_000 + "\n", "layers." * 300_000 + "1" * 100_000])
def test_long_names_take_little_time(entry):
    started = time.process_time()
    with pytest.raises(UnsupportedError, match="at most 1,000 characters"):
        quantised("ignore", [entry])
    assert time.process_time() - started < 5


@pytest.mark.parametrize("entry", [[], {}, None, True, 3, 1.5])
def test_entry_that_is_not_a_name_is_refused(entry):
    with pytest.raises(UnsupportedError, match="ignore: expected module names, got"):
        quantised("ignore", ["lm_head", entry])


def test_oversized_layer_number_matches_no_layer():
    assert quantised("ignore", ["model.layers." + "1" * 900, "lm_head"]) == ["lm_head"]


def test_published_expressions_with_alternatives_and_look_ahead_are_followed():
    layers = "|".join(map(str, range(11)))
    rules = quantised("dynamic", {rf"-:^model\.layers\.({layers})\.(?!mlp)(?:self_)?attn\.(?:q|k|v)_proj.*": {}})
    assert set(rules) == {rf"-:^model\.layers\.{target}\.self_attn\.q_proj$" for target in range(5)}


def test_quantize_config_json_is_rewritten_if_it_refers_to_layers():
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
def test_unquantised_layer_still_counts_as_uniform(suffixes):
    quantised_layers = [
        f"model.layers.{i}.{m}.{s}" for i in range(7) for m in ("self_attn.q_proj", "mlp.up_proj") for s in suffixes
    ]
    plain = [f"model.layers.7.{m}.weight" for m in ("self_attn.q_proj", "mlp.up_proj")]
    change = changed({"model_type": "llama", "num_hidden_layers": 8}, quantised_layers + plain, solar(8))
    assert change.config["num_hidden_layers"] == 12


def test_work_of_all_entries_is_bounded_in_steps_whatever_the_machine() -> None:
    entries = [rf"re:.*{number}.*mlp.*" for number in range(400)]
    assert quantised("ignore", entries[:20])
    with pytest.raises(UnsupportedError, match="takes too many steps; list plain module names"):
        quantised("ignore", entries)
